//! Selection of the layers that a rollout multiplies.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A selection of layers, counted from 0 at the input. Its text form is `all`, `A..B` (B excluded) or `i,j,…`.
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

string_conversions!(Layers);

impl Layers {
    /// Indices of the selected layers in a model with `count` layers, in ascending order.
    ///
    /// # Errors
    /// An empty selection, a layer that doesn't exist, a layer named twice or out of order.
    pub fn indices(&self, count: usize) -> Result<Vec<usize>> {
        let indices: Vec<usize> = match self {
            Layers::All => (0..count).collect(),
            // Collecting a mistyped range could exhaust the memory; its last index is enough for the error.
            Layers::Range(range) if range.end > count && !range.is_empty() => vec![range.end - 1],
            Layers::Range(range) => range.clone().collect(),
            Layers::List(list) => list.clone(),
        };
        let problem = match indices.iter().max() {
            None => "no layer is chosen; name at least one".to_string(),
            Some(&last) if last >= count => {
                format!("this model has {count} layers, 0 to {}", count.saturating_sub(1))
            }
            Some(_) if !indices.is_sorted_by(|a, b| a < b) => "name each layer once, in ascending order".to_string(),
            Some(_) => return Ok(indices),
        };
        Err(Error::argument(format!("layers {self}: {problem}")))
    }
}

impl FromStr for Layers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let problem = || Error::argument(format!("layers {text:?}: write all, a range as 0..3 or a list as 0,2,5"));
        let index = |part: &str| part.trim().parse::<usize>().map_err(|_| problem());
        if text.trim().eq_ignore_ascii_case("all") {
            return Ok(Layers::All);
        }
        match text.split_once("..") {
            Some((first, end)) => Ok(Layers::Range(index(first)?..index(end)?)),
            None => Ok(Layers::List(text.split(',').map(index).collect::<Result<_>>()?)),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Layers::All => f.write_str("all"),
            Layers::Range(range) => write!(f, "{}..{}", range.start, range.end),
            Layers::List(list) => f.write_str(&list.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}
