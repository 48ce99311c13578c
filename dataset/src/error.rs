//! Errors whose message is a sentence for the user.

use std::fmt;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the problem, the file or argument that has it, and the remedy.
///
/// ```
/// use vitlab_dataset::Error;
/// let error = Error::file("train-labels", "is empty; download it again");
/// assert_eq!(error.to_string(), "train-labels: is empty; download it again");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Error {
    /// A file or folder is missing, unreadable or holds unusable content.
    File { path: PathBuf, problem: String },
    /// An argument or a configuration value is out of range or doesn't fit the others.
    Argument(String),
}

impl Error {
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    pub fn argument(problem: impl Into<String>) -> Self {
        Error::Argument(problem.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Error::Argument(problem) => f.write_str(problem),
        }
    }
}

/// Prints the same sentence as `Display`, because evcxr shows the error of a failing `?` in its `Debug` form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
