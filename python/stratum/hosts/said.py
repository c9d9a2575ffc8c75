"""Warnings in the order in which the libraries' loops would have shown them.

What it is for
    Under ``unseeded="faithful"``, which unmodified scripts get, stderr is the script's too. scikit-learn fits
    candidate after candidate, each on every fold; the engine fits fold after fold, on several threads, and what
    candidates share once. So what nodes say is kept with the node, and told when a batch ends: for each pair of
    candidate and fold what the nodes say that it is made of, in the order of their inputs.

How
    The interpreter calls `warnings._showwarnmsg` for what passes the filters. In a thread that runs a node the
    message goes into a list, and the interpreter forgets that it was shown, so that the next node that says the
    same is heard as well. Telling goes through the filters again, with a registry of its own for each pair:
    scikit-learn's `Parallel` makes the interpreter forget before each. Whoever collects warnings inside a node
    (a library, for itself) gets them as ever.

Who may call it
    An engine has a `Said`: the registry of operators (`around`), runs (`begin`, `end`) and items, when their pairs
    are done (`tell`). `stratum.hosts.pipelines`, for nodes inside of nodes (`also`); `stratum._patch`, before
    scripts that run together record warnings for each other (`install`); `stratum.capture.previews` (`heard`).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_FORGET = None  # among what was said: here the interpreter forgot what it had shown

_outer: Any = None
_shows: Any = None  # who showed warnings when the last run began
_files: dict[str, types.ModuleType | None] = {}


class _Own(threading.local):
    mine: list[Any] | None = None  # what the running node says
    said: Said | None = None  # whose node it is
    version: Any = None
    heard = 0
    told = 0


_own = _Own()


def install() -> None:
    """Stand before what shows warnings, once. (From 3.14 on contexts may have filters of their own.)"""
    global _outer
    if _outer is None and sys.version_info < (3, 14) and hasattr(warnings, "_showwarnmsg"):
        _outer = warnings._showwarnmsg
        warnings._showwarnmsg = _show  # type: ignore[attr-defined]


def heard() -> int:
    """How many warnings this thread has seen shown (0 before `install`)."""
    return _own.heard


def telling(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator that tells its node when a warning was shown: its value does not hold that.

    What a library collects inside, for itself, does not count.
    """

    def tells(x: Any, *args: Any) -> Any:
        before = _own.told
        try:
            return function(x, *args)
        finally:
            if _own.told != before:
                x.tell()

    return tells


def also(refs: Iterable[Any], anew: bool) -> None:
    """The running node says what these nodes inside of it have said.

    Parameters
    ----------
    refs : iterable of Ref
    anew : bool
        They stand for a batch of `Parallel`, which makes the interpreter forget before each of them.
    """
    mine, said = _own.mine, _own.said
    if mine is not None and said is not None and said.by_node:
        for ref in refs:
            if anew:
                mine.append(_FORGET)
            mine.extend(said.by_node.get(ref.id, ()))
            said.told.add(ref.id)
        if anew:
            mine.append(_FORGET)


class Said:
    """What the nodes of one engine have said."""

    def __init__(self) -> None:
        self.by_node: dict[int, list[Any]] = {}
        self.told: set[int] = set()
        self.shows: Any = None
        self._filters: list = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An operator that keeps what it says."""

        def keeps(x: Any, *args: Any) -> Any:
            before, mine = (_own.mine, _own.said, _own.version), []
            _own.mine, _own.said, _own.version = mine, self, None
            try:
                return function(x, *args)
            finally:
                _own.mine, _own.said, _own.version = before
                if mine:
                    self.by_node.setdefault(x.ref.id, []).extend(mine)

        return keeps

    def begin(self) -> None:
        """A run begins: who shows warnings now is whom they are for, and filters are as they should be."""
        global _shows
        self.shows, self._filters = _whose(), list(warnings.filters)
        _shows = self.shows

    def tell(self, pairs: Iterable[Iterable[Any]], before: Iterable[Any] = ()) -> None:
        """Show what was said for each pair of candidate and fold, after what was said for all of them.

        Parameters
        ----------
        pairs : iterable of iterable of Ref
            The nodes of each pair, in the order of the libraries' loop.
        before : iterable of Ref
            What came before the loop.
        """
        if not self.by_node:
            return
        known: set[int] = set()
        with self._telling():
            self._tell_of(before, known)
            for refs in pairs:
                self._tell_of(refs, set(known))

    def end(self) -> None:
        """A run has ended: what nobody has told of yet is shown in the order of the nodes."""
        if self.by_node:
            with self._telling():
                registries: dict = {}
                for number in sorted(self.by_node.keys() - self.told):
                    for message in self.by_node[number]:
                        _warn(message, registries)
        self.by_node, self.told = {}, set()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Under the filters with which the run began: libraries on other threads may have set theirs.

        A run inside of another one's node tells that node.
        """
        mine, filters = _own.mine, warnings.filters[:]
        if _own.said is self:
            _own.mine = None
        _set_filters(self._filters)
        try:
            yield
        finally:
            _own.mine = mine
            _set_filters(filters)

    def _tell_of(self, refs: Iterable[Any], known: set[int]) -> None:
        registries: dict = {}
        for ref in refs:
            for number in _in_order(ref, known):
                for message in self.by_node.get(number, ()):
                    _warn(message, registries)
                self.told.add(number)


def _in_order(ref: Any, known: set[int]) -> Iterator[int]:
    """The numbers of a node and those below it that are not `known`, inputs first."""
    stack = [(ref, iter(ref.inputs))] if ref.id not in known else []
    known.add(ref.id)
    while stack:
        at, inputs = stack[-1]
        for one in inputs:
            if one.id not in known:
                known.add(one.id)
                stack.append((one, iter(one.inputs)))
                break
        else:
            stack.pop()
            yield at.id


def _set_filters(filters: list) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _whose() -> tuple[Any, Any]:
    return warnings.showwarning, getattr(warnings, "_showwarnmsg_impl", None)


def _show(message: Any) -> None:
    """The interpreter shows a warning."""
    _own.heard += 1
    whose = _whose()
    if whose == _shows:
        _own.told += 1
    mine, said = _own.mine, _own.said
    if mine is None or said is None or whose != said.shows:
        _outer(message)
        return
    module = _module_of(message.filename)
    shown = {} if module is None else vars(module).get("__warningregistry__", {})
    # (The version tells how often filters were changed, on whatever thread: a library that has done so inside of
    # a node has made the interpreter forget. Another thread may have; then the same is said twice at most.)
    version = shown.get("version")
    if mine and version != _own.version:
        mine.append(_FORGET)
    _own.version = version
    mine.append(message)
    text = str(message.message)
    for key in ((text, message.category, message.lineno), (text, message.category, 0)):
        shown.pop(key, None)
    warnings.onceregistry.pop((text, message.category), None)  # type: ignore[attr-defined]


def _warn(message: Any, registries: dict) -> None:
    if message is _FORGET:
        registries.clear()
        return
    module = _module_of(message.filename)
    name = None if module is None else module.__name__
    registry = registries.setdefault(message.filename, {})
    warnings.warn_explicit(message.message, message.category, message.filename, message.lineno, name, registry)


def _module_of(file: str) -> types.ModuleType | None:
    if _files.get(file) is None:
        modules = list(sys.modules.values())
        _files[file] = next((m for m in modules if getattr(m, "__dict__", {}).get("__file__") == file), None)
    return _files[file]
