//! Documents of every kind, also those that were made to do harm.

use proto::retriever::{GetDocumentRequest, GetDocumentResponse};
use runtime::context::request;

use super::{Caller, open};

#[tokio::test]
async fn a_passage_of_a_pdf_names_its_pages() {
    let directory = tempfile::tempdir().unwrap();
    let mut caller = Caller::new(&open(directory.path()).await, "a");
    // The name is wrong: what it is, its content says.
    caller.put("manual.docx", include_bytes!("../documents/manual.pdf")).await.unwrap();
    let passage = caller.search("cable car").await[0].passage.clone().unwrap();
    assert_eq!(passage.headings, ["Station manual", "Weather"]);
    assert_eq!((passage.start_page, passage.end_page), (3, 3));
    let message = GetDocumentRequest { id: passage.document_id, ..GetDocumentRequest::default() };
    let reply = caller.client.get_document(request(&caller.context, message)).await.unwrap();
    let GetDocumentResponse { document, text } = reply.into_inner();
    assert_eq!(document.unwrap().media_type, "application/pdf");
    let text: Vec<char> = text.chars().collect();
    let range = usize::try_from(passage.start).unwrap()..usize::try_from(passage.end).unwrap();
    assert_eq!(text[range].iter().collect::<String>(), passage.text);
}
