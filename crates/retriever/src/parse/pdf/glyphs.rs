//! From glyphs at their places to lines of text.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::kurbo::{Affine, BezPath, Point, Vec2};
use hayro_interpret::{
    BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask,
};

use super::direction::{in_reading_order, is_right_to_left};

/// A gap of so much of a letter's height is a space; letters of one word stand closer.
const SPACE: f64 = 0.12;
/// … and a gap of more than its height parts the cells of a table.
const CELL: f64 = 1.0;
/// What stands between cells of a line while it is read; no glyph is one.
const BETWEEN_CELLS: char = '\t';
/// So far from the line's foot is another line, …
const OTHER_LINE: f64 = 0.5;
/// … and so far from the line before is another paragraph.
const OTHER_PARAGRAPH: f64 = 1.75;
/// What was drawn twice, such as bold letters without a bold font, is hardly moved.
const SAME_PLACE: f64 = 0.1;

/// A line of a page.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub(super) text: String,
    /// The height of its letters.
    pub(super) size: f64,
    /// Whether it stands apart from the line before.
    pub(super) apart: bool,
}

/// A page that is being drawn: glyphs are read in the order in which they are drawn, which is that of
/// reading in nearly every file, also with columns.
pub(super) struct Page {
    lines: Vec<Line>,
    open: Option<Open>,
    /// The run before, and where it began.
    run: (Point, String),
    /// How many bytes may still be read.
    left: usize,
    is_full: bool,
}

/// The line that is being read.
struct Open {
    line: Line,
    /// Where the last glyph began, and where it ended.
    last: (Point, Point),
    /// Where letters follow each other, of length 1.
    along: Vec2,
    /// Whether glyphs come in reading order from right to left.
    is_leftwards: bool,
}

/// One glyph.
struct Seen {
    text: String,
    from: Point,
    to: Point,
    along: Vec2,
    size: f64,
}

impl Page {
    /// Returns a page that holds at most so many bytes.
    pub(super) fn up_to(left: usize) -> Self {
        let run = (Point::ZERO, String::new());
        Self { lines: Vec::new(), open: None, run, left, is_full: false }
    }

    /// Returns the page's lines, or nothing when they are too long.
    pub(super) fn finish(mut self) -> Option<Vec<Line>> {
        self.end_line();
        (!self.is_full).then_some(self.lines)
    }

    fn see(&mut self, seen: Seen) {
        let Some(open) = &mut self.open else { return self.begin(seen, true) };
        let size = open.line.size.max(seen.size);
        let step = seen.from - open.last.1;
        let (gap, drop) = (step.dot(open.along), step.cross(open.along).abs());
        let turned = seen.along.dot(open.along) < 0.9;
        if turned || drop > OTHER_LINE * size {
            let apart = turned || drop > OTHER_PARAGRAPH * size;
            return self.begin(seen, apart);
        }
        // How far its end is from where the one before began, for who writes from right to left.
        let back = (open.last.0 - seen.to).dot(open.along);
        let leftwards = gap < -size && back > -size;
        if leftwards && (open.is_leftwards || is_right_to_left(&seen.text)) {
            open.is_leftwards = true;
        } else if gap < -size {
            return self.begin(seen, false);
        }
        let gap = if leftwards { back } else { gap };
        if gap > CELL * size {
            open.line.text.push(BETWEEN_CELLS);
        } else if gap > SPACE * size {
            open.line.text.push(' ');
        }
        open.line.text.push_str(&seen.text);
        open.line.size = size;
        open.last = (seen.from, seen.to);
    }

    fn begin(&mut self, seen: Seen, apart: bool) {
        self.end_line();
        let line = Line { text: seen.text, size: seen.size, apart };
        let last = (seen.from, seen.to);
        self.open = Some(Open { line, last, along: seen.along, is_leftwards: false });
    }

    fn end_line(&mut self) {
        let Some(Open { mut line, is_leftwards, .. }) = self.open.take() else { return };
        let cells = line.text.split(BETWEEN_CELLS).map(|cell| {
            let mut words: Vec<&str> = cell.split_whitespace().collect();
            // Dots that lead from an entry to its page are no words.
            words.dedup_by(|word, before| *word == "." && *before == ".");
            in_reading_order(&words.join(" "), is_leftwards)
        });
        let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
        line.text = cells.join(" ");
        if !line.text.is_empty() {
            self.lines.push(line);
        }
    }
}

impl Device<'_> for Page {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        let glyphs: Vec<Seen> = run
            .glyphs()
            .iter()
            .filter_map(|glyph| seen(glyph, props.transform * glyph.transform()))
            .collect();
        let text: String = glyphs.iter().map(|glyph| glyph.text.as_str()).collect();
        let Some(first) = glyphs.first() else { return };
        let moved = (first.from - self.run.0).hypot();
        if text == self.run.1 && moved < SAME_PLACE * first.size {
            return;
        }
        match self.left.checked_sub(text.len()) {
            Some(left) => self.left = left,
            None => return self.is_full = true,
        }
        self.run = (first.from, text);
        for glyph in glyphs {
            self.see(glyph);
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'_>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'_, '_>, _: ImageDrawProps<'_>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

/// Returns a glyph's text and place, or nothing when it has none of them. Glyphs are drawn a thousand
/// units high.
fn seen(glyph: &Glyph<'_>, to_page: Affine) -> Option<Seen> {
    let text = match glyph.as_unicode() {
        Some(BfString::Char(one)) => one.to_string(),
        Some(BfString::String(text)) => text,
        None => char::REPLACEMENT_CHARACTER.to_string(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let advance = match glyph {
        Glyph::Outline(glyph) => glyph.advance_width(),
        Glyph::Type3(glyph) => glyph.advance_width(),
    };
    let from = to_page * Point::ZERO;
    let to = to_page * Point::new(f64::from(advance.unwrap_or(500.0)), 0.0);
    let along = to_page * Point::new(1000.0, 0.0) - from;
    let size = (to_page * Point::new(0.0, 1000.0) - from).hypot();
    let is_somewhere = along.hypot() > 0.0 && size > 0.0 && (from.x + from.y + size).is_finite();
    is_somewhere.then(|| Seen { text, from, to, along: along / along.hypot(), size })
}
