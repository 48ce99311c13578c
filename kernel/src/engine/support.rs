//! The hidden modules of cells, which the code that [`loops`](super::loops) adds to cells calls. A cell that needs one
//! defines it, and evcxr adds it to the libraries of all later cells. Their functions are generic or inline, so that
//! rustc generates code only for those that a cell uses. A cell receives a module on one line, so its source must not
//! contain line comments.

/// A module.
pub struct Module {
    pub name: &'static str,
    source: &'static str,
}

/// Ends loops.
///
/// - `vitlab_loops` returns the state, which the process that runs cells sets ([`loops`](crate::cell::loops)).
/// - `check` unwinds without a message if the user has interrupted the cell. In a library of an earlier cell, only the
///   thread that runs cells unwinds (`INTERRUPT_RUNNER`): the threads that the earlier cell started go on. A thread that
///   unwinds already runs its destructors to their end. No called function returns into a loop: otherwise rustc would
///   keep a loop's floating-point sums in memory, which makes such loops four times slower.
/// - `sleep` checks while it sleeps.
pub const CELL: Module = Module {
    name: "vitlab_cell",
    source: r#"#[allow(warnings, clippy::all)] mod vitlab_cell {
    use ::std::{sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed}, time::Duration};

    #[repr(C)] pub struct State { interrupt: AtomicU32, pub tick: AtomicU32, runner: AtomicUsize, unwinding: AtomicUsize }
    pub static STATE: State =
        State { interrupt: AtomicU32::new(0), tick: AtomicU32::new(0), runner: AtomicUsize::new(0), unwinding: AtomicUsize::new(0) };
    const INTERRUPT_RUNNER: u32 = 2;
    struct Interrupted;

    #[unsafe(no_mangle)] pub extern "C" fn vitlab_loops() -> *const State {
        STATE.runner.store(this_thread(), Relaxed);
        &STATE
    }

    #[inline(always)] fn this_thread() -> usize {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))] unsafe {
            let thread: usize;
            ::std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) thread, options(nostack, pure, readonly, preserves_flags));
            thread
        }
        #[cfg(all(target_os = "linux", target_arch = "aarch64"))] unsafe {
            let thread: usize;
            ::std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread, options(nostack, pure, nomem, preserves_flags));
            thread
        }
        #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))] unsafe {
            unsafe extern "C" { fn pthread_self() -> usize; }
            pthread_self()
        }
    }

    #[inline(always)] pub fn check() {
        let interrupt = STATE.interrupt.load(Relaxed);
        if interrupt != 0 {
            let thread = this_thread();
            let excepted = interrupt == INTERRUPT_RUNNER && STATE.runner.load(Relaxed) != thread;
            if !excepted && STATE.unwinding.load(Relaxed) != thread { stop::<()>(thread) }
        }
    }
    #[cold] #[inline(never)] fn stop<Used>(thread: usize) -> ! {
        while ::std::thread::panicking() { ::std::thread::park() }
        STATE.unwinding.store(thread, Relaxed);
        ::std::panic::resume_unwind(Box::new(Interrupted))
    }

    #[inline] pub fn sleep(time: Duration) {
        let end = ::std::time::Instant::now().checked_add(time);
        loop {
            check();
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(::std::time::Instant::now()));
            if left.is_zero() { return }
            ::std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}"#,
};

/// Divides loops `for`, so that they are checked once per part and optimised as usual in between: ranges by `parts` and
/// `parts_inclusive`, other iterators by `turns`. Each loop begins with parts of one turn. A part that takes less than a
/// tick is followed by one of four times as many turns. `Site` keeps this number from one execution of the loop to the
/// next.
pub const PARTS: Module = Module {
    name: "vitlab_parts",
    source: r#"#[allow(warnings, clippy::all)] mod vitlab_parts {
    use ::std::{ops::{Range, RangeInclusive}, sync::atomic::{AtomicU32, Ordering::Relaxed}};
    use super::vitlab_cell::{STATE, check};

    pub struct Site(AtomicU32);
    impl Site { pub const fn new() -> Self { Site(AtomicU32::new(1)) } }
    const MOST: u32 = 1 << 16;

    struct Pace { site: &'static Site, turns: u32, began: Option<u32> }
    impl Pace {
        #[inline(always)] fn new(site: &'static Site) -> Self { Pace { site, turns: site.0.load(Relaxed), began: None } }
        #[inline(always)] fn next(&mut self, more: bool) -> Option<u32> {
            let tick = STATE.tick.load(Relaxed);
            if let Some(began) = self.began {
                let ticks = tick.wrapping_sub(began);
                if ticks != 0 || (more && self.turns < MOST) { self.turns = adapt(self.site, self.turns, ticks) }
            }
            if !more { return None }
            check();
            self.began = Some(tick);
            Some(self.turns)
        }
    }
    #[inline(always)] fn adapt(site: &Site, turns: u32, ticks: u32) -> u32 {
        let turns = if ticks == 0 { turns * 4 } else { (turns >> ticks.min(31)).max(1) };
        site.0.store(turns, Relaxed);
        turns
    }

    #[diagnostic::on_unimplemented(message = "a range of `{Self}` is not an iterator", label = "a range of `{Self}` is not an iterator")]
    pub trait Bound: Copy + PartialOrd {
        fn steps(self, end: Self, most: u32) -> u32;
        fn forward(self, steps: u32) -> Self;
    }
    macro_rules! integers { ($($wide:ident: $($type:ident $unsigned:ident),*;)*) => { $($(impl Bound for $type {
        #[inline(always)] fn steps(self, end: Self, most: u32) -> u32 {
            (end.wrapping_sub(self) as $unsigned as $wide).min(most as $wide) as u32
        }
        #[inline(always)] fn forward(self, steps: u32) -> Self { self.wrapping_add(steps as $type) }
    })*)* } }
    integers! {
        u64: u8 u8, u16 u16, u32 u32, u64 u64, usize usize, i8 u8, i16 u16, i32 u32, i64 u64, isize usize;
        u128: u128 u128, i128 u128;
    }
    impl Bound for char {
        #[inline] fn steps(self, end: Self, most: u32) -> u32 {
            let gap = if (self as u32) < 0xd800 && end as u32 > 0xdfff { 0x800 } else { 0 };
            (end as u32 - self as u32 - gap).min(most)
        }
        #[inline] fn forward(self, steps: u32) -> Self {
            let code = self as u32 + steps;
            let gap = if (self as u32) < 0xd800 && code >= 0xd800 { 0x800 } else { 0 };
            char::from_u32(code + gap).unwrap_or(char::MAX)
        }
    }

    pub struct Parts<T> { start: T, end: T, pace: Pace }
    #[inline(always)] pub fn parts<T: Bound>(range: Range<T>, site: &'static Site) -> Parts<T> {
        Parts { start: range.start, end: range.end, pace: Pace::new(site) }
    }
    impl<T: Bound> Iterator for Parts<T> {
        type Item = Range<T>;
        #[inline(always)] fn next(&mut self) -> Option<Range<T>> {
            let turns = self.pace.next(self.start < self.end)?;
            let start = self.start;
            self.start = start.forward(start.steps(self.end, turns));
            Some(start..self.start)
        }
    }

    pub struct PartsInclusive<T> { start: T, last: T, done: bool, pace: Pace }
    #[inline(always)] pub fn parts_inclusive<T: Bound>(range: RangeInclusive<T>, site: &'static Site) -> PartsInclusive<T> {
        let (start, last) = range.into_inner();
        PartsInclusive { start, last, done: !(start <= last), pace: Pace::new(site) }
    }
    impl<T: Bound> Iterator for PartsInclusive<T> {
        type Item = Part<T>;
        #[inline(always)] fn next(&mut self) -> Option<Part<T>> {
            let turns = self.pace.next(!self.done)?;
            let steps = self.start.steps(self.last, turns - 1);
            let part = Part { start: self.start, left: steps + 1 };
            self.done = self.start.forward(steps) == self.last;
            self.start = self.start.forward(steps + 1);
            Some(part)
        }
    }
    pub struct Part<T> { start: T, left: u32 }
    impl<T: Bound> Iterator for Part<T> {
        type Item = T;
        #[inline(always)] fn next(&mut self) -> Option<T> {
            if self.left == 0 { return None }
            self.left -= 1;
            let value = self.start;
            self.start = value.forward(1);
            Some(value)
        }
    }

    pub struct Turns<I> { iter: I, left: u32, done: bool, pace: Pace }
    #[inline(always)] pub fn turns<I: IntoIterator>(iter: I, site: &'static Site) -> Turns<I::IntoIter> {
        Turns { iter: iter.into_iter(), left: 0, done: false, pace: Pace::new(site) }
    }
    impl<I: Iterator> Turns<I> {
        #[inline(always)] pub fn more(&mut self) -> bool {
            let turns = self.pace.next(!self.done);
            self.left = turns.unwrap_or(0);
            turns.is_some()
        }
    }
    impl<I: Iterator> Iterator for Turns<I> {
        type Item = I::Item;
        #[inline(always)] fn next(&mut self) -> Option<I::Item> {
            if self.left == 0 { return None }
            self.left -= 1;
            let next = self.iter.next();
            if next.is_none() { self.done = true }
            next
        }
    }
}"#,
};

impl Module {
    /// Returns the module on one line.
    pub fn line(&self) -> String {
        self.source.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn parts_take_the_turns_of_the_undivided_loop() {
        let main = r#"
            macro_rules! same { ($parts:ident, $range:expr) => {{
                static SITE: vitlab_parts::Site = vitlab_parts::Site::new();
                // The parts of the second execution are larger.
                for _ in 0..2 {
                    let mut found = Vec::new();
                    for part in vitlab_parts::$parts($range, &SITE) { for i in part { found.push(i) } }
                    assert!(found.into_iter().eq($range), "{}", stringify!($range));
                }
            }} }
            fn main() {
                same!(parts, 0..100_000);
                same!(parts, 5..3);
                same!(parts, -128i8..127);
                same!(parts, u64::MAX - 99..u64::MAX);
                same!(parts, i128::MIN..i128::MIN + 99);
                same!(parts, 'a'..'\u{f000}');
                same!(parts_inclusive, 0..=100_000);
                same!(parts_inclusive, 5..=3);
                same!(parts_inclusive, 0u8..=255);
                same!(parts_inclusive, i64::MAX - 99..=i64::MAX);
                same!(parts_inclusive, '\0'..=char::MAX);
                static SITE: vitlab_parts::Site = vitlab_parts::Site::new();
                let mut turns = vitlab_parts::turns(vec![1, 2, 3, 4, 5, 6], &SITE);
                let mut found = Vec::new();
                while turns.more() { for i in &mut turns { found.push(i) } }
                assert_eq!(found, [1, 2, 3, 4, 5, 6]);
            }
        "#;
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("main.rs"), folder.path().join("main"));
        std::fs::write(&source, CELL.line() + &PARTS.line() + main).unwrap();
        let rustc = Command::new("rustc")
            .args(["--edition=2024", "-o"])
            .arg(&program)
            .arg(source)
            .stderr(Stdio::inherit())
            .status();
        assert!(rustc.unwrap().success());
        assert!(Command::new(program).status().unwrap().success());
    }
}
