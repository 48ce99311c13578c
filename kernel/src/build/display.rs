//! The value of a cell's last expression. evcxr calls its `evcxr_display`, and formats it by `Debug` from the first error in
//! the expression on: also after an error that evcxr repairs, such as a `?`, an `.await` or a moved variable. Here, only an
//! error about `evcxr_display` itself leaves the value to `Debug`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use serde_json::Value;

use super::cargo::is_plain;
use super::messages;

/// How evcxr ends the statement that shows a value by its method.
const SHOWN: &str = ").evcxr_display();";
/// How evcxr begins and ends the statement that formats a value, without and with its type.
const FORMATTED: [(&str, &str); 2] =
    [("evcxr_send_text_plain(&format!(", ")));"), ("{ let r = &(", "); evcxr_send_text_plain(&format!(")];
/// Errors about a type that isn't known. They don't name the method that needs it.
const UNKNOWN_TYPE: [&str; 3] = ["E0282", "E0283", "E0284"];
/// File beside the source that exists while the last value has no `evcxr_display`.
const MISSING: &str = "no-display";

/// Runs rustc on a cell's source. Tries `evcxr_display` first where evcxr has given it up without need. Writes rustc's
/// messages on standard error.
pub fn compile(rustc: &mut Command, source: &Path) -> io::Result<ExitCode> {
    if is_plain() {
        return rustc.status().map(|status| exit_code(status.code()));
    }
    let code = fs::read_to_string(source)?;
    let missing = source.with_file_name(MISSING);
    if let Some(shown) = as_shown(&code).filter(|_| !missing.exists()) {
        replace(source, &shown)?;
        let output = run(rustc)?;
        if !is_about_display(&output) {
            return pass_on(&output);
        }
        File::create(&missing)?;
        replace(source, &code)?;
    }
    let output = run(rustc)?;
    if code.lines().any(|line| line == SHOWN) {
        let _ = if is_about_display(&output) { fs::write(&missing, "") } else { fs::remove_file(&missing) };
    }
    pass_on(&output)
}

/// Returns the path of a cell's source in the arguments of the rustc that compiles it.
pub fn source_in(arguments: &[String], folder: &Path) -> Option<PathBuf> {
    Some(folder.join(arguments.iter().find(|argument| argument.ends_with("src/lib.rs"))?))
}

/// Writes a new text of a source. On some systems, evcxr sets a time by which cargo notices the change: it is kept.
pub fn replace(source: &Path, code: &str) -> io::Result<()> {
    let modified = source.metadata()?.modified()?;
    let mut file = File::create(source)?;
    file.write_all(code.as_bytes())?;
    file.set_modified(modified)
}

fn run(rustc: &mut Command) -> io::Result<Output> {
    rustc.stdin(Stdio::inherit()).stdout(Stdio::inherit()).output()
}

fn pass_on(output: &Output) -> io::Result<ExitCode> {
    let messages = messages::for_evcxr(&String::from_utf8_lossy(&output.stderr));
    io::stderr().write_all(messages.as_bytes())?;
    Ok(exit_code(output.status.code()))
}

fn exit_code(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.map_or(101, |code| code as u8))
}

/// Returns evcxr's source with `evcxr_display` for a value that it formats. Every line stays where it is. `None` if evcxr
/// formats no value.
fn as_shown(code: &str) -> Option<String> {
    let mut lines: Vec<&str> = code.split('\n').collect();
    let (first, last) = FORMATTED.into_iter().find_map(|(begin, end)| {
        let last = lines.iter().rposition(|line| line.starts_with(end))?;
        let first = lines[..last].iter().rposition(|line| line.starts_with(begin) && line.ends_with("&("))?;
        Some((first, last))
    })?;
    (lines[first], lines[last]) = ("(", SHOWN);
    Some(lines.join("\n"))
}

/// Returns whether the method is the reason why a cell doesn't compile.
fn is_about_display(output: &Output) -> bool {
    let messages = str::from_utf8(&output.stderr).unwrap_or_default().lines();
    !output.status.success() && messages.filter_map(|line| serde_json::from_str(line).ok()).any(|it| needs_display(&it))
}

fn needs_display(message: &Value) -> bool {
    let text = message["message"].as_str().unwrap_or_default();
    let code = message["code"]["code"].as_str().unwrap_or_default();
    let spans = message["spans"].as_array().into_iter().flatten().filter(|span| span["is_primary"] == true);
    let mut lines = spans.flat_map(|span| span["text"].as_array().into_iter().flatten());
    message["level"] == "error"
        && (text.contains("evcxr_display") || UNKNOWN_TYPE.contains(&code) || lines.any(|line| line["text"] == SHOWN))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_formatted_value_is_shown_on_the_same_lines() {
        let before = "fn evcxr_send_text_plain(text: &str) { }\n";
        let after = "evcxr_variable_store.put_variable::<S>(stringify!(s), s);\n}";
        let shown = format!("{before}(\n(s\n    .figure()?)\n).evcxr_display();\n{after}");
        for (begin, end) in [
            ("evcxr_send_text_plain(&format!(\"{:?}\",&(", ")));"),
            ("evcxr_send_text_plain(&format!(\"{:#?}\",&(", ")));"),
            ("{ let r = &(", "); evcxr_send_text_plain(&format!(\": {} = {:?}\", evcxr_get_type_name(r), r)); };"),
        ] {
            let code = format!("{before}{begin}\n(s\n    .figure()?)\n{end}\n{after}");
            assert_eq!(as_shown(&code), Some(shown.clone()));
        }
        assert_eq!(as_shown(&shown), None);
        assert_eq!(as_shown("let a = 1;\n"), None);
    }

    #[test]
    fn only_errors_about_the_method_leave_the_value_to_debug() {
        let message = |code: &str, text: &str, line: &str| {
            let spans = json!([{ "is_primary": true, "text": [{ "text": line }] }]);
            json!({ "level": "error", "message": text, "code": { "code": code }, "spans": spans })
        };
        for (code, text, line) in [
            ("E0599", "no method named `evcxr_display` found for type `i32` in the current scope", SHOWN),
            ("E0689", "can't call method `evcxr_display` on ambiguous numeric type `{integer}`", "5"),
            ("E0034", "multiple applicable items in scope", SHOWN),
            ("E0282", "type annotations needed", "\"5\".parse().unwrap()"),
        ] {
            assert!(needs_display(&message(code, text, line)), "{text}");
        }
        for (code, text, line) in [
            ("E0277", "the `?` operator can only be used in a closure", "s.figure()?"),
            ("E0382", "use of moved value: `s`", "evcxr_variable_store.put_variable::<S>(stringify!(s), s);"),
            ("E0728", "`await` is only allowed inside `async` functions and blocks", "s.figure().await"),
            ("E0599", "no method named `figures` found for struct `S` in the current scope", "s.figures()"),
        ] {
            assert!(!needs_display(&message(code, text, line)), "{text}");
        }
        let mut warning = message("", "unused `evcxr_display`", SHOWN);
        warning["level"] = "warning".into();
        assert!(!needs_display(&warning));
    }
}
