"""Tests `cargo lab hand-in`: the zip file holds the signed notebooks, their pages and the clone, and nothing of the original changes."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent
LAB = Path(sys.prefix) / "bin" / "lab"
NAMES = ["--author", "Ada Muster", "--number", "1234567", "--course", "Deep Learning", "--date", "2026-11-29"]


def hand_in(*arguments, cwd=ROOT):
    return subprocess.run([LAB, "hand-in", *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_file_holds_what_runs_and_what_is_read(tmp_path):
    before = (ROOT / "notebooks/2_attention.ipynb").read_bytes()
    out = tmp_path / "new" / "hand-in.zip"
    done = hand_in("2", *NAMES, "--no-pdf", "--out", out)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "notebooks/2_attention.ipynb").read_bytes() == before
    with zipfile.ZipFile(out) as archive:
        files = {name.removeprefix("vitlab/"): archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        executable = archive.getinfo("vitlab/.ci/run").external_attr >> 16
    assert executable & 0o111
    for needed in [".cargo/config.toml", "Cargo.lock", "crate/src/lib.rs", "kernel/Cargo.lock", "models/ViT_model.pt"]:
        assert files[needed] == (ROOT / needed).read_bytes()
    assert not [name for name in files if name.startswith((".git/", ".venv", "target/", "outputs/"))]

    line = "*Author: Ada Muster (1234567) · Course: Deep Learning · Date: 2026-11-29*"
    notebook = nbformat.reads(files["notebooks/2_attention.ipynb"].decode(), as_version=4)
    assert line in notebook.cells[0].source.splitlines()
    original = nbformat.reads(before.decode(), as_version=4)
    assert [cell.source for cell in notebook.cells[1:]] == [cell.source for cell in original.cells[1:]]
    assert [cell.get("outputs") for cell in notebook.cells] == [cell.get("outputs") for cell in original.cells]
    # Only the notebooks that were asked for are signed.
    assert "your name" in files["notebooks/0_vision_transformer.ipynb"].decode()

    assert "Ada Muster (1234567)" in files["hand-in/2_attention.html"].decode()
    assert "1_inductive_bias.html" not in "".join(files)
    assert json.loads(files["hand-in/versions.json"])["rustc"].startswith("rustc 1.")
    sums = dict(line.split("  ", 1)[::-1] for line in files["hand-in/SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "hand-in/SHA256SUMS"}


def test_a_finding_prevents_the_file(tmp_path):
    out = tmp_path / "hand-in.zip"
    out.write_text("an earlier one")
    names = [name.replace("Deep Learning", "your course") for name in NAMES]
    done = hand_in("1", *names, "--no-pdf", "--out", out)
    assert done.returncode == 1
    assert 'the author line still has "your course"' in done.stdout
    assert "nothing was written" in done.stderr
    assert out.read_text() == "an earlier one"


def test_what_cannot_be_handed_in_is_said(tmp_path):
    notebook = tmp_path / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Mine")]), notebook)
    for arguments, message in [
        ([notebook, *NAMES], "isn't in the folder notebooks"),
        (["9", *NAMES], "there is no notebook 9"),
        (["1", "--author", "Ada Muster"], "--course"),
        (["1", *NAMES, "--no-pdf", "--out", tmp_path], "is a folder"),
    ]:
        done = hand_in(*arguments)
        assert done.returncode != 0 and message in done.stderr, done.stderr
