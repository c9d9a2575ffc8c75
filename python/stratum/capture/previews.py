"""What was known where a pipeline was built: the values of its variables, and previews already computed.

skrub's searches hold a clone without values. A batch takes searches without an environment, so the values
that the variables had are remembered beside the search (weakly: they go with it).
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import Any

from ..hosts import _skrub_0_11 as sk

_lock = threading.Lock()
_environments: dict[int, tuple[weakref.ref, dict]] = {}


def remember(search: Any, environment: dict) -> None:
    """Remember the values that a search's variables had."""
    key = id(search)

    def forget(_: Any) -> None:
        with _lock:
            _environments.pop(key, None)

    with _lock:
        _environments[key] = (weakref.ref(search, forget), environment)


def environment_of(search: Any) -> dict:
    """The environment of a search that was made from variables with values."""
    with _lock:
        known = _environments.get(id(search))
    if known is None or known[0]() is not search:
        return {}
    return dict(known[1])


def _remembering(make: Any) -> Any:
    @functools.wraps(make)
    def make_search(self: Any, **kwargs: Any) -> Any:
        search = make(self, **kwargs)
        if isinstance(search, sk.ParamSearch):
            remember(search, self._get_env())
        return search

    return make_search


def install() -> None:
    """Let skrub's makers of searches remember what they were made from."""
    for name in ("make_grid_search", "make_randomized_search"):
        make = getattr(sk.namespace.SkrubNamespace, name)
        if not hasattr(make, "_stratum"):
            wrapped = _remembering(make)
            wrapped._stratum = True
            setattr(sk.namespace.SkrubNamespace, name, wrapped)
