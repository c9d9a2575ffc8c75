"""Run one case by plain skrub and by stratum, and compare what came out.

What it is for
    A *case* is a module-level function of a test module that takes the module to use (`skrub` or
    `stratum`) and returns plain data.  `plain(case)` runs it in a process that has never seen stratum;
    `ours(case)` runs it here; `same(case)` does both and asserts that they agree.  The plain process is
    started once (importing scikit-learn takes longer than most cases) and imports test modules by name,
    so those must not import stratum at their top.

What is compared
    Values (types, dtypes, order of keys, floats within 1e-9: the libraries may run with other thread
    counts), exceptions (type, text, notes) and the warnings' categories and texts.  Times only by their
    presence and sign.
"""

from __future__ import annotations

import atexit
import importlib
import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
RTOL = 1e-9


@dataclass
class Said:
    """What a side said: a value or an error, and its warnings."""

    value: Any = None
    error: tuple[str, str, list[str]] | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)
    trace: str = ""
    notes: list[str] = field(default_factory=list)


def observe(case: Callable[..., Any], skrub: Any, *args: Any) -> Said:
    """Run a case and write down what it said."""
    said = Said()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            said.value = case(skrub, *args)
        except Exception as error:
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            said.error = (kind, str(error), list(getattr(error, "__notes__", [])))
            said.trace = traceback.format_exc()
    said.warnings = [(w.category.__name__, str(w.message)) for w in caught]
    return said


# -- The plain process ----------------------------------------------------------------------------

_server: subprocess.Popen | None = None


def _start() -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STRATUM")}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [sys.executable, "-P", str(HERE / "sides.py"), "serve"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=tempfile.gettempdir(),
    )  # fmt: skip
    atexit.register(process.kill)
    return process


def plain(case: Callable[..., Any], *args: Any) -> Said:
    """What a case says with plain skrub, in a process without stratum."""
    global _server
    if _server is None or _server.poll() is not None:
        _server = _start()
    assert _server.stdin is not None and _server.stdout is not None
    pickle.dump((case.__module__, case.__qualname__, args), _server.stdin)
    _server.stdin.flush()
    said = pickle.load(_server.stdout)
    assert isinstance(said, Said), said
    return said


def serve() -> None:
    """The plain process: cases in on stdin, what they said out on stdout."""
    source = sys.stdin.buffer
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what cases print goes to stderr
    sys.path.insert(0, str(HERE))
    sys.modules["sides"] = sys.modules["__main__"]
    Said.__module__ = "sides"
    import skrub

    while True:
        try:
            module, name, args = pickle.load(source)
        except EOFError:
            return
        case = getattr(importlib.import_module(module), name)
        said = observe(case, skrub, *args)
        assert not any(m == "stratum" or m.startswith("stratum.") for m in sys.modules), "stratum was imported"
        buffer = io.BytesIO()
        pickle.dump(said, buffer)
        out.write(buffer.getvalue())
        out.flush()


def ours(case: Callable[..., Any], *args: Any) -> Said:
    """What a case says with stratum, in this process."""
    import stratum

    return observe(case, stratum, *args)


# -- Comparison -----------------------------------------------------------------------------------


def is_time(name: Any) -> bool:
    """Whether a column or key holds seconds."""
    return isinstance(name, str) and ("_time" in name)


_RANDOM = re.compile(r"__skrub_[0-9a-f]{8}__")


def _name(value: Any) -> Any:
    """A name without what skrub makes duplicates different by, at random."""
    return _RANDOM.sub("__skrub_at_random__", value) if isinstance(value, str) else value


def difference(a: Any, b: Any, where: str = "value", rtol: float = RTOL) -> str | None:
    """The first place where two values differ, or None. Every type not known here compares by `==`."""
    if type(a) is not type(b):
        return f"{where}: {type(a)} {a!r} and {type(b)} {b!r}"
    if isinstance(a, dict):
        if [_name(key) for key in a] != [_name(key) for key in b]:
            return f"{where}: keys {list(a)} and {list(b)}"
        for (key, x), y in zip(a.items(), b.values()):
            found = _time(x, y, f"{where}[{key!r}]") if is_time(key) else difference(x, y, f"{where}[{key!r}]", rtol)
            if found:
                return found
        return None
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{where}: {len(a)} items {a!r} and {len(b)} {b!r}"
        found_in = (difference(x, y, f"{where}[{i}]", rtol) for i, (x, y) in enumerate(zip(a, b)))
        return next((f for f in found_in if f), None)
    if isinstance(a, pd.DataFrame):
        if [_name(n) for n in a.columns] != [_name(n) for n in b.columns]:
            return f"{where}: columns {list(a.columns)} and {list(b.columns)}"
        found = difference(a.index.to_numpy(), b.index.to_numpy(), f"{where}.index", rtol)
        for i, name in enumerate(a.columns):
            x, y = a.iloc[:, i], b.iloc[:, i]
            if found:
                return found
            found = _time(x.to_numpy(), y.to_numpy(), f"{where}[{name!r}]") if is_time(name) else difference(x, y, f"{where}[{name!r}]", rtol)
        return found
    if isinstance(a, pd.Series):
        if a.dtype != b.dtype:
            return f"{where}: dtypes {a.dtype} and {b.dtype}"
        if _name(a.name) != _name(b.name):
            return f"{where}: names {a.name!r} and {b.name!r}"
        return difference(a.to_numpy(), b.to_numpy(), where, rtol)
    if isinstance(a, np.ma.MaskedArray):
        if a.dtype != b.dtype or a.fill_value != b.fill_value and a.fill_value == a.fill_value:
            return f"{where}: {a.dtype} {a.fill_value!r} and {b.dtype} {b.fill_value!r}"
        found = difference(np.ma.getmaskarray(a), np.ma.getmaskarray(b), f"{where}.mask", rtol)
        return found or difference(a.tolist(), b.tolist(), where, rtol)
    if isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{where}: {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        if a.dtype.kind in "fc":
            return None if np.allclose(a, b, rtol=rtol, atol=1e-12, equal_nan=True) else f"{where}: {a} and {b}"
        if a.dtype.kind in "OU":
            return difference(a.tolist(), b.tolist(), where, rtol)
        return None if (a == b).all() else f"{where}: {a} and {b}"
    if isinstance(a, (float, np.floating)):
        equal = a == b or (a != a and b != b) or abs(a - b) <= max(rtol * abs(b), 1e-12)
        return None if equal else f"{where}: {a!r} and {b!r}"
    return None if _name(a) == _name(b) else f"{where}: {a!r} and {b!r}"


def _time(a: Any, b: Any, where: str) -> str | None:
    if np.shape(a) != np.shape(b):
        return f"{where}: shapes {np.shape(a)} and {np.shape(b)}"
    if np.asarray(a).dtype != np.asarray(b).dtype:
        return f"{where}: dtypes {np.asarray(a).dtype} and {np.asarray(b).dtype}"
    return None if (np.asarray(a, dtype=float) >= 0).all() else f"{where}: {a} is negative"


# Where the interpreter shows addresses, or a path or number of this process, or a time: not the same twice.
_NOISE = [(re.compile(r"0x[0-9a-f]+"), "0x"), (re.compile(r"pid=\d+"), "pid="), (re.compile(r"\d+\.\d+s\b"), "s")]


def _clean(text: str) -> str:
    for pattern, new in _NOISE:
        text = pattern.sub(new, text)
    return text


# A traceback shows through which code an error came: the engine's is not skrub's.
_TRACE = re.compile(r"(Traceback \(most recent call last\):\n)(?:  .*\n|\n)*")


def _message(text: str) -> str:
    text = _clean(text)
    return _TRACE.sub(r"\1", text)


def same(
    case: Callable[..., Any], *args: Any, error: str | None = None, check_warnings: bool = True, rtol: float = RTOL
) -> Said:
    """Run both sides and assert that they agree; returns what stratum said.

    `error` is the name of the exception that both must raise; without it both must have a value.
    """
    reference, got = plain(case, *args), ours(case, *args)
    if error is None:
        assert reference.error is None, reference.trace
    else:
        assert reference.error is not None and reference.error[0].rpartition(".")[2] == error, reference.error
    if (reference.error is None) != (got.error is None):
        raise AssertionError(f"skrub: {reference.error or reference.value!r}\nstratum: {got.error or got.value!r}\n{reference.trace}{got.trace}")
    if reference.error is not None and got.error is not None:
        a, b = reference.error, got.error
        assert (a[0], _message(a[1])) == (b[0], _message(b[1])), got.trace
        assert [_clean(n) for n in a[2]] == [_clean(n) for n in b[2]], got.trace
    found = difference(got.value, reference.value, rtol=rtol)
    assert found is None, f"stratum and skrub differ at {found}"
    if check_warnings:
        ones = sorted({(c, _message(t)) for c, t in reference.warnings})
        others = sorted({(c, _message(t)) for c, t in got.warnings})
        assert ones == others, f"warnings of skrub: {ones}\nof stratum: {others}"
    return got


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
