//! Types of variables, from rustc, where rust-analyzer doesn't know them or is wrong.
//!
//! evcxr keeps a variable by its type, which it gets from rust-analyzer. If evcxr fails on a cell for the lack of a type,
//! a probe finds it: the cell's code, compiled with a cast of each variable that no type allows. rustc's message about
//! the cast tells the type. The cell then runs with the types written into it.

use std::path::PathBuf;

use evcxr::{CommandContext, Error};
use ra_ap_syntax::SyntaxKind;
use ra_ap_syntax::ast::{self, AstNode, HasName};
use serde_json::Value;

use super::rewrite::Edit;
use super::{syntax, unkept};
use crate::build::generated::without_flush;
use crate::build::rustc;

/// The end of the code that evcxr analyzes: a function with the cell's statements.
const END: &str = "Ok(())\n}";

/// Types that every cell knows by their last name, unless it defines or imports another one. `Result` isn't among them,
/// because many cells do.
const PRELUDE: [&str; 4] = ["std::boxed::Box", "std::option::Option", "std::string::String", "std::vec::Vec"];

/// Keywords before the name of a type.
const KINDS: [&str; 5] = ["enum", "struct", "trait", "type", "union"];

/// Types of a cell's variables, as rustc reports them.
pub struct Found {
    /// Writes the types into the cell.
    pub edits: Vec<Edit>,
    /// Names and types of these variables.
    types: Vec<(String, String)>,
}

/// A variable of a cell without a complete type.
struct Variable {
    name: String,
    is_mutable: bool,
    /// The place of the type.
    place: Place,
}

/// Positions in the cell, in bytes.
enum Place {
    /// After the pattern, which is the variable's name.
    Pattern(usize),
    /// Instead of a type that isn't complete, such as `Vec<_>`.
    Type(std::ops::Range<usize>),
    /// After the statement, whose pattern holds several variables.
    Statement(usize),
}

/// Returns true if evcxr failed on code that the user didn't write: it didn't know a type, or had a wrong one.
pub fn is_missing(error: &Error) -> bool {
    match error {
        Error::Message(message) => [
            "Couldn't automatically determine type of variable",
            "Failed to determine type of variable",
            "The variable `",
        ]
        .iter()
        .any(|start| message.starts_with(start)),
        Error::CompilationErrors(errors) => {
            !errors.iter().any(|error| error.level() == "error" && error.is_from_user_code())
        }
        _ => false,
    }
}

/// Returns the errors of a cell that evcxr refuses because of a variable, which come before the variable's. `text` is the
/// cell as evcxr received it.
pub fn errors(context: &mut CommandContext, text: &str) -> Option<Error> {
    if runs_shell(text) {
        return None;
    }
    let errors = context.check(text).ok()?;
    let has_error = errors.iter().any(|error| error.level() == "error" && error.is_from_user_code());
    has_error.then_some(Error::CompilationErrors(errors))
}

/// Returns whether a cell contains a command for the shell, which each attempt to compile the cell would run again.
pub fn runs_shell(text: &str) -> bool {
    text.lines().any(|line| line.starts_with('!'))
}

/// Asks rustc for the types of a cell's variables. `text` is the cell as evcxr received it. Returns `None` if rustc
/// doesn't know them either, and a message if a variable's type has no name.
pub fn find(context: &mut CommandContext, cell: &str, text: &str) -> Option<Result<Found, String>> {
    let variables = variables(cell).filter(|variables| !variables.is_empty() && !runs_shell(text))?;
    let analyzed = |source: &String| source.trim_end().ends_with(END) && source.contains("fn evcxr_analysis_wrapper(");
    let written = |context: &CommandContext| {
        let source = without_flush(&context.last_source().ok()?).to_string();
        Some(source).filter(analyzed)
    };
    let source = match written(context) {
        Some(source) => source,
        None => {
            context.check(text).ok()?;
            written(context)?
        }
    };
    // rustc knows the crates of the last build.
    let commands: String = text.split_inclusive('\n').filter(|line| line.trim_start().starts_with(":dep")).collect();
    let types = match probe(&source, &variables) {
        Some(types) if commands.is_empty() || types.iter().all(Option::is_some) => types,
        None if commands.is_empty() => return None,
        _ => {
            context.execute(&commands).ok()?;
            probe(&source, &variables)?
        }
    };
    let mut found = Found { edits: Vec::new(), types: Vec::new() };
    for (variable, ty) in variables.iter().zip(types) {
        let ty = ty?;
        if let Some(reason) = unkept::reason(&ty) {
            return Some(Err(unkept::message(&variable.name, &ty, reason)));
        }
        let ty = shortened(ty, &source);
        let name = &variable.name;
        found.edits.push(match &variable.place {
            Place::Pattern(end) => Edit::insert(*end, format!(": {ty}")),
            Place::Type(range) => Edit { range: range.clone(), ..Edit::insert(0, ty.clone()) },
            Place::Statement(end) => {
                let mutable = if variable.is_mutable { "mut " } else { "" };
                Edit::insert(*end, format!(" let {mutable}{name}: {ty} = {name};"))
            }
        });
        found.types.push((name.clone(), ty));
    }
    Some(Ok(found))
}

impl Found {
    /// Returns a message if the types that were found made a cell fail, because one of them is private or can't be named
    /// from a cell.
    pub fn explain(&self, error: &Error) -> Option<String> {
        let Error::CompilationErrors(errors) = error else {
            let Error::Message(text) = error else { return None };
            let (name, ty) = self.types.iter().find(|(name, _)| text.contains(&format!("`{name}`")))?;
            return Some(unkept::message(name, ty, "is private"));
        };
        let codes = ["E0603", "E0433", "E0412", "E0425", "E0432", "E0107"];
        let error = errors.iter().find(|error| error.code().is_some_and(|code| codes.contains(&code)))?;
        let text = error.message();
        let mut named = text.split('`').skip(1).step_by(2);
        let (name, ty) = named.find_map(|named| {
            let word = |ty: &str| ty.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == named);
            self.types.iter().find(|(_, ty)| word(ty))
        })?;
        Some(unkept::message(name, ty, "is private or belongs to a crate that the cell can't name"))
    }
}

/// Returns the variables of a cell that have no complete type, in their order. If several have one name, evcxr keeps the
/// last.
fn variables(cell: &str) -> Option<Vec<Variable>> {
    let mut variables: Vec<Variable> = Vec::new();
    for statement in syntax::statements(cell)?.statements() {
        let ast::Stmt::LetStmt(statement) = statement else { continue };
        let Some(pattern) = statement.pat() else { continue };
        let incomplete =
            statement.ty().filter(|ty| ty.syntax().descendants().any(|it| it.kind() == SyntaxKind::INFER_TYPE));
        let is_complete = statement.ty().is_some() && incomplete.is_none();
        let end = |node: &ra_ap_syntax::SyntaxNode| syntax::offset_in_cell(node.text_range().end());
        for name in pattern.syntax().descendants().filter_map(ast::IdentPat::cast) {
            let (Some(text), is_mutable) = (name.name(), name.mut_token().is_some()) else { continue };
            let text = text.text().to_string();
            variables.retain(|earlier| earlier.name != text);
            let place = match (&pattern, &incomplete) {
                // `None`, a constant.
                _ if !is_mutable && text.starts_with(char::is_uppercase) => continue,
                (ast::Pat::IdentPat(_), _) if is_complete => continue,
                (ast::Pat::IdentPat(_), Some(ty)) => Place::Type(syntax::range_in_cell(ty.syntax().text_range())),
                (ast::Pat::IdentPat(it), None) if it.pat().is_none() => Place::Pattern(end(pattern.syntax())),
                _ => Place::Statement(end(statement.syntax())),
            };
            variables.push(Variable { name: text, is_mutable, place });
        }
    }
    Some(variables)
}

/// Returns the types that rustc finds, as Rust code.
fn probe(source: &str, variables: &[Variable]) -> Option<Vec<Option<String>>> {
    let body = source.trim_end().strip_suffix(END)?;
    let casts =
        variables.iter().enumerate().map(|(index, variable)| format!("(&{}) as [(); {index}];\n", variable.name));
    let source = format!("{body}{}{END}\n", casts.collect::<String>());
    let folder = PathBuf::from(std::env::var_os("EVCXR_TMPDIR")?);
    let messages = rustc::probe(&folder, &source)?;
    let mut types = vec![None; variables.len()];
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let Some((index, ty)) = message["message"].as_str().and_then(cast)
            && let Some(found) = types.get_mut(index)
        {
            *found = Some(ty);
        }
    }
    Some(types)
}

/// Reads the index and the type in rustc's message about a cast.
fn cast(message: &str) -> Option<(usize, String)> {
    let (from, to) = message.strip_prefix("non-primitive cast: `&")?.split_once("` as `[(); ")?;
    let index = to.split_once(']')?.0.parse().ok()?;
    // The type of a function is written as that of a pointer to it.
    let ty = match from.split_once(" {") {
        Some((pointer, _)) if pointer.contains("fn(") && from.ends_with('}') && !pointer.contains('{') => pointer,
        _ => from,
    };
    Some((index, ty.to_string()))
}

/// Leaves out the paths of types that the code of `source` knows by their last name.
fn shortened(ty: String, source: &str) -> String {
    let imported = |line: &str, name: &str| {
        let line = line.trim_end_matches(';');
        line.starts_with("use ") && (line.ends_with('*') || line.rsplit([':', ' ']).next() == Some(name))
    };
    let defined = |line: &str, name: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').skip_while(|word| !KINDS.contains(word));
        words.nth(1) == Some(name)
    };
    PRELUDE.iter().fold(ty, |ty, path| {
        let name = path.rsplit("::").next().expect("a path");
        let differs = |line: &str| imported(line.trim(), name) || defined(line, name);
        if !ty.contains(path) || source.lines().any(differs) {
            return ty;
        }
        let mut short = String::new();
        for (index, part) in ty.split(path).enumerate() {
            let is_longer = short.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            short += if index == 0 {
                ""
            } else if is_longer {
                path
            } else {
                name
            };
            short += part;
        }
        short
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    #[test]
    fn types_of_the_prelude_are_short_unless_a_cell_has_its_own() {
        let ty = || "std::vec::Vec<std::option::Option<a::b::C>>".to_string();
        for (source, expected) in [
            ("use a::b::C;\nfn f() {\n", "Vec<Option<a::b::C>>"),
            ("use a::Option;\n", "Vec<std::option::Option<a::b::C>>"),
            ("use a::O as Option;\n", "Vec<std::option::Option<a::b::C>>"),
            ("use a::*;\n", "std::vec::Vec<std::option::Option<a::b::C>>"),
            ("pub struct Vec<T> {\ntype Option<T> = O<T>;\n", "std::vec::Vec<std::option::Option<a::b::C>>"),
            ("#[derive(Debug)] enum Option { A, B }\n", "Vec<std::option::Option<a::b::C>>"),
        ] {
            assert_eq!(shortened(ty(), source), expected, "{source}");
        }
        assert_eq!(
            shortened("(my_std::vec::Vec<u8>, std::vec::Vec<u8>)".into(), ""),
            "(my_std::vec::Vec<u8>, Vec<u8>)"
        );
    }

    /// Returns the cell with `T` for each type that is missing.
    fn typed(cell: &str) -> String {
        let edit = |variable: Variable| match variable.place {
            Place::Pattern(end) => Edit::insert(end, ": T"),
            Place::Type(range) => Edit { range, ..Edit::insert(0, "T") },
            Place::Statement(end) => Edit::insert(end, format!(" {}: T;", variable.name)),
        };
        Rewritten::new(cell, variables(cell).unwrap().into_iter().map(edit).collect()).text
    }

    #[test]
    fn types_are_written_where_they_are_missing() {
        for (cell, expected) in [
            ("let a = f();", "let a: T = f();"),
            (":dep a = \"1\"\nlet mut ä = f();", ":dep a = \"1\"\nlet mut ä: T = f();"),
            ("let a: Vec<_> = f();", "let a: T = f();"),
            ("let a: Vec<i32> = f();\nfn g() { let b = 1; }", "let a: Vec<i32> = f();\nfn g() { let b = 1; }"),
            ("let (a, mut b) = f();\nb += 1;", "let (a, mut b) = f(); a: T; b: T;\nb += 1;"),
            ("let Some(a) = f() else { panic!() };", "let Some(a) = f() else { panic!() }; a: T;"),
            ("let P { x, y: z } = p;", "let P { x, y: z } = p; x: T; z: T;"),
            ("let a = 1; let a = \"a\";", "let a = 1; let a: T = \"a\";"),
        ] {
            assert_eq!(typed(cell), expected);
        }
    }

    #[test]
    fn rustc_tells_the_type_of_a_cast() {
        for (message, expected) in [
            ("`&Vec<i32>` as `[(); 3]`", (3, "Vec<i32>")),
            ("`&for<'a> fn(&'a str) -> usize {g}` as `[(); 0]`", (0, "for<'a> fn(&'a str) -> usize")),
            ("`&{closure@src/probe.rs:7:22: 7:30}` as `[(); 12]`", (12, "{closure@src/probe.rs:7:22: 7:30}")),
        ] {
            let message = format!("non-primitive cast: {message}: an `as` expression can only be used to …");
            let (index, ty) = cast(&message).unwrap();
            assert_eq!((index, ty.as_str()), expected);
        }
        assert_eq!(cast("mismatched types"), None);
    }
}
