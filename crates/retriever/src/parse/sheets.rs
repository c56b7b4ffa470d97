//! Workbooks of Excel: a row is a block, below its sheet and the names of its columns. Pure.

use std::io::Cursor;

use calamine::{DataRef, ExcelDateTime, Reader as _, SheetType, SheetVisible, Xlsx};

use super::Parsed;
use super::archive::Archive;
use super::data::column_names;

/// How many empty cells stand before a value, at most: a value may be in column 16,384.
const MOST_EMPTY: usize = 64;

/// Parses a workbook: what its visible sheets show, formulas by their last value. Lines are rows.
pub(super) fn parse(content: &[u8]) -> Result<Parsed, String> {
    Archive::open(content)?.check()?;
    let mut book =
        Xlsx::new(Cursor::new(content)).map_err(|fault| format!("it is broken: {fault}"))?;
    let sheets = book.sheets_metadata().to_vec();
    let mut parsed = Parsed::default();
    for sheet in sheets {
        if sheet.visible == SheetVisible::Visible && sheet.typ == SheetType::WorkSheet {
            let rows = rows(&mut book, &sheet.name, &mut parsed);
            rows.map_err(|why| format!("sheet {:?}: {why}", sheet.name))?;
        }
    }
    Ok(parsed)
}

fn rows(book: &mut Xlsx<Cursor<&[u8]>>, name: &str, parsed: &mut Parsed) -> Result<(), String> {
    let wrong = |fault| format!("it is broken: {fault}");
    let mut cells = book.worksheet_cells_reader(name).map_err(wrong)?;
    let mut table = Table { sheet: name, columns: None, parsed };
    let mut row = Row::default();
    while let Some(cell) = cells.next_cell().map_err(wrong)? {
        let (number, column) = cell.get_position();
        if number != row.number {
            table.add(&row)?;
            row = Row { number, ..Row::default() };
        }
        row.add(column as usize, &shown(cell.get_value()));
    }
    table.add(&row)
}

/// A row that is being read.
#[derive(Default)]
struct Row {
    /// From 0.
    number: u32,
    text: String,
    values: Vec<String>,
    column: usize,
}

impl Row {
    fn add(&mut self, column: usize, value: &str) {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        if value.is_empty() {
            return;
        }
        let steps = column.saturating_sub(self.column).min(MOST_EMPTY);
        self.text.push_str(&" | ".repeat(steps));
        self.text.push_str(&value);
        self.column = column;
        self.values.push(value);
    }
}

/// A sheet as far as it is read.
struct Table<'a> {
    sheet: &'a str,
    /// What the first row with more than one value says; rows before it are a title.
    columns: Option<String>,
    parsed: &'a mut Parsed,
}

impl Table<'_> {
    fn add(&mut self, row: &Row) -> Result<(), String> {
        let text = row.text.trim();
        if text.is_empty() {
            return Ok(());
        }
        let mut headings = vec![self.sheet.to_owned()];
        headings.extend(self.columns.clone());
        let line = row.number.saturating_add(1);
        let between = if self.parsed.text.is_empty() { "" } else { "\n" };
        self.parsed.write(between, text, headings, (line, line))?;
        if row.values.len() > 1 && self.columns.is_none() {
            self.columns = Some(column_names(&row.values));
        }
        Ok(())
    }
}

fn shown(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::DateTime(at) => moment(at),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number.to_string(),
        DataRef::Bool(yes) => yes.to_string(),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            text.clone()
        }
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Error(fault) => fault.to_string(),
    }
}

/// Shows a date, a time, or both, as far as it has them.
fn moment(at: &ExcelDateTime) -> String {
    if at.is_duration() {
        let seconds = (at.as_f64() * 86_400.0).round();
        let (hours, rest) = ((seconds / 3600.0).trunc(), (seconds % 3600.0).abs());
        return format!("{hours}:{:02}:{:02}", (rest / 60.0).trunc(), rest % 60.0);
    }
    let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
    let date = format!("{year:04}-{month:02}-{day:02}");
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    match (at.as_f64() < 1.0, (hour, minute, second) == (0, 0, 0)) {
        (true, _) => time,
        (false, true) => date,
        (false, false) => format!("{date} {time}"),
    }
}
