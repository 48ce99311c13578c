"""Runs cells on a fresh kernel and times them; stops at the first that fails.

usage: cells.py JSON   with the fields folder (where the kernel works), cells, kernel (an installed one's name) or argv
(what to start instead), and perhaps pause (seconds before the first cell)

Prints one JSON object: seconds until the kernel is `ready` and of each of the `cells`. What the kernel itself prints, such
as cargo's lines while evcxr_jupyter builds, goes to standard error as it comes.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager


def make_manager(job, kernels):
    if "kernel" in job:
        return KernelManager(kernel_name=job["kernel"])
    spec = Path(kernels, "plain", "kernel.json")
    spec.parent.mkdir()
    spec.write_text(json.dumps({"argv": job["argv"], "display_name": "plain", "language": "rust"}))
    return KernelManager(
        kernel_name="plain", kernel_spec_manager=KernelSpecManager(kernel_dirs=[kernels], ensure_native_kernel=False)
    )


def run(client, cell):
    """Seconds from sending a cell to its last message."""
    errors = []

    def keep(message):
        content = message["content"]
        if message["msg_type"] == "error":
            errors.append("\n".join(content["traceback"]) or content["evalue"])

    start = time.perf_counter()
    reply = client.execute_interactive(cell, output_hook=keep, timeout=None)
    seconds = time.perf_counter() - start
    if reply["content"]["status"] != "ok" or errors:
        sys.exit("a cell failed: " + "\n".join([cell, *errors]))
    return seconds


def main():
    job = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as kernels:
        manager = make_manager(job, kernels)
        start = time.perf_counter()
        manager.start_kernel(cwd=job["folder"], stdout=sys.stderr)

        # SIGTERM comes also when the program that started this is killed: the kernel and its cargo have to end, too.
        def end(*_):
            os.killpg(manager.provisioner.pgid, signal.SIGTERM)
            os._exit(1)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        client = manager.client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=600)
            ready = time.perf_counter() - start
            time.sleep(job.get("pause", 0))
            cells = [run(client, cell) for cell in job["cells"]]
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
    print(json.dumps({"ready": ready, "cells": cells}))


if __name__ == "__main__":
    main()
