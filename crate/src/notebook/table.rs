//! Tables: HTML for front ends that show it, aligned text for all others.

use std::fmt;

use super::{Show, show};

/// A table with a caption, which shows itself in a notebook. `Display` gives aligned text.
///
/// ```
/// use vitlab::notebook::Table;
/// let rows = vec![vec!["conv1".into(), "1,088".into()], vec!["norm".into(), "128".into()]];
/// let table = Table::new("Parameters", &["layer", "count"], &rows);
/// assert_eq!(table.to_string(), "\
/// Parameters
///
/// layer  count
/// ─────  ─────
/// conv1  1,088
/// norm     128");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub title: String,
    pub header: Vec<String>,
    /// Rows of cells. A row that is shorter than the header is filled with empty cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Copies `rows`, because evcxr shows a last expression that moves a variable only in its `Debug` form.
    pub fn new(title: &str, header: &[&str], rows: &[Vec<String>]) -> Self {
        let header = header.iter().map(|name| name.to_string()).collect();
        Table { title: title.to_string(), header, rows: rows.to_vec() }
    }

    /// A table without rows, to which [`Table::row`] adds them.
    ///
    /// ```
    /// use vitlab::notebook::Table;
    /// let mut table = Table::empty("Attention", &["layer", "head", "entropy"]);
    /// table.row(&[&"first", &0, &format!("{:.2}", 3.912)]);
    /// assert_eq!(table.rows, [["first", "0", "3.91"]]);
    /// ```
    pub fn empty(title: &str, header: &[&str]) -> Self {
        Table::new(title, header, &[])
    }

    /// Adds a row of cells, each of anything that can be printed.
    pub fn row(&mut self, cells: &[&dyn fmt::Display]) {
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    /// Whether all cells of a column, except empty ones and dashes, are numbers. Such a column is aligned at the right.
    fn numeric(&self, column: usize) -> bool {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.trim());
        let mut cells = cells.filter(|cell| !matches!(*cell, "" | "-" | "–")).peekable();
        let number = |cell: &str| {
            let digits = cell.trim_start_matches(['-', '−', '+', '<', '>', '≈', '±', ' ']);
            // A name such as "3x3 convolution" begins with a number, but its rest is no unit.
            let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ','));
            let unit = rest.trim();
            digits.len() > rest.len()
                && (unit.is_empty() || unit.starts_with(['±', '%', '(', '/', '×', 'e']) || UNITS.contains(&unit))
        };
        cells.peek().is_some() && cells.all(number)
    }

    /// Whether each column is numeric.
    fn columns(&self) -> Vec<bool> {
        let columns = self.rows.iter().chain([&self.header]).map(Vec::len).max().unwrap_or(0);
        (0..columns).map(|column| self.numeric(column)).collect()
    }

    /// The table as HTML without a style sheet: a caption, header cells with a scope, numbers at the right.
    pub fn html(&self) -> String {
        let columns = self.columns();
        let line = |cells: &[String], open: &str, close: &str| {
            let cell = |(column, numeric): (usize, &bool)| {
                let side = if *numeric { "right" } else { "left" };
                format!("<{open} style=\"text-align:{side}\">{}</{close}>", escaped(cell(cells, column)))
            };
            format!("<tr>{}</tr>\n", columns.iter().enumerate().map(cell).collect::<String>())
        };
        let mut html = String::from("<table>\n");
        if !self.title.is_empty() {
            html += &format!("<caption style=\"text-align:left\"><b>{}</b></caption>\n", escaped(&self.title));
        }
        if !self.header.is_empty() {
            html += &format!("<thead>\n{}</thead>\n", line(&self.header, "th scope=\"col\"", "th"));
        }
        let rows: String = self.rows.iter().map(|row| line(row, "td", "td")).collect();
        html + &format!("<tbody>\n{rows}</tbody>\n</table>")
    }

    /// The table without its caption in Markdown (GitHub's). Short rows are filled with empty cells.
    ///
    /// ```
    /// use vitlab::notebook::Table;
    /// let rows = [vec!["vit".into(), "79.52".into()], vec!["student".into()]];
    /// let table = Table::new("Accuracy", &["run", "%"], &rows);
    /// assert_eq!(table.markdown(), "| run | % |\n| --- | --- |\n| vit | 79.52 |\n| student |  |\n");
    /// ```
    pub fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", Vec::from_iter(cells).join(" | "));
        let columns = 0..self.header.len();
        let mut text = line(&mut self.header.iter().map(String::as_str)) + &line(&mut columns.clone().map(|_| "---"));
        for row in &self.rows {
            text += &line(&mut columns.clone().map(|column| cell(row, column)));
        }
        text
    }

    /// Called by the kernel for a table that ends a cell.
    pub fn evcxr_display(&self) {
        show(self);
    }
}

impl Show for Table {
    fn contents(&self) -> Vec<(&'static str, String)> {
        vec![("text/html", self.html()), ("text/plain", self.to_string())]
    }
}

/// Words that may follow the number in a cell of a numeric column.
const UNITS: [&str; 9] = ["s", "ms", "min", "h", "kB", "MB", "GB", "px", "points"];

/// The text of a cell, empty in a row that is too short.
fn cell(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\n', "<br>")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let width = |column| {
            let rows = self.rows.iter().chain([&self.header]);
            rows.map(|row| cell(row, column).chars().count()).max().unwrap_or(0)
        };
        let columns: Vec<_> =
            self.columns().into_iter().zip(0..).map(|(n, column)| (n, column, width(column))).collect();
        let line = |row: &[String]| {
            let aligned = columns.iter().map(|&(numeric, column, width)| {
                let text = cell(row, column).replace('\n', " ");
                if numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            aligned.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        let mut text: Vec<String> = Vec::new();
        if !self.title.is_empty() {
            text.extend([self.title.clone(), String::new()]);
        }
        if !self.header.is_empty() {
            let rules: Vec<String> = columns.iter().map(|(.., width)| "─".repeat(*width)).collect();
            text.extend([line(&self.header), rules.join("  ")]);
        }
        text.extend(self.rows.iter().map(|row| line(row)));
        f.write_str(&text.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[&str]]) -> Table {
        let strings = |row: &&[&str]| row.iter().map(|cell| cell.to_string()).collect();
        Table::new("A < B", &["name", "value"], &rows.iter().map(strings).collect::<Vec<_>>())
    }

    #[test]
    fn html_is_escaped_and_numbers_stand_at_the_right() {
        let html = table(&[&["<b>&\"", "−1.5 %"], &["x"]]).html();
        assert!(html.contains("<b>A &lt; B</b>") && html.contains("&lt;b&gt;&amp;&quot;"), "{html}");
        assert!(html.contains("<th scope=\"col\" style=\"text-align:right\">value</th>"), "{html}");
        assert_eq!(html.matches("<td").count(), 4);
    }

    #[test]
    fn numbers_are_told_from_names() {
        for number in ["7", "−0.31", "1,234,567", "79.0 %", "12.3 ± 0.4", "3e-4", "<0.01", "4.2 s", "60 MB", "–"] {
            assert!(table(&[&["", number], &["", "1"]]).numeric(1), "{number}");
        }
        for name in ["conv1", "3x3 convolution", "[1, 49, 64]", "", "2 of 3 layers"] {
            assert!(!table(&[&["", name]]).numeric(1), "{name}");
        }
        assert!(!table(&[&["", "1"], &["", "none"]]).numeric(1));
    }
}
