"""Encoders of categories over distinct values: `OneHotEncoder`, `OrdinalEncoder`, `TargetEncoder`.

Subclasses of scikit-learn's, for whoever imports `stratum.native`. A column is read once, in C, into its distinct
values and a code for each row. Everything that has rules (missing and unknown values, rare categories, what is
dropped, warnings and errors) scikit-learn's own code does, given the distinct values as if they were the rows;
counts are those of the rows; and C brings the answers to the rows. Results are the original's, bit for bit. Only
where there is nothing to say (categories are to be learned, all values known) sorting and looking up are done
here, because the original asks of each value whether it is NaN (1,000 strings: 3 ms).

scikit-learn's ``_check_X`` is where the distinct values are put in: a `_Held` says, for one thread and for the time
of one call, which estimator gets them for which X. ``fit_transform`` keeps it from the fit to the transform.

The original reads every row where there are few (`FEW`), for objects other than str, int, float, bool, None and
NaN, for types that NumPy has no 1 to 8 byte numbers for, and where a column holds both zeros.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import sklearn
from sklearn import preprocessing
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from .. import _core
from . import _sklearn, text
from ._base import Declined, Native, check_plain, threads

__all__ = ["OneHotEncoder", "OrdinalEncoder", "TargetEncoder"]

# Rows below which the original does everything (measured: at 50 it takes 1.2 to 2 times as long, at 100,000 rows
# 4 to 30 times with few distinct values; where every value stands once 1.4 times at 100 rows, 1.8 to 6 at 100,000).
FEW = 50

_NUMBERS = "biuf"


class _Column:
    """A column in its distinct form.

    Attributes
    ----------
    values : ndarray
        What stands in the column, of the type that the original would see.
    codes : ndarray of uint32
        The place of each row's value.
    """

    def __init__(self, values: np.ndarray, codes: np.ndarray) -> None:
        self.values, self.codes = values, codes

    def categories(self) -> np.ndarray:
        """The values in scikit-learn's order: sorted, then None and NaN.

        Raises
        ------
        TypeError
            When they do not compare.
        """
        values = self.values
        if values.dtype != object:
            return np.sort(values)  # NaN last
        items = values.tolist()
        found: list[Any] = sorted(v for v in items if v is not None and v == v)
        if len(found) < len(items):
            found += [None] * (None in items) + [np.nan] * any(v != v for v in items)
        return _objects(found)

    def places(self, categories: np.ndarray) -> np.ndarray | None:
        """The category of each value; None where one has none, or where types differ."""
        if self.values.dtype != categories.dtype and not {self.values.dtype.kind, categories.dtype.kind} <= {"O", "U"}:
            return None
        items = categories.tolist()
        known = {value: i for i, value in enumerate(items)}
        nan = len(items) - 1 if items and items[-1] != items[-1] else None
        found = [known.get(v) if v == v else nan for v in self.values.tolist()]
        return None if None in found else np.array(found, dtype=np.int64)

    def counts(self) -> np.ndarray:
        """Rows of each value."""
        out = np.empty(len(self.values), np.int64)
        _core.encode_count(self.codes, out)
        return out

    def padded(self, n: int) -> np.ndarray:
        """The values and, up to `n`, the first one again."""
        more = n - len(self.values)
        return self.values if not more else np.concatenate([self.values, np.repeat(self.values[:1], more)])

    def take(self, values: np.ndarray, out: np.ndarray, column: int) -> None:
        """Write a column of a matrix in C order: for each row what its value became."""
        _core.encode_take(self.codes, out.itemsize, values, out, column, out.shape[1])


def _objects(values: list[Any]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _of_strings(series: Any) -> _Column:
    """A pandas column of strings in Arrow's layout."""
    n = len(series)
    codes = np.empty(n, np.uint32)
    found = _core.encode_arrow(series.__arrow_c_stream__(), codes, n)
    if found is None:
        raise Declined("strings in another layout")
    strings, nulls = found
    if nulls:
        if getattr(series.dtype, "na_value", None) is not np.nan:
            raise Declined("missing values other than None and NaN")
        strings.append(np.nan)
    return _Column(_objects(strings), codes)


def _of_categories(series: Any) -> _Column:
    """A pandas column of categories: those that occur, and NaN."""
    categories = series.cat.categories
    values = np.asarray(categories)
    if values.dtype.kind not in "O" + _NUMBERS or values.ndim != 1:
        raise Declined("categories of another kind")
    places = series.cat.codes.to_numpy()
    missing = places < 0
    if missing.any():
        if values.dtype != object or getattr(categories.dtype, "na_value", np.nan) is not np.nan:
            raise Declined("missing values among numbers")
        values = np.append(values, _objects([np.nan]))
        places = np.where(missing, len(values) - 1, places)
    codes = places.astype(np.uint32)
    if not 0 < len(values) <= len(codes):
        raise Declined("more categories than rows")
    column = _Column(values, codes)
    there = column.counts() > 0
    if there.all():
        return column
    numbers = np.cumsum(there, dtype=np.uint32) - np.uint32(1)
    return _Column(values[there], numbers[codes])


def _of_array(values: np.ndarray) -> _Column:
    """A column that the original's own checks made an array of."""
    n = len(values)
    codes = np.empty(n, np.uint32)
    dtype = values.dtype
    if dtype.kind == "U":
        values = values.astype(object)
    if values.dtype == object:
        found = _core.encode_objects(values, codes, n)
        if found is None:
            raise Declined("objects of another kind")
        return _Column(_objects(found).astype(dtype, copy=False), codes)
    if dtype.kind not in _NUMBERS:
        raise Declined("a type of another kind")
    first = np.empty(n, np.uint64)
    found = _core.encode_numbers(values, codes, first)
    if found is None:
        raise Declined("both zeros, or a type of another kind")
    return _Column(values[first[:found]], codes)


def _of_series(series: Any) -> _Column:
    """A column of a pandas frame."""
    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        raise Declined("a sparse column")
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(series)
    if text.reads(series):
        return _of_strings(series)
    if dtype == object:
        return _of_array(series.to_numpy())
    return _of_array(check_array(series, ensure_2d=False, dtype=None, ensure_all_finite="allow-nan"))


class _Held:
    """X in its distinct form, while an estimator's method runs.

    Attributes
    ----------
    estimator, X
        For which, and of what.
    columns : list of _Column
        As many as X has.
    n_rows : int
        Of X.
    serves : {"", "fit", "transform"}
        What ``_check_X`` answers: nothing, distinct values, or those in columns of one length.
    """

    def __init__(self, estimator: Any, X: Any) -> None:
        self.estimator, self.X = estimator, X
        self.serves = ""
        check_plain(X)
        shape = getattr(X, "shape", None)
        if isinstance(X, (list, tuple)):
            shape = (len(X),)
        if shape is None or not shape or shape[0] < FEW:
            raise Declined("few rows")
        try:
            if isinstance(X, pd.DataFrame):
                self.columns = [_of_series(X.iloc[:, i]) for i in range(X.shape[1])]
            elif hasattr(X, "iloc"):
                raise Declined("a frame of another kind")
            else:
                self.columns = [_of_array(column) for column in estimator._check_X(X, "allow-nan")[0]]
        except (TypeError, ValueError) as error:
            raise Declined(f"input that the original refuses ({error})") from None
        if not self.columns:
            raise Declined("no columns")
        self.n_rows = len(self.columns[0].codes)
        self.depth = max(len(column.values) for column in self.columns)

    def answer(self) -> tuple[list[np.ndarray], int, int]:
        """What ``_check_X`` returns."""
        if self.serves == "fit":
            return [column.values for column in self.columns], self.n_rows, len(self.columns)
        return [column.padded(self.depth) for column in self.columns], self.depth, len(self.columns)

    def rows(self, table: np.ndarray) -> np.ndarray:
        """A matrix with a row for each row of X from one with a row for each place."""
        if table.itemsize not in (1, 2, 4, 8) or table.dtype.hasobject:
            raise Declined("a type of another size")
        out = np.empty((self.n_rows, table.shape[1]), table.dtype)
        for i, column in enumerate(self.columns):
            column.take(np.ascontiguousarray(table[:, i]), out, i)
        return out


_local = threading.local()


@contextlib.contextmanager
def _holding(estimator: Any, X: Any) -> Iterator[_Held]:
    """X in its distinct form, made anew unless the estimator's ``fit_transform`` holds it."""
    outer = getattr(_local, "held", None)
    if outer is not None and outer.estimator is estimator and outer.X is X:
        yield outer
        return
    held = _Held(estimator, X)
    _local.held = held
    try:
        yield held
    finally:
        _local.held = outer


class _ByDistinct(Native):
    """What the encoders share: scikit-learn's private steps, given distinct values."""

    def _serving(self) -> _Held | None:
        held = getattr(_local, "held", None)
        return held if held is not None and held.estimator is self and held.serves else None

    def _check_X(self, X: Any, ensure_all_finite: Any = True) -> Any:
        held = self._serving()
        return super()._check_X(X, ensure_all_finite) if held is None else held.answer()

    def _fit(
        self,
        X: Any,
        handle_unknown: str = "error",
        ensure_all_finite: Any = True,
        return_counts: bool = False,
        return_and_ignore_missing_for_infrequent: bool = False,
    ) -> dict[str, Any]:
        held, missing = self._serving(), return_and_ignore_missing_for_infrequent
        if held is not None and isinstance(self.categories, str) and not return_counts:
            try:
                categories = [column.categories() for column in held.columns]
            except TypeError:
                categories = []  # the original has words for it
            if categories:
                return self._learn(held, X, categories, missing)
        return super()._fit(X, handle_unknown, ensure_all_finite, return_counts, missing)

    def _learn(self, held: _Held, X: Any, categories: list[np.ndarray], missing: bool) -> dict[str, Any]:
        """What ``_fit`` does with categories that were found."""
        self._check_infrequent_enabled()
        validate_data(self, X=X, reset=True, skip_check_array=True)
        self.n_features_in_ = len(categories)
        self.categories_ = categories
        found: dict[str, Any] = {"n_samples": held.n_rows}
        indices = {}
        if missing:
            indices = {i: len(c) - 1 for i, c in enumerate(categories) if c[-1] != c[-1]}
            found["missing_indices"] = indices
        if self._infrequent_enabled:
            self._fit_infrequent_category_mapping(held.n_rows, [], indices)
        return found

    def _transform(
        self,
        X: Any,
        handle_unknown: str = "error",
        ensure_all_finite: Any = True,
        warn_on_unknown: bool = False,
        ignore_category_indices: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        held = self._serving()
        if held is not None and held.serves == "transform" and len(held.columns) == len(self.categories_):
            found = [column.places(c) for column, c in zip(held.columns, self.categories_, strict=True)]
            if not any(places is None for places in found):
                validate_data(self, X=X, reset=False, skip_check_array=True)
                table = np.zeros((held.depth, len(found)), dtype=int)
                for i, places in enumerate(found):
                    table[: len(places), i] = places
                mask = np.ones(table.shape, dtype=bool)
                self._map_infrequent_categories(table, mask, ignore_category_indices)
                return table, mask
        return super()._transform(X, handle_unknown, ensure_all_finite, warn_on_unknown, ignore_category_indices)

    def _fit_infrequent_category_mapping(self, n_samples: int, category_counts: Any, missing_indices: Any) -> None:
        held = self._serving()
        if held is not None:
            category_counts = [
                self._counts(column, categories)
                for column, categories in zip(held.columns, self.categories_, strict=True)
            ]
        super()._fit_infrequent_category_mapping(n_samples, category_counts, missing_indices)

    @staticmethod
    def _counts(column: _Column, categories: np.ndarray) -> np.ndarray:
        """Rows of each category."""
        known = {value: n for value, n in zip(column.values.tolist(), column.counts().tolist(), strict=True)}
        nan = sum(n for value, n in known.items() if value != value)
        return np.array([known.get(v, 0) if v == v else nan for v in categories.tolist()], dtype=np.int64)

    def _fit_by(self, fit: Any, X: Any, y: Any) -> Self:
        """Learn the categories by the original's `fit`, of distinct values where that can be."""
        try:
            with _holding(self, X) as held:
                if not isinstance(self.categories, str):
                    self._check_listing(held, self.categories)
                self._serve("fit", held, fit, X, y)
            self.fitted_by_ = "stratum"
        except Declined as reason:
            fit(X, y)
            self._declined(reason)
        return self

    def _check_listing(self, held: _Held, known: Any) -> None:
        """Decline where an error would list each NaN of a column (other values it lists once)."""
        if getattr(self, "handle_unknown", "") == "error":
            for column, categories in zip(held.columns, known, strict=False):
                if column.values.dtype.kind == "f" and np.isnan(column.values).any():
                    last = list(categories)[-1:]
                    if not last or last[0] == last[0]:
                        raise Declined("NaN that may be unknown")

    @staticmethod
    def _serve(what: str, held: _Held, call: Any, *args: Any, **kwargs: Any) -> Any:
        """A call during which ``_check_X`` answers with distinct values."""
        before, held.serves = held.serves, what
        try:
            return call(*args, **kwargs)
        finally:
            held.serves = before


class _Plain(_ByDistinct):
    """The two encoders whose ``fit_transform`` is a fit and a transform."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the categories; parameters as the original's."""
        return self._fit_by(super().fit, X, y)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn the categories and encode X."""
        if fit_params or sklearn.get_config()["enable_metadata_routing"]:
            return super().fit_transform(X, y, **fit_params)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(Declined):  # `fit` says why
                stack.enter_context(_holding(self, X))
            return self.fit(X, y).transform(X)

    def _places(self, held: _Held, X: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """scikit-learn's codes, and whether they hold, with a row for each place of a distinct value."""
        self._check_listing(held, self.categories_)
        return self._serve("transform", held, self._transform, X, ensure_all_finite="allow-nan", **kwargs)


class OneHotEncoder(_Plain, preprocessing.OneHotEncoder):
    """`sklearn.preprocessing.OneHotEncoder`, bit for bit."""

    _original: ClassVar[type] = preprocessing.OneHotEncoder

    def transform(self, X: Any) -> Any:
        """Encode X."""
        try:
            return self._encode(X)
        except Declined:
            return super().transform(X)

    def _encode(self, X: Any) -> Any:
        check_is_fitted(self)
        dtype = np.dtype(self.dtype)
        if dtype.kind not in _NUMBERS or dtype.itemsize not in (1, 4, 8) or not dtype.isnative:
            raise Declined("numbers of another kind")
        if self.sparse_output and _sklearn.output_config("transform", estimator=self)["dense"] != "default":
            raise Declined("a frame from a sparse matrix")
        unknown, warns = self.handle_unknown, False
        if unknown == "warn":
            unknown, warns = "infrequent_if_exist", True
        elif self.drop is not None:
            warns = unknown in ("ignore", "infrequent_if_exist")
        with _holding(self, X) as held:
            places, known = self._places(held, X, handle_unknown=unknown, warn_on_unknown=warns)
        width = int(sum(self._n_features_outs))
        begins = np.cumsum([0, *self._n_features_outs[:-1]])
        columns = []
        for i, column in enumerate(held.columns):
            place, there = places[: len(column.values), i], known[: len(column.values), i]
            dropped = None if self._drop_idx_after_grouping is None else self._drop_idx_after_grouping[i]
            if dropped is not None:
                there = there & (place != dropped)
                place = place - (place > dropped)
            columns.append(np.where(there, place + begins[i], -1).astype(np.int32))
        codes, targets = tuple(column.codes for column in held.columns), tuple(columns)
        n = held.n_rows
        if not self.sparse_output:
            out = np.zeros((n, width), dtype)
            if out.size:
                one = np.ones(1, dtype).view(np.uint8)
                _core.encode_dense(codes, targets, n, width, one, out, threads(out.nbytes))
            return out
        indptr, index = np.empty(n + 1, np.int32), np.empty(n * len(codes), np.int32)
        entries = _core.encode_csr(codes, targets, width, indptr, index, threads(index.nbytes))
        if entries is None:
            raise Declined("2**31 entries")
        if entries < len(index):
            index = index[:entries].copy()
        return text.csr(np.ones(entries, dtype), index, indptr, (n, width))


class OrdinalEncoder(_Plain, preprocessing.OrdinalEncoder):
    """`sklearn.preprocessing.OrdinalEncoder`, bit for bit."""

    _original: ClassVar[type] = preprocessing.OrdinalEncoder

    def transform(self, X: Any) -> Any:
        """Encode X."""
        try:
            return self._encode(X)
        except Declined:
            return super().transform(X)

    def _encode(self, X: Any) -> Any:
        check_is_fitted(self, "categories_")
        with _holding(self, X) as held:
            places, known = self._places(
                held, X, handle_unknown=self.handle_unknown, ignore_category_indices=self._missing_indices
            )
        table = places.astype(self.dtype, copy=False)
        # (a type of whole numbers makes table and places one array, as in the original)
        for i, missing in self._missing_indices.items():
            table[places[:, i] == missing, i] = self.encoded_missing_value
        if self.handle_unknown == "use_encoded_value":
            table[~known] = self.unknown_value
        return held.rows(table)


class TargetEncoder(_ByDistinct, preprocessing.TargetEncoder):
    """`sklearn.preprocessing.TargetEncoder`, bit for bit."""

    _original: ClassVar[type] = preprocessing.TargetEncoder

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the encodings; parameters as the original's."""
        return self._fit_by(super().fit, X, y)

    def fit_transform(self, X: Any, y: Any, **params: Any) -> Any:
        """Learn the encodings and encode X by cross fitting."""
        try:
            with _holding(self, X) as held:
                result = self._serve("fit", held, super().fit_transform, X, y, **params)
            self.fitted_by_ = "stratum"
            return result
        except Declined as reason:
            result = super().fit_transform(X, y, **params)
            self._declined(reason)
            return result

    def transform(self, X: Any) -> Any:
        """Encode X by what was learned."""
        try:
            with _holding(self, X) as held:
                return self._serve("fit", held, super().transform, X)
        except Declined:
            return super().transform(X)

    def _transform(self, X: Any, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        held = self._serving()
        if held is None:
            return super()._transform(X, *args, **kwargs)
        places, known = self._serve("transform", held, super()._transform, X, *args, **kwargs)
        return held.rows(places), held.rows(known)
