//! Batch after batch, in two stages.

use std::thread::ScopedJoinHandle;

use vitlab::Result;

/// Makes an item, and while the next one is made, finishes it in another thread; `take` gets what is finished, in order.
///
/// # Errors
/// The first one of either stage.
pub fn for_each_behind<T: Send, U: Send>(
    items: impl Iterator<Item = Result<T>>,
    finish: impl Fn(T) -> Result<U> + Sync,
    mut take: impl FnMut(U),
) -> Result<()> {
    let finish = &finish;
    std::thread::scope(|scope| {
        let mut join = |thread: ScopedJoinHandle<Result<U>>| -> Result<()> {
            let finished = thread.join();
            take(finished.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(())
        };
        let mut last = None;
        for item in items {
            let item = item?;
            if let Some(before) = last.replace(scope.spawn(move || finish(item))) {
                join(before)?;
            }
        }
        last.map_or(Ok(()), join)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitlab::Error;

    #[test]
    fn all_items_come_in_order_until_one_fails() {
        let mut taken = Vec::new();
        let finish = |x: i32| {
            if x == 4 {
                return Err(Error::argument("four"));
            }
            Ok(x * x)
        };
        for_each_behind((0..4).map(Ok), finish, |x| taken.push(x)).unwrap();
        assert_eq!(taken, [0, 1, 4, 9]);
        let failed = for_each_behind((0..9).map(Ok), finish, |x| taken.push(x));
        assert_eq!(failed.unwrap_err().to_string(), "four");
        let items = [Ok(1), Err(Error::argument("two")), Ok(3)];
        let failed = for_each_behind(items.into_iter(), finish, |_| {});
        assert_eq!(failed.unwrap_err().to_string(), "two");
    }
}
