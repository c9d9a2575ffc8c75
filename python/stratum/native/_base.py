"""What the native estimators share: the way to and from the originals, threads, and what they decline.

Called by the estimators of this package alone; `threads` and `use_threads` also by who runs them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import get_config

from .. import _core

_local = threading.local()

# Bytes of input above which a second thread pays: making one takes 25 microseconds, and a kernel reads about
# 5 bytes a nanosecond.
PARALLEL_BYTES = 1 << 20


@contextlib.contextmanager
def use_threads(n: int) -> Iterator[None]:
    """Let kernels called by this thread use `n` threads each, instead of one for each processor."""
    before = getattr(_local, "threads", None)
    _local.threads = n
    try:
        yield
    finally:
        _local.threads = before


def threads(n_bytes: int) -> int:
    """How many threads a kernel may use for so much input; results do not depend on it."""
    if n_bytes < PARALLEL_BYTES:
        return 1
    asked = getattr(_local, "threads", None)
    return asked if asked is not None else len(os.sched_getaffinity(0))


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
    return X if X.itemsize in X.strides and X.size else np.ascontiguousarray(X)


_REWRITES = {"sub_div": 0, "sub": 1, "div": 2, "mul_add": 3, "fill": 4}


def rewrite(X: np.ndarray, how: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A changed copy of X in the same order; infinities in X are for the original to refuse."""
    out = np.empty_like(X, order="C" if X.flags.c_contiguous or not X.flags.f_contiguous else "F")
    if out.strides[0] != out.itemsize and X.strides[1] != X.itemsize:
        X = np.ascontiguousarray(X)
    first, second = (np.ascontiguousarray(v, dtype=np.float64) for v in (first, second))
    if _core.numeric_rewrite(X, _REWRITES[how], first, second, threads(X.nbytes), out):
        raise Declined("infinities")
    return out


def order_statistics(X: np.ndarray, percentages: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Medians of columns, and percentiles by linear interpolation, both without NaN and as NumPy has them."""
    q = np.array([0.5, *(p / 100 for p in percentages)])
    below, above = np.empty((2, len(q), X.shape[1]))
    count = np.empty(X.shape[1])
    _core.numeric_ranks(X, threads(X.nbytes), q, len(q), below, above, count)
    below, above = below.astype(X.dtype), above.astype(X.dtype)
    odd = count % 2 == 1
    # the mean of two, as NumPy takes it
    medians = np.where(odd, below[0], ((below[0] + above[0]) / 2).astype(X.dtype))
    place = q[1:, None] * np.maximum(count - 1, 0)
    t = place - np.floor(place)
    step = above[1:] - below[1:]
    quantiles = np.where(t >= 0.5, above[1:] - step * (1 - t), below[1:] + step * t)
    return medians, quantiles
