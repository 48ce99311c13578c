//! Why a cell failed, as Jupyter wants it told: a name, a sentence, and the lines shown below the cell.

use ariadne::sources;
use evcxr::{CompilationError, Theme};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use yansi::Paint;

use crate::text;

pub struct Failure {
    pub name: String,
    pub value: String,
    /// Below the line "name: value".
    pub details: Vec<String>,
}

impl Failure {
    fn new(name: &str, value: impl Into<String>) -> Self {
        Failure { name: name.to_string(), value: value.into(), details: Vec::new() }
    }

    /// The content of an `error` message.
    pub fn content(&self) -> Value {
        let title = format!("{}: {}", self.name.as_str().bright_red().bold(), self.value);
        let traceback: Vec<&str> = title.lines().chain(self.details.iter().map(String::as_str)).collect();
        json!({ "ename": self.name, "evalue": self.value, "traceback": traceback })
    }

    /// evcxr's own words, such as for a variable that can't be kept.
    pub fn refused(message: String) -> Self {
        Failure::new("Error", message)
    }

    pub fn compilation(errors: &[CompilationError], code: &str, count: usize) -> Self {
        let Some(first) = errors.first() else {
            return Failure::new("Error", "the cell doesn't compile");
        };
        let name = first.code().unwrap_or("Error");
        Failure {
            details: errors.iter().flat_map(|error| explained(error, code, count)).collect(),
            ..Failure::new(name, first.message())
        }
    }

    /// `said` is what the panic wrote, `generated` the file that evcxr made of the cell.
    pub fn panic(said: &str, code: &str, generated: &str) -> Self {
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked at "));
        let place = lines.next().and_then(|line| line.split_once("panicked at "));
        let place = place.map_or("", |(_, place)| place.trim_end_matches(':'));
        let message: Vec<&str> = lines.take_while(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).collect();
        let message = without_frames(message.join("\n").trim());
        let mut failure = Failure::new("panicked", message);
        failure.details.extend(located(place, code, generated));
        failure
    }

    /// A `?`: evcxr wrote the error's text on standard error.
    pub fn question(said: &str) -> Self {
        let said = without_frames(said.trim());
        Failure::new("Error", if said.is_empty() { "a `?` ended the cell".into() } else { said })
    }

    /// The process for the cells ended.
    pub fn ended(status: Option<i32>, signal: Option<i32>, said: &str, gone: &[String]) -> Self {
        let signal = signal.and_then(|number| Signal::try_from(number).ok());
        let (name, reason) = match (signal, status) {
            (Some(Signal::SIGSEGV), _) => ("Crash", "memory was used that isn't there (SIGSEGV)".into()),
            (Some(Signal::SIGABRT), _) => ("Crash", "the cell aborted its process (SIGABRT)".into()),
            (Some(Signal::SIGKILL), _) => {
                ("Crash", "the cell's process was killed (SIGKILL), most likely because memory ran out".into())
            }
            (Some(signal), _) => ("Crash", format!("a signal ended the cell's process ({signal})")),
            (None, Some(status)) => ("Exit", format!("the cell ended its process with status {status}")),
            (None, None) => ("Crash", "the cell's process ended".to_string()),
        };
        let mut failure = Failure::new(name, format!("{reason}. {}", lost(gone)));
        let said = without_frames(said.trim());
        failure.details.extend(said.lines().take(10).map(String::from));
        failure
    }

    /// `gone` is none when an interrupt ended only a compilation.
    pub fn interrupted(gone: Option<&[String]>) -> Self {
        let value = match gone {
            None => "compiling was stopped; every variable stays".to_string(),
            Some(gone) => format!("nothing in the cell listened, so its process was ended. {}", lost(gone)),
        };
        Failure::new("Interrupted", value)
    }
}

fn lost(gone: &[String]) -> String {
    match gone {
        [] => "No variable was defined; functions, types and dependencies stay.".to_string(),
        [name] => format!("The variable {name} is gone; functions, types and dependencies stay."),
        names => format!("The variables {} are gone; functions, types and dependencies stay.", text::list(names)),
    }
}

fn explained(error: &CompilationError, code: &str, count: usize) -> Vec<String> {
    if !error.is_from_user_code() {
        return error.message().lines().map(String::from).collect();
    }
    let name = format!("cell_{count}");
    let Some(report) = error.build_report(name.clone(), code.to_string(), Theme::Light) else {
        let spans = error.spanned_messages().iter();
        let lines = spans.flat_map(|span| span.lines.iter().chain([&span.label]).cloned());
        return lines.chain(error.help()).collect();
    };
    let mut written = Vec::new();
    let _ = report.write(sources([(name, code)]), &mut written);
    let written = String::from_utf8_lossy(&written);
    written.lines().map(String::from).collect()
}

/// Where it happened: the line of the cell when it can be told, else the file without this machine's folders.
fn located(place: &str, code: &str, generated: &str) -> Option<String> {
    let mut parts = place.rsplitn(3, ':');
    let (_column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
    let number: usize = line.parse().ok()?;
    // evcxr's own package, alone or in the workspace of the warm build.
    if !["src/lib.rs", "ctx/src/lib.rs"].contains(&file) {
        return Some(format!("  at {}:{line}", short(file)));
    }
    // evcxr takes a cell's lines over as they are.
    let text = generated.lines().nth(number.checked_sub(1)?)?.trim();
    let mut equal = (1..).zip(code.lines()).filter(|(_, line)| line.trim() == text);
    match (equal.next(), equal.next()) {
        (Some((number, _)), None) => Some(format!("  at line {number} of the cell: {text}")),
        _ => Some(format!("  at {text}")),
    }
}

/// A source file without the folders that hold crates: `tch-0.24.0/src/tensor/ops.rs`.
fn short(file: &str) -> String {
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, rest)| rest).to_string();
    }
    if let Some((_, rest)) = file.split_once("/library/") {
        return format!("library/{rest}");
    }
    let parts: Vec<&str> = file.rsplitn(4, '/').collect();
    parts.into_iter().take(3).rev().collect::<Vec<_>>().join("/")
}

/// libtorch appends where in its sources an exception was raised, and a stack of addresses.
fn without_frames(text: &str) -> String {
    let end = ["\nException raised from ", "\\nException raised from "].iter().filter_map(|mark| text.find(mark)).min();
    match end {
        None => text.to_string(),
        Some(end) if text.contains("value: Torch(\"") => format!("{}\")", &text[..end]),
        Some(end) => text[..end].to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_the_line_of_the_cell() {
        let said = "\nthread '<unnamed>' (12) panicked at src/lib.rs:3:9:\nindex out of bounds: the len is 0 but the index is 3\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        let generated = "fn x() {\n// made by evcxr\nlet x = v[3];\n}";
        let failure = Failure::panic(said, "let y = 1;\nlet x = v[3];", generated);
        assert_eq!(failure.name, "panicked");
        assert_eq!(failure.value, "index out of bounds: the len is 0 but the index is 3");
        assert_eq!(failure.details, ["  at line 2 of the cell: let x = v[3];"]);
    }

    #[test]
    fn a_panic_in_a_crate_hides_folders_and_frames() {
        let said = "thread 'main' panicked at /home/me/.cargo/registry/src/index.crates.io-1/tch-0.24.0/src/a.rs:7:13:\ncalled `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\\nException raised from meta at /pytorch/a.cpp:7\\nframe #0: 0x1\")\n";
        let failure = Failure::panic(said, "", "");
        assert_eq!(
            failure.value,
            "called `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\")"
        );
        assert_eq!(failure.details, ["  at tch-0.24.0/src/a.rs:7"]);
    }

    #[test]
    fn a_crash_names_the_variables_that_are_gone() {
        let gone = ["data".to_string(), "model".to_string()];
        let failure = Failure::ended(None, Some(11), "", &gone);
        assert_eq!(
            failure.value,
            "memory was used that isn't there (SIGSEGV). The variables data and model are gone; functions, types and dependencies stay."
        );
        assert!(Failure::ended(Some(3), None, "", &[]).value.contains("status 3"));
    }
}
