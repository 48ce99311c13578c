//! Remembers the cells that ran, for errors in their functions, and why variables are gone.

use std::collections::HashMap;

use super::source_map::CellText;
use super::syntax::defined_names;

/// The earlier cells of a kernel.
#[derive(Default)]
pub struct Earlier {
    /// The cells that compiled. evcxr keeps their items.
    pub cells: Vec<CellText>,
    /// Names that no longer exist, or never did, with the number of the cell that is the reason.
    gone: HashMap<String, (usize, Reason)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Reason {
    Moved,
    /// The type of the variable has another definition now.
    Redefined,
    ProcessEnded,
    /// The cell that defines the name didn't compile.
    NotCompiled,
    /// The cell that defines the variable failed before its end.
    Stopped,
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Done,
    NotCompiled,
    /// A panic, a `?` or an interrupt stopped the cell.
    Stopped,
    ProcessEnded,
}

impl Earlier {
    /// Adds a cell. `before` and `after` are the variables that existed before and after it.
    pub fn add(&mut self, cell: CellText, outcome: Outcome, before: &[String], after: &[String]) {
        if cell.code.lines().any(|line| line.trim() == ":clear") && outcome == Outcome::Done {
            *self = Earlier::default();
        }
        let (variables, items) = defined_names(&cell.code);
        let failed = if outcome == Outcome::NotCompiled { Reason::NotCompiled } else { Reason::Stopped };
        if outcome != Outcome::Done {
            let lost_items = items.iter().filter(|_| outcome == Outcome::NotCompiled);
            let lost = variables.iter().chain(lost_items).filter(|name| !after.contains(name));
            for name in lost.filter(|name| !before.contains(name)) {
                self.gone.insert(name.clone(), (cell.count, failed));
            }
        }
        for name in before.iter().filter(|name| !after.contains(name)) {
            let reason = match outcome {
                Outcome::ProcessEnded => Reason::ProcessEnded,
                _ if mentions(&cell.code, name) => Reason::Moved,
                _ => Reason::Redefined,
            };
            self.gone.insert(name.clone(), (cell.count, reason));
        }
        let kept = |name: &String| after.contains(name) || (outcome != Outcome::NotCompiled && items.contains(name));
        self.gone.retain(|name, _| !kept(name));
        if outcome != Outcome::NotCompiled {
            self.cells.push(cell);
        }
    }

    /// Tells why a name doesn't exist although the user may expect it, and what to do.
    pub fn why_missing(&self, name: &str) -> Option<String> {
        let (count, reason) = self.gone.get(name)?;
        Some(match reason {
            Reason::Moved => format!(
                "cell [{count}] moved `{name}`, so it doesn't exist any more.\nRun the cell that defines it again, and pass `&{name}` or `{name}.clone()` in cell [{count}]"
            ),
            Reason::Redefined => format!(
                "the type of `{name}` was defined again in cell [{count}], so its value is lost.\nRun the cell that defines `{name}` again"
            ),
            Reason::ProcessEnded => {
                format!("`{name}` was lost when cell [{count}] ended its process. Run the cell that defines it again")
            }
            Reason::NotCompiled => {
                format!("cell [{count}] defines `{name}`, but doesn't compile. Correct and run it first")
            }
            Reason::Stopped => {
                format!("cell [{count}] defines `{name}`, but failed before its end, so the variable wasn't kept")
            }
        })
    }
}

/// Returns whether a text contains a name as a whole word.
pub fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    fn cell(count: usize, code: &str) -> CellText {
        CellText { count, code: code.into(), rewritten: Rewritten::new(code, Vec::new()) }
    }

    #[test]
    fn a_missing_name_has_a_reason() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut earlier = Earlier::default();
        earlier.add(cell(1, "let a = f(); let p = P {}; let c = 1;"), Outcome::Done, &[], &names(&["a", "p", "c"]));
        earlier.add(cell(2, "drop(a)"), Outcome::Done, &names(&["a", "p", "c"]), &names(&["p", "c"]));
        earlier.add(cell(3, "struct P { x: i32 }"), Outcome::Done, &names(&["p", "c"]), &names(&["c"]));
        earlier.add(cell(4, "let (d, ref e) = g();\nfn h() {}"), Outcome::NotCompiled, &names(&["c"]), &names(&["c"]));
        earlier.add(cell(5, "let k = 1; panic!()\nfn m() {}"), Outcome::Stopped, &names(&["c"]), &names(&["c"]));
        earlier.add(cell(6, "std::process::exit(1)"), Outcome::ProcessEnded, &names(&["c"]), &[]);
        for (name, part) in [
            ("a", "cell [2] moved `a`"),
            ("p", "defined again in cell [3]"),
            ("d", "cell [4] defines `d`, but doesn't compile"),
            ("e", "cell [4]"),
            ("h", "cell [4] defines `h`"),
            ("k", "cell [5] defines `k`, but failed"),
            ("c", "cell [6] ended its process"),
        ] {
            assert!(earlier.why_missing(name).is_some_and(|why| why.contains(part)), "{name}");
        }
        assert_eq!(earlier.why_missing("m"), None);
        assert_eq!(earlier.cells.iter().map(|cell| cell.count).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        earlier.add(cell(7, "let a = 2;"), Outcome::Done, &[], &names(&["a"]));
        assert_eq!(earlier.why_missing("a"), None);
    }
}
