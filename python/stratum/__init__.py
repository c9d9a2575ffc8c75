"""stratum: batches of machine-learning pipelines, fused into one graph and run on all cores.

Use it in place of skrub (``import stratum as skrub``): everything public in skrub is here, the same
objects, and searches and cross-validations go through the engine. ``run`` takes a batch of pipelines that
were built separately.
"""

from __future__ import annotations

from typing import Any

import warnings as _warnings

import skrub as _skrub
from skrub import *  # noqa: F403

from . import _core, _versions
from ._config import config_context, get_config, set_config

__version__ = "0.1.0"
EngineError = _core.EngineError
_names = ["EngineError", "config_context", "get_config", "set_config"]
_engine_names = ["RunStats", "VerifyError", "explain", "last_run", "lazy", "run", "run_as_completed"]
_refusal = _versions.refusal()

if _refusal is None:
    from . import _patch

    _patch.install()

    from ._api import lazy, run, run_as_completed
    from ._verify import VerifyError
    from .engine import RunStats, last_run
    from .explain import explain

    cross_validate = _patch._cross_validate
    _names += _engine_names
else:
    _warnings.warn(_refusal, RuntimeWarning, stacklevel=2)

__all__ = list(dict.fromkeys([*_skrub.__all__, *sorted(_names)]))


def __getattr__(name: str) -> Any:
    """Whatever else skrub has."""
    if _refusal is not None and name in _engine_names:
        raise AttributeError(f"stratum.{name} is not there: {_refusal}")
    try:
        return getattr(_skrub, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_skrub)})
