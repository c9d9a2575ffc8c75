"""skrub's own tests of column-wise transformers, and scikit-learn's of ColumnTransformer, as inside of a node.

They ship in the wheels. Each must pass that passes with the libraries alone: there are no exceptions.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

# Module -> how many of its tests pass at least.
MODULES = {
    "skrub.tests.test_apply_to_cols": 40,
    "skrub.tests.test_apply_to_each_col": 60,
    "skrub.tests.test_table_vectorizer": 130,
    "skrub.tests.test_tabular_pipeline": 14,
    "skrub.tests.test_to_str": 10,
    "sklearn.compose.tests.test_column_transformer": 230,
}
COLUMNS = {name for name in MODULES if "apply" in name or "vectorizer" in name}  # those that have batches of columns


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_libraries_tests(module: str, tmp_path: pathlib.Path) -> None:
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "stratum.testing.columns_plugin", "-p", "no:cacheprovider", "-rf",
        "--pyargs", module, "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", STRATUM_EXACTNESS="identical")
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900)
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed.group(1)) >= MODULES[module], run.stdout[-3000:] + run.stderr[-3000:]
    found = re.search(r"stratum: (\d+) columns", run.stdout)
    assert found is not None and (int(found.group(1)) > 0 or module not in COLUMNS), run.stdout[-3000:]
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", run.stdout, re.M))
    assert not failed, run.stdout[-6000:]
