use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{Block, Outline, Parsed, newlines};

/// Parses Markdown; the stored text is the file itself, so its lines are the file's.
pub(super) fn parse(text: &str) -> Parsed {
    let mut blocks: Vec<Block> = Vec::new();
    let mut outline = Outline::default();
    let (mut depth, mut heading) = (0_u32, None::<String>);
    let (mut line, mut counted) = (1, 0);
    let options = Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    let start = range.start.max(counted);
                    let end = start + text[start..range.end.max(start)].trim_end().len();
                    line += newlines(&text[counted..start]);
                    let last = line + newlines(&text[start..end]);
                    let block =
                        Block { range: start..end, headings: outline.path(), lines: (line, last) };
                    (line, counted) = (last, end);
                    blocks.push(block);
                    if matches!(tag, Tag::Heading { .. }) {
                        heading = Some(String::new());
                    }
                }
                depth += 1;
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                if let (TagEnd::Heading(level), Some(text)) = (tag, heading.take()) {
                    outline.enter(level as u8, text.trim().to_owned());
                    if let Some(block) = blocks.last_mut() {
                        block.headings = outline.path();
                    }
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            _ => {}
        }
    }
    blocks.retain(|block| !block.range.is_empty());
    Parsed { text: text.to_owned(), blocks, pages: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_know_their_headings_and_lines() {
        let text =
            "# Guide\n\nIntro.\n\n## Roll `back`\n\nRun it.\nThen wait.\n\n- a\n- b\n\n# End\n";
        let parsed = parse(text);
        let shown: Vec<_> = parsed
            .blocks
            .iter()
            .map(|b| (&parsed.text[b.range.clone()], b.headings.join(">"), b.lines))
            .collect();
        let back = || "Guide>Roll back".to_owned();
        assert_eq!(
            shown,
            [
                ("# Guide", "Guide".to_owned(), (1, 1)),
                ("Intro.", "Guide".to_owned(), (3, 3)),
                ("## Roll `back`", back(), (5, 5)),
                ("Run it.\nThen wait.", back(), (7, 8)),
                ("- a\n- b", back(), (10, 11)),
                ("# End", "End".to_owned(), (13, 13)),
            ]
        );
    }
}
