"""Checks vitlab on a GPU and measures it beside PyTorch. At most eight minutes; nothing is compiled but by torch.compile.

    cargo test -p vitlab --test device --no-run      # prints the path of the tests' binary
    .venv/bin/python tests/gpu.py --vitlab .venv/bin/vitlab --tests target/debug/deps/device-HASH --data FOLDER --json gpu.json

Another machine needs the two binaries, this folder, models/ViT_model.pt, FashionMNIST, and a Python with the torch that
the binaries were built with. Without a GPU the same steps run on the CPU, and the figures are those of a CPU.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import torch

HERE = pathlib.Path(__file__).resolve().parent
WEIGHTS = HERE.parent / "models" / "ViT_model.pt"
STEPS_PER_EPOCH = 468

# Name, vitlab's model, and PyTorch's: the homework's code, and the same training as an expert writes it.
MODELS = [("ViT", "vit"), ("DeiT with teacher", "deit"), ("CNN", "cnn")]


class Worker:
    """A program that answers each line of JSON with a line of JSON, as those of `cargo lab bench` do."""

    def __init__(self, command, environment, **hello):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.ask("hello", **hello)

    def ask(self, do, **request):
        print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else {"error": "ended without an answer"}
        if "error" in reply:
            raise SystemExit(f"{' '.join(map(str, self.process.args))}: {do}: {reply['error']}")
        return reply["ok"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def environment():
    """The binaries look for libtorch beside this Python's torch."""
    libraries = str(pathlib.Path(torch.__file__).parent / "lib")
    known = [path for path in (libraries, os.environ.get("LD_LIBRARY_PATH")) if path]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(known)}


def check(tests):
    """Logits, gradients and rollouts on the device against the CPU engine, without TF32. Returns the last line."""
    command = [tests, "--test-threads=1"]
    run = subprocess.run(command, env={**environment(), "NVIDIA_TF32_OVERRIDE": "0"}, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{tests} failed:\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}")
    return next(line for line in run.stdout.splitlines() if line.startswith("test result"))


def seconds(worker, model, steps, rounds):
    """Seconds per step, a list of one number per round, after a warm-up of as many steps as a round, at most 20."""
    worker.ask("train", model=model, steps=min(steps, 20))
    return [worker.ask("train", model=model, steps=steps)["seconds"] / steps for _ in range(rounds)]


def measure_training(workers, arguments):
    """Rows of name, seconds per step of vitlab, of the homework's code and of an expert's, each a list."""
    vitlab, pytorch = workers
    rows = []
    for name, model in MODELS:
        ours = seconds(vitlab, model, arguments.steps, arguments.rounds)
        expert = f"{model}-expert-plain" if arguments.plain else f"{model}-expert"
        experts = seconds(pytorch, expert, arguments.steps, arguments.rounds)
        # The homework's loader augments image by image on the CPU: a part of an epoch is enough.
        homeworks = seconds(pytorch, model, max(1, arguments.steps // 8), arguments.rounds)
        rows.append({"model": name, "vitlab": ours, "homework": homeworks, "expert": experts})
        print(f"{name}: measured", file=sys.stderr)
    return rows


def measure_rollouts(workers, arguments):
    """Images per second of vitlab in batches of 400, and of vit-explain's way, one image at a time."""
    vitlab, pytorch = workers
    rates = {}
    for name, worker, images in [("vitlab", vitlab, arguments.images), ("pytorch", pytorch, max(1, arguments.images // 30))]:
        request = {"weights": str(WEIGHTS), "images": images, "batch": 400}
        worker.ask("explain", **request)
        rates[name] = [images / worker.ask("explain", **request)["seconds"] for _ in range(arguments.rounds)]
    return rates


def table(result):
    """The figures as Markdown."""
    def epoch(steps):
        return statistics.median(steps) * STEPS_PER_EPOCH

    head = "| model | vitlab, s per epoch | homework's PyTorch | expert's PyTorch | homework's / vitlab's | expert's / vitlab's |"
    lines = [head, "|---|---|---|---|---|---|"]
    for row in result["training"]:
        ours, homework, expert = (epoch(row[key]) for key in ("vitlab", "homework", "expert"))
        lines.append(
            f"| {row['model']} | {ours:.2f} | {homework:.2f} | {expert:.2f} | {homework / ours:.2f} | {expert / ours:.2f} |"
        )
    ours, theirs = (statistics.median(result["rollouts"][name]) for name in ("vitlab", "pytorch"))
    lines += ["", f"Rollouts: vitlab {ours:.0f} images/s in batches, PyTorch {theirs:.0f} one by one ({ours / theirs:.1f} times)."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vitlab", default=str(HERE.parent / ".venv" / "bin" / "vitlab"), help="the command vitlab")
    parser.add_argument("--tests", help="binary of tests/device.rs; without it only speed is measured")
    parser.add_argument("--data", required=True, help="folder with the files of FashionMNIST")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--steps", type=int, default=STEPS_PER_EPOCH, help="training steps per round (default: an epoch)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="images to explain per round")
    parser.add_argument("--plain", action="store_true", help="never use torch.compile, which takes minutes on a CPU")
    parser.add_argument("--json", type=pathlib.Path, help="file for the figures")
    arguments = parser.parse_args()
    start = time.monotonic()

    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name(0) if device == "cuda" else "no GPU: this is the CPU, and a GPU is not measured"
    result = {"device": name, "torch": torch.__version__, "steps": arguments.steps, "rounds": arguments.rounds}
    result["tests"] = check(arguments.tests) if arguments.tests else "not run"

    hello = {"data": arguments.data, "threads": torch.get_num_threads(), "device": device}
    programs = [[arguments.vitlab, "bench"], [sys.executable, str(HERE / "reference" / "bench.py")]]
    workers = [Worker(program, environment(), **hello) for program in programs]
    result["training"] = measure_training(workers, arguments)
    result["rollouts"] = measure_rollouts(workers, arguments)
    for worker in workers:
        worker.close()
    result["minutes"] = (time.monotonic() - start) / 60
    print(f"{name}; torch {torch.__version__}; {result['tests']}\n\n{table(result)}\n\n{result['minutes']:.1f} minutes")
    if arguments.json:
        temporary = arguments.json.with_suffix(".new")
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        temporary.replace(arguments.json)


if __name__ == "__main__":
    main()
