use std::sync::Arc;

use proto::retriever::retriever_service_server::RetrieverService;
use proto::retriever::{
    DeleteDocumentRequest, DeleteDocumentResponse, GetDocumentRequest, GetDocumentResponse,
    ListDocumentsRequest, ListDocumentsResponse, PutDocumentRequest, PutDocumentResponse,
    SearchRequest, SearchResponse,
};
use tonic::{Request, Response};

use crate::Error;
use crate::store::Store;

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service {
    store: Arc<Store>,
}

impl Service {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl RetrieverService for Service {
    async fn put_document(
        &self,
        request: Request<PutDocumentRequest>,
    ) -> tonic::Result<Response<PutDocumentResponse>> {
        let tenant = self.store.tenant(runtime::context::read(&request)?.tenant).await;
        let PutDocumentRequest { source, content, media_type } = request.into_inner();
        let (document, changed) = tenant.put(source, &media_type, &content).await?;
        Ok(Response::new(PutDocumentResponse { document: Some(document), changed }))
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> tonic::Result<Response<GetDocumentResponse>> {
        let tenant = self.store.tenant(runtime::context::read(&request)?.tenant).await;
        let (document, text) = tenant.get(&request.get_ref().id).await?;
        Ok(Response::new(GetDocumentResponse { document: Some(document), text }))
    }

    async fn list_documents(
        &self,
        request: Request<ListDocumentsRequest>,
    ) -> tonic::Result<Response<ListDocumentsResponse>> {
        let tenant = self.store.tenant(runtime::context::read(&request)?.tenant).await;
        let size = between("page_size", request.get_ref().page_size, 100, 1000)?;
        let documents = tenant.list(&request.get_ref().page_token, size).await?;
        let whole = u32::try_from(documents.len()).is_ok_and(|count| count == size);
        let last = documents.last().filter(|_| whole).map(|document| document.source.clone());
        let next_page_token = last.unwrap_or_default();
        Ok(Response::new(ListDocumentsResponse { documents, next_page_token }))
    }

    async fn delete_document(
        &self,
        request: Request<DeleteDocumentRequest>,
    ) -> tonic::Result<Response<DeleteDocumentResponse>> {
        let tenant = self.store.tenant(runtime::context::read(&request)?.tenant).await;
        tenant.delete(&request.get_ref().id).await?;
        Ok(Response::new(DeleteDocumentResponse {}))
    }

    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> tonic::Result<Response<SearchResponse>> {
        let tenant = self.store.tenant(runtime::context::read(&request)?.tenant).await;
        let SearchRequest { query, top_k } = request.into_inner();
        if query.trim().is_empty() || query.len() > 8192 {
            let fault = format!("/query: has {} bytes, 1 to 8192 are allowed", query.trim().len());
            return Err(Error::Invalid(fault).into());
        }
        let top_k = between("top_k", top_k, 10, 100)?;
        let hits = tenant.search(&query, top_k as usize).await?;
        Ok(Response::new(SearchResponse { hits }))
    }
}

fn between(field: &str, value: u32, default: u32, most: u32) -> Result<u32, Error> {
    match value {
        0 => Ok(default),
        _ if value <= most => Ok(value),
        _ => Err(Error::Invalid(format!("/{field}: {value} is not 1 to {most}"))),
    }
}
