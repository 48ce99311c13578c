//! The crates of a kernel as rust-analyzer hears of them: without those that no cell can name.
//!
//! evcxr asks rust-analyzer for the types of variables. It puts all sources into one root, so that rust-analyzer reads every
//! crate of the workspace, whether anything leads there or not; and whatever a cell's crate depends on is searched for
//! implementations. With vitlab that would be 151 crates, of which a notebook sees five. What is built stays as it is.

use std::collections::{HashMap, HashSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, Package, PackageId};

/// Where a package says, in its manifest, which of all the crates below it show in its interface:
/// `[package.metadata.vitlab-kernel] shows = ["tch", ...]`.
const TABLE: &str = "vitlab-kernel";

/// Leaves what the workspace's packages depend on but for: what only build scripts and tests use; what macros are made of that
/// run in the compiler; and, below a package that says what it shows, what it doesn't name.
pub fn prune(metadata: &mut Metadata) {
    let Some(resolve) = &mut metadata.resolve else {
        return;
    };
    let packages: HashMap<&PackageId, &Package> = metadata.packages.iter().map(|it| (&it.id, it)).collect();
    let nodes: HashMap<PackageId, usize> =
        (resolve.nodes.iter().enumerate()).map(|(index, node)| (node.id.clone(), index)).collect();
    let members = &metadata.workspace_members;
    let mut seen = HashSet::new();
    // Those that nothing is said of come first, so that what they lead to is left whole.
    let mut open: VecDeque<(PackageId, Option<Vec<&str>>)> = members.iter().map(|id| (id.clone(), None)).collect();
    while let Some((id, shown)) = open.pop_front() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let package = packages[&id];
        let shown = shown.or_else(|| shows(package));
        let in_compiler = package.targets.iter().any(|it| it.is_proc_macro());
        let node = &mut resolve.nodes[nodes[&id]];
        node.deps.retain(|it| {
            let name = packages[&it.pkg].name.as_str();
            let mut kinds = it.dep_kinds.iter();
            !in_compiler
                && kinds.any(|it| it.kind == DependencyKind::Normal)
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

fn shows(package: &Package) -> Option<Vec<&str>> {
    let names = package.metadata.get(TABLE)?.get("shows")?.as_array()?;
    Some(names.iter().filter_map(|it| it.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cargo_metadata::MetadataCommand;

    /// The crates that are left of a workspace of `ctx`, whose `ctx` depends on the others in the given way.
    fn left(packages: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, manifest) in packages {
            let package = folder.path().join(name);
            std::fs::create_dir_all(package.join("src")).unwrap();
            std::fs::write(package.join("src/lib.rs"), "").unwrap();
            let manifest = format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\n{manifest}");
            std::fs::write(package.join("Cargo.toml"), manifest).unwrap();
        }
        let mut command = MetadataCommand::new();
        command.manifest_path(folder.path().join("ctx/Cargo.toml"));
        let mut metadata = command.exec().unwrap();
        prune(&mut metadata);
        let names = |ids: &mut dyn Iterator<Item = String>| {
            let mut names: Vec<String> = ids.collect();
            names.sort();
            names
        };
        let packages = names(&mut metadata.packages.iter().map(|it| it.name.to_string()));
        let nodes = metadata.resolve.unwrap().nodes;
        assert_eq!(nodes.len(), packages.len());
        for node in nodes {
            let named: Vec<&PackageId> = node.deps.iter().map(|it| &it.pkg).collect();
            assert_eq!(named, node.dependencies.iter().collect::<Vec<_>>());
        }
        packages
    }

    fn on(name: &str) -> String {
        format!("{name} = {{ path = \"../{name}\" }}\n")
    }

    #[test]
    fn what_no_cell_can_name_is_left_out() {
        let ctx = format!("[dependencies]\n{}", on("a"));
        let a = format!(
            "[dependencies]\n{}{}[build-dependencies]\n{}[dev-dependencies]\n{}",
            on("b"),
            on("derive"),
            on("only_built_with"),
            on("only_tested_with")
        );
        let derive = format!("[lib]\nproc-macro = true\n[dependencies]\n{}", on("syntax"));
        let packages = [
            ("ctx", &*ctx),
            ("a", &a),
            ("b", ""),
            ("derive", &derive),
            ("only_built_with", ""),
            ("only_tested_with", ""),
            ("syntax", ""),
        ];
        assert_eq!(left(&packages), ["a", "b", "ctx", "derive"]);
    }

    #[test]
    fn a_package_says_what_it_shows_of_all_below_it() {
        let ctx = format!("[dependencies]\n{}{}", on("a"), on("other"));
        let a = format!("metadata.vitlab-kernel.shows = [\"b\", \"c\"]\n[dependencies]\n{}{}", on("b"), on("hidden"));
        let b = format!("[dependencies]\n{}{}", on("c"), on("below"));
        let other = format!("[dependencies]\n{}{}", on("below_other"), on("c"));
        let c = format!("[dependencies]\n{}", on("below_c"));
        let packages = [
            ("ctx", &*ctx),
            ("a", &a),
            ("b", &b),
            ("c", &c),
            ("below_c", ""),
            ("hidden", ""),
            ("below", ""),
            ("other", &other),
            ("below_other", ""),
        ];
        assert_eq!(left(&packages), ["a", "b", "below_c", "below_other", "c", "ctx", "other"]);
    }
}
