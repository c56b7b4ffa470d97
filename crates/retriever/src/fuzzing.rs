//! What fuzzers call: the parsers of files, and what must be true of what they say.
//!
//! A fault is a panic. `fuzz/` runs these on what it makes up, an ordinary test on the files of
//! `tests/documents` and on mutations of them.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::isolate::Cut;
use crate::parse::media_type;

/// Reads a file with this ending: passages are parts of its text, and hold all of it but white space.
pub fn file(ending: &str, content: &[u8]) {
    let source = format!("x.{ending}");
    let Ok(media_type) = media_type(&source, "", content) else { return };
    let Ok(cut) = Cut::of(&source, media_type, content) else { return };
    assert!(cut.is_sound(), "{:?}", cut.chunks);
    let mut end = 0;
    for chunk in &cut.chunks {
        assert!(cut.text[end..chunk.range.start].trim().is_empty(), "nothing is left out");
        end = chunk.range.end;
    }
    assert!(cut.text[end..].trim().is_empty(), "nothing is left out");
}

/// Reads a document of Word whose text, styles and lists are these, parted by NUL.
pub fn docx(parts: &str) {
    let mut parts = parts.split('\0');
    let mut part = |name| (name, parts.next().unwrap_or_default().to_owned());
    let parts = [
        ("[Content_Types].xml", "<Types/>".to_owned()),
        part("word/document.xml"),
        part("word/styles.xml"),
        part("word/numbering.xml"),
    ];
    if let Some(content) = archive(&parts) {
        file("docx", &content);
    }
}

/// Reads a workbook whose sheet and shared texts are these, parted by NUL.
pub fn xlsx(parts: &str) {
    const LINKS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let mut parts = parts.split('\0');
    let mut part = |name| (name, parts.next().unwrap_or_default().to_owned());
    let link = |id: &str, kind: &str, to: &str| {
        format!(r#"<Relationship Id="{id}" Type="{LINKS}/{kind}" Target="{to}"/>"#)
    };
    let sheets = r#"<sheets><sheet name="S" sheetId="1" r:id="a"/></sheets>"#;
    let links = link("a", "worksheet", "worksheets/sheet1.xml")
        + &link("b", "sharedStrings", "sharedStrings.xml");
    let parts = [
        ("[Content_Types].xml", "<Types/>".to_owned()),
        ("xl/workbook.xml", format!(r#"<workbook xmlns:r="{LINKS}">{sheets}</workbook>"#)),
        ("xl/_rels/workbook.xml.rels", format!("<Relationships>{links}</Relationships>")),
        part("xl/worksheets/sheet1.xml"),
        part("xl/sharedStrings.xml"),
    ];
    if let Some(content) = archive(&parts) {
        file("xlsx", &content);
    }
}

fn archive(parts: &[(&str, String)]) -> Option<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let plain = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in parts {
        archive.start_file(*name, plain).ok()?;
        archive.write_all(content.as_bytes()).ok()?;
    }
    Some(archive.finish().ok()?.into_inner())
}

#[cfg(test)]
mod replay {

    /// Changes, repeats or takes out a few bytes.
    fn mutate(random: &mut fastrand::Rng, file: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..file.len());
            let end = (at + random.usize(1..64)).min(file.len());
            match random.u8(..3) {
                0 => file[at] = random.u8(..),
                1 => file.extend_from_within(at..end),
                _ if end - at < file.len() => drop(file.drain(at..end)),
                _ => {}
            }
        }
        file
    }

    #[test]
    fn what_was_changed_is_read_or_refused() {
        let mut random = fastrand::Rng::with_seed(7);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documents");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let ending = path.extension().unwrap().to_str().unwrap();
            let content = std::fs::read(&path).unwrap();
            for _ in 0..40 {
                super::file(ending, &mutate(&mut random, &content));
            }
        }
    }

    #[test]
    fn changed_xml_is_read_or_refused() {
        let mut random = fastrand::Rng::with_seed(8);
        let document = "<w:document><w:body><w:p><w:pPr><w:pStyle w:val=\"H\"/></w:pPr><w:r><w:t>A</w:t></w:r></w:p>\
            <w:p><w:pPr><w:numPr><w:ilvl w:val=\"1\"/><w:numId w:val=\"1\"/></w:numPr></w:pPr><w:r><w:t>b &amp; c</w:t><w:tab/></w:r></w:p>\
            <w:tbl><w:tr><w:tc><w:p><w:r><w:t>d</w:t></w:r></w:p></w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl></w:body></w:document>\0\
            <w:styles><w:style w:styleId=\"H\"><w:name w:val=\"heading 1\"/><w:basedOn w:val=\"H\"/></w:style></w:styles>\0\
            <w:numbering><w:abstractNum w:abstractNumId=\"0\"><w:lvl w:ilvl=\"1\"><w:start w:val=\"4294967295\"/><w:numFmt w:val=\"decimal\"/></w:lvl></w:abstractNum><w:num w:numId=\"1\"><w:abstractNumId w:val=\"0\"/></w:num></w:numbering>";
        let sheet = "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"C1\"><v>1.5</v></c></row><row r=\"9\"><c r=\"B9\" t=\"inlineStr\"><is><t>x</t></is></c></row></sheetData></worksheet>\0\
            <sst><si><t>word</t></si></sst>";
        super::docx(document);
        super::xlsx(sheet);
        for _ in 0..1000 {
            super::docx(&String::from_utf8_lossy(&mutate(&mut random, document.as_bytes())));
            super::xlsx(&String::from_utf8_lossy(&mutate(&mut random, sheet.as_bytes())));
        }
    }
}
