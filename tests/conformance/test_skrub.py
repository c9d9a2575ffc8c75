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
from importlib import metadata

import pytest

EXPECTED = {
    "test_caching[sklearn]": "counts entries of skrub's cache: equal work is done once",
    "test_subsample[False]": "counts calls of a function: candidates share it",
    "test_subsample[True]": "counts calls of a function: candidates share it",
    "test_should_subsample": "counts calls of a function: candidates share it",
    "test_traversals_do_not_re_explore_shared_nodes[_FindConflicts]": "counts visits of a private class",
    "test_traversals_do_not_re_explore_shared_nodes[_Evaluator]": "runs the private class itself",
}
# What fails with plain skrub, too, and how (`test_skrub_alone`).
WITHOUT = {"test_preview_subsample": "Can't down"}  # downloads a data set: it passes where there is a network
# skrub's conftest skips it, graphviz or not: its examples open a browser.
SKIPPED = {"skrub._data_ops._skrub_namespace.SkrubNamespace.report": "Skipped: graphviz may not be installed"}
ITEMS = {"0.11": 544}

# skrub's own settings of pytest, which are not in its wheel
DOCTEST_FLAGS = "doctest_optionflags=NORMALIZE_WHITESPACE ELLIPSIS"


def _environment() -> dict[str, str]:
    """This process's, for another folder."""
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return dict(os.environ, MPLBACKEND="agg", COLUMNS="200", PYTHONPATH=os.pathsep.join(paths))


def _skrubs_tests(tmp_path: pathlib.Path, *plugins: str) -> tuple[dict[str, str], str]:
    """Run them all; what fails, with the first words of how, and the output. None is skipped, none breaks."""
    # (tools/bootstrap.sh installs both, where it may; without them half of the reports go untested.)
    if shutil.which("dot") is None or importlib.util.find_spec("plotly") is None:
        pytest.fail("skrub's tests need graphviz's dot and plotly: tools/bootstrap.sh installs them, or says how")
    command = [
        sys.executable, "-m", "pytest", "-q", *plugins, "-p", "no:cacheprovider",
        "-rfEs", "--no-fold-skipped", "--tb=short", "--pyargs", "skrub._data_ops", "--doctest-modules",
        "-o", DOCTEST_FLAGS, "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    run = subprocess.run(
        command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=1500
    )
    told = run.stdout[-9000:] + run.stderr[-3000:]
    summary = run.stdout[run.stdout.rfind("short test summary info") :]
    assert not re.search(r"^ERROR ", summary, re.M), told
    skipped = dict(re.findall(r"^SKIPPED \S*?::(\S+) - (.*)$", summary, re.M))
    assert skipped == SKIPPED, told
    last = run.stdout.rstrip().rpartition("\n")[2]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|xfailed|xpassed|errors?)\b", last)}
    failed = dict(re.findall(r"^FAILED \S*?::(\S+)(.*)$", summary, re.M))
    assert set(counts) <= {"passed", "failed", "skipped"}, counts
    assert counts.get("failed", 0) == len(failed) and counts["skipped"] == len(skipped), told
    version = ".".join(metadata.version("skrub").split(".")[:2])
    if version in ITEMS:
        assert sum(counts.values()) == ITEMS[version], told
    assert counts["passed"] >= 500, told
    return failed, told


def _without_network(failed: dict[str, str]) -> dict[str, str]:
    """What fails for another reason than one that plain skrub has, too."""
    return {name: how for name, how in failed.items() if name not in WITHOUT or WITHOUT[name] not in how}


@pytest.mark.slow
def test_skrub_dataops(tmp_path: pathlib.Path) -> None:
    """Each passes that passes without the plugin, but for those listed."""
    assert len(EXPECTED) <= 6
    failed, told = _skrubs_tests(tmp_path, "-p", "stratum.testing.skrub_plugin")
    assert set(_without_network(failed)) <= set(EXPECTED), told


@pytest.mark.slow
@pytest.mark.skipif("STRATUM_BASELINE" not in os.environ, reason="takes minutes: `make soak` asks for it")
def test_skrub_alone(tmp_path: pathlib.Path) -> None:
    """The same without stratum: nothing fails but what is listed as failing without it."""
    failed, told = _skrubs_tests(tmp_path)
    assert not _without_network(failed), told


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
