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
///   thread that runs cells unwinds (`INTERRUPT_RUNNER`): the threads that the earlier cell started go on.
/// - `sleep` checks while it sleeps.
pub const CELL: Module = Module {
    name: "vitlab_cell",
    source: r#"#[allow(warnings, clippy::all)] mod vitlab_cell {
    use ::std::{sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed}, time::Duration};

    #[repr(C)] pub struct State { interrupt: AtomicU32, pub tick: AtomicU32, runner: AtomicUsize }
    pub static STATE: State = State { interrupt: AtomicU32::new(0), tick: AtomicU32::new(0), runner: AtomicUsize::new(0) };
    #[unsafe(no_mangle)] pub extern "C" fn vitlab_loops() -> *const State { &STATE }
    unsafe extern "C" { safe fn pthread_self() -> usize; }
    const INTERRUPT_RUNNER: u32 = 2;
    struct Interrupted;

    #[inline(always)] pub fn check() {
        if STATE.interrupt.load(Relaxed) != 0 { stop::<()>() }
    }
    #[cold] #[inline(never)] fn stop<Used>() {
        let excepted = STATE.interrupt.load(Relaxed) == INTERRUPT_RUNNER && STATE.runner.load(Relaxed) != pthread_self();
        if !excepted && !::std::thread::panicking() { ::std::panic::resume_unwind(Box::new(Interrupted)) }
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

/// Divides ranges, so that loops over them are checked once per part and optimised as usual in between. Each loop begins
/// with parts of one turn. A part that takes less than a tick is followed by one of four times as many turns. `Site` keeps
/// this number from one execution of the loop to the next.
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
                if ticks != 0 || (more && self.turns < MOST) { self.adapt::<()>(ticks) }
            }
            if !more { return None }
            check();
            self.began = Some(tick);
            Some(self.turns)
        }
        #[cold] #[inline(never)] fn adapt<Used>(&mut self, ticks: u32) {
            self.turns = if ticks == 0 { self.turns * 4 } else { (self.turns / ticks.saturating_mul(2)).max(1) };
            self.site.0.store(self.turns, Relaxed);
        }
    }

    #[diagnostic::on_unimplemented(message = "a range of `{Self}` is not an iterator", label = "a range of `{Self}` is not an iterator")]
    pub trait Bound: Copy + PartialOrd {
        #[inline(always)] fn ahead(self, end: Self, turns: u32) -> Self { end }
    }
    macro_rules! integers { ($($wide:ident: $($type:ident $unsigned:ident),*;)*) => { $($(impl Bound for $type {
        #[inline(always)] fn ahead(self, end: Self, turns: u32) -> Self {
            let more = end.wrapping_sub(self) as $unsigned as $wide > turns as $wide;
            if more { self.wrapping_add(turns as $type) } else { end }
        }
    })*)* } }
    integers! {
        u64: u8 u8, u16 u16, u32 u32, u64 u64, usize usize, i8 u8, i16 u16, i32 u32, i64 u64, isize usize;
        u128: u128 u128, i128 u128;
    }
    impl Bound for char {}
    impl Bound for ::std::net::Ipv4Addr {}
    impl Bound for ::std::net::Ipv6Addr {}

    pub struct Parts<T> { start: T, end: T, pace: Pace }
    #[inline(always)] pub fn parts<T: Bound>(range: Range<T>, site: &'static Site) -> Parts<T> {
        Parts { start: range.start, end: range.end, pace: Pace::new(site) }
    }
    impl<T: Bound> Iterator for Parts<T> {
        type Item = Range<T>;
        #[inline(always)] fn next(&mut self) -> Option<Range<T>> {
            let turns = self.pace.next(self.start < self.end)?;
            let start = self.start;
            self.start = start.ahead(self.end, turns);
            Some(start..self.start)
        }
    }

    pub struct PartsInclusive<T> { start: T, last: T, done: bool, pace: Pace }
    #[inline(always)] pub fn parts_inclusive<T: Bound>(range: RangeInclusive<T>, site: &'static Site) -> PartsInclusive<T> {
        let (start, last) = range.into_inner();
        PartsInclusive { start, last, done: false, pace: Pace::new(site) }
    }
    impl<T: Bound> Iterator for PartsInclusive<T> {
        type Item = RangeInclusive<T>;
        #[inline(always)] fn next(&mut self) -> Option<RangeInclusive<T>> {
            let turns = self.pace.next(!self.done && self.start <= self.last)?;
            let (start, last) = (self.start, self.start.ahead(self.last, turns));
            self.done = last == self.last;
            if !self.done { self.start = last.ahead(self.last, 1) }
            Some(start..=last)
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
