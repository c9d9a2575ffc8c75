"""What a row of ``bench.kernels`` is made from; for the files that list cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SIZES = (100, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Case:
    """A kernel and what it stands for.

    Attributes
    ----------
    name : str
        In the table.
    make : callable
        ``make(n_rows)`` gives the data; takes no part in the time.
    original, native : callable
        Are given the data; what is timed.
    target : float or None
        The original's time over the native's at ``target_rows`` with two threads.
    target_rows : int
        See there.
    sizes : tuple of int
        Rows that are measured.
    """

    name: str
    make: Callable[[int], Any]
    original: Callable[[Any], Any]
    native: Callable[[Any], Any]
    target: float | None = None
    target_rows: int = 100_000
    sizes: tuple[int, ...] = SIZES
