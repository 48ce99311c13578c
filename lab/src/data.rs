//! FashionMNIST for this machine: found, downloaded, or installed as a Debian package.

use vitlab_dataset::source::{self, Source};
use vitlab_dataset::{Error, Result, download};

use crate::step::Step;
use crate::{cache, system};

const PACKAGE: &str = "dataset-fashion-mnist";

/// Finds the data, or fetches it when nothing was chosen and nothing is there.
///
/// # Errors
/// What was chosen isn't usable; or nothing was found and nothing could be fetched, then the message lists what was
/// tried and the ways out.
pub fn install(chosen: Option<&str>, step: &Step) -> Result<Source> {
    let missing = match source::find(chosen) {
        Ok(found) => return checked(found),
        Err(error) if chosen.is_some() || std::env::var_os(source::VARIABLE).is_some_and(|value| !value.is_empty()) => {
            return Err(error);
        }
        Err(error) => error,
    };
    let _lock = cache::lock("data", step)?;
    if let Ok(found) = source::find(None) {
        return checked(found);
    }
    let downloaded = download::fetch(download::PUBLIC, &source::cache_folder(), &|line| step.line(line));
    let Err(no_download) = downloaded else {
        return source::find(None).and_then(checked);
    };
    step.say(&format!("{no_download}\n  trying the Debian package {PACKAGE}"));
    let no_package = match system::install(&[PACKAGE], step) {
        Ok(()) => match source::find(None) {
            Ok(found) => return checked(found),
            Err(_) => "its files are not where they should be".to_string(),
        },
        Err(problem) => problem,
    };
    Err(Error::argument(format!(
        "{missing}\nFetching it failed: {no_download}; Debian package {PACKAGE}: {no_package}."
    )))
}

/// Checked to the byte, and named from the root: the kernel's working directory is another one.
fn checked(found: Source) -> Result<Source> {
    let synthetic = found.is_synthetic();
    let Source::Folder(folder) = found else {
        return Ok(found);
    };
    if !synthetic {
        source::verify_folder(&folder)?;
    }
    let whole = folder.canonicalize();
    whole.map(Source::Folder).map_err(|error| Error::file(&folder, error.to_string()))
}

/// The name of the data in a notebook's metadata.
pub fn name(found: &Source) -> &'static str {
    if found.is_synthetic() { "synthetic" } else { "FashionMNIST" }
}
