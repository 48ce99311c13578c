//! Finds FashionMNIST on this machine, downloads it, or installs it as a Debian package.

use vitlab_dataset::download;
use vitlab_dataset::source::{self, Source};

use super::debian;
use crate::system::{Error, Progress, Result, cache};

const PACKAGE: &str = "dataset-fashion-mnist";

/// Finds the data. If none are found and the user chose none, fetches them.
///
/// # Errors
/// Fails if the user's choice is unusable, or if nothing could be found or fetched. The message lists trials and remedies.
pub fn install(choice: Option<&str>, progress: &Progress) -> Result<Source> {
    let chosen = choice.is_some() || std::env::var_os(source::VARIABLE).is_some_and(|value| !value.is_empty());
    let missing = match source::find(choice) {
        Err(error) if !chosen => error,
        found => return found.and_then(verified),
    };
    let _lock = cache::lock("data", progress)?;
    // Another set-up may have fetched them while this one waited for the lock.
    if let Ok(found) = source::find(None) {
        return verified(found);
    }
    let show = |line: &str| progress.message(line);
    let Err(no_download) = download::fetch(download::PUBLIC, &source::cache_folder(), &show) else {
        return source::find(None).and_then(verified);
    };
    progress.print_line(&format!("{no_download}\n  trying the Debian package {PACKAGE}"));
    let no_package = match debian::install(PACKAGE, progress).map(|()| source::find(None)) {
        Ok(Ok(found)) => return verified(found),
        Ok(Err(_)) => "its files are not where they should be".to_string(),
        Err(cause) => cause,
    };
    Err(Error::argument(format!(
        "{missing}\nFetching it failed: {no_download}; Debian package {PACKAGE}: {no_package}."
    )))
}

/// Verifies the checksums of real data, and makes the path absolute because the kernel has another working directory.
fn verified(found: Source) -> Result<Source> {
    let Source::Folder(folder) = &found else { return Ok(found) };
    if !found.is_synthetic() {
        source::verify_folder(folder)?;
    }
    folder.canonicalize().map(Source::Folder).map_err(|error| Error::file(folder, error.to_string()))
}
