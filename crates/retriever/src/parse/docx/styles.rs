//! What a document's styles and lists say of its paragraphs.

use std::collections::HashMap;

use super::super::archive::{Piece, attribute, read};

/// How far a style is followed to those that it is based on.
const MOST_BASES: usize = 16;

/// Where a paragraph stands in a list: which list, and how deep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) list: Option<u32>,
    pub(super) depth: Option<usize>,
}

/// A style of paragraphs.
#[derive(Debug, Default)]
struct Style {
    based_on: Option<String>,
    /// 0 is a title, 1 to 9 a heading.
    level: Option<u8>,
    place: Place,
}

/// Styles by id, and what marks each level of each list.
#[derive(Debug, Default)]
pub(super) struct Styles {
    styles: HashMap<String, Style>,
    /// By list and depth: what it counts from, or nothing for bullets.
    lists: HashMap<(u32, usize), Option<u32>>,
}

impl Styles {
    pub(super) fn read(styles: Option<&str>, numbering: Option<&str>) -> Result<Self, String> {
        let mut all = Self::default();
        all.read_styles(styles.unwrap_or_default())?;
        all.read_numbering(numbering.unwrap_or_default())?;
        Ok(all)
    }

    fn read_styles(&mut self, xml: &str) -> Result<(), String> {
        let mut open = (String::new(), Style::default());
        read(xml, |piece| {
            match piece {
                Piece::Start("style", tag) => {
                    open = (attribute(tag, "styleId").unwrap_or_default(), Style::default());
                }
                Piece::Start("name", tag) => {
                    let name = attribute(tag, "val").unwrap_or_default().to_lowercase();
                    open.1.level = match name.strip_prefix("heading ") {
                        Some(level) => level.parse().ok().filter(|level| (1..=9).contains(level)),
                        None => (name == "title").then_some(0),
                    };
                }
                Piece::Start("basedOn", tag) => open.1.based_on = attribute(tag, "val"),
                Piece::Start("outlineLvl", tag) => {
                    open.1.level = open.1.level.or(outline_level(attribute(tag, "val").as_deref()));
                }
                Piece::Start("numId", tag) => open.1.place.list = number(attribute(tag, "val")),
                Piece::Start("ilvl", tag) => open.1.place.depth = number(attribute(tag, "val")),
                Piece::End("style") => {
                    let (id, style) = std::mem::take(&mut open);
                    self.styles.insert(id, style);
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn read_numbering(&mut self, xml: &str) -> Result<(), String> {
        let mut kinds: HashMap<(u32, usize), Option<u32>> = HashMap::new();
        let (mut kind, mut list, mut depth, mut start) = (0, 0, 0, 1);
        read(xml, |piece| {
            let Piece::Start(name, tag) = piece else { return Ok(()) };
            let value = |name: &str| number(attribute(tag, name));
            match name {
                "abstractNum" => kind = value("abstractNumId").unwrap_or_default(),
                "lvl" => (depth, start) = (value("ilvl").unwrap_or_default() as usize, 1),
                "start" => start = value("val").unwrap_or(1),
                "numFmt" => {
                    let plain = attribute(tag, "val")
                        .is_some_and(|mark| mark == "bullet" || mark == "none");
                    kinds.insert((kind, depth), (!plain).then_some(start));
                }
                "num" => list = value("numId").unwrap_or_default(),
                // Stands in a `num`, behind all the kinds.
                "abstractNumId" => {
                    let kind = value("val").unwrap_or_default();
                    let levels =
                        (0..9).filter_map(|depth| Some((depth, *kinds.get(&(kind, depth))?)));
                    self.lists.extend(levels.map(|(depth, from)| ((list, depth), from)));
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Returns a style's level of heading, if it is one, and its place in a list, if any.
    pub(super) fn look_up(&self, style: &str) -> (Option<u8>, Place) {
        let (mut level, mut place, mut next) = (None, Place::default(), Some(style));
        for _ in 0..MOST_BASES {
            let Some(style) = next.and_then(|id| self.styles.get(id)) else { break };
            level = level.or(style.level);
            place.list = place.list.or(style.place.list);
            place.depth = place.depth.or(style.place.depth);
            next = style.based_on.as_deref();
        }
        (level, place)
    }

    /// Returns what a level of a list counts from; nothing when it has bullets.
    pub(super) fn counts_from(&self, list: u32, depth: usize) -> Option<u32> {
        self.lists.get(&(list, depth)).copied().flatten()
    }
}

/// Returns the level of a heading that an outline level means: 9 is body text.
pub(super) fn outline_level(value: Option<&str>) -> Option<u8> {
    value?.parse::<u8>().ok().filter(|level| *level < 9).map(|level| level + 1)
}

/// Reads a number.
pub(super) fn number<N: std::str::FromStr>(value: Option<String>) -> Option<N> {
    value?.parse().ok()
}
