//! From a matrix of tokens by tokens to one number per patch.

use crate::{Error, Result};
use ndarray::Array3;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

/// The token whose row of the matrix is read; as text `class`, `dist` or the token's number.
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
    /// Any token, counted from 0 with the prefix tokens; the patch in row r and column c of a 7 × 7 grid is token
    /// `prefix_tokens + 7 · r + c`.
    Token(i64),
}

impl Query {
    /// The row of a matrix of `tokens` tokens, the first `prefix_tokens` of which are no patches.
    pub(crate) fn row(self, tokens: i64, prefix_tokens: i64) -> Result<i64> {
        match self {
            Query::Class if prefix_tokens >= 1 => Ok(0),
            Query::Class => Err(Error::argument(
                "query class: without prefix tokens there is no class token; name a token by its number",
            )),
            Query::Distillation if prefix_tokens >= 2 => Ok(1),
            Query::Distillation => Err(Error::argument(format!(
                "query dist: with {prefix_tokens} prefix tokens there is no distillation token; a DeiT has two"
            ))),
            Query::Token(token) if (0..tokens).contains(&token) => Ok(token),
            Query::Token(token) => Err(Error::argument(format!(
                "query token {token}: this model has {tokens} tokens, 0 to {}",
                tokens - 1
            ))),
        }
    }
}

impl FromStr for Query {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_lowercase().as_str() {
            "class" => Ok(Query::Class),
            "dist" => Ok(Query::Distillation),
            number => number
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

impl TryFrom<String> for Query {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Query> for String {
    fn from(query: Query) -> String {
        query.to_string()
    }
}

/// The query's row of each image's matrix `[B, S, S]` over the patches, as a grid `[B, 7, 7]` for 49 patches; as in
/// the matrix, not scaled.
///
/// Errors: a number of patches that is no square, a query that the model doesn't have, entries that aren't finite.
///
/// ```
/// use tch::{Kind, Device, Tensor};
/// use vitlab::explain::{Query, grid};
/// // One class token and four patches; row q holds 5q, 5q + 1, ….
/// let matrix = Tensor::arange(25, (Kind::Double, Device::Cpu)).reshape([1, 5, 5]);
/// assert_eq!(grid(&matrix, Query::Class, 1)?, ndarray::arr3(&[[[1.0, 2.0], [3.0, 4.0]]]));
/// assert_eq!(grid(&matrix, Query::Token(2), 1)?, ndarray::arr3(&[[[11.0, 12.0], [13.0, 14.0]]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn grid(matrix: &Tensor, query: Query, prefix_tokens: i64) -> Result<Array3<f32>> {
    grid_of_rows(&row(matrix, query, prefix_tokens)?, prefix_tokens)
}

/// The same of the query's rows `[B, S]`, as [`row`] gives them.
///
/// Errors: a number of patches that is no square, entries that aren't finite.
///
/// ```
/// use tch::Tensor;
/// // A class token's row over itself and four patches.
/// let rows = Tensor::from_slice(&[0.5, 0.0, 0.25, 0.25, 0.0]).view([1, 5]);
/// let grid = vitlab::explain::grid_of_rows(&rows, 1)?;
/// assert_eq!(grid, ndarray::arr3(&[[[0.0, 0.25], [0.25, 0.0]]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn grid_of_rows(rows: &Tensor, prefix_tokens: i64) -> Result<Array3<f32>> {
    array(&patches(rows, prefix_tokens)?)
}

/// The query's row of each image's matrix `[B, S, S]`: `[B, S]`.
///
/// Errors: another shape, a number of patches that is no square, a query that the model doesn't have.
///
/// ```
/// use tch::{Kind, Device, Tensor};
/// use vitlab::explain::{Query, row};
/// // One class token and four patches; row q holds 5q, 5q + 1, ….
/// let matrix = Tensor::arange(25, (Kind::Double, Device::Cpu)).reshape([1, 5, 5]);
/// let row = row(&matrix, Query::Token(2), 1)?;
/// assert_eq!(Vec::<f64>::try_from(row.get(0))?, [10.0, 11.0, 12.0, 13.0, 14.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn row(matrix: &Tensor, query: Query, prefix_tokens: i64) -> Result<Tensor> {
    let size = matrix.size();
    let &[images, tokens, columns] = size.as_slice() else {
        return Err(Error::argument(format!("token matrix {size:?}: give [B, S, S]")));
    };
    if images == 0 || tokens != columns {
        return Err(Error::argument(format!("token matrix {size:?}: give [B, S, S] with at least one image")));
    }
    side(tokens, prefix_tokens)?;
    Ok(matrix.f_detach()?.f_select(1, query.row(tokens, prefix_tokens)?)?) // [B, S, S] -> [B, S]
}

/// Rows `[B, S]` over the patches as a tensor `[B, 7, 7]` in float64 on the rows' device.
pub(super) fn patches(rows: &Tensor, prefix_tokens: i64) -> Result<Tensor> {
    let size = rows.size();
    let &[images, tokens] = size.as_slice() else {
        return Err(Error::argument(format!("rows of token matrices {size:?}: give [B, S]")));
    };
    let side = side(tokens, prefix_tokens)?;
    let row = rows.f_narrow(1, prefix_tokens, side * side)?.f_to_kind(Kind::Double)?;
    if row.f_isfinite()?.f_all()?.int64_value(&[]) == 0 {
        return Err(Error::argument("token matrix: the query's row has entries that are not finite"));
    }
    Ok(row.f_reshape([images, side, side])?) // [B, S] -> [B, 7, 7]
}

/// The side of the square grid that the patches among `tokens` tokens form.
pub(super) fn side(tokens: i64, prefix_tokens: i64) -> Result<i64> {
    let patches = tokens - prefix_tokens;
    let side = patches.max(0).isqrt();
    if prefix_tokens < 0 || patches < 1 || side * side != patches {
        return Err(Error::argument(format!(
            "prefix tokens {prefix_tokens}: of {tokens} tokens that leaves {patches} patches, which is no square"
        )));
    }
    Ok(side)
}

/// A tensor `[B, Y, X]` of any type and device as an array.
pub(super) fn array(tensor: &Tensor) -> Result<Array3<f32>> {
    let (b, y, x) = tensor.size3()?;
    let values: Vec<f32> = tensor.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_reshape(-1)?.try_into()?;
    let array = Array3::from_shape_vec([b as usize, y as usize, x as usize], values);
    Ok(array.expect("a tensor has as many values as its shape says"))
}
