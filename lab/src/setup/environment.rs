//! Reads environment.yml, the one list of the versions on the Python side.

use serde::Deserialize;
use vitlab_dataset::{Error, Result};

use crate::system::{Repository, file};

/// The requirements of environment.yml.
pub struct Environment {
    /// Range of Python 3's minor version.
    pub minor: std::ops::Range<u32>,
    /// Requirements for pip, all of the form `name==version`.
    pub pip: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Dependency {
    Conda(String),
    Pip { pip: Vec<String> },
}

/// Reads the file.
///
/// # Errors
/// Fails if the file is unreadable or malformed, or if a requirement names no version.
pub fn read(repository: &Repository) -> Result<Environment> {
    let path = repository.root.join("environment.yml");
    parse(&file::read(&path)?).map_err(|problem| Error::file(path, problem))
}

fn parse(text: &str) -> Result<Environment, String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let mut minor = None;
    let mut pip = Vec::new();
    for dependency in file.dependencies {
        match dependency {
            Dependency::Conda(text) => minor = python_range(&text).or(minor),
            Dependency::Pip { pip: list } => pip.extend(list),
        }
    }
    if let Some(loose) = pip.iter().find(|requirement| !requirement.contains("==")) {
        return Err(format!("{loose} names no version; write it as name==version"));
    }
    let minor = minor.ok_or("has no line of the form python>=3.A,<3.B")?;
    Ok(Environment { minor, pip })
}

/// Parses "python>=3.11,<3.14" as 11..14.
fn python_range(text: &str) -> Option<std::ops::Range<u32>> {
    let (from, to) = text.strip_prefix("python>=3.")?.split_once(",<3.")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pins_and_python_range() {
        let text = "name: x\ndependencies:\n  - python>=3.11,<3.14\n  - pip\n  - pip:\n    - torch==2.11.0\n    - numpy==2.4.6\n";
        let environment = parse(text).unwrap();
        assert_eq!(environment.minor, 11..14);
        assert_eq!(environment.pip, ["torch==2.11.0", "numpy==2.4.6"]);
    }

    #[test]
    fn refuses_a_requirement_without_a_version() {
        let error = parse("dependencies:\n  - python>=3.11,<3.14\n  - pip:\n    - torch\n").err().unwrap();
        assert!(error.contains("torch names no version"), "{error}");
    }
}
