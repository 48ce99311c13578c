//! Answers `history_request` from the cells of this session.

use std::collections::HashSet;

use serde_json::{Value, json};
use wildmatch::WildMatch;

/// Execution count, code and text of the result.
type Entry = (usize, String, Option<String>);

/// The cells that ran in this session.
#[derive(Default)]
pub struct History(Vec<Entry>);

/// The session's number. A kernel knows only its own session, which clients also call 0.
const SESSION: i64 = 1;

impl History {
    pub fn add(&mut self, count: usize, code: &str, result: Option<String>) {
        self.0.push((count, code.to_string(), result));
    }

    /// Returns the content of a `history_reply`.
    pub fn reply(&self, request: &Value) -> Value {
        let number = |name: &str| request[name].as_i64();
        let entries: Vec<&Entry> = match request["hist_access_type"].as_str() {
            Some("range") => {
                let this_session = matches!(number("session"), None | Some(0 | SESSION));
                let range = number("start").unwrap_or(0)..number("stop").unwrap_or(i64::MAX);
                self.0.iter().filter(|entry| this_session && range.contains(&(entry.0 as i64))).collect()
            }
            Some("search") => {
                let pattern = WildMatch::new(request["pattern"].as_str().unwrap_or("*"));
                let found = self.0.iter().rev().filter(|entry| pattern.matches(&entry.1));
                // `unique` asks for the last of equal cells only.
                let mut seen = HashSet::new();
                let mut found: Vec<_> = found.filter(|it| request["unique"] != true || seen.insert(&it.1)).collect();
                found.reverse();
                found
            }
            _ => self.0.iter().collect(),
        };
        let skipped = number("n").filter(|n| *n > 0).map_or(0, |n| entries.len().saturating_sub(n as usize));
        let entry = |(count, code, result): &Entry| match request["output"] == true {
            true => json!([SESSION, count, [code, result]]),
            false => json!([SESSION, count, code]),
        };
        let entries: Vec<Value> = entries[skipped..].iter().copied().map(entry).collect();
        json!({ "status": "ok", "history": entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
