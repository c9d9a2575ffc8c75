"""Configuration: skrub's options and the engine's, in one place.

`set_config`, `get_config` and `config_context` are public and take skrub's options as well as the
engine's; the rest of the package reads single options with `option`, and carries the settings of
the calling thread to a worker with `snapshot` and `apply`.

skrub's options stay in skrub: they are passed on to the functions found in ``skrub`` when this
module was imported, so that skrub's checks, messages and environment variables hold and a
``skrub.set_config`` elsewhere in the process is seen here. The engine's options are kept as skrub
keeps its own: process-wide defaults (from the environment) that each thread copies at first use,
so that a change in one thread is not seen in another. NumPy's error state needs no carrying: it is
a context variable.
"""

from __future__ import annotations

import difflib
import inspect
import numbers
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
import skrub

__all__ = ["config_context", "get_config", "set_config"]

_skrub_set_config = skrub.set_config
_skrub_get_config = skrub.get_config
_skrub_config_context = skrub.config_context
_SKRUB_NAMES: tuple[str, ...] = tuple(inspect.signature(_skrub_set_config).parameters)

_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class _Option:
    """One option of the engine: its default, what it allows, how text becomes a value."""

    default: Any
    allowed: str
    check: Callable[[Any], Any]  # the value to keep; ValueError when it is not allowed
    parse: Callable[[str], Any]  # from the text of an environment variable; ValueError likewise


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return str(value)
        raise ValueError

    return check


def _integer(low: int, high: int | None = None) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
            raise ValueError
        if value < low or (high is not None and value > high):
            raise ValueError
        return int(value)

    return check


def _boolean(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ValueError


def _seconds(value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real) or not value >= 0:
        raise ValueError
    return float(value)


def _path(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError


def _or_none(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _text_boolean(text: str) -> bool:
    # skrub's variables say True and False, its SKB_CACHE also 1 and 0.
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError from None


def _text_or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.lower() == "none" else parse(text)


_ENGINES = ("stratum", "skrub")
_UNSEEDED = ("derived", "independent", "faithful")

_OPTIONS: dict[str, _Option] = {
    "engine": _Option("stratum", "'stratum', 'skrub'", _one_of(*_ENGINES), str),
    "n_threads": _Option(
        None, "None, a positive integer", _or_none(_integer(1)), _text_or_none(int)
    ),
    "unseeded": _Option("derived", "'derived', 'independent', 'faithful'", _one_of(*_UNSEEDED), str),
    "seed": _Option(0, f"an integer from 0 to {_MAX_SEED}", _integer(0, _MAX_SEED), int),
    "exactness": _Option(
        "equivalent", "'identical', 'equivalent', 'approximate'",
        _one_of("identical", "equivalent", "approximate"), str,
    ),
    "native": _Option(True, "True, False", _boolean, _text_boolean),
    "verify": _Option(False, "True, False", _boolean, _text_boolean),
    "progress": _Option(
        None, "None, True, False", _or_none(_boolean), _text_or_none(_text_boolean)
    ),
    "reuse": _Option(
        None, "None, 'off', 'memory', 'disk', 'verify'",
        _or_none(_one_of("off", "memory", "disk", "verify")), _text_or_none(str),
    ),
    "reuse_bytes": _Option(
        None, "None, a whole number of bytes", _or_none(_integer(0)), _text_or_none(int)
    ),
    "reuse_seconds": _Option(
        0.005, "a number of seconds, 0 or more", _seconds, float
    ),
    "store_bytes": _Option(
        10 << 30, "a whole number of bytes", _integer(0), int
    ),
    "store": _Option(None, "None, a path", _or_none(_path), str),
}


def _variable(name: str) -> str:
    """The environment variable of an option."""
    return "STRATUM_" + name.upper()


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The defaults as the environment has them, and what is wrong with it."""
    defaults: dict[str, Any] = {}
    errors: list[str] = []
    for name, option in _OPTIONS.items():
        defaults[name] = option.default
        text = environ.get(_variable(name), "").strip()
        if not text:
            continue
        try:
            defaults[name] = option.check(option.parse(text))
        except ValueError:
            errors.append(
                f"the environment variable {_variable(name)} is {text!r}; "
                f"allowed are: {option.allowed}"
            )
    return defaults, errors


# Read once, at import. A bad variable must not make the import fail (the message would come from
# somewhere inside `import stratum`, often long before it matters): it is said at the first use.
_defaults, _environment_errors = _from_environment(os.environ)
_local = threading.local()


def _thread_options() -> dict[str, Any]:
    """This thread's values of the engine's options, to be changed in place."""
    if _environment_errors:
        raise ValueError("; ".join(_environment_errors))
    try:
        return _local.options  # type: ignore[no-any-return]
    except AttributeError:
        _local.options = _defaults.copy()
        return _local.options  # type: ignore[no-any-return]


def option(name: str) -> Any:
    """One of the engine's options, as it stands in this thread."""
    if not _environment_errors:
        try:
            return _local.options[name]  # asked for each node that is built: without another call
        except AttributeError:
            pass
    return _thread_options()[name]


def get_config() -> dict[str, Any]:
    """Retrieve the current configuration, skrub's and the engine's.

    Returns
    -------
    config : dict
        Keys are names that can be passed to :func:`set_config`.

    See Also
    --------
    set_config : Change the configuration.
    config_context : Change it for a while.

    Examples
    --------
    >>> import stratum
    >>> stratum.get_config()["engine"]
    'stratum'
    """
    ours = _thread_options()
    return {**_skrub_get_config(), **ours}


def _split(function: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The engine's and skrub's part of the options; TypeError for a name in neither."""
    for name in options:
        if name not in _OPTIONS and name not in _SKRUB_NAMES:
            known = sorted({*_OPTIONS, *_SKRUB_NAMES})
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise TypeError(
                f"{function}() got an unexpected keyword argument {name!r}.{hint} "
                f"The options are: {', '.join(known)}"
            )
    ours = {name: value for name, value in options.items() if name in _OPTIONS}
    theirs = {name: value for name, value in options.items() if name not in _OPTIONS}
    return ours, theirs


def _checked(ours: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's options with their values checked."""
    kept = {}
    for name, value in ours.items():
        try:
            kept[name] = _OPTIONS[name].check(value)
        except ValueError:
            raise ValueError(
                f"{name!r} must be one of: {_OPTIONS[name].allowed}; got {value!r}"
            ) from None
    return kept


def _set_theirs(args: tuple[Any, ...], theirs: Mapping[str, Any]) -> None:
    """skrub's set_config, with its warnings pointing at the caller of ours."""
    current = _skrub_get_config()
    given = {**dict(zip(_SKRUB_NAMES, args)), **theirs}
    if all(name in current or value is None for name, value in given.items()):
        _skrub_set_config(*args, **theirs)
        return
    # A name that skrub takes but does not hand back is deprecated: it warns, at a distance of two
    # frames, which here would be this file, whose DeprecationWarnings nobody is shown.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _skrub_set_config(*args, **theirs)
    for warning in caught:
        warnings.warn(warning.message, warning.category, stacklevel=3)


def set_config(*args: Any, **options: Any) -> None:
    """Set the configuration of this thread: skrub's options and the engine's.

    An option that is not named keeps its value. For skrub's options, see
    :func:`skrub.set_config`; they behave as described there (``None`` leaves most of them as they
    are). For the engine's, ``None`` is a value where it is listed below and an error elsewhere.

    Parameters
    ----------
    *args
        Positional arguments are those of :func:`skrub.set_config`.

    **options
        Any of skrub's options, and:

        engine : {'stratum', 'skrub'}, default='stratum'
            Who runs searches and cross-validation: the engine, or skrub as if stratum were not
            there.
        n_threads : int or None, default=None
            How many threads the engine uses; None for one a processor.
        unseeded : {'derived', 'independent', 'faithful'}, default='derived'
            How operators without a seed that draw from NumPy's global generator are seeded:
            by a seed derived from `seed` and their place in the graph, so that their results can
            be shared and repeated, or by independent draws, as skrub with one job would.
            'faithful' is 'independent' once NumPy's global generator has been seeded, and leaves
            to the libraries what runs code of the user's that draws, prints or counts its calls.
        seed : int, default=0
            What derived seeds are derived from; 0 to 4294967295.
        verify : bool, default=False
            Run everything twice, by the engine and by skrub, and compare; for tests.
        progress : bool or None, default=None
            Show a line of progress: None for only when stderr is a terminal.
        reuse : {'off', 'memory', 'disk', 'verify'} or None, default=None
            What becomes of results when a run has ended: nothing is kept, they are kept in memory
            for later runs of the process, or in a store on disk too, for later processes. None is
            'disk' where a store is named, and 'memory' elsewhere. 'verify' is as None, but a quarter of
            what was kept is computed again, others in each run, and compared: a difference raises
            `VerifyError`. For tests.
        reuse_bytes : int or None, default=None
            Bytes that kept results may take in memory. None for a tenth of the machine's memory,
            of which no more than 64 MiB may add to what the process takes without them.
        reuse_seconds : float, default=0.005
            What takes less to compute, in seconds, with all that comes before it, is not kept.
        store : path or None, default=None
            Folder of the store on disk; None for ``stratum/store`` in the user's cache folder.
        store_bytes : int, default=10 GiB
            Bytes that the store may take; what is worth least goes first.

        Their defaults can also be set by the environment variables ``STRATUM_ENGINE``,
        ``STRATUM_N_THREADS``, ``STRATUM_UNSEEDED``, ``STRATUM_SEED``, ``STRATUM_VERIFY``,
        ``STRATUM_PROGRESS``, ``STRATUM_REUSE``, ``STRATUM_REUSE_BYTES``,
        ``STRATUM_REUSE_SECONDS``, ``STRATUM_STORE`` and ``STRATUM_STORE_BYTES``, which are read when stratum is imported.

    Raises
    ------
    TypeError
        For a name that is neither skrub's nor the engine's.
    ValueError
        For a value that is not allowed, or when an environment variable holds one.

    See Also
    --------
    get_config : Retrieve the configuration.
    config_context : Change it for a while.

    Examples
    --------
    >>> import stratum
    >>> stratum.set_config(n_threads=2, eager_data_ops=True)
    >>> stratum.get_config()["n_threads"]
    2
    >>> stratum.set_config(n_threads=None)
    """
    current = _thread_options()
    ours, theirs = _split("set_config", options)
    checked = _checked(ours)
    if args or theirs:
        _set_theirs(args, theirs)
    # Last, so that an error in skrub's part leaves the engine's options as they were.
    current.update(checked)


def config_context(**options: Any) -> AbstractContextManager[None]:
    """Change the configuration of this thread for the time of a ``with`` block.

    Parameters
    ----------
    **options
        As for :func:`set_config`.

    Returns
    -------
    context manager
        On leaving it, also by an exception, all options are as they were on entering.

    See Also
    --------
    set_config : Change the configuration.
    get_config : Retrieve the configuration.

    Examples
    --------
    >>> import stratum
    >>> with stratum.config_context(engine="skrub"):
    ...     stratum.get_config()["engine"]
    'skrub'
    """
    ours, theirs = _split("config_context", options)
    return _context(ours, theirs)


@contextmanager
def _context(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[None]:
    before = _thread_options().copy()
    checked = _checked(ours)
    # Entered also when no option of skrub's is named: a set_config inside the block must not
    # outlive it, whosever option it changes.
    with _skrub_config_context(**theirs):
        try:
            _thread_options().update(checked)
            yield
        finally:
            _local.options = before


@dataclass(frozen=True)
class Snapshot:
    """The settings of a thread, taken by `snapshot`: not to be changed."""

    skrub: Mapping[str, Any]
    sklearn: Mapping[str, Any]
    stratum: Mapping[str, Any]


def snapshot() -> Snapshot:
    """What skrub, scikit-learn and the engine have set in this thread."""
    return Snapshot(_skrub_get_config(), sklearn.get_config(), _thread_options().copy())


def apply(settings: Snapshot) -> None:
    """Give this thread the settings of the thread that `settings` was taken in.

    Cheap when it has them already (dictionaries compared, about one microsecond): setting
    skrub's goes through its checks and resolves a path.
    """
    if _skrub_get_config() != settings.skrub:
        _skrub_set_config(**settings.skrub)
    if sklearn.get_config() != settings.sklearn:
        sklearn.set_config(**settings.sklearn)
    _local.options = dict(settings.stratum)
