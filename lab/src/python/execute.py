"""Executes one notebook top to bottom on a fresh kernel, and stops at the first cell that fails.

usage: execute.py JSON   with the fields notebook, folder, kernel, display_name, metadata, written, html, removed

Events go to standard output, one JSON object a line: start, cell, line, failed, done. Status 0: executed; 1: a cell
failed (what ran is written all the same); 2: it couldn't be executed; 130: interrupted.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

# Set-up has built everything before, so a kernel answers within seconds; the limit is for a machine that is very busy.
START_ATTEMPTS = 3
START_TIMEOUT = 180

# Jupyter's page cuts long lines of code off where the window is narrow; here they wrap, and the cells of wide tables move closer.
# And it shows listings in outputs like prose, differences without colours.
PAGE = """{% extends "lab/index.html.j2" %}
{% block html_head_css %}{{ super() }}
<style>
.highlight pre { font-family: var(--jp-code-font-family); font-size: var(--jp-code-font-size); white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 900px) { .jp-RenderedHTML :is(td, th) { padding: 0.3em; } }
.highlight .gd { color: #a40000; }
.highlight .gi { color: #00702a; }
</style>
{% endblock %}"""


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Failed(Exception):
    """A cell failed: its position in the notebook and what it said."""

    def __init__(self, index, message, traceback):
        super().__init__(message)
        self.index, self.message, self.traceback = index, message, traceback


class Client(NotebookClient):
    """nbclient, telling what it is at."""

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        if msg["msg_type"] == "stream" and (text := content["text"].strip()):
            tell("line", text=text.splitlines()[-1])
        return super().process_message(msg, cell, cell_index)


def failure(cell, index):
    """What went wrong in an executed cell, if anything did."""
    for output in cell.outputs:
        if output.output_type == "error":
            first = plain(output.evalue).strip().split("\n")[0]
            return Failed(index, f"{output.ename}: {first}", "\n".join(output.traceback))
    return None


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def cancelled_by_signals():
    """Lets a signal cancel the execution, so that the kernel is ended in order. (nbclient takes a cancelled cell for a
    dead kernel; the event tells them apart.)"""
    task, event = asyncio.current_task(), asyncio.Event()

    def cancel():
        event.set()
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, cancel)
    return event


async def started(kernel, notebook, job):
    """A client with a kernel that answers. Two programs that start kernels at the same moment can draw the same ports; then
    one kernel ends or stays silent, and another try draws others."""
    for attempt in range(1, START_ATTEMPTS + 1):
        client = Client(
            notebook,
            kernel_name=job["kernel"],
            resources={"metadata": {"path": job["folder"]}},
            timeout=None,
            startup_timeout=START_TIMEOUT,
            allow_errors=True,
            record_timing=False,
            coalesce_streams=True,
        )
        try:
            # The events' stream is not the kernel's.
            await kernel.enter_async_context(client.async_setup_kernel(stdout=subprocess.DEVNULL))
            return client
        except RuntimeError as error:
            if attempt == START_ATTEMPTS:
                raise
            tell("line", text=f"the kernel doesn't start ({error}); once more")


async def execute(notebook, job):
    cells = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    tell("start", cells=len(cells))
    async with AsyncExitStack() as kernel:
        client = await started(kernel, notebook, job)
        interrupted = cancelled_by_signals()
        for number, index in enumerate(cells, 1):
            cell = notebook.cells[index]
            lines = [line for line in cell.source.splitlines() if line.strip()]
            tell("cell", number=number, title=lines[0].strip())
            try:
                await client.async_execute_cell(cell, index)
            except (DeadKernelError, CellTimeoutError) as error:
                if interrupted.is_set():
                    raise asyncio.CancelledError from None
                raise Failed(index, "the kernel died", str(error)) from None
            if failed := failure(cell, index):
                raise failed
        language = notebook.metadata.get("language_info")
    if language:
        notebook.metadata.language_info = language


def clean(notebook, job):
    """Takes this machine's folders out of what the cells said."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for field in ("text", "evalue"):
                if field in output:
                    output[field] = without_folders(output[field], job["removed"])
            if "traceback" in output:
                output.traceback = [without_folders(line, job["removed"]) for line in output.traceback]
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(value, str):
                    output.data[kind] = without_folders(value, job["removed"])
    notebook.metadata.kernelspec = {"name": job["kernel"], "display_name": job["display_name"], "language": "rust"}
    notebook.metadata.vitlab = job["metadata"]
    notebook.metadata.pop("widgets", None)


def without_folders(text, removed):
    for folder, name in removed:
        text = text.replace(folder, name)
    return text


def write(path, text):
    """Whole or not at all."""
    path = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=path.suffix, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def save(notebook, job):
    write(job["written"], nbformat.writes(notebook) + "\n")
    if job["html"]:
        resources = {"metadata": {"name": Path(job["written"]).stem}}
        html, _ = HTMLExporter(raw_template=PAGE).from_notebook_node(notebook, resources=resources)
        write(job["html"], html)


def main():
    job = json.loads(sys.argv[1])
    try:
        notebook = nbformat.read(job["notebook"], as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        tell("failed", message=f"can't be read as a notebook ({plain(str(error)).splitlines()[0]})")
        return 2
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)

    failed = None
    try:
        asyncio.run(execute(notebook, job))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 130
    except Failed as error:
        failed = error
    except RuntimeError as error:
        tell("failed", message=f"the kernel doesn't start ({error})")
        return 2
    clean(notebook, job)
    try:
        save(notebook, job)
    except OSError as error:
        tell("failed", message=f"{job['written']} can't be written ({error.strerror})")
        return 2
    if failed:
        tell(
            "failed",
            position=failed.index + 1,
            count=notebook.cells[failed.index].execution_count,
            message=without_folders(plain(failed.message), job["removed"]),
            traceback=without_folders(plain(failed.traceback), job["removed"]),
        )
        return 1
    tell("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
