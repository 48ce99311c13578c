//! Which layers of a model an explanation goes through.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A choice of layers, counted from 0 at the input; as text `all`, `A..B` (B excluded) or `i,j,…`.
///
/// ```
/// use vitlab::explain::Layers;
/// assert_eq!("1..4".parse::<Layers>()?.indices(6)?, [1, 2, 3]);
/// assert_eq!("0,5".parse::<Layers>()?.indices(6)?, [0, 5]);
/// assert_eq!(
///     "4..9".parse::<Layers>()?.indices(6).unwrap_err().to_string(),
///     "layers 4..9: this model has 6 layers, 0 to 5",
/// );
/// # Ok::<(), vitlab::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layers {
    #[default]
    All,
    Range(Range<usize>),
    /// Each layer once, in ascending order.
    List(Vec<usize>),
}

impl Layers {
    /// The chosen ones of `count` layers, in ascending order. Errors: none chosen, one that doesn't exist, one
    /// named twice or out of order.
    pub fn indices(&self, count: usize) -> Result<Vec<usize>> {
        let chosen: Vec<usize> = match self {
            Layers::All => (0..count).collect(),
            // Looked at before it is listed: a range typed wrongly may be huge.
            Layers::Range(range) if range.end > count && !range.is_empty() => vec![range.end - 1],
            Layers::Range(range) => range.clone().collect(),
            Layers::List(list) => list.clone(),
        };
        let refuse = |problem: String| Err(Error::argument(format!("layers {self}: {problem}")));
        match chosen.iter().max() {
            None => refuse("no layer is chosen; name at least one".into()),
            Some(&last) if last >= count => {
                refuse(format!("this model has {count} layers, 0 to {}", count.saturating_sub(1)))
            }
            Some(_) if !chosen.is_sorted_by(|a, b| a < b) => refuse("name each layer once, in ascending order".into()),
            Some(_) => Ok(chosen),
        }
    }
}

impl FromStr for Layers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| {
            part.trim()
                .parse::<usize>()
                .map_err(|_| Error::argument(format!("layers {text:?}: write all, a range as 0..3 or a list as 0,2,5")))
        };
        if text.trim().eq_ignore_ascii_case("all") {
            return Ok(Layers::All);
        }
        match text.split_once("..") {
            Some((first, end)) => Ok(Layers::Range(number(first)?..number(end)?)),
            None => Ok(Layers::List(text.split(',').map(number).collect::<Result<_>>()?)),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Layers::All => f.write_str("all"),
            Layers::Range(range) => write!(f, "{}..{}", range.start, range.end),
            Layers::List(list) => {
                let names: Vec<String> = list.iter().map(usize::to_string).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

impl TryFrom<String> for Layers {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Layers> for String {
    fn from(layers: Layers) -> String {
        layers.to_string()
    }
}
