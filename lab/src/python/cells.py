"""Runs cells on a new kernel, measures their times and stops at the first failure.

usage: cells.py JSON   with the fields folder (the kernel's working folder), cells, kernel (name of an installed kernelspec)
or argv (command of a kernel without kernelspec), and optionally pause (seconds before the first cell)

Prints one JSON object with seconds: `ready`, until the kernel answers, and `cells`, one number for each. The kernel's own
output, such as cargo's lines while evcxr_jupyter builds, goes to standard error.
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
    """Returns the seconds from sending a cell to its last message."""
    errors = []

    def collect_error(message):
        content = message["content"]
        if message["msg_type"] == "error":
            errors.append("\n".join(content["traceback"]) or content["evalue"])

    start = time.perf_counter()
    reply = client.execute_interactive(cell, output_hook=collect_error, timeout=None)
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

        # The kernel and its cargo must end, too. SIGTERM is also sent if the parent process is killed.
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
