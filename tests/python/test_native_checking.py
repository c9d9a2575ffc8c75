"""Native checks of columns against skrub's own."""

from __future__ import annotations

import traceback
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skrub
import skrub.core

import stratum
from stratum import native
from stratum.hosts import kernels

ROWS = 150
COLUMNS: dict[str, Any] = {
    "words": pd.Series(["a", "b", None] * 50, dtype="str", name="c"),
    "numbers": pd.Series(["1", "2.5", None] * 50, dtype="str", name="c"),
    "a late word": pd.Series(["1"] * 149 + ["x"], dtype="str", name="c"),
    "an early word": pd.Series(["1", "2", "x", "y"] + ["1"] * 146, dtype="str", name="c"),
    "early nulls": pd.Series([None] * 100 + ["x"] * 50, dtype="str", name="c"),
    "all null": pd.Series([None] * ROWS, dtype="str", name="c"),
    "string": pd.Series(["1", pd.NA, "x"] * 50, dtype="string", name="c"),
    "object": pd.Series(["1", None, "x"] * 50, dtype=object, name="c"),
    "objects": pd.Series(["1", 2, 3.5] * 50, dtype=object, name="c"),
    "category": pd.Series(["1", "2", None] * 50, dtype="category", name="c"),
    "floats": pd.Series([1.5, np.nan, np.inf] * 50, name="c"),
    "all NaN": pd.Series([np.nan] * ROWS, name="c"),
    "constant": pd.Series(["x"] * ROWS, dtype="str", name=("c", 1), index=[2] * ROWS),
    "constant and null": pd.Series(["x", None] * 75, dtype="str"),
    "integers": pd.Series(range(ROWS), name="c"),
    "Int64": pd.Series([1, pd.NA] * 75, dtype="Int64", name="c"),
    "bools": pd.Series([True, False] * 75, name="c"),
    "dates": pd.Series(pd.date_range("2020", periods=ROWS), name="c"),
    "hexadecimal": pd.Series(["0x10", "1e5", "nan", "inf", " 7 "] * 30, dtype="str", name="c"),
    "brackets": pd.Series(["(1,000)", "2"] * 75, dtype="str", name="c"),
    "few": pd.Series(["x", None], dtype="str", name="c"),
    "none": pd.Series([], dtype="str", name="c"),
    "polars": pl.Series("c", ["1", "x", None] * 50),
}
DROPS = ({}, {"drop_if_constant": True}, {"drop_null_fraction": 0.3}, {"drop_null_fraction": None},
         {"drop_if_unique": True}, {"drop_null_fraction": 2}, {"drop_if_constant": 1})  # fmt: skip
FLOATS = ({}, {"thousand": ",", "parentheses": True}, {"decimal": ","}, {"decimal": None}, {"thousand": "."})


def outcome(call: Any) -> tuple[Any, list[Any]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error = call(), None
        except Exception as failure:
            cause = failure.__cause__
            value, error = None, (type(failure), str(failure), type(cause), str(cause))
    return value, [error, [(w.category, str(w.message), w.filename) for w in caught]]


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, pd.Series):
        pd.testing.assert_series_equal(ours, theirs, check_exact=True)
    elif isinstance(ours, pl.Series):
        assert ours.equals(theirs, null_equal=True)
    else:
        assert ours == theirs


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", ["DropUninformative", "ToFloat"])
def test_as_the_original(name: str, column: str) -> None:
    data = COLUMNS[column]
    for given in DROPS if name == "DropUninformative" else FLOATS:
        ours, theirs = getattr(native, name)(**given), getattr(skrub, name)(**given)
        (a, said), (b, heard) = (outcome(lambda e=e: e.fit_transform(data)) for e in (ours, theirs))
        assert said == heard
        same(a, b)
        assert list(vars(ours).items()) == list(vars(theirs).items())
        assert [type(v) for v in vars(ours).values()] == [type(v) for v in vars(theirs).values()]
        if said[0] is None:
            plain = ours.to_original()
            assert type(plain) is type(theirs)
            for other in COLUMNS.values():
                (a, said), (b, heard) = (outcome(lambda e=e: e.transform(other)) for e in (plain, theirs))
                assert said == heard
                same(a, b)


def test_behind_skrubs_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    stratum._load()
    tried = []
    convert = pd.to_numeric
    monkeypatch.setattr(pd, "to_numeric", lambda data, *a, **k: (tried.append(len(data)), convert(data, *a, **k))[1])

    def error(column: Any) -> str:
        try:
            skrub.ToFloat().fit_transform(column)
        except skrub.core.RejectColumn as failure:
            return "".join(traceback.format_exception(failure))
        return ""

    for name in ("an early word", "a late word", "words", "numbers", "category"):
        expected = error(COLUMNS[name])
        tried.clear()
        with kernels.on():
            assert error(COLUMNS[name]).splitlines()[-1:] == expected.splitlines()[-1:]
        assert (ROWS in tried) == (name in ("a late word", "numbers"))
    with kernels.on():
        dropper = skrub.DropUninformative()
        same(dropper.fit_transform(COLUMNS["words"]), COLUMNS["words"])
    assert dropper._null_count == 50 and type(dropper) is skrub.DropUninformative
