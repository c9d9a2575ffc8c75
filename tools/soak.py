#!/usr/bin/env python3
"""The long tests, one after another, and a report of them in docs/soak.md.

``make soak`` runs it with the environment's Python from the root of the tree. Each step is a few
commands, and fails when one does. What became of a step is kept in docs/soak, with the commit, the
date, the seed and the versions that it ran with, so that one step can be taken again (``--only``);
docs/soak.md is written from all that is kept there. The exit status is 1 when any step failed.

The Python tests run on every Python that pyproject.toml names: on the environment's in ``make test``,
on the others here, each in an environment of its own below build/, where one can be found.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "soak.md"
RESULTS = ROOT / "docs" / "soak"
PACKAGES = (
    "numpy", "scipy", "pandas", "polars", "scikit-learn", "skrub", "lightgbm", "xgboost-cpu",
)  # fmt: skip
# What a Python is asked for its versions: they are those of its environment, not ours.
ASK_VERSIONS = (
    "import platform, sys\nfrom importlib.metadata import version\n"
    "print('Python', platform.python_version())\n"
    "for name in sys.argv[1:]: print(name, version(name))"
)


@dataclass
class Step:
    """One row of the report.

    Attributes
    ----------
    key : str
        Under which its outcome is kept; the same whatever the counts.
    name : str
        As the report has it.
    commands : list of list of str
        Run one after the other until one fails; the last one is the step, whose time counts.
    python : Path
        The Python whose versions belong to the row; it need not be there before the commands ran.
    lines : int
        How much of the end of its output the report keeps.
    path : Path, optional
        Stands before the others on PATH.
    seed : int, optional
        Where random numbers are used.
    obstacle : str, optional
        Why the step is left out.
    """

    key: str
    name: str
    commands: list[list[str]]
    python: Path = field(default_factory=lambda: Path(sys.executable))
    lines: int = 12
    path: Path | None = None
    seed: int | None = None
    obstacle: str | None = None


@dataclass
class Outcome:
    """What became of a step, as it is kept."""

    key: str
    name: str
    status: int | None  # None: left out
    seconds: float
    tail: str
    commit: str
    commit_time: int  # of the commit, in seconds: which of two is the newer one
    date: str
    machine: str
    versions: dict[str, str]
    seed: int | None = None


# -- What is run ----------------------------------------------------------------------------------


def steps(graphs: int, searches: int, fuzz: int, seed: int) -> list[Step]:
    """All steps, the quick ones first."""
    python = sys.executable
    meson = str(Path(python).parent / "meson")
    found = [
        Step("asan", "C tests under ASan and UBSan", [["make", "asan"]]),
        Step("tsan", "C tests under TSan", [["make", "tsan"]]),
        Step("valgrind", "C tests under valgrind", [["make", "valgrind"]]),
    ]
    if shutil.which("valgrind") is None:
        found[-1].obstacle = "valgrind is not installed"
    for source in sorted((ROOT / "fuzz").glob("fuzz_*.c")):
        program = ROOT / "build" / "asan" / "fuzz" / source.stem
        found.append(
            Step(
                source.stem,
                f"{source.stem} under ASan, {fuzz:,} inputs",
                [
                    ["make", "build/asan/build.ninja"],
                    [meson, "compile", "-C", "build/asan"],
                    [str(program), str(fuzz), str(seed)],
                ],
                seed=seed,
                lines=1,
            )
        )
    for key, name, arguments in (
        ("store-kills", "500 writers of a store killed, under ASan", ["kills", "500", str(seed)]),
        ("store-crowd", "8 processes on a store for 10 minutes, under ASan", ["crowd", "600", "8"]),
    ):
        found.append(
            Step(
                key,
                name,
                [
                    ["make", "build/asan/build.ninja"],
                    [meson, "compile", "-C", "build/asan"],
                    [str(ROOT / "build" / "asan" / "tests" / "c" / "test_store"), *arguments],
                ],
                seed=seed if key == "store-kills" else None,
                lines=2,
            )
        )
    found.append(
        Step(
            "memory",
            f"memory over {searches:,} searches",
            [[python, "tools/soak_memory.py", "--searches", str(searches)]],
        )
    )
    found.append(
        Step(
            "kernels",
            "kernels against their originals, thousands of random cases each",
            [["env", "STRATUM_TESTS=thorough", python, "-m", "pytest", "-q", "tests/python", "-m", "many"]],
        )
    )
    found.append(
        Step(
            "skrub-alone",
            "skrub's own tests without stratum",
            [["env", "STRATUM_BASELINE=1", python, "-m", "pytest", "-q", "tests/conformance/test_skrub.py", "-k", "alone"]],
            lines=3,
        )
    )
    found.append(step_of_older_sklearn("1.8"))
    for short in other_pythons():
        found += steps_of_python(short, seed)
    found.append(
        Step("graphs", f"{graphs:,} random graphs against skrub", [differential(python, graphs, seed)],
             lines=100, seed=seed)
    )  # fmt: skip
    found.append(
        Step("graphs-rounded", f"{graphs // 5:,} random graphs against skrub, kernels at the default exactness",
             [[*differential(python, graphs // 5, seed), "--exactness", "equivalent"]], lines=100, seed=seed)
    )  # fmt: skip
    return found


def differential(python: str, graphs: int, seed: int) -> list[str]:
    """The command that compares random graphs."""
    return [
        *(python, "-m", "tests.differential.run"),
        *("--seed", str(seed), "--count", str(graphs), "--print-coverage"),
    ]


def preparation(folder: Path, interpreter: str | None) -> tuple[Path, list[list[str]]]:
    """The Python of an environment below `folder`, and the commands that make it and install the package.

    Each step can be taken alone; what is there already costs seconds.
    """
    python = folder / "venv" / "bin" / "python"
    return python, [
        ["env", f"PYTHON={interpreter}", "tools/bootstrap.sh", str(folder / "venv")],
        [
            *(str(python), "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--force-reinstall"),
            *("--disable-pip-version-check", f"--config-settings=build-dir={folder / 'package'}", "."),
        ],
    ]  # fmt: skip


def step_of_older_sklearn(version: str) -> Step:
    """The Python tests with the oldest scikit-learn that is taken."""
    python, prepare = preparation(ROOT / "build" / f"sklearn{version}", sys.executable)
    older = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"scikit-learn=={version}.*"]
    return Step(
        key=f"sklearn{version}-tests",
        name=f"scikit-learn {version}: Python tests",
        commands=[*prepare, older, [str(python), "-m", "pytest", "-q", "tests/python", "tests/conformance"]],
        python=python,
        lines=40,
        path=python.parent,
    )


def steps_of_python(short: str, seed: int) -> Iterator[Step]:
    """The steps for another Python: its tests, and 300 graphs."""
    interpreter = find_python(short)
    python, prepare = preparation(ROOT / "build" / f"python{short}", interpreter)
    tests = [str(python), "-m", "pytest", "-q", "tests/python", "tests/conformance"]
    for key, name, command, lines in (
        ("tests", "Python tests", tests, 40),
        ("graphs", "300 random graphs against skrub", differential(str(python), 300, seed), 100),
    ):
        yield Step(
            key=f"python{short}-{key}",
            name=f"Python {short}: {name}",
            commands=[*prepare, command],
            python=python,
            lines=lines,
            path=python.parent,
            seed=seed if key == "graphs" else None,
            obstacle=None if interpreter else f"no python{short} was found that starts",
        )


def other_pythons() -> list[str]:
    """The Pythons that pyproject.toml names, without the running one ("3.12")."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", c) for c in project["classifiers"]]
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [match[1] for match in named if match and match[1] != own]


def find_python(short: str) -> str | None:
    """A Python of that version which starts, can make environments and compile extensions.

    Looked for on the path and among pyenv's, whose shims stand on the path and mostly refuse to start.
    """
    found = [Path(folder) / f"python{short}" for folder in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found += sorted(pyenv.glob(f"{short}.*/bin/python{short}"))
    ask = (
        "import ensurepip, os, sys, sysconfig, venv\n"
        "header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')\n"
        f"sys.exit('%d.%d' % sys.version_info[:2] != {short!r} or not os.path.exists(header))"
    )
    for candidate in found:
        if os.access(candidate, os.X_OK):
            try:
                answer = subprocess.run([candidate, "-c", ask], capture_output=True)
            except OSError:  # no program at all
                continue
            if answer.returncode == 0:
                return str(candidate)
    return None


def run(step: Step) -> Outcome:
    """Run one step, its output shown as it comes."""
    print(f"== {step.name}", flush=True)
    outcome = Outcome(
        key=step.key,
        name=step.name,
        status=None,
        seconds=0.0,
        tail=step.obstacle or "",
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        machine=f"{processor()}, {os.cpu_count()} cores",
        versions={},
        seed=step.seed,
        **commit(),
    )
    if step.obstacle is not None:
        print(f"left out: {step.obstacle}", flush=True)
        return outcome
    environment = dict(os.environ)
    if step.path is not None:  # meson-python looks for meson and ninja there
        environment.pop("PYTHONPATH", None)  # the tests see what is installed
        environment["PATH"] = os.pathsep.join([str(step.path), environment.get("PATH", os.defpath)])
    kept: collections.deque[str] = collections.deque(maxlen=step.lines)
    for command in step.commands:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.append(line.rstrip().replace(str(ROOT), "."))
        outcome.status = process.wait()
        outcome.seconds = round(time.monotonic() - start, 1)
        if outcome.status:
            break
    outcome.tail = "\n".join(kept)
    outcome.versions = versions(step.python)
    return outcome


# -- What it ran with -----------------------------------------------------------------------------


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def versions(python: Path) -> dict[str, str]:
    """Versions of a Python and of the packages in its environment; nothing where it is not there."""
    if not python.exists():
        return {}
    answer = subprocess.run([python, "-c", ASK_VERSIONS, *PACKAGES], capture_output=True, text=True)
    return dict(line.split(" ", 1) for line in answer.stdout.splitlines())


def commit() -> dict[str, str | int]:
    """The commit that is tested (and whether the tree differs from it), and its time."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "log", "-1", "--format=%h %ct", "--abbrev=12"], capture_output=True, text=True)
    if head.returncode != 0:
        return {"commit": "no commit", "commit_time": 0}
    name, _, seconds = head.stdout.strip().partition(" ")
    # but for what a soak writes itself
    mine = [f":!{path.relative_to(ROOT)}" for path in (DOCS, RESULTS)]
    changed = subprocess.run([*git, "status", "--porcelain", "--", ".", *mine], capture_output=True, text=True)
    return {"commit": name + (" with changes" if changed.stdout.strip() else ""), "commit_time": int(seconds)}


# -- What is kept ---------------------------------------------------------------------------------


def keep(outcome: Outcome, folder: Path) -> None:
    """Write an outcome, in the place of what the step came to before."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(outcome), indent=1, ensure_ascii=False) + "\n"
    (folder / f"{outcome.key}.json").write_text(text, encoding="utf-8")


def kept_outcomes(folder: Path, order: Sequence[str]) -> list[Outcome]:
    """All that is kept: in the order of the steps, then what is no step here (another main Python)."""
    found = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    place = {key: n for n, key in enumerate(order)}
    return sorted(found, key=lambda outcome: place.get(outcome.key, len(place)))


def report(outcomes: Sequence[Outcome]) -> str:
    """The text of docs/soak.md."""
    newest = max((outcome.commit_time for outcome in outcomes), default=0)
    lines = [
        "# Soak test",
        "",
        "Written by `make soak` from what `docs/soak` holds: the last outcome of each step. A step can be taken"
        " again alone (`tools/soak.py --only NAME`), so that each row says at which commit it was taken; one that"
        " is not the newest in the table is marked as **older**.",
        "",
        "| step | result | seconds | commit | date | Python |",
        "| --- | --- | ---: | --- | --- | --- |",
    ]
    for outcome in outcomes:
        if outcome.status is None:
            result = f"**left out**: {outcome.tail}"
        else:
            result = "passed" if outcome.status == 0 else f"**failed** ({outcome.status})"
        older = "" if outcome.commit_time == newest else ", **older**"
        python = outcome.versions.get("Python", "")
        lines.append(
            f"| {outcome.name} | {result} | {outcome.seconds:.0f} | {outcome.commit}{older} "
            f"| {outcome.date} | {python} |"
        )
    for outcome in outcomes:
        if outcome.status is not None:
            versions_ = ", ".join(f"{name} {version}" for name, version in outcome.versions.items())
            told = [f"Commit {outcome.commit}", outcome.date, outcome.machine, versions_]
            told += [] if outcome.seed is None else [f"seed {outcome.seed}"]
            lines += ["", f"## {outcome.name}", "", "; ".join(filter(None, told)) + "."]
            lines += ["", "```", outcome.tail, "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the steps and write the report; 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=5000)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--fuzz", type=int, default=100_000, help="inputs a fuzz driver")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", help="steps whose name or key has this in it")
    parser.add_argument("--list", action="store_true", help="print the steps and run none")
    parser.add_argument("--write", action="store_true", help="write the report from what is kept, run none")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outcomes are kept")
    parser.add_argument("--output", type=Path, default=DOCS, help="the report")
    arguments = parser.parse_args()
    known = steps(arguments.graphs, arguments.searches, arguments.fuzz, arguments.seed)
    wanted = [s for s in known if not arguments.only or arguments.only in s.name or arguments.only in s.key]
    if not wanted:
        print("no step has that name", file=sys.stderr)
        return 2
    if arguments.list:
        for step in wanted:
            print(f"{step.key}: {step.name}" + (f" (left out: {step.obstacle})" if step.obstacle else ""))
        return 0

    def write() -> None:
        outcomes = kept_outcomes(arguments.results, [step.key for step in known])
        arguments.output.write_text(report(outcomes), encoding="utf-8")

    if arguments.write:
        write()
        return 0
    print(f"seed {arguments.seed}", flush=True)
    failed = False
    for step in wanted:
        outcome = run(step)
        failed = failed or outcome.status not in (0, None)
        # After each step, so that a soak that is stopped leaves what it has found.
        keep(outcome, arguments.results)
        write()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
