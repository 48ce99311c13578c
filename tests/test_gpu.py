"""The script for GPUs, on the CPU with a few steps."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
FOLDERS = [os.environ.get("VITLAB_DATA", ""), "/usr/share/datasets/fashion-mnist"]


@pytest.mark.long
def test_the_script_runs_on_the_cpu(tmp_path):
    data = next((folder for folder in FOLDERS if folder and list(pathlib.Path(folder).glob("train-images*"))), None)
    if data is None:
        pytest.skip("FashionMNIST isn't in a folder that this test knows")
    figures = tmp_path / "gpu.json"
    command = [sys.executable, HERE / "gpu.py", "--data", data, "--device", "cpu", "--json", figures]
    command += ["--steps", "2", "--rounds", "1", "--images", "60", "--plain"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "a GPU is not measured" in run.stdout
    result = json.loads(figures.read_text())
    assert [row["model"] for row in result["training"]] == ["ViT", "DeiT with teacher", "CNN"]
    for row in result["training"]:
        assert all(len(row[name]) == 1 and row[name][0] > 0 for name in ("vitlab", "homework", "expert")), row
    assert all(rates[0] > 0 for rates in result["rollouts"].values())
    assert "| ViT | " in run.stdout and result["tests"] == "not run"


def test_a_failing_program_is_named(tmp_path):
    command = [sys.executable, HERE / "gpu.py", "--data", str(tmp_path), "--device", "cpu"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and "vitlab bench: hello: " in run.stderr, run.stderr
