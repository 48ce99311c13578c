"""Release and grading of the notebooks of this course by nbgrader. `cargo lab course` writes this file.

A test gives its points if it ran to its end without an error. Output is never looked at: nbgrader's rules that a number as
result gives so many points, and that text on standard error gives none, don't apply.
"""

import secrets
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir
from nbformat.v4 import new_code_cell, new_output
from nbgrader import utils
from nbgrader.converters.autograde import Autograde
from nbgrader.converters.generate_assignment import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions, Execute
from traitlets import Bool, Integer

CLONE = Path("{CLONE}")


def configure(c, course):
    """Sets what the notebooks need."""
    Grading.course = course
    # Text in hidden regions also defines solutions of earlier tasks, in cells without points.
    c.ClearHiddenTests.enforce_metadata = False
    c.ClearSolutions.code_stub = {"rust": ""}  # each cell has its own
    c.GenerateAssignment.preprocessors = replaced(GenerateAssignment.preprocessors, ClearSolutions, Blanks)
    c.Autograde.autograde_preprocessors = replaced(Autograde.autograde_preprocessors, Execute, Grading)


def replaced(trait, old, new):
    return [new if it is old else it for it in trait.default()]


class Blanks(ClearSolutions):
    """Replaces a solution by the stub in the cell's metadata, which compiles."""

    def preprocess_cell(self, cell, resources, index):
        stub = cell.metadata.pop("vitlab", {}).get("stub")
        if stub:
            self.code_stub, self.text_stub = {"rust": stub}, stub
        return super().preprocess_cell(cell, resources, index)


class KernelManager(AsyncKernelManager):
    """Starts the clone's kernel in a sandbox. Unix sockets reach into it; it has no network."""

    transport = "ipc"
    grading = None

    def format_kernel_cmd(self, extra_arguments=None):
        settings = ["env", "VITLAB_DATA=synthetic", "VITLAB_QUICK=1", "VITLAB_LOAD_MODEL=1"]
        kernel = [str(CLONE / ".venv/bin/lab"), "kernel", self.connection_file]
        if self.grading.sealed:
            shared, memory = Path(self.connection_file).parent, self.grading.memory
            settings += [f"GRADING_SHARED={shared}", f"GRADING_MEGABYTES={memory}"]
            kernel += ["--through", str(self.grading.course / "sealed.sh")]
        return settings + kernel


class Grading(Execute):
    """Executes a submission in the clone's folder of notebooks, where its paths are right, and decides about its tests."""

    memory = Integer(8000, help="Megabytes for a submission's process").tag(config=True)
    sealed = Bool(True, help="Run submissions in a sandbox").tag(config=True)
    course = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, kernel_manager_class=KernelManager, **kwargs)

    def preprocess(self, notebook, resources, km=None):
        if self.sealed:
            attempt = subprocess.run(["sh", self.course / "sealed.sh", "true"], capture_output=True, text=True)
            if attempt.returncode != 0:
                raise RuntimeError(
                    f"no sandbox for submissions on this machine ({attempt.stderr.strip()}); it needs Linux with util-linux and user "
                    "namespaces, or set c.Grading.sealed = False in nbgrader_config.py"
                )
        Path(jupyter_runtime_dir()).mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=jupyter_runtime_dir(), prefix="grading-") as self.folder:
            resources.setdefault("metadata", {})["path"] = str(CLONE / "notebooks")
            return super().preprocess(notebook, resources, km)

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        manager.grading, manager.connection_file = self, str(Path(self.folder, "kernel.json"))
        return manager

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type != "code" or not utils.is_grade(cell) or utils.is_solution(cell):
            return super().preprocess_cell(cell, resources, index)
        # A test proves by a variable, whose name and value nobody knows before, that it ran to its end. A submission could
        # otherwise end the cell by what it prints, and then its process.
        name, value = f"proof_{secrets.token_hex(8)}", secrets.randbits(63)
        source = cell.source
        cell.source = f"{source}\nlet {name}: u64 = {value};"
        try:
            cell, resources = super().preprocess_cell(cell, resources, index)
        finally:
            cell.source = source
        proof = new_code_cell(f"{{{{ ::std::assert_eq!({name}, {value}u64); }}}}")
        if not failed(cell):
            super().preprocess_cell(proof, resources, index)
            self.nb.cells[index] = cell  # where nbclient has put the other one
        for output in cell.outputs:
            if output.output_type == "stream":
                output.name = "stdout"
            elif output.output_type == "execute_result":
                output.output_type = "display_data"
                del output["execution_count"]
        if failed(proof):
            message = "the test didn't run to its end"
            cell.outputs.append(new_output("error", ename="NotFinished", evalue=message, traceback=[message]))
        return cell, resources


def failed(cell):
    return any(output.output_type == "error" for output in cell.outputs)
