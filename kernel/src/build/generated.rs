//! The code that evcxr generates around a cell. Before it is compiled, it is made to tell what evcxr drops: the payload
//! of a panic, and the causes of a `?`'s error. It also gets the function that flushes the cell's standard output.

use std::fs;
use std::path::Path;

use super::display;
use crate::cell::flush::FLUSH;
use crate::cell::{PANIC, PANIC_TEXT, QUESTION_TEXT};

/// Types of payloads that are told, besides texts.
const TOLD: [&str; 10] = [
    "&str",
    "String",
    "Box<dyn ::std::error::Error + Send + Sync>",
    "i32",
    "i64",
    "u32",
    "u64",
    "usize",
    "f64",
    "bool",
];

/// Edits evcxr's source file of a cell. Every line stays where it is.
pub fn edit_source(source: &Path) -> std::io::Result<()> {
    let code = fs::read_to_string(source)?;
    // `cargo check` may follow a build of the same source.
    if !code.contains(FLUSH) {
        display::replace(source, &(tell_failures(&code) + &flush()))?;
    }
    Ok(())
}

/// Returns a source as evcxr wrote it, except for its own lines that tell of failures.
pub fn without_flush(source: &str) -> &str {
    source.strip_suffix(&flush()).unwrap_or(source)
}

/// Returns the function that flushes. Its block hides its name from the cell.
fn flush() -> String {
    let body = "{ let _ = ::std::io::Write::flush(&mut ::std::io::stdout()); }";
    format!("\nconst _: () = {{ #[unsafe(no_mangle)] pub extern \"C\" fn {FLUSH}() {body} }};\n")
}

/// Changes evcxr's own lines: the conversion of a `?`'s error, and the end of a panic. If another version of evcxr writes
/// them otherwise, the failure's text is what it writes on standard error.
fn tell_failures(code: &str) -> String {
    let mut edited = code.to_string();
    // anyhow's errors show their causes in the alternate form. Other errors have none.
    for (format, told) in [("{}", "{:#}"), ("{:?}", "{:?}"), ("{:#?}", "{:#?}")] {
        let from = format!("(error: T) -> Self {{\n                    eprintln!(\"{format}\", error);\n");
        let text = format!("format!(\"{told}\", error).replace('\\n', \"\\0\")");
        let to = format!("(error: T) -> Self {{\n                    println!(\"{QUESTION_TEXT}{{}}\", {text});\n");
        edited = edited.replacen(&from, &to, 1);
    }
    let texts = TOLD.map(|told| format!("payload.downcast_ref::<{told}>().map(|it| it.to_string())")).join(", ");
    let tell = format!(
        "for text in [{texts}].into_iter().flatten() {{ println!(\"{PANIC_TEXT}{{}}\", text.replace('\\n', \"\\0\")); }}"
    );
    let marker = format!("\n    println!(\"{PANIC}\");\n");
    for (from, to) in [
        ("  Err(_) => {", format!("  Err(payload) => {{ {tell}")),
        ("}).is_err() {", format!("}}).map_err(|payload| {{ {tell} }}).is_err() {{")),
    ] {
        if let Some(start) = edited.rfind(&format!("{from}{marker}")) {
            edited.replace_range(start..start + from.len(), &to);
        }
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_evcxrs_lines_change_and_stay_where_they_are() {
        let error = "fn from(error: T) -> Self {\n                    eprintln!(\"{}\", error);\n";
        let kept = "if std::panic::catch_unwind(||{\nlet a = f().is_err();\n";
        let code = format!("{error}{kept}}}).is_err() {{\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}");
        let edited = tell_failures(&code);
        assert_eq!(edited.lines().count(), code.lines().count());
        assert!(edited.contains(kept) && edited.contains("VITLAB_QUESTION {}\", format!(\"{:#}\", error)"));
        assert!(edited.contains("}).map_err(|payload| { for text in [payload.downcast_ref::<&str>()"));
        let code = "  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}";
        assert!(tell_failures(code).starts_with("  Ok(_) => {}\n  Err(payload) => { for text in ["));
        let user = "match x {\n  Err(_) => {\n    println!(\"no\");\n}}\neprintln!(\"{}\", error);\n}).is_err() {";
        assert_eq!(tell_failures(user), user);
    }
}
