"""Tests the kernel `vitlab` with nbconvert, nbval and nbgrader.

nbval and nbgrader are tested if they are installed. No other part of vitlab needs them:

    .venv/bin/python -m pip install --target target/clients nbval==0.11.0 nbgrader==0.9.6
    PYTHONPATH=$PWD/target/clients .venv/bin/python -m pytest tests/test_clients.py --long
"""

import importlib.util
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

pytestmark = pytest.mark.long
KERNEL = {"name": "vitlab", "display_name": "Rust (vitlab)", "language": "rust"}


def needs(package):
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"{package} isn't installed; the beginning of this file says how to install it")


def write(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def run(folder, *arguments):
    """Runs Python with these arguments. Returns its status and its output."""
    # nbgrader calls a program that pip installs in the target folder.
    programs = [os.path.join(added, "bin") for added in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    paths = [os.path.dirname(sys.executable), *programs, os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def test_nbconvert_stops_at_a_failing_cell(tmp_path):
    cells = [new_code_cell(code) for code in ("let a = 1;", "assert_eq!(a, 2);", 'println!("went on");')]
    status, said = run(tmp_path, "nbconvert", "--to", "notebook", "--execute", write(tmp_path / "one.ipynb", cells))
    assert status != 0 and "panicked" in said, said
    assert not (tmp_path / "one.nbconvert.ipynb").exists()
    status, said = run(tmp_path, "nbconvert", "--to", "notebook", "--execute", "--allow-errors", tmp_path / "one.ipynb")
    assert status == 0, said
    outputs = [cell.outputs for cell in nbformat.read(tmp_path / "one.nbconvert.ipynb", as_version=4).cells]
    assert [output[0].output_type for output in outputs[1:]] == ["error", "stream"]


@needs("nbval")
def test_nbval_compares_outputs_and_sees_a_failing_cell(tmp_path):
    def printing(code, text):
        return new_code_cell(code, outputs=[new_output("stream", name="stdout", text=text)], execution_count=1)

    def check(cell):
        return run(tmp_path, "pytest", "--nbval", write(tmp_path / "one.ipynb", [cell]))

    status, said = check(printing('println!("{}", 6 * 7);', "42\n"))
    assert status == 0 and "1 passed" in said, said
    status, said = check(printing('println!("{}", 6 * 7);', "43\n"))
    assert status == 1 and "1 failed" in said, said
    status, said = check(new_code_cell('panic!("on purpose");'))
    assert status == 1 and "on purpose" in said, said


@needs("nbgrader")
def test_nbgrader_grades_rust_cells(tmp_path):
    def marked(code, name, **more):
        fields = {"schema_version": 3, "grade_id": name, "locked": False, "solution": False, "grade": False, "task": False}
        return new_code_cell(code, metadata={"nbgrader": {**fields, **more}})

    def notebook(solution):
        return [
            marked(solution, "answer", solution=True),
            marked("assert_eq!(double(4), 8);", "test", grade=True, locked=True, points=3),
            marked('assert_eq!(double(0), 1, "the homework asks for one");', "other", grade=True, locked=True, points=2),
        ]

    right = "fn double(n: i32) -> i32 {\n    // BEGIN SOLUTION\n    2 * n\n    // END SOLUTION\n}"
    (tmp_path / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        "c.CourseDirectory.course_id = 'rust'\n"
        'c.ClearSolutions.code_stub = {"rust": "Default::default() // not answered"}\n'
        "c.ClearSolutions.begin_solution_delimeter = 'BEGIN SOLUTION'\n"
        "c.IncludeHeaderFooter.enabled = False\n"
        "c.ClearHiddenTests.enabled = False\n"
    )
    write(tmp_path / "source" / "one" / "task.ipynb", notebook(right))
    status, said = run(tmp_path, "nbgrader", "generate_assignment", "one")
    assert status == 0, said
    released = nbformat.read(tmp_path / "release" / "one" / "task.ipynb", as_version=4)
    assert "not answered" in released.cells[0].source and "2 * n" not in released.cells[0].source
    for student, solution in [("ada", right), ("bob", released.cells[0].source)]:
        cells = [dict(cell) for cell in released.cells]
        cells[0]["source"] = solution
        write(tmp_path / "submitted" / student / "one" / "task.ipynb", [nbformat.from_dict(cell) for cell in cells])
    status, said = run(tmp_path, "nbgrader", "autograde", "one")
    assert status == 0, said
    script = (
        "from nbgrader.api import Gradebook\n"
        "with Gradebook('sqlite:///gradebook.db') as book:\n"
        "    print({s.student.id: s.score for s in book.assignment_submissions('one')})"
    )
    scores = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout
    # Only the right answer passes the first test, and no answer passes the second.
    assert scores.strip() == "{'ada': 3.0, 'bob': 0.0}"
