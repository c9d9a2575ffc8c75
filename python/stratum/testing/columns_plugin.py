"""Pytest plugin for tests of skrub's composites: ``-p stratum.testing.columns_plugin``.

Each test runs as the code of a node does: kernels are on, and batches of columns are calls of their own, made on other
threads and last first. Sizes below which the libraries' code does the work are set to nothing: the tests' data are
small. At the end the columns are counted.

`stratum.hosts.columns` asks a node for three things; here they are answered without an engine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sklearn.preprocessing import StandardScaler

import stratum
from stratum import _core
from stratum.hosts import columns, kernels, tables
from stratum.native import checking, dates, encoders, string_encoder, text

_columns = [0]


class _Graph:
    """Nodes are what they are made of."""

    @staticmethod
    def node(number: int, args: tuple) -> Any:
        return args[0]


class _Rows:
    """What has no other reader."""


class _Node:
    """A running node."""

    graph = _Graph()

    def readers(self, value: Any) -> int:
        return 1

    def nested(self, calls: tuple) -> tuple:
        """Results of calls, or the first error."""
        results: list[Any] = [None] * len(calls)
        errors: list[Exception | None] = [None] * len(calls)

        def run(i: int) -> None:
            with kernels.on():
                try:
                    results[i] = columns.column(None, None, calls[i])
                except Exception as error:
                    errors[i] = error

        for i in reversed(range(len(calls))):
            thread = threading.Thread(target=run, args=(i,))
            thread.start()
            thread.join()
        _columns[0] += len(calls)
        for error in errors:
            if error is not None:
                raise error
        return tuple(results)


def _call(x: Any, task: tuple, keeps: bool) -> Any:
    call = columns.Call(task, keeps)
    return call, call


def pytest_configure(config: Any) -> None:
    """Leave nothing to the libraries for its size."""
    stratum._load()
    columns.LEAST_ROWS, columns._LIGHT = 0, frozenset()  # type: ignore[misc]
    columns._node = _call
    kernels.FEW_ROWS = checking.FEW = dates.FEW = 0
    text.FEW = string_encoder.FEW = encoders.FEW = tables.SAMPLE = 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with kernels.on(), columns.Columns(_Node(), StandardScaler(), _Rows()):
        return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was done."""
    terminalreporter.write_line(f"stratum: {_columns[0]} columns, level {_core.gate(0)}")
