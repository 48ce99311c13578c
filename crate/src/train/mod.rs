//! Training: optimizer, learning rate schedule, epoch loop, history, checkpoints and live progress.

mod adamw;
mod average;
mod batch;
mod curves;
mod folder;
mod history;
mod lock;
mod muon;
mod pass;
mod resume;
mod schedule;
mod trainer;

pub use adamw::AdamW;
pub use average::Average;
pub use batch::Batch;
pub use curves::learning_curves;
pub use folder::{Begin, Earlier, TrainingFolder};
pub use history::{Epoch, History};
pub use muon::{Muon, orthogonal};
pub use pass::{Step, TrainScore};
pub use schedule::{learning_rate, step_learning_rate};
pub use trainer::{Epochs, OnStep, Trainer};
