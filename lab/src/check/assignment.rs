//! The headings that the assignment asks for, by notebook.

/// A notebook's beginning of the name and the headings that it must have, in this order. They are the homework's where the
/// homework has them.
const NOTEBOOKS: [(&str, &[&str]); 5] = [
    ("0_", &["Overview", "Imports", "Defining the Model"]),
    ("1_", &["Overview", "Imports", "Task 1: Inductive bias in transformer models"]),
    (
        "2_",
        &[
            "Overview",
            "Imports",
            "Task 2: Visualizing attention in ViTs",
            "Task 2.1: Modify our ViT implementation to output the attention matrix",
            "Task 2.2: Write a function that creates an attention heatmap for a specific image",
            "Task 2.3: Use the function to visualize attention maps for example images",
        ],
    ),
    (
        "3_",
        &[
            "Overview",
            "Imports",
            "Task 3: Using the inductive bias of CNNs to support the training of ViTs",
            "Task 3.1: Training a teacher model",
            "Task 3.2: Distillation loss",
            "Task 3.3: Changing the ViT architecture to allow distillation",
            "Task 3.4: Train your own DeiT model",
        ],
    ),
    ("4_", &["Overview", "Imports", "Beside the homework's ViT"]),
];

/// The section with the sources that each notebook of the assignment ends with, under one of these names.
pub const SOURCES: [&str; 2] = ["Sources", "References"];

/// Returns the headings for a notebook of this name, none if it isn't one of the assignment's.
pub fn headings(name: &str) -> Option<&'static [&'static str]> {
    NOTEBOOKS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, headings)| *headings)
}

/// Returns the largest size in bytes of a notebook of this name. Notebook 4 holds photographs and an explorer.
pub fn largest(name: &str) -> usize {
    if name.starts_with("4_") { 8_000_000 } else { 1_500_000 }
}
