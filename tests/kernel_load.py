"""Measures the cost of many kernels at once, and checks that kernels leave nothing behind, also over a long time.

    .venv/bin/python tests/kernel_load.py many --kernels 20
    .venv/bin/python tests/kernel_load.py students --students 20
    .venv/bin/python tests/kernel_load.py soak --minutes 60 --seed 1

`many` starts kernels at once, prints the cost of each until it is ready and until its first cell is done (its own disk space,
processor time, memory), and kills them. `students` executes a notebook's first code cells in as many kernels, each cell in all of
them at the same moment, and prints the seconds that one student and that all of them wait, and their memory. `soak` starts, uses,
interrupts, restarts and kills kernels at random. All exit with status 1 if a process, a folder or a port is left. `many` also
exits with status 1 if the median start takes more than 30 MB of disk space or 1 s of processor time, and `soak` if a kernel that
lives all the time grows in memory or open files.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path

import nbformat
from test_kernel import CRATE, NOTEBOOKS, Kernel, alive, interrupt, memory

ROOT = Path(__file__).parent.parent
HOME = Path(os.environ.get("VITLAB_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "vitlab")).expanduser()
KERNELS = HOME / "kernels"
# Limits for the median of starts.
LIMITS = {"processor, s": 1, "disk, MB": 30}
LOOP = 'println!("begun");\nloop { std::thread::sleep(std::time::Duration::from_millis(10)) }'


def folders():
    return {folder for folder in KERNELS.glob("kernel-*") if folder.is_dir()}


def own_disk(folder):
    """Returns the MB that only this folder holds. Hard links to the warm build don't count."""
    found = 0
    for file in folder.rglob("*"):
        try:
            status = file.lstat()
        except OSError:
            continue
        if status.st_nlink == 1 or file.is_dir():
            found += status.st_blocks * 512
    return found / 1e6


def processor(processes):
    """Returns the seconds of processor time, including children that have ended."""
    ticks = 0
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def ports(kernel):
    return [port for name, port in kernel.manager.get_connection_info().items() if name.endswith("_port")]


def listened():
    """Returns the ports on which a process of this machine listens."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {int(fields[1].rsplit(":", 1)[1], 16) for fields in lines if fields[3] == "0A"}


def kill(kernel):
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel(now=True)
    kernel.log.close()


def identity(process):
    """Returns the id of a process and the time of its start. The system gives an id again after some thousand others."""
    try:
        return process, Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return process, None


def left(identities, taken, before):
    """Returns what these kernels left behind, after a wait and the start of another kernel, which cleans up."""

    def processes():
        return [process for process, started in identities if alive(process) and identity(process) == (process, started)]

    deadline = time.monotonic() + 20
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    Kernel().end()
    return {
        "processes": processes(),
        "ports": sorted(listened() & set(taken)),
        "folders": sorted(map(str, folders() - before)),
    }


def own_memory(process):
    """Returns the MB of a process in which memory shared by n processes counts as 1/n; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1000


def report(found):
    print("left behind:", ", ".join(f"{len(what)} {name}" for name, what in found.items()))
    return int(any(found.values()))


def cost(kernels, before):
    """Prints the cost of the kernels so far. Returns the processes of each and the medians."""
    trees = [kernel.processes() for kernel in kernels]
    rows = {
        "processor, s": [processor(tree) for tree in trees],
        "disk, MB": [own_disk(folder) for folder in folders() - before],
        "memory, MB": [sum(map(memory, tree)) for tree in trees],
    }
    for name, values in rows.items():
        values.sort()
        print(f"  {name}: {values[0]:.2f}  {statistics.median(values):.2f}  {values[-1]:.2f}", flush=True)
    return trees, {name: statistics.median(values) for name, values in rows.items()}


def many(arguments):
    before, started = folders(), time.monotonic()
    kernels = [Kernel(ready=False) for _ in range(arguments.kernels)]
    for kernel in kernels:
        kernel.wait()
    seconds = time.monotonic() - started
    print(f"{len(kernels)} kernels ready after {seconds:.1f} s; minimum, median and maximum per kernel:")
    _, medians = cost(kernels, before)
    answers = [kernel.text(f"println!(\"{{}}\", {number} * 2);") for number, kernel in enumerate(kernels)]
    assert answers == [f"{number * 2}\n" for number in range(len(kernels))], answers
    print("after a cell in each kernel:")
    trees, _ = cost(kernels, before)
    identities, taken = [identity(process) for tree in trees for process in tree], [port for kernel in kernels for port in ports(kernel)]
    for kernel in kernels:
        kill(kernel)
    above = [name for name, limit in LIMITS.items() if medians[name] > limit]
    print("starts above the limit:", ", ".join(above) or "none")
    return max(report(left(identities, taken, before)), int(bool(above)))


def read_cells(name, count):
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"][:count]


def step(kernels, code):
    """Executes a cell in all kernels at the same moment. Returns the seconds until each has answered."""
    started = time.monotonic()
    requests = [kernel.send(code) for kernel in kernels]
    waited = {}
    while len(waited) < len(kernels):
        for number, (kernel, request) in enumerate(zip(kernels, requests)):
            if number in waited or not kernel.client.shell_channel.msg_ready():
                continue
            reply = kernel.client.get_shell_msg(timeout=1)
            if reply["parent_header"]["msg_id"] == request:
                assert reply["content"]["status"] == "ok", reply["content"]
                waited[number] = time.monotonic() - started
        time.sleep(0.01)
    return sorted(waited.values())


def students(arguments):
    os.environ.setdefault("VITLAB_QUICK", "1")
    before, taken, identities = folders(), [], []
    cells = read_cells(arguments.notebook, arguments.cells)
    for number in (1, arguments.students):
        started = time.monotonic()
        kernels = [Kernel(ready=False) for _ in range(number)]
        for kernel in kernels:
            kernel.wait()
        print(f"{number} kernels ready after {time.monotonic() - started:.1f} s", flush=True)
        seconds = [step(kernels, code) for code in cells]
        waits = [statistics.median(each) for each in seconds]
        longest = [each[-1] for each in seconds]
        print(f"  {len(cells)} cells of {arguments.notebook} at the same moment:")
        print(f"  wait for a cell, s: median {statistics.median(waits):.1f}, longest {max(longest):.1f}, all {sum(longest):.0f}")
        trees = [kernel.processes() for kernel in kernels]
        sizes = sorted(sum(map(own_memory, tree)) for tree in trees)
        print(f"  memory of a student, MB: median {statistics.median(sizes):.0f}, most {sizes[-1]:.0f}, all {sum(sizes):.0f}")
        identities += [identity(process) for tree in trees for process in tree]
        taken += [port for kernel in kernels for port in ports(kernel)]
        for kernel in kernels:
            kill(kernel)
    return report(left(identities, taken, before))


class Soak:
    """Random use of kernels, beside one kernel that lives all the time."""

    def __init__(self, seed):
        self.random, self.done = random.Random(seed), {}
        self.identities, self.ports = set(), set()
        self.before = folders()
        self.old = self.start()
        self.old.text(CRATE)

    def start(self):
        kernel = Kernel()
        self.ports.update(ports(kernel))
        return kernel

    def note(self, kernel):
        self.identities.update(map(identity, kernel.processes()))

    def round(self):
        kernel = self.start()
        try:
            for _ in range(self.random.randint(0, 3)):
                step = self.random.choice([self.cell, self.fault, self.crash, self.interrupted, self.restarted])
                step(kernel)
                self.count(step.__name__)
            self.note(kernel)
        except BaseException:
            kill(kernel)
            raise
        self.old.text("1 + 1")
        end = self.random.choice([self.shut_down, self.killed, self.killed_at_work, self.killed_while_compiling])
        end(kernel)
        self.count(end.__name__)

    def count(self, name):
        self.done[name] = self.done.get(name, 0) + 1

    def cell(self, kernel):
        assert kernel.text("6 * 7") == "42"

    def fault(self, kernel):
        assert kernel.run('panic!("on purpose");')[0]["ename"] == "panicked"

    def crash(self, kernel):
        assert kernel.run("std::process::abort();")[0]["ename"] == "Crash"

    def interrupted(self, kernel):
        request = kernel.send(LOOP)
        messages = kernel.messages(request)
        next(messages)
        self.note(kernel)
        interrupt(kernel)
        list(messages)
        assert kernel.reply(request)["ename"] == "Interrupted"

    def restarted(self, kernel):
        self.note(kernel)
        kernel.manager.restart_kernel(now=self.random.random() < 0.5)
        kernel.client.wait_for_ready(timeout=120)

    def shut_down(self, kernel):
        kernel.end()

    def killed(self, kernel):
        kill(kernel)

    def killed_at_work(self, kernel):
        next(kernel.messages(kernel.send(LOOP)))
        self.note(kernel)
        kill(kernel)

    def killed_while_compiling(self, kernel):
        kernel.send("fn f(n: u64) -> u64 { n }\nf(1)")
        time.sleep(self.random.random())
        self.note(kernel)
        kill(kernel)


def soak(arguments):
    soak = Soak(arguments.seed)
    end = time.monotonic() + 60 * arguments.minutes
    engine = max(soak.old.processes(), key=memory)
    sizes, files = [], []
    while time.monotonic() < end:
        soak.round()
        sizes.append(memory(engine))
        files.append(len(os.listdir(f"/proc/{engine}/fd")))
        print(f"round {len(sizes)}: the old kernel has {sizes[-1]:.0f} MB and {files[-1]} files", flush=True)
    soak.note(soak.old)
    soak.old.end()
    found = left(soak.identities, soak.ports, soak.before)
    print(f"{len(sizes)} kernels; {', '.join(f'{count} {name}' for name, count in sorted(soak.done.items()))}")
    # Only the process that compiles is measured: in the process that runs cells, each cell's library stays loaded.
    # The first third doesn't count, because rust-analyzer's caches fill.
    third = max(1, len(sizes) // 3)
    middle = sizes[-2 * third : -third] or sizes
    grown = sum(sizes[-third:]) / third - sum(middle) / len(middle)
    print(f"the old kernel grew by {grown:.1f} MB and {files[-1] - files[0]} files")
    found["grown"] = [grown] if grown > 30 or files[-1] > files[0] + 2 else []
    return report(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("many")
    command.add_argument("--kernels", type=int, default=20)
    command.set_defaults(run=many)
    command = commands.add_parser("students")
    command.add_argument("--students", type=int, default=20)
    command.add_argument("--notebook", default="2_attention")
    command.add_argument("--cells", type=int, default=16)
    command.set_defaults(run=students)
    command = commands.add_parser("soak")
    command.add_argument("--minutes", type=float, default=60)
    command.add_argument("--seed", type=int, default=1)
    command.set_defaults(run=soak)
    arguments = parser.parse_args()
    sys.exit(arguments.run(arguments))


if __name__ == "__main__":
    main()
