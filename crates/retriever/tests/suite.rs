//! The retriever as its callers meet it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::path::Path;

use proto::retriever::retriever_service_client::RetrieverServiceClient;
use proto::retriever::{DeleteDocumentRequest, Hit, PutDocumentRequest, SearchRequest};
use retriever::Config;
use runtime::context::request;
use runtime::transport::{Peer, in_process};
use types::{CallContext, ErrorKind, TenantId, UserId};

struct Caller {
    client: RetrieverServiceClient<Peer>,
    context: CallContext,
}

async fn open(directory: &Path) -> Peer {
    let database = directory.join("documents.db");
    in_process(retriever::server(Config { database, ..Config::default() }).await.unwrap())
}

impl Caller {
    fn new(peer: &Peer, tenant: &str) -> Self {
        let context = CallContext::new(TenantId::new(tenant).unwrap(), UserId::new("u").unwrap());
        Self { client: RetrieverServiceClient::new(peer.clone()), context }
    }

    async fn put(&mut self, source: &str, text: &[u8]) -> Result<(String, bool), tonic::Status> {
        let message = PutDocumentRequest {
            source: source.to_owned(),
            content: text.to_vec().into(),
            media_type: String::new(),
        };
        let reply = self.client.put_document(request(&self.context, message)).await?.into_inner();
        Ok((reply.document.unwrap().id, reply.changed))
    }

    async fn search(&mut self, query: &str) -> Vec<Hit> {
        let message = SearchRequest { query: query.to_owned(), top_k: 0 };
        self.client.search(request(&self.context, message)).await.unwrap().into_inner().hits
    }
}

#[tokio::test]
async fn a_document_is_found_replaced_and_removed_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut caller = Caller::new(&open(directory.path()).await, "a");
    let text = "# Ümlaut\n\nAn umbrella.\n\n## Releases\n\nRun the rollback script.\n".as_bytes();
    let (id, changed) = caller.put("guide.md", text).await.unwrap();
    assert!(changed);
    assert_eq!(caller.put("guide.md", text).await.unwrap(), (id.clone(), false));

    let mut caller = Caller::new(&open(directory.path()).await, "a");
    let passage = caller.search("rollback").await[0].passage.clone().unwrap();
    assert_eq!(passage.headings, ["Ümlaut", "Releases"]);
    assert_eq!((passage.start_line, passage.end_line), (5, 7));
    let text: Vec<char> = std::str::from_utf8(text).unwrap().chars().collect();
    let range = usize::try_from(passage.start).unwrap()..usize::try_from(passage.end).unwrap();
    assert_eq!(text[range].iter().collect::<String>(), passage.text);

    assert!(caller.put("guide.md", b"Something else.").await.unwrap().1);
    assert!(caller.search("rollback").await.is_empty());
    assert_eq!(caller.search("something else").await.len(), 1);
    let message = DeleteDocumentRequest { id };
    caller.client.delete_document(request(&caller.context, message.clone())).await.unwrap();
    assert!(caller.search("something else").await.is_empty());
    let again = caller.client.delete_document(request(&caller.context, message)).await;
    assert_eq!(runtime::error::kind_of(&again.unwrap_err()), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_tenant_finds_its_own_documents_alone() {
    let directory = tempfile::tempdir().unwrap();
    let peer = open(directory.path()).await;
    let (mut ours, mut theirs) = (Caller::new(&peer, "a"), Caller::new(&peer, "b"));
    ours.put("x.txt", b"a shared secret").await.unwrap();
    assert!(theirs.search("secret").await.is_empty());
    theirs.put("x.txt", b"another secret").await.unwrap();
    assert_eq!(ours.search("secret").await.len(), 1);
    assert_eq!(ours.search("secret").await[0].passage.as_ref().unwrap().text, "a shared secret");
}

#[tokio::test]
async fn what_cannot_be_stored_or_asked_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut caller = Caller::new(&open(directory.path()).await, "a");
    let long = "s".repeat(1025);
    for (source, content) in [("x.md", b"\xff".as_slice()), ("", b"x"), (&long, b"x")] {
        let refused = caller.put(source, content).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
    }
    for (query, top_k) in [("", 1), (" ", 1), ("x", 101)] {
        let message = SearchRequest { query: query.to_owned(), top_k };
        let refused = caller.client.search(request(&caller.context, message)).await.unwrap_err();
        assert_eq!(runtime::error::kind_of(&refused), ErrorKind::Invalid);
    }
}
