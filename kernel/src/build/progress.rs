//! The progress of cargo, which the kernel shows while a cell waits for it: cargo's own progress bar, read from its
//! standard error and written to a file in the kernel's folder.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::rustc;

/// The file with the present progress, a sentence. Missing while there is nothing to say.
const FILE: &str = "progress";
/// The time between two reports.
const INTERVAL: Duration = Duration::from_millis(250);
/// An estimate of the time left needs at least this time and this share of the steps.
const ESTIMATE: (Duration, f64) = (Duration::from_secs(10), 0.2);
/// More crates than this aren't named.
const MAX_NAMES: usize = 3;

/// Returns the present progress in the folder of a kernel.
pub fn read(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join(FILE)).ok().filter(|text| !text.is_empty())
}

/// Removes what a killed cargo left behind.
pub fn remove(folder: &Path) {
    let _ = fs::remove_file(folder.join(FILE));
}

/// Runs cargo, passes its output on without the progress, and reports the progress in the folder for cells.
pub fn run(cargo: &mut Command) -> io::Result<ExitCode> {
    cargo.args(["--config", "term.progress.when='always'", "--config", "term.progress.width=200"]);
    let mut child = cargo.stderr(Stdio::piped()).spawn()?;
    let folder = rustc::cell_folder();
    let stderr = child.stderr.take().expect("piped");
    let progress = Mutex::new(Progress { started: Instant::now(), first: None, line: String::new() });
    let (ended, end) = mpsc::channel::<()>();
    let passed = std::thread::scope(|scope| {
        let (folder, progress) = (&folder, &progress);
        scope.spawn(move || {
            // cargo says nothing while nothing changes, but the time goes on.
            while end.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let (Some(folder), Some(text)) = (folder, progress.lock().unwrap().sentence()) {
                    report(folder, &text);
                }
            }
        });
        let passed = pass_on(stderr, io::stderr(), |line| progress.lock().unwrap().line = line.trim().to_string());
        drop(ended);
        passed
    });
    let status = child.wait()?;
    folder.iter().for_each(|folder| remove(folder));
    passed?;
    Ok(ExitCode::from(status.code().map_or(101, |code| code as u8)))
}

/// Writes the file so that a reader never sees a part of it.
fn report(folder: &Path, text: &str) {
    if fs::write(folder.join("progress.new"), text).is_ok() {
        let _ = fs::rename(folder.join("progress.new"), folder.join(FILE));
    }
}

/// Copies lines. cargo ends its progress with a carriage return: such a part of a line is only reported. So is a line
/// that says what cargo waits for.
fn pass_on(from: impl Read, mut to: impl Write, mut report: impl FnMut(&str)) -> io::Result<()> {
    let mut line = Vec::new();
    for byte in BufReader::new(from).bytes() {
        match byte? {
            b'\r' => {
                report(&String::from_utf8_lossy(&line));
                line.clear();
            }
            byte => {
                line.push(byte);
                if byte == b'\n' {
                    if line.trim_ascii_start().starts_with(b"Blocking ") {
                        report(&String::from_utf8_lossy(&line));
                    }
                    to.write_all(&line)?;
                    line.clear();
                }
            }
        }
    }
    to.write_all(&line)
}

struct Progress {
    started: Instant,
    /// When the first step of the build was reported, and how many were done by then.
    first: Option<(Instant, f64)>,
    line: String,
}

impl Progress {
    /// Turns cargo's last line into a sentence. `None` if there was none.
    fn sentence(&mut self) -> Option<String> {
        let (verb, rest) = self.line.split_once(' ')?;
        let elapsed = self.started.elapsed();
        if verb == "Blocking" {
            let lock = rest.rsplit_once("lock on ").map_or(rest, |(_, lock)| lock);
            return Some(format!("Waiting for another cargo, which uses the {lock}"));
        }
        let text = rest.split_once("] ").filter(|_| rest.starts_with('[')).map_or(rest, |(_bar, text)| text);
        let steps = (verb == "Building").then(|| text.split_once(": ")).flatten();
        let Some(((done, total), names)) = steps.and_then(|(count, names)| Some((count.split_once('/')?, names)))
        else {
            let verb = if verb == "Fetch" { "Fetching the index:" } else { verb };
            return Some(format!("{verb} {text} ({} s)", elapsed.as_secs()));
        };
        // Each cell is compiled: that is no step of a long build.
        if total.trim() == "1" {
            return None;
        }
        let text = format!("Compiling {done} of {total}: {} ({} s", shortened(names), elapsed.as_secs());
        let left = self.left(done.parse().ok()?, total.parse().ok()?);
        Some(text + &left.map(|left| format!(", about {} left", rounded(left))).unwrap_or_default() + ")")
    }

    /// Estimates the time left by the steps that were done since the first report.
    fn left(&mut self, done: f64, total: f64) -> Option<Duration> {
        let (since, before) = *self.first.get_or_insert((self.started, done));
        let (elapsed, share) = (since.elapsed(), (done - before) / (total - before));
        let known = elapsed >= ESTIMATE.0 && share >= ESTIMATE.1 && share < 1.0;
        known.then(|| elapsed.mul_f64((1.0 - share) / share))
    }
}

/// Names the crates without cargo's remarks, such as "(build.rs)".
fn shortened(names: &str) -> String {
    let mut crates: Vec<&str> = Vec::new();
    for name in names.trim_end_matches("...").split(", ") {
        let name = name.split('(').next().unwrap_or_default().trim();
        let name = if name == "ctx" { "the cell" } else { name };
        if !name.is_empty() && !crates.contains(&name) {
            crates.push(name);
        }
    }
    let more = if crates.len() > MAX_NAMES || names.ends_with("...") { ", …" } else { "" };
    crates.truncate(MAX_NAMES);
    crates.join(", ") + more
}

fn rounded(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{} s", time.as_secs().div_ceil(10).max(1) * 10),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_progress_is_taken_out_of_cargos_output() {
        let output = " Downloading 1 crate   \r  Downloaded a v1\n    Building [=>  ] 1/10: a(build.rs)  \r   Compiling a v1\n\
            {\"message\":\"x\\r\"}\n    Blocking waiting for file lock on build directory\nerror: ä";
        let (mut passed, mut reported) = (Vec::new(), Vec::new());
        pass_on(output.as_bytes(), &mut passed, |line| reported.push(line.trim().to_string())).unwrap();
        let passed = String::from_utf8(passed).unwrap();
        assert_eq!(
            passed,
            "  Downloaded a v1\n   Compiling a v1\n{\"message\":\"x\\r\"}\n    Blocking waiting for file lock on build directory\nerror: ä"
        );
        assert_eq!(
            reported,
            [
                "Downloading 1 crate",
                "Building [=>  ] 1/10: a(build.rs)",
                "Blocking waiting for file lock on build directory"
            ]
        );
    }

    #[test]
    fn sentences_count_steps_and_estimate_the_time_left() {
        let mut progress = Progress { started: Instant::now(), first: None, line: String::new() };
        assert_eq!(progress.sentence(), None);
        progress.started -= Duration::from_secs(20);
        let sentence = |progress: &mut Progress, line: &str| {
            progress.line = line.trim().to_string();
            progress.sentence().unwrap()
        };
        let line = "    Building [=> ] 40/80: serde(build.rs), serde, syn, quote, a...   ";
        assert_eq!(sentence(&mut progress, line), "Compiling 40 of 80: serde, syn, quote, … (20 s)");
        let line = "    Building [==>] 60/80: polars, ctx";
        assert_eq!(sentence(&mut progress, line), "Compiling 60 of 80: polars, the cell (20 s, about 20 s left)");
        let line = "    Building [=> ] 50/80: polars";
        assert_eq!(sentence(&mut progress, line), "Compiling 50 of 80: polars (20 s, about 1 min left)");
        let line = "    Blocking waiting for file lock on build directory\n";
        assert_eq!(sentence(&mut progress, line), "Waiting for another cargo, which uses the build directory");
        let line = " Downloading 3 crates, remaining bytes: 2.1 MiB";
        assert_eq!(sentence(&mut progress, line), "Downloading 3 crates, remaining bytes: 2.1 MiB (20 s)");
    }
}
