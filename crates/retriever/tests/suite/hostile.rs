//! Files that were made to do harm, each made here: none of them is in the tree.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Returns an archive of these parts.
pub(super) fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let packed = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1));
    let types = ("[Content_Types].xml", b"<Types/>".as_slice());
    for (name, content) in std::iter::once(&types).chain(parts) {
        archive.start_file(*name, packed).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Returns a document of Word with this text.
pub(super) fn docx(text: &str) -> Vec<u8> {
    archive(&[("word/document.xml", text.as_bytes())])
}

/// Returns a workbook with one sheet.
pub(super) fn xlsx(shared: &str, sheet: &str) -> Vec<u8> {
    const RELATIONS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    const PACKAGE: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
    const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let link = |id: &str, kind: &str, to: &str| {
        format!(r#"<Relationship Id="{id}" Type="{RELATIONS}/{kind}" Target="{to}"/>"#)
    };
    let links =
        |links: String| format!(r#"<Relationships xmlns="{PACKAGE}">{links}</Relationships>"#);
    let book = format!(
        r#"<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets><sheet name="S" sheetId="1" r:id="a"/></sheets></workbook>"#
    );
    let inner = link("a", "worksheet", "worksheets/sheet1.xml")
        + &link("b", "sharedStrings", "sharedStrings.xml");
    archive(&[
        ("_rels/.rels", links(link("a", "officeDocument", "xl/workbook.xml")).as_bytes()),
        ("xl/workbook.xml", book.as_bytes()),
        ("xl/_rels/workbook.xml.rels", links(inner).as_bytes()),
        ("xl/sharedStrings.xml", shared.as_bytes()),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
    ])
}

/// Returns a PDF of these objects, of which the first is its catalogue.
pub(super) fn pdf(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut places = String::new();
    for (object, number) in objects.iter().zip(1..) {
        let _ = writeln!(places, "{:010} 00000 n ", file.len());
        file.extend(format!("{number} 0 obj\n").bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let (table, count) = (file.len(), objects.len() + 1);
    let end = format!(
        "xref\n0 {count}\n0000000000 65535 f \n{places}trailer\n<</Size {count}/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n"
    );
    file.extend(end.bytes());
    file
}

/// Returns a stream, as an object of a PDF.
pub(super) fn stream(keys: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("<<{keys}/Length {}>>\nstream\n", content.len());
    [head.as_bytes(), content, b"\nendstream"].concat()
}

/// Returns a PDF with a page for each of these streams. They may draw the first of the forms, `F`; forms are
/// the objects from 4 on.
pub(super) fn pages(contents: &[Vec<u8>], forms: &[Vec<u8>]) -> Vec<u8> {
    let (first, count) = (4 + forms.len(), contents.len());
    let kids: String = (0..count).map(|at| format!("{} 0 R ", first + at * 2)).collect();
    let form = if forms.is_empty() { "" } else { "/XObject<</F 4 0 R>>" };
    let mut objects = vec![
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        format!(
            "<</Type/Pages/Count {count}/Kids[{kids}]/MediaBox[0 0 600 800]\
             /Resources<</Font<</A 3 0 R>>{form}>>>>"
        )
        .into_bytes(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_vec(),
    ];
    objects.extend(forms.iter().cloned());
    for (content, at) in contents.iter().zip(0..) {
        let page = format!("<</Type/Page/Parent 2 0 R/Contents {} 0 R>>", first + at * 2 + 1);
        objects.extend([page.into_bytes(), content.clone()]);
    }
    pdf(&objects)
}

/// Returns a stream that writes a text.
pub(super) fn says(text: &str) -> Vec<u8> {
    stream("", format!("BT /A 12 Tf 50 700 Td ({text}) Tj ET").as_bytes())
}

/// Returns forms that draw each other, so that what the first draws is drawn 30 to the power of `depth` times.
pub(super) fn forms(depth: usize) -> Vec<Vec<u8>> {
    let keys = |next: usize| {
        format!(
            "/Type/XObject/Subtype/Form/BBox[0 0 600 800]\
             /Resources<</Font<</A 3 0 R>>/XObject<</F {next} 0 R>>>>"
        )
    };
    let draws = b"/F Do ".repeat(30);
    let mut forms: Vec<_> = (0..depth).map(|at| stream(&keys(5 + at), &draws)).collect();
    forms.push(stream(&keys(4), b"BT /A 12 Tf (x) Tj ET"));
    forms
}
