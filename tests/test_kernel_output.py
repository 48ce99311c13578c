"""Tests which output belongs to a cell, and the questions that a cell asks."""

import contextlib
import hashlib
import queue
import time

import pytest
from test_kernel import LIMIT, Kernel, interrupt, output


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    kernel.text("use std::io::{self, BufRead, Read, Write}; use std::time::Duration;")
    yield kernel
    kernel.end()


def send_with_answers(kernel, code):
    """Sends a cell whose questions the client answers. A program of an earlier cell may have asked, too, on a busy machine."""
    with contextlib.suppress(queue.Empty):
        while kernel.client.get_stdin_msg(timeout=0):
            pass
    return kernel.send(code, allow_stdin=True)


def converse(kernel, code, answers):
    """Runs a cell and answers its questions. Returns its reply, its outputs and the prompts."""
    request = send_with_answers(kernel, code)
    prompts = []
    for answer in answers:
        content = kernel.client.get_stdin_msg(timeout=LIMIT)["content"]
        prompts.append((content["prompt"], content["password"]))
        kernel.client.input(answer)
    shown = list(kernel.messages(request))
    return kernel.reply(request), shown, prompts


def broken(code):
    """Returns the code of a panic or a failed `?` with its name and its message."""
    return [
        (f'{code} panic!("no");', "panicked", "no"),
        (f'{code} "x".parse::<i32>()?;', "Error", "invalid digit found in string"),
        (f'{code} let none: Option<i32> = None; none.expect("two\\nlines");', "panicked", "two\nlines"),
        (f'{code} Err::<(), _>("two\\nlines")?;', "Error", "two\nlines"),
    ]


# Code, standard output, standard error.
PARTS = {
    "at the end": ('print!("60 %");', "60 %", ""),
    "after lines": ('println!("a"); print!("60 %");', "a\n60 %", ""),
    "of a thread": ('std::thread::spawn(|| print!("60 %")).join().unwrap();', "60 %", ""),
    "before a value": ('print!("60 %"); 7', "60 %", ""),
    "beside standard error": ('print!("60 %"); eprint!("part");', "60 %", "part"),
    "after a command": (":efmt {}\nprint!(\"60 %\");", "60 %", ""),
    "after :clear": (':clear\nprint!("60 %");', "60 %", ""),
    "of bytes": (
        "{ use std::io::Write; let mut out = std::io::stdout(); for byte in \"é🦀\".bytes() { out.write_all(&[byte])?; out.flush()?; std::thread::sleep(std::time::Duration::from_millis(60)); } }",
        "é🦀",
        "",
    ),
    "of bytes on standard error": (
        '{ use std::io::Write; for byte in "é🦀".bytes() { std::io::stderr().write_all(&[byte])?; std::thread::sleep(std::time::Duration::from_millis(60)); } }',
        "",
        "é🦀",
    ),
    "of C": (
        'unsafe extern "C" { fn printf(format: *const std::ffi::c_char, ...) -> i32; }\n'
        'print!("60 "); unsafe { printf(c"%d %%".as_ptr(), 70) };',
        "60 70 %",
        "",
    ),
    "of a character's beginning": ("{ use std::io::Write; std::io::stdout().write_all(b\"a\\xc3\")?; }", "a\ufffd", ""),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_part_of_a_line_belongs_to_its_cell(kernel, case):
    code, stdout, stderr = PARTS[case]
    reply, shown = kernel.run(code)
    assert reply["status"] == "ok", reply
    assert output(shown, "stdout") == stdout and output(shown, "stderr") == stderr
    assert output(kernel.run('println!("next");')[1], "stdout") == "next\n"


# Code before a failure, standard output, standard error. What the long ones write is also written by the others.
WRITTEN = [
    ("", "", ""),
    ('print!("60 %");', "60 %", ""),
    pytest.param('println!("a");', "a\n", "", marks=pytest.mark.long),
    pytest.param('eprintln!("remark");', "", "remark\n", marks=pytest.mark.long),
    ('eprint!("remark");', "", "remark"),
    pytest.param('eprintln!("remark"); print!("60 %");', "60 %", "remark\n", marks=pytest.mark.long),
    ('println!("a"); eprintln!("remark"); std::thread::sleep(std::time::Duration::from_millis(80));', "a\n", "remark\n"),
]


@pytest.mark.parametrize(("before", "stdout", "stderr"), WRITTEN)
def test_a_failure_is_told_once_whatever_the_cell_wrote_before(kernel, before, stdout, stderr):
    for code, name, message in broken(before):
        reply, shown = kernel.run(code)
        assert (reply["ename"], reply["evalue"]) == (name, message), code
        assert output(shown, "stdout") == stdout and output(shown, "stderr") == stderr, code


def test_a_panic_without_a_message_of_its_hook_tells_its_payload(kernel):
    silent = "std::panic::set_hook(Box::new(|_| {}));"
    try:
        for code, message in [
            ("std::panic::panic_any(42);", "42"),
            ("std::panic::resume_unwind(Box::new(42u64));", "42"),
            ('std::panic::resume_unwind(Box::new("text"));', "text"),
            ('eprintln!("remark"); std::panic::resume_unwind(Box::new(String::from("two\\nlines")));', "two\nlines"),
            (f'{silent} panic!("silent");', "silent"),
            ('let kept = 1; panic!("silent {kept}");', "silent 1"),
            ("std::panic::panic_any(vec![1]);", "no text, and its hook printed no message"),
        ]:
            reply, shown = kernel.run(code)
            assert reply["ename"] == "panicked" and message in reply["evalue"], code
            assert output(shown, "stderr") == ("remark\n" if "remark" in code else ""), code
        own = 'std::panic::set_hook(Box::new(|_| eprintln!("The application panicked (crashed).")));'
        reply, shown = kernel.run(own + ' panic!("own");')
        assert reply["evalue"] == "own" and output(shown, "stderr") == "The application panicked (crashed).\n"
    finally:
        kernel.text("let _ = std::panic::take_hook();")


@pytest.mark.long
def test_an_error_of_anyhow_tells_its_causes_once(kernel):
    code = 'let failed: anyhow::Result<i32> = Err(anyhow::anyhow!("inner").context("middle").context("outer"));\nfailed?;'
    reply, shown = kernel.run(":dep anyhow\n" + code)
    assert reply["evalue"] == "outer: middle: inner" and output(shown, "stderr") == "", reply
    reply, shown = kernel.run(":efmt {:?}\n" + code)
    assert reply["evalue"].count("inner") == 1 and "Caused by" in reply["evalue"] and output(shown, "stderr") == "", reply
    kernel.run(":efmt {}")


def test_a_thread_that_holds_standard_output_stops_no_cell(kernel):
    hold = "std::thread::spawn(move || { let _out = std::io::stdout().lock(); let _ = held.recv(); });"
    pause = "std::thread::sleep(std::time::Duration::from_millis(100));"
    kernel.text(f"let (release, held) = std::sync::mpsc::channel::<()>();\n{hold}\n{pause}")
    for _ in range(2):
        kernel.text("let one = 1;")
    kernel.text("drop(release);")
    assert kernel.text('print!("free");') == "free"


READ = "{ let mut s = String::new(); std::io::stdin().read_line(&mut s)?; s }"
STANDARD = "Standard input (^D ends it): "
# Code, answers, prompts, standard output.
QUESTIONS = {
    "a line": (f'let name = {READ};\nprintln!("{{name:?}}");', ["ä b"], [STANDARD], '"ä b\\n"\n'),
    "a prompt": (f'print!("Name: "); println!("{{:?}}", {READ});', ["me"], ["Name: "], '"me\\n"\n'),
    "a prompt that is flushed": (
        f'print!("Name: "); std::io::Write::flush(&mut std::io::stdout())?; println!("{{:?}}", {READ});',
        ["me"],
        ["Name: "],
        '"me\\n"\n',
    ),
    "a line as a prompt": (f'println!("Name?"); println!("{{:?}}", {READ});', ["me"], [STANDARD], 'Name?\n"me\\n"\n'),
    "two questions": (
        f'print!("a: "); let a = {READ}; print!("b: "); let b = {READ}; println!("{{:?}}", a + &b);',
        ["1", "2"],
        ["a: ", "b: "],
        '"1\\n2\\n"\n',
    ),
    "a function's question": (
        'fn ask(prompt: &str) -> String { print!("{prompt}? "); std::io::stdin().lines().next().unwrap().unwrap() }\n'
        'println!("{}", ask("a") + &ask("b"));',
        ["1", "2"],
        ["a? ", "b? "],
        "12\n",
    ),
    "an empty line": (f'println!("{{:?}}", {READ});', [""], [STANDARD], '"\\n"\n'),
    "lines to the end": (
        'for line in std::io::stdin().lines() { println!("{}", line?); }',
        ["1", "2", "^D"],
        [STANDARD] * 3,
        "1\n2\n",
    ),
    "text to the end": (
        'println!("{:?}", std::io::read_to_string(std::io::stdin())?);',
        ["1", "\x04"],
        [STANDARD] * 2,
        '"1\\n"\n',
    ),
    "after its end": (f'println!("{{:?}}", {READ} + &{READ});', ["^D"], [STANDARD], '""\n'),
    "in a thread": (
        'println!("{:?}", std::thread::spawn(|| { let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap(); s }).join().unwrap());',
        ["1"],
        [STANDARD],
        '"1\\n"\n',
    ),
    "a program's line": (
        'std::process::Command::new("sh").args(["-c", "read line; echo $line"]).status()?;',
        ["1"],
        [STANDARD],
        "1\n",
    ),
    "a program's text to the end": ('std::process::Command::new("cat").status()?;', ["1", "^D"], [STANDARD] * 2, "1\n"),
    "a long line": (f'println!("{{}}", {READ}.len());', ["x" * 20_000], [STANDARD], "20001\n"),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_standard_input_is_asked_for(kernel, case):
    code, answers, expected, stdout = QUESTIONS[case]
    reply, shown, prompts = converse(kernel, code, answers)
    assert reply["status"] == "ok", reply
    # The beginning of a prompt that was flushed may be shown before.
    told = [prompt or output(shown, "stdout")[: len(want)] for (prompt, _), want in zip(prompts, expected)]
    assert told == expected
    assert output(shown, "stdout").removeprefix("Name: ") == stdout and output(shown, "stderr") == ""


def test_programs_cannot_read_the_kernels_orders(kernel):
    kernel.text('let mut reading = std::process::Command::new("cat").spawn()?;')
    assert kernel.text("1 + 1") == "2"
    kernel.text("reading.kill()?; reading.wait()?;")
    assert kernel.text("1 + 2") == "3"


def test_a_program_with_an_input_of_its_own_asks_nothing(kernel):
    code = (
        "let mut cat = std::process::Command::new(\"cat\").stdin(std::process::Stdio::piped()).spawn()?;\n"
        "std::thread::sleep(Duration::from_millis(300));\n"
        'cat.stdin.take().unwrap().write_all(b"own")?; cat.wait()?;'
    )
    reply, shown = kernel.run("use std::time::Duration; use std::io::Write;\n" + code, allow_stdin=True)
    assert reply["status"] == "ok" and output(shown, "stdout") == "own", (reply, shown)


def test_a_client_without_answers_gives_the_end_of_the_input(kernel):
    code = f'println!("{{:?}}", {READ} + &{READ}); std::process::Command::new("cat").status()?;'
    reply, shown = kernel.run(code, allow_stdin=False)
    assert reply["status"] == "ok" and output(shown, "stdout") == '""\n', (reply, shown)
    assert output(shown, "stderr").count("allow_stdin") == 1
    # The next cell has an input again.
    assert converse(kernel, f'println!("{{:?}}", {READ});', ["1"])[1][0][1]["text"] == '"1\\n"\n'


@pytest.mark.long
def test_prompts_of_evcxr_input_are_complete(kernel):
    kernel.text(":dep evcxr_input")
    for prompt in ["Time: hh:mm?", "a:\nb: c?", ""]:
        for function, password in [("get_string", False), ("get_password", True)]:
            code = f'print!("before "); println!("{{}}", evcxr_input::{function}({prompt!r}));'.replace("'", '"')
            reply, shown, prompts = converse(kernel, code, ["1"])
            assert prompts == [(prompt, password)] and output(shown, "stdout") == "before 1\n", (prompt, shown)
    reply, shown = kernel.run('println!("{:?}", evcxr_input::get_string("a: b"));', allow_stdin=False)
    assert output(shown, "stdout") == '""\n' and "allow_stdin" in output(shown, "stderr"), reply
    interrupted(kernel, 'let answer = evcxr_input::get_string("go on: y/n?");')


def interrupted(kernel, code):
    """Interrupts a cell at its question."""
    kernel.text("let mut kept = 7;")
    request = send_with_answers(kernel, code)
    kernel.client.get_stdin_msg(timeout=LIMIT)
    started = time.monotonic()
    interrupt(kernel)
    shown = list(kernel.messages(request))
    assert time.monotonic() - started < 3
    reply = kernel.reply(request)
    assert reply["ename"] == "Interrupted" and "kept" in reply["evalue"], reply
    assert [kind for kind, _ in shown] == ["error"], shown
    assert kernel.text("kept") == "7"


@pytest.mark.parametrize(
    "code",
    [
        f"let answer = {READ};\nprintln!(\"went on\");",
        'let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap(); println!("went on");',
        'for line in std::io::stdin().lines() { println!("{}", line?); }',
        "std::io::read_to_string(std::io::stdin())?;",
        'std::process::Command::new("cat").status()?;',
    ],
)
def test_an_interrupt_at_a_question_stops_the_cell_and_keeps_variables(kernel, code):
    interrupted(kernel, code)
    assert converse(kernel, f'println!("{{:?}}", {READ});', ["1"])[1][0][1]["text"] == '"1\\n"\n'


def test_code_that_goes_on_after_an_interrupted_question_is_ended(kernel):
    kernel.text("let lost = 7;")
    code = "let mut s = String::new(); let _ = std::io::stdin().read_line(&mut s);\nloop { std::thread::sleep(std::time::Duration::from_millis(10)) }"
    request = send_with_answers(kernel, code)
    kernel.client.get_stdin_msg(timeout=LIMIT)
    interrupt(kernel)
    list(kernel.messages(request))
    assert kernel.reply(request)["ename"] == "Interrupted"
    assert kernel.text("1 + 1") == "2"


def test_a_cell_that_ends_before_the_answer_waits_for_none(kernel):
    kernel.text("std::thread::spawn(|| { let mut s = String::new(); std::io::stdin().read_line(&mut s) });\n1")
    request = send_with_answers(kernel, "std::thread::sleep(std::time::Duration::from_millis(500));")
    kernel.client.get_stdin_msg(timeout=LIMIT)
    list(kernel.messages(request))
    assert kernel.reply(request)["status"] == "ok"
    # The thread asks again during the next cell.
    converse(kernel, "std::thread::sleep(std::time::Duration::from_millis(500));", ["1"])
    assert kernel.text("1 + 1") == "2"


def test_results_and_figures_keep_the_checksum_of_their_cell(kernel):
    # `cargo lab check` tells by it whether a cell was edited after it ran.
    block = 'println!("EVCXR_BEGIN_CONTENT text/html\\n<b>{n}</b>\\nEVCXR_END_CONTENT");'
    for code in ("40 + 2", f"for n in 0..2 {{ {block} }}\n"):
        _, shown = kernel.run(code)
        checksums = [content["metadata"]["vitlab"]["source"] for _, content in shown]
        assert checksums and set(checksums) == {hashlib.sha256(code.encode()).hexdigest()}
