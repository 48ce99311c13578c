//! Rules on the contents: pictures have descriptions, nothing names a folder of this machine, and the file isn't too large.

use std::sync::LazyLock;

use regex::Regex;

use super::assignment;
use super::finding::{Found, Rule};
use super::notebook::{Cell, CellType, Notebook};

/// A folder of somebody's machine. The sign before it excludes addresses on the web and binary data as text.
static LOCAL: LazyLock<Regex> = LazyLock::new(|| {
    let folders = r"/home/|/root/|/tmp/|/Users/|/private/var/|[A-Za-z]:\\{1,2}Users\\{1,2}";
    Regex::new(&format!(r#"(?m)(?:^|[\s"'`(\[<>=:,;]|file://)((?:{folders})[^\s"'`)\]<>,;]*)"#))
        .expect("a fixed pattern")
});
/// A picture in Markdown with an empty description.
static BARE_PICTURE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"!\[\s*\]\(").expect("a fixed pattern"));
static IMG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?is)<img\b[^>]*>").expect("a fixed pattern"));
static ALT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?i)\balt\s*=\s*("\s*[^"\s]|'\s*[^'\s]|[^\s"'>])"#).expect("a fixed pattern"));

pub fn find(notebook: &Notebook) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, cell) in notebook.numbered() {
        if let Some(message) = undescribed_picture(cell) {
            found.push((Some(number), Rule::AltText, message));
        }
        if let Some(message) = local_path(cell) {
            found.push((Some(number), Rule::LocalPath, message));
        }
    }
    let largest = assignment::largest(&notebook.name());
    if notebook.size > largest {
        let (size, largest) = (notebook.size as f64 / 1e6, largest as f64 / 1e6);
        let remedy = "show fewer or smaller pictures";
        found.push((None, Rule::Size, format!("the file has {size:.2} MB, {largest} are allowed; {remedy}")));
    }
    found
}

fn undescribed_picture(cell: &Cell) -> Option<String> {
    let bare_img = |text: &str| IMG.find_iter(text).any(|img| !ALT.is_match(img.as_str()));
    if cell.cell_type == CellType::Markdown && (BARE_PICTURE.is_match(&cell.source) || bare_img(&cell.source)) {
        return Some(
            "a picture has no description; write one between the brackets of ![…](…), or alt=\"…\"".to_string(),
        );
    }
    cell.outputs.iter().filter_map(|output| output.bundle()).find_map(|bundle| {
        let picture = bundle.data.keys().find(|kind| kind.starts_with("image/") && bundle.alt(kind).is_none());
        if let Some(kind) = picture {
            let remedy = "vitlab's figures bring one along; for others put \"alt\" into the output's metadata";
            return Some(format!("the figure ({kind}) has no alt text; {remedy}"));
        }
        let html = bundle.data.get("text/html").filter(|html| bare_img(&html.0));
        html.map(|_| "a picture in the HTML output has no alt text; add alt=\"…\" to its <img>".to_string())
    })
}

fn local_path(cell: &Cell) -> Option<String> {
    let path = |text: &str| LOCAL.captures(text).map(|path| path[1].to_string());
    if let Some(path) = path(&cell.source) {
        return Some(format!(
            "the source names {path}, which only this machine has; write a path relative to the notebook"
        ));
    }
    let path = cell.outputs.iter().flat_map(|output| output.texts()).find_map(path)?;
    Some(format!("the output names {path}, a folder of this machine; print no path, or one relative to the notebook"))
}
