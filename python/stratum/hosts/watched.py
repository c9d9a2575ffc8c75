"""Whether a script could tell how often, and in which order, its own code has run.

What it is for
    Under ``unseeded="faithful"``, which unmodified scripts get, sharing must not be seen: a function that draws
    from a global generator, prints, or keeps a list of its calls would be called less often and in another
    order. What holds such code is left to the libraries.

Who may call it
    `stratum.hosts.searches` and `stratum.hosts.pipelines`, before they lower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import _config
from ..capture import purity
from . import _skrub_0_11 as sk
from . import estimators


def check(values: Iterable[Any]) -> None:
    """Refuse to run code of the user's inside `values` if the script could tell.

    Raises
    ------
    Unsupported
        With the reason.
    """
    if _config.option("unseeded") != "faithful":
        return
    for value in values:
        for code in estimators.code_inside(value):
            reason = purity.shown(code)
            if reason is not None:
                name = getattr(code, "__qualname__", type(code).__qualname__)
                raise sk.Unsupported(f"the script could tell how often and when {name} runs: {reason}")


def fields(impl: Any) -> list[Any]:
    """What a node of skrub's is made of."""
    if isinstance(impl, sk.choosing.Choice):
        return list(impl.outcomes)
    return [getattr(impl, name, None) for name in getattr(impl, "_fields", ())]

