//! The clone of the repository that a command works on.

use std::path::{Path, PathBuf};

use super::{Error, Result, cache};

#[derive(Clone)]
pub struct Repository {
    pub root: PathBuf,
}

impl Repository {
    /// Finds the clone that contains the working directory.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir().map_err(|error| Error::file(".", error.to_string()))?;
        Self::containing(&here)
    }

    /// Finds the clone that contains `path`.
    pub fn containing(path: &Path) -> Result<Self> {
        path.ancestors()
            .find(|folder| folder.join("environment.yml").is_file() && folder.join("crate/Cargo.toml").is_file())
            .map(|root| Repository { root: root.to_path_buf() })
            .ok_or_else(|| Error::file(path, "is not inside a clone of vitlab; change to one and try again"))
    }

    /// Names this clone's entries in the cache folder.
    pub fn key(&self) -> String {
        cache::key(&[self.root.to_string_lossy().as_bytes()])
    }

    /// The virtual environment of this clone.
    pub fn venv(&self) -> PathBuf {
        self.root.join(".venv")
    }

    pub fn venv_bin(&self, program: &str) -> PathBuf {
        self.venv().join("bin").join(program)
    }

    pub fn notebooks(&self) -> PathBuf {
        self.root.join("notebooks")
    }

    /// Shortens a path inside the clone to one relative to its root.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Returns the notebooks that `names` select: by name, unique beginning of the name, or path. No name selects them all.
    ///
    /// # Errors
    /// Fails if a name selects no notebook or several, or if notebooks/ can't be read or holds none.
    pub fn select_notebooks(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let folder = self.notebooks();
        let mut all: Vec<PathBuf> = std::fs::read_dir(&folder)
            .map_err(|error| Error::file(&folder, format!("can't be read ({error})")))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_notebook(path))
            .collect();
        all.sort();
        match names {
            [] if all.is_empty() => Err(Error::file(&folder, "holds no notebook")),
            [] => Ok(all),
            names => names.iter().map(|name| select(&all, name)).collect(),
        }
    }
}

fn is_notebook(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "ipynb")
}

fn select(all: &[PathBuf], name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_file() && is_notebook(path) {
        return path.canonicalize().map_err(|error| Error::file(path, error.to_string()));
    }
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let list = |paths: &[PathBuf]| paths.iter().map(stem).collect::<Vec<_>>().join(", ");
    let wanted = name.strip_suffix(".ipynb").unwrap_or(name);
    let mut found: Vec<PathBuf> = all.iter().filter(|path| stem(path).starts_with(wanted)).cloned().collect();
    if let Some(exact) = found.iter().position(|path| stem(path) == wanted) {
        return Ok(found.swap_remove(exact));
    }
    let problem = match &found[..] {
        [only] => return Ok(only.clone()),
        [] => format!("there is no notebook {name}; there are {}", list(all)),
        _ => {
            let names = list(&found);
            format!("{name} begins the names of several notebooks: {names}; write more of the one you mean")
        }
    };
    Err(Error::argument(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_its_unique_beginning_will_do() {
        let all = ["n/0_vit.ipynb", "n/2_attention.ipynb", "n/2_rollout.ipynb"].map(PathBuf::from);
        assert_eq!(select(&all, "0").unwrap(), all[0]);
        assert_eq!(select(&all, "2_attention").unwrap(), all[1]);
        assert_eq!(select(&all, "2_rollout.ipynb").unwrap(), all[2]);
        let error = select(&all, "2").unwrap_err().to_string();
        assert!(error.contains("several notebooks: 2_attention, 2_rollout"), "{error}");
        let error = select(&all, "7").unwrap_err().to_string();
        assert!(error.contains("no notebook 7; there are 0_vit, 2_attention, 2_rollout"), "{error}");
    }
}
