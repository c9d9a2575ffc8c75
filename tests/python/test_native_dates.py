"""Native reading and taking apart of dates against skrub's own."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skrub
from pandas._libs.tslibs.parsing import guess_datetime_format
from sklearn.base import clone
from skrub.core import RejectColumn

import stratum
from stratum import native
from stratum.hosts import kernels
from stratum.native import dates

ROWS = 240
rng = np.random.default_rng(0)


def stamps(rows: int = ROWS) -> pd.DatetimeIndex:
    seconds = np.random.default_rng(3).integers(-(10**10), 10**10, rows)
    return pd.DatetimeIndex(seconds.astype("M8[s]").astype("M8[us]"))


def written(fmt: str, values: Any = None) -> list[str]:
    return list((stamps() if values is None else values).strftime(fmt))


FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y %H:%M", "%Y%m%d", "%Y/%m/%d",
    "%d %B %Y", "%Y-%m-%d %H:%M:%S.%f", "%y-%m-%d", "%H:%M:%S %d-%m-%Y", "%Y-%m-%d %I:%M %p", "%Y-%d-%m",
)  # fmt: skip


def columns() -> Iterator[tuple[str, Any]]:
    for fmt in FORMATS:
        yield fmt, pd.Series(written(fmt), dtype="str", name="when")
    good = written("%Y-%m-%d %H:%M")
    early = written("%d/%m/%Y", pd.to_datetime(["2020-01-02", "2021-12-11"] * (ROWS // 2)))
    changed: dict[str, list[Any]] = {
        "nulls": [None if i % 3 else v for i, v in enumerate(good)], "one null": [None, *good[1:]],
        "all null": [None] * ROWS, "unpadded": [*good, "2020-1-2 3:04"], "not a day": [*good, "2020-02-30 00:00"],
        "a word": [*good, "yesterday"], "another layout": [*good, "2020-01-01"], "half and half": good[:120] + early[:120],
        "ambiguous": early, "day 31": [*early, "31/12/2020"], "empty string": [*good, ""], "spaces": [" " + v for v in good],
        "equal tokens": ["2020-10-10 10:10"] * ROWS, "year and time": ["1959-07-01 19:59"] * ROWS,
        "offsets": [v + "+02:00" for v in good], "Z": [v + "Z" for v in written("%Y-%m-%dT%H:%M:%S")],
        "year 0": ["0000-01-01"] * ROWS, "year 1": ["0001-01-01"] * ROWS, "year 9999": ["9999-12-31"] * ROWS,
        "words": ["a", "b"] * 120, "numbers": ["1", "2"] * 120, "years": ["2001", "2002"] * 120, "blank": [""] * ROWS,
        "non-ASCII": ["٢٠٢٠-٠١-٠١"] * ROWS, "few": good[:5], "one": good[:1], "none": [], "NaT": ["NaT", *good],
        "null words": ["nan", *good], "month 13": ["2020-13-01"] * ROWS, "noon": ["2020-01-01 24:00"] * ROWS,
    }  # fmt: skip
    for name, values in changed.items():
        yield name, pd.Series(values, dtype="str", name="when")
    yield "object", pd.Series(good, dtype=object, name="when")
    yield "objects", pd.Series([*good, 3], dtype=object, name="when")
    yield "date objects", pd.Series(list(stamps().date), dtype=object, name="when")
    yield "string", pd.Series(good, dtype="string", name="when")
    yield "string with NA", pd.Series([*good, pd.NA], dtype="string", name="when")
    yield "category", pd.Series(good, dtype="category", name="when")
    yield "no name", pd.Series(good, dtype="str")
    yield "index", pd.Series(good, dtype="str", name=("a", 1), index=[3] * ROWS)
    yield "slice", pd.Series(good, dtype="str", name="when")[::-2]
    yield "parts", pd.concat([pd.Series(good[:100], dtype="str"), pd.Series(good[100:], dtype="str")])
    yield "integers", pd.Series(range(ROWS), name="when")
    yield "datetimes", pd.Series(stamps(), name="when")
    yield "zone", pd.Series(stamps().tz_localize("UTC").tz_convert("Europe/Paris"), name="when")
    yield "polars", pl.Series("when", good)


COLUMNS = dict(columns())


def outcome(call: Any) -> tuple[Any, Any, list[Any]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error = call(), None
        except Exception as failure:
            cause = failure.__cause__
            value, error = None, (type(failure), str(failure), type(cause), str(cause))
    return value, error, [(w.category, str(w.message)) for w in caught]


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, pd.Series):
        pd.testing.assert_series_equal(ours, theirs, check_exact=True)
        assert ours.attrs == theirs.attrs
    elif isinstance(ours, pd.DataFrame):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        assert ours.attrs == theirs.attrs
    elif isinstance(ours, (pl.Series, pl.DataFrame)):
        assert ours.equals(theirs)
    else:
        assert ours == theirs


def attributes(estimator: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(estimator).items() if name != "_periodic_encoders"}


def compare(ours: Any, theirs: Any, column: Any, others: list[Any]) -> bool:
    before = column.copy() if isinstance(column, pd.Series) else column
    (a, *said), (b, *heard) = (outcome(lambda e=e: e.fit_transform(column)) for e in (ours, theirs))
    assert said == heard
    same(a, b)
    same(column, before)
    if said[0] is not None:
        return False
    plain = ours.to_original() if hasattr(ours, "to_original") else ours
    assert type(plain) is type(theirs) and list(attributes(plain)) == list(attributes(theirs))
    assert attributes(plain) == attributes(theirs)
    assert list(plain.get_feature_names_out()) == list(theirs.get_feature_names_out())
    for other in (column, *others):
        (a, *said), (b, *heard) = (outcome(lambda e=e: e.transform(other)) for e in (ours, theirs))
        assert said == heard
        same(a, b)
    if len(column) == ROWS:
        same(pickle.loads(pickle.dumps(plain)).transform(column), theirs.transform(column))
    return True


@pytest.mark.parametrize("name", COLUMNS)
def test_reading(name: str) -> None:
    column = COLUMNS[name]
    others = [COLUMNS[n] for n in ("nulls", "a word", "%d/%m/%Y", "datetimes", "few", "all null")]
    for fmt in (None, "%Y-%m-%d %H:%M", "%d/%m/%Y", "%Q"):
        compare(native.ToDatetime(fmt), skrub.ToDatetime(fmt), column, others if isinstance(column, pd.Series) else [])
    assert clone(native.ToDatetime("x")).format == "x"


def test_what_is_read_by_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    read = dates._core.encode_dates
    monkeypatch.setattr(dates._core, "encode_dates", lambda *args: answers.append(read(*args)) or answers[-1])
    for name in (*FORMATS[:8], "nulls", "ambiguous", "equal tokens", "year and time", "index", "parts"):
        answers.clear()
        native.ToDatetime().fit_transform(COLUMNS[name])
        assert answers == [True], name
    for name in ("a word", "words", "unpadded", "offsets"):
        answers.clear()
        outcome(lambda name=name: native.ToDatetime().fit_transform(COLUMNS[name]))
        assert True not in answers, name


def test_iso_layouts_are_what_pandas_guesses() -> None:
    """One date for each way in which its parts can be equal, in each layout."""
    days = [(m, d) for m in ("01", "02", "10", "12") for d in ("01", "02", "10", "12", "20", "28")]
    times = ["".join(t) for t in itertools.product(("00", "01", "02", "10", "12", "20"), repeat=3)]
    count = 0
    for layout, year in itertools.product(("", " m", "Tm", " s", "Ts"), ("2005", "1212", "1010", "2000")):
        for i, (month, day) in enumerate(days):
            for time in times[i % 8 :: 8] if layout else times[:1]:
                hour, minute, second = time[:2], time[2:4], time[4:]
                value = f"{year}-{month}-{day}"
                if layout:
                    value += f"{layout[0]}{hour}:{minute}" + (f":{second}" if layout[1] == "s" else "")
                assert dates._iso(value) == guess_datetime_format(value, dayfirst=False), value
                count += 1
    assert count > 10_000
    for value in ("2020-13-01", "2020-02-30", "0999-01-01", "2020-01-01 24:00", "2020-1-1", "2020-01-01T00", "x"):
        assert dates._iso(value) is None


def datetimes() -> Iterator[tuple[str, Any]]:
    for unit in ("s", "ms", "us", "ns"):
        yield unit, pd.Series(pd.date_range("1960-01-01", periods=ROWS, freq="61D").as_unit(unit), name="d")
        times = pd.date_range("1969-12-31", periods=ROWS, freq="37min").as_unit(unit)
        yield f"times {unit}", pd.Series(times, name="d").where(np.arange(ROWS) % 7 > 0)
    yield "fractions", pd.Series(np.arange(ROWS) * 123456789 - 10**9, name="d").astype("M8[ns]")
    yield "extremes", pd.Series(np.array(["0001-01-01", "9999-12-31T23:59:59"] * 60, "M8[us]"), name="d")
    yield "all null", pd.Series([pd.NaT] * ROWS, name="d", dtype="M8[us]")
    yield "UTC", pd.Series(stamps().tz_localize("UTC"), name="d")
    yield "a name made unique at random", pd.Series(stamps(), name="d__skrub_0a1b2c3d__")
    yield "zone", pd.Series(stamps()[stamps() > "1900-01-01"].tz_localize("UTC").tz_convert("Europe/Paris"), name="d")
    yield "no name", pd.Series(stamps())
    yield "index", pd.Series(stamps(), name=3, index=[1] * ROWS)
    yield "strided", pd.Series(stamps(), name="d")[::-2]
    yield "few", pd.Series(stamps(3), name="d")
    yield "none", pd.Series([], dtype="M8[us]", name="d")
    yield "words", pd.Series(["a"] * ROWS, name="d")
    yield "arrow", pd.Series(stamps(), name="d").astype("timestamp[us][pyarrow]")
    yield "polars", pl.Series("d", stamps().to_list())


DATETIMES = dict(datetimes())


@pytest.mark.parametrize("name", DATETIMES)
def test_parts(name: str) -> None:
    column = DATETIMES[name]
    others = [DATETIMES["times us"], DATETIMES["UTC"]] if name in ("us", "UTC", "few") else []
    for given in (
        {}, {"resolution": "nanosecond", "add_weekday": True, "add_day_of_year": True}, {"resolution": None},
        {"resolution": None, "add_total_seconds": False}, {"resolution": "year", "add_total_seconds": False},
        {"resolution": "second", "periodic_encoding": "circular"}, {"resolution": "day", "periodic_encoding": "spline"},
        {"resolution": "x"}, {"periodic_encoding": "x"},
    ):  # fmt: skip
        compare(native.DatetimeEncoder(**given), skrub.DatetimeEncoder(**given), column, others)


def test_behind_skrubs_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    stratum._load()
    calls = []
    for name in ("encode_dates", "date_parts"):
        do = getattr(dates._core, name)
        monkeypatch.setattr(dates._core, name, lambda *a, do=do, name=name: (calls.append(name), do(*a))[1])
    theirs, column = skrub.ToDatetime(), COLUMNS["nulls"]
    expected = theirs.fit_transform(column)
    taken = skrub.DatetimeEncoder().fit_transform(expected)
    assert not calls
    with kernels.on():
        ours = skrub.ToDatetime()
        result = ours.fit_transform(column)
        parts = skrub.DatetimeEncoder().fit_transform(result)
        assert calls == ["encode_dates", "date_parts"]
        with pytest.raises(RejectColumn, match="Could not find a datetime format for column 'when'"):
            skrub.ToDatetime().fit_transform(COLUMNS["words"])
    same(result, expected)
    same(parts, taken)
    assert vars(ours) == vars(theirs)
