//! `cargo lab export`: notebooks as PDF, HTML and slides, each in one file that needs no network. `cargo lab run` writes its
//! HTML copies through [`html`].

mod chromium;
mod reveal;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::setup::venv;
use crate::system::{Error, Progress, Repository, Result};
use chromium::Chromium;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab export                             all notebooks of notebooks/ as PDF and HTML
  cargo lab export 2 --to html                 one of them
  cargo lab export 3 --to slides               slides with reveal.js; arrow keys and Esc move in them
  cargo lab export outputs/2_attention.ipynb   a notebook that `cargo lab run` has executed

A notebook is exported with the outputs that it has; nothing is executed. PDF needs Chromium or Google Chrome, 131 or newer
(on Debian: apt-get install chromium). The first export of slides downloads reveal.js (2.4 MB) through pip.")]
pub struct Export {
    /// Notebooks by name, unique beginning of the name, or path [default: all of notebooks/]
    notebooks: Vec<String>,
    /// Formats, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "pdf,html", value_name = "FORMATS")]
    to: Vec<Format>,
    /// Folder to write to [default: outputs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A format of an exported notebook.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Format {
    Pdf,
    Html,
    Slides,
}

impl Export {
    /// Writes each selected notebook in each format.
    ///
    /// # Errors
    /// Fails if a notebook isn't found or can't be read, the output folder can't be written, the clone isn't set up, or a format
    /// needs a program that is missing.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let notebooks = repository.select_notebooks(&self.notebooks)?;
        write(repository, &notebooks, &self.to, &folder(repository, self.out.as_deref())?)
    }
}

/// Writes notebooks into a folder in each format.
///
/// # Errors
/// Fails if a notebook can't be read, the folder can't be written, the clone isn't set up, or a format needs a program that is
/// missing.
pub fn write(repository: &Repository, notebooks: &[PathBuf], formats: &[Format], out: &Path) -> Result<()> {
    // Looked for first: the other formats are of no use to somebody who hands in a PDF.
    let chromium = if formats.contains(&Format::Pdf) { Some(Chromium::find()?) } else { None };
    let reveal = if formats.contains(&Format::Slides) { Some(reveal::wheel(repository)?) } else { None };
    let out = folder(repository, Some(out))?;
    let exporter = Exporter { repository, formats, out: &out, chromium, reveal };
    notebooks.iter().try_for_each(|notebook| exporter.export(notebook))
}

/// Writes notebooks in some formats.
struct Exporter<'a> {
    repository: &'a Repository,
    formats: &'a [Format],
    out: &'a Path,
    /// The program that prints PDF.
    chromium: Option<Chromium>,
    /// The wheel with reveal.js, for slides.
    reveal: Option<PathBuf>,
}

impl Exporter<'_> {
    fn export(&self, notebook: &Path) -> Result<()> {
        let (repository, out) = (self.repository, self.out);
        let name = notebook.file_stem().expect("a notebook's name").to_string_lossy();
        let progress = Progress::new(repository.relative(notebook).display().to_string());
        let temporary = tempfile::tempdir_in(out).map_err(|error| Error::file(out, error.to_string()))?;
        let printed = temporary.path().join("print.html");
        let (mut pages, mut written) = (Vec::new(), Vec::new());
        for format in self.formats {
            let (kind, ending) = match format {
                Format::Pdf => ("print", "pdf"),
                Format::Html => ("html", "html"),
                Format::Slides => ("slides", "slides.html"),
            };
            let path = out.join(format!("{name}.{ending}"));
            written.push(repository.relative(&path).display().to_string());
            pages.push((kind, if *format == Format::Pdf { printed.clone() } else { path }));
        }
        let pictures = notebook.parent().expect("a notebook's folder");
        write_pages(repository, notebook, pictures, &pages, self.reveal.as_deref(), &progress)?;
        if let Some(chromium) = &self.chromium {
            progress.message("printing to PDF");
            chromium.print(&printed, &out.join(format!("{name}.pdf")), &progress)?;
        }
        progress.finish(&written.join(", "));
        Ok(())
    }
}

/// Creates the folder for results if it is missing: `chosen`, or else outputs/.
///
/// # Errors
/// Fails if files can't be written to it.
pub fn folder(repository: &Repository, chosen: Option<&Path>) -> Result<PathBuf> {
    let out = chosen.map_or_else(|| repository.root.join("outputs"), Path::to_path_buf);
    let out = std::path::absolute(&out).unwrap_or(out);
    fs::create_dir_all(&out)
        .and_then(|()| tempfile::tempfile_in(&out))
        .map_err(|error| Error::file(&out, format!("can't be written to ({error}); name another folder with --out")))?;
    Ok(out)
}

/// Writes `ipynb` as HTML. Pictures that its Markdown names are in the folder `pictures`.
///
/// # Errors
/// Fails if the clone isn't set up, the notebook can't be read or the page can't be written.
pub fn html(repository: &Repository, ipynb: &Path, html: &Path, pictures: &Path, progress: &Progress) -> Result<()> {
    write_pages(repository, ipynb, pictures, &[("html", html.to_path_buf())], None, progress)
}

/// Runs export.py.
fn write_pages(
    repository: &Repository,
    notebook: &Path,
    pictures: &Path,
    pages: &[(&str, PathBuf)],
    reveal: Option<&Path>,
    progress: &Progress,
) -> Result<()> {
    if !repository.venv_bin("python").exists() {
        return Err(Error::file(repository.venv(), "isn't there; run `cargo lab setup`"));
    }
    progress.message("writing pages");
    let job = json!({ "notebook": notebook, "folder": pictures, "pages": pages, "reveal": reveal });
    let mut command = venv::command(repository, "python");
    command.args(["-I", "-c", include_str!("../python/export.py"), &job.to_string()]);
    let mut lacking = Vec::new();
    progress.run(&mut command, |line| {
        lacking.extend(line.strip_prefix("! ").map(str::to_string));
        None
    })?;
    lacking.iter().for_each(|line| progress.print_line(line));
    Ok(())
}
