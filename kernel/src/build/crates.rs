//! Hides the crates that no cell can name from rust-analyzer. They are still built.
//!
//! evcxr asks rust-analyzer for the types of variables. evcxr puts all sources into one root, so rust-analyzer reads
//! every crate of the workspace, even those that nothing depends on, and searches every dependency of the cell's crate
//! for implementations. vitlab has 151 such crates. A notebook can name five of them.

use std::collections::{HashMap, HashSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

/// The table in which a package's manifest lists the crates that its interface shows, among all below it:
/// `[package.metadata.vitlab-kernel] shows = ["tch", ...]`.
const TABLE: &str = "vitlab-kernel";
/// The crates of the standard library that a cell's types come from. The last two stand for `core` and `alloc` in the
/// manifests of other crates.
const LIBRARY: [&str; 5] = ["alloc", "core", "hashbrown", "rustc-std-workspace-core", "rustc-std-workspace-alloc"];

/// The package that evcxr writes for cells.
const CELL: &str = "ctx";

/// Keeps the cell's package and its dependencies, except: dependencies of build scripts and tests; dependencies of
/// procedural macros, which run in the compiler; and, below a package that lists what it shows, everything else.
pub fn prune(metadata: &mut Metadata) {
    prune_below(metadata, CELL, None);
}

/// Keeps `std` and the crates that hold the types of its interface.
pub fn prune_library(metadata: &mut Metadata) {
    prune_below(metadata, "std", Some(LIBRARY.to_vec()));
}

/// `root` is the package that remains of the workspace. `shown` is what it shows, if it is limited.
fn prune_below(metadata: &mut Metadata, root: &str, shown: Option<Vec<&str>>) {
    let member = |id: &PackageId| metadata.packages.iter().any(|it| it.id == *id && it.name == root);
    metadata.workspace_members.retain(member);
    let Some(resolve) = &mut metadata.resolve else { return };
    let packages: HashMap<&PackageId, &Package> = metadata.packages.iter().map(|it| (&it.id, it)).collect();
    let nodes: HashMap<PackageId, usize> =
        (resolve.nodes.iter().enumerate()).map(|(index, node)| (node.id.clone(), index)).collect();
    let mut seen = HashSet::new();
    // Packages without a list above them come first, so that all below them is kept even if a list omits it.
    let mut open: VecDeque<_> = metadata.workspace_members.iter().map(|id| (id.clone(), shown.clone())).collect();
    while let Some((id, shown)) = open.pop_front() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let package = packages[&id];
        let shown = shown.or_else(|| shown_crates(package));
        let is_macro = package.targets.iter().any(|it| it.is_proc_macro());
        let node = &mut resolve.nodes[nodes[&id]];
        node.deps.retain(|it| {
            let name = packages[&it.pkg].name.as_str();
            !is_macro
                && it.dep_kinds.iter().any(|it| it.kind == DependencyKind::Normal)
                && shown.as_ref().is_none_or(|shown| shown.contains(&name))
        });
        node.dependencies = node.deps.iter().map(|it| it.pkg.clone()).collect();
        for id in &node.dependencies {
            match &shown {
                None => open.push_front((id.clone(), None)),
                shown => open.push_back((id.clone(), shown.clone())),
            }
        }
    }
    resolve.nodes.retain(|it| seen.contains(&it.id));
    metadata.packages.retain(|it| seen.contains(&it.id));
}

fn shown_crates(package: &Package) -> Option<Vec<&str>> {
    let names = package.metadata.get(TABLE)?.get("shows")?.as_array()?;
    Some(names.iter().filter_map(|it| it.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cargo_metadata::MetadataCommand;

    use super::*;

    /// Returns the names of the crates that remain for `ctx`, given each package's name and manifest. A word alone in a
    /// manifest stands for a dependency on the package of this name.
    fn remaining<const N: usize>(packages: [(&str, &str); N]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, manifest) in packages {
            let line = |word: &str| match word.contains(['[', '=']) {
                true => format!("{word}\n"),
                false => format!("{word} = {{ path = \"../{word}\" }}\n"),
            };
            let manifest: String = manifest.split_whitespace().map(line).collect();
            fs::create_dir_all(folder.path().join(name).join("src")).unwrap();
            fs::write(folder.path().join(name).join("src/lib.rs"), "").unwrap();
            let manifest = format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\n{manifest}");
            fs::write(folder.path().join(name).join("Cargo.toml"), manifest).unwrap();
        }
        let manifest = folder.path().join("ctx/Cargo.toml");
        let mut metadata = MetadataCommand::new().manifest_path(manifest).exec().unwrap();
        prune(&mut metadata);
        let nodes = metadata.resolve.unwrap().nodes;
        assert_eq!(nodes.len(), metadata.packages.len());
        for node in nodes {
            assert!(node.deps.iter().map(|it| &it.pkg).eq(&node.dependencies));
        }
        let mut names: Vec<String> = metadata.packages.iter().map(|it| it.name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_no_cell_can_name_is_left_out() {
        let names = remaining([
            ("ctx", "[dependencies] a"),
            ("a", "[dependencies] b derive [build-dependencies] only_built_with [dev-dependencies] only_tested_with"),
            ("b", ""),
            ("derive", "[lib] proc-macro=true [dependencies] syntax"),
            ("only_built_with", ""),
            ("only_tested_with", ""),
            ("syntax", ""),
        ]);
        assert_eq!(names, ["a", "b", "ctx", "derive"]);
    }

    #[test]
    fn a_package_says_what_it_shows_of_all_below_it() {
        let names = remaining([
            ("ctx", "[dependencies] a other"),
            ("a", "metadata.vitlab-kernel.shows=[\"b\",\"c\"] [dependencies] b hidden"),
            ("b", "[dependencies] c below"),
            ("c", "[dependencies] below_c"),
            ("below_c", ""),
            ("hidden", ""),
            ("below", ""),
            ("other", "[dependencies] below_other c"),
            ("below_other", ""),
        ]);
        assert_eq!(names, ["a", "b", "below_c", "below_other", "c", "ctx", "other"]);
    }
}
