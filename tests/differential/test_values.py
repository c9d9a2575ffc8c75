"""The canonical form: different values have different forms, equal ones the same."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import StandardScaler

from tests.differential.compare import first_difference
from tests.differential.values import canon, exception, results_dict, scrub, times

_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        (float("nan"), _NAN),
        (-1, -2),
        (1.0, np.float64(1.0)),
        (np.float32(1.0), np.float64(1.0)),
        ("1", 1),
        (b"a", "a"),
        ((1, 2), [1, 2]),
        ([1, 2], [2, 1]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (None, float("nan")),
        (pd.NA, None),
        (pd.NaT, pd.NA),
        (np.zeros(3), np.zeros(3, dtype=np.float32)),
        (np.zeros((1, 3)), np.zeros((3, 1))),
        (np.array([1, 2]), np.array([2, 1])),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, index=[1])),
        (pd.DataFrame({"a": [1], "b": [1]}), pd.DataFrame({"b": [1], "a": [1]})),
        (pd.Series([1.0]), pd.Series([1.0], name="x")),
        (pd.Series([1, 2], dtype="Int64"), pd.Series([1, 2], dtype="int64")),
        (pd.Series([1.0], dtype="double[pyarrow]"), pd.Series([1.0])),
        (pd.Series(["a"], dtype="category"), pd.Series(["a"], dtype="str")),
        (pl.DataFrame({"a": [1.0, None]}), pl.DataFrame({"a": [1.0, float("nan")]})),
        (pl.Series([1]), pl.Series([1], dtype=pl.Int8)),
        (StandardScaler(), StandardScaler(with_mean=False)),
        (StandardScaler().fit([[1.0]]), StandardScaler().fit([[2.0]])),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (ValueError("a"), ValueError("b")),
        (ValueError("a"), TypeError("a")),
    ],
)
def test_different_values_have_different_forms(one: Any, two: Any) -> None:
    """Type, bits, order, index, names."""
    assert first_difference(canon(one), canon(two)) is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: {1, "a", (2, 3)},
        lambda: pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]}, index=[3, 3]),
        lambda: StandardScaler().fit(np.arange(6.0).reshape(3, 2)),
        lambda: [np.random.RandomState(3), {"k": pl.DataFrame({"a": ["x"]})}],
    ],
)
def test_equal_values_have_equal_forms(make: Any) -> None:
    """Whatever was built twice in the same way has one form."""
    assert first_difference(canon(make()), canon(make())) is None


def test_circles_end() -> None:
    """A list that contains itself."""
    circle: list[Any] = [1]
    circle.append(circle)
    assert canon(circle) == [1, {"circle": True}]


def test_exceptions_keep_notes_and_cause() -> None:
    """Notes and causes are part of an exception; frames and addresses are not."""
    plain, noted = KeyError("x"), KeyError("x")
    noted.add_note("made here")
    assert first_difference(exception(plain), exception(noted)) is not None
    noted = KeyError("x")
    noted.__cause__ = ValueError("y")
    assert first_difference(exception(plain), exception(noted)) is not None
    assert scrub("<f at 0x7f00aa10>") == scrub("<f at 0x7f11bb20>")
    one = ValueError('all failed\nTraceback (most recent call last):\n  File "a", line 1, in f\n    g()\nKeyError: 1\n')
    two = ValueError('all failed\nTraceback (most recent call last):\n  File "b", line 2, in h\n    i()\nKeyError: 1\n')
    three = ValueError('all failed\nTraceback (most recent call last):\n  File "b", line 2, in h\n    i()\nKeyError: 2\n')
    assert first_difference(exception(one), exception(two)) is None
    assert first_difference(exception(one), exception(three)) is not None


def test_times_keep_presence_shape_and_sign() -> None:
    """A time may be another one, but neither absent, nor negative, nor zero where it was not."""
    assert times([0.1, 0.2]) == times([3.0, 4.0])
    assert times([0.1, 0.2]) != times([0.1])
    assert times([0.1, 0.0]) != times([0.1, 0.2])
    assert times([0.1], spread=True) == times([0.0], spread=True)
    one = {"mean_fit_time": np.array([0.1]), "mean_test_score": np.array([0.5])}
    two = {"mean_fit_time": np.array([0.9]), "mean_test_score": np.array([0.5])}
    assert first_difference(results_dict(one), results_dict(two)) is None
    assert first_difference(results_dict(one), results_dict(dict(reversed(one.items())))) is not None
