"""Executes a notebook from top to bottom on a new kernel and stops at the first cell that fails.

usage: execute.py JSON   with the fields notebook, folder, kernel, display_name, metadata, written, removed

Prints events to standard output, one JSON object a line: start, cell, line, failed, done. Exit status 0: executed; 1: a cell
failed (the cells up to there are written); 2: the notebook or the kernel is unusable; 130: interrupted.
"""

import asyncio
import hashlib
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
from nbclient.util import ensure_async

# A kernel answers within seconds, because set-up has built everything. The limit in seconds is for a very busy machine.
START_ATTEMPTS = 3
START_TIMEOUT = 180


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Failed(Exception):
    """A cell failed. Holds its index in the notebook, its message and its traceback."""

    def __init__(self, index, message, traceback):
        super().__init__(message)
        self.index, self.message, self.traceback = index, message, traceback


class Client(NotebookClient):
    """Emits an event for each line of output."""

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        if msg["msg_type"] == "stream" and (text := content["text"].strip()):
            emit("line", text=text.splitlines()[-1])
        return super().process_message(msg, cell, cell_index)


def failure(cell, index):
    """Returns the failure of an executed cell, or None."""
    for output in cell.outputs:
        if output.output_type == "error":
            first = plain(output.evalue).strip().split("\n")[0]
            return Failed(index, f"{output.ename}: {first}", "\n".join(output.traceback))
    return None


def plain(text):
    """Removes the escape sequences of colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def cancelled_by_signals():
    """Lets signals cancel the execution, so that the kernel is shut down. Returns an event that is set then: nbclient
    reports a cancelled cell as a dead kernel."""
    task, event = asyncio.current_task(), asyncio.Event()

    def cancel():
        event.set()
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, cancel)
    return event


async def started(kernel, notebook, job):
    """Returns a client with a kernel that answers. Two programs that start kernels at the same moment can draw the same
    ports. Then one kernel ends or stays silent, and another attempt draws other ports."""
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
            # Standard output is for events only.
            await kernel.enter_async_context(client.async_setup_kernel(stdout=subprocess.DEVNULL))
            return client
        except RuntimeError as error:
            if attempt == START_ATTEMPTS:
                raise
            emit("line", text=f"the kernel doesn't start ({error}); once more")


async def execute(notebook, job):
    cells = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    emit("start", cells=len(cells))
    async with AsyncExitStack() as kernel:
        client = await started(kernel, notebook, job)
        info = await client.async_wait_for_reply(await ensure_async(client.kc.kernel_info()))
        interrupted = cancelled_by_signals()
        for number, index in enumerate(cells, 1):
            cell = notebook.cells[index]
            lines = [line for line in cell.source.splitlines() if line.strip()]
            emit("cell", number=number, title=lines[0].strip())
            # `cargo lab check` tells by it whether the source was edited later. Outputs of streams have no metadata, and some
            # cells have no output, so the cell's metadata hold it.
            checksum = hashlib.sha256(cell.source.encode()).hexdigest()
            cell.metadata.setdefault("vitlab", nbformat.NotebookNode()).source = checksum
            try:
                await client.async_execute_cell(cell, index)
            except (DeadKernelError, CellTimeoutError) as error:
                if interrupted.is_set():
                    raise asyncio.CancelledError from None
                raise Failed(index, "the kernel died", str(error)) from None
            if failed := failure(cell, index):
                raise failed
    # nbconvert takes the lexer of code cells from it.
    notebook.metadata.language_info = info["content"]["language_info"]


def clean(notebook, job):
    """Removes this machine's folders from the outputs and sets the metadata."""
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


def save(notebook, job):
    """Writes the notebook, replacing the file atomically."""
    path = Path(job["written"])
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=path.suffix, delete=False, encoding="utf-8") as file:
        file.write(nbformat.writes(notebook) + "\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main():
    job = json.loads(sys.argv[1])
    try:
        notebook = nbformat.read(job["notebook"], as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        emit("failed", message=f"can't be read as a notebook ({plain(str(error)).splitlines()[0]})")
        return 2
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
            cell.metadata.get("vitlab", {}).pop("source", None)

    failed = None
    try:
        asyncio.run(execute(notebook, job))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 130
    except Failed as error:
        failed = error
    except RuntimeError as error:
        emit("failed", message=f"the kernel doesn't start ({error})")
        return 2
    clean(notebook, job)
    try:
        save(notebook, job)
    except OSError as error:
        emit("failed", message=f"{job['written']} can't be written ({error.strerror})")
        return 2
    if failed:
        emit(
            "failed",
            position=failed.index + 1,
            count=notebook.cells[failed.index].execution_count,
            message=without_folders(plain(failed.message), job["removed"]),
            traceback=without_folders(plain(failed.traceback), job["removed"]),
        )
        return 1
    emit("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
