"""stratum: batches of machine-learning pipelines, fused into one graph and run on all cores.

Use it in place of skrub (``import stratum as skrub``): everything public in skrub is here, the same
objects, and searches and cross-validations go through the engine. ``run`` takes a batch of pipelines that
were built separately.

Importing the package imports skrub and replaces its methods. Only the command line and the hook of
unmodified scripts import it without: there that is done as soon as somebody asks for a name of it (``_load``).
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for those who read the types; at run time `_load` brings the same names
    from skrub import *  # noqa: F403

    from ._api import lazy, run, run_as_completed
    from ._config import config_context, get_config, set_config
    from ._core import EngineError
    from ._marks import impure, pure, version
    from ._verify import VerifyError
    from .engine import RunStats, last_run
    from .explain import explain

__version__ = "0.1.0"
_OWN = [
    "EngineError", "RunStats", "VerifyError", "cache", "config_context", "explain", "get_config", "impure", "last_run",
    "lazy", "pure", "run", "run_as_completed", "set_config", "version",
]  # fmt: skip

_loaded = False
_refusal: str | None = None  # why the engine stays off


def _load() -> None:
    """Import skrub and the engine, and put the replacements in place."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    try:
        _import_all()
    except BaseException:
        _loaded = False
        raise


def _import_all() -> None:
    """Fill this module: skrub's names, and ours."""
    global _refusal
    import skrub

    from . import _config, _core, _versions

    own = {
        "_skrub": skrub, "EngineError": _core.EngineError, "config_context": _config.config_context,
        "get_config": _config.get_config, "set_config": _config.set_config,
    }  # fmt: skip
    _refusal = _versions.refusal()
    if _refusal is None:
        own |= _import_engine()
    else:
        warnings.warn(_refusal, RuntimeWarning, stacklevel=4)
    space = globals()
    for name in skrub.__all__:
        space[name] = getattr(skrub, name)
    space.update(own, __all__=list(dict.fromkeys([*skrub.__all__, *(n for n in _OWN if n in own)])))


def _import_engine() -> dict[str, Any]:
    """Put the replacements in place; the public names that need the engine."""
    import skrub

    from . import _patch
    from .scripts import fronts

    _patch.install()
    fronts.install()

    from . import _api, _marks, _verify, cache, engine
    from .explain import explain

    return {
        "RunStats": engine.RunStats, "VerifyError": _verify.VerifyError, "cache": cache,
        "cross_validate": skrub.cross_validate, "impure": _marks.impure, "pure": _marks.pure, "version": _marks.version,
        "explain": explain, "last_run": engine.last_run, "lazy": _api.lazy, "run": _api.run,
        "run_as_completed": _api.run_as_completed,
    }  # fmt: skip


def _light() -> bool:
    """Whether this process only wants the command line, or a script's hook only `stratum.sklearn`."""
    if getattr(sys.modules.get("_stratum_hook"), "lightly", False):
        return True
    if sys.argv[:1] == ["-m"]:  # so while the interpreter looks for the module to run
        return any(word.endswith("m") and _names_us(after) for word, after in _pairs(sys.orig_argv)) or (
            "-mstratum" in sys.orig_argv
        )
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "stratum"


def _names_us(word: str) -> bool:
    return word == "stratum" or word.startswith("stratum.")


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(words, words[1:]) if a.startswith("-") and not a.startswith("--")]


def __getattr__(name: str) -> Any:
    """Whatever else skrub has."""
    # (An underscore: a module of ours that is being imported, or Python asking; nobody's wish for skrub.)
    if not _loaded and not name.startswith("_"):
        _load()
        if name in globals():
            return globals()[name]
    if _refusal is not None and name in _OWN:
        raise AttributeError(f"stratum.{name} is not there: {_refusal}")
    try:
        return getattr(globals()["_skrub"], name)
    except (AttributeError, KeyError):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(globals().get("_skrub"))})


if not _light():
    _load()
