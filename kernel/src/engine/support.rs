//! The hidden module that every cell's library contains. The code that [`loops`](super::loops) adds to cells calls it,
//! and the process that runs cells ([`loops`](crate::cell::loops)) finds it by its exported function.

/// Name of the module.
pub const NAME: &str = "vitlab_cell";

/// Source of the module. A cell receives it on one line, so it must not contain line comments.
///
/// - `vitlab_loops` is called once by the thread that runs cells, and returns the state that the two processes share.
/// - `check` unwinds without a message if the user has interrupted the cell. In a library of an earlier cell, only the
///   thread that runs cells unwinds (`INTERRUPT_RUNNER`): the threads that the earlier cell started go on.
/// - `parts` divides a range, so that loops over it are checked once per part and optimised as usual in between. Each
///   loop begins with parts of one turn, and takes four times as many turns as long as a part takes less than a tick.
///   `Site` keeps this number from one execution of the loop to the next.
/// - `sleep` checks while it sleeps.
const SOURCE: &str = r#"#[allow(warnings, clippy::all)] mod vitlab_cell {
    use ::std::{ops::{Range, RangeInclusive}, panic::resume_unwind, sync::{OnceLock, atomic::{AtomicU32, Ordering::Relaxed}}};
    use ::std::{thread::{self, ThreadId}, time::{Duration, Instant}};

    #[repr(C)] pub struct State { interrupt: AtomicU32, tick: AtomicU32 }
    static STATE: State = State { interrupt: AtomicU32::new(0), tick: AtomicU32::new(0) };
    static RUNNER: OnceLock<ThreadId> = OnceLock::new();
    const INTERRUPT_RUNNER: u32 = 2;
    struct Interrupted;

    #[unsafe(no_mangle)] pub extern "C" fn vitlab_loops() -> *const State {
        let _ = RUNNER.set(thread::current().id());
        &STATE
    }

    #[inline(always)] pub fn check() {
        if STATE.interrupt.load(Relaxed) != 0 { stop(STATE.interrupt.load(Relaxed)) }
    }

    #[cold] #[inline(never)] fn stop(interrupt: u32) {
        let excepted = interrupt == INTERRUPT_RUNNER && RUNNER.get() != Some(&thread::current().id());
        if !excepted && !thread::panicking() { resume_unwind(Box::new(Interrupted)) }
    }

    pub fn sleep(time: Duration) {
        let end = Instant::now().checked_add(time);
        loop {
            check();
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() { return }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

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
                if ticks != 0 || (more && self.turns < MOST) { self.adapt(ticks) }
            }
            if !more { return None }
            check();
            self.began = Some(tick);
            Some(self.turns)
        }
        #[cold] #[inline(never)] fn adapt(&mut self, ticks: u32) {
            self.turns = if ticks == 0 { self.turns * 4 } else { (self.turns / ticks.saturating_mul(2)).max(1) };
            self.site.0.store(self.turns, Relaxed);
        }
    }

    #[diagnostic::on_unimplemented(message = "a range of `{Self}` is not an iterator", label = "a range of `{Self}` is not an iterator")]
    pub trait Bound: Copy + PartialOrd {
        fn ahead(self, end: Self, turns: u32) -> Self;
        fn successor(self) -> Self;
    }
    macro_rules! integers { ($($wide:ident: $($type:ident $unsigned:ident),*;)*) => { $($(impl Bound for $type {
        #[inline(always)] fn ahead(self, end: Self, turns: u32) -> Self {
            let more = end.wrapping_sub(self) as $unsigned as $wide > turns as $wide;
            if more { self.wrapping_add(turns as $type) } else { end }
        }
        #[inline(always)] fn successor(self) -> Self { self.wrapping_add(1) }
    })*)* } }
    integers! {
        u64: u8 u8, u16 u16, u32 u32, u64 u64, usize usize, i8 u8, i16 u16, i32 u32, i64 u64, isize usize;
        u128: u128 u128, i128 u128;
    }
    macro_rules! undivided { ($($type:ty),*) => { $(impl Bound for $type {
        #[inline(always)] fn ahead(self, end: Self, _: u32) -> Self { end }
        #[inline(always)] fn successor(self) -> Self { self }
    })* } }
    undivided!(char, ::std::net::Ipv4Addr, ::std::net::Ipv6Addr);

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
            if !self.done { self.start = last.successor() }
            Some(start..=last)
        }
    }
}"#;

/// Returns the module on one line.
pub fn module() -> String {
    SOURCE.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
