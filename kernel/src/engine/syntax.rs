//! The syntax of a cell, before evcxr compiles it.

use ra_ap_syntax::ast::{self, AstNode};
use ra_ap_syntax::{Edition, Parse, SourceFile};

/// Precedes the cell in the parsed text.
pub const PREFIX: &str = "fn cell() {\n";

/// Parses a cell as the body of a function. An offset in the parsed text is the offset in the cell plus the length of
/// [`PREFIX`], because spaces replace the lines that are commands for evcxr or the shell.
pub fn parse(code: &str) -> Parse<SourceFile> {
    let rust: String = code
        .split_inclusive('\n')
        .map(|line| {
            let is_command = line.trim_start_matches(' ').starts_with(':') || line.starts_with('!');
            if is_command { " ".repeat(line.len() - 1) + "\n" } else { line.to_string() }
        })
        .collect();
    SourceFile::parse(&format!("{PREFIX}{rust}\n}}"), Edition::CURRENT)
}

/// Returns the statements of a cell. `None` if it can't be parsed.
pub fn statements(code: &str) -> Option<ast::StmtList> {
    parse(code).tree().syntax().children().find_map(ast::Fn::cast)?.body()?.stmt_list()
}
