"""Tests that an interrupt ends the loops of a cell and keeps the variables."""

import time

import pytest

from test_kernel import Kernel, interrupt, output

SLEEP = "std::thread::sleep(std::time::Duration::from_millis(1));"
# Code of cells that never end, each with a line that prints "begun" first.
ENDLESS = {
    "loop": "loop {}",
    "loop with a body": "let mut n = 0u64; loop { n = n.wrapping_add(1); std::hint::black_box(n); }",
    "while": "let mut n = 0u64; while std::hint::black_box(true) { n += 1; }",
    "while let": "let mut next = Some(1u64); while let Some(n) = next { next = Some(std::hint::black_box(n)); }",
    "for over a range": "for n in 0..u64::MAX { std::hint::black_box(n); }",
    "for over an inclusive range": "for n in 0..=i64::MAX { std::hint::black_box(n); }",
    "for over a range of slow turns": f"for _ in 0..u32::MAX {{ {SLEEP} }}",
    "for with a break": "for n in 0..u64::MAX { if std::hint::black_box(n) == u64::MAX { break; } }",
    "for over an iterator": "for n in std::iter::repeat(1u64) { std::hint::black_box(n); }",
    "nested": "'outer: loop { for n in 0..10 { if std::hint::black_box(n) == 9 { continue 'outer; } } }",
    "function": "fn forever() -> ! { loop { std::hint::black_box(1); } }\nforever();",
    "function of an earlier cell": "earlier();",
    "method": "struct Endless; impl Endless { fn run(&self) { while std::hint::black_box(true) {} } }\nEndless.run();",
    "closure": "{ let run = || loop { std::hint::black_box(1); };\nrun() }",
    "closure of an earlier cell": "stored();",
    "async": "async fn forever() { loop { tokio::task::yield_now().await; } }\nforever().await;",
    "question mark": 'loop { std::hint::black_box("1").parse::<i32>()?; }',
    "unsafe": "unsafe { let mut n = 0u64; loop { std::ptr::write_volatile(&mut n, 1); } }",
    "generic": "fn twice<T: Clone>(value: T) -> T { loop { std::hint::black_box(value.clone()); } }\ntwice(String::new());",
    "threads that are joined": "let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(|| loop { std::hint::black_box(1); })).collect();\n"
    "for thread in threads { thread.join().unwrap(); }",
    "scoped threads": "std::thread::scope(|scope| { scope.spawn(|| loop { std::hint::black_box(1); }); });",
    "sleep": "std::thread::sleep(std::time::Duration::from_secs(600));",
    "imported thread": "use std::{thread, time::Duration};\nthread::sleep(Duration::from_secs(600));",
    "imported sleep": "use std::thread::sleep; use std::time::Duration;\nsleep(Duration::MAX);",
}


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    kernel.text(
        "let mut kept = vec![1, 2];\nfn earlier() { loop { std::hint::black_box(1); } }\n"
        "let stored: Box<dyn Fn()> = Box::new(|| loop { std::hint::black_box(1); });"
    )
    yield kernel
    kernel.end()


@pytest.fixture(scope="module")
def other():
    """A kernel for tests that clear it or end its process."""
    kernel = Kernel()
    yield kernel
    kernel.end()


def begin(kernel, code):
    """Sends a cell and waits until it runs."""
    request = kernel.send('println!("begun");\n' + code)
    messages = kernel.messages(request)
    # The progress of a build may come before.
    assert any(content.get("text") == "begun\n" for _, content in messages)
    return request, messages


def end(kernel, request, messages):
    """Interrupts a cell. Returns its reply, its further outputs and the seconds that it took."""
    started = time.monotonic()
    interrupt(kernel)
    shown = list(messages)
    return kernel.reply(request), shown, time.monotonic() - started


# The others take a minute; `async` compiles tokio.
USUAL = ["loop", "for over a range", "for over an iterator", "nested", "closure of an earlier cell", "question mark", "scoped threads", "sleep"]
CELLS = [pytest.param(code, id=name, marks=[] if name in USUAL else pytest.mark.long) for name, code in ENDLESS.items()]


@pytest.mark.parametrize("code", CELLS)
def test_an_interrupt_keeps_the_variables(kernel, code):
    before = len(eval(kernel.text("kept")))
    request, messages = begin(kernel, "kept.push(3);\n" + code)
    time.sleep(0.1)
    reply, shown, seconds = end(kernel, request, messages)
    assert reply["ename"] == "Interrupted" and "all variables of earlier cells are kept" in reply["evalue"], reply
    assert output(shown, "stderr") == ""
    assert seconds < 4
    # The changes of the cell stay, too.
    assert len(eval(kernel.text("kept"))) == before + 1


# Cells whose loops must compile with the same types as without checks, and their results.
LOOPS = {
    "let v = vec![1u64, 2, 3]; let mut s = 0; for i in 0..v.len() { s += v[i]; } s": "6",
    "let mut a = 0; for i in 0..10u8 { a += i; } a": "45",
    "let mut w = vec![]; for i in 0..70 { w.push(i); } w.len()": "70",
    "let mut w = Vec::new(); for x in [1.5f32, 2.0].iter() { w.push(*x); } w": "[1.5, 2.0]",
    "let mut found = None; for i in (0..=100).rev() { if i * i < 50 { found = Some(i); break; } } found": "Some(7)",
    "let mut found = 0; for i in 0..1000 { if i % 7 == 6 { continue; } if i > 500 { found = i; break; } } found": "501",
    "let mut n = 0u32; for c in 'a'..='e' { n += c as u32; } n": "495",
    "let mut n = 0; for x in u8::MIN..=u8::MAX { n += usize::from(x); } n": "32640",
    "let mut n = 0i64; for i in -5..=5i64 { for j in 0..70i64 { n += i * j + 1; } } n": "770",
    "let mut n = 0; 'outer: for i in 0.. { for j in 0..9 { if i * j > 20 { break 'outer; } n += 1; } } n": "34",
    "let y: u32 = loop { break 5 }; y": "5",
    "let z = 'a: loop { loop { break 'a 1.5 } }; z": "1.5",
    "fn sum<T: Copy + Into<f64>>(v: &[T]) -> f64 { let mut s = 0.0; for x in v { s += (*x).into(); } s }\nsum(&[1u8, 2])": "3.0",
    "let p: Vec<i32> = { let mut p = vec![]; for t in \"1 2 3\".split(' ') { p.push(t.parse()?); } p }; p": "[1, 2, 3]",
    "let mut p = unsafe { let mut s = 0; for i in 0..3usize { s += *[4, 5, 6].as_ptr().add(i); } s }; p": "15",
    "let m: Box<dyn Fn(u32) -> u32> = Box::new(|n| { let mut k = n; while k > 9 { k /= 10; } k }); m(432)": "4",
    "let l = std::sync::Mutex::new(vec![1, 2]); let mut t = 0; for x in l.lock().unwrap().iter() { t += x; } t": "3",
    "let r: Result<Vec<i32>, std::num::ParseIntError> = (|| { let mut r = vec![]; for i in 0..2 { r.push(format!(\"{i}\").parse::<i32>()?); } Ok(r) })(); r.unwrap()": "[0, 1]",
    "let mut stack = vec![1, 2]; let mut u = 0; while let Some(x) = stack.pop() { u += x; } u": "3",
    "let (tx, rx) = std::sync::mpsc::channel(); std::thread::spawn(move || for i in 0..3 { tx.send(i).unwrap(); }).join().unwrap(); rx.iter().sum::<i32>()": "3",
    "const N: usize = { let mut i = 0; while i < 5 { i += 1; } i }; [0u8; N]": "[0, 0, 0, 0, 0]",
    "{ macro_rules! stop { () => { break } }\nlet mut k = 0; for i in 0..99 { k = i; if i == 40 { stop!() } } k }": "40",
}
# Compiles tokio.
ASYNC_LOOPS = {
    "async fn count() -> u32 { let mut n = 0; for i in 0..70u32 { tokio::task::yield_now().await; n += i; } n }\nlet q: u32 = tokio::spawn(count()).await?; q": "2415",
}


@pytest.mark.parametrize("loops", [LOOPS, pytest.param(ASYNC_LOOPS, marks=pytest.mark.long)], ids=["usual", "async"])
def test_loops_keep_their_types_and_values(kernel, loops):
    for code, value in loops.items():
        reply, shown = kernel.run(code)
        assert reply["status"] == "ok", (code, reply)
        assert output(shown, "stderr") == "", code
        assert shown[-1][1]["data"]["text/plain"] == value, code


def test_the_error_of_a_loop_shows_the_cell(kernel):
    for code, name in [("for x in 0.0..1.0 {}", "E0277"), ("for i in 0..3 { let s: String = i; }", "E0308"), ("loop { no_such(); }", "E0425")]:
        reply, _ = kernel.run(code)
        text = "\n".join(reply["traceback"])
        assert reply["ename"] == name and "vitlab" not in text, text
    reply, _ = kernel.run("let v = vec![1];\nfor i in 0..3 { v[i]; }")
    assert reply["traceback"][-1] == "  at line 2 of the cell: for i in 0..3 { v[i]; }", reply["traceback"]


@pytest.mark.long
def test_the_modules_of_loops_are_hidden_and_survive_clear(other):
    kernel = other
    assert kernel.text("let mut n = 0; for i in 0..99 { n += i; } n") == "4851"
    request = kernel.client.complete("vitlab_")
    assert [it for it in kernel.reply(request)["matches"] if it.startswith("vitlab_")] == []
    assert kernel.text(":vars") == "n: i32\n"
    kernel.text(":clear")
    kernel.text("let kept = 5;")
    request, messages = begin(kernel, "for i in 0..u64::MAX { std::hint::black_box(i); }")
    assert end(kernel, request, messages)[0]["ename"] == "Interrupted"
    assert kernel.text("kept") == "5"
    kernel.text(":clear\nlet kept = 6;")
    request, messages = begin(kernel, "loop {}")
    assert end(kernel, request, messages)[0]["ename"] == "Interrupted"
    assert kernel.text("kept") == "6"


def test_an_interrupt_names_moved_and_new_variables(kernel):
    kernel.text("let moved = vec![1];")
    request, messages = begin(kernel, "let new = 5; let other = moved; loop {}")
    reply, _, _ = end(kernel, request, messages)
    for part in ("kept, except moved", "new and other aren't defined"):
        assert part in reply["evalue"], reply
    assert len(eval(kernel.text("kept"))) >= 2


def test_threads_of_earlier_cells_go_on(kernel):
    kernel.text(
        "use std::sync::{Arc, atomic::{AtomicU64, Ordering::SeqCst}};\nlet count = Arc::new(AtomicU64::new(0));\n"
        "{ let count = count.clone(); std::thread::spawn(move || loop { count.fetch_add(1, SeqCst); std::thread::sleep(std::time::Duration::from_millis(5)); }); }"
    )
    request, messages = begin(kernel, "loop {}")
    assert end(kernel, request, messages)[0]["ename"] == "Interrupted"
    before = int(kernel.text("count.load(SeqCst)"))
    time.sleep(0.5)
    assert int(kernel.text("count.load(SeqCst)")) > before


def test_a_slow_turn_is_waited_for(kernel):
    # Two seconds, during which nothing checks: longer than code without checks is given.
    slow = "let end = std::time::Instant::now() + std::time::Duration::from_secs(2);\nstd::thread::park_timeout(end - std::time::Instant::now());"
    request, messages = begin(kernel, "loop { " + slow + " }")
    reply, _, seconds = end(kernel, request, messages)
    assert reply["ename"] == "Interrupted" and "are kept" in reply["evalue"], reply
    assert seconds < 4.5
    assert len(eval(kernel.text("kept"))) >= 2


def test_a_second_interrupt_ends_the_process(other):
    kernel = other
    kernel.text(":clear\nlet gone = 1;")
    request, messages = begin(kernel, "loop { std::thread::park(); }")
    started = time.monotonic()
    interrupt(kernel)
    time.sleep(0.5)
    reply, _, _ = end(kernel, request, messages)
    assert reply["ename"] == "Interrupted" and "gone is lost" in reply["evalue"], reply
    assert time.monotonic() - started < 4
