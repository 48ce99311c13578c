"""A table of cells and of what they must show: evcxr's own cases in other words, Jupyter's, and a first hour with data.

`.venv/bin/python tests/kernel_cases.py` prints the table with the outcome of this kernel as Markdown; with `--plain`,
also with the outcome of an evcxr_jupyter without changes. Further arguments choose groups by a part of their titles.
`pytest tests/test_kernel_cases.py` asserts every case.
"""

import contextlib
import queue
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cases import commands, crates, editing, first_hour, items, jupyter, output, types, variables
from cases.case import check_case, run_cell
from cases.folder import write_folder
from test_kernel import Kernel

GROUPS = [
    variables.VARIABLES,
    variables.AFTER_FAULTS,
    items.ITEMS,
    items.USES,
    types.TYPES,
    types.SHOWN,
    output.ERRORS,
    output.CRASHES,
    output.OUTPUT,
    commands.COMMANDS,
    editing.EDITING,
    crates.CRATES,
    jupyter.JUPYTER,
    jupyter.INPUT,
    first_hour.FIRST_HOUR,
]


class Cases:
    """Runs cases of any group on one kernel."""

    def __init__(self, folder, plain=False):
        self.folder, self.plain = folder, plain
        self.kernel = self.group = None

    def start(self):
        self.kernel = Kernel(options=["--plain"] if self.plain else [])

    def check(self, group, case):
        """Runs a case. Returns an empty text, or what is wrong."""
        if self.kernel is None:
            self.start()
        try:
            self.prepare(group)
            return check_case(case, self.kernel, self.folder, self.plain)
        except queue.Empty:
            # The kernel may never answer again.
            self.end()
            return "the kernel didn't answer any more"

    def prepare(self, group):
        if group.clear or self.group is not group:
            run_cell(self.kernel, ":clear", self.plain)
        if self.group is not group and group.setup:
            run = run_cell(self.kernel, group.setup.replace("FOLDER", str(self.folder)), self.plain, 300)
            assert run.reply["status"] == "ok", run.summary()
        self.group = group

    def end(self):
        if self.kernel is not None:
            self.kernel.end()
        self.kernel = self.group = None


def row(case, group, columns, faults):
    """Returns a line of the table, and says on standard error what was wrong."""
    for column, fault in zip(columns, faults):
        if fault:
            print(f"{column}: {group.title}: {case.name}: {fault}\n", file=sys.stderr, flush=True)
    note = f" ({case.differs})" if case.differs else f" (pending: {case.pending})" if case.pending else ""
    wanted = str(case.expect or case.cells[-1][1]).replace("|", "\\|").replace("\n", "⏎")
    if len(wanted) > 120:
        wanted = wanted[:110] + "…`"
    return f"| {' | '.join([case.name + note, wanted, *('✗' if fault else '✓' for fault in faults)])} |"


def print_table(groups, plain):
    """Runs the groups and prints the table. Returns whether every case ended as it must."""
    columns = ["evcxr alone", "here"] if plain else ["here"]
    passed, count, unexpected = [0] * len(columns), 0, 0
    with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as ends:
        # A thread and a folder for each kernel: they run at the same time.
        threads = [ends.enter_context(ThreadPoolExecutor(1)) for _ in columns]
        kernels = [Cases(write_folder(Path(root, column.split()[0])), plain=column != "here") for column in columns]
        for thread, kernel in zip(threads, kernels):
            ends.callback(lambda thread=thread, kernel=kernel: thread.submit(kernel.end).result())
        for group in groups:
            print(f"\n## {group.title}\n\n| case | must show | {' | '.join(columns)} |\n|---|---|{':-:|' * len(columns)}")
            for case in group.cases:
                checks = [thread.submit(kernel.check, group, case) for thread, kernel in zip(threads, kernels)]
                faults = [check.result() for check in checks]
                passed = [number + (not fault) for number, fault in zip(passed, faults)]
                count += 1
                unexpected += bool(faults[-1]) and not case.pending
                print(row(case, group, columns, faults), flush=True)
    print(f"\n{count} cases: " + ", ".join(f"{column} {number}" for column, number in zip(columns, passed)))
    return unexpected == 0


if __name__ == "__main__":
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    chosen = [group for group in GROUPS if not wanted or any(word.lower() in group.title.lower() for word in wanted)]
    sys.exit(0 if print_table(chosen, "--plain" in sys.argv) else 1)
