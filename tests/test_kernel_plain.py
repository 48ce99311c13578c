"""Runs the cells of a notebook on evcxr_jupyter without changes, where they work with fewer features."""

import json
import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.mark.long
def test_the_notebook_runs_on_a_plain_evcxr_jupyter(tmp_path):
    notebook = nbformat.read(NOTEBOOKS / "0_vision_transformer.ipynb", as_version=4)
    spec = tmp_path / "plain" / "kernel.json"
    spec.parent.mkdir()
    program = NOTEBOOKS.parent / ".venv/bin/lab"
    argv = [str(program), "kernel", "--plain", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "plain", "language": "rust", "interrupt_mode": "message"}))
    environment = dict(os.environ, VITLAB_QUICK="1", VITLAB_DATA="synthetic")
    manager = KernelManager(
        kernel_name="plain", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(tmp_path)], ensure_native_kernel=False)
    )
    manager.start_kernel(cwd=str(NOTEBOOKS), env=environment, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            said = []

            def keep(message):
                content = message["content"]
                if message["msg_type"] == "error" or content.get("name") == "stderr":
                    said.append(content)

            reply = client.execute_interactive(cell.source, output_hook=keep, timeout=600)
            faults = [content for content in said if not content.get("text", "").startswith("[W")]
            assert reply["content"]["status"] == "ok" and not faults, (cell.source, faults)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
