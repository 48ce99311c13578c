//! A finding of `cargo lab check`.

use serde::Serialize;

/// The rule that a notebook breaks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A cell has no number: it wasn't executed.
    Unexecuted,
    /// The numbers of the cells aren't 1, 2, 3, … from top to bottom.
    Order,
    /// A cell ended with an error.
    Failed,
    /// A cell wrote to the standard error, or a warning.
    Warning,
    /// The source isn't the one that ran.
    Edited,
    /// The outputs are of a quick run, or of the synthetic stand-in for the data.
    QuickRun,
    /// A part that the author fills in is as it was.
    Placeholder,
    /// A heading of the assignment is missing or in another place.
    Heading,
    /// The text states a number that no output shows.
    Number,
    /// A source is named without a link to it.
    Source,
    /// A picture has no description.
    AltText,
    /// A path of the author's machine.
    LocalPath,
    /// The file is too large.
    Size,
    /// A new run fails or gives another output.
    Rerun,
}

/// A sentence about what is wrong and what to do.
#[derive(Serialize)]
pub struct Finding {
    /// Path of the notebook, relative to the clone if it is inside.
    pub notebook: String,
    /// The cell's position among all cells, from 1; none if the whole notebook is meant.
    pub cell: Option<usize>,
    /// The number in brackets beside the cell.
    pub execution_count: Option<usize>,
    pub rule: Rule,
    pub message: String,
    /// Lines of a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

/// A rule's finding in a notebook: the cell's number, none for the whole notebook, and the message.
pub type Found = (Option<usize>, Rule, String);
