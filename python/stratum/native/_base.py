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
