"""Tests the kernel `vitlab` through Jupyter's own client: faults, protocol, output, interrupts.

`cargo lab setup` installs the kernel.
"""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
import zmq
from jupyter_client import BlockingKernelClient, KernelManager, write_connection_file
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from safetensors import safe_open

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
CRATE = ':dep vitlab = { path = "../crate" }'
# Seconds for one cell, on a busy machine.
LIMIT = 120


def without_progress(shown):
    """Returns the outputs of a cell without the progress of its build, which a busy machine shows below any cell."""

    def is_progress(content):
        progress = r"\(\d+ s(, about .* left)?\)$|^Waiting for another cargo"
        return set(content["data"]) == {"text/plain"} and re.search(progress, content["data"]["text/plain"])

    displays = [content for kind, content in shown if kind == "display_data"]
    ids = {content["transient"]["display_id"] for content in displays if is_progress(content)}
    kept = []
    # The progress ends with an update, or is cleared.
    ended = True
    for kind, content in shown:
        if content.get("transient", {}).get("display_id") in ids:
            ended = False
        elif kind == "clear_output" and not ended:
            ended = True
        else:
            kept.append((kind, content))
    return kept


class Kernel:
    """A running kernel and its client."""

    def __init__(self, ready=True, options=()):
        self.manager = KernelManager(kernel_name="vitlab")
        self.manager.kernel_spec.argv[2:2] = options
        environment = dict(os.environ, VITLAB_DATA="synthetic")
        self.log = tempfile.TemporaryFile("w+")
        self.manager.start_kernel(cwd=str(NOTEBOOKS), env=environment, stderr=self.log)
        self.client = self.manager.client()
        self.client.start_channels()
        if ready:
            self.wait()

    def wait(self):
        started = time.monotonic()
        self.client.wait_for_ready(timeout=LIMIT)
        self.ready = time.monotonic() - started

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.log.close()

    def logged(self):
        """Returns what the kernel has written on standard error so far."""
        # Opened again, because reading through the shared descriptor would move the position at which the kernel writes.
        return Path(f"/proc/self/fd/{self.log.fileno()}").read_text()

    def send(self, code, **options):
        return self.client.execute(code, **options)

    def messages(self, request, limit=LIMIT):
        """Yields the outputs of a cell until it is done."""
        while True:
            message = self.client.get_iopub_msg(timeout=limit)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return
            if kind not in ("status", "execute_input"):
                yield kind, content

    def reply(self, request, limit=LIMIT):
        while True:
            message = self.client.get_shell_msg(timeout=limit)
            if message["parent_header"]["msg_id"] == request:
                return message["content"]

    def run(self, code, progress=False, **options):
        """Runs a cell. Returns its reply and its outputs, which contain the progress of its build only on request."""
        request = self.send(code, **options)
        shown = list(self.messages(request))
        return self.reply(request), shown if progress else without_progress(shown)

    def text(self, code):
        """Runs a cell without faults. Returns the text that it prints and its result."""
        reply, shown = self.run(code)
        assert reply["status"] == "ok", reply
        return "".join(content.get("text") or content["data"]["text/plain"] for _, content in shown)

    def processes(self):
        """Returns the ids of all processes of the kernel."""

        def below(process):
            found = [process]
            # A process may end meanwhile.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for thread in Path("/proc", str(process), "task").glob("*/children"):
                    for child in thread.read_text().split():
                        found += below(int(child))
            return found

        return below(self.manager.provisioner.pid)


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    kernel.text(CRATE + "\nuse vitlab::{Error, Result, tch::{self, Tensor}};")
    yield kernel
    kernel.end()


def output(shown, stream):
    return "".join(content["text"] for kind, content in shown if kind == "stream" and content["name"] == stream)


# Code, name of the error, a part of its message, and whether the process that runs cells ends.
FAULTS = {
    "compile error": ("let s: String = 1i32;", "E0308", "mismatched types", False),
    "unknown name": ("no_such_function();", "E0425", "no_such_function", False),
    "a variable that can't be kept": ("let f = |x: i32| x + 1;", "Error", "closure", False),
    "panic": ('panic!("on purpose");', "panicked", "on purpose", False),
    "failed assertion": ("let two = 2;\nassert_eq!(1 + 2, two);", "panicked", "left == right", False),
    "index out of bounds": ("let v: Vec<i32> = vec![]; let x = v[3];", "panicked", "the len is 0 but the index is 3", False),
    "unwrap": ("let none: Option<i32> = None; none.unwrap();", "panicked", "None", False),
    "tensor shapes": (
        "Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu)).matmul(&Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu)));",
        "panicked",
        "shapes cannot be multiplied",
        False,
    ),
    "? on a standard error": ('let n = "x".parse::<i32>()?;', "Error", "invalid digit", False),
    "? on the crate's error": ('Err::<i32, _>(Error::argument("too few images"))?;', "Error", "too few images", False),
    "? on a file": ('std::fs::read("no/such/file")?;', "Error", "No such file", False),
    "? on a boxed text": ('let text: std::result::Result<i32, String> = Err("just text".into()); text?;', "Error", "just text", False),
    "unknown command": (":no_such_command", "Error", "no_such_command", False),
    "abort": ("std::process::abort();", "Crash", "SIGABRT", True),
    "segmentation fault": ("unsafe { std::ptr::null_mut::<i32>().write_volatile(1) };", "Crash", "SIGSEGV", True),
    "stack overflow": (
        "#[allow(unconditional_recursion)]\nfn deep(n: u64) -> u64 { let a = [n; 1000]; std::hint::black_box(&a); deep(n + 1) + a[7] }\ndeep(0);",
        "Crash",
        "SIGABRT",
        True,
    ),
    "killed, as for want of memory": (
        'std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status()?;\nloop { std::thread::sleep(std::time::Duration::from_secs(1)) }',
        "Crash",
        "memory ran out",
        True,
    ),
    "exit": ("std::process::exit(3);", "Exit", "status 3", True),
}


# `pytest --long` tests the others, too.
USUAL = ["compile error", "panic", "tensor shapes", "? on the crate's error", "abort", "exit"]


@pytest.mark.parametrize("fault", [fault if fault in USUAL else pytest.param(fault, marks=pytest.mark.long) for fault in FAULTS])
def test_a_fault_is_an_error_at_its_cell(kernel, fault):
    code, name, part, ends = FAULTS[fault]
    kernel.text("let kept: i32 = 7;")
    # Queued like the cells of Run All: the second cell must not run.
    failing, behind = kernel.send(code), kernel.send('println!("went on");')
    shown = list(kernel.messages(failing))
    reply = kernel.reply(failing)
    assert reply["status"] == "error", shown
    assert reply["ename"] == name and part in reply["evalue"], reply
    errors = [content for kind, content in shown if kind == "error"]
    assert [(error["ename"], error["evalue"]) for error in errors] == [(name, reply["evalue"])]
    told = "\n".join(errors[0]["traceback"])
    assert part in told
    for hidden in ("frame #", "RUST_BACKTRACE", ".cargo/registry", "src/lib.rs", str(Path.home()) + "/"):
        assert hidden not in told, told
    assert kernel.reply(behind)["status"] == "aborted"
    assert list(kernel.messages(behind)) == []
    if ends:
        assert "variable" in reply["evalue"] and "kept" in reply["evalue"]
        assert kernel.run("kept")[0]["ename"] == "E0425"
    else:
        assert kernel.text("kept") == "7"
    # Items and dependencies remain after every fault.
    assert kernel.text('println!("{}", Error::argument("fine"));') == "fine\n"


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_nbclient_stops_at_a_fault(fault):
    cells = [CRATE + "\nuse vitlab::{Error, tch::{self, Tensor}};", FAULTS[fault][0], 'println!("went on");']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, kernel_name="vitlab", timeout=LIMIT, resources={"metadata": {"path": str(NOTEBOOKS)}})
    with pytest.raises(CellExecutionError) as error:
        client.execute()
    assert error.value.ename == FAULTS[fault][1]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, None]
    assert notebook.cells[1].outputs[-1].output_type == "error"


def test_a_caught_panic_and_an_error_that_is_printed_are_no_faults(kernel):
    reply, shown = kernel.run(
        'let caught = std::panic::catch_unwind(|| panic!("caught")).is_err();\n'
        'let thread = std::thread::spawn(|| panic!("of a thread")).join().is_err();\n'
        'eprintln!("a remark");\nprintln!("{caught} {thread}");'
    )
    assert reply["status"] == "ok"
    assert output(shown, "stdout") == "true true\n"
    assert "a remark" in output(shown, "stderr") and "caught" in output(shown, "stderr")


def test_a_panic_names_the_line(kernel):
    reply, shown = kernel.run('let a = 1;\nlet b = 2;\nassert!(a > b, "{a} is not above {b}");')
    told = "\n".join(shown[-1][1]["traceback"])
    assert 'at line 3 of the cell: assert!(a > b, "{a} is not above {b}");' in told


def test_counts_begin_at_one_and_silent_cells_have_none():
    kernel = Kernel()
    try:
        # The very first cell may have variables: the standard library is loaded when it is needed.
        replies = [kernel.run(code)[0] for code in ("let x = vec![1.5, 0.5];\nlet sum: f64 = x.iter().sum();", "let y = 2;")]
        assert [reply["execution_count"] for reply in replies] == [1, 2]
        assert kernel.text("(x.len(), sum)") == "(2, 2.0)"
        assert kernel.run("y + 1", store_history=False)[0]["execution_count"] == 3
        assert kernel.run("println!(\"unseen\");", silent=True)[1] == []
        assert kernel.run("y")[0]["execution_count"] == 4
        assert kernel.ready < 10
    finally:
        kernel.end()


def test_figures_show_where_they_occur_and_change_in_place(kernel):
    kernel.text("use vitlab::notebook::{DisplayHandle, Table, clear_output, show};\nfn table(n: i32) -> Table { Table::new(&format!(\"T{n}\"), &[\"n\"], &[vec![n.to_string()]]) }")
    reply, shown = kernel.run(
        'show(&table(1));\nprintln!("between");\nshow(&table(2));\nlet mut handle = DisplayHandle::new();\n'
        "for n in 3..6 { handle.show(&table(n)); }\nclear_output(true);\ntable(6)"
    )
    assert reply["status"] == "ok", reply
    assert [kind for kind, _ in shown] == [
        "display_data", "stream", "display_data", "display_data",
        "update_display_data", "update_display_data", "clear_output", "execute_result",
    ]  # fmt: skip
    titles = [content["data"]["text/plain"][:2] for kind, content in shown if "data" in content]
    assert titles == ["T1", "T2", "T3", "T4", "T5", "T6"]
    assert all("text/html" in content["data"] for _, content in shown if "data" in content)
    ids = {content["transient"]["display_id"] for kind, content in shown[3:6]}
    assert len(ids) == 1
    # A later cell can replace it, too.
    _, shown = kernel.run("handle.show(&table(7));")
    assert shown[0][0] == "update_display_data" and shown[0][1]["transient"]["display_id"] in ids


def test_several_evcxr_blocks_of_one_cell_all_show(kernel):
    block = 'println!("EVCXR_BEGIN_CONTENT text/html\\n<b>{n}</b>\\nEVCXR_END_CONTENT");'
    _, shown = kernel.run(f"for n in 0..3 {{ {block} }}")
    assert [content["data"]["text/html"] for _, content in shown] == ["<b>0</b>", "<b>1</b>", "<b>2</b>"]
    assert [kind for kind, _ in shown] == ["display_data", "display_data", "execute_result"]


def test_output_is_live_and_in_order(kernel):
    request = kernel.send(
        "use std::io::Write;\nfor n in 0..5 {\n    print!(\"{n} ä\\r\"); std::io::stdout().flush()?;\n"
        "    std::thread::sleep(std::time::Duration::from_millis(300));\n}\nprintln!(\"end\");"
    )
    times, text = [], ""
    for _, content in kernel.messages(request):
        times.append(time.monotonic())
        text += content["text"]
    assert text == "".join(f"{n} ä\r" for n in range(5)) + "end\n"
    assert len(times) >= 5 and times[4] - times[0] > 0.9
    _, shown = kernel.run('for n in 0..20 { println!("o{n}"); eprintln!("e{n}"); std::thread::sleep(std::time::Duration::from_millis(50)); };')
    lines = "".join(content["text"] for _, content in shown).split()
    assert [int(line[1:]) for line in lines] == sorted(int(line[1:]) for line in lines)


@pytest.mark.parametrize("end", ["", "panic!(\"after a part of a line\");", "Err::<(), _>(Error::argument(\"no\"))?;"])
def test_a_part_of_a_line_hangs_no_cell(kernel, end):
    code = f'use std::io::Write;\nprint!("part"); std::io::stdout().flush()?;\n{end}'
    reply, shown = kernel.run(code)
    assert output(shown, "stdout") == "part"
    assert reply["status"] == ("error" if end else "ok")


def memory(process):
    """Returns the resident memory in MB; 0 for a process that has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmRSS:")[1].split()[0]) / 1000 if "VmRSS:" in status else 0


@pytest.mark.long
def test_a_flood_neither_stalls_nor_grows(kernel):
    kernel.text("1")
    before = max(memory(process) for process in kernel.processes())
    request = kernel.send('let line = "x".repeat(99);\nfor _ in 0..1_000_000 { println!("{line}"); }\nprintln!("last");')
    count, last, peak = 0, "", 0
    for number, (_, content) in enumerate(kernel.messages(request)):
        count += len(content["text"])
        last = content["text"][-200:]
        if number % 100 == 0:
            peak = max(peak, *(memory(process) for process in kernel.processes()))
    assert count == 100_000_005 and last.endswith("x\nlast\n")
    assert peak < before + 100, (before, peak)
    assert kernel.text("2") == "2"


def interrupt(kernel):
    message = kernel.client.session.msg("interrupt_request", {})
    kernel.client.control_channel.send(message)
    assert kernel.client.control_channel.get_msg(timeout=10)["content"]["status"] == "ok"


def test_what_does_not_listen_is_ended_after_a_second(kernel):
    kernel.text("let kept: i32 = 7;\nfn item() -> i32 { 3 }")
    # No loop of the cell's own source, and no sleep.
    request = kernel.send('println!("begun");\nstd::thread::park();')
    messages = kernel.messages(request)
    assert next(messages)[1]["text"] == "begun\n"
    started = time.monotonic()
    interrupt(kernel)
    shown = list(messages)
    assert 0.9 < time.monotonic() - started < 10
    reply = kernel.reply(request)
    assert reply["ename"] == "Interrupted" and "kept" in reply["evalue"], reply
    assert shown[-1][0] == "error"
    assert kernel.text("item()") == "3"


@pytest.mark.long
def test_a_compilation_is_interrupted(kernel):
    kernel.text("let kept: i32 = 7;")
    # Evaluating this constant takes minutes.
    request = kernel.send(
        "#![allow(long_running_const_eval)]\nconst SLOW: u64 = { let mut n = 0u64; let mut i = 0u64; while i < 1 << 40 { n = n.wrapping_add(i * i); i += 1; } n };\nprintln!(\"{SLOW}\");"
    )
    time.sleep(4)
    interrupt(kernel)
    list(kernel.messages(request))
    reply = kernel.reply(request)
    assert reply["ename"] == "Interrupted" and "compiling" in reply["evalue"], reply
    assert kernel.text("kept") == "7"


TRAINING = """use vitlab::{Config, data::FashionMnist, metrics::evaluate, model::VisionTransformer, train::Trainer};
let config = Config { epochs: EPOCHS, warmup_epochs: 1, batch_size: 32, n_layers: 2, patch_size: 7, train_images: Some(960), test_images: Some(64), ..Config::default() };
let data = FashionMnist::load(&config, tch::Device::Cpu)?;
let model = VisionTransformer::new(&config, tch::Device::Cpu)?;
let mut trainer = Trainer::new(&model, &config)?;"""
LOOP = """for _ in trainer.epochs() {
    let score = trainer.epoch(&data.train, |images, labels| {
        let (logits, _) = model.forward(images, true, false)?;
        Ok((logits.cross_entropy_for_logits(labels), logits))
    })?;
    println!("{}", trainer.record(score, &evaluate(&model, &data.test)?));
    trainer.save(&model, std::env::temp_dir().join("interrupted.safetensors"))?;
}"""


def test_a_training_shows_its_progress_and_stops_in_order(kernel):
    kernel.text(TRAINING.replace("EPOCHS", "50"))
    request = kernel.send(LOOP)
    shown = []
    messages = kernel.messages(request)
    for kind, content in messages:
        shown.append((kind, content))
        if sum(kind == "stream" for kind, _ in shown) == 2:
            break
    behind = kernel.send("println!(\"went on\");")
    started = time.monotonic()
    interrupt(kernel)
    shown += list(messages)
    assert time.monotonic() - started < 60
    reply = kernel.reply(request)
    assert reply["status"] == "ok", reply
    # The cells behind it in Run All must not use a partly trained model.
    assert kernel.reply(behind)["status"] == "aborted"
    bars = [content for kind, content in shown if "text/html" in content.get("data", {})]
    curves = [content for kind, content in shown if "image/png" in content.get("data", {})]
    assert len({content["transient"]["display_id"] for content in bars}) == 1
    assert len({content["transient"]["display_id"] for content in curves}) == 1
    assert len({content["data"]["image/png"] for content in curves}) > 1
    assert "interrupted after" in bars[-1]["data"]["text/plain"] or "of 50 epochs" in bars[-1]["data"]["text/plain"]
    # Model, optimizer and history are kept.
    last = int(kernel.text("trainer.history.epochs.len()"))
    assert 2 <= last < 50
    interrupted = kernel.text("trainer.history.epochs.last().is_some_and(|epoch| epoch.stopped_after.is_some())") == "true"
    whole = last - interrupted
    assert kernel.text("trainer.epochs().next()") == f"Some({whole})"
    # The training continues where it stopped, with a new progress bar, up to its last batch.
    kernel.text(f"trainer.history.config.epochs = {whole + 2};")
    _, shown = kernel.run(LOOP)
    again = [content["transient"]["display_id"] for kind, content in shown if "text/html" in content.get("data", {})]
    assert again and set(again).isdisjoint(content["transient"]["display_id"] for content in bars)
    assert next(kind for kind, content in shown if "text/html" in content.get("data", {})) == "display_data"
    assert kernel.text("trainer.history.epochs.iter().filter(|epoch| epoch.stopped_after.is_none()).count()") == str(whole + 2)
    checkpoint = Path(os.environ.get("TMPDIR", "/tmp")) / "interrupted.safetensors"
    with safe_open(checkpoint, "pt") as file:
        assert file.metadata()["steps"] == str(30 * (whole + 2))


@pytest.mark.long
def test_after_a_training_its_cell_is_interrupted_like_any_other(kernel):
    kernel.text("let kept: i32 = 7;\n" + TRAINING.replace("EPOCHS", "1"))
    request = kernel.send(LOOP + '\nprintln!("trained");\nloop { std::thread::sleep(std::time::Duration::from_millis(10)) }')
    messages = kernel.messages(request)
    while "trained" not in next(messages)[1].get("text", ""):
        pass
    interrupt(kernel)
    list(messages)
    reply = kernel.reply(request)
    assert reply["ename"] == "Interrupted", reply
    assert kernel.text("kept") == "7"


@pytest.mark.long
def test_a_thread_that_goes_on_writing_leaves_its_cell_in_peace(kernel):
    reply, _ = kernel.run(
        "use std::time::{Duration, Instant};\n"
        'let line = "x".repeat(10_000);\nlet end = Instant::now() + Duration::from_secs(10);\n'
        'let writer = std::thread::spawn(move || while Instant::now() < end { println!("{line}"); });'
    )
    assert reply["status"] == "ok"
    # Its output takes longer to reach the client than to be written.
    assert "xxx" in output(kernel.run("writer.join().unwrap();")[1], "stdout")


def test_a_long_panic_keeps_its_beginning(kernel):
    reply, _ = kernel.run("assert_eq!(vec![0.5; 100_000], vec![0.25; 100_000], \"thread 'a' differs\");")
    assert reply["ename"] == "panicked" and "thread 'a' differs" in reply["evalue"].splitlines()[0], reply["evalue"][:200]


def test_quit_is_refused_and_the_kernel_stays(kernel):
    assert "menu" in kernel.run(":quit")[0]["evalue"]
    assert kernel.text("1 + 1") == "2"


@pytest.mark.long
def test_a_cell_is_interrupted_before_evcxr_is_there():
    kernel = Kernel()
    try:
        request = kernel.send('println!("went on");')
        # Requests and interrupts have separate sockets, so an interrupt may overtake a request that the kernel hasn't received yet.
        while kernel.client.get_iopub_msg(timeout=LIMIT)["parent_header"].get("msg_id") != request:
            pass
        interrupt(kernel)
        assert kernel.reply(request)["ename"] == "Interrupted"
        assert kernel.text("1 + 1") == "2"
    finally:
        kernel.end()


@pytest.mark.long
def test_a_second_interrupt_ends_a_training(kernel):
    kernel.text(TRAINING.replace("EPOCHS", "50"))
    # It listens for interrupts, but never finishes a step.
    request = kernel.send(
        'for _ in trainer.epochs() {\n    println!("begun");\n    trainer.epoch(&data.train, |_, _| -> Result<(Tensor, Tensor)> { loop { std::thread::sleep(std::time::Duration::from_millis(10)) } })?;\n}'
    )
    messages = kernel.messages(request)
    assert next(messages)[1]["text"] == "begun\n"
    interrupt(kernel)
    time.sleep(3)
    assert kernel.client.shell_channel.msg_ready() is False
    interrupt(kernel)
    list(messages)
    assert kernel.reply(request)["ename"] == "Interrupted"


def test_completion_and_inspection_know_the_crate(kernel):
    kernel.text("use vitlab::Config;\nlet config = Config::default();")
    code = "let ä = 1; config.epo"
    request = kernel.client.complete(code)
    reply = kernel.reply(request)
    assert "epochs" in reply["matches"]
    assert code[reply["cursor_start"] : reply["cursor_end"]] == "epo"
    request = kernel.client.inspect("Config::default", 3)
    reply = kernel.reply(request)
    assert reply["found"] and "Config" in reply["data"]["text/plain"], reply
    request = kernel.client.inspect("nothing_of_that_name", 5)
    assert kernel.reply(request)["found"] is False


@pytest.mark.long
def test_input_is_asked_for(kernel):
    kernel.text(":dep evcxr_input")
    request = kernel.send('let name = evcxr_input::get_string("Name?");\nprintln!("hello {name}");', allow_stdin=True)
    asked = kernel.client.get_stdin_msg(timeout=LIMIT)
    assert asked["content"] == {"prompt": "Name?", "password": False}
    kernel.client.input("you")
    assert [content["text"] for _, content in kernel.messages(request)] == ["hello you\n"]


def test_requests_without_evcxr_are_answered(kernel):
    assert kernel.reply(kernel.client.comm_info()) == {"status": "ok", "comms": {}}
    for code, status in [("1 + 1", "complete"), ("fn f() {", "incomplete"), ("let x = );", "invalid")]:
        request = kernel.client.is_complete(code)
        assert kernel.reply(request)["status"] == status
    kernel.run("40 + 2")
    request = kernel.client.history(hist_access_type="tail", n=1, output=True)
    assert kernel.reply(request)["history"][0][2] == ["40 + 2", "42"]


def test_a_client_that_stops_by_itself_has_the_next_cell_run(kernel):
    """VS Code sends cells in this way: it clears its own queue after an error, and asks the kernel not to abort cells."""
    as_sent = dict(silent=False, store_history=True, allow_stdin=True, stop_on_error=False)
    failing, next_one = kernel.send('panic!("on purpose");', **as_sent), kernel.send("40 + 2", **as_sent)
    shown = [kind for kind, _ in kernel.messages(failing)]
    assert "error" in shown
    reply = kernel.reply(failing)
    assert reply["status"] == "error"
    assert [content["data"]["text/plain"] for _, content in kernel.messages(next_one)] == ["42"]
    after = kernel.reply(next_one)
    assert (after["status"], after["execution_count"]) == ("ok", reply["execution_count"] + 1)


def test_what_is_not_for_this_kernel_is_left_out(kernel):
    """Such messages come when the client of another kernel has chosen one of this kernel's ports."""
    stranger = BlockingKernelClient()
    stranger.load_connection_info(dict(kernel.manager.get_connection_info(), key=b"of another kernel"))
    stranger.start_channels()
    for channel in (stranger.shell_channel, stranger.control_channel, stranger.stdin_channel):
        for kind in ("kernel_info_request", "execute_request", "interrupt_request", "shutdown_request", "input_reply"):
            channel.send(stranger.session.msg(kind, {"code": "std::process::exit(1)", "restart": False}))
        # Frames that aren't a message.
        for frames in ([b"x"], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"not hexadecimal", b"", b"", b"", b""], [b"<IDS|MSG>", b"00", b"{}"]):
            channel.socket.send_multipart(frames)
    ports = [port for name, port in kernel.manager.get_connection_info().items() if name.endswith("_port")]
    for port in ports:
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(b"GET / HTTP/1.1\r\n\r\n")
    # This client asks for a heartbeat and leaves before the answer.
    for _ in range(3):
        asking = stranger.context.socket(zmq.REQ)
        asking.connect(stranger._make_url("hb"))
        asking.send(b"ping")
        time.sleep(0.05)
        asking.close(linger=0)
    with pytest.raises(queue.Empty):
        stranger.get_shell_msg(timeout=1)
    stranger.stop_channels()
    assert kernel.text("6 * 7") == "42"
    assert kernel.reply(kernel.client.comm_info())["status"] == "ok"
    asking = kernel.client.context.socket(zmq.REQ)
    asking.connect(kernel.client._make_url("hb"))
    asking.send(b"ping")
    assert asking.poll(10_000), "the heartbeat has stopped"
    asking.close(linger=0)
    assert kernel.logged().count("a message is ignored, because it can't be read") >= 3 * 5


# All five are bound in the same way.
@pytest.mark.parametrize("name", ["shell", "hb", *(pytest.param(name, marks=pytest.mark.long) for name in ("iopub", "stdin", "control"))])
def test_a_port_that_is_taken_ends_the_kernel_at_once(tmp_path, name):
    file, connection = write_connection_file(str(tmp_path / "connection.json"), ip="127.0.0.1")
    port = connection[name + "_port"]
    command = [word.replace("{connection_file}", file) for word in KernelSpecManager().get_kernel_spec("vitlab").argv]
    with socket.create_server(("127.0.0.1", port)):
        started = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert started.returncode != 0
    assert f"port {port} of the connection file can't be listened on" in started.stderr


@pytest.mark.parametrize("way", ["shutdown", *(pytest.param(way, marks=pytest.mark.long) for way in ("restart", "kill"))])
def test_the_end_leaves_no_process(way):
    kernel = Kernel()
    request = kernel.send('println!("begun");\nloop { std::thread::sleep(std::time::Duration::from_millis(10)) }')
    next(kernel.messages(request))
    before = kernel.processes()
    assert len(before) >= 4
    if way == "restart":
        kernel.manager.restart_kernel()
        kernel.client.wait_for_ready(timeout=LIMIT)
        assert kernel.text("1 + 1") == "2"
    elif way == "kill":
        os.kill(before[0], signal.SIGKILL)
    else:
        kernel.manager.shutdown_kernel()
    deadline = time.monotonic() + 20
    while any(Path("/proc", str(process)).exists() and alive(process) for process in before):
        assert time.monotonic() < deadline, before
        time.sleep(0.1)
    if way != "shutdown":
        kernel.end()


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


CLIENT = """import sys
from jupyter_client import KernelManager
manager = KernelManager(kernel_name="vitlab")
manager.kernel_spec.argv += sys.argv[1:]
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=120)
print(manager.provisioner.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("through", ["", "trap '' TERM\nexec \"$@\"\n"], ids=["as it is", "through a program that ignores SIGTERM"])
def test_a_kernel_ends_when_its_client_is_killed(through, tmp_path):
    script = tmp_path / "through.sh"
    script.write_text(through)
    options = ["--through", str(script)] if through else []
    with subprocess.Popen([sys.executable, "-c", CLIENT, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        kernel = int(client.stdout.readline())
        client.kill()
    deadline = time.monotonic() + 20
    while alive(kernel):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_crate_that_changes_is_built_again(tmp_path):
    """Cells are built without cargo only while nothing else changes."""
    crate = tmp_path / "mine"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text('[package]\nname = "mine"\nversion = "1.0.0"\nedition = "2024"\n')
    source = crate / "src/lib.rs"
    source.write_text('pub fn which() -> &\'static str { "first" }\n')
    kernel = Kernel()
    try:
        kernel.text(f':dep mine = {{ path = "{crate}" }}')
        built = 'println!("{}", mine::which());'
        assert kernel.text(built) == "first\n"
        # A cell that doesn't compile, then one that does.
        reply, _ = kernel.run("let a: u8 = mine::which();")
        assert reply["ename"] == "E0308"
        assert kernel.text(built + " // again") == "first\n"
        source.write_text('pub fn which() -> &\'static str { "second" }\n')
        assert kernel.text(built) == "second\n"
        assert kernel.text(built + " // again") == "second\n"
        # A changed environment.
        kernel.text(':build_env NAMED=third')
        assert kernel.text('println!("{}", env!("NAMED"));') == "third\n"
        kernel.text(':build_env NAMED=fourth')
        assert kernel.text('println!("{}", env!("NAMED"));') == "fourth\n"
    finally:
        kernel.end()


def test_types_of_the_crates_that_vitlab_shows_are_found(kernel):
    """rust-analyzer doesn't see every crate, but it must see those that a notebook can name."""
    kernel.text(
        "use vitlab::ndarray::{Array2, Axis};\n"
        "let ones = Array2::<f32>::ones((2, 3));\n"
        "let sums = ones.sum_axis(Axis(0)).mapv(|sum| sum * 2.0);\n"
        "let (largest, places) = Tensor::from_slice(&[1i64, 3, 2]).max_dim(0, false);\n"
        "let numbers = std::collections::BTreeMap::from([(1, vec![\"a\".to_string()])]);\n"
        "let [first, ..] = vitlab::data::CLASSES;"
    )
    assert kernel.text("sums") == "[4.0, 4.0, 4.0], shape=[3], strides=[1], layout=CFcf (0xf), const ndim=1"
    types = kernel.text(":vars")
    for name in ["sums", "largest", "places", "numbers", "first"]:
        assert name in types


@pytest.mark.parametrize("code", ["for i in 0..2 { println!(\"{i}\") }", "println!(\"0\\n1\")", "let mut i = 0;\nwhile i < 2 { println!(\"{i}\"); i += 1 }\n// done"])
def test_what_has_no_value_may_end_a_cell(kernel, code):
    reply, shown = kernel.run(code)
    assert reply["status"] == "ok"
    assert [kind for kind, _ in shown if kind != "stream"] == []
    assert output(shown, "stdout") == "0\n1\n"


def test_what_cells_start_sees_the_usual_toolchain(kernel):
    assert kernel.text('for name in ["CARGO", "RUSTUP_TOOLCHAIN"] { println!("{:?}", std::env::var(name).ok()); }') == "None\nNone\n"


@pytest.mark.long
def test_the_very_first_request_may_be_for_a_completion():
    kernel = Kernel()
    try:
        code = "let list: Vec<u8> = Vec::new();\nlist.is_em"
        found = kernel.reply(kernel.client.complete(code, len(code)))
        assert "is_empty()" in found["matches"]
        assert kernel.text("1 + 1") == "2"
    finally:
        kernel.end()
