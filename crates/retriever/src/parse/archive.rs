//! The parts of an Office document, which is a ZIP archive of XML. Pure.

use std::io::{Cursor, Read as _};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::ZipArchive;
use zip::result::ZipError;

/// What an archive may unpack to in all, in bytes: ten kilobytes can be made to hold ten megabytes.
const MOST_UNPACKED: u64 = 128 * 1024 * 1024;

/// An archive, and how much of it may still be unpacked.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    left: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn open(content: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(content)).map_err(|fault| broken(&fault))?;
        Ok(Self { zip, left: MOST_UNPACKED })
    }

    /// Returns a part, or nothing when there is no such part.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.zip.index_for_name(name.trim_start_matches('/')) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        self.unpack(at, &mut bytes)?;
        let text = String::from_utf8(bytes).map_err(|_| format!("its {name} is not UTF-8"))?;
        Ok(Some(text))
    }

    /// Unpacks every part, so that whoever reads the archive after us unpacks no more than is allowed.
    pub(super) fn check(mut self) -> Result<(), String> {
        (0..self.zip.len()).try_for_each(|at| self.unpack(at, &mut std::io::sink()))
    }

    fn unpack(&mut self, at: usize, to: &mut dyn std::io::Write) -> Result<(), String> {
        let mut part = self.zip.by_index(at).map_err(|fault| broken(&fault))?;
        let name = part.name().map_err(|fault| broken(&fault))?.into_owned();
        let copied = std::io::copy(&mut part.by_ref().take(self.left + 1), to);
        let copied = copied.map_err(|fault| format!("its {name:?} is broken: {fault}"))?;
        match self.left.checked_sub(copied) {
            Some(left) => self.left = left,
            None => return Err(format!("it unpacks to more than {MOST_UNPACKED} bytes")),
        }
        Ok(())
    }
}

fn broken(fault: &ZipError) -> String {
    match fault {
        ZipError::UnsupportedArchive(what) => format!("its archive is not supported: {what}"),
        fault => format!("its archive is broken: {fault}"),
    }
}

/// What stands in a part of XML. Prefixes of names are left out; entities are those of XML alone, others
/// are nothing, so that none of them can grow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// An element begins.
    Start(&'a str, &'a BytesStart<'a>),
    /// An element ends.
    End(&'a str),
    /// Text between.
    Text(&'a str),
}

/// Reads a part from its beginning to its end.
pub(super) fn read(
    xml: &str,
    mut see: impl FnMut(Piece<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = Reader::from_str(xml);
    let mut open = 0_usize;
    loop {
        let at = reader.buffer_position();
        let wrong =
            |fault: &dyn std::fmt::Display| format!("its XML is broken at byte {at}: {fault}");
        match reader.read_event().map_err(|fault| wrong(&fault))? {
            Event::Start(tag) => {
                open += 1;
                see(Piece::Start(tag.local_name().as_ref(), &tag))?;
            }
            Event::End(tag) => {
                open = open.saturating_sub(1);
                see(Piece::End(tag.local_name().as_ref()))?;
            }
            Event::Empty(tag) => {
                see(Piece::Start(tag.local_name().as_ref(), &tag))?;
                see(Piece::End(tag.local_name().as_ref()))?;
            }
            Event::Text(text) => see(Piece::Text(&text))?,
            Event::CData(text) => see(Piece::Text(&text))?,
            Event::GeneralRef(name) => {
                let one = name.resolve_char_ref().map_err(|fault| wrong(&fault))?;
                if let Some(one) = one.or_else(|| entity(&name)) {
                    see(Piece::Text(one.encode_utf8(&mut [0; 4])))?;
                }
            }
            Event::DocType(_) => return Err("its XML declares a document type".to_owned()),
            Event::Eof if open > 0 => return Err(wrong(&"it ends early")),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn entity(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => return None,
    })
}

/// Returns the value of an attribute, by its name without a prefix.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = tag.attributes().flatten().find(|one| one.key.local_name().as_ref() == name);
    found?.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
}
