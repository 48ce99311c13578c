//! Stand-ins for libtorch's libraries, for the linker alone. libtorch has a hundred thousand symbols, all of which the linker
//! would read for each cell; a stand-in has only those that the bindings use. What runs is the real library, by the same name.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSymbol, ReadCache, SymbolKind};
use vitlab_dataset::{Error, Result};

use crate::step::Step;

/// Where they lie in a kernel's workspace.
const FOLDER: &str = "stubs";
/// Those that the bindings name.
const LIBRARIES: [&str; 5] = ["c10", "c10_cuda", "torch", "torch_cpu", "torch_cuda"];

/// Makes the stand-ins for `libtorch` in a workspace whose `ctx` is built.
pub fn make(workspace: &Path, libtorch: &Path, step: &Step) -> Result<()> {
    let libraries = LIBRARIES.map(|name| libtorch.join(format!("lib/lib{name}.so")));
    let libraries: Vec<&PathBuf> = libraries.iter().filter(|path| path.exists()).collect();
    // On other systems they have other names, and nothing is to be gained.
    if libraries.is_empty() {
        return Ok(());
    }
    let folder = workspace.join(FOLDER);
    let failed = |path: &Path, problem: String| {
        Error::file(path, format!("can't be made a stand-in of for the linker ({problem})"))
    };
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error.to_string()))?;
    let bindings =
        bindings(&workspace.join("ctx/target")).ok_or_else(|| failed(workspace, "torch-sys isn't built".into()))?;
    let used = used(&bindings).map_err(|problem| failed(&bindings, problem))?;
    for library in libraries {
        let name = library.file_name().unwrap_or_default();
        let mut soname = OsString::from("-Wl,-soname,");
        soname.push(name);
        let symbols = defined(library, &used).map_err(|problem| failed(library, problem))?;
        let source = folder.join("stub.s");
        fs::write(&source, assembly(&symbols)).map_err(|error| failed(&source, error.to_string()))?;
        step.run(
            Command::new("cc").args(["-shared", "-nostdlib"]).arg(soname).arg("-o").arg(folder.join(name)).arg(&source),
            |_| None,
        )?;
    }
    Ok(())
}

/// The newest of torch-sys in a target folder.
fn bindings(target: &Path) -> Option<PathBuf> {
    let files = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    files(target.into())
        .flat_map(|triple| files(triple.path().join("debug/deps")))
        .map(|file| file.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libtorch_sys-") && name.ends_with(".rlib")
        })
        .max_by_key(|path| path.metadata().and_then(|it| it.modified()).ok())
}

/// What the members of an archive leave to others.
fn used(archive: &Path) -> std::result::Result<HashSet<String>, String> {
    let data = fs::read(archive).map_err(|error| error.to_string())?;
    let mut names = HashSet::new();
    for member in ArchiveFile::parse(&*data).map_err(|error| error.to_string())?.members() {
        let member = member.map_err(|error| error.to_string())?;
        // Beside objects an archive of Rust's holds metadata.
        if !member.name().ends_with(b".o") {
            continue;
        }
        let member = member.data(&*data).and_then(object::File::parse);
        let member = member.map_err(|error| error.to_string())?;
        let undefined = member.symbols().filter(|symbol| symbol.is_undefined());
        names.extend(undefined.filter_map(|symbol| Some(symbol.name().ok()?.to_string())));
    }
    Ok(names)
}

/// Those of the names that a shared library has, in order. One that each thread has for itself can't be stood in for.
fn defined(library: &Path, names: &HashSet<String>) -> std::result::Result<Vec<String>, String> {
    let file = File::open(library).map_err(|error| error.to_string())?;
    let cache = ReadCache::new(file);
    let library = object::File::parse(&cache).map_err(|error| error.to_string())?;
    let mut found: Vec<String> = library
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() != SymbolKind::Tls)
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| names.contains(*name))
        .map(String::from)
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn assembly(symbols: &[String]) -> String {
    let labels = symbols.iter().map(|name| format!(".globl \"{name}\"\n.type \"{name}\", \"function\"\n\"{name}\":\n"));
    let end = ".section .note.GNU-stack, \"\"\n".to_string();
    labels.chain([end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C's answer for a library with three functions and a variable per thread, of which two functions are used.
    #[test]
    fn a_stand_in_has_the_symbols_that_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let status = command.args(arguments).current_dir(folder.path()).status();
            assert!(status.unwrap().success(), "{program} {arguments:?}");
        };
        fs::write(
            at("real.c"),
            "_Thread_local int own; int f(void) { return 1; } int g(void) { return 2; } int h(void) { return 3; }",
        )
        .unwrap();
        fs::write(
            at("user.c"),
            "extern _Thread_local int own; int f(void); int h(void); int elsewhere(void); int k(void) { return f() + h() + own + elsewhere(); }",
        )
        .unwrap();
        run("cc", &["-shared", "-fPIC", "-o", "libreal.so", "real.c"]);
        run("cc", &["-c", "-fPIC", "-o", "user.o", "user.c"]);
        run("ar", &["rc", "libuser.a", "user.o"]);
        let used = used(&at("libuser.a")).unwrap();
        assert!(used.contains("elsewhere") && used.contains("own"));
        let symbols = defined(&at("libreal.so"), &used).unwrap();
        assert_eq!(symbols, ["f", "h"]);
        fs::write(at("stub.s"), assembly(&symbols)).unwrap();
        run("cc", &["-shared", "-nostdlib", "-o", "libstub.so", "stub.s"]);
        let all = HashSet::from(["f", "g", "h", "own"].map(String::from));
        assert_eq!(defined(&at("libstub.so"), &all).unwrap(), ["f", "h"]);
        defined(&at("user.c"), &all).unwrap_err();
    }
}
