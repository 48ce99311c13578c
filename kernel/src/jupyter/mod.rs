//! The kernel's side of Jupyter's protocol 5.3.

mod history;
mod input;
mod kernel_info;
mod replies;
mod requests;
mod server;

pub use server::run;
