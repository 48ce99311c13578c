"""Tests `cargo lab course` with nbgrader: releases, submissions with known mistakes and cheats, and the points they get.

Skipped unless nbgrader is installed:

    .venv/bin/python -m pip install --target target/clients nbgrader==0.9.6
    PYTHONPATH=$PWD/target/clients .venv/bin/python -m pytest tests/test_course.py
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from course_cases import ATTENTION, CHEATS, DISTILLATION, MISTAKES, VIT

ROOT = Path(__file__).parent.parent
LAB = Path(sys.prefix) / "bin" / "lab"
NOTEBOOKS = [VIT, ATTENTION, DISTILLATION]
needs_nbgrader = pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="nbgrader isn't installed; the beginning of this file says how to install it"
)
SCORES = """
import json
from nbgrader.api import Gradebook
with Gradebook('sqlite:///gradebook.db') as book:
    print(json.dumps({
        f'{submission.student.id} {notebook.name}': {grade.name: grade.auto_score for grade in notebook.grades}
        for assignment in book.assignments for submission in assignment.submissions for notebook in submission.notebooks
    }))
"""


def environment():
    # nbgrader calls programs that pip installs in the target folder.
    programs = [os.path.join(added, "bin") for added in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PATH": os.pathsep.join([os.path.dirname(sys.executable), *programs, os.environ["PATH"]])}


def run(folder, *command):
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


class Course:
    """A course folder and its submissions."""

    def __init__(self, folder):
        self.folder = folder
        run(ROOT, LAB, "course", folder)

    def read(self, stage, name):
        return nbformat.read(self.folder / stage / name / f"{name}.ipynb", as_version=4)

    def solutions(self, name):
        """The solutions of a notebook's tasks."""
        cells = self.read("source", name).cells
        marks = ("// BEGIN SOLUTION", "// END SOLUTION")
        code = {cell.metadata.nbgrader.grade_id: cell.source for cell in cells if is_answer(cell)}
        return {
            task: "\n".join(line for line in source.splitlines() if line.strip() not in marks) for task, source in code.items()
        }

    def tests(self, name):
        """The points of a notebook's tests."""
        cells = [cell.metadata.get("nbgrader", {}) for cell in self.read("source", name).cells]
        return {cell["grade_id"]: cell["points"] for cell in cells if cell.get("grade") and not cell["solution"]}

    def submit(self, student, name, answers, also=""):
        """Fills answers into the released notebook. `also` is a cell of the student's own, before all tasks."""
        notebook = self.read("release", name)
        for cell in notebook.cells:
            if is_answer(cell):
                cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
        if also:
            first = next(place for place, cell in enumerate(notebook.cells) if is_answer(cell))
            notebook.cells.insert(first, nbformat.v4.new_code_cell(also))
        path = self.folder / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)

    def grade(self, name):
        """Grades the submissions of a notebook. Returns each student's points of each test."""
        run(self.folder, sys.executable, "-m", "nbgrader", "autograde", name)
        scores = json.loads(run(self.folder, sys.executable, "-c", SCORES))
        tests = self.tests(name)
        of_notebook = {key.split()[0]: grades for key, grades in scores.items() if key.split()[1] == name}
        return {student: {test: grades[test] for test in tests} for student, grades in of_notebook.items()}

    def outputs(self, student, name):
        """The texts of the errors of a graded submission, by test."""
        notebook = nbformat.read(self.folder / "autograded" / student / name / f"{name}.ipynb", as_version=4)
        return {
            cell.metadata.nbgrader.grade_id: "\n".join(output.get("evalue", output.get("text", "")) for output in cell.outputs)
            for cell in notebook.cells
            if cell.cell_type == "code" and "nbgrader" in cell.metadata
        }


def is_answer(cell):
    grading = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and grading.get("solution", False) and not grading["grade"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Course(tmp_path_factory.mktemp("course") / "course")


def changed(course, case):
    """The solution with a case's change."""
    solution = course.solutions(case.notebook)[case.task]
    if not case.old:
        return case.new
    assert solution.count(case.old) == 1, f"{case.name}: {case.old!r} isn't once in\n{solution}"
    return solution.replace(case.old, case.new)


def submit_cases(course, cases):
    """Submits cases, several of one notebook together if they are about different tasks. Returns the tests that must give
    nothing for each student."""
    students = {}
    for case in cases:
        free = (key for key, taken in students.items() if key[1] == case.notebook and all(case.task != other.task for other in taken))
        key = next(free, (f"{case.notebook[0]}-{len(students)}", case.notebook))
        students.setdefault(key, []).append(case)
    lost = {}
    for (student, name), taken in students.items():
        answers = course.solutions(name)
        answers.update({case.task: changed(course, case) for case in taken})
        course.submit(student, name, answers, "\n".join(case.before for case in taken if case.before))
        lost[student, name] = {f"{case.task}-{test}" for case in taken for test in case.lost}
    return lost


def check(course, lost):
    """Grades and compares the points with those expected."""
    for name in sorted({name for _, name in lost}):
        points, scores = course.tests(name), course.grade(name)
        for student in (student for student, of in lost if of == name):
            expected = {test: 0 if test in lost[student, name] else full for test, full in points.items()}
            different = {test: (scores[student][test], full) for test, full in expected.items() if scores[student][test] != full}
            assert not different, (student, different, {test: course.outputs(student, name)[test] for test in different})


@needs_nbgrader
def test_the_release_has_blanks_and_no_hidden_test(course):
    for name in NOTEBOOKS:
        release, source = course.read("release", name), course.read("source", name)
        texts = "\n".join(cell.source for cell in release.cells)
        for task, solution in course.solutions(name).items():
            body = [line for line in solution.splitlines() if len(line.strip()) > 30 and not line.strip().startswith("//")]
            blank = next(cell.source for cell in release.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == task)
            assert blank != solution and any(line not in blank for line in body), task
        assert "HIDDEN" not in texts and "SOLUTION" not in texts
        assert "vitlab" not in "".join(json.dumps(cell.metadata) for cell in release.cells)
        hidden = [cell for cell in release.cells if cell.metadata.get("nbgrader", {}).get("grade_id", "").endswith("-hidden")]
        assert hidden and all(len(cell.source.splitlines()) == 1 for cell in hidden)
        assert len(release.cells) == len(source.cells)
        manual = [cell for cell in release.cells if cell.metadata.get("nbgrader", {}).get("grade") and cell.metadata.nbgrader.solution]
        assert all(cell.source.endswith("Your answer") for cell in manual) and manual


@needs_nbgrader
def test_a_few_submissions_get_the_points_they_deserve(course):
    chosen = {"no √d", "discard per row", "class token discarded", "process ended", "assert redefined"}
    lost = submit_cases(course, [case for case in [*MISTAKES, *CHEATS] if case.name in chosen])
    course.submit("reference", ATTENTION, course.solutions(ATTENTION))
    course.submit("blank", ATTENTION, {})
    lost["reference", ATTENTION] = set()
    lost["blank", ATTENTION] = set(course.tests(ATTENTION))
    check(course, lost)
