//! Prints a page to PDF through Chromium.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::system::{Error, Progress, Result, process};

/// Names of the program: Debian's, Ubuntu's and Google's.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The first version that numbers pages by CSS (margin boxes with `counter(page)`).
const OLDEST: u32 = 131;

pub struct Chromium {
    program: PathBuf,
    /// The version as the program states it, such as "Chromium 148.0.7778.167".
    version: String,
}

impl Chromium {
    /// Finds the program on PATH.
    ///
    /// # Errors
    /// Fails if there is none, or only one that is too old to number pages.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let mut programs = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        let found = programs.find(|program| program.is_file());
        let version = |program: PathBuf| {
            let version = process::output(Command::new(&program).arg("--version"))?;
            Some(Chromium { program, version })
        };
        let remedy = "on Debian: apt-get install chromium. HTML needs none: `export --to html`, `hand-in --no-pdf`";
        let chromium = found.and_then(version).ok_or_else(|| {
            Error::argument(format!("PDF needs a Chromium, and none of {} starts; {remedy}", NAMES.join(", ")))
        })?;
        match chromium.major() {
            Some(major) if major < OLDEST => {
                let problem =
                    format!("is {}, which can't number pages; install version {OLDEST} or newer", chromium.version);
                Err(Error::file(&chromium.program, problem))
            }
            _ => Ok(chromium),
        }
    }

    fn major(&self) -> Option<u32> {
        self.version.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok())
    }

    /// Prints the file `page` to the file `pdf`, which is replaced at the end.
    ///
    /// # Errors
    /// Fails if the program fails or prints nothing.
    pub fn print(&self, page: &Path, pdf: &Path, progress: &Progress) -> Result<()> {
        let printed = page.with_extension("pdf");
        // Without a profile of its own, it would hand the page to a window that is open already.
        let profile = page.with_extension("profile");
        let mut command = Command::new(&self.program);
        // The sandbox needs namespaces that containers often lack. The page is the user's own, and the network is cut off.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        // Scripts of outputs get five seconds of the page's own clock.
        command.args(["--virtual-time-budget=5000", "--no-pdf-header-footer", "--generate-pdf-document-outline"]);
        command.arg(format!("--print-to-pdf={}", printed.display())).arg(page);
        progress.run(&mut command, |_| Some(format!("printing with {}", self.version)))?;
        if !fs::metadata(&printed).is_ok_and(|file| file.len() > 0) {
            return Err(Error::file(&self.program, format!("({}) printed nothing; try again", self.version)));
        }
        fs::rename(&printed, pdf).map_err(|error| Error::file(pdf, format!("can't be written ({error})")))?;
        progress.print_line(&format!("printed by {} ({})", self.version, self.program.display()));
        Ok(())
    }
}
