"""Pytest plugin for scikit-learn's own tests of its searches: ``-p stratum.testing.sklearn_plugin``.

The names that `stratum.sklearn` has are put into ``sklearn.model_selection`` before the test modules import
them from there. At the end the batches of fits are counted: how many went through the engine, and why the
others did not.

The tests compare searches with fits that they make themselves, to six decimals: kernels that round otherwise stay
out (``exactness="identical"``) unless STRATUM_EXACTNESS says what to do. With ``equivalent`` two tests fail that compare
decision functions of a LogisticRegression, which agree to 1e-5.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import sklearn.experimental.enable_halving_search_cv  # noqa: F401  (before ours: it sets scikit-learn's names)
from sklearn import model_selection

import stratum.sklearn
from stratum import engine
from stratum.hosts import pipelines

_batches = [0]
_reasons: Counter[str] = Counter()
_prepare = pipelines.BatchItem.prepare
_fall_back = engine._fall_back


def _counting_prepare(self: pipelines.BatchItem, running: Any) -> Any:
    _batches[0] += 1
    return _prepare(self, running)


def _counting_fall_back(stats: Any, item: Any, why: BaseException) -> None:
    _reasons[str(why)] += 1
    _fall_back(stats, item, why)


def pytest_configure(config: Any) -> None:
    """Put our names where the tests look for scikit-learn's."""
    if not os.environ.get("STRATUM_EXACTNESS"):
        stratum.set_config(exactness="identical")
    for name in stratum.sklearn.__all__:
        setattr(model_selection, name, getattr(stratum.sklearn, name))
    pipelines.BatchItem.prepare = _counting_prepare  # type: ignore[method-assign]
    engine._fall_back = _counting_fall_back


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the engine did."""
    terminalreporter.write_line(f"stratum: {_batches[0]} batches, {sum(_reasons.values())} by scikit-learn itself")
    for reason, count in _reasons.most_common():
        terminalreporter.write_line(f"stratum: {count} x {reason}")
