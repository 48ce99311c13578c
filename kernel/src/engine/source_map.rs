//! Finds the text of cells in the source that evcxr generates. evcxr copies each statement unchanged, but moves items,
//! also those of earlier cells, to the front, and writes each name of a `use` on a line of its own.

use std::ops::Range;

use ra_ap_syntax::ast::{self, AstNode, HasName, PathSegmentKind};
use ra_ap_syntax::{Edition, SourceFile, SyntaxNode};

use super::rewrite::Rewritten;

/// A cell as the user wrote it, and as evcxr received it.
pub struct CellText {
    /// The number in brackets beside the cell.
    pub count: usize,
    pub code: String,
    pub rewritten: Rewritten,
}

impl CellText {
    /// A cell without edits.
    pub fn unchanged(count: usize, code: &str) -> Self {
        CellText { count, code: code.to_string(), rewritten: Rewritten::new(code, Vec::new()) }
    }
}

/// A range of a cell's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Counts the cells from the present one back, which is 0.
    pub back: usize,
    pub range: Range<usize>,
    /// Whether the text isn't the user's. The range is empty then.
    pub added: bool,
}

/// The source that evcxr generated, and the cells that are parts of it.
pub struct SourceMap<'a> {
    source: &'a str,
    /// The present cell comes first, then the earlier ones, the latest first.
    cells: Vec<&'a CellText>,
    blocks: Vec<Vec<Block>>,
}

/// Lines of the source that stand for a part of a cell's text.
struct Block {
    lines: Range<usize>,
    /// Ranges of the source and of the text. The first one is the whole.
    parts: Vec<(Range<usize>, Range<usize>)>,
    /// Whether the lines are a copy of the text.
    copied: bool,
}

impl<'a> SourceMap<'a> {
    pub fn new(source: &'a str, cell: &'a CellText, earlier: &'a [CellText]) -> Self {
        let cells: Vec<&CellText> = [cell].into_iter().chain(earlier.iter().rev()).collect();
        let blocks =
            cells.iter().enumerate().map(|(back, cell)| blocks(source, &cell.rewritten.text, back == 0)).collect();
        SourceMap { source, cells, blocks }
    }

    pub fn cell(&self, back: usize) -> &'a CellText {
        self.cells[back]
    }

    /// Returns the text of a line, counted from 1.
    pub fn line(&self, number: usize) -> Option<&'a str> {
        self.source.split('\n').nth(number.checked_sub(1)?).map(|line| line.trim_end_matches('\r'))
    }

    /// Returns the offset in the source for a line and a column, which counts characters. Both begin at 1.
    pub fn offset(&self, line: usize, column: usize) -> Option<usize> {
        let text = self.source.split('\n').nth(line.checked_sub(1)?)?;
        let start = text.as_ptr() as usize - self.source.as_ptr() as usize;
        let within = text.char_indices().nth(column.checked_sub(1)?).map_or(text.len(), |(at, _)| at);
        Some(start + within)
    }

    /// Returns the place in a cell for a range of the source.
    pub fn place(&self, range: Range<usize>) -> Option<Place> {
        self.blocks.iter().enumerate().find_map(|(back, blocks)| {
            let block = blocks.iter().find(|block| block.lines.contains(&range.start))?;
            let text = block.text(&range);
            let in_cell = self.cells[back].rewritten.range_in_cell(text.clone());
            Some(Place { back, added: in_cell.is_empty() && !text.is_empty(), range: in_cell })
        })
    }
}

impl Block {
    fn text(&self, range: &Range<usize>) -> Range<usize> {
        let (lines, whole) = &self.parts[0];
        if self.copied {
            let end = range.end.clamp(range.start, lines.end);
            let at = |offset: usize| (whole.start + (offset - lines.start)).min(whole.end);
            return at(range.start)..at(end);
        }
        let touched = self.parts[1..].iter().filter(|(part, _)| part.start < range.end && part.end > range.start);
        // Names in nested braces overlap. The last one counts.
        let join =
            |all: Range<usize>, text: Range<usize>| if text.start == all.end + 2 { all.start..text.end } else { text };
        let all = touched.map(|(_, text)| text.clone()).reduce(join);
        all.unwrap_or_else(|| whole.clone())
    }
}

/// Finds the parts of a text in the source: items, and statements if the text is that of the present cell.
fn blocks(source: &str, text: &str, present: bool) -> Vec<Block> {
    let bodies = ["\npub extern \"C\" fn run_user_code_", "\nasync fn evcxr_analysis_wrapper("];
    let body = bodies.iter().filter_map(|start| source.rfind(start)).max().unwrap_or(source.len());
    let (items, statements): (Vec<_>, Vec<_>) = split(text).into_iter().partition(|it| it.is_item);
    let mut blocks: Vec<Block> = Vec::new();
    let copy = |lines: Range<usize>, text| Block { parts: vec![(lines.clone(), text)], lines, copied: true };
    // If items are equal, the last one belongs to the present cell.
    for item in items.into_iter().rev() {
        let taken = |at: &usize| blocks.iter().any(|block| block.lines.contains(at));
        let found = find_lines(&source[..body], &text[item.text.clone()]).filter(|lines| !taken(&lines.start)).last();
        match found {
            Some(lines) => blocks.push(copy(lines, item.text)),
            None => blocks.extend(item.imports.iter().filter_map(|import| import.find(&source[..body]))),
        }
    }
    let mut start = body;
    for statement in statements.into_iter().filter(|_| present) {
        if let Some(lines) = find_lines(&source[start..], &text[statement.text.clone()]).next() {
            let lines = start + lines.start..start + lines.end;
            start = lines.end;
            blocks.push(copy(lines, statement.text));
        }
    }
    blocks
}

/// Returns the ranges of the source whose whole lines are this text.
fn find_lines<'a>(source: &'a str, text: &str) -> impl Iterator<Item = Range<usize>> + 'a {
    let lines = if text.ends_with('\n') { text.to_string() } else { format!("{text}\n") };
    let mut start = 0;
    std::iter::from_fn(move || {
        loop {
            let found = start + source.get(start..)?.find(&lines)?;
            start = found + source[found..].chars().next().map_or(1, char::len_utf8);
            if found == 0 || source[..found].ends_with('\n') {
                return Some(found..found + lines.len());
            }
        }
    })
}

/// A statement of a text, as evcxr splits it.
struct Statement {
    text: Range<usize>,
    /// Whether evcxr moves it out of the function that it makes of the cell.
    is_item: bool,
    imports: Vec<Import>,
}

/// Splits a text after its commands into statements. The blanks and comments after a statement belong to it.
fn split(text: &str) -> Vec<Statement> {
    const PREFIX: &str = "fn f(){";
    let is_rust = |line: &&str| {
        let is_command = line.trim_start_matches(' ').starts_with(':') || line.starts_with('!');
        !(is_command || line.starts_with("//") || line.trim().is_empty())
    };
    let Some(first) = text.lines().find(is_rust) else { return Vec::new() };
    let start = first.as_ptr() as usize - text.as_ptr() as usize;
    let parsed = SourceFile::parse(&format!("{PREFIX}{}\n}}", &text[start..]), Edition::CURRENT);
    let body = parsed.syntax_node().children().next().and_then(ast::Fn::cast).and_then(|it| it.body());
    let nodes: Vec<SyntaxNode> =
        body.and_then(|it| it.stmt_list()).map_or_else(Vec::new, |list| list.syntax().children().collect());
    let in_text = |node: &SyntaxNode| {
        let range = node.text_range();
        let at = |offset| (start + usize::from(offset) - PREFIX.len()).min(text.len());
        at(range.start())..at(range.end())
    };
    let mut statements = Vec::new();
    let mut begin = start;
    for (index, node) in nodes.iter().enumerate() {
        let end = nodes.get(index + 1).map_or(text.len(), |next| in_text(next).start);
        let mut imports = Vec::new();
        if let Some(tree) = ast::Use::cast(node.clone()).and_then(|it| it.use_tree()) {
            collect_imports(&tree, &[], &in_text, &mut imports);
        }
        let is_item = ast::Item::can_cast(node.kind()) || ast::Attr::can_cast(node.kind());
        statements.push(Statement { text: begin..end, is_item, imports });
        begin = end;
    }
    statements
}

/// A name that a `use` brings: its path in the text, and the name after `as`.
struct Import {
    path: Vec<(String, Range<usize>)>,
    name: Option<(String, Range<usize>)>,
}

impl Import {
    /// Finds the line that evcxr writes for the import.
    fn find(&self, source: &str) -> Option<Block> {
        let names: Vec<&str> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        let mut line = format!("use {}", names.join("::"));
        let mut parts: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        let mut at = "use ".len();
        for (name, text) in &self.path {
            parts.push((at..at + name.len(), text.clone()));
            at += name.len() + "::".len();
        }
        if let Some((name, text)) = &self.name {
            line += " as ";
            parts.push((line.len()..line.len() + name.len(), text.clone()));
            line += name;
        }
        let lines = find_lines(source, &format!("{line};")).last()?;
        for (part, _) in &mut parts {
            *part = lines.start + part.start..lines.start + part.end;
        }
        let whole = parts.first()?.1.start..parts.last()?.1.end;
        parts.insert(0, (lines.clone(), whole));
        Some(Block { lines, parts, copied: false })
    }
}

fn collect_imports(
    tree: &ast::UseTree,
    prefix: &[(String, Range<usize>)],
    in_text: &impl Fn(&SyntaxNode) -> Range<usize>,
    imports: &mut Vec<Import>,
) {
    let mut path = prefix.to_vec();
    if let Some(tree_path) = tree.path() {
        let last = tree_path.segment().and_then(|segment| segment.kind());
        if !prefix.is_empty() && matches!(last, Some(PathSegmentKind::SelfKw)) {
            imports.push(Import { path, name: None });
            return;
        }
        path.extend(tree_path.segments().map(|it| (it.syntax().text().to_string(), in_text(it.syntax()))));
    }
    if let Some(list) = tree.use_tree_list() {
        list.use_trees().for_each(|tree| collect_imports(&tree, &path, in_text, imports));
        return;
    }
    if tree.star_token().is_some() {
        let end = in_text(tree.syntax()).end;
        path.push(("*".to_string(), end - 1..end));
    }
    let name = tree.rename().and_then(|it| it.name());
    imports.push(Import { path, name: name.map(|it| (it.text().to_string(), in_text(it.syntax()))) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Edit;

    fn cell(count: usize, code: &str, edits: Vec<Edit>) -> CellText {
        CellText { count, code: code.into(), rewritten: Rewritten::new(code, edits) }
    }

    #[test]
    fn every_statement_is_found_wherever_evcxr_puts_it() {
        let code = ":dep a = \"1\"\n// é\nv[3];\nv[3];\nfn f() {\n    g()\n}\nlet é = 1; é + 2";
        let at = |text: &str| code.find(text).unwrap();
        let present = cell(4, code, vec![Edit::insert(at("g()"), "check(); "), Edit::insert(at(" = 1"), ": i32")]);
        let earlier = [cell(2, "fn g() {\n    h()\n}", Vec::new()), cell(3, "fn k() {}\nv[3];", Vec::new())];
        let source = "#![allow(a)]\nfn g() {\n    h()\n}\nfn f() {\n    check(); g()\n}\nfn k() {}\n\npub extern \"C\" fn run_user_code_4(\n// é\nv[3];\nlet x = 1;\nv[3];\nlet é: i32 = 1; \n(\né + 2\n).evcxr_display();\n}\n";
        let map = SourceMap::new(source, &present, &earlier);
        let mut copied = 0;
        for (start, character) in source.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            let range = start..start + character.len_utf8();
            let Some(place) = map.place(range.clone()) else { continue };
            let text = &map.cell(place.back).code[place.range.clone()];
            assert!(place.added || text == &source[range.clone()], "{start}: {text:?}");
            copied += usize::from(place.back == 0 && !place.added);
        }
        let rust = &code[code.find('v').unwrap()..];
        assert_eq!(copied, rust.chars().filter(|c| !c.is_whitespace()).count());
        let place = |text: &str, from: usize| {
            let start = from + source[from..].find(text).unwrap();
            map.place(start..start + text.len())
        };
        assert_eq!(place("v[3]", source.find("let x").unwrap()).unwrap().range.start, code.rfind("v[3]").unwrap());
        assert_eq!(place("h()", 0).map(|it| map.cell(it.back).count), Some(2));
        assert_eq!(place("k() {}", 0).map(|it| map.cell(it.back).count), Some(3));
        assert_eq!(place("check", 0), Some(Place { back: 0, range: at("g()")..at("g()"), added: true }));
        assert_eq!(place("evcxr_display", 0), None);
        assert_eq!(place("#![allow", 0), None);
    }

    #[test]
    fn each_name_of_a_use_is_found() {
        let code = "let é = 1; use a::{b::C, d::{self, E as F}, g::*};";
        let present = cell(1, code, Vec::new());
        let source = "use a::b::C;\nuse a::d;\nuse a::d::E as F;\nuse a::g::*;\n\npub extern \"C\" fn run_user_code_1(\nlet é = 1; \n}\n";
        let map = SourceMap::new(source, &present, &[]);
        for (line, part, text) in [
            (1, "C", "C"),
            (1, "b::C", "b::C"),
            (1, "a::b::C", "b::C"),
            (2, "d", "d"),
            (3, "E", "E"),
            (3, "F", "F"),
            (4, "*", "*"),
            (4, "g", "g"),
            (4, "use a::g::*;", "g::*"),
        ] {
            let start = map.offset(line, 1).unwrap();
            let start = start + source[start..].find(part).unwrap();
            let place = map.place(start..start + part.len()).unwrap();
            assert_eq!(&code[place.range], text, "{line} {part}");
        }
    }

    #[test]
    fn an_offset_is_that_of_a_line_and_a_column_in_characters() {
        let source = "é👩‍🔬a\r\n\n\tx";
        let (present, mut at) = (cell(1, "", Vec::new()), 0);
        let map = SourceMap::new(source, &present, &[]);
        for (index, line) in source.split('\n').enumerate() {
            for (column, (start, _)) in line.char_indices().enumerate() {
                assert_eq!(map.offset(index + 1, column + 1), Some(at + start));
            }
            at += line.len() + 1;
        }
        assert_eq!([map.offset(0, 1), map.offset(4, 1), map.offset(1, 0)], [None; 3]);
    }
}
