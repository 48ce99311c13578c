//! The marks in the committed notebooks, `"vitlab": {"course": …}` in a cell's metadata. A cell without a mark isn't part of
//! the course.

use serde::Deserialize;
use serde_json::Value;

use super::region;
use crate::system::{Error, Result};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// The students get the cell, or a part of it, as it is.
    Given(Part),
    /// The students write code, which tests grade.
    Answer(Answer),
    /// The students write a text or a figure's code, which a person grades by the rubric.
    Question(Question),
}

/// Whole lines of a cell: from the first line that begins with `from` to the one before the next that begins with `until`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Part {
    from: Option<String>,
    until: Option<String>,
}

#[derive(Deserialize)]
pub struct Answer {
    /// Name of a file in course/tasks, without its ending.
    pub task: String,
    /// The solution.
    #[serde(flatten)]
    pub solution: Solution,
    /// The code in place of the solution, which compiles and answers wrongly.
    pub stub: String,
    pub points: u32,
    /// Earlier tasks whose functions this one calls. Grading gives it their solutions.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Keep what the cell holds besides the items of the task, in a cell after the tests.
    #[serde(default)]
    pub rest: bool,
}

/// The place of a solution.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solution {
    /// The body of a function, as `fuse`, or of a method, as `SelfAttention::forward`, in this cell or in the crate.
    Item(String),
    /// Consecutive lines of this cell: the beginnings of the first and the last one.
    Lines([String; 2]),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub name: String,
    pub ask: String,
    pub points: u32,
    /// One line per criterion.
    pub rubric: Vec<String>,
    /// The part of the cell that answers the question.
    #[serde(default)]
    pub answer: Part,
}

impl Mark {
    /// Reads the mark in a cell's metadata, none if there is none.
    ///
    /// # Errors
    /// Fails with a sentence, without the cell's place, if the mark has an unknown or missing field.
    pub fn of(metadata: &Value) -> Result<Option<Self>> {
        let Some(mark) = metadata["vitlab"].get("course") else { return Ok(None) };
        Mark::deserialize(mark)
            .map(Some)
            .map_err(|error| Error::argument(format!("the mark for the course can't be read ({error})")))
    }
}

impl Part {
    /// # Errors
    /// Fails if no line begins as said.
    pub fn of<'a>(&self, text: &'a str) -> Result<&'a str> {
        let start = self.from.as_ref().map_or(Ok(0), |begin| region::line_start(text, begin, 0))?;
        // The line itself doesn't end the part that it begins.
        let next = text[start..].find('\n').map_or(text.len(), |end| start + end + 1);
        let end = self.until.as_ref().map_or(Ok(text.len()), |begin| region::line_start(text, begin, next))?;
        Ok(text[start..end].trim())
    }
}
