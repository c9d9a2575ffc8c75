"""What tools/soak.py keeps of its steps, and the report that it writes from that."""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("soak", ROOT / "tools" / "soak.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


soak = load()


def step(key, *sources, **more):
    return soak.Step(key, f"step {key}", [[sys.executable, "-c", source] for source in sources], **more)


def report(folder, *order):
    return soak.report(soak.kept_outcomes(folder, order))


def test_a_step_taken_again_leaves_the_others(tmp_path):
    for key in ("b", "a"):
        soak.keep(soak.run(step(key, f"print('said {key}')", seed=7)), tmp_path)
    again = soak.run(step("a", "print('more')"))
    soak.keep(dataclasses.replace(again, commit="new", commit_time=again.commit_time + 1), tmp_path)
    text = report(tmp_path, "a", "b")
    rows = [line for line in text.splitlines() if line.startswith("| step ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| step a", "| step b"]
    assert "| new |" in rows[1] and "older" not in rows[1]
    assert ", **older** |" in rows[2]
    assert "said b" in text and "seed 7" in text and "more" in text and "said a" not in text


def test_the_first_command_that_fails_ends_a_step(tmp_path):
    outcome = soak.run(step("a", "print('one')", "print('two'); raise SystemExit(3)", "print('three')"))
    soak.keep(outcome, tmp_path)
    assert (outcome.status, outcome.tail) == (3, "one\ntwo")
    assert "**failed** (3)" in report(tmp_path)
    assert outcome.versions["Python"] == sys.version.split()[0] and "numpy" in outcome.versions


@pytest.mark.parametrize("lines", [1, 12, 20, 30])
def test_the_end_of_the_output_is_kept(lines):
    outcome = soak.run(step("a", "for i in range(20): print(i)", lines=lines))
    assert outcome.tail.split() == [str(i) for i in range(20)][-lines:]


def test_a_step_without_its_means_is_left_out(tmp_path):
    outcome = soak.run(step("a", "raise SystemExit(1)", obstacle="no python3.99 was found that starts"))
    assert outcome.status is None
    soak.keep(outcome, tmp_path)
    assert "| **left out**: no python3.99 was found that starts |" in report(tmp_path)


def test_a_python_that_does_not_start_is_not_taken(tmp_path, monkeypatch):
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert own not in soak.other_pythons()
    program = tmp_path / f"python{own}"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)
    assert soak.find_python(own) is None
    real = tmp_path / "versions" / f"{own}.0" / "bin" / program.name
    real.parent.mkdir(parents=True)
    real.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    real.chmod(0o755)
    assert soak.find_python(own) == str(real)
    assert soak.find_python("3.99") is None


def test_every_step_has_a_key_of_its_own():
    keys = [one.key for one in soak.steps(10, 10, 10, 1)]
    assert len(keys) == len(set(keys)) > 8
    assert keys == [one.key for one in soak.steps(20, 20, 20, 2)]
