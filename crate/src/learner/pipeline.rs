//! Work in two overlapping stages.

use std::sync::mpsc::sync_channel;

use crate::Result;

/// Makes one item after the other on this thread while another thread finishes those before, in their order.
///
/// ```
/// use vitlab::{Error, learner::pipelined};
/// let root = |x: f64| if x < 0.0 { Err(Error::argument("below 0")) } else { Ok(x.sqrt()) };
/// assert_eq!(pipelined([1.0, 4.0].map(Ok).into_iter(), root)?, [1.0, 2.0]);
/// let failed = pipelined([1.0, -1.0, 4.0].map(Ok).into_iter(), root);
/// assert_eq!(failed.unwrap_err().to_string(), "below 0");
/// let failed = pipelined([Ok(1.0), Err(Error::argument("none")), Ok(4.0)].into_iter(), root);
/// assert_eq!(failed.unwrap_err().to_string(), "none");
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The first error of either stage.
pub fn pipelined<T: Send, U: Send>(
    items: impl Iterator<Item = Result<T>>,
    finish: impl FnMut(T) -> Result<U> + Send,
) -> Result<Vec<U>> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        let second = scope.spawn(move || receiver.into_iter().map(finish).collect());
        for item in items {
            // The second stage stops receiving at its first error.
            if sender.send(item?).is_err() {
                break;
            }
        }
        drop(sender);
        second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
