"""What scripts that run together share: an equal node is computed by the process that asks first.

Who calls it
    `Exchange.around` stands around the operators that may be expensive (``hosts/operators.py``),
    `Exchange.node` around fits at construction (``capture/previews.py``); both only in a script that was
    started with others (`current`). `Exchange.begin` is called on the thread that starts a run or builds.

How
    A directory is the meeting place; nobody coordinates. A node's name is the digest of its encoding and of
    the settings that results depend on. Who wants it opens NAME.lock and asks for a record lock, which the
    system takes away from a process that dies, however it dies, and which a forked child does not inherit.
    Who gets the lock looks again, computes, writes a temporary file and renames it to NAME.value: encoding,
    pickle, then the buffers of arrays and frames, aligned. Others compare the encoding byte by byte and map
    the file privately: nothing is copied until somebody writes to it. NAME.none says that there is nothing
    to be had: too cheap, not shareable, or failed; then each computes for itself.

What is shared
    Fits and transformations of scikit-learn's and skrub's estimators without functions of the user inside
    (in DataOps by the node's encoding, in scikit-learn's searches by the content of what goes in), reads of files, calls of library functions and methods of frames: where the key means the same in every
    process (``Ref.plain``) and it took `WORTH_S`. The warnings of a computation go with its value (`warned`).
    Fits that talk (``verbose``) are not shared. Values hold nothing that is defined outside of libraries,
    and arrays keep their layout.

    A process that has changed a library takes nothing and gives nothing: `patched`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import locale
import math
import mmap
import os
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skrub

from .. import _core
from ..capture import encode as _encode
from ..hosts import estimators
from ..reuse import values as _values
from .warned import Recorder

#: What takes less is computed by everybody: writing, mapping and waiting cost some milliseconds.
WORTH_S = 0.02
#: Previews and scikit-learn's fits on fewer cells are not looked for: asking costs 20 ms (`patched`).
WORTH_CELLS = 10_000
#: Room that is left in the directory.
SPARE_BYTES = 256 << 20

_MAGIC = b"stratumX"
_HEAD = struct.Struct("<8sQQQ")  # magic, length of the encoding, of the pickle, number of buffers
_ALIGN = 64
_ESTIMATORS = frozenset({"sklearn", "skrub"})
_FRAMES = frozenset({"pandas", "polars", "pyarrow", "numpy"})
_VARIABLES = ("OMP_", "OPENBLAS_", "MKL_", "BLIS_", "LC_", "LANG", "TZ", "STRATUM_")


# Methods of frames and of what they are grouped by: nothing but their result is left of them.
_METHODS = frozenset(
    "agg aggregate apply assign astype concat corr count cov cummax cummin cumprod cumsum describe diff drop"
    " drop_duplicates dropna explode ffill bfill fillna filter first get get_dummies group_by interpolate isin"
    " isna join join_asof last map max mean median melt merge min mode notna nunique pivot pivot_table prod"
    " quantile rank rename replace reset_index round select set_index shift sort sort_index sort_values stack"
    " std sum transform unique unstack value_counts var with_columns".split()
)


# -- Values in files --------------------------------------------------------------------------------


def _write(path: str, encoding: bytes, value: Any) -> None:
    """Write a value; `_values.NotShareable` if it cannot be, or if there is no room."""
    body, buffers = _values.dump(value)
    sizes = [buffer.nbytes for buffer in buffers]
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}"
    try:
        room = os.statvfs(os.path.dirname(path))
        if room.f_bavail * room.f_frsize < len(body) + sum(sizes) + SPARE_BYTES:
            raise _values.NotShareable("no room")
        with open(temporary, "wb") as file:
            file.write(_HEAD.pack(_MAGIC, len(encoding), len(body), len(sizes)))
            file.write(struct.pack(f"<{len(sizes)}Q", *sizes))
            file.write(encoding)
            file.write(body)
            for buffer in buffers:
                file.write(b"\0" * (-file.tell() % _ALIGN))
                file.write(buffer)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise _values.NotShareable(f"{type(error).__name__}: {error}") from error


MISSING = object()


def _read(path: str, encoding: bytes) -> Any:
    """The value in a file, or `MISSING`: no file, or another node's."""
    try:
        with open(path, "rb") as file:
            # Private: who writes to an array gets a page of its own.
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except FileNotFoundError:
        return MISSING
    magic, n_encoding, n_body, n_buffers = _HEAD.unpack_from(whole)
    at = _HEAD.size
    sizes = struct.unpack_from(f"<{n_buffers}Q", whole, at)
    at += 8 * n_buffers
    if magic != _MAGIC or whole[at : at + n_encoding] != encoding:
        return MISSING
    at += n_encoding
    body = whole[at : at + n_body]
    at += n_body
    buffers = []
    for size in sizes:
        at += -at % _ALIGN
        buffers.append(whole[at : at + size])
        at += size
    return _values.load(body, buffers)


# -- The exchange -----------------------------------------------------------------------------------


class Claim:
    """A value that this thread computes for everybody: the others wait until it is given or given up."""

    def __init__(self, exchange: Exchange, path: str, encoding: bytes, what: str, held: contextlib.ExitStack) -> None:
        self._exchange, self._path, self._encoding, self._what, self._held = exchange, path, encoding, what, held
        exchange.claimed(1)
        held.callback(exchange.claimed, -1)
        self._recording = exchange.warned.recording()
        self._record = self._recording.__enter__()
        self._start = time.perf_counter()

    def give_up(self) -> None:
        """It failed: each computes for itself."""
        with self._held:
            self._recording.__exit__(None, None, None)
            self._exchange.say_nothing(self._path)

    def end(self, *value: Any) -> None:
        """Give the value, or give up where there is none."""
        if value:
            self.give(*value)
        else:
            self.give_up()

    def give(self, value: Any) -> None:
        """Here it is; written if it took long enough and can be shared."""
        seconds = time.perf_counter() - self._start
        exchange, name = self._exchange, f"{self._what} {os.path.basename(self._path)}"
        with self._held:
            self._recording.__exit__(None, None, None)
            if seconds < WORTH_S:
                exchange.say_nothing(self._path)
                return
            exchange.note("made", name)
            try:
                if self._record.obstacle is not None:
                    raise _values.NotShareable(self._record.obstacle)
                _write(self._path + ".value", self._encoding, (value, self._record.said))
            except _values.NotShareable as why:
                exchange.note("kept", f"{self._what}: {why}")
                exchange.say_nothing(self._path)


def _settings() -> bytes | None:
    """What results depend on besides the key; None if it cannot be told."""
    options = {k: v for k, v in pd.options.d.items() if k not in ("display", "plotting", "styler", "io")}
    environment = {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)}
    return _encode.encode(
        [
            sklearn.get_config(), skrub.get_config(), np.geterr(), options, list(warnings.filters),
            sorted(environment.items()), locale.setlocale(locale.LC_ALL),
        ]
    )  # fmt: skip


class Exchange:
    """This process's side of the exchange."""

    def __init__(self, folder: str, patched: Any) -> None:
        self.folder = folder
        self.patched = patched
        self._settings: bytes | None = None
        self._claims: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._own = threading.local()
        self.warned = Recorder()
        self._log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._closed: str | None = None if self.warned.works else "this interpreter's warnings cannot be recorded"

    def begin(self) -> bool:
        """Look at libraries and settings again; whether anything may be shared."""
        if self._closed is None:
            self._closed = self.patched.changed()
            if self._closed is not None:
                self.note("closed", self._closed)
        # (In one step: a run may be going on while another thread reads a file.)
        self._settings = _settings() if self._closed is None else None
        return self._settings is not None

    def computes(self) -> bool:
        """Whether this thread computes a value for everybody: what is read for it goes with it."""
        return getattr(self._own, "claims", 0) > 0

    def claimed(self, more: int) -> None:
        """A claim of this thread begins (1) or ends (-1)."""
        self._own.claims = getattr(self._own, "claims", 0) + more

    def wants_preview(self, estimator: Any, X: Any) -> bool:
        """Whether a fit at construction is to be looked for."""
        if not _is_large(X) or not is_quiet(estimator):
            return False
        # Who takes a fit draws nothing: the seeded generator of a script would go another way.
        draws = estimators.flags(estimator) & _core.EST_UNSEEDED
        return not (draws and estimators.global_generator_is_seeded())

    def note(self, what: str, text: str) -> None:
        os.write(self._log, f"{os.getpid()} {what} {text}\n".encode())

    def node(self, ref: Any, what: str, compute: Callable[[], Any]) -> Any:
        """The value of a node: another process's, or `compute()`."""
        return self.value(ref.encoding if ref.plain else None, what, compute)

    def value(self, key: bytes | None, what: str, compute: Callable[[], Any]) -> Any:
        """The value under a key that means the same in every process (None: there is none)."""
        found, claim = self.ask(key, what)
        if found is not MISSING:
            return found
        if claim is None:
            return compute()
        try:
            value = compute()
        except BaseException:
            claim.give_up()
            raise
        claim.give(value)
        return value

    def ask(self, key: bytes | None, what: str) -> tuple[Any, Claim | None]:
        """The value under a key, or `MISSING` and the duty to say what becomes of it (None: nobody wants to know)."""
        settings = self._settings
        if settings is None or key is None:
            return MISSING, None
        encoding = settings + key
        name = hashlib.blake2b(encoding, digest_size=16).hexdigest()
        with self._guard:
            mine = self._claims.setdefault(name, threading.Lock())
        with contextlib.ExitStack() as stack:
            stack.enter_context(mine)  # record locks do not keep threads of one process apart
            path = os.path.join(self.folder, name)
            found = self._look(path, encoding, what)
            if found is not MISSING or os.path.exists(path + ".none"):
                return found, None
            try:
                lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:  # the directory is gone, with the runner: everybody is alone now
                return MISSING, None
            stack.callback(os.close, lock)
            pause = 0.0005
            while True:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except (BlockingIOError, PermissionError):
                    # Short sleeps, so that an interrupt is heard.
                    time.sleep(pause)
                    pause = min(2 * pause, 0.01)
            found = self._look(path, encoding, what)
            if found is not MISSING or os.path.exists(path + ".none"):
                return found, None
            return MISSING, Claim(self, path, encoding, what, stack.pop_all())
        raise AssertionError("an exit stack swallows nothing here")

    def _look(self, path: str, encoding: bytes, what: str) -> Any:
        found = _read(path + ".value", encoding)
        if found is MISSING:
            return found
        value, said = found
        self.note("took", f"{what} {os.path.basename(path)}")
        self.warned.replay(said)
        return value

    def around(self, name: str, operator: Callable[..., Any]) -> Callable[..., Any]:
        """An operator that asks the exchange first, where its kind may be worth it."""
        content = _CONTENT.get(name)
        if content is not None:

            def by_content(x: Any, *args: Any) -> Any:
                return self.value(content(name, args), name, lambda: operator(x, *args))

            return by_content
        wants = _WANTS.get(name)
        if wants is None:
            return operator

        def shared(x: Any, *args: Any) -> Any:
            if not wants(args):
                return operator(x, *args)
            return self.node(x.ref, name, lambda: operator(x, *args))

        return shared

    def say_nothing(self, path: str) -> None:
        with contextlib.suppress(OSError):  # the directory is gone
            os.close(os.open(path + ".none", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


_current: Exchange | None = None


def current() -> Exchange | None:
    """The exchange of this process; None in a script that runs alone."""
    return _current


def _connect() -> None:
    global _current
    hook = sys.modules.get("_stratum_hook")
    folder = getattr(hook, "exchange", None)
    if folder is not None and os.path.isdir(folder):
        _current = Exchange(folder, hook.patched)  # type: ignore[union-attr]
        from . import reads

        reads.install()


def _after_fork() -> None:
    """A child has its parent's objects, and whatever the parent's threads were in the middle of."""
    global _current
    _current = None


os.register_at_fork(after_in_child=_after_fork)
_connect()


# -- Which nodes ------------------------------------------------------------------------------------


def is_quiet(estimator: Any, depth: int = 0) -> bool:
    """Whether an estimator is scikit-learn's or skrub's throughout, without functions of the user, and silent."""
    if depth > 20 or isinstance(estimator, type):
        return False
    if (type(estimator).__module__ or "").partition(".")[0] not in _ESTIMATORS:
        return False
    for name, value in estimator.get_params(deep=False).items():
        if name == "verbose" and value:
            return False
        if not _is_quiet_parameter(value, depth + 1):
            return False
    return True


def _is_quiet_parameter(value: Any, depth: int) -> bool:
    if depth > 20:
        return False
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_quiet_parameter(v, depth + 1) for v in value)
    if isinstance(value, dict):
        return all(_is_quiet_parameter(v, depth + 1) for v in value.values())
    if hasattr(value, "get_params"):
        return is_quiet(value, depth + 1)
    return not callable(value) or _values.is_library_code(value)


def holds_functions(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple)):
        return depth > 10 or any(holds_functions(v, depth + 1) for v in value)
    if isinstance(value, dict):
        return depth > 10 or any(holds_functions(v, depth + 1) for v in value.values())
    return callable(value) and not isinstance(value, type)


def _wants_fit(args: tuple) -> bool:
    return is_quiet(args[2])


def _wants_apply(args: tuple) -> bool:
    state = args[3]
    return hasattr(state.estimator, "get_params") and is_quiet(state.estimator)


def _wants_call(args: tuple) -> bool:
    from ..capture import purity

    func, token = args[1], args[-1]
    if token is not None and token[0] != "file":
        return False
    return purity.is_reader(func) and token is not None


def _wants_method(args: tuple) -> bool:
    obj, name, arguments, keywords, token = args[1:]
    if token is not None or name not in _METHODS or type(obj).__module__.partition(".")[0] not in _FRAMES:
        return False
    return not holds_functions(arguments) and not holds_functions(keywords)


_WANTS = {"fit": _wants_fit, "apply": _wants_apply, "call": _wants_call, "method": _wants_method}


def _content_of_fit(name: str, args: tuple) -> bytes | None:
    """Key of a fit of scikit-learn's search: its nodes hold data by identity, so the values themselves are asked."""
    estimator, X = args[1:3]
    if not _is_large(X) or not is_quiet(estimator):
        return None
    return _encode.encode((name, *args[1:-1]))  # without what the inner fits of one process share


def _content_of_transform(name: str, args: tuple) -> bytes | None:
    fitted, X = args[1:3]
    if not _is_large(X) or not hasattr(fitted, "get_params") or not is_quiet(fitted):
        return None
    return _encode.encode((name, fitted, X))


def _is_large(X: Any) -> bool:
    return math.prod(getattr(X, "shape", ())) >= WORTH_CELLS


_CONTENT = {
    "fit_step": _content_of_fit, "fit_model": _content_of_fit, "transform_step": _content_of_transform,
}  # fmt: skip
