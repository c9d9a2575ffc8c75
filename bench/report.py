"""What a table is made of, how it is printed, kept and written into ``docs/bench.md``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import harness

DOCS = harness.ROOT / "docs" / "bench.md"
RESULTS = harness.ROOT / "bench" / "results"
QUICK_RESULTS = harness.ROOT / "build" / "bench"

HEAD = """# Measurements

Written by `make bench`. Each row is taken in a process of its own; the clock runs from the first
DataOp to the result. A row taken while other processes used over {noise:.0%} of a core is void and
is taken again; one marked void was disturbed at every try and proves nothing.
"""


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    quick: bool = False
    rows: int | None = None
    tries: int = 5
    sides: tuple[str, ...] = ("skrub", "stratum")
    only: tuple[str, ...] = ()
    failed: list[str] = field(default_factory=list)

    def wanted(self, label: str, side: str) -> bool:
        """Whether to take a row."""
        return side in self.sides and (not self.only or any(o in label for o in self.only))

    def measure(self, label: str, spec: dict[str, Any]) -> dict[str, Any] | None:
        """Take a row; None where its process failed, which is printed and kept in ``failed``."""
        print(f"{label} ...", flush=True)
        try:
            return harness.measure(spec, tries=self.tries, pause=1.0 if self.quick else 10.0)
        except harness.Failed as error:
            print(f"  FAILED: {error}", flush=True)
            self.failed.append(label)
            return None

    def say(self, label: str, answer: dict[str, Any]) -> None:
        """Print how long a row took."""
        window = answer["window"]
        print(
            f"  {label}: {answer['total']:.3g} s, peak {answer['memory']['peak']:.0f} MiB, "
            f"cores {window['own']:.2f} (others {window['others']:.2f}, "
            f"stolen {window['stolen']:.2f}){', VOID' if answer['void'] else ''}",
            flush=True,
        )


@dataclass(frozen=True)
class Target:
    """A bound that a measured value is to keep.

    Attributes
    ----------
    text : str
        What was measured.
    value : float or None
        None where a row that it needs was not taken.
    sign : str
        ``>=`` or ``<=``.
    bound : float
        What is to be reached.
    """

    text: str
    value: float | None
    sign: str
    bound: float

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.sign == ">=" else self.value <= self.bound

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.text}: not measured ({self.sign} {self.bound:g})"
        verdict = "met" if self.met else "MISSED"
        return f"{self.text}: {self.value:.2f} ({self.sign} {self.bound:g}: {verdict})"


@dataclass
class Result:
    """One table, as it is kept in ``bench/results``."""

    name: str
    title: str
    columns: list[str]
    lines: list[list[str]]
    targets: list[Target]
    answers: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything, with date, machine and versions."""
        return {
            "name": self.name,
            "title": self.title,
            "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            "machine": harness.machine(),
            "versions": harness.versions(),
            "columns": self.columns,
            "lines": self.lines,
            "targets": [str(target) for target in self.targets],
            "met": [target.met for target in self.targets],
            "notes": self.notes,
            "answers": self.answers,
        }


def keep(result: Result, folder: Path) -> dict[str, Any]:
    """Write a table's JSON; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    content = result.as_json()
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def markdown(content: dict[str, Any]) -> str:
    """One table as Markdown."""
    columns, lines = content["columns"], content["lines"]
    # A column is set to the right where it holds numbers.
    right = [
        all(not line[at] or line[at][0].isdigit() for line in lines)
        for at in range(len(columns))
    ]
    rule = ["---:" if flush else "---" for flush in right]
    rows = [columns, rule, *lines]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    parts = [
        f"## {content['title']}",
        f"{content['date']}; {content['machine']}; {versions}.",
        table,
        "\n".join(f"- {target}" for target in content["targets"]),
        "\n".join(content["notes"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_docs(names: Sequence[str]) -> None:
    """Write ``docs/bench.md`` from the tables kept, in the order of ``names``."""
    parts = [HEAD.format(noise=harness.NOISE)]
    for name in names:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(markdown(json.loads(path.read_text(encoding="utf-8"))))
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text("\n".join(parts), encoding="utf-8")


def text(content: dict[str, Any]) -> str:
    """One table for the terminal."""
    rows = [content["columns"], *content["lines"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([content["title"], *lines, *content["targets"], *content["notes"]])
