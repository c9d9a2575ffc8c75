"""stratum: batches of machine-learning pipelines, fused into one graph and run on all cores.

Use it in place of skrub (``import stratum as skrub``): everything public in skrub is here, the same
objects, and searches and cross-validations go through the engine. ``run`` takes a batch of pipelines that
were built separately.
"""

from __future__ import annotations

from typing import Any

import skrub as _skrub
from skrub import *  # noqa: F403

from . import _core
from ._config import config_context, get_config, set_config
from . import _patch

_patch.install()

from ._api import lazy, run, run_as_completed  # noqa: E402
from ._verify import VerifyError  # noqa: E402
from .engine import RunStats, last_run  # noqa: E402
from .explain import explain  # noqa: E402

EngineError = _core.EngineError
cross_validate = _patch._cross_validate

__version__ = "0.1.0"
__all__ = [
    *_skrub.__all__,
    "EngineError", "RunStats", "VerifyError", "config_context", "explain", "get_config", "last_run",
    "lazy", "run", "run_as_completed", "set_config",
]  # fmt: skip
__all__ = list(dict.fromkeys(__all__))


def __getattr__(name: str) -> Any:
    """Whatever else skrub has."""
    try:
        return getattr(_skrub, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_skrub)})
