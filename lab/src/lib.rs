//! The commands of `cargo lab`: set-up, run, check, export, hand-in, course, test, open, bench, doctor. Built without libtorch, because set-up installs it.
//!
//! | module | purpose |
//! |---|---|
//! | [`system`] | the clone, the cache folder, child processes, the Rust toolchain, progress on the terminal |
//! | [`setup`] | installs the Python environment, the data, the kernel's program and its warm build |
//! | [`execution`] | executes a notebook on a fresh kernel, for `run` and `check` |
//! | [`export`] | writes notebooks as HTML, PDF and slides, also for `run` |
//! | [`course`] | makes a course for nbgrader from the notebooks, with `check` |
//! | [`hand_in`] | packs signed notebooks, their exports and the clone, with `check` and `export` |
//! | [`kernel`], [`run`], [`check`], [`mod@test`], [`open`], [`mod@bench`], [`doctor`] | one command each |
//!
//! Dependencies point upwards in this table: `system` uses none of the others, `setup` uses `system`, and so on.

pub mod bench;
pub mod check;
pub mod course;
pub mod doctor;
pub mod execution;
pub mod export;
pub mod hand_in;
pub mod kernel;
pub mod open;
pub mod run;
pub mod setup;
pub mod system;
pub mod test;
