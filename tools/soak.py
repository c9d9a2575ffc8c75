#!/usr/bin/env python3
"""The long tests, one after another, and a report of them in docs/soak.md.

``make soak`` runs it with the environment's Python from the root of the tree. Each step is a
command; it fails when the command does. The report says what ran, for how long, with which versions
and the last lines of each step; the exit status is 1 when any step failed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "numpy", "scipy", "pandas", "polars", "scikit-learn", "skrub", "lightgbm", "xgboost-cpu",
)  # fmt: skip


@dataclass
class Step:
    """One command of the soak test."""

    name: str
    command: Sequence[str]
    lines: int = 12  # how much of the end of its output the report keeps


@dataclass
class Outcome:
    """What became of a step."""

    step: Step
    status: int | None  # None: left out
    seconds: float
    tail: str


def steps(graphs: int, searches: int, fuzz: int, seed: int) -> list[Step]:
    """All steps, the quick ones first."""
    python = sys.executable
    fuzzers = sorted((ROOT / "fuzz").glob("fuzz_*.c"))
    found = [
        Step("C tests under ASan and UBSan", ["make", "asan"]),
        Step("C tests under TSan", ["make", "tsan"]),
        Step("C tests under valgrind", ["make", "valgrind"]),
    ]
    for source in fuzzers:
        program = ROOT / "build" / "asan" / "fuzz" / source.stem
        found.append(
            Step(f"{source.stem} under ASan, {fuzz:,} inputs", [str(program), str(fuzz), str(seed)])
        )
    found.append(
        Step(
            f"memory over {searches:,} searches",
            [python, "tools/soak_memory.py", "--searches", str(searches)],
        )
    )
    found.append(
        Step(
            f"{graphs:,} random graphs against skrub",
            [
                *(python, "-m", "tests.differential.run"),
                *("--seed", str(seed), "--count", str(graphs), "--print-coverage"),
            ],
            lines=100,
        )
    )
    return found


def run(step: Step) -> Outcome:
    """Run one step, its output shown as it comes."""
    print(f"== {step.name}", flush=True)
    start = time.monotonic()
    process = subprocess.Popen(
        step.command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    kept: list[str] = []
    for line in process.stdout:
        print(line, end="", flush=True)
        kept = [*kept[-(step.lines - 1) :], line.rstrip().replace(str(ROOT), ".")]
    return Outcome(step, process.wait(), time.monotonic() - start, "\n".join(kept))


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit that was tested, and whether the tree differs from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if head.returncode != 0:
        return "no commit"
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def report(outcomes: Sequence[Outcome], seed: int) -> str:
    """The text of docs/soak.md."""
    today = datetime.date.today().isoformat()
    lines = [
        "# Soak test",
        "",
        f"Written by `make soak` on {today} at commit {commit()}: {processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f". Seed {seed}.",
        "",
        "| step | result | seconds |",
        "| --- | --- | ---: |",
    ]
    for outcome in outcomes:
        if outcome.status is None:
            result = f"left out: {outcome.tail}"
        else:
            result = "passed" if outcome.status == 0 else f"**failed** ({outcome.status})"
        lines.append(f"| {outcome.step.name} | {result} | {outcome.seconds:.0f} |")
    for outcome in outcomes:
        if outcome.status is not None:
            lines += ["", f"## {outcome.step.name}", "", "```", outcome.tail, "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the steps and write the report; 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=5000)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--fuzz", type=int, default=100_000, help="inputs a fuzz driver")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", help="steps whose name has this in it")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "soak.md")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    outcomes = []
    for step in steps(arguments.graphs, arguments.searches, arguments.fuzz, arguments.seed):
        if arguments.only and arguments.only not in step.name:
            continue
        if "valgrind" in step.command and shutil.which("valgrind") is None:
            outcomes.append(Outcome(step, None, 0.0, "valgrind is not installed"))
        else:
            outcomes.append(run(step))
        # After each step, so that a soak that is stopped leaves what it has found.
        arguments.output.write_text(report(outcomes, arguments.seed), encoding="utf-8")
    if not outcomes:
        print("no step has that name", file=sys.stderr)
        return 2
    return int(any(outcome.status not in (0, None) for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
