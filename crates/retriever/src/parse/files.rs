//! Files as other programs write them, which `tests/documents` holds.

use super::{Parsed, media_type, parse};

/// Returns a file that is read, each block with its headings.
fn read(name: &str) -> (Parsed, Vec<(String, String)>) {
    let path = format!("{}/tests/documents/{name}", env!("CARGO_MANIFEST_DIR"));
    let content = std::fs::read(path).unwrap();
    let parsed = parse(name, media_type(name, "", &content).unwrap(), &content).unwrap();
    let block = |block: &super::Block| {
        (block.headings.join(" > "), parsed.text[block.range.clone()].to_owned())
    };
    let blocks = parsed.blocks.iter().map(block).collect();
    (parsed, blocks)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_document_of_word_keeps_its_headings_lists_and_tables() {
    for name in ["handbook.docx", "handbook-writer.docx"] {
        let (parsed, blocks) = read(name);
        let (readings, rows) =
            ("Field handbook > Readings", "Field handbook > Readings > Station, Voltage, Read by");
        let wanted = pairs(&[
            ("Field handbook", "Field handbook"),
            ("Field handbook", "This handbook says how a station is run."),
            ("Field handbook > Power", "Power"),
            (
                "Field handbook > Power",
                "Each station has two batteries of 48 volts. Change both at once.",
            ),
            ("Field handbook > Power > Charging", "Charging"),
            ("Field handbook > Power > Charging", "1. Open the cover."),
            ("Field handbook > Power > Charging", "2. Press the green switch."),
            ("Field handbook > Power > Charging", "3. Wait for 40 minutes."),
            ("Field handbook > Power > Charging", "Tools:"),
            ("Field handbook > Power > Charging", "- a torque wrench"),
            ("Field handbook > Power > Charging", "- size 13"),
            ("Field handbook > Power > Charging", "- gloves"),
            (readings, "Readings"),
            (readings, "Station | Voltage | Read by"),
            (rows, "North | 47.9 | Ann Åberg"),
            (rows, "South | 48.3 | Bo"),
            (rows, "Ridge | 46.1 | שלום כהן"),
            (readings, "Readings below 46.5 volts are reported within a day."),
        ]);
        assert_eq!(blocks, wanted, "{name}");
        assert_eq!((parsed.blocks[1].lines, parsed.blocks[6].lines), ((3, 3), (12, 12)), "{name}");
    }
}

#[test]
fn a_row_of_a_workbook_stands_below_its_sheet_and_its_columns() {
    let (parsed, blocks) = read("stock.xlsx");
    let (stock, all) = ("Stock > Part, Count, Price, Ordered, Note", "Suppliers > Name, City");
    let wanted = pairs(&[
        ("Stock", "Stock of spare parts, spring"),
        ("Stock", "Part | Count | Price | Ordered | Note"),
        (stock, "Battery 48 V | 12 | 129.5 | 2026-03-14 | for all stations"),
        (stock, "Green switch | 40 | 2.25 | 2026-04-01 09:30:00"),
        (stock, "Torque wrench | 3 |  |  | size 13"),
        (stock, "|  |  |  |  |  |  | far away"),
        ("Suppliers", "Name | City"),
        (all, "Volta & Söhne | Graz"),
        (all, "Ampère | Lyon"),
    ]);
    assert_eq!(blocks, wanted);
    assert_eq!(parsed.blocks[3].lines, (5, 5));
}

#[test]
fn a_pdf_keeps_its_pages_and_headings() {
    let (parsed, blocks) = read("manual.pdf");
    let wanted = pairs(&[
        ("Station manual", "Station manual"),
        ("Station manual > Power", "Power"),
        (
            "Station manual > Power",
            "Every station is fed by two batteries. A battery lasts for about nine hundred cycles, after which both\n\
             are changed together, never one alone.",
        ),
        ("Station manual > Power > Charging", "Charging"),
        (
            "Station manual > Power > Charging",
            "Charging takes forty minutes at twenty degrees, and longer when it is cold.",
        ),
        ("Station manual > Radio", "Radio"),
        (
            "Station manual > Radio",
            "The radio listens on channel seventeen. Call signs are those of the list that hangs beside the door.",
        ),
        ("Station manual > Radio", "Bo\u{308}rje and finn speak: שלום means peace."),
        ("Station manual > Weather", "Weather"),
        ("Station manual > Weather", "Wind above thirty metres a second closes the cable car."),
    ]);
    assert_eq!(blocks, wanted);
    let pages: Vec<_> = parsed.blocks.iter().map(|block| parsed.pages_of(&block.range)).collect();
    let pages: Vec<_> = pages.into_iter().map(|pages| pages.0).collect();
    assert_eq!(pages, [1, 1, 1, 1, 1, 2, 2, 2, 3, 3]);
    assert_eq!(parsed.pages_of(&(0..parsed.text.len())), (1, 3));
}

#[test]
fn a_pdf_of_an_office_program_is_read() {
    let (parsed, blocks) = read("handbook.pdf");
    for text in [
        "This handbook says how a station is run.",
        "Ridge 46.1 שלום כהן",
        "2. Press the green switch.",
    ] {
        assert!(parsed.text.contains(text), "{text}: {}", parsed.text);
    }
    let charging = blocks.iter().find(|block| block.1.contains("green switch")).unwrap();
    assert_eq!(charging.0, "Field handbook > Power > Charging");
}
