"""What the native estimators share: the way to and from the originals, threads, and what they decline.

Called by the estimators of this package alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn import get_config

from .. import _core
from . import _config

# Bytes of input above which a second thread pays: making and joining one takes 25 microseconds on an idle
# machine and some times as much on a busy one, and a kernel that does no more than read takes 50 for a megabyte.
PARALLEL_BYTES = 4 << 20


def threads(n_bytes: int, work: float = 1) -> int:
    """How many threads a kernel may use for so much input; results do not depend on it.

    `work`: how much longer it takes than reading the input once.
    """
    if n_bytes * work < PARALLEL_BYTES:
        return 1
    return _config.threads()


class Declined(Exception):
    """The native code does not do this: the original does. The text says why."""


class Native:
    """An estimator that scikit-learn's own class stands behind.

    Whatever the native code does not do is done by the original's code on the same object. Which one it was
    stands in `fitted_by_`: ``"stratum"``, or ``"scikit-learn: "`` and the reason.
    """

    _original: ClassVar[type]
    fitted_by_: str

    def to_original(self) -> Any:
        """scikit-learn's own estimator with the same parameters and, if fitted, the same state."""
        new = self._original.__new__(self._original)
        new.__dict__.update(vars(self))
        new.__dict__.pop("fitted_by_", None)
        return new

    @classmethod
    def from_original(cls, estimator: Any) -> Self:
        """A native estimator with the parameters and the state of scikit-learn's."""
        if not isinstance(estimator, cls._original):
            raise TypeError(f"{cls._original.__name__} is wanted, not {type(estimator).__name__}")
        new = cls.__new__(cls)
        new.__dict__.update(vars(estimator))
        return new

    def _declined(self, reason: Declined) -> None:
        self.fitted_by_ = f"scikit-learn: {reason}"


def check_plain(X: Any) -> None:
    """Decline what is no dense matrix in this process's memory."""
    if hasattr(X, "tocsr") or hasattr(X, "todense"):
        raise Declined("sparse input")
    if get_config()["array_api_dispatch"]:
        raise Declined("array API dispatch")


def usable_weights(weight: np.ndarray) -> np.ndarray:
    """Weights as the kernels want them: positive in sum, none negative, finite."""
    total = weight.sum()
    if not (total > 0 and np.isfinite(total)) or weight.min() < 0:
        raise Declined("weights that are negative, or zero in sum")
    return np.ascontiguousarray(weight, dtype=np.float64)


def as_lines(X: np.ndarray) -> np.ndarray:
    """X, or a copy whose rows lie together if in X neither rows nor columns do."""
    if X.dtype == np.float16:
        raise Declined("half precision")
    return X if X.itemsize in X.strides and X.size else np.ascontiguousarray(X)


LONG_ROW = 128

_REWRITES = {"sub_div": 0, "sub": 1, "div": 2, "mul_add": 3, "fill": 4}


def rows_of_a_line(X: np.ndarray) -> tuple[int, int]:
    """How many rows of a narrow X to take as one, and of how many rows (20 columns: a third of the time)."""
    n, p = X.shape
    if not (X.flags.c_contiguous and 1 < p < LONG_ROW and n * p >= 4 * LONG_ROW):
        return 1, 0
    k = -(-LONG_ROW // p) * 8
    return k, n // k * k


def rewrite(X: np.ndarray, how: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A changed copy of X in the same order; infinities in X are for the original to refuse."""
    out = np.empty_like(X)
    first, second = (np.ascontiguousarray(v, dtype=np.float64) for v in (first, second))
    code, n_threads = _REWRITES[how], threads(X.nbytes)
    n, p = X.shape
    k, done = rows_of_a_line(X)
    if done:
        parts = [m[:done].reshape(done // k, k * p) for m in (X, out)]
        if _core.numeric_rewrite(parts[0], code, np.tile(first, k), np.tile(second, k), n_threads, parts[1]):
            raise Declined("infinities")
    if done < n and _core.numeric_rewrite(X[done:], code, first, second, n_threads, out[done:]):
        raise Declined("infinities")
    return out


def order_statistics(X: np.ndarray, percentages: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Medians of columns, and percentiles by linear interpolation, both without NaN and as NumPy has them."""
    q = np.array([0.5, *(p / 100 for p in percentages)])
    below, above = np.empty((2, len(q), X.shape[1]))
    count = np.empty(X.shape[1])
    _core.numeric_ranks(X, threads(X.nbytes, 16), q, len(q), below, above, count)
    with np.errstate(all="ignore"):  # what is not finite is the original's, with its warnings
        below, above = below.astype(X.dtype), above.astype(X.dtype)
        odd = count % 2 == 1
        # the mean of two, as NumPy takes it
        medians = np.where(odd, below[0], ((below[0] + above[0]) / 2).astype(X.dtype))
        place = q[1:, None] * np.maximum(count - 1, 0)
        t = place - np.floor(place)
        step = above[1:] - below[1:]
        quantiles = np.where(t >= 0.5, above[1:] - step * (1 - t), below[1:] + step * t)
    return medians, quantiles
