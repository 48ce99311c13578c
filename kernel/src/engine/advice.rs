//! Adds to an error what the kernel knows and rustc doesn't.

use super::diagnostic::Diagnostic;
use super::earlier::Earlier;
use super::marks::Mark;
use super::source_map::{Place, SourceMap};
use super::syntax::{closure_variable, untyped_variables};

/// Adds advice to an error, or says it in the words of a notebook.
pub fn add(error: &mut Diagnostic, map: &SourceMap, earlier: &Earlier) {
    if replace(error) {
        return;
    }
    let in_cell = error.marks.iter().any(|mark| mark.place.back == 0);
    match error.name.as_str() {
        "E0425" | "E0433" | "E0412" | "Error" if error.message.contains("cannot find") => {
            let name = error.message.split('`').nth(1).unwrap_or_default();
            error.helps.extend(earlier.why_missing(name));
        }
        "E0384" | "E0596" if error.helps.is_empty() => {
            let name = error.message.split('`').nth(1).unwrap_or("x").trim_start_matches('*');
            error.helps.push(format!("make the variable of the earlier cell mutable: `let mut {name} = {name};`"));
        }
        "E0521" if error.marks.is_empty() => explain_missing_type(error, map),
        "E0521" | "E0597" | "E0716" | "E0505" | "E0515" | "E0310" if !in_cell => {
            error.message += ": a variable that is kept for later cells can't borrow from another value";
            error.helps.push(references("the variable"));
        }
        "E0597" | "E0716" | "E0505" if error.in_generated => {
            error.notes.push("a variable that is kept for later cells borrows from the value".into());
            error.helps.push(references("the variable"));
        }
        _ => {}
    }
    // The other marks belong to notes, which may be in any cell.
    let primary: Vec<&Mark> = error.marks.iter().filter(|mark| mark.primary).collect();
    if let Some(mark) = primary.first()
        && primary.iter().all(|mark| mark.place.back > 0)
    {
        let count = map.cell(mark.place.back).count;
        error.notes.push(format!(
            "code of cell [{count}] no longer compiles, because this cell changes a definition that it uses. Define both in this cell"
        ));
    }
}

/// Replaces the text of an error that tells of evcxr's code. Returns whether nothing is to be added.
fn replace(error: &mut Diagnostic) -> bool {
    if let Some((name, _)) = error.message.strip_prefix("The variable `").and_then(|rest| rest.split_once('`'))
        && error.message.contains("non-static lifetime")
    {
        let name = format!("`{name}`");
        error.message =
            format!("the variable {name} borrows from a value, and a reference can't be kept for later cells");
        error.helps.push(references(&name));
        for mark in &mut error.marks {
            mark.label = "borrows from a value".into();
        }
        return true;
    }
    // evcxr names the type of such a variable by the trait alone.
    if error.name == "E0405" && error.marks.is_empty() {
        error.message = "the type of a variable names a trait that isn't imported, such as `Box<dyn Error>`".into();
        error.helps = vec![
            "import the trait: `use std::error::Error;`, `use std::any::Any;`\n\
             or don't keep the value: use it in the same statement, in a block `{ … }` or in a function"
                .into(),
        ];
        return true;
    }
    let converts = error.message.starts_with("`?` couldn't convert the error");
    if error.name == "E0277" && converts && error.message.contains("std::fmt::Display") {
        error.notes.clear();
        error.helps = vec![
            "the error of a cell's `?` is shown with `Display`. Implement it, or add `.map_err(|error| format!(\"{error:?}\"))` before the `?`".into(),
        ];
    }
    let mismatched = error.marks.iter().any(|mark| mark.label.starts_with("mismatched"));
    if error.name == "Error" && error.message.starts_with("mismatched closing delimiter") && !mismatched {
        error.message = "a delimiter isn't closed".into();
    }
    false
}

/// Describes a variable whose type isn't known, for example a closure. If an earlier variable is a `&str`, evcxr reports
/// E0521 in its own code in the place of this error.
pub fn explain_missing_type(error: &mut Diagnostic, map: &SourceMap) {
    let code = &map.cell(0).code;
    error.name = "Error".into();
    let mark = |range| Mark { place: Place { back: 0, range, added: false }, label: String::new(), primary: true };
    if let Some((name, range)) = closure_variable(code) {
        error.message = format!("the variable `{name}` is a closure, and a closure can't be kept for later cells");
        error.marks = vec![mark(range)];
        error.helps.push(format!(
            "write a function, or box the closure: `let {name}: Box<dyn Fn(i32) -> i32> = Box::new(|x| x + 1);`"
        ));
        return;
    }
    error.message = "the type of a variable can't be found".into();
    error.marks = untyped_variables(code).into_iter().map(mark).collect();
    error.helps.push("write the types: `let values: Vec<f32> = …;`".into());
}

fn references(subject: &str) -> String {
    format!(
        "let {subject} own its value: add `.to_string()`, `.to_vec()` or `.clone()`\n\
         or use both values within one block `{{ … }}` or function\n\
         or keep the other value until the kernel ends: `Box::leak(Box::new(value))`, `String::leak(text)`"
    )
}
