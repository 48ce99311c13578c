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


def begin(kernel, code):
    """Sends a cell and waits until it runs."""
    request = kernel.send('println!("begun");\n' + code)
    messages = kernel.messages(request)
    first = next(messages)
    assert first[1].get("text") == "begun\n", first
    return request, messages


def end(kernel, request, messages):
    """Interrupts a cell. Returns its reply, its further outputs and the seconds that it took."""
    started = time.monotonic()
    interrupt(kernel)
    shown = list(messages)
    return kernel.reply(request), shown, time.monotonic() - started


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS)
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
