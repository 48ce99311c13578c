//! Results of rustc for the clone's own packages, in the cache folder. cargo names the results of a path dependency after
//! its absolute path, so that each clone would compile them again. While set-up builds, this program is cargo's wrapper
//! around rustc: it copies what was compiled from the same sources with the same options.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::system::{cache, file};

/// Names the folder of the results. Set in the environment of the wrapper.
const VARIABLE: &str = "VITLAB_COMPILED";
/// Names the clone's folder.
const ROOT: &str = "VITLAB_ROOT";
/// Stands for the clone's folder in a list of sources.
const PLACEHOLDER: &str = "\0";
/// How many versions of the sources keep their results: some tens of MB each.
const VERSIONS: usize = 3;

/// Options of rustc about places, messages and debug information. They don't change what a result computes.
const PLACES: [&str; 4] = ["metadata=", "extra-filename=", "incremental=", "debuginfo="];
const MESSAGES: [&str; 4] = ["--error-format", "--json", "--color", "--diagnostic-width"];

/// Lets cargo use and keep results. `folder` holds the results of all versions of the sources, `sources` is the key of the
/// present ones, `root` the clone.
pub fn share(cargo: &mut Command, folder: &Path, sources: &str, root: &Path) -> io::Result<()> {
    let present = folder.join(sources);
    fs::create_dir_all(&present)?;
    // The latest version is the one that was used last.
    File::open(&present)?.set_modified(std::time::SystemTime::now())?;
    let mut versions: Vec<PathBuf> = file::entries(folder).collect();
    versions.sort_by_key(|path| path.metadata().and_then(|it| it.modified()).ok());
    let outdated = versions.len().saturating_sub(VERSIONS);
    versions[..outdated].iter().try_for_each(fs::remove_dir_all)?;
    cargo.env("RUSTC_WRAPPER", std::env::current_exe()?).env(VARIABLE, present).env(ROOT, &*root.to_string_lossy());
    Ok(())
}

/// Acts as cargo's wrapper around rustc, if cargo has started this process as such.
pub fn run_as_wrapper() -> Option<ExitCode> {
    let (folder, root) = (std::env::var_os(VARIABLE)?, std::env::var(ROOT).ok()?);
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        return None;
    }
    let program = arguments.remove(0);
    let mut rustc = Command::new(program);
    rustc.args(&arguments);
    // The build script tells the versions of libtorch, tch and rustc.
    let mut versions: Vec<String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("VITLAB_") && name.ends_with("_VERSION"))
        .map(|(name, version)| format!("{name}={version}"))
        .collect();
    versions.sort();
    let Some(call) = Call::read(&arguments, &versions, &root) else {
        eprintln!("error: rustc doesn't start: {}", rustc.exec());
        return Some(ExitCode::FAILURE);
    };
    let kept = Path::new(&folder).join(&call.key);
    if call.copy(&kept, &root).is_ok() {
        return Some(ExitCode::SUCCESS);
    }
    // Messages of a panic name the file within the clone, because the clone may be another one.
    let status = rustc.arg(format!("--remap-path-prefix={root}/=")).status();
    let succeeded = status.is_ok_and(|status| status.success());
    if succeeded && call.is_keepable {
        // A full disk doesn't keep the build from going on.
        let _ = call.keep(&kept, &root);
    }
    Some(if succeeded { ExitCode::SUCCESS } else { ExitCode::from(101) })
}

/// A call of rustc for one of the clone's packages.
#[derive(Debug, PartialEq)]
struct Call {
    /// Name of the package and of its options.
    key: String,
    /// Where rustc writes, and the beginning of the files' names, after `lib` for a library.
    folder: PathBuf,
    stem: String,
    /// Whether the list of sources names absolute paths.
    is_keepable: bool,
}

impl Call {
    /// Reads rustc's arguments. `None` for packages of others, tests and questions.
    fn read(arguments: &[String], versions: &[String], root: &str) -> Option<Self> {
        let inside = format!("{root}/");
        let (mut kept, mut folder, mut name, mut extra) = (versions.to_vec(), None, None, None);
        let mut is_keepable = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--test" => return None,
                "--out-dir" => folder = rest.next(),
                "--crate-name" => name = rest.next(),
                "-L" => drop(rest.next()),
                "-C" => {
                    let option = rest.next()?;
                    extra = extra.or(option.strip_prefix("extra-filename="));
                    kept.extend((!PLACES.iter().any(|start| option.starts_with(start))).then(|| option.clone()));
                }
                "--extern" => {
                    // cargo names an external crate's file after its version and options. The key of the sources stands
                    // for own ones.
                    let (name, path) = rest.next()?.split_once('=')?;
                    let file = Path::new(path).file_stem()?.to_string_lossy();
                    kept.push(if is_own(name) { name.to_string() } else { format!("{name}={file}") });
                }
                other if MESSAGES.iter().any(|start| other.starts_with(start)) => {}
                other => {
                    is_keepable |= other.starts_with(&inside);
                    kept.push(other.replace(&inside, ""));
                }
            }
        }
        let name = name.filter(|name| is_own(name))?;
        let key = format!("{name}-{}", cache::key(&kept));
        Some(Call { key, folder: folder?.into(), stem: format!("{name}{}", extra?), is_keepable })
    }

    /// The files that rustc may write, and their names in the folder of a result. The list of sources is the last one.
    fn files(&self) -> [(PathBuf, &'static str); 4] {
        let at = |name: String| self.folder.join(name);
        [
            (at(format!("lib{}.rlib", self.stem)), "rlib"),
            (at(format!("lib{}.rmeta", self.stem)), "rmeta"),
            (at(self.stem.clone()), "program"),
            (at(format!("{}.d", self.stem)), "sources"),
        ]
    }

    /// Copies a result to where cargo expects it. Fails if there is none.
    fn copy(&self, kept: &Path, root: &str) -> io::Result<()> {
        for (to, name) in self.files() {
            let from = kept.join(name);
            if name != "sources" && !from.exists() {
                continue;
            }
            // An existing file may be shared with another build.
            let _ = fs::remove_file(&to);
            match name {
                "sources" => fs::write(to, fs::read_to_string(from)?.replace(PLACEHOLDER, &escaped(root)))?,
                // A copy, because cargo compares times.
                _ => drop(fs::copy(from, to)?),
            }
        }
        Ok(())
    }

    /// Keeps what rustc wrote, unless there is such a result.
    fn keep(&self, kept: &Path, root: &str) -> io::Result<()> {
        let new = kept.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new)?;
        for (from, name) in self.files().into_iter().filter(|(from, _)| from.exists()) {
            match name {
                "sources" => {
                    let text = fs::read_to_string(from)?.replace(&escaped(root), PLACEHOLDER);
                    File::create(new.join(name))?.write_all(text.as_bytes())?;
                }
                _ => drop(fs::copy(from, new.join(name))?),
            }
        }
        fs::rename(&new, kept).or_else(|_| fs::remove_dir_all(&new))
    }
}

fn is_own(name: &str) -> bool {
    name == "vitlab" || name.starts_with("vitlab_")
}

/// Returns a path as rustc writes it in a list of sources.
fn escaped(path: &str) -> String {
    path.replace(' ', "\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(root: &str, text: &str) -> Option<Call> {
        Call::read(&text.split(' ').map(String::from).collect::<Vec<_>>(), &[], root)
    }

    #[test]
    fn a_clones_own_build_finds_what_a_kernels_build_has_compiled() {
        let kernels = "--crate-name vitlab --edition=2024 /a/crate/src/lib.rs --error-format=json --json=artifacts \
            --crate-type lib --emit=dep-info,metadata,link -C opt-level=3 -C metadata=1 -C extra-filename=-2 \
            --out-dir /cache/deps -C incremental=/cache/incremental -L dependency=/cache/deps \
            --extern tch=/cache/deps/libtch-9.rmeta --extern vitlab_fused=/cache/deps/libvitlab_fused-3.rmeta";
        let clones = "--crate-name vitlab --edition=2024 crate/src/lib.rs --error-format=json --json=artifacts,more \
            --diagnostic-width=80 --crate-type lib --emit=dep-info,metadata,link -C opt-level=3 \
            -C debuginfo=line-tables-only -C metadata=4 -C extra-filename=-5 --out-dir /b/target/deps \
            -C incremental=/b/target/incremental -L dependency=/b/target/deps \
            --extern tch=/b/target/deps/libtch-9.rmeta --extern vitlab_fused=/b/target/deps/libvitlab_fused-6.rmeta";
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (kernels, clones) = (words(kernels), words(clones));
        let (first, second) = (call("/a", &kernels).unwrap(), call("/b", &clones).unwrap());
        assert_eq!(first.key, second.key);
        assert_eq!((first.stem.as_str(), first.is_keepable), ("vitlab-2", true));
        assert_eq!((second.stem.as_str(), second.is_keepable), ("vitlab-5", false));
        assert_eq!(second.folder, Path::new("/b/target/deps"));
        for (old, new) in
            [("opt-level=3", "opt-level=0"), ("libtch-9", "libtch-8"), ("--crate-type lib", "--crate-type bin")]
        {
            assert_ne!(call("/b", &clones.replace(old, new)).unwrap().key, second.key, "{new}");
        }
    }

    #[test]
    fn packages_of_others_tests_and_questions_go_to_rustc() {
        let library = "--crate-name vitlab_fused fused/src/lib.rs -C extra-filename=-1 --out-dir target";
        assert!(call("/a", library).is_some());
        for text in [
            &library.replace("vitlab_fused", "serde"),
            &format!("{library} --test"),
            "- --crate-name ___ --print=file-names",
            "-vV",
        ] {
            assert_eq!(call("/a", text), None, "{text}");
        }
    }
}
