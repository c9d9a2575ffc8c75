"""The store on disk as Python sees it: where it is, values in and out, writing in the background.

Who may call it
    `stratum.reuse.session` (`opened`, `Disk`) and the command line (`folder`, `_core.Store` itself).

The format, the index and the locks are C's (``include/stratum/store.h``). Here values become bytes (`values.dump`)
and come back. A pickle may run any code when it is loaded: entries are read only from a folder that nobody but
this user may write to.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from .. import _config, _core
from . import values

#: Values that wait to be written take so many bytes at most: what comes then is not written.
WAITING_BYTES = 1 << 30

#: Reading costs a file and an unpickling, and bytes at this speed until it was measured (page cache: 2 GB/s and more;
#: a disk: less).
LOOKUP_S = 0.001
BYTES_PER_S = 1e9

#: Computing has to take so many times longer than reading.
MARGIN = 2.0

_HOST = 1  # st_store's kind of entries that hold pickles


def folder() -> Path:
    """Folder of the store: the option, or ``stratum/store`` in the user's cache folder."""
    given = _config.option("store")
    if given is not None:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "stratum" / "store"


class Disk:
    """A store that is open in this process, and the thread that writes to it."""

    def __init__(self, where: Path) -> None:
        self.where = where
        # Not flushed to the disk: that takes 20 ms for each small entry, and what a power failure spoils its
        # checksum tells.
        self.store = _core.Store(where, max_bytes=_config.option("store_bytes"), sync=False)
        self.saved = 0.0  # seconds that loads spared
        self.loaded = self.written = self.bytes_written = 0
        self.refused: dict[str, int] = {}  # why values were not written
        self._said: set[str] = set()
        self._waiting = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._idle = threading.Condition(self._lock)
        self._left = 0
        self._thread: threading.Thread | None = None

    # -- reading

    def load(self, key: bytes, encoding: bytes) -> tuple[Any] | None:
        """A value, alone in a tuple, or None."""
        start = time.perf_counter()
        found = self.store.get(key, encoding)
        if found is None:
            return None
        parts, seconds, kind, own = found
        if kind & _HOST and not own:
            self._warn(f"the store in {self.where} can be written to by others: nothing is read from it")
            return None
        try:
            value = values.load(parts[0], parts[1:])
        except Exception as error:  # whatever a class says whose code has changed
            self.refuse(f"reading: {type(error).__name__}: {error}")
            self.store.remove(key)
            return None
        with self._lock:
            self.loaded += 1
            self.saved += seconds - (time.perf_counter() - start)
        return (value,)

    def was_long(self, name: str) -> bool:
        """Whether a call of that name took long enough to be looked for, here or in another process."""
        return self.store.knows(_long_call(name)[0])

    # -- writing

    def note_long(self, name: str) -> None:
        """Let other processes look for calls of that name."""
        key, encoding = _long_call(name)
        if self.store.read_only or self.store.knows(key):
            return
        try:
            self.store.put(key, encoding, f"calls of {name} take long", 1.0, 0, [b""])
        except _core.EngineError as why:
            self.refuse(str(why))

    def pays(self, size: int, again: float) -> bool:
        """Whether reading so many bytes is enough faster than computing them."""
        return not self.store.read_only and again > MARGIN * self.cost(size)

    def cost(self, size: int) -> float:
        """Seconds that reading so many bytes takes."""
        return LOOKUP_S + size / BYTES_PER_S

    def write(self, key: bytes, encoding: bytes, label: str, seconds: float, value: Any, size: int) -> None:
        """Write a value, in the background. It must not be written to before `flush`."""
        with self._lock:
            if self._waiting + size > WAITING_BYTES:
                self.refused["too much waits to be written"] = self.refused.get("too much waits to be written", 0) + 1
                return
            self._waiting += size
            self._left += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="stratum-store", daemon=True)
                self._thread.start()
        self._jobs.put((key, encoding, label, seconds, value, size))

    def flush(self) -> None:
        """Wait until everything is written."""
        with self._idle:
            self._idle.wait_for(lambda: self._left == 0)

    def _write_all(self) -> None:
        """Write what waits. The thread ends where nothing does: a store that rests holds none."""
        while True:
            with self._lock:
                if self._left == 0:
                    self._thread = None
                    return
            key, encoding, label, seconds, value, size = self._jobs.get()
            try:
                body, buffers = values.dump(value)
                self.store.put(key, encoding, label, seconds, _HOST, [body, *buffers])
            except values.NotShareable as why:
                self.refuse(str(why))
            except _core.EngineError as why:  # a full disk, ...
                self.refuse(str(why))
                self._warn(f"nothing more is written to the store in {self.where}: {why}")
            except BaseException as error:  # whatever a class says when it is pickled: `refused` tells
                self.refuse(f"{type(error).__name__}: {error}")
            else:
                with self._lock:
                    self.written += 1
                    self.bytes_written += size
            finally:
                value = body = buffers = None
                with self._idle:
                    self._waiting -= size
                    self._left -= 1
                    self._idle.notify_all()

    def refuse(self, why: str) -> None:
        """Count a value that is not read or written."""
        with self._lock:
            self.refused[why] = self.refused.get(why, 0) + 1

    def _warn(self, text: str) -> None:
        """One warning of a kind."""
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _long_call(name: str) -> tuple[bytes, bytes]:
    """Key and encoding of the note that calls of a function, known by its name, take long."""
    encoding = b"long call " + name.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoding, digest_size=16).digest(), encoding


_open: dict[str, Disk | None] = {}
_lock = threading.Lock()


def opened() -> Disk | None:
    """The store of the options; None, with one warning, if it cannot be opened."""
    where = folder()
    name = os.path.abspath(where)
    with _lock:
        if name not in _open:
            try:
                _open[name] = Disk(where)
            except (_core.EngineError, OSError) as error:
                _open[name] = None
                if _config.option("store") is not None:  # nobody asked for the one in the cache folder
                    warnings.warn(f"no store is used: {where}: {error}", RuntimeWarning, stacklevel=2)
        return _open[name]


def _after_fork() -> None:
    """The thread that writes stays with the parent."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
