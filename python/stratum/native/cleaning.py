"""Cleaning of tables: null strings, by distinct strings, and what is made strings.  Source of the rules: skrub's own transformers.

Called by users under `stratum.native` and, behind skrub's classes, by `stratum.hosts.kernels`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from skrub import _clean_null_strings as _original
from skrub import _dataframe as sbd
from skrub import _to_str as _strings

from .. import _core
from . import text
from ._base import Native

__all__ = ["CleanNullStrings", "ToStr"]


class CleanNullStrings(Native, _original.CleanNullStrings):
    """skrub's ``CleanNullStrings``, asked for distinct strings once.

    Parameters, attributes, errors and the columns returned are the original's.  For pandas, which looks at each
    row with a regular expression (100,000 rows: 0.2 s), columns without a string of nothing but white space are
    not looked at row by row, and those without a string that stands for a missing value are returned as they
    are.  Polars' own replacement is fast.
    """

    _original: ClassVar[type] = _original.CleanNullStrings

    def transform(self, column: Any) -> Any:
        """Replace strings that stand for missing values.

        Parameters
        ----------
        column : Series
            pandas or Polars.

        Returns
        -------
        Series
            With nulls in their place; a column of another type as it is.
        """
        if not (sbd.is_pandas(column) and (sbd.is_pandas_object(column) or sbd.is_string(column))):
            return super().transform(column)
        # mostly there is nothing to replace, which is told without finding distinct strings
        categories = isinstance(column.dtype, pd.CategoricalDtype)
        if not categories and text.reads(column) and isinstance(self.null_strings_, (list, set, tuple, frozenset)):
            if _core.encode_among(column.__arrow_c_stream__(), list(self.null_strings_)) is False:
                return column.copy(deep=False)
        found, _ = text.column(column if text.reads(column) else column.to_numpy(), nulls=())
        if found is None or (found.n_nulls and not text.reads(column)):
            return super().transform(column)
        strings = found.strings()
        if any(map(str.isspace, strings)):
            return super().transform(column)
        if not set(self.null_strings_).isdisjoint(strings):
            return sbd.replace(column, self.null_strings_, sbd.null_value_for(column))
        return column.copy(deep=False)


class ToStr(Native, _strings.ToStr):
    """skrub's ``ToStr``; pandas columns that hold strings already are not written to.

    skrub sets missing values once more after the conversion, which copies all strings (100,000 of 38 characters: 4
    ms). Conversion leaves them missing where the type says that there are strings and nothing else.
    """

    _original: ClassVar[type] = _strings.ToStr

    def transform(self, column: Any) -> Any:
        """Convert a column to strings.

        Parameters
        ----------
        column : Series
            pandas or Polars.

        Returns
        -------
        Series
            Of strings and missing values.
        """
        if isinstance(column, pd.Series) and isinstance(column.dtype, pd.StringDtype):
            strings = column.astype("str")
            if isinstance(strings.dtype, pd.StringDtype):
                return strings
        return super().transform(column)
