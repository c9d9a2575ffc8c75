"""skrub's own tests and doctests of DataOps, with the engine on.

They ship in skrub's wheel: 479 tests and 65 doctests in skrub 0.11.  Each must pass that passes with plain
skrub, and none may be evaluated by skrub's own evaluator (`stratum.testing.skrub_plugin` fails it), except
those listed here with their reason: they count how often user code is called, which sharing lowers on
purpose, or look at skrub's private classes.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

EXPECTED = {
    "test_caching[sklearn]": "counts entries of skrub's cache: equal work is done once",
    "test_subsample[False]": "counts calls of a function: candidates share it",
    "test_subsample[True]": "counts calls of a function: candidates share it",
    "test_should_subsample": "counts calls of a function: candidates share it",
    "test_traversals_do_not_re_explore_shared_nodes[_FindConflicts]": "counts visits of a private class",
    "test_traversals_do_not_re_explore_shared_nodes[_Evaluator]": "runs the private class itself",
}
NEEDS_NETWORK = "test_preview_subsample"  # downloads a data set
ITEMS = 544

# skrub's own settings of pytest, which are not in its wheel
DOCTEST_FLAGS = "doctest_optionflags=NORMALIZE_WHITESPACE ELLIPSIS"


def _environment() -> dict[str, str]:
    """This process's, for another folder."""
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return dict(os.environ, MPLBACKEND="agg", PYTHONPATH=os.pathsep.join(paths))


@pytest.mark.slow
def test_skrub_dataops(tmp_path: pathlib.Path) -> None:
    assert len(EXPECTED) <= 6
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "stratum.testing.skrub_plugin", "-p", "no:cacheprovider",
        "-rf", "--tb=short", "--pyargs", "skrub._data_ops", "--doctest-modules", "-o", DOCTEST_FLAGS,
        "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    run = subprocess.run(
        command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=1500
    )
    summary = run.stdout[run.stdout.rfind("short test summary info") :]
    failed = dict(re.findall(r"^FAILED \S*?::(\S+)(.*)$", summary, re.M))
    if "Can't down" in failed.get(NEEDS_NETWORK, ""):
        del failed[NEEDS_NETWORK]
    assert set(failed) <= set(EXPECTED), run.stdout[-9000:]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped)", summary)}
    assert counts.get("passed", 0) > 480, run.stdout[-3000:] + run.stderr[-3000:]
    if importlib.util.find_spec("plotly") and shutil.which("dot"):
        assert sum(counts.values()) == ITEMS, counts


def test_plugin_finds_the_evaluator(tmp_path: pathlib.Path) -> None:
    """The plugin would notice: it fails a test in which skrub's evaluator ran, and passes the other."""
    (tmp_path / "test_it.py").write_text(
        "import skrub, stratum\n"
        "def test_ours():\n"
        "    assert (skrub.var('a') + 1).skb.eval({'a': 1}) == 2\n"
        "def test_theirs():\n"
        "    with stratum.config_context(engine='skrub'):\n"
        "        assert (skrub.var('a') + 1).skb.eval({'a': 1}) == 2\n"
        "def test_listed():\n"
        "    test_theirs()\n"
    )
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "stratum.testing.skrub_plugin", "-p", "no:cacheprovider",
        "-rf", "--skrub-evaluator-allowed=test_listed", "test_it.py",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=300)
    assert "1 failed, 2 passed" in run.stdout, run.stdout + run.stderr
    assert "FAILED test_it.py::test_theirs - Failed: skrub's own evaluator ran" in run.stdout
