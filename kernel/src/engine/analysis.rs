//! Completions and documentation from evcxr's rust-analyzer, which also finds the types of variables. It loads the
//! sources of the standard library and of the crates that a cell can name. Loading the standard library takes seconds, so
//! it waits until the engine is idle, or until a type is needed that [rustc](super::types) doesn't find.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use evcxr::{CommandContext, EvalOutputs};
use serde_json::{Value, json};

use super::Engine;
use super::brackets::closing;
use super::commands::without_commands;
use super::redefine::PLACEHOLDER;
use crate::build::rustc;

/// Beginnings of names that belong to the kernel or to evcxr.
const HIDDEN: [&str; 6] = ["evcxr_", "Evcxr", "vitlab_cell", "vitlab_parts", PLACEHOLDER, "__"];

/// The sources outside of cells that rust-analyzer reads.
pub struct Sources {
    /// The link by which rust-analyzer finds the standard library, and its future target, until it is set.
    library: Option<(PathBuf, PathBuf)>,
    /// The sources of the crates that a cell's `:dep` names by their path, with their modification times when they were
    /// read last.
    crates: HashMap<PathBuf, Option<SystemTime>>,
    reloads: usize,
    /// The level that the last `:opt` set.
    level: Option<String>,
}

/// Whether rust-analyzer reads the standard library, which takes seconds.
#[derive(PartialEq)]
pub enum StandardLibrary {
    Read,
    Later,
}

impl Sources {
    pub fn new() -> Self {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        // The second variable is unset if the link leads to the sources already.
        let library = path("RUST_SRC_PATH").zip(path("VITLAB_RUST_SRC"));
        Sources { library, crates: HashMap::new(), reloads: 0, level: None }
    }

    /// Notes the level of an `:opt`, given the output of its cell.
    pub fn note_level(&mut self, outputs: &EvalOutputs) {
        let lines = outputs.get("text/plain").into_iter().flat_map(str::lines);
        let level = lines.filter_map(|line| line.strip_prefix("Optimization: ")).next_back();
        self.level = level.map(String::from).or(self.level.take());
    }

    /// Makes the changes of sources visible to rust-analyzer, and the standard library, once. `folder` is evcxr's. Returns
    /// whether the standard library became visible.
    pub fn update(&mut self, context: &mut CommandContext, folder: &Path, wanted: StandardLibrary) -> bool {
        let library = self.library.take_if(|_| wanted == StandardLibrary::Read);
        let linked = library
            .is_some_and(|(link, library)| fs::remove_file(&link).and_then(|()| symlink(library, &link)).is_ok());
        if self.have_changed() || linked {
            // evcxr reads all sources again when its manifest changes. Trailing spaces change the manifest; the level
            // alone would not.
            self.reloads += 1;
            let level = self.level.clone().unwrap_or_else(|| level(folder));
            let _ = context.execute(&format!(":opt {level}{}", " ".repeat(1 + self.reloads % 2)));
        }
        linked
    }

    fn have_changed(&mut self) -> bool {
        let Some(folder) = std::env::var_os("EVCXR_TMPDIR") else { return false };
        let mut changed = false;
        for (built, path) in rustc::sources(folder.as_ref()) {
            let time = rustc::modified(&path);
            let last = self.crates.insert(path, time).unwrap_or(built);
            changed |= last != time;
        }
        changed
    }
}

impl Engine {
    /// Makes rust-analyzer read every crate: it searches all of them for the methods of a vector.
    pub fn load_types(&mut self) {
        const CODE: &str = "vec![1].";
        self.types_loaded = true;
        let _ = self.ask_analyzer(|context| context.completions(CODE, CODE.len()));
    }

    /// Returns the content of a `complete_reply`. Jupyter counts positions in characters, evcxr in bytes.
    pub fn complete(&mut self, code: &str, cursor: usize) -> Value {
        let complete = format!("{code}{}", closing(code));
        let Some(found) = self.ask_analyzer(|context| context.completions(&complete, byte_of(code, cursor))) else {
            return json!({ "status": "ok", "matches": [], "cursor_start": cursor, "cursor_end": cursor, "metadata": {} });
        };
        let (start, end) = (character_of(code, found.start_offset), character_of(code, found.end_offset));
        let completions = found.completions.iter().filter(|it| !HIDDEN.iter().any(|start| it.code.starts_with(start)));
        let matches: Vec<&str> = completions.clone().map(|it| it.code.as_str()).collect();
        let types = completions
            .map(|it| json!({ "text": it.code, "type": it.kind, "signature": it.label, "start": start, "end": end }));
        let metadata = json!({ "_jupyter_types_experimental": types.collect::<Vec<_>>() });
        json!({ "status": "ok", "matches": matches, "cursor_start": start, "cursor_end": end, "metadata": metadata })
    }

    /// Returns the content of an `inspect_reply`.
    pub fn inspect(&mut self, code: &str, cursor: usize) -> Value {
        let cursor = byte_of(code, cursor);
        let rest = code[cursor..].chars();
        // evcxr describes the name that ends at the position.
        let end = cursor + rest.take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
        let code = hovered(&code[..end]);
        let found = self.ask_analyzer(|context| context.hover_at(&code, code.len()));
        let found = found.filter(|(text, _)| text != "No documentation found");
        let data = found.as_ref().map_or(json!({}), |(text, html)| json!({ "text/plain": text, "text/html": html }));
        json!({ "status": "ok", "found": found.is_some(), "data": data, "metadata": {} })
    }

    /// Returns `None` if evcxr doesn't run, or if rust-analyzer fails or panics.
    fn ask_analyzer<T, E>(&mut self, question: impl FnOnce(&mut CommandContext) -> Result<T, E>) -> Option<T> {
        let context = self.context.as_mut().ok()?;
        let answer = catch_unwind(AssertUnwindSafe(|| {
            self.sources.update(context, &self.state.folder, StandardLibrary::Read);
            question(context)
        }));
        answer.ok()?.ok()
    }
}

/// Returns the code up to a name for evcxr, which describes the name at its end. Code inside of an item becomes that of a
/// block: evcxr would take an item that isn't complete out of the cell, and other items would disappear in it.
fn hovered(code: &str) -> Cow<'_, str> {
    if !closing(code).contains('}') {
        return code.into();
    }
    format!("let _ = {{ {}", without_commands(code)).into()
}

/// Returns the level that evcxr has written in the manifest in its folder.
fn level(folder: &Path) -> String {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let level = manifest.lines().find_map(|line| line.strip_prefix("opt-level = "));
    level.map_or("2".into(), |level| level.trim().to_string())
}

pub(super) fn byte_of(code: &str, character: usize) -> usize {
    code.char_indices().nth(character).map_or(code.len(), |(byte, _)| byte)
}

pub(super) fn character_of(code: &str, byte: usize) -> usize {
    code.char_indices().take_while(|(start, _)| *start < byte).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_bytes() {
        let code = "let ä = \"🦀\"; x";
        assert_eq!(byte_of(code, 5), 6);
        assert_eq!(character_of(code, 6), 5);
        for character in 0..=code.chars().count() {
            assert_eq!(character_of(code, byte_of(code, character)), character);
        }
        assert_eq!(byte_of(code, 99), code.len());
    }
}
