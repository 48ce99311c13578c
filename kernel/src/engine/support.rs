//! A module that every cell's library contains. It holds functions that the process that runs cells finds by name.

/// Name of the module.
pub const NAME: &str = "vitlab_cell";

/// Source of the module.
pub const SOURCE: &str = r#"
#[allow(dead_code)]
mod vitlab_cell {
    /// Flushes the standard output of the cells' standard library.
    #[unsafe(no_mangle)]
    pub extern "C" fn vitlab_flush() {
        let _ = ::std::io::Write::flush(&mut ::std::io::stdout());
    }
}
"#;
