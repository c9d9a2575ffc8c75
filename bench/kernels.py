"""Table: each kernel against the original, by rows and threads. ``python -m bench.kernels``.

A row is taken in a process of its own, original and native in turns, the least time of each. The original has
as many threads of BLAS and OpenMP as help it: both counts are tried and the better one taken. Families of
kernels list their cases in ``bench/kernel_*.py``. Writes ``docs/bench-kernels.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import harness, report
from .kernel_case import Case

NAME = "kernels"
FAMILIES = ("kernel_text", "kernel_numeric", "kernel_encoders", "kernel_metrics")
DOCS = harness.ROOT / "docs" / "bench-kernels.md"
HEAD = """# Kernels

Written by `make bench-kernels`: estimators of `stratum.native` against the originals, each row in a process of
its own, original and native in turns, least time of each. A row taken while other processes used over
{noise:.0%} of a core is void.
"""
# Seconds that the turns of one row may take after the first, and how many there are at most.
BUDGET, TURNS = 5.0, 7


def cases() -> dict[str, Case]:
    """All cases by name; families that are not there are left out."""
    found: dict[str, Case] = {}
    for family in FAMILIES:
        if importlib.util.find_spec(f"bench.{family}") is not None:
            for case in importlib.import_module(f"bench.{family}").CASES:
                found[case.name] = case
    return found


# -- In the measured process --------------------------------------------------------------------


@contextlib.contextmanager
def native_threads(n: int) -> Iterator[None]:
    """Let native estimators use ``n`` threads."""
    from stratum import native

    with native.config_context(n_threads=n):
        yield


def peak_of(call: Callable[[], Any]) -> float:
    """MiB that a call had resident at most, over what there was before."""

    def value(name: str) -> int:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        raise RuntimeError(f"/proc/self/status has no {name}")

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = value("VmRSS")
    call()
    return (value("VmHWM") - before) / 1024


def prepare(library: Any, spec: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Make the data; returns the function that is measured."""
    from threadpoolctl import threadpool_limits

    del library
    case = cases()[spec["case"]]
    threads = spec["threads"]
    data = case.make(spec["rows"])

    def original() -> Any:
        return case.original(data)

    def native() -> Any:
        with native_threads(threads):
            return case.native(data)

    def job() -> dict[str, Any]:
        limits = sorted({1, threads})
        least: dict[str, float] = {}
        peaks = {}
        start = None
        for _ in range(TURNS):
            for limit in limits:
                with threadpool_limits(limit):
                    for name, call in (("original", original), ("native", native)):
                        if name not in peaks:
                            peaks[name] = peak_of(call)
                            continue
                        wall, used = time.perf_counter(), time.process_time()
                        call()
                        wall, used = time.perf_counter() - wall, time.process_time() - used
                        least[name] = min(least.get(name, wall), wall)
                        least[f"{name}_cpu"] = min(least.get(f"{name}_cpu", used), used)
            if start is None:
                start = time.perf_counter()
            elif time.perf_counter() - start > BUDGET and "original" in least:
                break
        return {**least, "peaks": peaks, "total": least["native"]}

    return job


# -- In the parent ------------------------------------------------------------------------------


def take(options: report.Options, sizes: tuple[int, ...] | None, threads: tuple[int, ...]) -> report.Result:
    """Take all rows."""
    lines, answers, targets = [], {}, []
    for case in cases().values():
        for rows in sizes or case.sizes:
            for n in threads:
                label = f"{case.name}, {rows:,} rows, {n} threads"
                if not options.wanted(label, "stratum"):
                    continue
                spec = {"table": NAME, "side": "stratum", "case": case.name, "rows": rows, "threads": n}
                answer = options.measure(label, spec)
                if answer is None:
                    continue
                options.say(label, answer)
                answers[label] = answer
                ratio = answer["original"] / answer["native"]
                by_cpu = answer["original_cpu"] / answer["native_cpu"]
                print(f"  {ratio:.1f} times, {by_cpu:.1f} by processor time", flush=True)
                lines.append([
                    case.name, f"{rows:,}", f"{n}", f"{answer['original']:.4g}", f"{answer['native']:.4g}",
                    f"{ratio:.1f}", f"{by_cpu:.1f}", f"{answer['peaks']['original']:.0f}",
                    f"{answer['peaks']['native']:.0f}", "void" if answer["void"] else "",
                ])  # fmt: skip
                if case.target and rows == case.target_rows and n == max(threads):
                    targets.append(report.Target(f"{case.name}: times", ratio, ">=", case.target))
    columns = [
        "kernel", "rows", "threads", "original (s)", "native (s)", "times", "by processor time",
        "original (MiB)", "native (MiB)", "",
    ]  # fmt: skip
    return report.Result(NAME, "Kernels against the originals", columns, lines, targets, answers)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help="only these sizes")
    parser.add_argument("--threads", type=int, action="append", help="only these (default: 1 and 2)")
    parser.add_argument("--only", action="append", default=[], help="only rows whose label holds this")
    parser.add_argument("--tries", type=int, default=5, help="how often a disturbed row is taken")
    parser.add_argument("--check", action="store_true", help="status 1 where a target is missed")
    given = parser.parse_args(arguments)
    options = report.Options(tries=given.tries, quick=given.tries == 1, only=tuple(given.only))
    partial = bool(given.rows or given.threads or given.only)
    print(harness.machine(), flush=True)
    result = take(
        options, tuple(given.rows) if given.rows else None, tuple(given.threads) if given.threads else (1, 2)
    )
    content = report.keep(result, report.QUICK_RESULTS if partial else report.RESULTS)
    print(report.text(content), flush=True)
    if not partial:
        DOCS.write_text(HEAD.format(noise=harness.NOISE) + "\n" + report.markdown(content), encoding="utf-8")
    if options.failed:
        print(f"failed: {', '.join(options.failed)}")
        return 1
    return 1 if given.check and not all(target.met for target in result.targets) else 0


if __name__ == "__main__":
    sys.exit(main())
