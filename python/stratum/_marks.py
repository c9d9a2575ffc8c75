"""What users say of their functions: `pure`, `impure`, `version`.

The engine reads a function's code to see whether its result depends on its arguments alone
(`stratum.capture.purity`). Where it cannot see, or sees too much, the user says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def pure(function: _F) -> _F:
    """Say that a function's result depends on its arguments alone: it may be shared and kept.

    Parameters
    ----------
    function : callable
        It is returned as it is, with a mark.

    Examples
    --------
    >>> import stratum
    >>> @stratum.pure
    ... def load(path):
    ...     return open(path).read()
    """
    return _marked(function, "pure")


def impure(function: _F) -> _F:
    """Say that a function may give something else each time: it is called for each place in a pipeline anew.

    Parameters
    ----------
    function : callable
        It is returned as it is, with a mark.

    Examples
    --------
    >>> import stratum
    >>> @stratum.impure
    ... def latest(table):
    ...     return table
    """
    return _marked(function, "impure")


def _marked(function: _F, mark: str) -> _F:
    function._stratum_purity = mark  # type: ignore[attr-defined]
    return function


def version(text: str) -> Callable[[_F], _F]:
    """Say which version of something a function stands for that its code does not show, such as a model behind it.

    Parameters
    ----------
    text : str
        Results of another version are not taken for this one's.

    Returns
    -------
    callable
        A decorator that returns the function as it is, with a mark.

    Examples
    --------
    >>> import stratum
    >>> @stratum.version("2")
    ... def embed(table):
    ...     return table
    """
    if not isinstance(text, str):
        raise TypeError(f"a version is a string, got {type(text).__name__}: write @stratum.version(\"2\")")

    def mark(function: _F) -> _F:
        function._stratum_version = text  # type: ignore[attr-defined]
        return function

    return mark
