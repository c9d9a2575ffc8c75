"""Run random graphs through both sides and say where they part.

``python -m tests.differential.run --seed S --count N`` runs the recipes of the seeds S .. S+N-1.
Both sides are long-lived processes (``side``); a side that dies or hangs is reported with the
recipe it was at, and started again. The tests call ``compare_seeds``.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import queue
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parents[2]
if __package__ in (None, ""):
    sys.path.insert(0, str(_ROOT))

from tests.differential import compare, generate  # noqa: E402

AT_LEAST = 20
GRACE = 30.0
# How many times the rows: kernels that transform begin at 100.
ROWS = {"identical": 1, "equivalent": 6}


class SideProcess:
    """A side and the way to talk to it.

    Parameters
    ----------
    engine : str
        ``"skrub"`` or ``"stratum"``.
    plant : str, optional
        A fault to plant.
    limit : float
        Seconds that one recipe may take.
    faulty : bool
        Use the build of stratum with planted faults, if there is one.
    exactness : str
        ``"identical"``, or ``"equivalent"``: the default, so nothing is set.
    """

    def __init__(
        self,
        engine: str,
        plant: str | None = None,
        limit: float = 180.0,
        *,
        faulty: bool = False,
        exactness: str = "identical",
    ) -> None:
        self.engine, self.plant, self.limit, self.exactness = engine, plant, limit, exactness
        self.faulty = faulty or plant is not None
        self.process: subprocess.Popen[bytes] | None = None
        self.log = tempfile.TemporaryFile()
        self.buffer = b""

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "tests.differential.side", "--engine", self.engine]
        command += ["--limit", str(self.limit)]
        if self.plant is not None:
            command += ["--plant", self.plant]
        environment = dict(os.environ, PYTHONHASHSEED="0" if self.engine == "skrub" else "1")
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            environment[name] = "1"
        environment["STRATUM_PROGRESS"] = "0"
        environment.pop("STRATUM_EXACTNESS", None)
        if self.exactness != "equivalent":
            environment["STRATUM_EXACTNESS"] = self.exactness
        # With STRATUM_DIFF_REUSE everything that may be kept is: a recipe runs several searches and evaluations of one
        # graph. Not by default: what a MinHashEncoder remembers of strings it has seen is then of fewer strings.
        keeps = bool(environment.get("STRATUM_DIFF_REUSE"))
        environment["STRATUM_REUSE"], environment["STRATUM_REUSE_SECONDS"] = ("memory", "0") if keeps else ("off", "0")
        if self.faulty and environment.get("STRATUM_FAULTS"):
            # A build of stratum whose C library has the planted faults compiled in.
            paths = [environment["STRATUM_FAULTS"], environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
        self.buffer = b""
        self.process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )

    def send(self, recipe: dict[str, Any]) -> None:
        """Hand over a recipe."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(recipe).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The next ``receive`` reports what happened to the process.

    def begin_fault(self, name: str) -> None:
        """Plant a fault in a fork of the process; what is sent next goes to the fork."""
        self.send({"plant": name})
        answer = self.receive()
        if answer != {"planted": name}:
            raise RuntimeError(f"{name} could not be planted: {answer}\n{self.last_words()}")

    def end_fault(self) -> None:
        """End the fork; a process without one takes no notice."""
        if self.process is not None and self.process.poll() is None:
            self.send({"end": True})
            self.receive()

    def receive(self) -> dict[str, Any]:
        """The result of the recipe handed over last, or what befell the process."""
        assert self.process is not None and self.process.stdout is not None
        until = time.monotonic() + self.limit + GRACE
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.process.kill()
                self.process.wait()
                return {"hung": self.engine}
            data = os.read(descriptor, 1 << 20)
            if not data:
                code = self.process.wait()
                return {"died": self.engine, "code": code, "last words": self.last_words()}
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def last_words(self) -> str:
        """The end of what the process wrote to its standard error."""
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 2000))
        return self.log.read().decode(errors="replace")

    def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            assert self.process.stdin is not None
            try:
                self.process.stdin.close()
                self.process.wait(timeout=20)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                self.process.wait()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


@dataclasses.dataclass
class Outcome:
    """What came of a number of recipes."""

    differences: list[str] = dataclasses.field(default_factory=list)
    coverage: dict[str, int] = dataclasses.field(default_factory=dict)
    fallbacks: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    warnings: dict[str, int] = dataclasses.field(default_factory=dict)
    graphs: int = 0
    entries: int = 0
    entries_failed: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    exactness: set[str] = dataclasses.field(default_factory=set)
    # How many floats were equal, and how many were not: see ``compare.Tolerance``.
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)
    largest: dict[str, float] = dataclasses.field(default_factory=dict)

    def measured(self, tolerance: compare.Tolerance) -> None:
        """Count what was compared with a tolerance."""
        for name in ("exact", "rounded", "loosened", "decided"):
            self.numbers[name] = self.numbers.get(name, 0) + getattr(tolerance, name)
        kind = "loosened" if tolerance.loose > tolerance.relative else "rounded"
        self.largest[kind] = max(self.largest.get(kind, 0.0), tolerance.largest)

    def add(self, result: dict[str, Any], other: dict[str, Any]) -> None:
        """Count what one recipe covered on the plain side, and what the other side fell back on."""
        self.graphs += 1
        coverage = result.get("coverage") or {"nodes": [], "dtypes": [], "tags": [], "entries": []}
        counted = collections.Counter(self.coverage)
        entries = [t for t in coverage["entries"] if not t.startswith("node:")]
        scored = [t for t in coverage["entries"] if t.startswith("node:")]
        counted.update({f"node:{n}" for n in coverage["nodes"]} | set(scored))
        counted.update({f"dtype:{d}" for d in coverage["dtypes"]})
        counted.update(set(coverage["tags"]))
        counted.update(set(entries))
        self.coverage = dict(counted)
        failed = [e for _, e in result.get("entries", []) if isinstance(e, dict) and "error" in e]
        if "error" in result.get("build", {}):
            failed.append(result["build"])
        self.entries += max(1, len(result.get("entries", [])))
        self.entries_failed += len(failed)
        errors = collections.Counter(self.errors)
        errors.update(f["error"]["exception"] for f in failed)
        self.errors = dict(errors)
        fallbacks = collections.Counter(self.fallbacks)
        fallbacks.update(f"{what}: {reason}" for what, reason in other.get("fallbacks", []))
        self.fallbacks = dict(fallbacks)
        self.exactness |= {other["exactness"]} if "exactness" in other else set()
        for side, one in (("left", result), ("right", other)):
            self.seconds[side] = self.seconds.get(side, 0.0) + one.get("seconds", 0.0)
        if result.get("warnings") != other.get("warnings"):
            only = collections.Counter(self.warnings)
            only.update(f"skrub only: {w}" for w in set(result.get("warnings", [])) - set(other.get("warnings", [])))
            only.update(f"stratum only: {w}" for w in set(other.get("warnings", [])) - set(result.get("warnings", [])))
            self.warnings = dict(only)

    def missing(self, at_least: int = AT_LEAST) -> dict[str, int]:
        """Kinds that were covered too rarely, with their counts."""
        return {k: self.coverage.get(k, 0) for k in expected() if self.coverage.get(k, 0) < at_least}

    def table(self) -> str:
        """The coverage, the failures and the fallbacks as text."""
        lines = [f"{self.graphs} graphs; {self.entries} entries, {self.entries_failed} of them failed on both sides"]
        for family in ("node", "choice", "splitter", "scorer", "entry", "batch", "dtype"):
            names = [k for k in expected() if k.startswith(f"{family}:")]
            lines.append(f"{family:>9}: " + " ".join(f"{n.split(':')[1]}={self.coverage.get(n, 0)}" for n in names))
        others = {k: v for k, v in sorted(self.coverage.items()) if ":" not in k}
        lines.append("    other: " + " ".join(f"{k}={v}" for k, v in others.items()))
        lines.append("   errors: " + " ".join(f"{k}={v}" for k, v in sorted(self.errors.items())))
        lines.append("  seconds: " + " ".join(f"{k}={v:.1f}" for k, v in self.seconds.items()))
        if self.numbers:
            lines.append("  numbers: " + " ".join(f"{k}={v}" for k, v in self.numbers.items()))
            lines.append("    apart: " + " ".join(f"{k}={v:.1e}" for k, v in self.largest.items()))
        for what, count in sorted(self.warnings.items(), key=lambda p: -p[1])[:8]:
            lines.append(f" warnings: {count} x {what}")
        for what, count in sorted(self.fallbacks.items(), key=lambda p: -p[1]):
            lines.append(f" fallback: {count} x {what}")
        return "\n".join(lines)


def expected() -> list[str]:
    """Every kind that must be covered."""
    return (
        [f"node:{n}" for n in generate.NODES]
        + [f"choice:{c}" for c in generate.CHOICES]
        + [f"splitter:{s}" for s in generate.SPLITTERS]
        + [f"scorer:{s}" for s in generate.SCORERS]
        + [f"entry:{e}" for e in generate.ENTRIES]
        + ["batch:completed", "batch:return"]
        + [f"dtype:{d}" for d in [*generate.DTYPES, "polars", "numpy"]]
    )


def compare_seeds(
    seeds: Iterable[int],
    *,
    right: str = "stratum",
    plant: str | None = None,
    workers: int = 2,
    limit: float = 180.0,
    stop_at: int = 5,
    on_difference: Callable[[str], None] | None = None,
    recipes: dict[int, dict[str, Any]] | None = None,
    exactness: str = "identical",
) -> Outcome:
    """Run the recipes of these seeds on both sides and compare.

    Parameters
    ----------
    seeds : iterable of int
        The seeds.
    right : str
        The engine of the right side; the left side is always plain skrub.
    plant : str, optional
        A fault to plant in the right side.
    workers : int
        Pairs of processes.
    limit : float
        Seconds that a recipe may take on one side.
    stop_at : int
        Stop after so many differences.
    on_difference : callable, optional
        Called with the text of each difference as it is found.
    recipes : dict, optional
        Recipes to use instead of the generated ones, by seed.
    exactness : str
        ``"identical"``: bit by bit. ``"equivalent"``: stratum as its users get it, on more rows, so that kernels are
        at work, with the tolerance of ``compare.tolerance_for``.

    Returns
    -------
    Outcome
        The differences, and what was covered.
    """
    todo: queue.Queue[int] = queue.Queue()
    for seed in seeds:
        todo.put(seed)
    outcome = Outcome()
    lock = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        sides = (SideProcess("skrub", limit=limit), SideProcess(right, plant, limit, exactness=exactness))
        try:
            while len(outcome.differences) < stop_at and not failures:
                try:
                    seed = todo.get_nowait()
                except queue.Empty:
                    return
                recipe = (recipes or {}).get(seed) or generate.generate(seed, rows=ROWS[exactness])
                tolerance = compare.tolerance_for(recipe) if exactness == "equivalent" else None
                for side in sides:
                    side.send(recipe)
                left, other = sides[0].receive(), sides[1].receive()
                problem = next(
                    (f"seed {seed}: {r} on the {name} side\nrecipe: {json.dumps(recipe)}\n"
                     f"again:  {compare.again(seed, tolerance)}"
                     for name, r in (("left", left), ("right", other))
                     if {"hung", "died", "timeout"} & set(r)),
                    None,
                ) or compare.report(recipe, left, other, tolerance)  # fmt: skip
                with lock:
                    outcome.add(left, other)
                    if tolerance is not None:
                        outcome.measured(tolerance)
                    if problem is not None:
                        outcome.differences.append(problem)
                        if on_difference is not None:
                            on_difference(problem)
        except BaseException as error:
            failures.append(error)
        finally:
            for side in sides:
                side.stop()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return outcome


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Random graphs through skrub and stratum.")
    parser.add_argument("--seed", type=int, default=None, help="first seed (default: a fresh one, printed)")
    parser.add_argument("--count", type=int, default=300, help="how many graphs")
    parser.add_argument("--soak", action="store_true", help="5,000 graphs")
    parser.add_argument("--workers", type=int, default=2, help="pairs of processes")
    parser.add_argument("--right", choices=["stratum", "skrub"], default="stratum", help="engine under test")
    parser.add_argument("--plant", default=None, help="plant a fault in the engine under test")
    parser.add_argument("--stop-at", type=int, default=5, help="stop after so many differences")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds a graph may take on a side")
    parser.add_argument("--exactness", choices=sorted(ROWS), default="identical", help="how exact stratum is to be")
    parser.add_argument("--print-coverage", action="store_true")
    parser.add_argument("--print-recipes", action="store_true", help="print recipes and run nothing")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    count = 5000 if options.soak else options.count
    print(f"seeds {seed} .. {seed + count - 1}", flush=True)
    if options.print_recipes:
        for one in range(seed, seed + count):
            print(json.dumps(generate.generate(one, rows=ROWS[options.exactness])))
        return 0
    started = time.monotonic()
    outcome = compare_seeds(
        range(seed, seed + count),
        right=options.right,
        plant=options.plant,
        workers=max(1, min(options.workers, count)),
        limit=options.limit,
        stop_at=options.stop_at,
        exactness=options.exactness,
        on_difference=lambda text: print(text, flush=True),
    )
    if options.print_coverage or options.soak:
        print(outcome.table())
        for kind, times in outcome.missing(AT_LEAST if count >= 300 else 1).items():
            print(f"covered too rarely: {kind} ({times})")
    print(
        f"{outcome.graphs} graphs, {len(outcome.differences)} different, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
