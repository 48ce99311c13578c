"""What Jupyter's clients ask of a kernel, beside cells."""

import time
from pathlib import Path

from .case import Asks, Case, Displays, Expectation, Fails, Group, Prints, Run, Shows


class Reply(Expectation):
    """The reply to a cell, with options of the request."""

    def __init__(self, code, wanted, shown=None, **options):
        self.code, self.wanted, self.shown, self.options = code, wanted, shown, options

    def check(self, run):
        kernel = run.kernel
        request = kernel.send(self.code, **self.options)
        shown = [kind for kind, _ in kernel.messages(request, 30)]
        reply = kernel.reply(request, 30)
        seen = {name: reply.get(name) for name in self.wanted}
        if seen != self.wanted:
            return f"the reply must have {self.wanted}, not {reply}"
        return "" if self.shown is None or shown == self.shown else f"the messages must be {self.shown}, not {shown}"

    def __str__(self):
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        return f"`{self.code}`{options}: {self.wanted}" + (f", messages {self.shown}" if self.shown is not None else "")


class Queue(Expectation):
    """The states of the replies to cells that are all sent at once, as Run All does."""

    def __init__(self, codes, wanted, **options):
        self.codes, self.wanted, self.options = codes, wanted, options

    def check(self, run):
        requests = [run.kernel.send(code, **self.options) for code in self.codes]
        states = []
        for request in requests:
            states.append(run.kernel.reply(request, 30).get("status"))
        for request in requests:
            list(run.kernel.messages(request, 30))
        return "" if states == self.wanted else f"the states must be {self.wanted}, not {states}"

    def __str__(self):
        return f"{len(self.codes)} cells at once: " + ", ".join(self.wanted)


class States(Expectation):
    """All messages on iopub during a cell, with the states of the kernel."""

    def __init__(self, code, wanted):
        self.code, self.wanted = code, wanted

    def check(self, run):
        request = run.kernel.send(self.code)
        seen = []
        while not seen or seen[-1] != "idle":
            message = run.kernel.client.get_iopub_msg(timeout=30)
            if message["parent_header"].get("msg_id") == request:
                seen.append(message["content"].get("execution_state", message["msg_type"]))
        run.kernel.reply(request, 30)
        return "" if seen == self.wanted else f"the messages must be {self.wanted}, not {seen}"

    def __str__(self):
        return " → ".join(self.wanted)


class Counts(Expectation):
    """How far the execution count goes from the first of some cells to the last, each with options of its request."""

    def __init__(self, cells, steps):
        self.cells, self.steps = cells, steps

    def check(self, run):
        counts = []
        for code, options in self.cells:
            request = run.kernel.send(code, **options)
            list(run.kernel.messages(request, 30))
            counts.append(run.kernel.reply(request, 30)["execution_count"])
        steps = [count - counts[0] for count in counts]
        return "" if steps == self.steps else f"the counts must go {self.steps}, not {steps}"

    def __str__(self):
        return f"counts {self.steps}"


class Live(Expectation):
    """The first output arrives while the cell still runs."""

    def __init__(self, code, first):
        self.code, self.first = code, first

    def check(self, run):
        request = run.kernel.send(self.code)
        messages = run.kernel.messages(request, 30)
        _, content = next(messages)
        arrived = time.monotonic()
        list(messages)
        run.kernel.reply(request, 30)
        early = time.monotonic() - arrived
        return "" if content.get("text") == self.first and early > 0.5 else f"{content} came {early:.1f} s before the end"

    def __str__(self):
        return f"`{self.first}` before the end"


class Typed(Expectation):
    """A cell that asks for input, and what it prints then."""

    def __init__(self, code, answer, printed):
        self.code, self.answer, self.printed = code, answer, printed

    def check(self, run):
        request = run.kernel.send(self.code, allow_stdin=True)
        run.kernel.client.get_stdin_msg(timeout=20)
        run.kernel.client.input(self.answer)
        texts = "".join(content.get("text", "") for _, content in run.kernel.messages(request, 30))
        run.kernel.reply(request, 30)
        return "" if texts == self.printed else f"it must print {self.printed!r}, not {texts!r}"

    def __str__(self):
        return f"`{self.printed}`"


class Interrupted(Expectation):
    """A cell that is interrupted after its first output."""

    def __init__(self, code, name, variables=None):
        self.code, self.name, self.variables = code, name, variables

    def check(self, run):
        kernel = run.kernel
        request = kernel.send(self.code)
        messages = kernel.messages(request, 30)
        next(messages)
        kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", {}))
        kernel.client.control_channel.get_msg(timeout=10)
        list(messages)
        reply = kernel.reply(request, 30)
        return "" if reply.get("ename") == self.name else f"it must fail with {self.name}, not {reply}"

    def __str__(self):
        return self.name


class All(Expectation):
    """A property of all errors' tracebacks."""

    def __init__(self, what, holds):
        self.what, self.holds = what, holds

    def check(self, run):
        return "" if run.errors() and self.holds(run) else f"it must hold: {self.what}"

    def __str__(self):
        return self.what


BLOCK = 'println!("EVCXR_BEGIN_CONTENT {mime}\\n{text}\\nEVCXR_END_CONTENT");'


def complete(code):
    return lambda client: client.is_complete(code)


def is_complete(name, code, status, **more):
    return Case(name, [], Asks(f"is_complete of `{code}`", complete(code), {"status": status, **more}), differs="" if status == "complete" else "evcxr_jupyter calls everything complete")


JUPYTER = Group("Jupyter's messages", [
    Case("kernel_info names the language", [], Asks("kernel_info", lambda client: client.kernel_info(), {"status": "ok", "debugger": False}), differs="evcxr_jupyter leaves status and debugger out"),
    Case("comm_info is answered", [], Asks("comm_info", lambda client: client.comm_info(), {"status": "ok", "comms": {}}), differs="evcxr_jupyter doesn't answer"),
    Case("history is answered", ["40 + 2"], Asks("history", lambda client: client.history(hist_access_type="tail", n=1), {"status": "ok"}), differs="evcxr_jupyter doesn't answer"),
    is_complete("a whole expression is complete", "1 + 1", "complete"),
    is_complete("a whole function is complete", "fn f() { }", "complete"),
    is_complete("a command is complete", ":dep a = { path = \"b\" }", "complete"),
    is_complete("an open brace is incomplete", "fn f() {", "incomplete"),
    is_complete("an open parenthesis is incomplete", "f(1,", "incomplete"),
    is_complete("an open text is incomplete", 'let a = "b', "incomplete"),
    is_complete("an open comment is incomplete", "/* a", "incomplete"),
    is_complete("a let without a value is incomplete", "let a =", "incomplete"),
    is_complete("an operator at the end is incomplete", "1 +", "incomplete"),
    is_complete("a bracket too many is invalid", "f(1));", "invalid"),
    is_complete("a brace in a text counts for nothing", 'println!("{{");', "complete"),
    is_complete("the next line is indented", "fn f() {\n    if a {", "incomplete", indent="        "),
    Case("messages of a cell with a result", [], States("6 * 7", ["busy", "execute_input", "execute_result", "idle"])),
    Case("messages of a cell with output", [], States('println!("one");', ["busy", "execute_input", "stream", "idle"])),
    Case("messages of a cell without output", [], States("let silent = 1;", ["busy", "execute_input", "idle"])),
    Case("messages of a cell that fails", [], States("no_name", ["busy", "execute_input", "error", "idle"])),
    Case("messages of a cell that panics", [], States('panic!("p");', ["busy", "execute_input", "error", "idle"]), differs="evcxr_jupyter writes it on standard error and goes on"),
    Case("a result is an execute_result", [], Reply("5", {"status": "ok"}, ["execute_result"])),
    Case("a reply has its fields", [], Reply("5;", {"status": "ok", "payload": [], "user_expressions": {}}), differs="evcxr_jupyter leaves them out"),
    Case("a reply to a failed cell has its fields", [], Reply("let n: u8 = 'n';", {"status": "error", "ename": "E0308", "evalue": "mismatched types"}), differs="evcxr_jupyter leaves them out"),
    Case("an empty cell", [], Reply("", {"status": "ok"}, [])),
    Case("a silent cell shows nothing", [], Reply("7", {"status": "ok"}, [], silent=True), differs="evcxr_jupyter shows it"),
    Case("counts go up by one", [], Counts([("1", {}), ("2", {}), ("3;", {})], [0, 1, 2])),
    Case("a failed cell counts", [], Counts([("1", {}), ("nothing_here", {}), ("2", {})], [0, 1, 2])),
    Case("a silent cell doesn't count", [], Counts([("1", {}), ("2", {"silent": True}), ("3", {})], [0, 0, 1]), differs="evcxr_jupyter counts it"),
    Case("a cell outside the history doesn't count", [], Counts([("1", {}), ("2", {"store_history": False}), ("3", {})], [0, 0, 1]), differs="evcxr_jupyter counts it"),
    Case("Run All runs all", [], Queue(["let a = 1;", "let b = a + 1;", "assert_eq!(b, 2);"], ["ok", "ok", "ok"])),
    Case("Run All stops at a compile error", [], Queue(["let a = 1;", "let b: u8 = \"b\";", "let c = 3;"], ["ok", "error", "aborted"]), differs="evcxr_jupyter goes on"),
    Case("Run All stops at a panic", [], Queue(["let a = 1;", "panic!();", "let c = 3;", "let d = 4;"], ["ok", "error", "aborted", "aborted"]), differs="evcxr_jupyter goes on"),
    Case("Run All stops at a `?`", [], Queue(['std::fs::read("/no/file")?;', "let c = 3;"], ["error", "aborted"]), differs="evcxr_jupyter goes on"),
    Case("Run All stops at a crash", [], Queue(["std::process::abort();", "let c = 3;"], ["error", "aborted"]), differs="evcxr_jupyter goes on"),
    Case("Run All goes on where the client asks for it", [], Queue(["panic!();", "let c = 3;"], ["error", "ok"], stop_on_error=False), differs="a panic is an error here"),
    Case("a cell after a stopped Run All runs", [], Queue(["assert!(false);", "1"], ["error", "aborted"]) & Reply("8", {"status": "ok"}, ["execute_result"]), differs="evcxr_jupyter doesn't stop"),
    Case("output is live", [], Live('println!("now"); std::thread::sleep(std::time::Duration::from_millis(900));', "now\n")),
    Case("output without a line's end is live once it is flushed", [], Live('use std::io::Write; print!("half"); std::io::stdout().flush()?; std::thread::sleep(std::time::Duration::from_millis(900));', "half"), differs="evcxr_jupyter waits for the line's end"),
    Case("output is in order", ['for n in 0..10 { println!("{n}"); }'], Prints("".join(f"{n}\n" for n in range(10)))),
    Case("an interrupt ends a loop", ["let lost = 1;"], Interrupted('println!("in");\nloop { std::thread::sleep(std::time::Duration::from_millis(5)) }', "Interrupted"), differs="evcxr_jupyter names it Error"),
    Case("an interrupt keeps items", ["fn stays() -> u8 { 5 }", ('println!("in");', Interrupted('println!("in");\nloop {}', "Interrupted")), "stays()"], Shows("5"), differs="evcxr_jupyter names it Error"),
    Case("the name of a compile error is its code", ["let n: bool = 1;"], Reply("let n: bool = 1;", {"ename": "E0308"}), differs="evcxr_jupyter names it Error"),
    Case("a traceback has no paths of the machine", [("vec![1].no();", Fails("E0599"))], All("no folder", lambda run: str(Path.home()) not in run.told() and ".cargo" not in run.told())),
    Case("a panic's traceback names the line", [("let a = 1;\nlet b = 2;\nassert_eq!(a, b);", Fails("panicked", "at line 3 of the cell"))], None, differs="evcxr_jupyter names a line of its generated file"),
    Case("a panic within a function names the line", [("fn inner(n: u8) {\n    if n > 1 {\n        panic!(\"too many: {n}\");\n    }\n}\ninner(2);", Fails("panicked", "at line 3 of the cell"))], None, differs="evcxr_jupyter names a line of its generated file"),
    Case("a panic in a function of an earlier cell", ["fn earlier() {\n    panic!(\"from before\");\n}", ("\n\nearlier();", Fails("panicked", 'panic!("from before");'))], None, differs="evcxr_jupyter names a line of its generated file"),
    Case("a traceback is coloured", [("let n: u8 = \"\";", Fails("E0308"))], All("ANSI colours", lambda run: "\x1b[" in "".join(run.errors()[0]["traceback"]))),
    Case("one error message for several compile errors", [], Reply("let a: u8 = \"\";\nlet b: u8 = \"\";", {"status": "error"}, ["error"]), differs="evcxr_jupyter sends one for each"),
    Case("reading standard input ends at once", [], Reply('let mut line = String::new();\nstd::io::stdin().read_line(&mut line)?', {"status": "ok"}, ["stream", "execute_result"], allow_stdin=False), limit=10),
    Case("Markdown is shown", [BLOCK.format(mime="text/markdown", text="# Title")], Displays("text/markdown", "# Title")),
    Case("JavaScript is shown", [BLOCK.format(mime="application/javascript", text="1;")], Displays("application/javascript", "1;")),
    Case("two types of one content", [BLOCK.format(mime="text/html", text="<i>x</i>") + BLOCK.format(mime="text/plain", text="x")], Displays("text/html", "<i>x</i>") & Displays("text/plain", "x")),
    Case("an image's data has no line's end", [BLOCK.format(mime="image/png", text="AAAA")], Displays("image/png", "AAAA")),
    Case("a text of several lines in a block", [BLOCK.format(mime="text/html", text="<p>\\n</p>")], Displays("text/html", "<p>\n</p>")),
    Case("the working folder is the notebook's", ["std::env::current_dir()?.ends_with(\"notebooks\")"], Shows("true")),
    Case("environment variables of the kernel are seen", ['std::env::var("VITLAB_DATA")'], Shows('Ok("synthetic")')),
    Case("the arguments of the program are readable", ["std::env::args().count() > 0"], Shows("true")),
    Case("a cell with Windows line ends", ["let a = 1;\r\nlet b = 2;\r\na + b"], Shows("3")),
    Case("a compile error in a cell with Windows line ends", ["let a = 1;\r\nlet b: u8 = \"\";\r\n"], Fails("E0308", "mismatched types", (2, '""'))),
    Case("a cell that begins with blanks", ["   \n\n  5 + 5"], Shows("10")),
    Case("a line magic is named", ["%matplotlib inline"], Fails("SyntaxError", "%")),
    Case("a cell magic is named", ["%%time\n1 + 1"], Fails("SyntaxError", "%")),
    Case("a line that begins with ! is for the shell", ["!echo from the shell"], Shows("from the shell\n")),
], long=True)

# The crate comes from the registry.
INPUT = Group("Input", [
    Case("input is asked for", [":dep evcxr_input"], Typed('let name = evcxr_input::get_string("Name?");\nprintln!("hello {name}");', "Ada", "hello Ada\n")),
    Case("input without a client that may ask is empty", [":dep evcxr_input"], Reply('println!("[{}]", evcxr_input::get_string("Name?"));', {"status": "ok"}, ["stream", "stream"], allow_stdin=False), differs="evcxr_jupyter says nothing on standard error"),
], long=True)
