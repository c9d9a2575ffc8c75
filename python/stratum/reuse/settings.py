"""What results depend on besides the nodes of the graph: settings, environment, versions.

Who may call it
    `stratum.reuse.session`, when a run begins, and `stratum.scripts.exchange`.

A key that lacks one of these would be answered with a result that was computed under another one. A key that has
too much is never found again: the script that imports one package more, or that is started elsewhere, is to find
what it computed before.
"""

from __future__ import annotations

import functools
import importlib.metadata
import locale
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skrub

from .. import _config, _core
from ..capture import encode as _encode

#: Variables of the environment that libraries compute by: threads (the order of sums), language and time zone.
_VARIABLES = ("OMP_", "OPENBLAS_", "MKL_", "BLIS_", "LC_", "LANG", "TZ")

#: What computes, loaded or not: a key is the same in a script that has not imported one of them yet.
_DISTRIBUTIONS = (
    "numpy", "scipy", "pandas", "polars", "pyarrow", "narwhals", "scikit-learn", "skrub", "joblib", "lightgbm",
    "xgboost", "xgboost-cpu", "catboost",
)  # fmt: skip


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the interpreter, of this package's build and of the libraries that compute."""
    found = {"python": sys.version, "machine": platform.machine(), "stratum": _build()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _build() -> str:
    """What tells one build of this package from another: the content of its extension and of its hosts."""
    home = Path(__file__).resolve().parent.parent
    parts = [Path(_core.__file__), *sorted(home.glob("hosts/*.py")), *sorted(home.glob("native/*.py"))]
    return _core.hash128(b"".join(_core.hash128(part.read_bytes()) for part in parts)).hex()


def _filters() -> list[Any]:
    """Filters of warnings that change results (error) or hide what was said (ignore)."""
    return [one for one in warnings.filters if one[0] in ("error", "ignore")]


def now() -> bytes | None:
    """Encoding of everything that results depend on at this moment; None if it cannot be told."""
    options = {k: v for k, v in pd.options.d.items() if k not in ("display", "plotting", "styler", "io")}
    environment = sorted((k, v) for k, v in os.environ.items() if k.startswith(_VARIABLES))
    ours = [_config.option(name) for name in ("exactness", "native")]
    return _encode.encode(
        [
            versions(), sklearn.get_config(), skrub.get_config(), np.geterr(), options, _filters(), environment,
            locale.setlocale(locale.LC_ALL), ours,
        ]
    )  # fmt: skip
