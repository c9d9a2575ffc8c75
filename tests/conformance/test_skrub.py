"""skrub's own tests of DataOps, with the engine on.

They ship in skrub's wheel. Each must pass that passes with plain skrub, except those listed here with
their reason: they count how often user code is called, which sharing lowers on purpose, or look at
skrub's private classes.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

EXPECTED = {
    "test_caching[sklearn]": "counts entries of skrub's cache: equal work is done once",
    "test_subsample[False]": "counts calls of a function: candidates share it",
    "test_subsample[True]": "counts calls of a function: candidates share it",
    "test_should_subsample": "counts calls of a function: candidates share it",
    "test_traversals_do_not_re_explore_shared_nodes[_FindConflicts]": "counts visits of a private class",
}


@pytest.mark.slow
def test_skrub_dataops(tmp_path: pathlib.Path) -> None:
    here = pathlib.Path(__file__).parent
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]))
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "engine_on", "-p", "no:cacheprovider", "-rf",
        "--pyargs", "skrub._data_ops", "-k", "not optuna", "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1500)
    failed = set(re.findall(r"^FAILED \S*?::(\S+)", run.stdout, re.M))
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed.group(1)) > 350, run.stdout[-3000:] + run.stderr[-3000:]
    assert failed <= set(EXPECTED), run.stdout[-6000:]
