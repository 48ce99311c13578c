# The settings of this course. `cargo lab course` writes this file once; it is yours to change.
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import vitlab_grading

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "vision-transformers"
vitlab_grading.configure(c, Path(__file__).parent)

# Seconds for a cell of a submission, its compilation included. A cell that takes longer has failed.
c.Execute.timeout = 120
# Memory of a submission's process, in megabytes.
c.Grading.memory = 8000
# False runs submissions without the sandbox: with network, and with your files in reach.
c.Grading.sealed = True
