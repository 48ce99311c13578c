//! The crate's error, whose message is a sentence for the user.

use std::fmt;
use std::path::Path;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the problem, the file or argument that has it, and the remedy.
///
/// ```
/// use vitlab::Error;
/// let error = Error::file("ViT_model.pt", "is empty; train the model again");
/// assert_eq!(error.to_string(), "ViT_model.pt: is empty; train the model again");
/// ```
#[derive(thiserror::Error)]
pub enum Error {
    /// A file, an argument or a configuration value can't be used.
    #[error("{0}")]
    Input(#[from] vitlab_dataset::Error),
    /// libtorch refused an operation: the first line of its message, without the stack trace.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl Error {
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::Input(vitlab_dataset::Error::file(path, problem))
    }

    pub fn argument(problem: impl Into<String>) -> Self {
        Error::Input(vitlab_dataset::Error::argument(problem))
    }
}

/// Returns an [`Error::argument`] with the formatted sentence unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err($crate::Error::argument(format!($($sentence)+)));
        }
    };
}
pub(crate) use ensure;

/// Prints the same sentence as `Display`, because evcxr shows the error of a failing `?` in its `Debug` form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<vitlab_fused::Error> for Error {
    fn from(error: vitlab_fused::Error) -> Self {
        Error::argument(error.to_string())
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let sentence = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error");
        Error::Torch(sentence.to_string())
    }
}
