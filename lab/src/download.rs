//! One file over HTTP: resumed where an earlier try stopped, shown while it comes, checked at the end.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vitlab::{Error, Result};

use crate::step::Step;

/// Tries for one file; each goes on where the last one stopped.
const TRIES: u32 = 3;

/// Downloads `url` to `target`, which appears only once `check` has accepted the content.
///
/// The part that has come stays beside the target, and the next call goes on from there.
///
/// # Errors
/// The server can't be reached or breaks off, the disk is full, the content isn't what it should be: in each case
/// `target` is untouched.
pub fn download(url: &str, target: &Path, check: impl Fn(&Path) -> Result<()>, step: &Step) -> Result<()> {
    let part = part(target);
    let mut tries = 0;
    loop {
        tries += 1;
        match fetch(url, &part, step) {
            Ok(()) => break,
            Err(Failure::Interrupted(_)) if tries < TRIES => step.line(&format!("{url}: broke off, trying again")),
            Err(Failure::Interrupted(problem) | Failure::Final(problem)) => {
                return Err(Error::argument(format!("{url}: {problem}")));
            }
        }
    }
    if let Err(error) = check(&part) {
        let _ = fs::remove_file(&part);
        return Err(Error::argument(format!("{url}: the content is wrong and was thrown away ({error})")));
    }
    fs::rename(&part, target).map_err(|error| Error::file(target, format!("can't be written ({error})")))
}

/// Where the bytes gather: `x.gz` as `x.part.gz`, so that the ending still tells the format.
pub fn part(target: &Path) -> PathBuf {
    let extension = target.extension().unwrap_or_default().to_string_lossy().into_owned();
    target.with_extension(format!("part.{extension}"))
}

enum Failure {
    /// The connection was there and broke: worth another try.
    Interrupted(String),
    Final(String),
}

fn fetch(url: &str, part: &Path, step: &Step) -> Result<(), Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(20)))
        .timeout_recv_body(Some(Duration::from_secs(300)))
        .http_status_as_error(false)
        .build()
        .into();
    let there = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = agent.get(url);
    if there > 0 {
        request = request.header("Range", format!("bytes={there}-"));
    }
    let response = request.call().map_err(|error| Failure::Final(format!("can't be reached ({error})")))?;
    let (resumed, status) = (response.status() == 206, response.status());
    if status == 416 {
        // Nothing lies beyond what is there: it is whole, or not the file that the server has now. The check decides.
        return Ok(());
    }
    if status != 200 && !resumed {
        return Err(Failure::Final(format!("the server answers {status}")));
    }
    let length = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let start = if resumed { there } else { 0 };
    let whole = length("content-length").map(|rest| start + rest);

    let full = |error: std::io::Error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded => Failure::Final(format!(
            "there is no room left for {}; make room and try again, it goes on from there",
            part.display()
        )),
        _ => Failure::Final(format!("{} can't be written ({error})", part.display())),
    };
    let mut file =
        File::options().create(true).write(true).truncate(!resumed).append(false).open(part).map_err(full)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(start)).map_err(full)?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                return Err(Failure::Interrupted(format!(
                    "broke off after {done} bytes ({error}); try again, it goes on from there"
                )));
            }
        };
        file.write_all(&buffer[..count]).map_err(full)?;
        done += count as u64;
        let name = url.rsplit('/').next().unwrap_or(url);
        let of = whole.map_or(String::new(), |whole| format!(" of {:.1}", whole as f64 / 1e6));
        step.line(&format!("{name}: {:.1}{of} MB", done as f64 / 1e6));
    }
    file.sync_all().map_err(full)?;
    match whole {
        Some(whole) if done < whole => Err(Failure::Interrupted(format!(
            "broke off after {done} of {whole} bytes; try again, it goes on from there"
        ))),
        _ => Ok(()),
    }
}
