//! `cargo lab hand-in`: one zip file with the notebooks under their author's name, their exports, and everything that runs them
//! on another machine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ignore::WalkBuilder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vitlab_dataset::file;

use crate::check;
use crate::export::{self, Format};
use crate::setup::venv;
use crate::system::{Error, Progress, Repository, Result, file as text_file};

#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo lab hand-in --author \"Ada Muster\" --number 1234567 --course \"Deep Learning\"

The zip file holds the clone as it is (without what .gitignore names), with the author lines filled in, and in the folder hand-in
the notebooks as HTML and PDF, versions.json and SHA256SUMS. Your own notebooks stay as they are. Nothing is executed: run
`cargo lab run --in-place` before, and `cargo lab check --run` to be sure.")]
pub struct HandIn {
    /// Notebooks by name, unique beginning of the name, or path [default: all of notebooks/]
    notebooks: Vec<String>,
    /// Name of the author, or names
    #[arg(long)]
    author: String,
    /// Name of the course
    #[arg(long)]
    course: String,
    /// Student number, written behind the author's name
    #[arg(long)]
    number: Option<String>,
    /// Date in the author lines [default: today]
    #[arg(long)]
    date: Option<String>,
    /// Leave out the PDF files, which need Chromium
    #[arg(long)]
    no_pdf: bool,
    /// Write the file although `cargo lab check` finds something
    #[arg(long)]
    anyway: bool,
    /// File to write [default: outputs/hand-in.zip]
    #[arg(long, value_name = "FILE.zip")]
    out: Option<PathBuf>,
}

/// Name of the folder in the zip file, and of the folder of exports in it.
const ROOT: &str = "vitlab";
const EXPORTS: &str = "hand-in";

impl HandIn {
    /// Fills in the author lines in a copy, checks and exports it, and writes the zip file. Returns status 1 if a check finds
    /// something, and then writes nothing unless `--anyway` is given.
    ///
    /// # Errors
    /// Fails if a notebook isn't found or has no author line, an export fails, or a file can't be read or written.
    pub fn run(&self, repository: &Repository) -> Result<ExitCode> {
        let selected = repository.select_notebooks(&self.notebooks)?;
        let inside = |path: &PathBuf| path.parent() == Some(repository.notebooks().as_path());
        if let Some(other) = selected.iter().find(|path| !inside(path)) {
            return Err(Error::file(
                other,
                "isn't in the folder notebooks; move it there, so that it runs from the zip file",
            ));
        }
        let temporary =
            tempfile::tempdir().map_err(|error| Error::argument(format!("no temporary folder: {error}")))?;
        let copy = temporary.path().join(ROOT);
        copy_clone(repository, &copy)?;
        let notebooks: Vec<PathBuf> =
            selected.iter().map(|path| copy.join("notebooks").join(path.file_name().expect("a file"))).collect();
        notebooks.iter().try_for_each(|path| self.sign(path))?;
        let findings = check::findings(repository, &notebooks, temporary.path())?;
        check::print(&findings, &[], notebooks.len());
        if !findings.is_empty() && !self.anyway {
            eprintln!("nothing was written; repair this, or add --anyway");
            return Ok(ExitCode::FAILURE);
        }
        let formats: &[Format] = if self.no_pdf { &[Format::Html] } else { &[Format::Html, Format::Pdf] };
        let exports = copy.join(EXPORTS);
        export::write(repository, &notebooks, formats, &exports)?;
        text_file::write_json(&exports.join("versions.json"), &versions(repository))?;
        text_file::write(&exports.join("README.md"), &self.read_me(&notebooks))?;
        let sums = checksums(&copy)?;
        text_file::write(&exports.join("SHA256SUMS"), &sums)?;
        let out = self.out.clone().unwrap_or_else(|| repository.root.join("outputs").join("hand-in.zip"));
        let progress = Progress::new(repository.relative(&out).display().to_string());
        let archive = temporary.path().join("hand-in.zip");
        zip_folder(repository, &copy, &archive, &progress)?;
        file::replace(&out, |to| io::copy(&mut File::open(&archive)?, to).map(drop))?;
        let size = fs::metadata(&out).map_or(0, |metadata| metadata.len());
        progress.finish(&format!("{} files, {:.1} MB", sums.lines().count() + 1, size as f64 / 1e6));
        Ok(ExitCode::SUCCESS)
    }

    /// Fills in the author line of a notebook.
    fn sign(&self, path: &Path) -> Result<()> {
        let mut notebook: Value = serde_json::from_str(&text_file::read(path)?)
            .map_err(|error| Error::file(path, format!("can't be read as a notebook ({error})")))?;
        let author = match &self.number {
            Some(number) => format!("{} ({number})", self.author),
            None => self.author.clone(),
        };
        let date = self.date.clone().map_or_else(today, Ok)?;
        let line = format!("*Author: {author} · Course: {} · Date: {date}*", self.course);
        let cells = notebook["cells"].as_array_mut().into_iter().flatten();
        let signed = cells.filter(|cell| cell["cell_type"] == "markdown").any(|cell| sign_cell(cell, &line));
        if !signed {
            let remedy = "write `*Author: … · Course: … · Date: …*` below the title";
            return Err(Error::file(path, format!("has no line that names the author; {remedy}")));
        }
        text_file::write_json(path, &notebook)
    }

    fn read_me(&self, notebooks: &[PathBuf]) -> String {
        let names: Vec<_> = notebooks.iter().map(|path| format!("- {}", text_file::name(path))).collect();
        format!(
            "# Hand-in of {}\n\n{}\n\nThis folder has the notebooks as pages to read, versions.json and SHA256SUMS (`sha256sum --check \
             hand-in/SHA256SUMS` in the folder above). On Linux with Rust and Python 3.11 to 3.13, in the folder above:\n\n```sh\ncargo lab \
             run --load-model    # sets up what is missing, then executes the notebooks with the weights in models/\ncargo lab check --run          # \
             executes them in full and compares the outputs\n```\n",
            self.author,
            names.join("\n")
        )
    }
}

/// Replaces the author line of a cell. Returns false if it has none.
fn sign_cell(cell: &mut Value, line: &str) -> bool {
    let source = match &cell["source"] {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_string(),
    };
    let Some(old) = check::author_line(&source) else { return false };
    let text = source.replacen(old, line, 1);
    cell["source"] = text.split_inclusive('\n').collect();
    true
}

/// Today's date, as the system's `date` gives it.
fn today() -> Result<String> {
    let output = Command::new("date").arg("+%Y-%m-%d").output();
    let date = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    date.map(|date| date.trim().to_string())
        .filter(|date| !date.is_empty())
        .ok_or_else(|| Error::argument("the date isn't known; give it with --date"))
}

/// Copies the files of the clone that .gitignore doesn't name.
fn copy_clone(repository: &Repository, to: &Path) -> Result<()> {
    // A clone that came out of a zip file isn't one of git.
    let walk = WalkBuilder::new(&repository.root)
        .hidden(false)
        .require_git(false)
        .git_global(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| Error::argument(format!("the clone can't be read: {error}")))?;
        let path = to.join(repository.relative(entry.path()));
        let copied = match entry.file_type() {
            Some(kind) if kind.is_dir() => fs::create_dir_all(&path),
            Some(kind) if kind.is_file() => fs::copy(entry.path(), &path).map(drop),
            _ => Ok(()),
        };
        copied.map_err(|error| Error::file(entry.path(), format!("can't be copied ({error})")))?;
    }
    Ok(())
}

/// The versions that the outputs come from.
fn versions(repository: &Repository) -> Value {
    let answer = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&repository.root).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(text.trim_end().to_string()).filter(|text| !text.is_empty())
    };
    json!({
        "vitlab": env!("CARGO_PKG_VERSION"),
        "commit": answer("git", &["rev-parse", "HEAD"]),
        "changed_since": answer("git", &["status", "--short"]).map(|text| text.lines().map(str::to_string).collect::<Vec<_>>()),
        "rustc": answer("rustc", &["--version"]),
        "system": answer("uname", &["-srm"]),
        "python_packages": "environment.yml",
        "crates": "Cargo.lock",
    })
}

/// The files below a folder, sorted by their paths relative to it.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::argument(format!("the copy can't be read: {error}")))?;
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(folder).expect("below the folder").display().to_string();
            files.push((relative, entry.into_path()));
        }
    }
    Ok(files)
}

/// One line per file, as `sha256sum` writes and checks them.
fn checksums(folder: &Path) -> Result<String> {
    let mut lines = String::new();
    for (name, path) in files(folder)? {
        let bytes = fs::read(&path).map_err(|error| Error::file(&path, format!("can't be read ({error})")))?;
        lines.push_str(&format!("{:x}  {name}\n", Sha256::digest(&bytes)));
    }
    Ok(lines)
}

/// Writes a folder into a zip file below the folder's name. Python writes it: the set-up needs no crate for this step alone.
fn zip_folder(repository: &Repository, folder: &Path, to: &Path, progress: &Progress) -> Result<()> {
    let mut python = venv::command(repository, "python");
    progress.run(python.args(["-m", "zipfile", "-c"]).args([to, folder]), |_| None)
}
