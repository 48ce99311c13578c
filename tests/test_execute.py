"""Executes a notebook on a kernel that fails at its first start."""

import json
import os
import pathlib
import subprocess
import sys

import nbformat

ROOT = pathlib.Path(__file__).parent.parent
FLAKY = """#!/bin/sh
# Ends at its first start, like a kernel whose port is in use.
if [ ! -e "{folder}/started" ]; then
  touch "{folder}/started"
  exit 1
fi
exec "{lab}" kernel "$1"
"""


def test_a_kernel_that_ends_at_its_start_is_started_once_more(tmp_path):
    script = tmp_path / "flaky.sh"
    script.write_text(FLAKY.format(folder=tmp_path, lab=pathlib.Path(sys.prefix) / "bin" / "lab"))
    script.chmod(0o755)
    spec = tmp_path / "kernels" / "flaky" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(
        json.dumps({"argv": [str(script), "{connection_file}"], "display_name": "flaky", "language": "rust"})
    )
    notebook = tmp_path / "one.ipynb"
    cell = nbformat.v4.new_code_cell('println!("{}", 6 * 7);')
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    job = {
        "notebook": str(notebook),
        "folder": str(tmp_path),
        "kernel": "flaky",
        "display_name": "flaky",
        "metadata": {},
        "written": str(tmp_path / "written.ipynb"),
        "removed": [],
    }
    done = subprocess.run(
        [sys.executable, ROOT / "lab" / "src" / "python" / "execute.py", json.dumps(job)],
        env={**os.environ, "JUPYTER_PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "once more" in done.stdout
    written = nbformat.read(job["written"], as_version=4)
    assert written.metadata.language_info.pygments_lexer == "rust"
    (output,) = written.cells[0].outputs
    assert output.text == "42\n"
    # The SHA-256 of the source, by which `cargo lab check` finds edits after the run.
    assert written.cells[0].metadata.vitlab.source == "c6004921caa9fc66cdc9c2f9804bc360a4c229480c3732c7e7dbcb44ebd0213b"
