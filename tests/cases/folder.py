"""The crates and data that cases use."""

from pathlib import Path

CRATES = {
    "tally": """
        use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
        static STORED: AtomicU32 = AtomicU32::new(0);
        pub fn thirty() -> i32 { 30 }
        pub fn store(value: u32) { STORED.store(value, SeqCst) }
        pub fn stored() -> u32 { STORED.load(SeqCst) }
        /// A pile of things.
        #[derive(Debug)]
        pub struct Pile { pub things: Vec<u8> }
        impl Pile { pub fn of(things: &[u8]) -> Pile { Pile { things: things.to_vec() } } }
        #[cfg(feature = "loud")]
        pub fn shout() -> &'static str { "HEY" }
    """,
    "second-crate": "pub fn twelve() -> i32 { 12 }\n#[macro_export] macro_rules! twice { ($n:expr) => { 2 * $n }; }",
    "broken": "pub fn wrong() -> i32 { \"text\" }",
    "table": """
        //! Rows of numbers, separated by commas.
        pub fn read(path: &str) -> std::io::Result<Vec<Vec<f64>>> {
            let text = std::fs::read_to_string(path)?;
            Ok(text.lines().skip(1).map(|line| line.split(',').filter_map(|cell| cell.trim().parse().ok()).collect()).collect())
        }
    """,
}
FILES = {
    "numbers.csv": "x,y\n1,2.5\n2,3.5\n3,6.0\n",
    "people.csv": "name,city,age\nAda,London,36\nBlaise,Paris,39\nCarl,London,\nDora,Rome,28\n",
    "poem.txt": "the rose is red\nthe violet is blue\nand the rose is the rose\n",
    "settings.json": '{"name": "run", "rates": [0.1, 0.01], "nested": {"on": true}}\n',
}


def write_folder(folder):
    """Writes the crates and data into a folder and returns it."""
    folder = Path(folder)
    for name, source in CRATES.items():
        (folder / name / "src").mkdir(parents=True)
        manifest = f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2024"\n\n[features]\nloud = []\n'
        (folder / name / "Cargo.toml").write_text(manifest)
        (folder / name / "src/lib.rs").write_text(source)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder
