//! Jobs on several threads.

use std::sync::Mutex;

use crate::layers::add;

/// Parts of a batch, each with its own gradient. The number is fixed, so that the order of additions, and with it the
/// training, is the same for any number of threads.
pub(super) const PARTS: usize = 8;

/// Runs the jobs on one thread per workspace, from a shared queue. The calling thread is one of them.
pub(super) fn run_jobs<W: Send, J: Send>(workspaces: &mut [W], jobs: Vec<J>, run: impl Fn(&mut W, J) + Sync) {
    let threads = jobs.len().max(1);
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().expect("no thread panics while it holds the lock").next();
    let work = |workspace: &mut W| {
        while let Some(job) = next() {
            run(workspace, job);
        }
    };
    std::thread::scope(|scope| {
        let mut others = workspaces.iter_mut().take(threads);
        let own = others.next().expect("there is at least one workspace");
        for workspace in others {
            scope.spawn(|| work(workspace));
        }
        work(own);
    });
}

/// Adds the other parts' gradients to the first part's, in their order. A job's piece of the sum stays in the L1 cache.
pub(super) fn add_parts<'a>(mut gradients: impl Iterator<Item = &'a mut Vec<f32>>, threads: usize) {
    const PIECE: usize = 4096;
    let sum = gradients.next().expect("a batch has parts");
    let others: Vec<_> = gradients.collect();
    let jobs = sum.chunks_mut(PIECE).enumerate().collect();
    run_jobs(&mut vec![(); threads], jobs, |(), (i, sum)| {
        for other in &others {
            add(sum, &other[i * PIECE..]);
        }
    });
}
