"""Tests what makes a kernel comfortable: user expressions, answers while a cell runs, and the fine print of the protocol."""

import queue
import re
import subprocess
import time

import pytest
from jupyter_client.jsonutil import parse_date

from test_kernel import LIMIT, Kernel, interrupt

RUN = 'println!("begun");\nloop { std::thread::sleep(std::time::Duration::from_millis(10)) }'


VARIABLES = 'let numbers = vec![1, 2];\nlet name = String::from("ada");'
ITEMS = "/// Adds one.\nfn next(n: i32) -> i32 { n + 1 }\nnext(numbers.len() as i32);"


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    kernel.text(VARIABLES)
    kernel.text(ITEMS)
    yield kernel
    kernel.end()


@pytest.fixture(scope="module")
def running():
    """A kernel whose cell runs until the last test has ended."""
    kernel = Kernel()
    kernel.text(VARIABLES)
    kernel.text(ITEMS)
    request = kernel.send("let while_running = 1;\n" + RUN)
    messages = kernel.messages(request)
    assert next(messages)[1]["text"] == "begun\n"
    yield kernel
    interrupt(kernel)
    list(messages)
    reply = kernel.reply(request)
    kernel.end()
    assert reply["ename"] == "Interrupted"


def timed(kernel, request):
    """Returns the reply to a request and the seconds until it came."""
    started = time.monotonic()
    reply = kernel.reply(request, limit=20)
    return reply, time.monotonic() - started


def ask(kernel, kind, content, channel="control"):
    """Sends a request, and returns the reply's message."""
    channel = getattr(kernel.client, channel + "_channel")
    message = kernel.client.session.msg(kind, content)
    channel.send(message)
    while True:
        reply = channel.get_msg(timeout=20)
        if reply["parent_header"]["msg_id"] == message["header"]["msg_id"]:
            return reply


def statuses(kernel, request):
    """Returns the states that the kernel publishes for a request, until it is idle."""
    found = []
    while found[-1:] != ["idle"]:
        message = kernel.client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "status":
            found.append(message["content"]["execution_state"])
    return found


def test_user_expressions_are_evaluated_after_the_cell(kernel):
    expressions = {
        "length": "numbers.len()",
        "whole": " name ",
        "nothing": "()",
        "block": "{ let twice = numbers.len() * 2; twice }",
        "statement": "let other = 1",
        "command": ":vars",
        "unknown": "no_such_variable",
        "panic": 'panic!("on purpose")',
        "printing": '{ println!("printed"); 3 }',
        "after": "next(added)",
    }
    reply, shown = kernel.run("let added = 5;\nadded * 2", user_expressions=expressions)
    assert reply["status"] == "ok", reply
    outcomes = reply["user_expressions"]
    assert set(outcomes) == set(expressions)
    texts = {name: outcome["data"]["text/plain"] for name, outcome in outcomes.items() if outcome["status"] == "ok"}
    assert texts == {"length": "2", "whole": '"ada"', "nothing": "()", "block": "4", "printing": "3", "after": "6"}
    assert all(outcome["metadata"] == {} for outcome in outcomes.values() if outcome["status"] == "ok")
    errors = {name: outcome for name, outcome in outcomes.items() if outcome["status"] == "error"}
    assert errors["unknown"]["ename"] == "E0425" and "no_such_variable" in "\n".join(errors["unknown"]["traceback"])
    assert (errors["panic"]["ename"], errors["panic"]["evalue"]) == ("panicked", "on purpose")
    assert errors["statement"]["evalue"] == "`let other = 1` isn't an expression, so it has no value"
    assert set(errors) == {"statement", "command", "unknown", "panic"}
    # Only the cell's own result is shown and remembered.
    assert [content["data"]["text/plain"] for kind, content in shown if kind == "execute_result"] == ["10"]
    assert [kind for kind, _ in shown if kind not in ("execute_result", "stream")] == []
    history = kernel.reply(kernel.client.history(hist_access_type="tail", n=1, output=True))["history"]
    assert history[0][2] == ["let added = 5;\nadded * 2", "10"]
    assert kernel.run("name")[0]["status"] == "ok"


def test_user_expressions_of_a_silent_and_of_a_failing_cell(kernel):
    before = kernel.run("1")[0]["execution_count"]
    reply, shown = kernel.run("", silent=True, user_expressions={"sum": "1 + 2"})
    assert reply["user_expressions"]["sum"]["data"] == {"text/plain": "3"}
    assert shown == [] and reply["execution_count"] == before
    reply, _ = kernel.run('panic!("on purpose");', user_expressions={"sum": "1 + 2"})
    assert reply["status"] == "error" and reply["user_expressions"] == {}
    assert kernel.run("1")[0]["execution_count"] == before + 2


def test_an_interrupt_ends_a_user_expression(kernel):
    request = kernel.send("1", user_expressions={"1 long": '{ println!("begun"); loop { std::thread::yield_now() } }', "2 later": "1"})
    messages = kernel.messages(request)
    while "begun" not in next(messages)[1].get("text", ""):
        pass
    interrupt(kernel)
    list(messages)
    outcomes = kernel.reply(request)["user_expressions"]
    assert [outcomes[name]["ename"] for name in ("1 long", "2 later")] == ["Interrupted", "Interrupted"]
    assert "kept" in outcomes["1 long"]["evalue"] and "before this expression" in outcomes["2 later"]["evalue"]
    kernel.text(VARIABLES)


def test_the_kernel_tells_the_compilers_version(kernel):
    info = kernel.reply(kernel.client.kernel_info())
    version = info["language_info"]["version"]
    compiled = kernel.text('println!("{}", String::from_utf8(std::process::Command::new("rustc").arg("--version").output()?.stdout)?);')
    assert re.fullmatch(r"\d+\.\d+\.\d+(-\S+)?", version) and version in compiled
    assert version in info["banner"]
    assert info["protocol_version"] == "5.3" and info["supported_features"] == [] and info["debugger"] is False
    links = {link["text"]: link["url"] for link in info["help_links"]}
    assert all(url.startswith("https://") for url in links.values())
    assert info == ask(kernel, "kernel_info_request", {})["content"]


def test_requests_are_answered_while_a_cell_runs(running):
    client = running.client
    requests = {
        "kernel_info": client.kernel_info(),
        "is_complete": client.is_complete("fn f() {"),
        "history": client.history(hist_access_type="tail", n=1),
        "comm_info": client.comm_info(),
        "complete": client.complete("num"),
    }
    replies = {name: timed(running, request) for name, request in requests.items()}
    assert all(seconds < 3 for _, seconds in replies.values()), replies
    assert replies["is_complete"][0]["status"] == "incomplete"
    assert replies["comm_info"][0]["comms"] == {}
    assert replies["complete"][0]["matches"] == ["numbers"]
    assert not client.shell_channel.msg_ready()


@pytest.mark.parametrize(
    "code, match",
    [("let a = nex", "next"), ("ne", "next"), ("numbers.le", "len"), ("String::fr", "from"), ("let ä = \"é\"; nu", "numbers"), ("while_r", "while_running"), ("loo", "loop")],
)
def test_names_are_completed_while_a_cell_runs(running, code, match):
    reply, seconds = timed(running, running.client.complete(code))
    assert match in reply["matches"] and seconds < 3
    assert code[reply["cursor_start"] : reply["cursor_end"]] == re.search(r"\w+$", code)[0]
    assert len(reply["metadata"]["_jupyter_types_experimental"]) == len(reply["matches"])


def test_names_are_described_while_a_cell_runs(running):
    def described(code, cursor):
        reply, seconds = timed(running, running.client.inspect(code, cursor))
        assert reply["found"] and seconds < 3, reply
        return reply["data"]["text/plain"]

    assert described("numbers.len()", 3) == "numbers: Vec<i32>"
    assert described("next(1)", 4) == "/// Adds one.\nfn next(n: i32) -> i32"
    assert "when the running cell has ended" in described("Vec::<u8>::new()", 2)


def test_completion_behind_a_short_cell_knows_types(kernel):
    """Answers from names alone don't contain this method."""
    # Waits until rust-analyzer has read the standard library. From then on, both requests take milliseconds.
    kernel.reply(kernel.client.complete("numbers.is_em"))
    found = []
    for _ in range(10):
        _, asked = kernel.send(":vars"), kernel.client.complete("numbers.is_em")
        found += kernel.reply(asked)["matches"]
    assert any("is_empty" in match for match in found)


def test_the_kernel_stays_busy_after_an_answer_during_a_cell(running):
    def state():
        last = None
        while True:
            try:
                message = running.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                return last
            if message["msg_type"] == "status":
                last = message["content"]["execution_state"]

    assert statuses(running, running.client.comm_info()) == ["busy", "idle"]
    assert state() == "busy"
    running.client.complete("num")
    assert state() == "busy"
    ask(running, "kernel_info_request", {})
    assert state() == "busy"


def test_cells_that_are_queued_run_after_answers_in_between(kernel):
    slow = "std::thread::sleep(std::time::Duration::from_millis(700));\nprintln!(\"{}\", 1);"
    first, asked, second = kernel.send(slow), kernel.client.is_complete("1"), kernel.send('println!("second");')
    order = []
    while len(order) < 3:
        request = kernel.client.get_shell_msg(timeout=LIMIT)["parent_header"]["msg_id"]
        order += [request] if request in (first, asked, second) else []
    assert order == [asked, first, second]
    # A failing cell aborts those behind it, and answers what came between them.
    failing, asked, behind = kernel.send('panic!("on purpose");'), kernel.client.is_complete("1"), kernel.send("2")
    replies = {}
    while not {failing, asked, behind} <= set(replies):
        message = kernel.client.get_shell_msg(timeout=LIMIT)
        replies[message["parent_header"]["msg_id"]] = message["content"]["status"]
    assert [replies[request] for request in (failing, asked, behind)] == ["error", "complete", "aborted"]
    assert statuses(kernel, behind) == ["busy", "idle"]


def test_every_request_has_a_busy_and_an_idle_status(kernel):
    client = kernel.client
    for send in [
        client.kernel_info,
        lambda: client.complete("numbers."),
        lambda: client.inspect("numbers", 2),
        lambda: client.is_complete("1"),
        client.history,
        client.comm_info,
        lambda: client.execute("", silent=True),
        lambda: client.execute("1"),
    ]:
        request = send()
        assert statuses(kernel, request) == ["busy", "idle"]
        kernel.reply(request)
    for kind in ("kernel_info_request", "interrupt_request", "no_such_request"):
        reply = ask(kernel, kind, {})
        assert statuses(kernel, reply["parent_header"]["msg_id"]) == ["busy", "idle"]


def test_unknown_requests_get_a_reply_that_says_so(kernel):
    for channel in ("shell", "control"):
        reply = ask(kernel, "no_such_request", {}, channel)
        assert reply["msg_type"] == "no_such_reply"
        assert reply["content"]["status"] == "error" and "no_such_request" in reply["content"]["evalue"]
    assert "no subshells" in ask(kernel, "create_subshell_request", {})["content"]["evalue"]
    debug = ask(kernel, "debug_request", {"type": "request", "seq": 4, "command": "initialize", "arguments": {}})["content"]
    assert (debug["type"], debug["request_seq"], debug["command"], debug["success"]) == ("response", 4, "initialize", False)
    assert ":vars" in debug["message"]
    ports = ask(kernel, "connect_request", {}, "shell")["content"]
    info = kernel.manager.get_connection_info()
    assert all(ports[name] == info[name] for name in info if name.endswith("_port"))


def test_a_comm_is_closed_even_while_a_cell_runs(running):
    """ipywidgets opens a channel when it finds a kernel, and takes its end for "no widgets"."""
    for kind, answer in [("comm_open", "comm_close"), ("comm_msg", None), ("comm_close", None)]:
        message = running.client.session.msg(kind, {"comm_id": "one", "target_name": "jupyter.widget.control", "data": {}})
        running.client.shell_channel.send(message)
        shown = [content for found, content in running.messages(message["header"]["msg_id"], limit=5) if found == answer]
        assert [content["comm_id"] for content in shown] == (["one"] if answer else [])


def test_replies_say_when_their_cell_began(kernel):
    request = kernel.send("std::thread::sleep(std::time::Duration::from_millis(300));\n1")
    while (message := kernel.client.get_shell_msg(timeout=LIMIT))["parent_header"]["msg_id"] != request:
        pass
    # The session has read the date of the header.
    seconds = (message["header"]["date"] - parse_date(message["metadata"]["started"])).total_seconds()
    assert 0.3 < seconds < LIMIT, message and message["metadata"]["status"] == "ok"


def test_history_knows_sessions_outputs_and_repetitions(kernel):
    for code in ("10 + 1", "10 + 2", "10 + 1", "let unseen = 5;"):
        kernel.text(code)
    kernel.run("10 + 3", store_history=False)
    kernel.run("10 + 4", silent=True)

    def history(**options):
        return kernel.reply(kernel.client.history(**options))["history"]

    last = history(hist_access_type="tail", n=1)[0]
    assert last[0] == 1 and last[2] == "let unseen = 5;"
    found = history(hist_access_type="search", pattern="10 + *", output=True)
    assert [entry[2] for entry in found] == [["10 + 1", "11"], ["10 + 2", "12"], ["10 + 1", "11"]]
    found = history(hist_access_type="search", pattern="10 + *", unique=True)
    assert [entry[2] for entry in found] == ["10 + 2", "10 + 1"]
    assert history(hist_access_type="search", pattern="10 + *", n=1)[0][1] == last[1] - 1
    for session, count in ((0, 2), (1, 2), (-1, 0), (7, 0)):
        assert len(history(hist_access_type="range", session=session, start=last[1] - 1, stop=last[1] + 1)) == count
    assert history(hist_access_type="tail", n=1, output=True)[0][2] == ["let unseen = 5;", None]


@pytest.mark.parametrize(
    "code, status",
    [('  :dep x = "1"', "complete"), ('\t:vars', "invalid"), ('  :dep x = "1"\n  :vars\nlet y = (', "incomplete"), (" !ls (", "incomplete"), ("!ls (", "complete"), ("  1 +", "incomplete")],
)
def test_is_complete_takes_commands_as_evcxr_does(kernel, code, status):
    assert kernel.reply(kernel.client.is_complete(code))["status"] == status


@pytest.mark.long
def test_a_shutdown_and_an_interrupt_during_a_completion():
    kernel = Kernel(ready=False)
    try:
        # The first completion waits until evcxr has started and rust-analyzer has read the standard library.
        asked = kernel.client.complete("vec![1].is_em")
        ask(kernel, "kernel_info_request", {})
        interrupt(kernel)
        assert any("is_empty" in match for match in kernel.reply(asked)["matches"])
        kernel.client.complete("vec![2].is_em")
        started = time.monotonic()
        assert ask(kernel, "shutdown_request", {"restart": False})["content"]["status"] == "ok"
        kernel.manager.provisioner.process.wait(timeout=10)
        assert time.monotonic() - started < 5
    except subprocess.TimeoutExpired:
        pytest.fail("the kernel hasn't ended")
    finally:
        kernel.end()
