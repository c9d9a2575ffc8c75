"""Tracebacks without frames of stratum: the functions that replaced skrub's get a front (`_core.Front`).

`install` is called when the package has been loaded and all replacements are in place. An error of the user's then shows
the user's code and the libraries'. `stratum.sklearn` makes
fronts for its own functions. Whoever looks for a fault in stratum sets STRATUM_FULL_TRACEBACKS=1.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

from .. import _core

HOME = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
VARIABLE = "STRATUM_FULL_TRACEBACKS"


def shown() -> bool:
    """Whether frames of the package are to be seen."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def install() -> None:
    """Put a front before every function of ours that stands in a module or class of skrub."""
    if shown():
        return
    made: dict[int, Any] = {}
    for name, module in list(sys.modules.items()):
        if name != "skrub" and not name.startswith("skrub."):
            continue
        for key, value in list(vars(module).items()):
            if _is_ours(value):
                setattr(module, key, _front(made, value))
            elif isinstance(value, type) and value.__module__ == name:
                for member, function in list(vars(value).items()):
                    # What makes nodes is called for each of them, and raises nothing of its own.
                    if member != "__init__" and _is_ours(function):
                        setattr(value, member, _front(made, function))


def _is_ours(value: Any) -> bool:
    return type(value) is types.FunctionType and value.__code__.co_filename.startswith(HOME)


def _front(made: dict[int, Any], function: Any) -> Any:
    front = made.get(id(function))
    if front is None:
        front = made[id(function)] = _core.Front(function, HOME)
    return front
