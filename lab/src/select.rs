//! Which notebooks a command means.

use std::path::{Path, PathBuf};

use vitlab_dataset::{Error, Result};

use crate::repository::Repository;

/// The notebooks with these names, beginnings of names or paths; all of notebooks/ for none.
pub fn notebooks(repository: &Repository, names: &[String]) -> Result<Vec<PathBuf>> {
    let folder = repository.notebooks();
    let mut all: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|error| Error::file(&folder, error.to_string()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ipynb"))
        .collect();
    all.sort();
    if names.is_empty() {
        return if all.is_empty() { Err(Error::file(&folder, "holds no notebook")) } else { Ok(all) };
    }
    names.iter().map(|name| one(&all, name)).collect()
}

fn one(all: &[PathBuf], name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_file() && path.extension().is_some_and(|extension| extension == "ipynb") {
        return path.canonicalize().map_err(|error| Error::file(path, error.to_string()));
    }
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let wanted = name.strip_suffix(".ipynb").unwrap_or(name);
    if let Some(exact) = all.iter().find(|path| stem(path) == wanted) {
        return Ok(exact.clone());
    }
    let beginning: Vec<&PathBuf> = all.iter().filter(|path| stem(path).starts_with(wanted)).collect();
    if let [only] = beginning[..] {
        return Ok(only.clone());
    }
    let list = |paths: &[&PathBuf]| paths.iter().map(|path| stem(path)).collect::<Vec<_>>().join(", ");
    Err(Error::argument(match beginning.len() {
        0 => format!("there is no notebook {name}; there are {}", list(&all.iter().collect::<Vec<_>>())),
        _ => format!(
            "{name} begins the names of several notebooks: {}; write more of the one you mean",
            list(&beginning)
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_its_unique_beginning_will_do() {
        let all = ["n/0_vit.ipynb", "n/2_attention.ipynb", "n/2_rollout.ipynb"].map(PathBuf::from);
        assert_eq!(one(&all, "0").unwrap(), all[0]);
        assert_eq!(one(&all, "2_attention").unwrap(), all[1]);
        assert_eq!(one(&all, "2_rollout.ipynb").unwrap(), all[2]);
        let error = one(&all, "2").unwrap_err().to_string();
        assert!(error.contains("several notebooks: 2_attention, 2_rollout"), "{error}");
        let error = one(&all, "7").unwrap_err().to_string();
        assert!(error.contains("no notebook 7; there are 0_vit, 2_attention, 2_rollout"), "{error}");
    }
}
