//! Requests that are answered without evcxr.

use ra_ap_syntax::{Edition, SourceFile, SyntaxKind};
use serde_json::{Value, json};

pub fn kernel_info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": env!("CARGO_PKG_NAME"),
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "Rust",
            "version": "",
            "mimetype": "text/rust",
            "file_extension": ".rs",
            "pygments_lexer": "rust",
            "codemirror_mode": "rust",
        },
        "banner": "Rust on evcxr 0.22",
        "help_links": [
            { "text": "Rust's standard library", "url": "https://doc.rust-lang.org/stable/std/" },
        ],
        "debugger": false,
    })
}

/// Whether a cell can be run as it is, needs more lines, or is wrong whatever follows.
pub fn is_complete(code: &str) -> Value {
    // evcxr's commands are lines of their own.
    let rust: Vec<&str> = code.lines().filter(|line| !line.starts_with([':', '!'])).collect();
    let rust = rust.join("\n");
    const BEFORE: &str = "fn cell() {\n";
    let parsed = SourceFile::parse(&format!("{BEFORE}{rust}\n}}"), Edition::Edition2024);
    let tokens = parsed.syntax_node().descendants_with_tokens();
    let mut depth = 0;
    for kind in tokens.filter_map(|element| element.into_token().map(|token| token.kind())) {
        match kind {
            SyntaxKind::L_CURLY | SyntaxKind::L_PAREN | SyntaxKind::L_BRACK => depth += 1,
            SyntaxKind::R_CURLY | SyntaxKind::R_PAREN | SyntaxKind::R_BRACK => depth -= 1,
            _ => {}
        }
    }
    let end = BEFORE.len() + rust.trim_end().len();
    let errors = parsed.errors();
    // An open string or comment swallows the brace that ends the cell.
    if depth > 0 {
        let last = rust.lines().next_back().unwrap_or_default();
        let mut indent: String = last.chars().take_while(|c| c.is_whitespace()).collect();
        if last.trim_end().ends_with(['{', '(', '[']) {
            indent += "    ";
        }
        return json!({ "status": "incomplete", "indent": indent });
    }
    let ends_early = |error: &ra_ap_syntax::SyntaxError| usize::from(error.range().start()) >= end;
    match &errors[..] {
        [] => json!({ "status": "complete" }),
        errors if depth == 0 && errors.iter().all(ends_early) => {
            json!({ "status": "incomplete", "indent": "" })
        }
        _ => json!({ "status": "invalid" }),
    }
}

/// The number in brackets, the cell and the text of its result.
type Entry = (usize, String, Option<String>);

/// What was run.
#[derive(Default)]
pub struct History(Vec<Entry>);

/// Jupyter numbers sessions; a kernel remembers its own only, for which 0 stands, too.
const SESSION: i64 = 1;

impl History {
    pub fn add(&mut self, count: usize, code: &str, result: Option<String>) {
        self.0.push((count, code.to_string(), result));
    }

    pub fn reply(&self, request: &Value) -> Value {
        let number = |name: &str| request[name].as_i64();
        let entries: Vec<&Entry> = match request["hist_access_type"].as_str() {
            Some("range") => {
                let here = matches!(number("session"), None | Some(0 | SESSION));
                let start = number("start").unwrap_or(0);
                let stop = number("stop").unwrap_or(i64::MAX);
                let within = |count: usize| (start..stop).contains(&(count as i64));
                let entries = self.0.iter().filter(|entry| here && within(entry.0));
                entries.collect()
            }
            Some("search") => {
                let pattern = request["pattern"].as_str().unwrap_or("*");
                let found = self.0.iter().filter(|entry| matches(pattern, &entry.1));
                let mut found: Vec<_> = found.collect();
                if request["unique"] == true {
                    let all = found.clone();
                    let mut number = 0..;
                    // The last of those that are equal.
                    found.retain(|entry| {
                        let next = number.next().expect("endless") + 1;
                        !all[next..].iter().any(|later| later.1 == entry.1)
                    });
                }
                found
            }
            _ => self.0.iter().collect(),
        };
        let skipped = match number("n") {
            Some(n) if n > 0 => entries.len().saturating_sub(n as usize),
            _ => 0,
        };
        let entry = |(count, code, result): &Entry| {
            if request["output"] == true {
                json!([SESSION, count, [code, result]])
            } else {
                json!([SESSION, count, code])
            }
        };
        let entries: Vec<Value> = entries[skipped..].iter().copied().map(entry).collect();
        json!({ "status": "ok", "history": entries })
    }
}

/// As in a shell: `*` stands for any text, `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            matches(rest, text) || text.char_indices().any(|(at, c)| matches(rest, &text[at + c.len_utf8()..]))
        }
        Some(wanted) => text.chars().next().is_some_and(|found| {
            (wanted == '?' || wanted == found) && matches(&pattern[wanted.len_utf8()..], &text[found.len_utf8()..])
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_braces_strings_and_comments_are_incomplete() {
        let status = |code: &str| is_complete(code)["status"].as_str().unwrap().to_string();
        for code in [
            "1 + 1",
            "let x = 1;",
            "fn f() {}\nf();",
            ":dep vitlab = { path = \"../crate\" }\nuse vitlab::Error;",
            "for i in 0..3 {\n    println!(\"{i} {{\");\n}",
            "",
            "// a comment",
            "let c = '{';",
        ] {
            assert_eq!(status(code), "complete", "{code}");
        }
        for code in ["fn f() {", "let v = vec![1,", "println!(\"a", "/* a", "let x =", "for i in 0..3 {\n    f(i);"] {
            assert_eq!(status(code), "incomplete", "{code}");
        }
        for code in ["let x = );", "}", "let = 3;", "fn f() }"] {
            assert_eq!(status(code), "invalid", "{code}");
        }
        assert_eq!(is_complete("    if x {")["indent"], "        ");
    }

    #[test]
    fn history_is_searched_and_cut() {
        let mut history = History::default();
        for (count, code) in ["1 + 1", "f()", "1 + 1"].into_iter().enumerate() {
            history.add(count + 1, code, Some("2".into()));
        }
        let found = |request: Value| history.reply(&request)["history"].clone();
        assert_eq!(
            found(json!({ "hist_access_type": "tail", "n": 2, "output": true })),
            json!([[1, 2, ["f()", "2"]], [1, 3, ["1 + 1", "2"]]])
        );
        let search = json!({ "hist_access_type": "search", "pattern": "1 ?*1", "unique": true });
        assert_eq!(found(search), json!([[1, 3, "1 + 1"]]));
        let range = json!({ "hist_access_type": "range", "session": 0, "start": 1, "stop": 2 });
        assert_eq!(found(range), json!([[1, 1, "1 + 1"]]));
    }
}
