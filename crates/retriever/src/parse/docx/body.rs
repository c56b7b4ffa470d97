//! The text of a document, paragraph by paragraph.

use std::collections::HashMap;

use quick_xml::events::BytesStart;

use super::super::archive::{Piece, attribute, read};
use super::super::data::column_names;
use super::super::{Outline, Parsed};
use super::styles::{Place, Styles, number, outline_level};

/// Elements that a reader does not see: text that was deleted or moved away, and what stands in for a
/// drawing in older programs.
const UNSEEN: [&str; 3] = ["del", "moveFrom", "Fallback"];

/// What is read, and where it stands.
pub(super) struct Body<'a> {
    styles: &'a Styles,
    parsed: Parsed,
    outline: Outline,
    /// Paragraphs that are open: one may stand in a text box within another.
    paragraphs: Vec<Paragraph>,
    /// Tables that are open, outermost first.
    tables: Vec<Table>,
    /// How many items each list has so far, by list and depth.
    counts: HashMap<(u32, usize), u32>,
    /// How many elements that are not seen are open.
    unseen: usize,
    /// Whether a run is open, and whether it is hidden.
    in_run: bool,
    hidden: bool,
    in_text: bool,
    was_item: bool,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    style: String,
    level: Option<u8>,
    place: Place,
}

#[derive(Default)]
struct Table {
    columns: Option<String>,
    cells: Vec<String>,
}

impl<'a> Body<'a> {
    pub(super) fn new(styles: &'a Styles) -> Self {
        Self {
            styles,
            parsed: Parsed::default(),
            outline: Outline::default(),
            paragraphs: Vec::new(),
            tables: Vec::new(),
            counts: HashMap::new(),
            unseen: 0,
            in_run: false,
            hidden: false,
            in_text: false,
            was_item: false,
        }
    }

    /// Reads a part of the document, behind what was read before.
    pub(super) fn read(&mut self, xml: &str) -> Result<(), String> {
        read(xml, |piece| match piece {
            Piece::Start(name, tag) => {
                self.open(name, tag);
                Ok(())
            }
            Piece::End(name) => self.close(name),
            Piece::Text(text) => {
                if self.in_text {
                    self.say(text);
                }
                Ok(())
            }
        })
    }

    /// What follows stands below no heading.
    pub(super) fn leave_headings(&mut self) {
        self.outline = Outline::default();
    }

    pub(super) fn finish(mut self) -> Parsed {
        self.parsed.count_lines();
        self.parsed
    }

    fn open(&mut self, name: &str, tag: &BytesStart<'_>) {
        match name {
            "p" => self.paragraphs.push(Paragraph::default()),
            "tbl" => self.tables.push(Table::default()),
            "tc" => {
                if let Some(table) = self.tables.last_mut() {
                    table.cells.push(String::new());
                }
            }
            "r" => (self.in_run, self.hidden) = (true, false),
            "t" => self.in_text = true,
            "vanish" if self.in_run => self.hidden = is_on(tag),
            "tab" if self.in_run => self.say("\t"),
            "br" | "cr" if self.in_run => self.say("\n"),
            "noBreakHyphen" if self.in_run => self.say("-"),
            unseen if UNSEEN.contains(&unseen) => self.unseen += 1,
            property => self.set(property, tag),
        }
    }

    /// Takes a property of the paragraph that is open.
    fn set(&mut self, property: &str, tag: &BytesStart<'_>) {
        let Some(paragraph) = self.paragraphs.last_mut() else { return };
        let value = || attribute(tag, "val");
        match property {
            "pStyle" => paragraph.style = value().unwrap_or_default(),
            "outlineLvl" => paragraph.level = outline_level(value().as_deref()),
            "numId" => paragraph.place.list = number(value()),
            "ilvl" => paragraph.place.depth = number(value()),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        match name {
            "p" => match self.paragraphs.pop() {
                Some(paragraph) => self.end_paragraph(paragraph),
                None => Ok(()),
            },
            "tr" => self.end_row(),
            "tbl" => {
                self.tables.pop();
                Ok(())
            }
            "r" => {
                self.in_run = false;
                Ok(())
            }
            "t" => {
                self.in_text = false;
                Ok(())
            }
            unseen if UNSEEN.contains(&unseen) => {
                self.unseen = self.unseen.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(paragraph) = self.paragraphs.last_mut()
            && self.unseen == 0
            && !self.hidden
        {
            paragraph.text.push_str(text);
        }
    }

    fn end_paragraph(&mut self, paragraph: Paragraph) -> Result<(), String> {
        let text = paragraph.text.trim();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(cell) = self.tables.last_mut().and_then(|table| table.cells.last_mut()) {
            append(cell, text);
            return Ok(());
        }
        let (level, place) = self.styles.look_up(&paragraph.style);
        if let Some(level) = paragraph.level.or(level) {
            let heading = text.split_whitespace().collect::<Vec<_>>().join(" ");
            self.outline.enter(level, heading.clone());
            return self.write("\n\n", &heading, None);
        }
        let list = paragraph.place.list.or(place.list).filter(|list| *list != 0);
        let Some(list) = list else { return self.write("\n\n", text, None) };
        let depth = paragraph.place.depth.or(place.depth).unwrap_or_default().min(8);
        let item = format!("{}{}{text}", "  ".repeat(depth), self.mark(list, depth));
        let between = if self.was_item { "\n" } else { "\n\n" };
        self.write(between, &item, None)?;
        self.was_item = true;
        Ok(())
    }

    /// Returns what stands before the next item of a list, and counts it.
    fn mark(&mut self, list: u32, depth: usize) -> String {
        for deeper in depth + 1..9 {
            self.counts.remove(&(list, deeper));
        }
        match self.styles.counts_from(list, depth) {
            None => "- ".to_owned(),
            Some(from) => {
                let count =
                    self.counts.entry((list, depth)).or_insert_with(|| from.saturating_sub(1));
                *count = count.saturating_add(1);
                format!("{count}. ")
            }
        }
    }

    fn end_row(&mut self) -> Result<(), String> {
        let Some(table) = self.tables.last_mut() else { return Ok(()) };
        let cells = std::mem::take(&mut table.cells);
        let row = cells.join(" | ");
        if row.trim_matches([' ', '|']).is_empty() {
            return Ok(());
        }
        let is_first = table.columns.is_none();
        let columns = table.columns.clone().filter(|names| !names.is_empty());
        if is_first {
            // A table of one column is a frame around what it holds.
            table.columns =
                Some(if cells.len() > 1 { column_names(&cells) } else { String::new() });
        }
        let outer = self.tables.len().checked_sub(2);
        if let Some(cell) = outer.and_then(|outer| self.tables[outer].cells.last_mut()) {
            append(cell, &row);
            return Ok(());
        }
        self.write(if is_first { "\n\n" } else { "\n" }, &row, columns)
    }

    fn write(&mut self, between: &str, text: &str, columns: Option<String>) -> Result<(), String> {
        self.was_item = false;
        let mut headings = self.outline.path();
        headings.extend(columns);
        let between = if self.parsed.text.is_empty() { "" } else { between };
        self.parsed.write(between, text, headings, (0, 0))
    }
}

/// Adds words to a cell.
fn append(cell: &mut String, text: &str) {
    for word in text.split_whitespace() {
        if !cell.is_empty() {
            cell.push(' ');
        }
        cell.push_str(word);
    }
}

/// Tells whether a property that is there holds: `<w:vanish w:val="0"/>` does not.
fn is_on(tag: &BytesStart<'_>) -> bool {
    !attribute(tag, "val").is_some_and(|value| ["0", "false", "off"].contains(&value.as_str()))
}
