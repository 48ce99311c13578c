//! Location of the cache folder, which all clones of one user share.

use std::path::PathBuf;

/// Returns `VITLAB_HOME` if it is set, otherwise `vitlab` in the user's cache folder. The folder may not exist yet.
pub fn folder() -> PathBuf {
    match std::env::var_os("VITLAB_HOME").filter(|value| !value.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("vitlab"),
    }
}
