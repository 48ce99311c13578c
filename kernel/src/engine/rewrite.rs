//! The text that evcxr receives in the place of a cell: the cell with edits. Maps positions in this text back to the cell.

use std::cmp::Reverse;
use std::ops::Range;

/// Replaces a range of the cell's bytes. An empty range inserts. No edit overlaps a part of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    pub range: Range<usize>,
    pub pieces: Vec<Piece>,
}

/// A part of the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text that the cell doesn't contain. It maps to the beginning of its edit.
    Added(String),
    /// A range of the cell's bytes.
    Cell(Range<usize>),
}

impl Edit {
    pub fn insert(at: usize, text: impl Into<String>) -> Self {
        Edit { range: at..at, pieces: vec![Piece::Added(text.into())] }
    }
}

/// A cell after its edits.
pub struct Rewritten {
    pub text: String,
    /// Where each piece begins in the text and in the cell, in the text's order. `true` for a piece of the cell.
    pieces: Vec<(usize, usize, bool)>,
}

impl Rewritten {
    /// Applies edits to a cell. Insertions at the same place keep the order of the list. An edit within
    /// the range of another one is applied to the pieces of the cell that this one contains.
    pub fn new(cell: &str, mut edits: Vec<Edit>) -> Self {
        edits.sort_by_key(|edit| (edit.range.start, !edit.range.is_empty(), Reverse(edit.range.end)));
        let mut rewritten = Rewritten { text: String::with_capacity(cell.len()), pieces: Vec::new() };
        rewritten.write(cell, 0..cell.len(), &edits.iter().collect::<Vec<_>>());
        rewritten
    }

    fn write(&mut self, cell: &str, range: Range<usize>, edits: &[&Edit]) {
        let (mut copied, mut next) = (range.start, 0);
        while let Some(edit) = edits.get(next) {
            next += 1;
            self.copy(cell, copied..edit.range.start);
            copied = edit.range.end;
            let within = edits[next..].iter().take_while(|it| it.range.start < copied).count();
            let within = &edits[next..next + within];
            next += within.len();
            for piece in &edit.pieces {
                match piece {
                    Piece::Added(text) => {
                        self.pieces.push((self.text.len(), edit.range.start, false));
                        self.text += text;
                    }
                    Piece::Cell(range) => {
                        let inner =
                            within.iter().filter(|it| range.start <= it.range.start && it.range.end <= range.end);
                        self.write(cell, range.clone(), &inner.copied().collect::<Vec<_>>());
                    }
                }
            }
        }
        self.copy(cell, copied..range.end);
    }

    fn copy(&mut self, cell: &str, range: Range<usize>) {
        self.pieces.push((self.text.len(), range.start, true));
        self.text += &cell[range];
    }

    /// Returns the offset in the cell for an offset in the text, both in bytes.
    pub fn offset_in_cell(&self, offset: usize) -> usize {
        // Several pieces may begin at the offset. The last one holds the byte after it.
        let after = self.pieces.partition_point(|(start, ..)| *start <= offset);
        let (start, in_cell, copied) = self.pieces[after.saturating_sub(1)];
        if copied { in_cell + (offset - start) } else { in_cell }
    }

    /// Returns the range of the cell that holds all bytes of a range of the text. It is empty for added text alone.
    pub fn range_in_cell(&self, range: Range<usize>) -> Range<usize> {
        let ends = self.pieces.iter().skip(1).map(|(start, ..)| *start).chain([self.text.len()]);
        let parts = self.pieces.iter().zip(ends).filter_map(|(&(start, in_cell, copied), end)| {
            let (from, to) = (range.start.max(start), range.end.min(end));
            (copied && from < to).then(|| in_cell + (from - start)..in_cell + (to - start))
        });
        // A piece may stand before the pieces that precede it in the cell.
        let all = parts.reduce(|all, part| all.start.min(part.start)..all.end.max(part.end));
        all.unwrap_or_else(|| {
            let anchor = self.offset_in_cell(range.start);
            anchor..anchor
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_lead_back_to_the_cell() {
        let cell = "for i in a..b { f(i) }";
        let moved = vec![
            Piece::Added("part in parts(".into()),
            Piece::Cell(9..13),
            Piece::Added(") { for ".into()),
            Piece::Cell(4..5),
            Piece::Added(" in part ".into()),
        ];
        let edits = vec![Edit::insert(cell.len(), " }"), Edit { range: 4..14, pieces: moved }, Edit::insert(0, "§")];
        let rewritten = Rewritten::new(cell, edits);
        assert_eq!(rewritten.text, "§for part in parts(a..b) { for i in part { f(i) } }");
        for (text, offset) in
            [("for part", 0), ("part in", 4), ("a..b", 9), ("..b", 10), ("i in part", 4), ("f(i)", 16)]
        {
            assert_eq!(rewritten.offset_in_cell(rewritten.text.find(text).unwrap()), offset, "{text}");
        }
        assert_eq!(rewritten.offset_in_cell(rewritten.text.len()), cell.len());
    }

    #[test]
    fn an_edit_within_a_moved_piece_moves_with_it() {
        let cell = "for x in f()? { g(x) }";
        let moved = vec![Piece::Cell(9..13), Piece::Added("; for ".into()), Piece::Cell(4..5)];
        let edits = vec![Edit { range: 4..14, pieces: moved }, Edit::insert(12, ".e()"), Edit::insert(9, "&")];
        assert_eq!(Rewritten::new(cell, edits).text, "for &f().e()?; for x{ g(x) }");
    }

    #[test]
    fn a_cell_without_edits_stays_as_it_is() {
        let rewritten = Rewritten::new("let ä = 1;", Vec::new());
        assert_eq!(rewritten.text, "let ä = 1;");
        assert!((0..=rewritten.text.len()).all(|offset| rewritten.offset_in_cell(offset) == offset));
    }

    #[test]
    fn every_offset_and_range_leads_to_the_same_text_in_the_cell() {
        let cell = "let é = 1;\r\nfor i in 0..3 { f(\"👩‍🔬\") }\n\nx";
        let at = |text: &str| cell.find(text).unwrap();
        let edits = vec![
            Edit::insert(at(" = 1"), ": i32"),
            Edit::insert(at("f("), "check();\n"),
            Edit::insert(at("for"), "a!();"),
            Edit::insert(at("for"), "b!();"),
            Edit {
                range: at("0..3")..at(" {"),
                pieces: vec![Piece::Added("g(".into()), Piece::Cell(at("0..3")..at(" {"))],
            },
            Edit::insert(cell.len(), ";"),
        ];
        let rewritten = Rewritten::new(cell, edits);
        let text = &rewritten.text;
        let mut copied = 0;
        for (start, character) in text.char_indices() {
            let end = start + character.len_utf8();
            let range = rewritten.range_in_cell(start..end);
            assert!(range.is_empty() || cell[range.clone()] == text[start..end], "{start}");
            copied += range.len();
            assert_eq!(rewritten.range_in_cell(start..start), rewritten.range_in_cell(start..start).start..range.start);
            for (last, _) in text.char_indices().filter(|(last, _)| *last >= end) {
                let whole = rewritten.range_in_cell(start..last);
                assert!(cell.is_char_boundary(whole.start) && cell.is_char_boundary(whole.end));
                assert!(range.is_empty() || (whole.start <= range.start && whole.end >= range.end));
            }
        }
        assert_eq!(copied, cell.len());
        let inserted = text.find("check").unwrap();
        assert_eq!(rewritten.range_in_cell(inserted..inserted + 5), at("f(")..at("f("));
        assert_eq!(rewritten.range_in_cell(0..text.len()), 0..cell.len());
        assert_eq!(rewritten.range_in_cell(text.len()..text.len()), cell.len()..cell.len());
    }
}
