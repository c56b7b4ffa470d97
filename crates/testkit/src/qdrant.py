"""Qdrant's gRPC interface before the local mode of Qdrant's own Python client, for tests without a server.

Filters, sparse vectors with their IDF, cosines and facets are Qdrant's own second implementation of what they
mean. What only a server proves is said in docs/testing.md. Prints its address and ends with its standard input.
"""

import sys
import threading
from concurrent import futures

import grpc
import qdrant_client.grpc as wire
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.local.qdrant_local import QdrantLocal

LOCK = threading.Lock()
LOCAL = QdrantLocal(":memory:")
INDEXES = {}
KINDS = {
    wire.FieldType.FieldTypeKeyword: wire.PayloadSchemaType.Keyword,
    wire.FieldType.FieldTypeFloat: wire.PayloadSchemaType.Float,
    wire.FieldType.FieldTypeBool: wire.PayloadSchemaType.Bool,
}


def answered(method):
    def answer(self, request, context):
        try:
            with LOCK:
                return method(self, request)
        except ValueError as fault:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(fault))

    return answer


def condition(request):
    return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None


class Collections(wire.CollectionsServicer):
    @answered
    def Create(self, request):
        dense = None
        if request.HasField("vectors_config"):
            dense = GrpcToRest.convert_vectors_config(request.vectors_config)
        sparse = GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
        name = request.collection_name
        LOCAL.create_collection(name, vectors_config=dense, sparse_vectors_config=sparse)
        INDEXES[name] = {}
        return wire.CollectionOperationResponse(result=True)

    @answered
    def Delete(self, request):
        LOCAL.delete_collection(request.collection_name)
        return wire.CollectionOperationResponse(result=True)

    @answered
    def CollectionExists(self, request):
        exists = LOCAL.collection_exists(request.collection_name)
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=exists))

    @answered
    def List(self, request):
        names = [one.name for one in LOCAL.get_collections().collections]
        named = [wire.CollectionDescription(name=name) for name in names]
        return wire.ListCollectionsResponse(collections=named)

    @answered
    def Get(self, request):
        params = LOCAL.get_collection(request.collection_name).config.params
        info = wire.CollectionInfo(status=wire.CollectionStatus.Green)
        for name, one in (params.vectors or {}).items():
            named = info.config.params.vectors_config.params_map.map[name]
            named.size, named.distance = one.size, wire.Distance.Cosine
        for key, kind in INDEXES[request.collection_name].items():
            info.payload_schema[key].data_type = kind
        return wire.GetCollectionInfoResponse(result=info)


class Points(wire.PointsServicer):
    @answered
    def Upsert(self, request):
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        LOCAL.upsert(request.collection_name, points)
        return done()

    @answered
    def Delete(self, request):
        which = GrpcToRest.convert_points_selector(request.points)
        LOCAL.delete(request.collection_name, which)
        return done()

    @answered
    def CreateFieldIndex(self, request):
        INDEXES[request.collection_name][request.field_name] = KINDS[request.field_type]
        return done()

    @answered
    def Count(self, request):
        count = LOCAL.count(request.collection_name, count_filter=condition(request)).count
        return wire.CountResponse(result=wire.CountResult(count=count))

    @answered
    def QueryBatch(self, request):
        reply = wire.QueryBatchResponse()
        for one in request.query_points:
            found = LOCAL.query_points(
                request.collection_name,
                query=GrpcToRest.convert_query(one.query) if one.HasField("query") else None,
                using=one.using or None,
                query_filter=condition(one),
                limit=one.limit,
                with_payload=True,
            )
            points = [RestToGrpc.convert_scored_point(point) for point in found.points]
            reply.result.add().result.extend(points)
        return reply

    @answered
    def Facet(self, request):
        if request.key not in INDEXES[request.collection_name]:
            raise ValueError(f"no index of {request.key}")
        found = LOCAL.facet(
            request.collection_name,
            request.key,
            facet_filter=condition(request),
            limit=request.limit,
            exact=True,
        )
        hits = [RestToGrpc.convert_facet_value_hit(hit) for hit in found.hits]
        return wire.FacetResponse(hits=hits)


def done():
    result = wire.UpdateResult(status=wire.UpdateStatus.Completed)
    return wire.PointsOperationResponse(result=result)


server = grpc.server(futures.ThreadPoolExecutor(8))
wire.add_CollectionsServicer_to_server(Collections(), server)
wire.add_PointsServicer_to_server(Points(), server)
port = server.add_insecure_port(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0")
server.start()
print(f"http://127.0.0.1:{port}", flush=True)
sys.stdin.read()
server.stop(None)
