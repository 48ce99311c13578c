"""Runs lines of Rust once on a fresh evcxr_jupyter, so that everything they depend on gets built.

usage: warm.py EVCXR_JUPYTER FOLDER < cell

The cells are separated by blank lines. What evcxr_jupyter reports while it builds ("   Compiling tch v0.24.0") goes to standard
error as it comes; an error of a cell is printed there too and ends the program with status 1.
"""

import json
import sys
import tempfile
from pathlib import Path

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager


def main() -> int:
    evcxr, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as kernels:
        spec = Path(kernels, "warm", "kernel.json")
        spec.parent.mkdir()
        argv = [evcxr, "--control_file", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "warm", "language": "rust"}))
        manager = KernelManager(
            kernel_name="warm",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[kernels], ensure_native_kernel=False),
        )
        manager.start_kernel(cwd=folder)
        client = manager.client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=600)
            for cell in sys.stdin.read().split("\n\n"):
                errors = []

                def keep(message):
                    content = message["content"]
                    if message["msg_type"] == "error":
                        errors.append("\n".join(content["traceback"]))
                    if message["msg_type"] == "stream" and content["name"] == "stderr":
                        errors.append(content["text"])

                reply = client.execute_interactive(cell, output_hook=keep, timeout=None)
                if reply["content"]["status"] != "ok" or errors:
                    print("\n".join(errors), file=sys.stderr)
                    return 1
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
