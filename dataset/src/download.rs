//! Downloads over HTTP: each resumes where an earlier one stopped, reports its progress and is verified at the end.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::FILES;
use crate::{Error, Result, source};

/// FashionMNIST's public source, named in its repository (zalandoresearch/fashion-mnist); 30 MB in all.
pub const PUBLIC: &str = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com";

/// Attempts for one file. Each resumes where the last one stopped.
const ATTEMPTS: u32 = 3;

/// Downloads FashionMNIST's four gzipped files from `base` into `folder` and skips those that are already there.
///
/// `progress` receives a line for each block, for instance `x.gz: 1.2 of 30.9 MB`.
///
/// # Errors
/// As [`download`].
pub fn fetch(base: &str, folder: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        Error::file(folder, format!("can't be created ({error}); set VITLAB_HOME to a folder that is writable"))
    })?;
    for file in &FILES {
        let name = format!("{}.gz", file.name);
        let target = folder.join(&name);
        if !target.exists() || source::verify(&target, file).is_err() {
            download(&format!("{base}/{name}"), &target, |path| source::verify(path, file), progress)?;
        }
    }
    Ok(())
}

/// Number of bytes of FashionMNIST that an interrupted [`fetch`] left in `folder` for the next one.
pub fn unfinished(folder: &Path) -> u64 {
    FILES
        .iter()
        .filter_map(|file| fs::metadata(part(&folder.join(format!("{}.gz", file.name)))).ok())
        .map(|m| m.len())
        .sum()
}

/// Downloads `url` to `target`, which appears only after `check` has accepted the content.
///
/// An interrupted download stays in [`part`], and the next call resumes it.
///
/// # Errors
/// Fails if the server can't be reached, refuses or breaks off, if the disk is full, or if `check` rejects the content.
/// `target` is untouched in each case.
pub fn download(url: &str, target: &Path, check: impl Fn(&Path) -> Result<()>, progress: &dyn Fn(&str)) -> Result<()> {
    let part = part(target);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match request(url, &part, progress) {
            Ok(()) => break,
            Err(Failure::Interrupted(_)) if attempts < ATTEMPTS => progress(&format!("{url}: broke off, trying again")),
            Err(Failure::Interrupted(problem) | Failure::Final(problem)) => {
                return Err(Error::argument(format!("{url}: {problem}")));
            }
        }
    }
    if let Err(error) = check(&part) {
        let _ = fs::remove_file(&part);
        return Err(Error::argument(format!("{url}: the content is wrong and was deleted ({error})")));
    }
    fs::rename(&part, target).map_err(|error| Error::file(target, format!("can't be written ({error})")))
}

/// Path of the unfinished file: `x.part.gz` for `x.gz`, so that the extension still names the format.
pub fn part(target: &Path) -> PathBuf {
    let extension = target.extension().unwrap_or_default().to_string_lossy().into_owned();
    target.with_extension(format!("part.{extension}"))
}

enum Failure {
    /// The connection was established and broke; another attempt may succeed.
    Interrupted(String),
    Final(String),
}

fn request(url: &str, part: &Path, progress: &dyn Fn(&str)) -> Result<(), Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(20)))
        .timeout_recv_body(Some(Duration::from_secs(300)))
        .http_status_as_error(false)
        .build()
        .into();
    let resume_from = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = agent.get(url);
    if resume_from > 0 {
        request = request.header("Range", format!("bytes={resume_from}-"));
    }
    let response = request.call().map_err(|error| Failure::Final(format!("can't be reached ({error})")))?;
    let (resumed, status) = (response.status() == 206, response.status());
    if status == 416 {
        // The part is as long as the server's file. The check decides whether it is the same file.
        return Ok(());
    }
    if status != 200 && !resumed {
        return Err(Failure::Final(format!("the server answers {status}")));
    }
    let length = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let start = if resumed { resume_from } else { 0 };
    let whole = length("content-length").map(|rest| start + rest);

    let full = |error: std::io::Error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded => Failure::Final(format!(
            "there is no room left for {}; make room and try again; the download resumes",
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
                    "broke off after {done} bytes ({error}); try again; the download resumes"
                )));
            }
        };
        file.write_all(&buffer[..count]).map_err(full)?;
        done += count as u64;
        let name = url.rsplit('/').next().unwrap_or(url);
        let of = whole.map_or(String::new(), |whole| format!(" of {:.1}", whole as f64 / 1e6));
        progress(&format!("{name}: {:.1}{of} MB", done as f64 / 1e6));
    }
    file.sync_all().map_err(full)?;
    match whole {
        Some(whole) if done < whole => Err(Failure::Interrupted(format!(
            "broke off after {done} of {whole} bytes; try again; the download resumes"
        ))),
        _ => Ok(()),
    }
}
