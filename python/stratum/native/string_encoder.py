"""skrub's ``StringEncoder``: tf-idf of n-grams and a truncated SVD, over distinct strings.

For users through ``stratum.native``. The randomized SVD is scikit-learn's, step by step, with SciPy's LU, QR and
SVD; the products with the sparse matrix are C. Two ways:

* *identical*: each row takes part in LU and QR. The product A'Q gathers each column's entries in the order of
  rows, which is the order in which SciPy adds them: same bits at any number of threads.
* *equivalent*: each distinct string takes part once, with its number of rows as a weight. A row that stands
  several times changes nothing in a pivoted LU (its multipliers are repeated), its count enters A'Q, and the
  root of its count the QR. Results differ by rounding, within 5e-4 at 100,000 rows; one and two threads of
  BLAS differ by up to 3e-4 in skrub itself.

The original does everything where the text vectorizer would, where the matrix is too small for an SVD, and for
fewer than `FEW` rows.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Self

import numpy as np
import skrub
from scipy import linalg
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.extmath import svd_flip

from .. import _core
from . import _config, text

# The module of skrub's class: what it imports is what the class uses.
_original = sys.modules[skrub.StringEncoder.__module__]

# Rows below which the original does everything (measured: at 10 it takes 1.3 to 1.8 times as long).
FEW = 10
# Distinct strings a row up to which weights are worth their square roots.
DISTINCT = 0.8
N_ITER, N_OVERSAMPLES = 5, 10  # of TruncatedSVD, which skrub leaves as they are


class Matrix:
    """A sparse float32 matrix with a row for each distinct string of a column.

    Attributes
    ----------
    data, index, indptr : ndarray
        CSR, entries by column.
    codes : ndarray of uint32 or None
        The row of each row of the column; None where they are the same.
    counts : ndarray of int64
        How many rows of the column each row stands for.
    shape : tuple of int
        Of the matrix with a row for each row of the column.
    """

    def __init__(
        self,
        entries: tuple[np.ndarray, np.ndarray, np.ndarray],
        codes: np.ndarray | None,
        counts: np.ndarray,
        n_columns: int,
    ) -> None:
        self.data, self.index, self.indptr = entries
        self.codes, self.counts = codes, counts
        self.shape = (len(counts) if codes is None else len(codes), n_columns)

    def times(self, Q: np.ndarray) -> np.ndarray:
        """The product with a dense matrix, a row for each distinct string."""
        return _dense(self.indptr, self.index, self.data, self.shape[1], Q)

    def columns(self, every_row: bool) -> Columns:
        """The same matrix by columns, with all rows of the column or the distinct ones."""
        data, index, indptr = self.data, self.index, self.indptr
        if every_row and self.codes is not None:
            out = np.empty(len(self.codes) + 1, np.int32)
            threads = _config.threads()
            n = _core.text_expand(self.codes, 4, indptr, index, data, out, None, None, threads)
            every_index, every_data = np.empty(n, np.int32), np.empty(n, np.float32)
            _core.text_expand(
                self.codes, 4, indptr, index, data, out, every_index, every_data, threads
            )
            data, index, indptr = every_data, every_index, out
        return Columns(data, index, indptr, self.shape[1])


class Columns:
    """A sparse float32 matrix by columns."""

    def __init__(self, data: np.ndarray, index: np.ndarray, indptr: np.ndarray, n_columns: int) -> None:
        self.n_rows = len(indptr) - 1
        self.indptr = np.empty(n_columns + 1, np.int32)
        self.index, self.data = np.empty_like(index), np.empty_like(data)
        _core.csr_transpose(
            indptr, index, data, n_columns, self.indptr, self.index, self.data, _config.threads()
        )

    def times(self, Q: np.ndarray) -> np.ndarray:
        """The product of the transposed matrix with a dense one."""
        return _dense(self.indptr, self.index, self.data, self.n_rows, Q)

    def variance(self) -> np.ndarray:
        """Of each column."""
        out = np.empty(len(self.indptr) - 1, np.float32)
        _core.csc_variance(self.n_rows, self.indptr, self.data, out, _config.threads())
        return out


def _dense(
    indptr: np.ndarray, index: np.ndarray, data: np.ndarray, n_columns: int, Q: np.ndarray
) -> np.ndarray:
    """Sparse times dense, both float32."""
    Q = np.ascontiguousarray(Q)
    out = np.empty((len(indptr) - 1, Q.shape[1]), np.float32)
    _core.csr_dense(indptr, index, data, n_columns, Q.shape[1], Q, out, _config.threads())
    return out


def _lu(Y: np.ndarray) -> np.ndarray:
    """What scikit-learn normalises power iterations with."""
    return linalg.lu(Y, permute_l=True, check_finite=False)[0]


def _qr(Y: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the columns."""
    return linalg.qr(Y, mode="economic", check_finite=False)[0]


def _svd(B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values and right vectors of a wide float32 matrix.

    By the eigenvectors of BB' in float64, which has the digits that squaring costs and takes a sixth of the
    time; LAPACK's SVD where the smallest values are too small for that.
    """
    wide = B.astype(np.float64)
    squares, U = linalg.eigh(wide @ wide.T)
    s = np.sqrt(np.maximum(squares[::-1], 0))
    if not s[-1] > 1e-5 * s[0]:
        return linalg.svd(B, full_matrices=False, lapack_driver="gesdd")[1:]
    V = (U[:, ::-1] / s).T @ wide
    return s.astype(np.float32), V.astype(np.float32)


def _flipped(components: np.ndarray) -> np.ndarray:
    """Components with the signs that TruncatedSVD gives them."""
    return svd_flip(np.zeros((1, len(components)), np.float32), components, u_based_decision=False)[1]


def fit_svd(svd: TruncatedSVD, A: Matrix, weighted: bool) -> np.ndarray:
    """``svd.fit_transform`` of the matrix with all rows; returns a row for each distinct string.

    Parameters
    ----------
    svd : TruncatedSVD
        With scikit-learn's defaults but for ``n_components`` and ``random_state``; is fitted.
    A : Matrix
        More rows and columns than components.
    weighted : bool
        The equivalent way; see the head of the file.
    """
    svd._validate_params()
    k = svd.n_components
    size = k + N_OVERSAMPLES
    n, n_columns = A.shape
    random = check_random_state(svd.random_state)
    transposed = n < n_columns
    Q = random.normal(size=(n if transposed else n_columns, size)).astype(np.float32, copy=False)
    C = A.columns(every_row=not weighted)
    codes = None if weighted else A.codes
    weights = A.counts.astype(np.float32)[:, None] if weighted else None
    roots = None if weights is None else np.sqrt(weights)

    def forward(Q: np.ndarray) -> np.ndarray:  # A @ Q
        out = A.times(Q)
        return out if codes is None else out[codes]

    def backward(Q: np.ndarray) -> np.ndarray:  # A' @ Q
        return C.times(Q if weights is None else Q * weights)

    if not transposed:
        for _ in range(N_ITER):
            Q = _lu(backward(_lu(forward(Q))))
        if roots is None:
            B = C.times(_qr(forward(Q))).T
        else:
            B = C.times(_qr(forward(Q) * roots) * roots).T
        s, V = _svd(B) if weighted else linalg.svd(B, full_matrices=False, lapack_driver="gesdd")[1:]
        components = V[:k]
    else:
        # The first product is with random numbers, another row of them for each row: added up by string.
        first = C.times(Q if weights is None else _sums(A, Q))
        Q = _lu(forward(_lu(first)))
        for _ in range(N_ITER - 1):
            Q = _lu(forward(_lu(backward(Q))))
        Q = _qr(backward(Q))
        B = forward(Q)
        U, s, _ = linalg.svd(
            (B if roots is None else B * roots).T, full_matrices=False, lapack_driver="gesdd"
        )
        components = (Q @ U)[:, :k].T
    svd.n_features_in_ = n_columns
    svd.components_ = _flipped(components)
    out = A.times(svd.components_.T)
    if weights is None:
        full = C.variance().sum()
        svd.explained_variance_ = np.var(out if A.codes is None else out[A.codes], axis=0)
    else:
        full = _weighted_column_variance(A).sum()
        svd.explained_variance_ = _weighted_variance(out, A.counts).astype(np.float32)
    svd.explained_variance_ratio_ = svd.explained_variance_ / full
    svd.singular_values_ = s[:k]
    return out


def _sums(A: Matrix, Q: np.ndarray) -> np.ndarray:
    """Rows of Q added up by string."""
    order = np.argsort(A.codes, kind="stable").astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(A.counts)]).astype(np.int32)
    return _dense(indptr, order, np.ones(len(order), np.float32), len(order), Q)


def _weighted_variance(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The variance of each column of the rows, each taken as often as counted; in float64."""
    weights = counts / counts.sum()
    wide = rows.astype(np.float64)
    wide -= weights @ wide
    return weights @ (wide * wide)


def _weighted_column_variance(A: Matrix) -> np.ndarray:
    """The variance of each column of the matrix with all rows."""
    n, n_columns = A.shape
    weights = np.repeat(A.counts / n, np.diff(A.indptr))
    wide = A.data.astype(np.float64)
    mean = np.bincount(A.index, weights * wide, minlength=n_columns)
    square = np.bincount(A.index, weights * wide * wide, minlength=n_columns)
    return (square - mean * mean).astype(np.float32)


class StringEncoder(skrub.StringEncoder):
    """skrub's ``StringEncoder``, in C and over distinct strings.

    Parameters, attributes, errors and the frames returned are the original's. ``vectorizer_`` is native, which
    is a subclass of scikit-learn's.

    Values are those of the original, bit for bit, within
    ``stratum.native.config_context(exactness="identical")`` and where all strings differ; else within 5e-4.
    """

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit the encoder and encode a column.

        Parameters
        ----------
        X : Series
            pandas or Polars strings or categories.
        y : None
            Ignored.

        Returns
        -------
        DataFrame
            With ``n_components_`` columns of float32.
        """
        A = self._learn(X)
        if A is None:
            return super().fit_transform(X)
        if min(A.shape) <= self.n_components:
            return self._too_small(X, A)
        self.tsvd_ = TruncatedSVD(n_components=self.n_components, random_state=self.random_state)
        n_distinct = len(A.counts)
        weighted = (
            _config.exactness() != "identical"
            and A.codes is not None
            and self.n_components <= n_distinct < DISTINCT * A.shape[0]
        )
        rows = fit_svd(self.tsvd_, A, weighted)
        if weighted:
            total = np.sqrt(_weighted_variance(rows, A.counts).sum()).astype(np.float32)
            self.scaling_factor_ = total if total >= 10 * np.finfo(np.float32).eps else 1
        else:
            self.scaling_factor_ = _original.scaling_factor(rows if A.codes is None else rows[A.codes])
        return self._fitted(X, rows, A.codes)

    def transform(self, X: Any) -> Any:
        """Encode a column.

        Parameters
        ----------
        X : Series
            pandas or Polars strings or categories.

        Returns
        -------
        DataFrame
            With ``n_components_`` columns of float32.
        """
        sbd = _original.sbd
        A = None
        if hasattr(self, "tsvd_") and (sbd.is_string(X) or sbd.is_categorical(X)):
            A = self._apply(X)
        if A is None or A.shape[1] != getattr(self.tsvd_, "n_features_in_", None):
            return super().transform(X)  # or it says what is wrong
        rows = A.times(self.tsvd_.components_.T)
        rows /= self.scaling_factor_
        return self._frame(X, rows, A.codes)

    # -- Steps --

    def _too_small(self, X: Any, A: Matrix) -> Any:
        """The first columns of the matrix, where it has too few rows or columns for an SVD."""
        k = self.n_components
        if A.shape[1] != k:
            warnings.warn(
                f"The matrix shape is {(A.shape)}, and its minimum is "
                f"{min(A.shape)}, which is too small to fit a truncated SVD with "
                f"n_components={k}. "
                "The embeddings will be truncated by keeping the first "
                f"{k} dimensions instead. ",
                stacklevel=3,
            )
        matrix = csr_matrix((A.data, A.index, A.indptr), shape=(len(A.counts), A.shape[1]))
        rows = matrix[:, :k].toarray()
        self.scaling_factor_ = _original.scaling_factor(rows if A.codes is None else rows[A.codes])
        return self._fitted(X, rows, A.codes)

    def _fitted(self, X: Any, rows: np.ndarray, codes: np.ndarray | None) -> Any:
        """Scale, set what is left to set, and return the frame."""
        rows /= self.scaling_factor_
        self.n_components_ = rows.shape[1]
        self.input_name_ = _original.sbd.name(X) or "string_enc"
        self.all_outputs_ = self.get_feature_names_out()
        return self._frame(X, rows, codes)

    def _column(self, X: Any) -> Any:
        """The column in its distinct form, missing values as empty strings; None for the original."""
        sbd = _original.sbd
        if text.reads(X):
            found, _ = text.column(X, nulls=())
            if found is not None:
                return found
        return text.column(sbd.fill_nulls(self.to_str.transform(X), ""), nulls=())[0]

    def _learn(self, X: Any) -> Matrix | None:
        """Fit ``to_str`` and ``vectorizer_``; None where the original is to do everything."""
        if self.vectorizer not in ("tfidf", "hashing") or len(X) < FEW:
            return None
        if self.vectorizer == "hashing" and self.vocabulary is not None:
            return None
        vectorizer = self._vectorizer()
        first = vectorizer if self.vectorizer == "tfidf" else vectorizer.steps[0][1]
        if not first.scans():
            return None
        self.to_str = _original.ToStr(convert_category=True)
        # Accepts or refuses a column by its type, which an empty one has too; types of `object` it looks into.
        self.to_str.fit_transform(X[:0] if text.reads(X) else X)
        found = self._column(X)
        if found is None:
            return None
        prepared = text.Prepared(found)
        self.vectorizer_ = vectorizer
        if self.vectorizer == "tfidf":
            return self._tfidf(vectorizer, found, vectorizer.learn(prepared))
        return self._hashed(vectorizer, prepared, fit=True)

    def _apply(self, X: Any) -> Matrix | None:
        """The matrix of new strings; None where the original is to do everything."""
        vectorizer = self.vectorizer_
        native = isinstance(vectorizer, text.TfidfVectorizer) or (
            isinstance(vectorizer, Pipeline) and isinstance(vectorizer.steps[0][1], text.HashingVectorizer)
        )
        if not native or len(X) < text.FEW:
            return None
        found = self._column(X)
        if found is None:
            return None
        prepared = text.Prepared(found)
        if isinstance(vectorizer, Pipeline):
            return self._hashed(vectorizer, prepared, fit=False)
        return self._tfidf(vectorizer, found, vectorizer.look_up(prepared))

    def _vectorizer(self) -> Any:
        """The vectorizer that skrub would make, native."""
        options = {
            "ngram_range": self.ngram_range,
            "analyzer": self.analyzer,
            "stop_words": self.stop_words,
        }
        if self.vectorizer == "tfidf":
            return text.TfidfVectorizer(**options, vocabulary=self.vocabulary)
        return Pipeline(
            [("hashing", text.HashingVectorizer(**options)), ("tfidf", text.TfidfTransformer())]
        )

    @staticmethod
    def _tfidf(vectorizer: text.TfidfVectorizer, found: Any, pending: Any) -> Matrix | None:
        """tf-idf of counts; None for indices of 64 bits."""
        if isinstance(pending, text.Pending):
            entries = vectorizer._entries(pending, np.float32, sort=True, expand=False)
            if entries is not None:
                return Matrix(entries, text.codes_of(found), text.counts_of(found), pending.n_columns)
        full = vectorizer._weighted(pending).astype("float32")
        if full.indices.dtype != np.int32:
            return None
        n = full.shape[0]
        return Matrix((full.data, full.indices, full.indptr), None, np.ones(n, np.int64), full.shape[1])

    @staticmethod
    def _hashed(vectorizer: Pipeline, prepared: text.Prepared, fit: bool) -> Matrix | None:
        """tf-idf of hashed terms."""
        hashing, tfidf = vectorizer.steps[0][1], vectorizer.steps[1][1]
        if prepared.found.surrogates:
            return None  # cannot be hashed, which the original says
        if fit:
            hashing.fit(prepared)
        entries, _ = hashing._entries(prepared)
        if entries is None:
            return None
        found, (data, index, indptr) = entries
        n_columns = hashing.n_features
        if fit:
            counts = np.repeat(text.counts_of(found), np.diff(indptr))
            df = np.bincount(index, counts, minlength=n_columns).astype(np.float64, copy=False)
            tfidf.n_features_in_ = n_columns
            tfidf.idf_ = text.idf(df, found.n_rows, tfidf.smooth_idf)
        _core.text_tfidf(indptr, index, data, tfidf.idf_, 2, True, n_columns, _config.threads())
        return Matrix(
            (data.astype(np.float32), index, indptr), text.codes_of(found), text.counts_of(found), n_columns
        )

    def _frame(self, X: Any, rows: np.ndarray, codes: np.ndarray | None) -> Any:
        """The frame that is returned, from a row for each distinct string."""
        n = len(rows) if codes is None else len(codes)
        k = rows.shape[1]
        out = np.empty((k, n), np.float32)
        _core.take_columns(n, k, codes, np.ascontiguousarray(rows), out, _config.threads())
        return self._post_process(X, out.T)

    # -- To and from the original --

    def to_original(self) -> skrub.StringEncoder:
        """skrub's own encoder, fitted alike.

        Returns
        -------
        skrub.StringEncoder
        """
        return _converted(self, skrub.StringEncoder, lambda step: step.to_original())

    @classmethod
    def from_original(cls, encoder: skrub.StringEncoder) -> Self:
        """The native encoder for one of skrub's, fitted if that is.

        Parameters
        ----------
        encoder : skrub.StringEncoder

        Returns
        -------
        StringEncoder
        """
        if not isinstance(encoder, skrub.StringEncoder):
            raise TypeError(f"StringEncoder expected, got {type(encoder).__name__}")
        return _converted(encoder, cls, text.from_original)


def _converted(encoder: Any, cls: type, step: Any) -> Any:
    """An encoder of another class with the same attributes, its vectorizer converted by ``step``."""
    other = cls(**encoder.get_params(deep=False))
    other.__dict__.update(encoder.__dict__)
    vectorizer = getattr(encoder, "vectorizer_", None)
    if isinstance(vectorizer, Pipeline):
        other.vectorizer_ = Pipeline([(name, _step(each, step)) for name, each in vectorizer.steps])
    elif vectorizer is not None:
        other.vectorizer_ = _step(vectorizer, step)
    return other


def _step(estimator: Any, convert: Any) -> Any:
    """A vectorizer converted, where there is something to convert."""
    native = hasattr(estimator, "to_original")
    if convert is text.from_original:
        return estimator if native else convert(estimator)
    return convert(estimator) if native else estimator
