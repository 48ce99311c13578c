//! One error type whose message is a sentence for the user.

use std::fmt;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
///
/// ```
/// use vitlab::Error;
/// let error = Error::file("ViT_model.pt", "is empty; train the model again");
/// assert_eq!(error.to_string(), "ViT_model.pt: is empty; train the model again");
/// ```
pub enum Error {
    /// A file or folder that can't be used as it is.
    File { path: PathBuf, problem: String },
    /// An argument or a configuration value outside of what is possible.
    Argument(String),
    /// An operation that libtorch refused: its first line, without the stack trace.
    #[cfg(feature = "torch")]
    Torch(String),
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
            #[cfg(feature = "torch")]
            Error::Torch(problem) => write!(f, "libtorch: {problem}"),
        }
    }
}

/// The same sentence: the evcxr kernel prints a failing `?` in its Debug form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[cfg(feature = "torch")]
impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let sentence = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error");
        Error::Torch(sentence.to_string())
    }
}
