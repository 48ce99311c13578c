//! Everything around the notebooks: set-up, kernel, run, test. Free of tch, so that it runs before libtorch is there.
//!
//! The way of a set-up: [`environment`] says what [`python`] installs, [`overlay`] links it into the clone; [`evcxr`]
//! builds the kernel's program, [`data`] the images; [`warm`] builds once what every kernel needs, with [`stubs`] for its
//! linker, and [`kernelspec`] tells Jupyter to start [`kernel`], whose types are found in what [`analysis`] leaves to read.
//! [`cache`] holds what all clones share; [`step`] shows what is going on. [`bench`] measures all of it.

pub mod analysis;
pub mod bench;
pub mod cache;
pub mod data;
pub mod doctor;
pub mod engine;
pub mod environment;
pub mod evcxr;
pub mod kernel;
pub mod kernelspec;
pub mod overlay;
pub mod python;
pub mod repository;
pub mod run;
pub mod select;
pub mod setup;
pub mod step;
pub mod stubs;
pub mod system;
pub mod test;
pub mod tree;
pub mod warm;
