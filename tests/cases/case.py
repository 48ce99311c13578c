"""What a case is: cells, and the expectation that their outputs must meet."""

import queue
import re
import time
import unicodedata
from dataclasses import dataclass, field

from test_kernel import without_progress


@dataclass(frozen=True)
class Case:
    """Cells that run one after the other, and what the last one must show.

    A cell is its code, which must run, or a pair of its code and an expectation of its own. `FOLDER` in a cell stands
    for a folder with the crates and data of `cases/folder.py`.
    """

    name: str
    cells: list
    expect: object
    # Cells that run afterwards, also after a fault: they set options back.
    after: tuple = ()
    # Why this kernel shows something else than evcxr_jupyter.
    differs: str = ""
    # Why the case fails today.
    pending: str = ""
    # Seconds without any message after which a cell counts as hanging.
    limit: float = 120


@dataclass(frozen=True)
class Group:
    """Cases about one topic."""

    title: str
    cases: list
    # Runs before the first case.
    setup: str = ""
    # Whether all variables and items are cleared before each case.
    clear: bool = True
    # Whether the tests run it with `--long` alone: what these cases show is mostly evcxr's work, or has tests of its own.
    long: bool = False


@dataclass
class Run:
    """The reply to a cell and its outputs."""

    reply: dict
    shown: list
    kernel: object
    # Whether the cell ran on an evcxr_jupyter without changes. Only errors differ in form there: it gives them no name,
    # and writes panics and the errors of `?` on standard error.
    plain: bool = False

    def output(self, stream):
        return "".join(content["text"] for kind, content in self.shown if kind == "stream" and content["name"] == stream)

    def errors(self):
        return [content for kind, content in self.shown if kind == "error"]

    def bundles(self):
        return [content["data"] for _, content in self.shown if "data" in content]

    def told(self):
        """Returns everything that the errors say, without colours."""
        parts = [part for error in self.errors() for part in [error["ename"], error["evalue"], *error["traceback"]]]
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(parts))

    def summary(self):
        """Returns what was seen, for a failed test."""
        parts = [self.reply.get("status", "no reply")]
        for kind, content in self.shown:
            if kind == "stream":
                parts.append(f"{content['name']}: {content['text']!r}")
            elif kind == "error":
                parts.append(f"{content['ename']}: {content['evalue']}")
            else:
                parts.append(f"{kind}: {content.get('data', content)}")
        parts += [f"marked: {marks(self.told())}"] if self.errors() else []
        return "; ".join(parts)[:1500]


def run_cell(kernel, code, plain=False, limit=120):
    """Runs a cell and waits for all its outputs. Raises `queue.Empty` when nothing happens for `limit` seconds."""
    request = kernel.send(code, stop_on_error=False)
    shown = without_progress(list(kernel.messages(request, limit)))
    reply = kernel.reply(request, limit)
    # evcxr_jupyter passes output on from a thread of its own, also after the cell's end.
    deadline = time.monotonic() + 0.2
    while plain and time.monotonic() < deadline:
        try:
            message = kernel.client.get_iopub_msg(timeout=0.05)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") == request and message["msg_type"] not in ("status", "execute_input"):
            shown.append((message["msg_type"], message["content"]))
    return Run(reply, shown, kernel, plain)


def marks(told):
    """Returns the places that the reports of compile errors mark: numbers of lines, and the marked pieces of their text."""
    found = []
    lines = told.splitlines()
    for place, line in enumerate(lines):
        source = re.match(r"(\s*(\d+) │ )(.*)", line)
        if source is None:
            continue
        # Wide letters take two columns.
        columns = "".join(letter * (2 if unicodedata.east_asian_width(letter) in "WF" else 1) for letter in source[3])
        below = lines[place + 1] if place + 1 < len(lines) else ""
        for mark in re.finditer(r"[─┬│]+", below[len(source[1]) :]):
            found.append((int(source[2]), columns[mark.start() : mark.end()]))
    return found


def is_marked(at, told):
    """Returns whether a line and a text are marked. A mark may end with that of an insertion behind it."""
    line, text = at
    return any(number == line and mark.startswith(text) and len(mark) <= len(text) + 1 for number, mark in marks(told))


class Expectation:
    def __and__(self, other):
        return Both(self, other)


@dataclass(frozen=True)
class Both(Expectation):
    first: Expectation
    second: Expectation

    def check(self, run):
        return self.first.check(run) or self.second.check(run)

    def __str__(self):
        return f"{self.first}; {self.second}"


@dataclass(frozen=True)
class Runs(Expectation):
    """The cell runs and shows nothing."""

    def check(self, run):
        return "" if run.reply["status"] == "ok" and not run.shown else "it must run and show nothing"

    def __str__(self):
        return "runs"


@dataclass(frozen=True)
class Shows(Expectation):
    """The cell's result, as plain text. With `part`, a part of it."""

    text: str
    part: bool = False

    def check(self, run):
        results = [bundle.get("text/plain", "") for bundle in run.bundles()]
        right = results and run.reply["status"] == "ok" and (self.text in results[-1] if self.part else self.text == results[-1])
        return "" if right else f"its result must be {self.text!r}"

    def __str__(self):
        return f"`{self.text}`"


@dataclass(frozen=True)
class Prints(Expectation):
    """The text on standard output, or a part of the text on standard error."""

    text: str
    stream: str = "stdout"
    # Whether the cell may fail afterwards.
    failing: bool = False

    def check(self, run):
        written = run.output(self.stream)
        right = written == self.text if self.stream == "stdout" else self.text in written
        return "" if right and (self.failing or run.reply["status"] == "ok") else f"it must write {self.text!r} on {self.stream}"

    def __str__(self):
        return f"{self.stream} `{self.text}`"


@dataclass(frozen=True)
class Displays(Expectation):
    """Content of a MIME type, with a part of its text."""

    mime: str
    part: str = ""

    def check(self, run):
        contents = [str(bundle[self.mime]) for bundle in run.bundles() if self.mime in bundle]
        right = run.reply["status"] == "ok" and any(self.part in content for content in contents)
        return "" if right else f"it must show {self.mime} with {self.part!r}"

    def __str__(self):
        return f"{self.mime} with `{self.part}`"


@dataclass(frozen=True)
class Fails(Expectation):
    """A failure with the name of the error, a part of what it says, and a place that it marks: line and text."""

    name: str
    part: str = ""
    at: tuple = ()

    def check(self, run):
        told = run.told()
        name = run.reply.get("ename") == self.name or (run.plain and (self.name == "Error" or self.name in told))
        if not (run.reply["status"] == "error" and run.errors() and name):
            return f"it must fail with {self.name}"
        if self.part not in told:
            return f"its error must say {self.part!r}"
        return "" if not self.at or is_marked(self.at, told) else f"it must mark {self.at}"

    def __str__(self):
        place = f" at line {self.at[0]}, `{self.at[1]}`" if self.at else ""
        return f"{self.name} `{self.part}`{place}"


@dataclass(frozen=True)
class Stops(Expectation):
    """A panic (`panicked`) or the error of a `?` (`Error`)."""

    part: str
    name: str = "panicked"

    def check(self, run):
        if run.plain:
            return "" if self.part in run.output("stderr") else f"it must say {self.part!r}"
        right = (run.reply["status"], run.reply.get("ename")) == ("error", self.name) and self.part in run.told()
        return "" if right else f"it must fail with {self.name} and {self.part!r}"

    def __str__(self):
        return f"{self.name} `{self.part}`"


@dataclass(frozen=True)
class Crashes(Expectation):
    """The end of the process that runs cells."""

    part: str
    name: str = "Crash"

    def check(self, run):
        right = run.reply["status"] == "error" and run.errors()
        if run.plain:
            right = right and "Subprocess terminated" in run.told()
        else:
            right = right and run.reply["ename"] == self.name and self.part in run.reply["evalue"]
        return "" if right else f"it must fail with {self.name} and {self.part!r}"

    def __str__(self):
        return f"{self.name} `{self.part}`"


@dataclass(frozen=True)
class Keeps(Expectation):
    """All variables after the cells and their types, as `:vars` lists them."""

    types: dict = field(default_factory=dict)

    def check(self, run):
        listed = run_cell(run.kernel, ":vars", run.plain)
        lines = listed.bundles()[0]["text/plain"].splitlines() if listed.bundles() else []
        kept = dict(line.split(": ", 1) for line in lines)
        return "" if kept == self.types else f"the variables must be {self.types}, not {kept}"

    def __str__(self):
        return "variables " + ", ".join(f"`{name}: {type}`" for name, type in self.types.items()) if self.types else "no variables"


@dataclass(frozen=True)
class Completes(Expectation):
    """Completions at the end of `code`, or at the cursor `¦` in it, and the text that they replace."""

    code: str
    has: tuple = ()
    lacks: tuple = ()
    replaces: str = ""
    # Whether there are no others.
    only: bool = False

    def check(self, run):
        before, _, after = self.code.partition("¦")
        reply = run.kernel.reply(run.kernel.client.complete(before + after, len(before)))
        found = reply.get("matches", [])
        wrong = [name for name in self.has if name not in found] + [name for name in self.lacks if name in found]
        if wrong or (self.only and len(found) > len(self.has)):
            return f"the completions of {self.code!r} are {found[:40]}; wrong: {wrong}"
        replaced = (before + after)[reply["cursor_start"] : reply["cursor_end"]] if found else self.replaces
        return "" if replaced == self.replaces else f"the completions must replace {self.replaces!r}, not {replaced!r}"

    def __str__(self):
        names = ", ".join(f"`{name}`" for name in self.has) or ("none" if self.only else "some")
        return f"completions of `{self.code}`: {names}" + "".join(f", not `{name}`" for name in self.lacks)


@dataclass(frozen=True)
class Inspects(Expectation):
    """The documentation at the cursor `¦` of `code`; with an empty part, there is none."""

    code: str
    part: str = ""
    mime: str = "text/plain"

    def check(self, run):
        before, _, after = self.code.partition("¦")
        reply = run.kernel.reply(run.kernel.client.inspect(before + after, len(before)))
        if not self.part:
            return "" if reply.get("found") is False else f"nothing must be found, not {reply}"
        told = reply.get("data", {}).get(self.mime, "")
        return "" if reply.get("found") and self.part in told else f"it must say {self.part!r}, not {reply}"

    def __str__(self):
        return f"documentation at `{self.code}`: " + (f"`{self.part}`" if self.part else "none")


@dataclass(frozen=True)
class Asks(Expectation):
    """Another request of a client, as a function of the kernel, and the parts of the reply that matter."""

    what: str
    request: object
    wanted: dict

    def check(self, run):
        reply = run.kernel.reply(self.request(run.kernel.client), 10)
        seen = {name: reply.get(name) for name in self.wanted}
        return "" if seen == self.wanted else f"{self.what} must answer {self.wanted}, not {reply}"

    def __str__(self):
        return f"{self.what}: " + ", ".join(f"{name} `{value}`" for name, value in self.wanted.items())


def check_case(case, kernel, folder, plain=False):
    """Runs the cells of a case. Returns an empty text, or what is wrong."""
    try:
        return check_cells(case, kernel, folder, plain)
    finally:
        for code in case.after:
            run_cell(kernel, code, plain)


def check_cells(case, kernel, folder, plain):
    cells = [cell if isinstance(cell, tuple) else (cell, None) for cell in case.cells]
    run = Run({"status": "ok"}, [], kernel, plain)
    for number, (code, expect) in enumerate(cells, 1):
        code = code.replace("FOLDER", str(folder))
        run = run_cell(kernel, code, plain, case.limit)
        if number == len(cells) and expect is None:
            expect = case.expect
        fault = expect.check(run) if expect else "" if run.reply["status"] == "ok" else "it must run"
        if fault:
            return f"cell {number} of {len(cells)}: {fault}\ncell: {code}\nseen: {run.summary()}"
    # The last cell has an expectation of its own, or there is none.
    fault = case.expect.check(run) if case.expect and (not cells or isinstance(case.cells[-1], tuple)) else ""
    return f"{fault}\nseen: {run.summary()}" if fault else ""
