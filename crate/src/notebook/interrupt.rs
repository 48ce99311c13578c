//! The folder through which the kernel of vitlab and its cells exchange files: the running cell, and interrupts.

use std::path::PathBuf;
use std::sync::Mutex;

/// The folder, or `None` on any other kernel than that of vitlab.
pub(crate) fn kernel() -> Option<PathBuf> {
    std::env::var_os("VITLAB_KERNEL").map(PathBuf::from)
}

/// The number of the running cell, or `None` on any other kernel than that of vitlab.
pub(crate) fn cell() -> Option<String> {
    std::fs::read_to_string(kernel()?.join("cell")).ok()
}

/// Listens for the user's interrupt of a training. While a value exists, the kernel does not end the cell's process on
/// an interrupt: the training is expected to stop by itself.
pub(crate) struct Interrupt(Option<PathBuf>);

/// How many values of [`Interrupt`] exist.
static LISTENERS: Mutex<usize> = Mutex::new(0);

impl Interrupt {
    /// Announces to the kernel that [`Interrupt::asked`] is called after every step.
    pub(crate) fn listen() -> Self {
        let folder = kernel();
        if let Some(folder) = &folder {
            *LISTENERS.lock().unwrap() += 1;
            // Without this file the kernel ends the cell's process, which interrupts the training as well.
            _ = std::fs::write(folder.join("listening"), "");
        }
        Interrupt(folder)
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.as_ref().is_some_and(|folder| folder.join("interrupt").exists())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let mut listeners = LISTENERS.lock().unwrap();
            *listeners -= 1;
            if *listeners == 0 {
                _ = std::fs::remove_file(folder.join("listening"));
            }
        }
    }
}
