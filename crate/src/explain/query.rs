//! The query token: the token whose row of a token matrix an explanation shows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::check_square;
use crate::error::{Error, Result, ensure};

/// The token whose row of the matrix is read. Its text form is `class`, `dist` or the token's index.
///
/// ```
/// use vitlab::explain::Query;
/// assert_eq!("dist".parse::<Query>()?, Query::Distillation);
/// assert_eq!("17".parse::<Query>()?, Query::Token(17));
/// # Ok::<(), vitlab::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Query {
    /// Token 0.
    #[default]
    Class,
    /// Token 1 of a model that has two prefix tokens.
    Distillation,
    /// Any token, counted from 0 and including the prefix tokens. The patch in row r and column c of a 7 × 7 grid is
    /// token `prefix_tokens + 7 · r + c`.
    Token(i64),
}

string_conversions!(Query);

impl Query {
    /// Index of the token among `tokens` tokens, the first `prefix_tokens` of which aren't patches.
    pub(crate) fn index(self, tokens: i64, prefix_tokens: i64) -> Result<i64> {
        let (index, exists, missing) = match self {
            Query::Class => (0, prefix_tokens >= 1, "class token; name a token by its number"),
            Query::Distillation => (1, prefix_tokens >= 2, "distillation token; a DeiT has two prefix tokens"),
            Query::Token(token) => {
                let last = tokens - 1;
                ensure!(
                    (0..tokens).contains(&token),
                    "query token {token}: this model has {tokens} tokens, 0 to {last}"
                );
                return Ok(token);
            }
        };
        ensure!(exists, "query {self}: with {prefix_tokens} prefix tokens there is no {missing}");
        Ok(index)
    }
}

impl FromStr for Query {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_lowercase().as_str() {
            "class" => Ok(Query::Class),
            "dist" => Ok(Query::Distillation),
            index => index
                .parse()
                .map(Query::Token)
                .map_err(|_| Error::argument(format!("query {text:?}: write class, dist or a token's number"))),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Query::Class => f.write_str("class"),
            Query::Distillation => f.write_str("dist"),
            Query::Token(token) => write!(f, "{token}"),
        }
    }
}

/// The query token's row of each image's matrix: `[B, S, S]` -> `[B, S]`, detached from the graph.
///
/// # Errors
/// Another shape, a number of patches that is not a square, a query token that the model doesn't have.
///
/// ```
/// use tch::{Kind, Device, Tensor};
/// use vitlab::explain::{Query, row};
/// // One class token and four patches; row q holds 5q, 5q + 1, …, 5q + 4.
/// let matrix = Tensor::arange(25, (Kind::Double, Device::Cpu)).reshape([1, 5, 5]);
/// let row = row(&matrix, Query::Token(2), 1)?;
/// assert_eq!(Vec::<f64>::try_from(row.get(0))?, [10.0, 11.0, 12.0, 13.0, 14.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn row(matrix: &Tensor, query: Query, prefix_tokens: i64) -> Result<Tensor> {
    check_square("token matrix", matrix, 3..=3, "[B, S, S] with at least one image")?;
    let tokens = matrix.size()[1];
    grid_side(tokens, prefix_tokens)?;
    Ok(matrix.detach().select(1, query.index(tokens, prefix_tokens)?)) // [B, S, S] -> [B, S]
}

/// Side of the square grid that the patches among `tokens` tokens form.
pub(super) fn grid_side(tokens: i64, prefix_tokens: i64) -> Result<i64> {
    let patches = tokens - prefix_tokens;
    let side = patches.max(0).isqrt();
    ensure!(
        prefix_tokens >= 0 && patches >= 1 && side * side == patches,
        "prefix tokens {prefix_tokens}: of {tokens} tokens that leaves {patches} patches, which is no square"
    );
    Ok(side)
}
