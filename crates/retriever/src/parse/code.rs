//! Source code, cut at functions and classes, below their names. Pure.

use tree_sitter::{Language, Node, Parser, Tree};

use super::cuts::Cuts;
use super::{Parsed, paragraphs};
use crate::chunk::{MOST, words};

/// Code of more bytes is generated, and cut as plain text.
const LARGEST: usize = 1024 * 1024;

/// How deep definitions are looked into: classes in classes in modules.
const DEEPEST: usize = 8;

/// Parses code. A file with faults is cut where it can be read; the stored text is the file itself.
pub(super) fn parse(text: &str, media_type: &str) -> Parsed {
    let language = language(media_type).filter(|_| text.len() <= LARGEST);
    let Some(tree) = language.and_then(|language| tree(&language, text)) else {
        return paragraphs(text);
    };
    let mut cuts = Cuts::default();
    definitions(text, tree.root_node(), &mut Vec::new(), &mut cuts);
    cuts.apply(text)
}

fn language(media_type: &str) -> Option<Language> {
    Some(match media_type {
        "text/x-c" => tree_sitter_c::LANGUAGE.into(),
        "text/x-go" => tree_sitter_go::LANGUAGE.into(),
        "text/x-java" => tree_sitter_java::LANGUAGE.into(),
        "text/javascript" => tree_sitter_javascript::LANGUAGE.into(),
        "text/x-python" => tree_sitter_python::LANGUAGE.into(),
        "text/x-rust" => tree_sitter_rust::LANGUAGE.into(),
        "text/x-typescript" => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        "text/x-tsx" => tree_sitter_typescript::LANGUAGE_TSX.into(),
        _ => return None,
    })
}

fn tree(language: &Language, text: &str) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(language).ok()?;
    parser.parse(text, None)
}

/// Begins a block at each definition within `node`, and behind it; within one that is long, at those
/// that it holds.
fn definitions(text: &str, node: Node<'_>, path: &mut Vec<String>, cuts: &mut Cuts) {
    // Comments, attributes and decorators stand before what they are about.
    let mut about = None;
    for child in node.children(&mut node.walk()) {
        let Some((definition, name)) = definition(text, child) else {
            let kind = child.kind();
            let leads = kind.contains("comment") || kind.contains("attribute");
            about = about.or(Some(child.start_byte())).filter(|_| leads);
            continue;
        };
        path.push(name);
        cuts.begin(about.take().unwrap_or(child.start_byte()), path);
        let is_long = words(&text[child.byte_range()]) > MOST && path.len() < DEEPEST;
        if let Some(body) = definition.child_by_field_name("body").filter(|_| is_long) {
            definitions(text, body, path, cuts);
        }
        path.pop();
        cuts.begin(child.end_byte(), path);
    }
}

/// Returns the definition that a node is, also within an `export` or behind decorators, and its name.
fn definition<'a>(text: &str, node: Node<'a>) -> Option<(Node<'a>, String)> {
    let within = ["declaration", "definition"];
    let within = within.into_iter().find_map(|field| node.child_by_field_name(field));
    let node = within.unwrap_or(node);
    // An `if` or a loop has a body too, and no name; a constant has a name, and no body.
    node.child_by_field_name("body")?;
    let mut name = ["name", "declarator", "type"]
        .into_iter()
        .find_map(|field| node.child_by_field_name(field))?;
    // C says what a function returns around its name.
    while let Some(inner) = name.child_by_field_name("declarator") {
        name = inner;
    }
    Some((node, text[name.byte_range()].split_whitespace().collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(media_type: &str, text: &str) -> Vec<(String, String)> {
        let parsed = parse(text, media_type);
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let block = |block: &crate::parse::Block| {
            (block.headings.join(" > "), first(&parsed.text[block.range.clone()]))
        };
        parsed.blocks.iter().map(block).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(path, line)| ((*path).to_owned(), (*line).to_owned())).collect()
    }

    #[test]
    fn a_function_is_a_block_below_its_name_in_every_language() {
        for (media_type, text, wanted) in [
            (
                "text/x-rust",
                "use a::b;\n\n/// Adds.\n#[inline]\nfn add() {\n    1 + 1;\n}\n\nimpl<T> Tree<T> {\n    fn new() {}\n}\n",
                &[("", "use a::b;"), ("add", "/// Adds."), ("Tree<T>", "impl<T> Tree<T> {")][..],
            ),
            (
                "text/x-python",
                "import os\n\n@cache\ndef add(a):\n    return a\n\n# A tree.\nclass Tree:\n    pass\n\nadd(1)\n",
                &[("", "import os"), ("add", "@cache"), ("Tree", "# A tree."), ("", "add(1)")],
            ),
            (
                "text/javascript",
                "export default function add() { return 1; }\nclass Tree {}\nconst x = 1;\n",
                &[
                    ("add", "export default function add() { return 1; }"),
                    ("Tree", "class Tree {}"),
                    ("", "const x = 1;"),
                ],
            ),
            (
                "text/x-typescript",
                "export interface Tree { name: string }\nfunction add(a: number): number { return a; }\n",
                &[
                    ("Tree", "export interface Tree { name: string }"),
                    ("add", "function add(a: number): number { return a; }"),
                ],
            ),
            (
                "text/x-tsx",
                "function A() { return <b>x</b>; }\n",
                &[("A", "function A() { return <b>x</b>; }")],
            ),
            (
                "text/x-go",
                "package a\n\n// Add adds.\nfunc Add() int { return 1 }\n\nfunc (t *Tree) Len() int { return 0 }\n",
                &[
                    ("", "package a"),
                    ("Add", "// Add adds."),
                    ("Len", "func (t *Tree) Len() int { return 0 }"),
                ],
            ),
            (
                "text/x-java",
                "package a;\npublic class Tree {\n  int len() { return 0; }\n}\n",
                &[("", "package a;"), ("Tree", "public class Tree {")],
            ),
            (
                "text/x-c",
                "#include <a.h>\n\nstatic int *add(int a)\n{\n  return 0;\n}\n",
                &[("", "#include <a.h>"), ("add", "static int *add(int a)")],
            ),
        ] {
            assert_eq!(shown(media_type, text), pairs(wanted), "{media_type}");
        }
    }

    #[test]
    fn a_long_class_is_cut_at_its_methods() {
        let body = "        total = total + 1\n".repeat(100);
        let text = format!(
            "class Tree:\n    \"\"\"A tree.\"\"\"\n    def a(self):\n{body}\n    def b(self):\n{body}"
        );
        let wanted =
            [("Tree", "class Tree:"), ("Tree > a", "def a(self):"), ("Tree > b", "def b(self):")];
        assert_eq!(shown("text/x-python", &text), pairs(&wanted));
    }

    #[test]
    fn broken_code_loses_nothing() {
        for text in [
            "fn (((( }",
            "def a(:\n  x\n\nfoo",
            "\u{0}",
            "{".repeat(20_000).as_str(),
            "☂ fn ü() {}",
        ] {
            for media_type in ["text/x-rust", "text/x-python", "text/x-c", "text/x-tsx"] {
                let parsed = parse(text, media_type);
                let mut end = 0;
                for block in &parsed.blocks {
                    assert!(parsed.text[end..block.range.start].trim().is_empty());
                    end = block.range.end;
                }
                assert!(parsed.text[end..].trim().is_empty());
            }
        }
    }
}
