//! Why a variable can't be kept for later cells: its type can't be written in a cell.

use ra_ap_syntax::{Edition, SourceFile, SyntaxKind};

/// Why a closure can't be kept.
const CLOSURE: &str = "is a closure, whose type has no name";

/// Returns why a type can't be written in a cell.
pub fn reason(ty: &str) -> Option<&'static str> {
    if ty.contains("{closure@") {
        return Some(if ty.starts_with("{closure@") { CLOSURE } else { "contains a closure, whose type has no name" });
    }
    if ty.contains("{async ") || ty.contains("{coroutine") {
        return Some("is a future of an `async` block, whose type has no name");
    }
    if ty.split(|c: char| "<>(), ".contains(c)).any(|it| it == "!") {
        return Some("contains the type `!` of code that never returns, which has no stable name");
    }
    let words = |word: &str| ty.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == word);
    if words("impl") {
        return Some("has a type that is known only by its trait");
    }
    let parsed = SourceFile::parse(&format!("const _: {ty} = x;"), Edition::CURRENT);
    let is_incomplete = |node: ra_ap_syntax::SyntaxNode| node.kind() == SyntaxKind::INFER_TYPE;
    if parsed.syntax_node().descendants().any(is_incomplete) {
        return Some("has a type that nothing in the cell decides; write it, or use the variable in this cell");
    }
    (!parsed.errors().is_empty()).then_some("has a type that can't be written in a cell")
}

/// Describes a variable that can't be kept, and the remedies.
pub fn message(name: &str, ty: &str, reason: &str) -> String {
    let ty = without_places(ty);
    let block = "put the code that uses it into a block `{ … }` or into a function";
    let remedies = if reason.contains("decides") {
        format!("Example: `let {name}: Vec<i32> = …;`")
    } else if reason == CLOSURE {
        format!(
            "Write a function instead; box the closure, as in `let {name}: Box<dyn Fn(i32) -> i32> = Box::new(…);`; or {block}."
        )
    } else if ty.contains("Iterator") || ty.contains("iter::") {
        format!(
            "Collect it into a `Vec`; box it, as in `let {name}: Box<dyn Iterator<Item = i32>> = Box::new(…);`; or {block}."
        )
    } else {
        format!("Box it, as in `let {name}: Box<dyn Trait> = Box::new(…);`; or {block}.")
    };
    let ty = if ty.starts_with('{') { String::new() } else { format!(" (`{ty}`)") };
    format!("the variable `{name}` can't be kept for later cells: it {reason}{ty}. {remedies}")
}

/// Removes the places of closures in generated code from a type.
fn without_places(ty: &str) -> String {
    let mut parts = ty.split('@');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| text + part.find('}').map_or(part, |end| &part[end..]))
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_type_without_a_name_is_explained() {
        for (ty, reason) in [
            ("{closure@src/probe.rs:1:2: 3:4}", "it is a closure, whose type has no name. Write"),
            (
                "std::iter::Map<std::ops::Range<i32>, {closure@a.rs:1:2: 3:4}>",
                "contains a closure, whose type has no name (`std::iter::Map<std::ops::Range<i32>, {closure}>`). Collect",
            ),
            ("impl std::iter::Iterator<Item = i32>", "is known only by its trait"),
            ("std::vec::Vec<_>", "nothing in the cell decides"),
        ] {
            let text = message("v", ty, super::reason(ty).unwrap());
            assert!(text.contains(reason), "{text}");
        }
        for ty in [
            "std::vec::Vec<f32>",
            "[f64; 3]",
            "std::str::Chars<'_>",
            "std::boxed::Box<dyn for<'a> std::ops::Fn(&'a str) -> usize>",
        ] {
            assert_eq!(super::reason(ty), None, "{ty}");
        }
    }
}
