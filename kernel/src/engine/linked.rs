//! The crates that the set-up has compiled: it links their folders beside evcxr's. A `:dep` on the original folder is led to
//! the link, because cargo identifies a package by its path and would compile it anew.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::commands::{Command, commands};
use super::rewrite::{Edit, Piece};

/// The crates of the links that cells depend on.
#[derive(Clone, Default)]
pub struct Linked {
    /// The last `:dep` on each original folder, which was led to its link.
    lines: BTreeMap<PathBuf, String>,
    /// A crate depends on one of the original folders, so that the notebook has to do so, too.
    uses_originals: bool,
}

impl Linked {
    /// Returns the edits that lead a cell's `:dep`s to the links beside evcxr's `folder`, and what holds after the cell if it
    /// succeeds.
    pub fn edits(&self, code: &str, folder: &Path) -> (Vec<Edit>, Self) {
        let cleared = commands(code).any(|command| command.name == ":clear");
        let mut after = if cleared { Linked::default() } else { self.clone() };
        let named: Vec<_> = commands(code)
            .filter_map(|command| {
                let range = path(&command)?;
                Some((Path::new(&code[range.clone()]).canonicalize().ok()?, range, command))
            })
            .collect();
        if named.is_empty() || after.uses_originals {
            return (Vec::new(), after);
        }
        let links = links(folder);
        let link = |folder: &Path| links.iter().find(|(_, original)| original == folder).map(|(link, _)| link);
        if named.iter().any(|(folder, ..)| link(folder).is_none() && depends_on(folder, &links)) {
            let lines = std::mem::take(&mut after.lines);
            after.uses_originals = true;
            return (lines.into_values().map(|line| Edit::insert(0, line + "\n")).collect(), after);
        }
        let mut edits = Vec::new();
        for (original, range, command) in named {
            if let Some(link) = link(&original) {
                let (line, from) = (command.line, command.range.start);
                let (before, rest) = (&line[..range.start - from], &line[range.end - from..]);
                let line = format!("{before}{}{rest}", original.display());
                after.lines.insert(original, line);
                let pieces = vec![Piece::Added(link.to_string_lossy().into_owned())];
                edits.push(Edit { range, pieces });
            }
        }
        (edits, after)
    }
}

/// Returns the place of the path in a `:dep`, in bytes of the cell: that of `path = "…"`, or of a path alone.
fn path(command: &Command) -> Option<Range<usize>> {
    let argument = command.line.trim_start().strip_prefix(":dep ")?.trim_start();
    let (before, path) = match argument.starts_with(['.', '/']) {
        true => (&command.line[..command.line.len() - argument.len()], argument.split(' ').next()?.trim_end()),
        false => split_at_path(command.line)?,
    };
    let start = command.range.start + before.len();
    Some(start..start + path.len())
}

/// Splits a dependency into the text before the path and the path. The rest is left out.
pub fn split_at_path(dependency: &str) -> Option<(&str, &str)> {
    dependency.match_indices("path").find_map(|(at, key)| {
        let value = dependency[at + key.len()..].trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        let (path, _) = value.split_once('"')?;
        Some((&dependency[..dependency.len() - value.len()], path))
    })
}

/// Returns the links beside evcxr's folder and the folders that they lead to.
fn links(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = folder.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let links = entries.map(|entry| entry.path()).filter(|path| path.is_symlink() && path.join("Cargo.toml").is_file());
    links.filter_map(|link| Some((link.clone(), link.canonicalize().ok()?))).collect()
}

/// Returns whether a package depends on one of the original folders by its path, also through other packages.
fn depends_on(package: &Path, links: &[(PathBuf, PathBuf)]) -> bool {
    let mut folders = vec![package.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        if links.iter().any(|(_, original)| *original == folder) {
            return true;
        }
        for path in paths(&folder).filter_map(|path| path.canonicalize().ok()) {
            if !folders.contains(&path) {
                folders.push(path);
            }
        }
    }
    false
}

/// Returns the folders that a package's manifest names as dependencies, with those that its workspace offers.
fn paths(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let manifest = |folder: &Path| {
        let table: Option<Table> = fs::read_to_string(folder.join("Cargo.toml")).ok()?.parse().ok();
        Some((folder.to_path_buf(), table?))
    };
    let workspace = |(folder, table): (PathBuf, Table)| Some((folder, table.get("workspace")?.as_table()?.clone()));
    let offered = folder.ancestors().filter_map(manifest).find_map(workspace);
    manifest(folder).into_iter().chain(offered).flat_map(|(folder, table)| {
        let mut found = Vec::new();
        find_paths(&table, &mut found);
        found.into_iter().map(move |path| folder.join(path)).collect::<Vec<_>>()
    })
}

/// Collects the paths in the tables of dependencies.
fn find_paths(table: &Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let Value::Table(inner) = value else { continue };
        if name == "dependencies" || name == "build-dependencies" {
            found.extend(inner.values().filter_map(|it| it.get("path")?.as_str()).map(String::from));
        } else {
            find_paths(inner, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    /// A folder with a clone's crate, evcxr's folder beside a link to it, a package of the user that depends on the crate, and
    /// one that doesn't.
    fn folders() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, manifest) in [
            ("clone/Cargo.toml", "[workspace]\n"),
            ("clone/crate/Cargo.toml", "[package]\nname = \"c\"\n"),
            ("user/Cargo.toml", "[workspace.dependencies]\nc = { path = \"../clone/crate\" }\n"),
            ("user/on/Cargo.toml", "[dependencies]\nc.workspace = true\n"),
            ("user/over/Cargo.toml", "[target.'cfg(unix)'.dependencies]\non = { path = \"../on\" }\n"),
            ("alone/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
            ("kernel/ctx/Cargo.toml", ""),
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), manifest).unwrap();
        }
        std::os::unix::fs::symlink(at("clone/crate"), at("kernel/crate")).unwrap();
        folder
    }

    #[test]
    fn a_dependency_leads_to_the_link_unless_another_crate_needs_the_original() {
        let folder = folders();
        let root = folder.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name).to_string_lossy().into_owned();
        let dep = |name: &str, path: &str| format!(" :dep {name} = {{ path = \"{}\", features = [] }}", at(path));
        let edit = |linked: &Linked, code: &str| {
            let (edits, after) = linked.edits(code, Path::new(&at("kernel/ctx")));
            (Rewritten::new(code, edits).text, after)
        };
        let (original, led) = (dep("c", "clone/crate"), dep("c", "kernel/crate"));
        let with = |line: &str| format!("// é\n{line}\nlet path = \"{}\";", at("clone/crate"));
        let (text, first) = edit(&Linked::default(), &with(&original));
        assert_eq!(text, with(&led));
        let short = |name: &str| format!(":dep {} \nf();", at(name));
        assert_eq!(edit(&first, &short("clone/crate")).0, short("kernel/crate"));
        let unchanged = [dep("a", "alone"), dep("m", "missing"), ":dep c = \"1\"".to_string(), "f();".to_string()];
        for code in unchanged.iter().chain([&short("alone")]) {
            assert_eq!(edit(&first, code).0, *code);
        }
        // Then the crate is the same one for both. A cell that fails changes nothing.
        let over = dep("over", "user/over");
        for _ in 0..2 {
            assert_eq!(edit(&first, &over).0, format!("{original}\n{over}"));
        }
        let (_, second) = edit(&first, &over);
        for code in [&over, &with(&original)] {
            assert_eq!(edit(&second, code).0, *code);
        }
        assert_eq!(edit(&second, &format!(":clear\n{original}")).0, format!(":clear\n{led}"));
        let both = format!("{original}\n{}", dep("on", "user/on"));
        assert_eq!(edit(&Linked::default(), &both).0, both);
    }
}
