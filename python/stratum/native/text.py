"""scikit-learn's text vectorizers, counting n-grams of distinct strings in C.

For users through ``stratum.native`` and for ``string_encoder``. Results are the original's, bit for bit: matrices
(order of entries and types included), vocabularies and idf.

The subclasses leave validation, warnings and the meaning of parameters to scikit-learn's own ``fit_transform``
and stand in for three steps that it calls: counting (``_count_vocab``), pruning (``_limit_features``) and sorting
(``_sort_features``). Between them passes a `Pending` in place of a matrix, so that the matrix is made once, with
its final columns. The original does the counting where

* ``analyzer``, ``tokenizer`` or ``preprocessor`` is a callable, ``strip_accents`` is one, or a subclass has
  methods of its own for a step;
* ``token_pattern`` is not one of `PATTERNS`;
* documents are not all ``str`` (bytes, files, missing values), or ``ngram_range`` begins below 1;
* there are few documents for a large vocabulary (`LOOKUPS`), or few documents at all (`FEW`);
* the matrix has 2**31 entries or more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from numbers import Integral
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import sklearn
from sklearn.feature_extraction import text as original
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core
from . import _config

# Token patterns that mean: all runs of word characters with at least so many.
PATTERNS = {
    r"(?u)\b\w\w+\b": 2, r"\b\w\w+\b": 2, r"\w\w+": 2,
    r"(?u)\b\w+\b": 1, r"\b\w+\b": 1, r"\w+": 1,
}  # fmt: skip
ANALYZERS = {"char": 0, "char_wb": 1, "word": 2}
AS_SEEN, BY_COLUMN = 0, 1
NUMBERS = {np.dtype(np.int32): 0, np.dtype(np.int64): 1, np.dtype(np.float32): 2, np.dtype(np.float64): 3}
NORMS = {None: 0, "l1": 1, "l2": 2}

# Bytes of text for each term of a vocabulary that was given, below which the original looks up. A table of the
# terms costs some 80 ns each; the original's lookups cost that much for so many bytes (measured as equal at 0.9
# to 1.5 for words and 0.15 to 0.2 for characters, with 5,000 to 240,000 terms).
LOOKUPS = {"word": 1.5, "char": 0.25, "char_wb": 0.25}
# Documents below which the original does everything (measured: at 10 it takes 1.15 to 3.9 times as long, at 3
# half as long in the worst case).
FEW = 10


# -- Columns ------------------------------------------------------------------------------------


def column(raw: Any, nulls: tuple[Any, ...] | None = None) -> tuple[Any, Any]:
    """The distinct form of a column of strings.

    Parameters
    ----------
    raw : iterable
        pandas, Polars or PyArrow strings or categories, or anything whose items are ``str``.
    nulls : tuple or None
        What stands for a missing value beside None and NaN; with None, nothing does.

    Returns
    -------
    column : _core.TextColumn or None
        None where an item is neither a string nor missing.
    raw : iterable
        What was given, or its items where they can be had only once.
    """
    if isinstance(raw, Prepared):
        return raw.found, raw
    capsule = _capsule(raw)
    if capsule is not None:
        found = _core.text_from_arrow(capsule)
        if found is not None and found.n_nulls and nulls is None:
            found = None
        return found, raw
    if isinstance(raw, np.ndarray):
        if raw.ndim != 1 or raw.dtype.kind not in "OU":
            return None, raw
        items = raw.tolist()
    elif isinstance(raw, list):
        items = raw
    elif _module_of(raw) == "pandas" and hasattr(raw, "tolist"):
        if raw.dtype.kind != "O":
            return None, raw
        items = raw.tolist()
    else:
        items = raw = list(raw)
    return _core.text_from_list(items, nulls), raw


def reads(raw: Any) -> bool:
    """Whether a column of a frame has strings in Arrow's layout, so that its type says all of it."""
    package = _module_of(raw)
    if package == "pandas":
        pandas = sys.modules["pandas"]
        return isinstance(raw, pandas.Series) and _arrow_dtype(pandas, raw.dtype)
    if package == "polars":
        polars = sys.modules["polars"]
        return isinstance(raw, polars.Series) and raw.dtype in (polars.String, polars.Categorical, polars.Enum)
    return False


class Prepared:
    """A column in its distinct form, which the original can still iterate over."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def __iter__(self) -> Any:
        strings = self.found.strings()
        codes = codes_of(self.found)
        return iter(strings if codes is None else [strings[code] for code in codes])


def _module_of(value: Any) -> str:
    """The package that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def _capsule(raw: Any) -> Any:
    """An Arrow capsule of strings, where the column can give one without guessing types."""
    if reads(raw):
        return raw.__arrow_c_stream__()
    if _module_of(raw) == "pyarrow":
        if hasattr(raw, "__arrow_c_stream__"):
            return raw.__arrow_c_stream__()
        if hasattr(raw, "__arrow_c_array__"):
            return raw.__arrow_c_array__()
    return None


def _arrow_dtype(pandas: Any, dtype: Any) -> bool:
    """Whether a pandas column of this type holds strings in Arrow's layout."""
    if isinstance(dtype, pandas.CategoricalDtype):
        dtype = dtype.categories.dtype
    if isinstance(dtype, pandas.StringDtype):
        return dtype.storage == "pyarrow"
    if isinstance(dtype, pandas.ArrowDtype):
        return str(dtype.pyarrow_dtype) in ("string", "large_string", "string_view")
    return False


def codes_of(found: Any) -> np.ndarray | None:
    """Each row's number of its string; None where every row has a string of its own."""
    if found.n_distinct == found.n_rows:
        return None
    codes = np.empty(found.n_rows, np.uint32)
    found.codes(codes)
    return codes


def counts_of(found: Any) -> np.ndarray:
    """How many rows each distinct string has."""
    counts = np.empty(found.n_distinct, np.int64)
    found.counts(counts)
    return counts


# -- Matrices -----------------------------------------------------------------------------------


def csr(data: np.ndarray, index: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> Any:
    """A matrix of the kind that scikit-learn is set to return."""
    kind = sp.csr_array if sklearn.get_config().get("sparse_interface") == "sparray" else sp.csr_matrix
    return kind((data, index, indptr), shape=shape)


class Pending:
    """Counts that are still to become a matrix; scikit-learn's code sees a shape and data.

    Attributes
    ----------
    found : _core.TextColumn
        The documents.
    counts : _core.TextCounts
        Their terms.
    map : ndarray of int32
        The column of each term, -1 for none.
    n_columns : int
        Columns of the matrix.
    """

    def __init__(self, found: Any, counts: Any, columns: np.ndarray | None, n_columns: int) -> None:
        self.found, self.counts = found, counts
        self.fixed = columns is not None
        self.map = columns
        self.n_columns = n_columns
        self.shape = (found.n_rows, n_columns)
        # `X.data.fill(1)` is how scikit-learn says binary.
        self.data = np.zeros(1, np.int8)

    @property
    def binary(self) -> bool:
        """Whether counts become ones."""
        return bool(self.data[0])

    def documents(self) -> np.ndarray:
        """How many rows have each column."""
        rows = np.empty(self.counts.n_terms, np.int64)
        self.counts.documents(rows)
        if self.map is None:
            return rows
        out = np.zeros(self.n_columns, np.int64)
        kept = self.map >= 0
        out[self.map[kept]] = rows[kept]
        return out

    def sort(self, vocabulary: dict[str, int]) -> None:
        """Number columns by the order of their terms."""
        order = np.empty(self.counts.n_terms, np.uint32)
        self.counts.order(order, _config.threads())
        if self.map is not None:
            order = order[self.map[order] >= 0]
        self.map = np.full(self.counts.n_terms, -1, np.int32)
        self.map[order] = np.arange(len(order), dtype=np.int32)
        vocabulary.update(self.counts.vocabulary(self.map))

    def limit(self, vocabulary: dict[str, int], high: float | None, low: float | None, limit: int | None) -> None:
        """Leave out terms in too many or too few rows, and all but the most frequent ones."""
        rows = self.documents()
        mask = np.ones(len(rows), dtype=bool)
        if high is not None:
            mask &= rows <= high
        if low is not None:
            mask &= rows >= low
        if limit is not None and mask.sum() > limit:
            # Ties fall as scikit-learn's sort lets them fall: same function, values and order.
            totals = np.empty(self.counts.n_terms, np.int64)
            if self.binary:
                self.counts.documents(totals)
            else:
                self.counts.totals(totals)
            assert self.map is not None
            by_column = np.empty(self.n_columns, np.int64)
            by_column[self.map] = totals
            best = (-by_column.astype(self.sums)[mask]).argsort()[:limit]
            kept = np.zeros(len(rows), dtype=bool)
            kept[np.where(mask)[0][best]] = True
            mask = kept
        if not mask.any():
            raise ValueError("After pruning, no terms remain. Try a lower min_df or a higher max_df.")
        new = np.where(mask, np.cumsum(mask) - 1, -1).astype(np.int32)
        if self.map is None:
            self.map = new
        else:
            self.map = new[self.map]
            vocabulary.clear()
            vocabulary.update((term, np.int64(at)) for term, at in self.counts.vocabulary(self.map).items())
        self.n_columns = int(mask.sum())
        self.shape = (self.found.n_rows, self.n_columns)

    sums: Any = np.int64

    def rows(
        self,
        number: Any,
        *,
        idf: np.ndarray | None = None,
        norm: str | None = None,
        sublinear: bool = False,
        sort: bool = False,
        expand: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The matrix as ``(data, index, indptr)``.

        Parameters
        ----------
        number : dtype
            Of the data; values are computed in float64.
        idf : ndarray of float64 or None
            What columns are multiplied by.
        norm : {"l1", "l2"} or None
            What rows are brought to.
        sublinear : bool
            Whether a count becomes one plus its logarithm.
        sort : bool
            Whether entries stand by column in the end; else by first sight where a vocabulary was learned.
        expand : bool
            A row for each row of the column, or one for each distinct string.
        """
        threads = _config.threads()
        if self.map is None:
            self.map = np.arange(self.counts.n_terms, dtype=np.int32)
        table = None
        if sublinear:
            table = np.arange(self.counts.max() + 1, dtype=np.float64)
            table[:1] = 1.0
            np.log(table, table)
            table += 1.0
        indptr = np.empty(self.found.n_distinct + 1, np.int32)
        n = self.counts.layout(self.map, indptr)
        index, data = np.empty(n, np.int32), np.empty(n, number)
        self.counts.rows(
            self.map, None, BY_COLUMN if self.fixed else AS_SEEN, sort or self.fixed, self.binary, table,
            idf, NORMS[norm], NUMBERS[data.dtype], indptr, index, data, threads,
        )  # fmt: skip
        if expand:
            return expanded(self.found, data, index, indptr)
        return data, index, indptr


def expanded(
    found: Any, data: np.ndarray, index: np.ndarray, indptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the column from those of its distinct strings."""
    codes = codes_of(found)
    if codes is None:
        return data, index, indptr
    out = np.empty(len(codes) + 1, np.int32)
    size, threads = data.dtype.itemsize, _config.threads()
    n = _core.text_expand(codes, size, indptr, index, data, out, None, None, threads)
    all_index, all_data = np.empty(n, np.int32), np.empty(n, data.dtype)
    _core.text_expand(codes, size, indptr, index, data, out, all_index, all_data, threads)
    return all_data, all_index, out


# -- What the C scanner can do --------------------------------------------------------------------


def _own(vectorizer: Any, base: type, *names: str) -> bool:
    """Whether a subclass has replaced one of the methods."""
    return any(getattr(type(vectorizer), name) is not getattr(base, name) for name in names)


_STEPS = (
    "build_analyzer", "build_preprocessor", "build_tokenizer", "get_stop_words", "decode",
    "_word_ngrams", "_char_ngrams", "_char_wb_ngrams",
)  # fmt: skip


def _scanner(vectorizer: Any, base: type) -> tuple[Any, ...] | None:
    """Arguments of ``text_count`` for a vectorizer's analyzer, or None where only the original has it."""
    self = vectorizer
    if (
        self.analyzer not in ANALYZERS
        or self.preprocessor is not None
        or self.strip_accents not in (None, "ascii", "unicode")
        or self.input != "content"
        or _own(self, base, *_STEPS)
        or any(name in vars(self) for name in _STEPS)
    ):
        return None
    low, high = self.ngram_range
    if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high < 2**31):
        return None
    least, stop = 1, None
    if self.analyzer == "word":
        if self.tokenizer is not None or self.token_pattern not in PATTERNS:
            return None
        least = PATTERNS[self.token_pattern]
        words = self.get_stop_words()
        if words is not None:
            stop = _core.text_vocabulary({word: 0 for word in words})
            if stop is None:
                return None
    return ANALYZERS[self.analyzer], low, high, least, bool(self.lowercase), stop


def _counted(vectorizer: Any, base: type, raw: Any, given: Any) -> tuple[Any, Any, Any, Any]:
    """``(column, counts, columns, raw)``; None for all but the last where the original must count ``raw``.

    ``given`` is a vocabulary or None; ``columns`` are those of its terms.
    """
    scanner = _scanner(vectorizer, base)
    if scanner is None:
        return None, None, None, raw
    found, raw = column(raw)
    if found is None or found.n_rows < FEW:
        return None, None, None, raw
    if given is not None and found.n_bytes < LOOKUPS[vectorizer.analyzer] * len(given):
        return None, None, None, raw
    if vectorizer.strip_accents and not found.ascii:
        # Accents are stripped of distinct strings, by Python, after lowering them.
        strip = original.strip_accents_ascii if vectorizer.strip_accents == "ascii" else original.strip_accents_unicode
        lower = scanner[4]
        found = found.mapped([strip(s.lower() if lower else s) for s in found.strings()])
        scanner = (*scanner[:4], False, scanner[5])
    vocabulary = columns = None
    if given is not None:
        vocabulary = _core.text_vocabulary(given)
        if vocabulary is None:
            return None, None, None, raw
        columns = np.empty(len(vocabulary), np.int32)
        vocabulary.columns(columns)
        if (np.bincount(columns, minlength=len(columns)) != 1).any():
            return None, None, None, raw  # changed by hand: not a numbering any more
    try:
        counts = _core.text_count(found, *scanner, vocabulary, _config.threads())
    except OverflowError:  # a text of half a GiB
        return None, None, None, raw
    return found, counts, columns, raw


# -- Estimators -----------------------------------------------------------------------------------


class _Convertible:
    """To and from the original class."""

    _original: type

    def to_original(self) -> Any:
        """The same estimator, fitted alike, of the original class.

        Returns
        -------
        estimator
            Shares fitted attributes with this one.
        """
        other = self._original(**self.get_params(deep=False))  # type: ignore[attr-defined]
        other.__dict__.update(self.__dict__)
        return other

    @classmethod
    def from_original(cls, estimator: Any) -> Self:
        """The native estimator for an original one, fitted if that is.

        Parameters
        ----------
        estimator
            An instance of the original class.

        Returns
        -------
        estimator
            Shares fitted attributes with the given one.
        """
        if not isinstance(estimator, cls._original):
            raise TypeError(f"{cls._original.__name__} expected, got {type(estimator).__name__}")
        other = cls(**estimator.get_params(deep=False))
        other.__dict__.update(estimator.__dict__)
        return other


def from_original(estimator: Any) -> Any:
    """The native vectorizer for one of scikit-learn's; what has none is returned as it is."""
    for cls in (CountVectorizer, TfidfTransformer, TfidfVectorizer, HashingVectorizer):
        if type(estimator) is cls._original:
            return cls.from_original(estimator)
    return estimator


def idf(df: np.ndarray, n_samples: int, smooth: bool) -> np.ndarray:
    """Inverse document frequencies by the original's operations, in its order and types.

    Parameters
    ----------
    df : ndarray of float64 or float32
        Rows that have each column; is changed.
    n_samples : int
        Rows.
    smooth : bool
        Whether one more row has all columns.
    """
    df += float(smooth)
    out = np.full_like(df, fill_value=n_samples + int(smooth))
    out /= df
    np.log(out, out=out)
    out += 1.0
    return out


class _Counting(_Convertible):
    """The steps of the original's ``fit_transform`` and ``transform`` that are done in C."""

    def _count_vocab(self, raw_documents: Iterable[Any], fixed_vocab: bool) -> tuple[Any, Any]:
        # The analyzer is built in any case: that is what checks stop words and parameters.
        self.build_analyzer()  # type: ignore[attr-defined]
        deferred = self.__dict__.pop("_deferred", False)
        pending, raw_documents = self._counted(raw_documents, self.vocabulary_ if fixed_vocab else None)
        if pending is None:
            return super()._count_vocab(raw_documents, fixed_vocab)  # type: ignore[misc]
        if not fixed_vocab:
            if not pending.counts.n_terms:
                raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
            return {}, pending
        return self.vocabulary_, pending if deferred else self._finished(pending)

    def _counted(self, raw: Any, given: Any) -> tuple[Pending | None, Any]:
        """The counts, or None and what the original is to count."""
        number = np.dtype(self.dtype)  # type: ignore[attr-defined]
        limit = self.max_features  # type: ignore[attr-defined]
        if given is None and (number not in NUMBERS or (limit is not None and number == np.float32)):
            return None, raw  # columns are summed in a type with other roundings
        found, counts, columns, raw = _counted(self, original.CountVectorizer, raw, given)
        if found is None:
            return None, raw
        pending = Pending(found, counts, columns, counts.n_terms)
        pending.sums = np.float64 if number.kind == "f" else np.int64
        if pending.documents().sum() >= 2**31:
            return None, raw
        return pending, raw

    def _finished(self, pending: Pending) -> Any:
        """The matrix of counts."""
        number = np.dtype(self.dtype)  # type: ignore[attr-defined]
        data, index, indptr = pending.rows(number if number in NUMBERS else np.int64)
        return csr(data.astype(number, copy=False), index, indptr, pending.shape)

    def _limit_features(
        self, X: Any, vocabulary: Any, high: Any = None, low: Any = None, limit: Any = None
    ) -> Any:
        if not isinstance(X, Pending):
            return super()._limit_features(X, vocabulary, high, low, limit)  # type: ignore[misc]
        X.limit(vocabulary, high, low, limit)
        return X

    def _sort_features(self, X: Any, vocabulary: Any) -> Any:
        if not isinstance(X, Pending):
            return super()._sort_features(X, vocabulary)  # type: ignore[misc]
        X.sort(vocabulary)
        return X

    def _pending(self, raw_documents: Iterable[Any], fit: bool) -> Any:
        """What the original ``CountVectorizer`` answers; a `Pending` where its matrix is still to be made."""
        call = original.CountVectorizer.fit_transform if fit else original.CountVectorizer.transform
        self._deferred = True
        try:
            return call(self, raw_documents)
        finally:
            self.__dict__.pop("_deferred", None)


class CountVectorizer(_Counting, original.CountVectorizer):
    """scikit-learn's ``CountVectorizer``, counting in C: same matrices, bit for bit.

    Parameters, attributes and errors are the original's. What it leaves to the original stands at the head of
    ``stratum/native/text.py``.
    """

    _original = original.CountVectorizer

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn the vocabulary and return the counts.

        Parameters
        ----------
        raw_documents : iterable
            Documents; pandas, Polars and PyArrow strings are read in place.
        y : None
            Ignored.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
        """
        X = self._pending(raw_documents, fit=True)
        return self._finished(X) if isinstance(X, Pending) else X


class TfidfTransformer(_Convertible, original.TfidfTransformer, auto_wrap_output_keys=None):
    """scikit-learn's ``TfidfTransformer``, weighting and normalising in C: same matrices, bit for bit.

    The original transforms where indices have 64 bits, ``idf_`` is of another type than the counts, or values
    could overflow.
    """

    _original = original.TfidfTransformer

    def transform(self, X: Any, copy: bool = True) -> Any:
        """Weight counts.

        Parameters
        ----------
        X : sparse matrix or array of shape (n_samples, n_features)
            Counts.
        copy : bool
            Whether a sparse matrix is left as it is.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
        """
        idf = getattr(self, "idf_", None)
        if not _weighs(X, idf) or self.norm not in NORMS:
            return super().transform(X, copy=copy)
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], copy=copy, reset=False
        )
        if self.sublinear_tf:
            np.log(X.data, X.data)
            X.data += 1.0
        wide = X.dtype == np.float64
        _core.text_tfidf(
            X.indptr, X.indices, X.data, idf, NORMS[self.norm], wide, X.shape[1], _config.threads()
        )
        kind = sp.csr_array if sklearn.get_config().get("sparse_interface") == "sparray" else sp.csr_matrix
        return X if isinstance(X, kind) else kind(X)


def _weighs(X: Any, idf: np.ndarray | None) -> bool:
    """Whether the C loops weigh a matrix: those types, and values that cannot overflow."""
    if not sp.issparse(X) or X.format != "csr" or X.dtype not in (np.float64, np.float32):
        return False
    if not (X.indices.dtype == X.indptr.dtype == np.int32 and X.data.flags.carray and X.indices.flags.carray):
        return False
    if len(X.data) != len(X.indices) or len(X.data) != X.indptr[-1]:
        return False
    # A sum of squares stays finite; comparisons are false for NaN.
    bound = 1e100 if X.dtype == np.float64 else 1e12
    if len(X.data) and not (-bound < X.data.min() and 0 < X.data.max() < bound and X.data.min() > 0):
        return False
    if idf is None:
        return True
    return _finite(idf, X.dtype, X.shape[1], bound)


def _finite(idf: Any, dtype: Any, n: int, bound: float = 1e100) -> bool:
    """Whether weights are an array of that type and length, and small enough."""
    return (
        isinstance(idf, np.ndarray)
        and idf.dtype == dtype
        and idf.shape == (n,)
        and idf.flags.c_contiguous
        and bool((np.abs(idf) < bound).all())
    )


class TfidfVectorizer(_Counting, original.TfidfVectorizer):
    """scikit-learn's ``TfidfVectorizer``, in C: same matrices, bit for bit.

    Parameters, attributes and errors are the original's. What it leaves to the original stands at the head of
    ``stratum/native/text.py``.
    """

    _original = original.TfidfVectorizer

    def scans(self) -> bool:
        """Whether the C scanner does what this vectorizer's analyzer does."""
        return _scanner(self, original.CountVectorizer) is not None

    def learn(self, raw_documents: Iterable[Any]) -> Any:
        """Learn vocabulary and idf; a `Pending` or a matrix of counts."""
        self._check_params()
        return self._learn(raw_documents)

    def look_up(self, raw_documents: Iterable[Any]) -> Any:
        """Look documents up in the vocabulary; a `Pending` or a matrix of counts."""
        return self._pending(raw_documents, fit=False)

    def _learn(self, raw_documents: Iterable[Any]) -> Any:
        self._tfidf = original.TfidfTransformer(
            norm=self.norm, use_idf=self.use_idf, smooth_idf=self.smooth_idf, sublinear_tf=self.sublinear_tf
        )
        X = self._pending(raw_documents, fit=True)
        if not isinstance(X, Pending):
            self._tfidf.fit(X)
            return X
        tfidf = self._tfidf
        tfidf.n_features_in_ = X.n_columns
        if self.use_idf:
            dtype = np.dtype(self.dtype) if np.dtype(self.dtype).kind == "f" else np.dtype(np.float64)
            tfidf.idf_ = idf(X.documents().astype(dtype), X.shape[0], self.smooth_idf)
        return X

    def _weighted(self, X: Any) -> Any:
        """tf-idf of counts."""
        if isinstance(X, Pending):
            entries = self._entries(X)
            if entries is not None:
                return csr(*entries, X.shape)
            X = self._finished(X)
        return TfidfTransformer.from_original(self._tfidf).transform(X, copy=False)

    def _entries(
        self, X: Pending, number: Any = np.float64, *, sort: bool = False, expand: bool = True
    ) -> Any:
        """``(data, index, indptr)`` of tf-idf; None where that takes a matrix of counts."""
        tfidf = self._tfidf
        check_is_fitted(tfidf)
        idf = getattr(tfidf, "idf_", None)
        n = X.n_columns
        if (
            np.dtype(self.dtype) != np.float64
            or tfidf.norm not in NORMS
            or (idf is not None and not _finite(idf, np.float64, n))
            or getattr(tfidf, "n_features_in_", n) != n
        ):
            return None
        return X.rows(
            number, idf=idf, norm=tfidf.norm, sublinear=tfidf.sublinear_tf, sort=sort, expand=expand
        )

    def fit(self, raw_documents: Iterable[Any], y: Any = None) -> Self:
        """Learn vocabulary and idf.

        Parameters
        ----------
        raw_documents : iterable
            Documents; pandas, Polars and PyArrow strings are read in place.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        self._validate_params()
        self._check_params()
        self._warn_for_unused_params()
        self._learn(raw_documents)
        return self

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn vocabulary and idf, and return the weighted matrix.

        Parameters
        ----------
        raw_documents : iterable
            Documents; pandas, Polars and PyArrow strings are read in place.
        y : None
            Ignored.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
        """
        return self._weighted(self.learn(raw_documents))

    def transform(self, raw_documents: Iterable[Any]) -> Any:
        """The weighted matrix of documents, with the vocabulary and idf learned.

        Parameters
        ----------
        raw_documents : iterable
            Documents.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
        """
        check_is_fitted(self, msg="The TF-IDF vectorizer is not fitted")
        return self._weighted(self._pending(raw_documents, fit=False))


class HashingVectorizer(_Convertible, original.HashingVectorizer, auto_wrap_output_keys=None):
    """scikit-learn's ``HashingVectorizer``, hashing in C: same matrices, bit for bit.

    Parameters and errors are the original's. What it leaves to the original stands at the head of
    ``stratum/native/text.py``; strings with lone surrogates, which cannot be hashed, too.
    """

    _original = original.HashingVectorizer

    def scans(self) -> bool:
        """Whether the C scanner does what this vectorizer's analyzer does."""
        return _scanner(self, original.HashingVectorizer) is not None

    def transform(self, X: Iterable[Any]) -> Any:
        """The matrix of hashed terms.

        Parameters
        ----------
        X : iterable
            Documents; pandas, Polars and PyArrow strings are read in place.

        Returns
        -------
        sparse matrix of shape (n_samples, n_features)
        """
        number = np.dtype(self.dtype)
        if isinstance(X, str) or number not in NUMBERS or self.norm not in NORMS:
            return super().transform(X)
        entries, X = self._entries(X)
        if entries is None:
            return super().transform(X)
        found, rows = entries
        return csr(*expanded(found, *rows), (found.n_rows, self.n_features))

    def _entries(self, X: Any) -> tuple[Any, Any]:
        """``(column, (data, index, indptr))`` of distinct strings; None where the original must do it."""
        n = self.n_features
        if not isinstance(n, Integral) or not 1 <= n < 2**31:
            return None, X
        self._validate_ngram_range()
        self.build_analyzer()
        found, counts, _, X = _counted(self, original.HashingVectorizer, X, None)
        if found is None or found.surrogates:
            return None, X
        documents = np.empty(counts.n_terms, np.int64)
        counts.documents(documents)
        if documents.sum() >= 2**31:
            return None, X
        columns, signs = np.empty(counts.n_terms, np.int32), np.empty(counts.n_terms, np.int8)
        counts.hashed(int(n), columns, signs)
        if not self.alternate_sign:
            signs.fill(1)
        number = np.dtype(self.dtype)
        if self.norm is not None and number.kind != "f":
            number = np.dtype(np.float64)
        indptr = np.empty(found.n_distinct + 1, np.int32)
        size = counts.layout(columns, indptr)
        index, data = np.empty(size, np.int32), np.empty(size, number)
        counts.rows(
            columns, signs, BY_COLUMN, True, bool(self.binary), None, None, NORMS[self.norm],
            NUMBERS[number], indptr, index, data, _config.threads(),
        )  # fmt: skip
        return (found, (data[: indptr[-1]], index[: indptr[-1]], indptr)), X
