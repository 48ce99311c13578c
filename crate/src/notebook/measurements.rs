//! Measured values of a notebook's experiments, kept in a CSV file.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result, file};

const HEADER: &str = "experiment,series,x,y";

/// Values (x, y) by experiment and series, in the order of their measurement.
///
/// ```
/// use vitlab::notebook::Measurements;
/// let mut results = Measurements::default();
/// results.add("cost", "attention", 50.0, 0.25);
/// results.add("cost", "attention", 197.0, 3.0);
/// results.add("cost", "attention", 50.0, 0.75); // measured again
/// assert_eq!(results.series("cost", "attention"), [(50.0, 0.25), (197.0, 3.0), (50.0, 0.75)]);
/// assert_eq!(results.at("cost", "attention", 50.0), [0.25, 0.75]);
/// results.forget("cost");
/// assert_eq!(results.len(), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    experiment: String,
    series: String,
    point: (f64, f64),
}

impl Measurements {
    /// Adds a value.
    pub fn add(&mut self, experiment: &str, series: &str, x: f64, y: f64) {
        self.rows.push(Row { experiment: experiment.to_string(), series: series.to_string(), point: (x, y) });
    }

    /// Removes the values of an experiment, before it is measured again.
    pub fn forget(&mut self, experiment: &str) {
        self.rows.retain(|row| row.experiment != experiment);
    }

    /// The (x, y) of a series.
    pub fn series(&self, experiment: &str, series: &str) -> Vec<(f64, f64)> {
        let rows = self.rows.iter().filter(|row| row.experiment == experiment && row.series == series);
        rows.map(|row| row.point).collect()
    }

    /// The values y of a series at one x, one for each measurement.
    pub fn at(&self, experiment: &str, series: &str, x: f64) -> Vec<f64> {
        self.series(experiment, series).into_iter().filter(|point| point.0 == x).map(|point| point.1).collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads a file that [`Measurements::write`] has written.
    ///
    /// # Errors
    /// A file that can't be read, or that has another header or a line without two names and two numbers.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file(path, format!("can't be read ({e}); measure the experiments anew")))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(Error::file(path, format!("has no measurements; its first line must be {HEADER}")));
        }
        let row = |line: &str| {
            let [experiment, series, x, y] = line.split(',').collect::<Vec<_>>()[..] else { return None };
            let point = (x.parse().ok()?, y.parse().ok()?);
            Some(Row { experiment: experiment.to_string(), series: series.to_string(), point })
        };
        let rows = (2..).zip(lines).map(|(number, line)| {
            let problem = || format!("has no {HEADER} in line {number}; measure the experiments anew");
            row(line).ok_or_else(|| Error::file(path, problem()))
        });
        Ok(Measurements { rows: rows.collect::<Result<_>>()? })
    }

    /// Writes all values as CSV, a line each. Numbers are read back exactly.
    ///
    /// # Errors
    /// A file that can't be written, which stays as it was; a name with a comma or a line break.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let names = self.rows.iter().flat_map(|row| [&row.experiment, &row.series]);
        if let Some(name) = names.into_iter().find(|name| name.contains([',', '\n', '\r'])) {
            let problem = "has a comma or a line break, which separate the values of the file; give another name";
            return Err(Error::argument(format!("the name {name:?} {problem}")));
        }
        Ok(file::replace(path, |out| {
            writeln!(out, "{HEADER}")?;
            self.rows.iter().try_for_each(|Row { experiment, series, point: (x, y) }| {
                writeln!(out, "{experiment},{series},{x},{y}")
            })
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_values_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let mut results = Measurements::default();
        results.add("skips", "loss without skips", 5.5, 1.0 / 3.0);
        results.add("skips", "gradient", 1.0, 6.1e-8);
        results.write(&path).unwrap();
        assert_eq!(Measurements::read(&path).unwrap(), results);
        results.add("a, b", "x", 0.0, 0.0);
        assert!(results.write(&path).unwrap_err().to_string().contains("the name \"a, b\" has a comma"));
        assert_eq!(Measurements::read(&path).unwrap().len(), 2);
    }

    #[test]
    fn the_committed_measurements_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/inductive_bias.csv");
        let results = Measurements::read(path).unwrap();
        assert!(results.len() > 100 && !results.series("cost", "attention core").is_empty());
    }

    #[test]
    fn a_damaged_file_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let message = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Measurements::read(&path).unwrap_err().to_string()
        };
        assert!(message("a,b\n").ends_with("has no measurements; its first line must be experiment,series,x,y"));
        for line in ["cost,core,5", "cost,core,5,fast", "cost,core,5,1,2"] {
            let text = format!("{HEADER}\ncost,core,5,1\n{line}\n");
            assert!(message(&text).contains("has no experiment,series,x,y in line 3; measure"), "{line}");
        }
        let missing = Measurements::read(folder.path().join("none.csv")).unwrap_err().to_string();
        assert!(missing.contains("none.csv: can't be read"), "{missing}");
    }
}
