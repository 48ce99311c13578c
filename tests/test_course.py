"""Tests `cargo lab course` with nbgrader: releases, submissions with known mistakes and cheats, and the points they get.

Skipped unless nbgrader is installed:

    .venv/bin/python -m pip install --target target/clients nbgrader==0.9.6
    PYTHONPATH=$PWD/target/clients .venv/bin/python -m pytest tests/test_course.py
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from course_cases import ATTENTION, CHEATS, DISTILLATION, MISTAKES, OUTSIDE, VIT

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

    def __init__(self, folder, *names):
        self.folder, self.names = folder, names
        run(ROOT, LAB, "course", folder, *names)
        settings = folder / "nbgrader_config.py"
        # Shorter than a teacher's limits, because some cases use them up.
        settings.write_text(settings.read_text().replace("timeout = 120", "timeout = 60").replace("memory = 8000", "memory = 3000"))

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

    def submit(self, student, name, answers, also="", only=None):
        """Fills answers into the released notebook. `also` is a cell of the student's own, before all tasks. `only` names the tasks
        that stay; the notebook's other cells go, but for the imports, which takes less time."""
        notebook = self.read("release", name)
        for cell in notebook.cells:
            cell.source = answers.get(grade_id(cell), cell.source)
        first = next(place for place, cell in enumerate(notebook.cells) if is_answer(cell))
        cells, later = notebook.cells[:first], notebook.cells[first:]
        if only is not None:
            cells = [cell for cell in cells if cell.source.startswith(":dep")]
            later = [cell for cell in later if grade_id(cell).split("-")[0] in only]
        own = [nbformat.v4.new_code_cell(also)] if also else []
        notebook.cells = cells + own + later
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

    def errors(self, student, name):
        """The errors of a graded submission, by cell."""
        notebook = nbformat.read(self.folder / "autograded" / student / name / f"{name}.ipynb", as_version=4)
        errors = ((cell, output) for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error")
        return {grade_id(cell) or cell.source: output.evalue for cell, output in errors}


def grade_id(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def is_answer(cell):
    grading = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and grading.get("solution", False) and not grading["grade"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Course(tmp_path_factory.mktemp("course") / "course", DISTILLATION)


def changed(course, case):
    """The solution with a case's change."""
    solution = course.solutions(case.notebook)[case.task]
    if not case.old:
        return case.new
    assert solution.count(case.old) == 1, f"{case.name}: {case.old!r} isn't once in\n{solution}"
    return solution.replace(case.old, case.new)


def submit_cases(course, cases, whole=True, most=8):
    """Submits cases, up to `most` of one notebook together if they are about different tasks. Returns the points for each
    student, notebook and test; of the other tasks, too, if `whole`."""
    students = {}
    for case in cases:
        own = ((key, taken) for key, taken in students.items() if key[1] == case.notebook and len(taken) < most)
        free = (key for key, taken in own if all(case.task != other.task for other in taken))
        key = next(free, (f"student{len(students)}", case.notebook))
        students.setdefault(key, []).append(case)
    expected = {}
    for (student, name), taken in students.items():
        answers = course.solutions(name)
        answers.update({case.task: changed(course, case) for case in taken})
        tasks = {case.task for case in taken}
        others = course.tests(name) if whole else {}
        only = tasks | {test.removesuffix("-test") for test in others}
        course.submit(student, name, answers, "\n".join(case.before for case in taken if case.before), only)
        expected[student, name] = {**others, **{f"{task}-test": 0 for task in tasks}}
    return expected


def check(course, expected):
    """Grades and compares the points with those expected."""
    for name in sorted({name for _, name in expected}):
        scores = course.grade(name)
        for student in (student for student, of in expected if of == name):
            wrong = {test: points for test, points in expected[student, name].items() if scores[student][test] != points}
            assert not wrong, (student, wrong, scores[student], course.errors(student, name))


def check_release(course, name):
    release, source = course.read("release", name), course.read("source", name)
    texts = "\n".join(cell.source for cell in release.cells)
    blanks = {grade_id(cell): cell.source for cell in release.cells}
    for task, solution in course.solutions(name).items():
        body = [line for line in solution.splitlines() if len(line.strip()) > 30 and not line.strip().startswith("//")]
        assert any(line not in blanks[task] for line in body), task
        assert "BEGIN HIDDEN TESTS" in next(cell.source for cell in source.cells if grade_id(cell) == f"{task}-test")
    assert "HIDDEN" not in texts and "SOLUTION" not in texts
    assert "vitlab" not in "".join(json.dumps(cell.metadata) for cell in release.cells)
    assert len(release.cells) == len(source.cells)
    manual = [cell for cell in release.cells if cell.metadata.get("nbgrader", {}).get("grade") and cell.metadata.nbgrader.solution]
    assert manual and all(cell.source.endswith("Your answer") for cell in manual)


def check_solutions_and_blanks(course, name, only=None):
    points = {test: points for test, points in course.tests(name).items() if only is None or test.removesuffix("-test") in only}
    course.submit("reference", name, course.solutions(name), only=only)
    course.submit("blank", name, {}, only=only)
    return {("reference", name): points, ("blank", name): dict.fromkeys(points, 0)}


@needs_nbgrader
def test_the_release_has_blanks_and_no_hidden_test(course):
    check_release(course, DISTILLATION)
    page = (course.folder / "README.md").read_text()
    assert "| 3_distillation | hard_loss | 4 | test |" in page and "{" not in page


@needs_nbgrader
def test_some_submissions_get_the_points_they_deserve(course):
    chosen = {"soft for hard labels", "heads concatenated at inference", "weights 1 and 1", "early return", "return in the cell"}
    expected = submit_cases(course, [case for case in [*MISTAKES, *CHEATS] if case.name in chosen], whole=False)
    check(course, expected | check_solutions_and_blanks(course, DISTILLATION, {"hard_loss", "average"}))


def long(*names):
    return lambda test: needs_nbgrader(pytest.mark.long(pytest.mark.parametrize("name", names)(test)))


@long(*NOTEBOOKS)
def test_solutions_get_all_points_and_blanks_none(tmp_path, name):
    course = Course(tmp_path / "course", name)
    check_release(course, name)
    check(course, check_solutions_and_blanks(course, name))


@long(*NOTEBOOKS)
def test_each_mistake_loses_the_points_of_its_task_and_no_others(tmp_path, name):
    course = Course(tmp_path / "course", name)
    check(course, submit_cases(course, [case for case in MISTAKES if case.notebook == name]))


@long(ATTENTION, DISTILLATION)
def test_a_cheat_gets_nothing_for_its_task_and_the_other_tasks_keep_their_points(tmp_path, name):
    course = Course(tmp_path / "course", name)
    expected = submit_cases(course, [case for case in CHEATS if case.notebook == name], most=4)
    check(course, expected)
    # The cheats were compiled, or else their tests fail for another reason.
    broken = {case.task for case in CHEATS if not case.compiles}
    for student, _ in expected:
        errors = course.errors(student, name)
        assert {cell for cell in errors if not cell.endswith("-test")} <= broken, errors


@needs_nbgrader
@pytest.mark.long
def test_a_submission_reaches_nothing_outside(tmp_path):
    course = Course(tmp_path / "course", VIT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        cell = OUTSIDE.format(course=course.folder, port=server.getsockname()[1])
        course.submit("curious", VIT, course.solutions(VIT), cell)
        notebook = course.folder / "autograded/curious" / VIT / f"{VIT}.ipynb"
        assert course.grade(VIT)["curious"] == course.tests(VIT)
    said = "".join(output.get("text", output.get("evalue", "")) for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", []))
    for line in ["course empty: true", "network: false", "home refused: true", "clone refused: true", "unmount refused: true", "notebooks: 0"]:
        assert line in said, said


@contextlib.contextmanager
def formgrader(folder):
    """A Jupyter server with nbgrader's formgrader. Yields a function that calls an address below /formgrader."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    added = [Path(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    places = {
        "JUPYTER_PATH": os.pathsep.join(str(part / "share/jupyter") for part in added),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(str(part / "etc/jupyter") for part in added),
    }
    options = ["--no-browser", f"--port={port}", "--port-retries=0", "--IdentityProvider.token=test", f"--ServerApp.root_dir={folder}"]
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", *options]
    with open(folder.parent / "formgrader.log", "w+") as log:
        server = subprocess.Popen(command, cwd=folder, env={**environment(), **places}, stdout=log, stderr=log)

        def call(address, **body):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/formgrader/{address}", method="PUT" if body else "GET")
            request.add_header("Authorization", "token test")
            with urllib.request.urlopen(request, json.dumps(body).encode() if body else None, timeout=60) as answer:
                return answer.read().decode()

        try:
            for _ in range(300):
                try:
                    call("manage_assignments")
                    break
                except urllib.error.HTTPError:
                    raise
                except urllib.error.URLError:
                    assert server.poll() is None, Path(log.name).read_text()
                    time.sleep(0.1)
            else:
                pytest.fail(Path(log.name).read_text())
            yield call
        finally:
            server.terminate()
            server.wait(30)


@needs_nbgrader
@pytest.mark.long
def test_a_teacher_grades_a_question_and_the_feedback_has_the_points(tmp_path):
    course = Course(tmp_path / "course", DISTILLATION)
    answers = {**course.solutions(DISTILLATION), "distillation": "Little, as the five seeds show."}
    course.submit("ada", DISTILLATION, answers, only={"average", "distillation"})
    course.submit("ben", DISTILLATION, {}, only={"average", "distillation"})
    course.grade(DISTILLATION)
    with formgrader(course.folder) as call:
        notebooks = json.loads(call(f"api/submitted_notebooks/{DISTILLATION}/{DISTILLATION}"))
        notebook = next(notebook["id"] for notebook in notebooks if notebook["student"] == "ada")
        assert answers["distillation"] in call(f"submissions/{notebook}")
        grades = json.loads(call(f"api/grades?submission_id={notebook}"))
        question = next(grade for grade in grades if grade["name"] == "distillation")
        assert question["needs_manual_grade"] and question["max_score"] == 6
        call(f"api/grade/{question['id']}", manual_score=4.5)
    run(course.folder, sys.executable, "-m", "nbgrader", "generate_feedback", DISTILLATION)
    pages = {student: course.folder / "feedback" / student / DISTILLATION / f"{DISTILLATION}.html" for student in ("ada", "ben")}
    texts = {student: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.read_text())) for student, page in pages.items()}
    assert "(Score: 6.5 / 22.0)" in texts["ada"] and "(Score: 4.5 / 6.0)" in texts["ada"]
    assert "(Score: 0.0 / 22.0)" in texts["ben"] and "(Score: 0.0 / 2.0)" in texts["ben"]
    assert "BEGIN HIDDEN TESTS" in texts["ben"]


@needs_nbgrader
@pytest.mark.long
def test_twenty_submissions_leave_nothing_behind(tmp_path, capsys, monkeypatch):
    course = Course(tmp_path / "course", VIT)
    points, solutions = course.tests(VIT), course.solutions(VIT)
    for number in range(20):
        course.submit(f"student{number:02}", VIT, solutions)
    folders = [tmp_path / "runtime", tmp_path / "temporary"]
    for folder, variable in zip(folders, ["JUPYTER_RUNTIME_DIR", "TMPDIR"]):
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    notebooks, unused, begin = set((ROOT / "notebooks").iterdir()), unused_kernels(), time.monotonic()
    assert course.grade(VIT) == {f"student{number:02}": points for number in range(20)}
    seconds, largest = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    with capsys.disabled():
        print(f"20 submissions of {VIT}: {seconds:.0f} s, largest process {largest:.0f} MB")
    assert set((ROOT / "notebooks").iterdir()) == notebooks
    assert [path for folder in folders for path in folder.iterdir()] == []
    assert unused_kernels() <= unused
    mine = f"GRADING_SHARED={folders[0]}".encode()
    assert [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mine in environ(path)] == []


def unused_kernels():
    """The folders of kernels that no process holds."""
    cache = Path(os.environ.get("VITLAB_HOME", Path.home() / ".cache/vitlab"))
    unused = set()
    for folder in (cache / "kernels").glob("kernel-*/"):
        try:
            with open(f"{folder}.lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                unused.add(folder)
        except OSError:
            pass  # in use, or removed meanwhile
    return unused


def environ(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
