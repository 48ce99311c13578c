//! The text that evcxr receives in the place of a cell: the cell with edits. Maps positions in this text back to the cell.

use std::ops::Range;

/// Replaces a range of the cell's bytes. An empty range inserts. The edits of a cell don't overlap.
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
    /// Applies edits to a cell. Of two insertions at the same place, the first in the list comes first.
    pub fn new(cell: &str, mut edits: Vec<Edit>) -> Self {
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let mut rewritten = Rewritten { text: String::with_capacity(cell.len()), pieces: Vec::new() };
        let mut copied = 0;
        for edit in edits {
            rewritten.copy(cell, copied..edit.range.start);
            for piece in edit.pieces {
                match piece {
                    Piece::Added(text) => {
                        rewritten.pieces.push((rewritten.text.len(), edit.range.start, false));
                        rewritten.text += &text;
                    }
                    Piece::Cell(range) => rewritten.copy(cell, range),
                }
            }
            copied = edit.range.end;
        }
        rewritten.copy(cell, copied..cell.len());
        rewritten
    }

    fn copy(&mut self, cell: &str, range: Range<usize>) {
        self.pieces.push((self.text.len(), range.start, true));
        self.text += &cell[range];
    }

    /// Returns the offset in the cell for an offset in the text, both in bytes.
    pub fn offset_in_cell(&self, offset: usize) -> usize {
        // Of several pieces that begin at the offset, the last one holds the byte after it.
        let after = self.pieces.partition_point(|(start, ..)| *start <= offset);
        let (start, in_cell, copied) = self.pieces[after.saturating_sub(1)];
        if copied { in_cell + (offset - start) } else { in_cell }
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
    fn a_cell_without_edits_stays_as_it_is() {
        let rewritten = Rewritten::new("let ä = 1;", Vec::new());
        assert_eq!(rewritten.text, "let ä = 1;");
        assert!((0..=rewritten.text.len()).all(|offset| rewritten.offset_in_cell(offset) == offset));
    }
}
