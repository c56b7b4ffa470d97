use std::sync::Arc;

use proto::orchestrator::create_file_request::Part;
use proto::orchestrator::orchestrator_service_server::OrchestratorService;
use proto::orchestrator::{
    AskRequest, AskResponse, CancelBatchRequest, CancelBatchResponse, ConverseRequest,
    ConverseResponse, CreateBatchRequest, CreateBatchResponse, CreateFileRequest,
    CreateFileResponse, DeleteFileRequest, DeleteFileResponse, GetBatchRequest, GetBatchResponse,
    GetFileRequest, GetFileResponse, ListBatchesRequest, ListBatchesResponse, ListEventsRequest,
    ListEventsResponse, ListFilesRequest, ListFilesResponse, ReadFileRequest, ReadFileResponse,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;
use types::{BatchId, FileId, Privacy, RunId};

use crate::ask::{Question, ask};
use crate::batch::NewBatch;
use crate::batch::files::{Draft, File, Files, INPUT, Page, UPLOADED};
use crate::batch::store::Store;
use crate::config::{Answers, Tools};
use crate::journal::Journal;
use crate::tools::converse;
use crate::{Error, Peers};

/// The gRPC service.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Service {
    pub(crate) answers: Answers,
    pub(crate) journal: Arc<Journal>,
    pub(crate) files: Files,
    pub(crate) batches: Store,
    /// Tells the worker of a new batch.
    pub(crate) wake: Arc<Notify>,
    pub(crate) peers: Peers,
    pub(crate) tools: Tools,
}

#[tonic::async_trait]
impl OrchestratorService for Service {
    type AskStream = ReceiverStream<Result<AskResponse, Status>>;
    type ConverseStream = ReceiverStream<Result<ConverseResponse, Status>>;
    type ReadFileStream = ReceiverStream<Result<ReadFileResponse, Status>>;

    async fn ask(&self, request: Request<AskRequest>) -> tonic::Result<Response<Self::AskStream>> {
        let context = runtime::context::read(&request)?;
        let question = Question::try_from(request.into_inner())?;
        let (events, stream) = mpsc::channel(32);
        let (journal, peers) = (Arc::clone(&self.journal), self.peers.clone());
        // A run of its own: it goes on to its journaled end when the client goes away.
        let run = ask(context, question, self.answers, journal, peers, events);
        tokio::spawn(run.in_current_span());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn converse(
        &self,
        request: Request<ConverseRequest>,
    ) -> tonic::Result<Response<Self::ConverseStream>> {
        let context = runtime::context::read(&request)?;
        let call = request.into_inner().call.unwrap_or_default();
        let (pieces, stream) = mpsc::channel(32);
        let (journal, peers) = (Arc::clone(&self.journal), self.peers.clone());
        converse(context, call, journal, peers, self.tools.clone(), pieces).await?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> tonic::Result<Response<ListEventsResponse>> {
        let context = runtime::context::read(&request)?;
        let run = RunId::new(request.into_inner().run_id).map_err(Error::from)?;
        let events = self.journal.events(&context.tenant, &run).await?;
        if events.is_empty() {
            return Err(Error::NoSuchRun(run.to_string()).into());
        }
        Ok(Response::new(ListEventsResponse { events }))
    }

    async fn create_file(
        &self,
        request: Request<Streaming<CreateFileRequest>>,
    ) -> tonic::Result<Response<CreateFileResponse>> {
        let context = runtime::context::read(&request)?;
        let mut parts = request.into_inner();
        let mut draft = self.files.draft(&context.tenant, INPUT, context.privacy).await?;
        let (filename, purpose) = match receive(&mut parts, &mut draft).await {
            Ok(received) => received,
            Err(refused) => {
                draft.discard().await?;
                return Err(refused);
            }
        };
        let closed = draft.close().await?;
        let file = self.files.publish(&context.tenant, &closed, &filename, purpose).await?;
        Ok(Response::new(CreateFileResponse { file: Some(shown(file)) }))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> tonic::Result<Response<ListFilesResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        let page = Page {
            after: request.after,
            limit: page_size(request.limit, 10_000, 10_000)?,
            purpose: request.purpose,
            oldest_first: request.oldest_first,
        };
        let (files, has_more) = self.files.list(&context.tenant, &page).await?;
        let files = files.into_iter().map(shown).collect();
        Ok(Response::new(ListFilesResponse { files, has_more }))
    }

    async fn get_file(
        &self,
        request: Request<GetFileRequest>,
    ) -> tonic::Result<Response<GetFileResponse>> {
        let context = runtime::context::read(&request)?;
        let id = FileId::new(request.into_inner().file_id).map_err(Error::from)?;
        let file = self.files.find(&context.tenant, &id).await?;
        Ok(Response::new(GetFileResponse { file: Some(shown(file)) }))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> tonic::Result<Response<Self::ReadFileStream>> {
        let context = runtime::context::read(&request)?;
        let id = FileId::new(request.into_inner().file_id).map_err(Error::from)?;
        let file = self.files.find(&context.tenant, &id).await?;
        let (pieces, stream) = mpsc::channel(2);
        tokio::spawn(send(self.files.clone(), file, pieces));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn delete_file(
        &self,
        request: Request<DeleteFileRequest>,
    ) -> tonic::Result<Response<DeleteFileResponse>> {
        let context = runtime::context::read(&request)?;
        let id = FileId::new(request.into_inner().file_id).map_err(Error::from)?;
        self.files.delete(&context.tenant, &id).await?;
        Ok(Response::new(DeleteFileResponse {}))
    }

    async fn create_batch(
        &self,
        request: Request<CreateBatchRequest>,
    ) -> tonic::Result<Response<CreateBatchResponse>> {
        let context = runtime::context::read(&request)?;
        let batch = NewBatch::try_from(request.into_inner())?;
        let input = self.files.find(&context.tenant, &batch.input).await?;
        if input.purpose != INPUT {
            let fault =
                format!("/input_file_id: its purpose is {:?}, not {INPUT:?}", input.purpose);
            return Err(Error::Invalid(fault).into());
        }
        let batch = self.batches.create(&context, &batch, &input).await?;
        self.wake.notify_one();
        Ok(Response::new(CreateBatchResponse { batch: Some(batch) }))
    }

    async fn get_batch(
        &self,
        request: Request<GetBatchRequest>,
    ) -> tonic::Result<Response<GetBatchResponse>> {
        let context = runtime::context::read(&request)?;
        let id = BatchId::new(request.into_inner().batch_id).map_err(Error::from)?;
        let batch = self.batches.find(&context.tenant, &id).await?;
        Ok(Response::new(GetBatchResponse { batch: Some(batch) }))
    }

    async fn list_batches(
        &self,
        request: Request<ListBatchesRequest>,
    ) -> tonic::Result<Response<ListBatchesResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        let limit = page_size(request.limit, 20, 100)?;
        let (batches, has_more) = self.batches.list(&context.tenant, &request.after, limit).await?;
        Ok(Response::new(ListBatchesResponse { batches, has_more }))
    }

    async fn cancel_batch(
        &self,
        request: Request<CancelBatchRequest>,
    ) -> tonic::Result<Response<CancelBatchResponse>> {
        let context = runtime::context::read(&request)?;
        let id = BatchId::new(request.into_inner().batch_id).map_err(Error::from)?;
        let batch = self.batches.cancel(&context.tenant, &id).await?;
        self.wake.notify_one();
        Ok(Response::new(CancelBatchResponse { batch: Some(batch) }))
    }
}

/// Writes an upload down as it comes and returns the file's name, and what it is for.
async fn receive(
    parts: &mut Streaming<CreateFileRequest>,
    draft: &mut Draft,
) -> Result<(String, &'static str), Status> {
    let invalid = |fault: &str| Err(Error::Invalid(fault.to_owned()).into());
    let (mut filename, mut purpose) = (None, None);
    loop {
        match parts.message().await?.and_then(|message| message.part) {
            Some(Part::Filename(name)) => filename = Some(name),
            Some(Part::Purpose(given)) => purpose = Some(given),
            Some(Part::Chunk(chunk)) => draft.write(&chunk).await?,
            Some(Part::End(_)) => break,
            None => return invalid("the upload was cut off"),
        }
    }
    let Some(purpose) = purpose else { return invalid("purpose: a purpose is required") };
    let Some(purpose) = UPLOADED.into_iter().find(|known| *known == purpose) else {
        return invalid(&format!("purpose: {purpose:?} is none of {}", UPLOADED.join(", ")));
    };
    match filename {
        Some(name) if (1..=512).contains(&name.len()) && !name.contains(char::is_control) => {
            Ok((name, purpose))
        }
        Some(_) => invalid("file: its name is not 1 to 512 bytes without control characters"),
        None => invalid("file: a file is required"),
    }
}

/// Sends a file's pieces; one that is deleted meanwhile ends in an error, never early.
async fn send(files: Files, file: File, pieces: mpsc::Sender<Result<ReadFileResponse, Status>>) {
    let mut left = file.bytes;
    for position in 0.. {
        let piece = match files.piece(&file.id, position).await {
            Ok(None) if left == 0 => return,
            Ok(None) => Err(Error::NoSuchFile(file.id.to_string()).into()),
            Ok(Some(piece)) => {
                left = left.saturating_sub(piece.len() as u64);
                Ok(ReadFileResponse { chunk: piece.into() })
            }
            Err(error) => Err(error.into()),
        };
        let failed = piece.is_err();
        if pieces.send(piece).await.is_err() || failed {
            return;
        }
    }
}

fn page_size(given: u32, default: u32, most: u32) -> Result<u32, Error> {
    match given {
        0 => Ok(default),
        given if given <= most => Ok(given),
        given => Err(Error::Invalid(format!("limit: {given} is not 1 to {most}"))),
    }
}

fn shown(file: File) -> proto::orchestrator::File {
    proto::orchestrator::File {
        id: file.id.to_string(),
        filename: file.filename,
        purpose: file.purpose,
        bytes: file.bytes,
        created_at_ms: file.created_at,
        expires_at_ms: file.expires_at,
        private: file.privacy == Privacy::Private,
    }
}
