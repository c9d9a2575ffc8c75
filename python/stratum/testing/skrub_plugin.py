"""Pytest plugin: the engine is on, and a test in which skrub's own evaluator ran fails.

What it is for
    ``pytest -p stratum.testing.skrub_plugin --pyargs skrub._data_ops --doctest-modules`` shows that what
    skrub's tests execute goes through the engine.  A test fails in which a node was evaluated by skrub's
    own evaluator, unless its name is given with ``--skrub-evaluator-allowed`` (it may be repeated; names as
    pytest prints them after the last ``::``).

Who may use it
    `tests/conformance`, and anybody who wants to know whether a test suite of theirs is accelerated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import stratum
from stratum.hosts import tracebacks

_ran: list[str] = []  # nodes that skrub's own evaluator computed in the current test


def _watch() -> None:
    """Note each node that skrub's own evaluator visits."""
    from skrub._data_ops import _evaluation

    original = _evaluation._Evaluator.handle_data_op

    def handle_data_op(self: Any, data_op: Any) -> Any:
        if not tracebacks.asking():
            _ran.append(repr(data_op._skrub_impl))
        return original(self, data_op)

    _evaluation._Evaluator.handle_data_op = handle_data_op


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--skrub-evaluator-allowed", action="append", default=[], metavar="NAME",
        help="a test in which skrub's own evaluator may run",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if stratum.get_config()["engine"] != "stratum":
        raise pytest.UsageError("the engine is off (STRATUM_ENGINE)")
    _watch()


def pytest_report_header() -> str:
    return f"stratum {stratum.__version__}: the engine is on"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    _ran.clear()
    result = yield
    found = list(dict.fromkeys(_ran))
    _ran.clear()
    name = item.nodeid.rpartition("::")[2]
    if found and name not in item.config.getoption("--skrub-evaluator-allowed"):
        nodes = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        fallbacks = stratum.last_run().fallbacks
        pytest.fail(f"skrub's own evaluator ran: {nodes}; fallbacks: {fallbacks}", pytrace=False)
    return result
