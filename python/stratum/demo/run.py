"""The demonstrations with stratum: runs, prints the leaderboard, compares with plain skrub.

Called by the command line (``stratum.cli``) and by the tests. Everything is printed through one
``say`` so that tests read it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import stratum

from . import agent, flights, uk_housing

WORKLOADS: dict[str, ModuleType] = {"flights": flights, "uk-housing": uk_housing}

Say = Callable[[str], None]


class DemoError(Exception):
    """Something that the user can mend: a package to install, a file that is not there."""


def demo(
    name: str = "flights",
    rows: int | None = None,
    compare: bool = False,
    csv: str | None = None,
    seed: int = 0,
    explain: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Run one demonstration and print what came of it.

    Parameters
    ----------
    name : str
        One of `WORKLOADS`.
    rows : int or None
        How many rows of the data to take; None for the workload's own number.
    compare : bool
        Whether to run plain skrub on the same, in a process of its own, afterwards.
    csv : str or None
        The price-paid file, for ``uk-housing``.
    seed : int
        Seeds the rows drawn, the folds and the tuning.
    explain : bool
        Whether to print the plan of each iteration.
    say : callable
        Prints a line.

    Returns
    -------
    dict
        What ``agent.play`` returned; with ``compare`` also ``compared``, from `differences`.

    Raises
    ------
    DemoError
        When the data cannot be had.
    """
    workload = WORKLOADS[name]
    rows = workload.DEFAULT_ROWS if rows is None else rows
    say(workload.TITLE)
    start = time.perf_counter()
    try:
        data = workload.load(rows, seed, csv)
    except (ImportError, OSError, ValueError) as error:
        raise DemoError(str(error)) from error
    shapes = ", ".join(f"{key} {len(table):,} x {table.shape[1]}" for key, table in data.items())
    say(f"read {shapes} in {time.perf_counter() - start:.1f} s\n")

    shared: list[str] = []

    def after(searches: Sequence[Any]) -> None:
        shared.append(shared_work(stratum.last_run()))
        if explain:
            shared.append(stratum.explain(list(searches)))

    result = agent.play(workload, stratum, stratum.run, data, seed, after)
    for line in leaderboard(result["entries"], workload.SCORE):
        say(line)
    say("")
    for line in times(result):
        say(line)
    for line in shared:
        say(line)
    if compare:
        say("\nthe same with plain skrub, in a process of its own ...")
        plain = play_plain(workload, rows, seed, csv)
        result["compared"] = differences(result, plain)
        for line in comparison(result, plain):
            say(line)
    return result


# -- What is printed ----------------------------------------------------------------------------


def leaderboard(entries: Sequence[dict[str, Any]], score: str, top: int = 12) -> list[str]:
    """The best candidates of both iterations, best first."""
    ranked = sorted(entries, key=lambda entry: -entry["mean"])
    rows = [("", "pipeline", "iteration", score, "+/-", "parameters")]
    for rank, entry in enumerate(ranked[:top], 1):
        parameters = ", ".join(f"{k}={short(v)}" for k, v in entry["parameters"].items())
        rows.append(
            (
                str(rank),
                entry["name"],
                str(entry["iteration"]),
                f"{entry['mean']:.4f}",
                f"{entry['spread']:.4f}",
                parameters,
            )
        )
    lines = table(rows)
    if len(ranked) > top:
        lines.append(f"... and {len(ranked) - top} more, down to {ranked[-1]['mean']:.4f}")
    return lines


def short(value: Any) -> str:
    """A parameter in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns; the first row is the head, columns of numbers are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [
        all(cell.replace(".", "").replace("-", "").isdigit() for cell in column[1:])
        for column in zip(*rows, strict=True)
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def times(result: dict[str, Any]) -> list[str]:
    """How long building and running took."""
    seconds = result["seconds"]
    counts = {
        number: sum(entry["iteration"] == number for entry in result["entries"])
        for number in (1, 2)
    }
    lines = [
        f"iteration {number}: {counts[number]} candidates in {seconds[f'run {number}']:.1f} s, "
        f"after {seconds[f'build {number}']:.1f} s of building"
        for number in (1, 2)
    ]
    lines[1] += f" (tuning {' + '.join(result['winner'])})"
    return [*lines, f"total: {seconds['total']:.1f} s"]


def shared_work(stats: Any) -> str:
    """One line on what a run shared and what fell back."""
    line = (
        f"shared: {stats.nodes_before:,} nodes asked for, {stats.nodes_after:,} distinct, "
        f"{stats.nodes_run:,} run"
    )
    if stats.fallbacks:
        reasons = sorted({f"{what} ({reason})" for what, reason in stats.fallbacks})
        line += f"; fell back to skrub: {'; '.join(reasons)}"
    return line


# -- Plain skrub --------------------------------------------------------------------------------


def play_plain(workload: ModuleType, rows: int, seed: int, csv: str | None) -> dict[str, Any]:
    """Run ``plain.py`` and read what it wrote."""
    script = Path(__file__).with_name("plain.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STRATUM")}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "plain.json"
        command = [sys.executable, str(script), workload.__name__.rpartition(".")[2]]
        command += ["--rows", str(rows), "--seed", str(seed), "--out", str(out)]
        if csv is not None:
            command += ["--csv", csv]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"plain skrub ended with {done.returncode}:\n{done.stderr}")
        return json.loads(out.read_text(encoding="utf-8"))


def differences(result: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """The ratio of the times, and the largest difference of any score on any fold.

    Scores are compared candidate by candidate; where the two sides tuned different winners, those
    of the second iteration are left out and counted as ``unmatched``.
    """

    def by_candidate(side: dict[str, Any]) -> dict[tuple[Any, ...], list[float]]:
        return {
            (entry["iteration"], entry["name"], entry["candidate"]): [
                entry["mean"],
                *entry["folds"],
            ]
            for entry in side["entries"]
        }

    ours, theirs = by_candidate(result), by_candidate(plain)
    common = ours.keys() & theirs.keys()
    largest = max(
        (abs(a - b) for key in common for a, b in zip(ours[key], theirs[key], strict=True)),
        default=float("nan"),
    )
    return {
        "ratio": plain["seconds"]["total"] / result["seconds"]["total"],
        "largest": largest,
        "compared": sum(len(ours[key]) for key in common),
        "unmatched": len(ours.keys() ^ theirs.keys()),
    }


def comparison(result: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """The comparison in words."""
    found = result["compared"]
    lines = [
        f"plain skrub: {plain['seconds']['total']:.1f} s; "
        f"stratum: {result['seconds']['total']:.1f} s; ratio {found['ratio']:.2f}",
        f"largest difference of {found['compared']} scores: {found['largest']:.3g}",
    ]
    if found["unmatched"]:
        lines.append(
            f"{found['unmatched']} candidates stand on one side only: skrub tuned "
            f"{' + '.join(plain['winner'])}, stratum {' + '.join(result['winner'])}"
        )
    return lines
