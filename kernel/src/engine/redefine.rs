//! Makes a cell replace the unnamed items of earlier cells.
//!
//! evcxr replaces an item by its name. It keeps an item without a name for ever, or until the named item before it in
//! the same cell is defined again. So each unnamed item gets a placeholder before it: a struct whose name is its own. A
//! later cell replaces the item by repeating the placeholder.

use std::collections::HashSet;
use std::ops::Range;

use evcxr::CompilationError;
use ra_ap_syntax::ast::AstNode;
use serde_json::Value;

use super::rewrite::Edit;
use super::syntax;
use super::unnamed::{UnnamedItem, name, tokens};

/// Begins the names of placeholders.
pub const PLACEHOLDER: &str = "VitlabImpl";
/// rustc's errors about two definitions of which one must go.
const CONFLICTS: [&str; 4] = ["E0119", "E0428", "E0592", "E0751"];

/// The unnamed items that cells have defined, with the numbers of their placeholders.
#[derive(Clone, Default)]
pub struct UnnamedItems {
    items: Vec<(u64, UnnamedItem)>,
    last_number: u64,
}

/// Changes that a cell makes to the items without a name.
pub struct Plan {
    pub edits: Vec<Edit>,
    /// The items after the cell has succeeded.
    pub after: UnnamedItems,
    /// The placeholders of the cell's own items.
    own: HashSet<u64>,
    /// Whether the cell defines an item that has a name.
    defines: bool,
}

/// An item of an earlier cell that doesn't compile together with the present cell.
pub struct Outdated {
    number: u64,
    head: String,
    /// Whether the cell defines the same in another way.
    pub conflicts: bool,
}

impl Outdated {
    /// Returns the sentence that tells the user of the removal.
    pub fn sentence(&self) -> String {
        let head = &self.head;
        match self.conflicts {
            true => format!("`{head}` of an earlier cell conflicts with this cell, which replaces it.\n"),
            false => format!(
                "`{head}` of an earlier cell doesn't compile with this cell's definitions and was removed. Run its cell again.\n"
            ),
        }
    }
}

impl UnnamedItems {
    /// Forgets the items whose placeholders aren't among these names.
    pub fn retain(&mut self, names: &HashSet<&str>) {
        self.items.retain(|(number, _)| names.contains(placeholder(*number).as_str()));
    }

    /// Plans how a cell's items replace earlier ones. The outdated items are removed, too.
    pub fn plan(&self, code: &str, outdated: &[Outdated]) -> Plan {
        let items = syntax::items(code);
        let defined: HashSet<String> = items.iter().filter_map(name).collect();
        let new: Vec<(usize, UnnamedItem)> = items
            .iter()
            .filter_map(|item| {
                let start = tokens(item.syntax()).first()?.text_range().start();
                Some((syntax::offset_in_cell(start), UnnamedItem::new(item, &defined)?))
            })
            .collect();
        let mut after = UnnamedItems { items: Vec::new(), last_number: self.last_number };
        let mut replaced: Vec<(u64, &str)> = Vec::new();
        // The text that changes and removes earlier items.
        let mut changes = String::new();
        for (number, old) in &self.items {
            let is_outdated = outdated.iter().any(|it| it.number == *number);
            let loses_owner = old.owner.as_ref().is_some_and(|owner| defined.contains(owner));
            match old.beside(new.iter().map(|(_, item)| item)).filter(|_| !is_outdated && !loses_owner) {
                None => replaced.push((*number, &old.key)),
                Some(rest) if rest.has_as_many_members_as(old) => after.items.push((*number, rest)),
                Some(mut rest) => {
                    let text = rest.text();
                    changes += &format!(" struct {}; {text}", placeholder(*number));
                    rest.lines = text.lines().count();
                    after.items.push((*number, rest));
                }
            }
        }
        let (mut edits, mut own) = (Vec::new(), HashSet::new());
        for (start, item) in new {
            let number = match replaced.iter().position(|(_, key)| *key == item.key) {
                Some(index) => replaced.remove(index).0,
                None => after.next_number(),
            };
            edits.push(Edit::insert(start, format!("struct {}; ", placeholder(number))));
            own.insert(number);
            after.items.push((number, item));
        }
        changes.extend(replaced.iter().map(|(number, _)| format!(" struct {};", placeholder(*number))));
        // After an item, because comments and attributes before it belong to it.
        if let Some(first) = items.first().filter(|_| !changes.is_empty()) {
            edits.push(Edit::insert(syntax::offset_in_cell(first.syntax().text_range().end()), changes));
        }
        Plan { edits, after, own, defines: !defined.is_empty() }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Plan {
    /// Returns the earlier items that keep a cell from compiling: those that define the same as the cell, and those that
    /// don't compile with its definitions. `source` is the file that rustc read.
    pub fn outdated(&self, errors: &[CompilationError], source: &str) -> Vec<Outdated> {
        let earlier = self.lines_of_earlier_items(source);
        let mut found: Vec<Outdated> = Vec::new();
        for error in errors.iter().filter(|error| error.level() == "error") {
            let conflicts = error.code().is_some_and(|code| CONFLICTS.contains(&code));
            let spans = error.json["spans"].as_array().map_or(&[][..], Vec::as_slice);
            let spans = spans.iter().filter(|span| conflicts || span["is_primary"] == true);
            let places: Vec<_> = spans.map(|span| item_at(&earlier, span)).collect();
            if !conflicts && (!self.defines || places.iter().any(Option::is_none)) {
                continue;
            }
            for (number, item) in places.into_iter().flatten() {
                if found.iter().all(|it| it.number != *number) {
                    found.push(Outdated { number: *number, head: item.head.clone(), conflicts });
                }
            }
        }
        found
    }

    /// Returns the lines of the earlier items in the file that rustc read, counted from 1.
    fn lines_of_earlier_items(&self, source: &str) -> Vec<(Range<usize>, &(u64, UnnamedItem))> {
        let placeholders = (1..).zip(source.lines()).filter_map(|(line, text)| {
            let number = text.trim().strip_prefix("struct ")?.strip_prefix(PLACEHOLDER)?.strip_suffix(';')?;
            Some((line, number.parse::<u64>().ok()?))
        });
        let earlier = placeholders.filter(|(_, number)| !self.own.contains(number));
        earlier
            .filter_map(|(line, number)| {
                let item = self.after.items.iter().find(|(other, _)| *other == number)?;
                Some((line + 1..line + 1 + item.1.lines, item))
            })
            .collect()
    }
}

fn placeholder(number: u64) -> String {
    format!("{PLACEHOLDER}{number}")
}

fn item_at<'a>(earlier: &[(Range<usize>, &'a (u64, UnnamedItem))], span: &Value) -> Option<&'a (u64, UnnamedItem)> {
    let line = span["line_start"].as_u64()? as usize;
    let in_cell = span["file_name"].as_str()?.ends_with("lib.rs");
    earlier.iter().find(|(lines, _)| in_cell && lines.contains(&line)).map(|(_, item)| *item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    /// Runs cells. Returns the text of each after its edits.
    fn run<const N: usize>(cells: [&str; N]) -> [String; N] {
        let mut items = UnnamedItems::default();
        cells.map(|cell| {
            let plan = items.plan(cell, &[]);
            items = plan.after;
            Rewritten::new(cell, plan.edits).text
        })
    }

    #[test]
    fn the_same_implementation_replaces_the_earlier_one() {
        for (first, second) in [
            ("impl A { fn f() {} }", "impl A { fn f() { 1 } }"),
            ("impl<T: Copy> A<T> { fn f() {} }", "impl<U> A<U> where U: Clone { fn f() {} }"),
            ("impl Display for A { }", "impl  Display for\n A { fn fmt() {} }"),
            ("impl<'a> From<&'a str> for A {}", "impl<'b> From<&'b str> for A {}"),
            ("unsafe extern \"C\" { fn abs(); }", "unsafe extern \"C\" { safe fn abs(); }"),
            ("const _: () = assert!(X);", "const _ : () = assert!(X);"),
        ] {
            let [one, two, three] = run([first, second, first]);
            assert_eq!(one, format!("struct VitlabImpl1; {first}"));
            assert_eq!(two, format!("struct VitlabImpl1; {second}"));
            assert!(three.starts_with("struct VitlabImpl1; "), "{three}");
        }
    }

    #[test]
    fn other_implementations_stay() {
        for second in [
            "impl From<u8> for A {}",
            "impl From<i32> for B {}",
            "impl A { fn g() {} }",
            "impl b::From<i32> for A {}",
            "impl<T> From<T> for A {}",
            "f();",
        ] {
            let [_, _, two] = run(["impl From<i32> for A {}", "impl A { fn f() {} }", second]);
            assert!(!two.contains("VitlabImpl1") && !two.contains("VitlabImpl2"), "{two}");
        }
    }

    #[test]
    fn a_method_alone_is_replaced() {
        let [_, second, third, fourth] = run([
            "impl A {\n    // One.\n    fn f() {}\n    fn g() { 1 }\n}",
            "impl A { fn f() { 2 } }\nlet x = 1;",
            "impl A { fn g() { 3 } fn f() { 3 } }",
            "impl A { fn g() { 4 } }",
        ]);
        assert_eq!(
            second,
            "struct VitlabImpl2; impl A { fn f() { 2 } } struct VitlabImpl1; impl A { fn g() { 1 } }\nlet x = 1;"
        );
        assert_eq!(third, "struct VitlabImpl1; impl A { fn g() { 3 } fn f() { 3 } } struct VitlabImpl2;");
        assert_eq!(fourth, "struct VitlabImpl3; impl A { fn g() { 4 } } struct VitlabImpl1; impl A { fn f() { 3 } }");
    }

    #[test]
    fn an_implementation_beside_its_type_goes_with_it() {
        let first = "struct B;\n/// Text.\n#[derive(Debug)]\nstruct A;\nimpl A { fn f() {} }\nimpl Display for A {}";
        let [one, two, three, ..] = run([first, "impl Display for A {}", "/// Text.\nstruct A;\nA", first]);
        assert!(one.contains("\nstruct VitlabImpl1; impl A") && one.contains("\nstruct VitlabImpl2; impl Display"));
        assert_eq!(two, "struct VitlabImpl2; impl Display for A {}");
        // The implementation in a cell of its own stays.
        assert_eq!(three, "/// Text.\nstruct A; struct VitlabImpl1;\nA");
        let [_, two] = run([first, "struct B;"]);
        assert_eq!(two, "struct B;");
    }

    #[test]
    fn commands_comments_and_attributes_keep_their_places() {
        let cell = "// Why.\n:dep a = \"1\"\n// Text.\n#[cfg(test)] impl A {}";
        assert_eq!(run([cell]), ["// Why.\n:dep a = \"1\"\n// Text.\nstruct VitlabImpl1; #[cfg(test)] impl A {}"]);
    }
}
