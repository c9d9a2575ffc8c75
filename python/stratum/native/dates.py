"""Dates: skrub's `ToDatetime` and `DatetimeEncoder`.

Called by users under `stratum.native` and, behind skrub's classes, by `stratum.hosts.kernels`. pandas only; results,
attributes and errors are the original's.

* The guess of a format is pandas' own, on skrub's sample. It is asked no more often than matters: a column fails with
  the first string that has no format, or another one than those before (most columns of a table: a sixtieth of the
  time), and where all strings of a sample are dates in one ISO layout the first one is asked for all (pandas compares
  tokens with the parts of the date, and in these layouts no such comparison leads astray; the tests try them all).
* Strings are read by C where the format is made of ``%Y %m %d %H %M %S`` and every string has all its digits; pandas
  reads the column where one has not (it takes ``2020-1-2``, too, and knows what to say of an error).
* The parts of dates are taken in one pass into one float32 matrix; time zones other than UTC and periodic encodings
  are skrub's.
"""

from __future__ import annotations

import datetime
import functools
import re
import sys
import warnings
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import skrub
from skrub import _dataframe as sbd
from sklearn.utils.validation import check_is_fitted

from .. import _core
from . import text
from ._base import Native, threads

__all__ = ["DatetimeEncoder", "ToDatetime"]

# The modules of skrub's classes: what they import is what the classes use.
_reading = sys.modules[skrub.ToDatetime.__module__]
_encoding = sys.modules[skrub.DatetimeEncoder.__module__]

# Rows below which the originals do everything.
FEW = 100
_ISO = re.compile(r"[1-9]\d{3}-\d\d-\d\d(?:([ T])\d\d:\d\d(:\d\d)?)?", re.ASCII)
_PARTS = (
    "year", "month", "day", "hour", "minute", "second", "microsecond", "nanosecond", "total_seconds", "weekday",
    "day_of_year",
)  # fmt: skip
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NO_DATE = np.iinfo(np.int64).min


@functools.lru_cache(maxsize=64)
def _sampled(n: int) -> np.ndarray:
    """Which of n rows skrub's sample takes (all columns of a table ask for the same)."""
    return sbd.sample(pd.Series(np.arange(n)), n=min(_reading._SAMPLE_SIZE, n), seed=0).to_numpy()


def _iso(value: str) -> str | None:
    """The format of a date in an ISO layout."""
    found = _ISO.fullmatch(value)
    if found is None:
        return None
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        return None
    separator, seconds = found.groups()
    return "%Y-%m-%d" + (f"{separator}%H:%M" if separator else "") + ("" if seconds is None else ":%S")


def _guessed(sample: list[str]) -> str | None:
    """The format that skrub finds for a sample of strings."""
    strings = list(dict.fromkeys(sample))
    guess = _reading.pd_guess_datetime_format
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        for day_first in (False, True):
            first = guess(strings[0], dayfirst=day_first)
            if first is None or first is pd.NA:
                continue
            if not day_first and all(_iso(string) == first for string in strings):
                return str(first)
            if all(guess(string, dayfirst=day_first) == first for string in strings[1:]):
                return str(first)
    return None


def _read(column: Any, fmt: str) -> Any:
    """The column as datetimes without a time zone; None where pandas has to read it."""
    out = np.empty(len(column), np.int64)
    if not (isinstance(fmt, str) and _core.encode_dates(column.__arrow_c_stream__(), fmt, out)):
        return None
    # the resolution is pandas' choice, which looks at the first date alone
    there = np.flatnonzero(out != _NO_DATE)[:1]
    if not len(there):
        return None
    if pd.to_datetime(column.iloc[there], format=fmt).dtype != np.dtype("M8[us]"):
        return None
    return pd.Series(out.view("M8[us]"), index=column.index, name=column.name, copy=False)


class ToDatetime(Native, skrub.ToDatetime):
    """`skrub.ToDatetime`; pandas columns of strings in Arrow's layout are native."""

    _original: ClassVar[type] = skrub.ToDatetime

    def fit_transform(self, column: Any, y: Any = None) -> Any:
        """Find the format and read the dates; parameters as the original's."""
        if not self._takes(column):
            return super().fit_transform(column, y)
        self.all_outputs_ = [sbd.name(column)]
        fmt = self._get_datetime_format(column)
        if fmt is None:
            raise _reading.RejectColumn(f"Could not find a datetime format for column {sbd.name(column)!r}.")
        self.format_ = fmt
        dates = _read(column, fmt)
        if dates is None:
            try:
                dates = sbd.to_datetime(column, format=fmt, strict=True)
            except Exception as error:
                raise _reading.RejectColumn(
                    f"Failed to convert column {sbd.name(column)!r} to datetimes using the format {fmt!r}."
                ) from error
        self.output_dtype_ = sbd.dtype(dates)
        self.output_time_zone_ = _reading._get_time_zone(dates)
        return dates

    def transform(self, column: Any) -> Any:
        """Read dates in the format that was found."""
        check_is_fitted(self, "format_")
        if self._takes(column) and self.output_time_zone_ is None and self.output_dtype_ == np.dtype("M8[us]"):
            dates = None if self.format_ is None else _read(column, self.format_)
            if dates is not None:
                return dates
        return super().transform(column)

    @staticmethod
    def _takes(column: Any) -> bool:
        return (
            isinstance(column, pd.Series)
            and len(column) >= FEW
            and not isinstance(column.dtype, pd.CategoricalDtype)
            and text.reads(column)
        )

    def _get_datetime_format(self, column: Any) -> str | None:
        if self.format is not None or not self._takes(column):
            return super()._get_datetime_format(column)
        missing = column.isna().to_numpy()
        n = len(column) - int(missing.sum())
        if n == 0:
            return None
        rows = _sampled(n)
        return _guessed(column.iloc[rows if n == len(column) else np.flatnonzero(~missing)[rows]].tolist())


class DatetimeEncoder(Native, skrub.DatetimeEncoder):
    """`skrub.DatetimeEncoder`; pandas columns without a time zone, or in UTC, are native."""

    _original: ClassVar[type] = skrub.DatetimeEncoder

    def fit_transform(self, column: Any, y: Any = None) -> Any:
        """Choose the parts and take them; parameters as the original's."""
        self._check_params()
        found = self._times(column)
        if found is None or self.periodic_encoding is not None:
            return super().fit_transform(column, y)
        times, per_second = found
        levels = _encoding._TIME_LEVELS
        self.extracted_features_ = []
        if self.resolution is not None:
            level = levels.index(self.resolution)
            if level > levels.index("day") and _core.date_midnight(times, per_second):
                level = levels.index("day")
            self.extracted_features_ = levels[: level + 1]
        for part in ("total_seconds", "weekday", "day_of_year"):
            if getattr(self, f"add_{part}"):
                self.extracted_features_.append(part)
        self._periodic_encoders = {}
        self.all_outputs_ = [f"{sbd.name(column)}_{part}" for part in self.extracted_features_]
        return self.transform(column)

    def transform(self, column: Any) -> Any:
        """Take the parts of dates."""
        check_is_fitted(self, "all_outputs_")
        found = self._times(column)
        if found is None or self._periodic_encoders or not self.extracted_features_:
            return super().transform(column)
        times, per_second = found
        names = [f"{sbd.name(column)}_{part}" for part in self.extracted_features_]
        if "__skrub_" in names[0]:  # a name made unique at random keeps its mark at the end
            names = sbd.column_names(sbd.concat(pd.DataFrame(columns=names), axis=1))
        out = np.empty((len(names), len(times)), np.float32)
        parts = bytes(_PARTS.index(part) for part in self.extracted_features_)
        _core.date_parts(times, per_second, parts, out, threads(times.nbytes, 8))
        self.all_outputs_ = names
        return pd.DataFrame(out.T, index=column.index, columns=names, copy=False)

    @staticmethod
    def _times(column: Any) -> tuple[np.ndarray, int] | None:
        """The column as whole numbers and how many of their units a second has."""
        if not isinstance(column, pd.Series) or len(column) < FEW:
            return None
        dtype = column.dtype
        if isinstance(dtype, pd.DatetimeTZDtype):
            if str(dtype.tz) != "UTC":
                return None
            values = column.dt.tz_localize(None).to_numpy()
        elif isinstance(dtype, np.dtype) and dtype.kind == "M":
            values = column.to_numpy()
        else:
            return None
        return np.ascontiguousarray(values).view(np.int64), _PER_SECOND[np.datetime_data(values.dtype)[0]]
