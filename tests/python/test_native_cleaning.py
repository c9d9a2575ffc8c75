"""Native cleaning of columns against skrub's own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from skrub._clean_null_strings import STR_NA_VALUES, CleanNullStrings as Original
from skrub._to_str import ToStr as OriginalToStr

from stratum.native import CleanNullStrings, ToStr


def columns() -> dict[str, Any]:
    words = ["a", "Ünï", "n/a ", "x y", " lead", "NULLS", "1.5"] * 20
    many = [f"id {i}" for i in range(300)]
    found: dict[str, Any] = {
        "plain": words, "distinct": many, "empty string": [*words, ""], "spaces": [*words, "  ", "\t\n", "\u00a0"],
        "null words": [*words, *STR_NA_VALUES], "nothing": [], "one": ["a"], "one null": ["NaN"],
        "missing": [*words, None, None], "missing and words": [*words, None, "none", "?"],
        "custom": [*words, "absent", "gone"], "nul byte": [*words, "\0", "a\0"], "line end": ["a\n", "\n"] * 60,
        "separators": ["\x1c", "a"] * 60, "all missing": [None] * 120,
    }  # fmt: skip
    return found


MIXED = [["a", 1, None, True] * 40, ["a", np.nan, " "] * 40, ["a", pd.NA] * 60, [b"a", "b"] * 60, [1.5, 2] * 60]


def series() -> list[Any]:
    out = []
    for name, values in columns().items():
        for dtype in ("str", "string", "object", "string[python]"):
            out.append(pd.Series(values, dtype=dtype, name=name))
        out.append(pd.Series(values, dtype="str", name=name, index=[7] * len(values)))
        out.append(pd.Series([*values, *values], dtype="str", name=name)[::2])
        out.append(pd.Series(values, dtype="category", name=name))
        out.append(pl.Series(name, values, dtype=pl.String))
    out += [pd.Series(values, dtype="object", name="mixed") for values in MIXED]
    out += [pd.Series([1, 2], name="n"), pd.Series(pd.to_datetime(["2020-01-01"]), name="d"), pl.Series("n", [1, 2])]
    return out


def said(cleaner: Any, column: Any) -> tuple[Any, Any]:
    try:
        return cleaner.fit_transform(column), None
    except Exception as error:
        return None, (type(error).__name__, str(error))


def equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True, check_freq=True)
        assert [type(v) for v in one] == [type(v) for v in other]
        assert one.attrs == other.attrs
    elif one is not None:
        assert one.equals(other, null_equal=True) and one.dtype == other.dtype and one.name == other.name


@pytest.mark.parametrize("null_strings", [None, "gone", ["absent", "gone"], 3, ["a", 1]])
def test_as_the_original(null_strings: Any) -> None:
    for column in series():
        before = column.copy() if isinstance(column, pd.Series) else column.clone()
        theirs, their_error = said(Original(null_strings), column)
        native = CleanNullStrings(null_strings)
        ours, our_error = said(native, column)
        assert our_error == their_error, column
        equal(ours, theirs)
        equal(column, before)
        if our_error is None:
            fitted = Original(null_strings)
            fitted.fit_transform(column)
            plain = native.to_original()
            assert type(plain) is Original and vars(plain) == vars(fitted)
            equal(pickle.loads(pickle.dumps(native)).transform(column), theirs)
            equal(CleanNullStrings.from_original(fitted).transform(column), theirs)
            other = pd.Series(["b", "NA", " "] * 40, name="other")
            equal(native.transform(other), fitted.transform(other))
    assert clone(CleanNullStrings("x")).null_strings == "x"


def test_the_result_is_the_users_own() -> None:
    column = pd.Series(["a", "b"] * 80, dtype="str")
    out = CleanNullStrings().fit_transform(column)
    out.iloc[0] = "changed"
    assert column.iloc[0] == "a"


@pytest.mark.parametrize("convert_category", [False, True])
def test_strings_as_the_original(convert_category: bool) -> None:
    others = [pd.Series([("a", 1), None] * 60), pd.Series([True, False]), pd.Series([], dtype="str"), pl.Series("l", [[1]])]
    for column in [*series(), *others]:
        before = column.copy() if isinstance(column, pd.Series) else column.clone()
        theirs, ours = OriginalToStr(convert_category), ToStr(convert_category)
        (a, their_error), (b, our_error) = said(theirs, column), said(ours, column)
        assert our_error == their_error
        equal(b, a)
        equal(column, before)
        assert vars(ours) == vars(theirs) and vars(ours.to_original()) == vars(theirs)
        if our_error is None:
            for other in (pd.Series(["b", None] * 40, dtype="string", name="other"), pd.Series([1.5, None])):
                equal(ToStr.from_original(theirs).transform(other), theirs.transform(other))


def test_strings_are_the_users_own() -> None:
    column = pd.Series(["a", None] * 80, dtype="str")
    out = ToStr().fit_transform(column)
    out.iloc[0] = "changed"
    assert column.iloc[0] == "a" and list(out[:2])[0] == "changed"
