"""Runs one measurement in a process of its own, and says whether it can be trusted.

``measure`` starts ``bench.child`` with a specification and reads its answer. A row taken while
other processes used over a tenth of a core is void: the child compares the processor time that
the whole machine used with its own and its descendants' (``Window``), and the row is taken again.

Used by the tables (``uk_housing``, ``ridge``, ``nodes``) in the parent and by ``child``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The pipelines are those of the demonstrations, found by path: see stratum/demo/__init__.py.
DEMO = ROOT / "python" / "stratum" / "demo"

# Processor time of others, in cores, above which a row is void.
NOISE = 0.10
PACKAGES = (
    "stratum",
    "skrub",
    "scikit-learn",
    "pandas",
    "numpy",
    "scipy",
    "lightgbm",
    "xgboost-cpu",
)
TICKS = os.sysconf("SC_CLK_TCK")


# -- In the measured process --------------------------------------------------------------------


def machine_seconds() -> tuple[float, float]:
    """Processor time that this machine has used, and that a hypervisor took, in seconds."""
    with open("/proc/stat", encoding="ascii") as file:
        numbers = [int(part) for part in file.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = numbers[:8]
    return (user + nice + system + irq + softirq) / TICKS, steal / TICKS


def own_seconds(root: int | None = None) -> float:
    """Processor time of a process and all its descendants, those that ended included."""
    root = os.getpid() if root is None else root
    parents, used = {}, {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            text = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since the listing; its parent has its time
        # The name, in parentheses, may hold anything; the numbers follow the last one.
        fields = text.rpartition(")")[2].split()
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        used[pid] = sum(map(int, fields[11:15])) / TICKS
    total = 0.0
    for pid, seconds in used.items():
        above: int | None = pid
        while above is not None and above != root:
            above = parents.get(above)
        if above == root:
            total += seconds
    return total


@dataclass
class Window:
    """A stretch of time, with the processor time that others used meanwhile."""

    start: float = field(default_factory=time.perf_counter)
    machine: tuple[float, float] = field(default_factory=machine_seconds)
    own: float = field(default_factory=own_seconds)

    def close(self) -> dict[str, float]:
        """Seconds that passed, and the cores that we, others and the hypervisor used."""
        wall = time.perf_counter() - self.start
        own = own_seconds() - self.own
        busy, stolen = machine_seconds()
        others = busy - self.machine[0] - own
        return {
            "wall": wall,
            "own": own / wall,
            "others": max(others, 0.0) / wall,
            "stolen": (stolen - self.machine[1]) / wall,
        }


def peak_memory() -> dict[str, float]:
    """Largest resident memory so far, in MiB: of this process, and of a child that ended."""
    return {
        "self": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


# -- In the parent ------------------------------------------------------------------------------


class Failed(RuntimeError):
    """A measured process that ended with an error."""


def measure(spec: dict[str, Any], tries: int = 5, pause: float = 10.0) -> dict[str, Any]:
    """Take one row, again while it is void.

    Parameters
    ----------
    spec : dict
        For ``bench.child``: at least ``table`` and ``side``.
    tries : int
        How often at most.
    pause : float
        Seconds to wait after a void row, for the machine to come to rest.

    Returns
    -------
    dict
        The answer of the child, with ``void``: whether even the last try was disturbed, and
        ``tries``.

    Raises
    ------
    Failed
        When the process ends with an error.
    """
    for attempt in range(1, tries + 1):
        answer = run_child(spec)
        answer["tries"] = attempt
        answer["void"] = answer["window"]["others"] > NOISE
        if not answer["void"]:
            break
        others = answer["window"]["others"]
        print(f"  void: others used {others:.2f} cores (try {attempt} of {tries})", flush=True)
        if attempt < tries:
            time.sleep(pause)
    return answer


def run_child(spec: dict[str, Any]) -> dict[str, Any]:
    """Start ``bench.child`` once and read its answer."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STRATUM")}
    environment["PYTHONUNBUFFERED"] = "1"
    environment["STRATUM_REUSE"] = "off"  # what is measured is computed; the table of reuse says what it keeps
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        errors = Path(folder) / "errors.txt"
        command = [sys.executable, "-m", "bench.child", json.dumps(spec), str(out)]
        # Warnings go to a file: a terminal or a pipe would be drawn into the measured time.
        with errors.open("wb") as stream:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=stream, stderr=stream
            )
        if done.returncode != 0:
            tail = errors.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise Failed(f"{spec} ended with {done.returncode}:\n{tail}")
        return json.loads(out.read_text(encoding="utf-8"))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages measured; a missing one is said to be so."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> str:
    """The machine in one line: processor, cores, memory, system."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"
