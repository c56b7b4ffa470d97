use std::sync::Arc;

use proto::retriever::retriever_service_server::RetrieverService;
use proto::retriever::{
    AddToJobRequest, AddToJobResponse, ChangeCollectionRequest, ChangeCollectionResponse,
    ChangeEntryRequest, ChangeEntryResponse, CreateCollectionRequest, CreateCollectionResponse,
    CreateJobRequest, CreateJobResponse, DeleteCollectionRequest, DeleteCollectionResponse,
    DeleteDocumentRequest, DeleteDocumentResponse, DeleteEntryRequest, DeleteEntryResponse,
    DeleteJobRequest, DeleteJobResponse, GetCollectionRequest, GetCollectionResponse,
    GetDocumentRequest, GetDocumentResponse, GetJobRequest, GetJobResponse, ListCollectionsRequest,
    ListCollectionsResponse, ListDocumentsRequest, ListDocumentsResponse, ListEntriesRequest,
    ListEntriesResponse, ListJobsRequest, ListJobsResponse, PutDocumentRequest,
    PutDocumentResponse, ReindexRequest, ReindexResponse, RetryJobRequest, RetryJobResponse,
    SearchRequest, SearchResponse, TaskState,
};
use tonic::{Request, Response};
use tracing::Instrument as _;
use types::{CallContext, Privacy};

use crate::Error;
use crate::attributes::Attributes;
use crate::jobs::{Added, Workers};
use crate::rows::Page;
use crate::store::{Collection, Put, Search, Store};

/// Of so many fields the values are counted at once.
const FACETS: usize = 10;
/// A job begins with so many documents at most.
const DOCUMENTS: usize = 1000;
/// Jobs of so many collections, or beginnings of their names, are listed at once.
const COLLECTIONS: usize = 1000;

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service {
    store: Arc<Store>,
    /// They work as long as the service is there.
    _workers: Arc<Workers>,
}

impl Service {
    pub(crate) fn new(store: Arc<Store>, workers: Workers) -> Self {
        Self { store, _workers: Arc::new(workers) }
    }

    /// Reads a document that is to be added to a job.
    fn added(&self, document: PutDocumentRequest, context: &CallContext) -> Result<Added, Error> {
        let fetch = document.fetch;
        let put = read(document, context)?;
        if fetch {
            self.store.check_address(&put)?;
        } else {
            self.store.check(&put.source, &put.media_type, &put.content)?;
        }
        Ok(Added { put, fetch })
    }

    /// Returns the collection that a request is for: of its own tenant, by the name it gives.
    fn collection<T>(&self, request: &Request<T>, name: &str) -> tonic::Result<Collection<'_>> {
        let tenant = runtime::context::read(request)?.tenant;
        Ok(self.store.collection(tenant, name.to_owned())?)
    }
}

#[tonic::async_trait]
impl RetrieverService for Service {
    async fn put_document(
        &self,
        request: Request<PutDocumentRequest>,
    ) -> tonic::Result<Response<PutDocumentResponse>> {
        let context = runtime::context::read(&request)?;
        let mut message = request.into_inner();
        if message.fetch {
            let fault = "only in a job a document is fetched from its address";
            return Err(Error::Invalid(fault.to_owned()).into());
        }
        let name = std::mem::take(&mut message.collection);
        let (store, put) = (Arc::clone(&self.store), read(message, &context)?);
        let put =
            async move { store.collection(context.tenant.clone(), name)?.put(&context, put).await };
        let (document, changed) = detached(put).await?;
        Ok(Response::new(PutDocumentResponse { document: Some(document), changed }))
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> tonic::Result<Response<GetDocumentResponse>> {
        let collection = self.collection(&request, &request.get_ref().collection)?;
        let (document, text) = collection.get(&request.get_ref().id).await?;
        Ok(Response::new(GetDocumentResponse { document: Some(document), text }))
    }

    async fn list_documents(
        &self,
        request: Request<ListDocumentsRequest>,
    ) -> tonic::Result<Response<ListDocumentsResponse>> {
        let collection = self.collection(&request, &request.get_ref().collection)?;
        let size = between("page_size", request.get_ref().page_size, 100, 1000)?;
        let documents = collection.list(&request.get_ref().page_token, size).await?;
        let next_page_token = next(&documents, size, |document| &document.source);
        Ok(Response::new(ListDocumentsResponse { documents, next_page_token }))
    }

    async fn delete_document(
        &self,
        request: Request<DeleteDocumentRequest>,
    ) -> tonic::Result<Response<DeleteDocumentResponse>> {
        let (store, tenant) = (Arc::clone(&self.store), runtime::context::read(&request)?.tenant);
        let DeleteDocumentRequest { id, collection } = request.into_inner();
        detached(async move { store.collection(tenant, collection)?.delete(&id).await }).await?;
        Ok(Response::new(DeleteDocumentResponse {}))
    }

    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> tonic::Result<Response<SearchResponse>> {
        let collection = self.collection(&request, &request.get_ref().collection)?;
        let context = runtime::context::read(&request)?;
        let message = request.into_inner();
        let SearchRequest { query, facets, .. } = &message;
        if query.trim().is_empty() || query.len() > 8192 {
            let fault = format!("/query: has {} bytes, 1 to 8192 are allowed", query.trim().len());
            return Err(Error::Invalid(fault).into());
        }
        if facets.len() > FACETS {
            let fault = format!("/facets: has {}, at most {FACETS} are allowed", facets.len());
            return Err(Error::Invalid(fault).into());
        }
        let top_k = between("top_k", message.top_k, 10, 100)? as usize;
        let search = Search {
            query: message.query,
            top_k,
            filter: message.filter,
            facets: message.facets,
            one_per_document: message.one_per_document,
            rerank: message.rerank,
            rewrite: message.rewrite,
        };
        Ok(Response::new(collection.search(&context, search).await?))
    }

    async fn create_collection(
        &self,
        request: Request<CreateCollectionRequest>,
    ) -> tonic::Result<Response<CreateCollectionResponse>> {
        let CreateCollectionRequest { name, title, metadata } = request.get_ref();
        let collection = self.collection(&request, named(name)?)?;
        let (collection, created) = collection.create(title, metadata).await?;
        Ok(Response::new(CreateCollectionResponse { collection: Some(collection), created }))
    }

    async fn get_collection(
        &self,
        request: Request<GetCollectionRequest>,
    ) -> tonic::Result<Response<GetCollectionResponse>> {
        let collection = self.collection(&request, named(&request.get_ref().name)?)?;
        Ok(Response::new(GetCollectionResponse { collection: Some(collection.read().await?) }))
    }

    async fn change_collection(
        &self,
        request: Request<ChangeCollectionRequest>,
    ) -> tonic::Result<Response<ChangeCollectionResponse>> {
        let ChangeCollectionRequest { name, title, metadata } = request.get_ref();
        let collection = self.collection(&request, named(name)?)?;
        let metadata = metadata.as_ref().map(|metadata| &metadata.pairs);
        let collection = Some(collection.change(title.as_deref(), metadata).await?);
        Ok(Response::new(ChangeCollectionResponse { collection }))
    }

    async fn list_collections(
        &self,
        request: Request<ListCollectionsRequest>,
    ) -> tonic::Result<Response<ListCollectionsResponse>> {
        let tenant = runtime::context::read(&request)?.tenant;
        let collections = self.store.collections(&tenant).await?;
        Ok(Response::new(ListCollectionsResponse { collections }))
    }

    async fn delete_collection(
        &self,
        request: Request<DeleteCollectionRequest>,
    ) -> tonic::Result<Response<DeleteCollectionResponse>> {
        let (store, tenant) = (Arc::clone(&self.store), runtime::context::read(&request)?.tenant);
        let name = named(&request.get_ref().name)?.to_owned();
        detached(async move { store.collection(tenant, name)?.remove().await }).await?;
        Ok(Response::new(DeleteCollectionResponse {}))
    }

    async fn reindex(
        &self,
        request: Request<ReindexRequest>,
    ) -> tonic::Result<Response<ReindexResponse>> {
        let context = runtime::context::read(&request)?;
        let collection = named(&request.get_ref().collection)?;
        let job = self.collection(&request, collection)?.begin_reindex(&context).await?;
        Ok(Response::new(ReindexResponse { job: Some(job) }))
    }

    async fn create_job(
        &self,
        request: Request<CreateJobRequest>,
    ) -> tonic::Result<Response<CreateJobResponse>> {
        let collection = self.collection(&request, &request.get_ref().collection)?;
        let context = runtime::context::read(&request)?;
        let documents = request.into_inner().documents;
        if documents.len() > DOCUMENTS {
            let fault =
                format!("/documents: has {}, at most {DOCUMENTS} are allowed", documents.len());
            return Err(Error::Invalid(fault).into());
        }
        let first = documents.into_iter().map(|document| self.added(document, &context));
        let first = first.collect::<Result<Vec<_>, Error>>()?;
        Ok(Response::new(CreateJobResponse {
            job: Some(collection.begin(&context, &first).await?),
        }))
    }

    async fn add_to_job(
        &self,
        request: Request<AddToJobRequest>,
    ) -> tonic::Result<Response<AddToJobResponse>> {
        let context = runtime::context::read(&request)?;
        let AddToJobRequest { job, document } = request.into_inner();
        let added = self.added(document.unwrap_or_default(), &context)?;
        self.store.queue().add(&context.tenant, &job, &added).await?;
        Ok(Response::new(AddToJobResponse {}))
    }

    async fn get_job(
        &self,
        request: Request<GetJobRequest>,
    ) -> tonic::Result<Response<GetJobResponse>> {
        let tenant = runtime::context::read(&request)?.tenant;
        let message = request.get_ref();
        let size = between("page_size", message.page_size, 100, 1000)?;
        let (queue, job) = (self.store.queue(), &message.job);
        if message.bare {
            let job = Some(queue.bare(&tenant, job).await?);
            return Ok(Response::new(GetJobResponse { job, ..GetJobResponse::default() }));
        }
        // The job first: when it has ended, so has every document that is shown.
        let job = Some(queue.read(&tenant, job).await?);
        let tasks =
            queue.tasks(&tenant, &message.job, &message.page_token, message.state(), size).await?;
        let next_page_token = next(&tasks, size, |task| &task.source);
        Ok(Response::new(GetJobResponse { job, tasks, next_page_token }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> tonic::Result<Response<ListJobsResponse>> {
        let tenant = runtime::context::read(&request)?.tenant;
        let ListJobsRequest { page_size, page_token, collections } = request.into_inner();
        if collections.len() > COLLECTIONS {
            let fault = format!(
                "/collections: has {}, at most {COLLECTIONS} are allowed",
                collections.len()
            );
            return Err(Error::Invalid(fault).into());
        }
        let size = between("page_size", page_size, 100, 1000)?;
        let jobs = self.store.queue().list(&tenant, &page_token, &collections, size).await?;
        let next_page_token = next(&jobs, size, |job| &job.id);
        Ok(Response::new(ListJobsResponse { jobs, next_page_token }))
    }

    async fn delete_job(
        &self,
        request: Request<DeleteJobRequest>,
    ) -> tonic::Result<Response<DeleteJobResponse>> {
        let tenant = runtime::context::read(&request)?.tenant;
        self.store.queue().remove(&tenant, &request.get_ref().job).await?;
        Ok(Response::new(DeleteJobResponse {}))
    }

    async fn retry_job(
        &self,
        request: Request<RetryJobRequest>,
    ) -> tonic::Result<Response<RetryJobResponse>> {
        let tenant = runtime::context::read(&request)?.tenant;
        let queued = self.store.queue().retry(&tenant, &request.get_ref().job).await?;
        Ok(Response::new(RetryJobResponse { queued }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> tonic::Result<Response<ListEntriesResponse>> {
        let message = request.get_ref();
        let collection = self.collection(&request, &message.collection)?;
        let count = between("limit", message.limit, 100, 1000)?;
        let page = Page { after: &message.after, backwards: message.backwards, count };
        let states: Vec<TaskState> = message.states().collect();
        let (entries, has_more) = match message.job.as_str() {
            "" => collection.entries(page, &states).await?,
            job => collection.entries_of(job, page, &states).await?,
        };
        Ok(Response::new(ListEntriesResponse { entries, has_more }))
    }

    async fn delete_entry(
        &self,
        request: Request<DeleteEntryRequest>,
    ) -> tonic::Result<Response<DeleteEntryResponse>> {
        let (store, tenant) = (Arc::clone(&self.store), runtime::context::read(&request)?.tenant);
        let DeleteEntryRequest { collection, source } = request.into_inner();
        detached(async move { store.collection(tenant, collection)?.forget(&source).await })
            .await?;
        Ok(Response::new(DeleteEntryResponse {}))
    }

    async fn change_entry(
        &self,
        request: Request<ChangeEntryRequest>,
    ) -> tonic::Result<Response<ChangeEntryResponse>> {
        let (store, context) = (Arc::clone(&self.store), runtime::context::read(&request)?);
        let ChangeEntryRequest { collection, source, attributes } = request.into_inner();
        let attributes = Attributes::read(attributes)?;
        let private = context.privacy == Privacy::Private;
        detached(async move {
            let collection = store.collection(context.tenant, collection)?;
            collection.set_attributes(&source, &attributes, private).await
        })
        .await?;
        Ok(Response::new(ChangeEntryResponse {}))
    }
}

/// Returns where the next page begins: after the last of a whole one, by what they are listed by.
fn next<T>(page: &[T], size: u32, by: impl Fn(&T) -> &String) -> String {
    let is_whole = u32::try_from(page.len()).is_ok_and(|count| count == size);
    page.last().filter(|_| is_whole).map(|last| by(last).clone()).unwrap_or_default()
}

/// Reads a document as it comes.
fn read(message: PutDocumentRequest, context: &CallContext) -> Result<Put, Error> {
    Ok(Put {
        source: message.source,
        media_type: message.media_type,
        content: message.content,
        attributes: Attributes::read(message.attributes)?,
        private: raised(message.private, context),
    })
}

/// A private call stores private documents, whatever it says of them.
fn raised(private: Option<bool>, context: &CallContext) -> Option<bool> {
    match context.privacy {
        Privacy::Private => Some(true),
        Privacy::Public => private,
    }
}

/// Works to the end also when whoever asked has gone: rows and index never part.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::spawn(work.in_current_span());
    done.await.map_err(|fault| Error::Broken(fault.into()))?
}

/// A collection that is made or removed is named: nobody removes the default one by saying nothing.
fn named(name: &str) -> Result<&str, Error> {
    match name {
        "" => Err(Error::Invalid("/name: is empty".to_owned())),
        name => Ok(name),
    }
}

fn between(field: &str, value: u32, default: u32, most: u32) -> Result<u32, Error> {
    match value {
        0 => Ok(default),
        _ if value <= most => Ok(value),
        _ => Err(Error::Invalid(format!("/{field}: {value} is not 1 to {most}"))),
    }
}
