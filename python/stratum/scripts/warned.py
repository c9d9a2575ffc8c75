"""The warnings of a computation: written down where it is done, shown again where its value is taken.

`exchange` computes inside of `Recorder.recording` and calls `Recorder.replay` with what was recorded by
another process. A script then shows the warnings that it would show had it computed everything itself.

What makes it difficult is that a warning is shown once for each place in the code: a computation whose
warning has been shown already says nothing, and yet it would in another process. So while something is
recorded, the registries in which the interpreter notes what was shown are empty, and `_show`, which the
interpreter calls for what passes the filters, keeps them itself. Filters are part of the key of a value
(`exchange._settings`): what one process ignores, so does the other.

Whoever enters ``warnings.catch_warnings`` makes the interpreter forget what was shown. Most fits do, so that
the next one shows its warning again. That goes with a warning too (`Warned.anew`), and is done where it is told.

A warning that points at the script, or that comes from a thread of which nobody knows for whom it works,
cannot be told again elsewhere: the value is not shared.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..capture import encode as _encode

_REGISTRY = "__warningregistry__"


class Warned(NamedTuple):
    """A warning: what, where, and whether the computation had made the interpreter forget before."""

    message: Warning
    category: type[Warning]
    file: str
    line: int
    anew: bool


@dataclass
class Recorded:
    """What one computation said, and why it cannot be told elsewhere."""

    version: Any
    said: list[Warned] = field(default_factory=list)
    obstacle: str | None = None


class _Probe(Warning):
    """Asks for the version of the filters."""


def _version() -> Any:
    """The number of times that the filters have been changed: only the interpreter knows it."""
    registry: dict = {}
    with contextlib.suppress(_Probe):  # filters that make an error of everything
        warnings.warn_explicit(_Probe(), _Probe, "", 0, "", registry)
    return registry.get("version")


class Recorder:
    """Records warnings by thread; one of each process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._active: dict[int, list[Recorded]] = {}
        self._depth = 0
        self._kept: dict[str, tuple[types.ModuleType, dict]] = {}  # by file: what was shown before
        self._replaying = threading.local()
        self._outer = getattr(warnings, "_showwarnmsg", None)
        self._shows: tuple[Any, Any] = (None, None)
        # From 3.14 on contexts of their own may hold the filters.
        self.works = self._outer is not None and sys.version_info < (3, 14)
        if self.works:
            warnings._showwarnmsg = self._show  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def recording(self) -> Iterator[Recorded]:
        """Record what this thread says."""
        record, me = Recorded(_version()), threading.get_ident()
        with self._lock:
            self._active.setdefault(me, []).append(record)
            self._depth += 1
            if self._depth == 1:
                self._begin()
        try:
            yield record
        finally:
            with self._lock:
                self._active[me].remove(record)
                if not self._active[me]:
                    del self._active[me]
                self._depth -= 1
                if self._depth == 0:
                    self._end()

    def replay(self, said: list[Warned]) -> None:
        """Show what another process recorded, as far as it has not been shown here."""
        self._replaying.on = True
        try:
            for message, category, file, line, anew in said:
                module = _module_of(file)
                if anew:
                    warnings._filters_mutated()  # type: ignore[attr-defined]
                registry = {} if module is None else vars(module).setdefault(_REGISTRY, {})
                name = None if module is None else module.__name__
                warnings.warn_explicit(message, category, file, line, name, registry)
        finally:
            self._replaying.on = False

    def _begin(self) -> None:
        self._shows = (warnings.showwarning, getattr(warnings, "_showwarnmsg_impl", None))
        for module in list(sys.modules.values()):
            registry = getattr(module, "__dict__", {}).get(_REGISTRY)
            if registry and _is_library_file(getattr(module, "__file__", None)):
                self._kept[module.__file__] = (module, registry)
                vars(module)[_REGISTRY] = {}

    def _end(self) -> None:
        for module, kept in self._kept.values():
            new = vars(module).get(_REGISTRY, {})
            if "version" in new and new["version"] != kept.get("version"):
                kept.clear()  # filters have changed: the interpreter forgets what was shown before
            kept.update(new)
            vars(module)[_REGISTRY] = kept
        self._kept.clear()

    def _show(self, message: Any) -> None:
        """The interpreter shows a warning."""
        assert self._outer is not None
        if message.category is _Probe:
            return
        shows = (warnings.showwarning, getattr(warnings, "_showwarnmsg_impl", None))
        if not self._depth or shows != self._shows:  # somebody collects them: it is his
            self._outer(message)
            return
        with self._lock:
            self._record(message)
            known = self._shown_before(message)
        if not known:
            self._outer(message)

    def _record(self, message: Any) -> None:
        if getattr(self._replaying, "on", False):
            return
        records = self._active.get(threading.get_ident())
        if records is None:
            for others in self._active.values():
                for record in others:
                    record.obstacle = "a warning from another thread"
            return
        module = _module_of(message.filename)
        version = None if module is None else vars(module).get(_REGISTRY, {}).get("version")
        for record in records:
            anew = version is not None and version != record.version
            record.said.append(Warned(message.message, message.category, message.filename, message.lineno, anew))
            if not _is_library_file(message.filename):
                record.obstacle = "a warning that points at the script"

    def _shown_before(self, message: Any) -> bool:
        """Whether the interpreter would have held this one back; notes that it is shown."""
        module = _module_of(message.filename)
        new = {} if module is None else vars(module).get(_REGISTRY, {})
        text = str(message.message)
        keys = [key for key in ((text, message.category, n) for n in (message.lineno, 0)) if key in new]
        if module is None or not keys:  # shown each time
            return False
        for key in keys:  # so that the next computation that says it is heard
            del new[key]
        _, kept = self._kept.setdefault(message.filename, (module, {}))
        if kept.get("version") != new.get("version"):
            kept.clear()
            kept["version"] = new.get("version")
        known = all(key in kept for key in keys)
        kept.update(dict.fromkeys(keys, True))
        return known


def _is_library_file(file: Any) -> bool:
    return isinstance(file, str) and _encode._is_library_file(file)


def _module_of(file: str) -> types.ModuleType | None:
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("__file__") == file:
            return module
    return None
