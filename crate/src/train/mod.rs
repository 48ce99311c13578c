//! Training: optimizer, schedule, the epoch, history, checkpoints.

mod adamw;
mod curves;
mod history;
mod live;
mod resume;
mod schedule;
mod trainer;

pub use adamw::AdamW;
pub use curves::learning_curves;
pub use history::{Epoch, History};
pub use schedule::{learning_rate, step_learning_rate};
pub use trainer::{Batch, Epochs, OnStep, Step, TrainScore, Trainer};
