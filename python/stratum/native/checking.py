"""What a TableVectorizer asks of every column before it encodes one: skrub's `DropUninformative` and `ToFloat`.

Called by users under `stratum.native` and, behind skrub's classes, by `stratum.hosts.kernels`. No C of their own:
skrub adds nulls up as Python objects (100,000 rows: 4 ms), and pandas makes objects of all strings of a column to find
that the first one is no number (7 ms). Results, attributes and errors are the originals'.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
import skrub
from skrub import _dataframe as sbd

from . import text
from ._base import Native

__all__ = ["DropUninformative", "ToFloat"]

# Rows below which the originals do everything, and how many strings are tried for numbers before all are.
FEW, HEAD = 100, 32


class DropUninformative(Native, skrub.DropUninformative):
    """`skrub.DropUninformative`; pandas columns are counted by NumPy."""

    _original: ClassVar[type] = skrub.DropUninformative

    def fit_transform(self, column: Any, y: Any = None) -> Any:
        """Decide whether the column is dropped; parameters as the original's."""
        if not isinstance(column, pd.Series) or len(column) < FEW or self.drop_if_unique is not False:
            return super().fit_transform(column, y)
        self._check_params()
        self._null_count = int(column.isna().to_numpy().sum())
        self.drop_ = self._drop_if_too_many_nulls(column) or self._drop_if_constant(column)
        self.all_outputs_ = [] if self.drop_ else [sbd.name(column)]
        return self.transform(column)


class ToFloat(Native, skrub.ToFloat):
    """`skrub.ToFloat`; a pandas column of strings is refused for the first one that is no number."""

    _original: ClassVar[type] = skrub.ToFloat

    def fit_transform(self, column: Any, y: Any = None) -> Any:
        """Convert to numbers, or refuse; parameters as the original's."""
        return super().fit_transform(*self._telling(self, (column, y)))

    @staticmethod
    def _telling(estimator: Any, args: tuple) -> tuple:
        """What the original has to be given to fail as it does with these arguments; for `stratum.hosts.kernels`."""
        column = args[0] if args else None
        plain = estimator.decimal == "." and not estimator.thousand and not estimator.parentheses
        if plain and isinstance(column, pd.Series) and len(column) >= FEW:
            if not isinstance(column.dtype, pd.CategoricalDtype) and text.reads(column):
                head = column.iloc[:HEAD]
                try:
                    pd.to_numeric(head)
                except (TypeError, ValueError):
                    # the original says of these rows what it says of all: it names the first that is no number
                    return head, *args[1:]
        return args
