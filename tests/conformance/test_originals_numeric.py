"""scikit-learn's own tests of decompositions, linear models, scalers, imputers, naive Bayes and metrics, run against `stratum.native`.

They ship in scikit-learn's wheel. Each must pass that passes with scikit-learn alone: there are no exceptions.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

# Module -> how many of its tests pass at least (so that a run that collects nothing is no success).
MODULES = {
    "decomposition.tests.test_pca": 380,
    "decomposition.tests.test_truncated_svd": 45,
    "impute.tests.test_common": 35,
    "impute.tests.test_impute": 280,
    "linear_model.tests.test_base": 65,
    "linear_model.tests.test_coordinate_descent": 250,
    "linear_model.tests.test_logistic": 260,
    "linear_model.tests.test_ridge": 950,
    "metrics.tests.test_classification": 200,
    "metrics.tests.test_ranking": 240,
    "metrics.tests.test_regression": 25,
    "preprocessing.tests.test_common": 15,
    "preprocessing.tests.test_data": 400,
    "preprocessing.tests.test_polynomial": 550,
    "tests.test_naive_bayes": 80,
}


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_scikit_learn(module: str, tmp_path: pathlib.Path) -> None:
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "stratum.testing.numeric_plugin", "-p", "no:cacheprovider", "-rf",
        "--pyargs", f"sklearn.{module}", "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1500)
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed.group(1)) >= MODULES[module], run.stdout[-3000:] + run.stderr[-3000:]
    native = re.search(r"stratum: (\d+) fits, (\d+) by scikit-learn itself", run.stdout)
    assert native is not None and int(native.group(1)) > 0, run.stdout[-3000:]
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", run.stdout, re.M))
    assert not failed, run.stdout[-6000:]
