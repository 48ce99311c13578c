//! A progress bar for passes whose duration is not known before.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar};

use crate::options::bar;

/// A progress bar that says once how long the rest will take.
pub struct Pace {
    bar: ProgressBar,
    /// When the first pass ended, and the images that were done then. The first pass is slower than the others.
    first: Option<(Instant, usize)>,
    said: bool,
    /// The passes or maps that are counted.
    unit: &'static str,
}

impl Pace {
    pub fn new(unit: &'static str) -> Self {
        let bar = bar(0, &format!("{{bar:30}} {{percent}} % of {{human_len}} {unit}  {{eta}} left"));
        Pace { bar, first: None, said: false, unit }
    }

    pub fn set(&mut self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        let (start, before) = *self.first.get_or_insert_with(|| (Instant::now(), done));
        if !self.said && done > before && start.elapsed() > Duration::from_secs(1) {
            self.said = true;
            let left = start.elapsed().mul_f64((all - done) as f64 / (done - before) as f64);
            if left > Duration::from_secs(15) {
                self.bar.suspend(|| eprintln!("{all} {}, about {} left", self.unit, HumanDuration(left)));
            }
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
