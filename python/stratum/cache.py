"""The store of results, for people: ``stratum.cache`` and ``python -m stratum cache``.

Each function opens the store that the options name (``stratum.set_config(store=...)``, ``STRATUM_STORE``; by default
``stratum/store`` in the user's cache folder). Results are put there by runs with ``reuse="disk"``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from . import _config, _core

__all__ = ["Entry", "clear", "export", "folder", "gc", "ls", "stats", "verify", "why"]


class Entry(NamedTuple):
    """A result in the store.

    Attributes
    ----------
    key : str
        32 hexadecimal digits; a unique beginning of it names the entry.
    label : str
        The operation and what it was made by.
    seconds : float
        What it takes to compute, in seconds.
    bytes : int
        Size of its file.
    hits : int
        How often it was loaded.
    created, used : float
        When it was put and last loaded, in seconds since 1970.
    """

    key: str
    label: str
    seconds: float
    bytes: int
    hits: int
    created: float
    used: float


def _open(read_only: bool = False) -> Any:
    from .reuse import store

    where = store.folder()
    if not where.is_dir():
        raise FileNotFoundError(f"there is no store in {where}")
    return _core.Store(where, max_bytes=_config.option("store_bytes"), read_only=read_only)


def folder() -> Path:
    """Folder of the store."""
    from .reuse import store

    return store.folder()


def stats() -> dict[str, Any]:
    """What is in the store and what it was good for.

    Returns
    -------
    dict
        ``entries``, ``bytes``, ``hits``, ``misses``, ``puts``, ``damaged``, ``removed``, ``seconds_saved`` (of the
        store's life), ``folder`` and ``index``.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    """
    opened = _open(read_only=True)
    return {**opened.stats(), "folder": opened.folder, "index": opened.index}


def _text(key: bytes) -> str:
    lo, hi = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    return f"{hi:016x}{lo:016x}"


def _entry(found: dict[str, Any]) -> Entry:
    return Entry(
        _text(found["key"]), found["label"], found["seconds"], found["bytes"], found["hits"], found["created"] / 1e9,
        found["used"] / 1e9,
    )  # fmt: skip


def ls() -> list[Entry]:
    """The entries of the store, those that take longest to compute first."""
    return sorted((_entry(found) for found in _open(read_only=True).entries()), key=lambda e: -e.seconds)


def why(one: str, other: str) -> list[str]:
    """What differs between what two entries stand for.

    Parameters
    ----------
    one, other : str
        Beginnings of keys, as `ls` gives them.

    Returns
    -------
    list of str
        One difference each: a constant of a function, a parameter, a library's version, an input that is another one.

    Raises
    ------
    KeyError
        If a beginning names no entry, or several.
    """
    from .reuse import why as _why

    opened = _open(read_only=True)
    return _why.differences(_encoding(opened, one), _encoding(opened, other))


def _encoding(opened: Any, prefix: str) -> bytes:
    found = [one for one in opened.entries() if _text(one["key"]).startswith(prefix)]
    if len(found) != 1:
        raise KeyError(f"{prefix!r} names {len(found) or 'no'} entries")
    encoding = opened.encoding(found[0]["key"])
    if encoding is None:
        raise KeyError(f"the entry {prefix!r} is gone")
    return bytes(encoding)


def gc(max_bytes: int | None = None) -> int:
    """Take out what is worth least; returns the bytes that were freed.

    Parameters
    ----------
    max_bytes : int, optional
        What the store may take; by default the option ``store_bytes``.
    """
    return int(_open().gc(_config.option("store_bytes") if max_bytes is None else max_bytes))


def verify() -> list[tuple[Entry, str]]:
    """Read every byte of the store; what was damaged is taken out and returned, with what was wrong."""
    return [(_entry(found), what) for found, what in _open().verify()]


def clear() -> None:
    """Take everything out of the store."""
    _open().clear()


def export(target: str | os.PathLike[str]) -> int:
    """Copy the store's files to another folder, which can serve as a store itself.

    Parameters
    ----------
    target : path
        A folder; it is made if need be.

    Returns
    -------
    int
        Number of entries that were copied.
    """
    source, target = folder(), Path(target)
    opened = _open(read_only=True)
    count = 0
    _core.Store(target)  # its own index, and its mark of a store
    for path in sorted(source.rglob("*.st")):
        there = target / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            shutil.copyfile(path, there)
            count += 1
    del opened
    _core.Store(target).gc(1 << 62)  # takes in files without rows
    return count
