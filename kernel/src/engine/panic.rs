//! Place and message of a panic, read from standard error.

use super::marks::SOURCES;
use super::source_map::SourceMap;

/// Returns the place and the message of the first panic in a text of standard error.
pub fn message(stderr: &str) -> (&str, String) {
    let mut lines = stderr.lines().skip_while(|line| !line.contains("panicked at "));
    let place = lines.next().and_then(|line| line.split_once("panicked at "));
    let place = place.map_or("", |(_, place)| place.trim_end_matches(':'));
    let message: Vec<&str> = lines.take_while(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).collect();
    (place, without_frames(message.join("\n").trim()))
}

/// Returns the place of a panic: the line of a cell, or a file without this machine's folders.
pub fn location(place: &str, map: &SourceMap) -> Option<String> {
    let mut parts = place.rsplitn(3, ':');
    let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
    if !SOURCES.contains(&file) {
        return Some(format!("  at {}:{line}", short_path(file)));
    }
    let number = line.parse().ok()?;
    let offset = map.offset(number, column.parse().ok()?)?;
    let place = map.place(offset..offset)?;
    let cell = map.cell(place.back);
    let before = &cell.code[..place.range.start];
    let number = before.matches('\n').count() + 1;
    let text = cell.code.lines().nth(number - 1).unwrap_or_default().trim();
    let cell = if place.back == 0 { "the cell".to_string() } else { format!("cell [{}]", cell.count) };
    Some(format!("  at line {number} of {cell}: {text}"))
}

/// Removes the folders that hold crates from the path of a source file: `tch-0.24.0/src/tensor/ops.rs`.
fn short_path(file: &str) -> String {
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, rest)| rest).to_string();
    }
    if let Some((_, rest)) = file.split_once("/library/") {
        return format!("library/{rest}");
    }
    let start = file.rmatch_indices('/').nth(2).map_or(0, |(slash, _)| slash + 1);
    file[start..].to_string()
}

/// Removes C++ frames from a message: libtorch appends the place in its sources that raised an exception, and a stack
/// of addresses.
pub fn without_frames(text: &str) -> String {
    let end = ["\nException raised from ", "\\nException raised from "].iter().filter_map(|mark| text.find(mark)).min();
    match end {
        None => text.to_string(),
        Some(end) if text.contains("value: Torch(\"") => format!("{}\")", &text[..end]),
        Some(end) => text[..end].to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::source_map::CellText;

    #[test]
    fn a_panic_tells_the_line_of_the_cell_or_of_a_crate_without_folders_and_frames() {
        let (cell, generated) = (
            CellText::unchanged(1, "let y = 1;\nlet x = v[3];"),
            "\npub extern \"C\" fn run_user_code_1(\nlet y = 1;\n\nlet x = v[3];\n}",
        );
        let map = SourceMap::new(generated, &cell, &[]);
        for (stderr, value, place) in [
            (
                "\nthread '<unnamed>' (12) panicked at src/lib.rs:5:9:\nindex out of bounds: the len is 0 but the index is 3\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                "index out of bounds: the len is 0 but the index is 3",
                "  at line 2 of the cell: let x = v[3];",
            ),
            (
                "thread 'main' panicked at /home/me/.cargo/registry/src/index.crates.io-1/tch-0.24.0/src/a.rs:7:13:\ncalled `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\\nException raised from meta at /pytorch/a.cpp:7\\nframe #0: 0x1\")\n",
                "called `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\")",
                "  at tch-0.24.0/src/a.rs:7",
            ),
        ] {
            let (found, text) = message(stderr);
            assert_eq!(text, value);
            assert_eq!(location(found, &map).as_deref(), Some(place));
        }
    }
}
