//! The constants in which two configurations differ.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::Config;

/// A constant with two values, each as in JSON, or "not set".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    pub here: String,
    pub there: String,
}

/// As "NAME: ours here, theirs there".
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {} here, {} there", self.name, self.here, self.there)
    }
}

impl Config {
    /// The constants that differ, by name, except paths and LOAD_MODEL.
    ///
    /// ```
    /// use vitlab::Config;
    /// let changes = Config::default().changes(&Config { lr: 1e-3, ..Config::default() });
    /// assert_eq!((changes.len(), changes[0].name.as_str()), (1, "LR"));
    /// assert_eq!((changes[0].here.as_str(), changes[0].there.as_str()), ("0.0005", "0.001"));
    /// ```
    pub fn changes(&self, other: &Config) -> Vec<Change> {
        let constants = |config| match serde_json::to_value(config) {
            Ok(Value::Object(constants)) => constants,
            _ => unreachable!("a Config is a JSON object"),
        };
        let [ours, theirs] = [self, other].map(constants);
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let text = |value: Option<&Value>| value.map_or("not set".to_string(), ToString::to_string);
        names
            .into_iter()
            .filter(|name| !name.ends_with("_PATH") && *name != "LOAD_MODEL")
            .map(|name| (name, ours.get(name), theirs.get(name)))
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(name, ours, theirs)| Change { name: name.clone(), here: text(ours), there: text(theirs) })
            .collect()
    }

    /// [`Config::changes`] as sentences.
    ///
    /// ```
    /// use vitlab::Config;
    /// let (ours, theirs) = (Config::default(), Config { lr: 1e-3, ..Config::default() });
    /// assert_eq!(ours.differences(&theirs), ["LR: 0.0005 here, 0.001 there"]);
    /// ```
    pub fn differences(&self, other: &Config) -> Vec<String> {
        self.changes(other).iter().map(ToString::to_string).collect()
    }
}
