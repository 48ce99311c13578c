//! Stub libraries in the place of libtorch's, for the linker alone. libtorch defines a hundred thousand symbols, and the
//! linker would read them all for each cell. A stub library defines only those that the C++ bindings use. At run time the real
//! library is loaded, because it has the same name.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSymbol, ReadCache, SymbolKind};

use crate::system::{Error, Progress, Result, file};

/// Folder of the stub libraries in a warm build. The kernel's program looks for them there.
const FOLDER: &str = "stubs";
/// The libraries that torch-sys links.
const LIBRARIES: [&str; 5] = ["libc10.so", "libc10_cuda.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so"];

/// Builds the stub libraries for `libtorch` in a warm build. `bindings` is the archive of libtorch's C++ bindings. Does
/// nothing outside of Linux.
pub fn build(warm_build: &Path, libtorch: &Path, bindings: &Path, progress: &Progress) -> Result<()> {
    let libraries = LIBRARIES.map(|name| (name, libtorch.join("lib").join(name)));
    let libraries: Vec<_> = libraries.iter().filter(|(_, path)| path.exists()).collect();
    if libraries.is_empty() {
        return Ok(());
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause: String| Error::file(path, format!("no stub library can be built of it ({cause})"))
    };
    let used = undefined_symbols(bindings).map_err(failed(bindings))?;
    for (name, library) in libraries {
        let symbols = defined_symbols(library, &used).map_err(failed(library))?;
        let source = warm_build.join(FOLDER).join("stub.s");
        file::write(&source, &assembly(&symbols))?;
        let mut linker = Command::new("cc");
        linker.args(["-shared", "-nostdlib", &format!("-Wl,-soname,{name}"), "-o"]);
        progress.run(linker.arg(source.with_file_name(name)).arg(&source), |_| None)?;
    }
    Ok(())
}

/// Returns the symbols that the objects of an archive use without defining them.
fn undefined_symbols(archive: &Path) -> Result<HashSet<String>, String> {
    let data = fs::read(archive).map_err(|error| error.to_string())?;
    let mut names = HashSet::new();
    for member in ArchiveFile::parse(&*data).map_err(|error| error.to_string())?.members() {
        let member = member.map_err(|error| error.to_string())?;
        let member = member.data(&*data).and_then(object::File::parse).map_err(|error| error.to_string())?;
        let undefined = member.symbols().filter(|symbol| symbol.is_undefined());
        names.extend(undefined.filter_map(|symbol| Some(symbol.name().ok()?.to_string())));
    }
    Ok(names)
}

/// Returns the symbols of `names` that a shared library defines. Omits thread-local ones, which stubs can't contain.
fn defined_symbols(library: &Path, names: &HashSet<String>) -> Result<BTreeSet<String>, String> {
    let cache = ReadCache::new(File::open(library).map_err(|error| error.to_string())?);
    let library = object::File::parse(&cache).map_err(|error| error.to_string())?;
    Ok(library
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() != SymbolKind::Tls)
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| names.contains(*name))
        .map(String::from)
        .collect())
}

fn assembly(symbols: &BTreeSet<String>) -> String {
    let labels = symbols.iter().map(|name| format!(".globl \"{name}\"\n.type \"{name}\", \"function\"\n\"{name}\":\n"));
    labels.chain([".section .note.GNU-stack, \"\"\n".to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A C library with three functions and a thread-local variable, and a user of two functions and the variable.
    #[test]
    fn a_stand_in_has_the_symbols_that_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let status = command.args(arguments).current_dir(folder.path()).status();
            assert!(status.unwrap().success(), "{program} {arguments:?}");
        };
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        let functions = "int f(void) { return 1; } int g(void) { return 2; } int h(void) { return 3; }";
        write("real.c", &format!("_Thread_local int own; {functions}"));
        let declarations = "extern _Thread_local int own; int f(void); int h(void); int elsewhere(void);";
        write("user.c", &format!("{declarations} int k(void) {{ return f() + h() + own + elsewhere(); }}"));
        run("cc", &["-shared", "-fPIC", "-o", "libreal.so", "real.c"]);
        run("cc", &["-c", "-fPIC", "-o", "user.o", "user.c"]);
        run("ar", &["rc", "libuser.a", "user.o"]);
        let used = undefined_symbols(&at("libuser.a")).unwrap();
        assert!(used.contains("elsewhere") && used.contains("own"));
        let symbols = defined_symbols(&at("libreal.so"), &used).unwrap();
        assert_eq!(Vec::from_iter(&symbols), ["f", "h"]);
        write("stub.s", &assembly(&symbols));
        run("cc", &["-shared", "-nostdlib", "-o", "libstub.so", "stub.s"]);
        let all = HashSet::from(["f", "g", "h", "own"].map(String::from));
        assert_eq!(defined_symbols(&at("libstub.so"), &all).unwrap(), symbols);
        defined_symbols(&at("user.c"), &all).unwrap_err();
    }
}
