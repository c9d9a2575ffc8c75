"""Values that may be kept: which, how large they are, and how they become bytes.

Who may call it
    `stratum.reuse.session` and `stratum.scripts.exchange`.

A value is kept if it is known to be shared safely (frames, arrays, scalars, fitted estimators of known libraries),
so that whoever gets it can be given a private copy where that matters. As bytes it is a pickle and the buffers of
its arrays beside it, which are read where they lie. What is defined outside of libraries is not written: another
process would have another thing under its name.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..capture import encode as _encode

#: A part of an array is written with all of it if that is so many times larger at most.
WORTH_PART = 512

_SCALARS = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)
_FRAMES = ("pandas.", "polars.", "pyarrow.")
_LIBRARIES = ("sklearn.", "skrub.", "scipy.", "lightgbm.", "xgboost.", "catboost.", "stratum.")
#: Their models are memory that Python does not see.
_OPAQUE = ("lightgbm.", "xgboost.", "catboost.")
_MODEL_BYTES = 1 << 20
#: What holds more objects than this is left alone: looking at them all takes too long.
_MOST_OBJECTS = 50_000


class NotShareable(Exception):
    """A value that stays in its process; the text says why."""


# -- What may be kept -------------------------------------------------------------------------------


def is_keepable(value: Any) -> bool:
    """Whether a value can be given to several readers, each with a private copy where it needs one."""
    seen: dict[int, Any] = {}
    todo = [value]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        kind = type(one)
        if kind in _PLAIN_TYPES or isinstance(one, _SCALARS):
            continue
        if len(seen) >= _MOST_OBJECTS:
            return False
        seen[id(one)] = one
        if kind in (tuple, list, set, frozenset):
            todo.extend(one)
        elif kind is dict:
            todo.extend(one.keys())
            todo.extend(one.values())
        elif not _is_known(one, kind):
            return False
        else:
            todo.extend(_held(one, kind))
    return True


def _is_known(value: Any, kind: type) -> bool:
    """Whether an object is of a kind that is known, leaving aside what it holds."""
    if kind is np.ndarray:
        return not value.dtype.hasobject or value.size < 1000 or _is_text(value)
    if isinstance(value, type):
        return _encode.is_library_module(value.__module__)
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
        return is_library_code(value)
    module = f"{kind.__module__}."
    if module.startswith(_FRAMES):
        return isinstance(value, _TABLES.get(module.partition(".")[0]) or _tables(module.partition(".")[0]))
    return module.startswith(_LIBRARIES)


#: Of the packages of frames, what holds values and nothing that is worked out when it is asked for: a group-by fills
#: caches, a lazy frame reads files.
_TABLES: dict[str, tuple[type, ...]] = {}


def _tables(package: str) -> tuple[type, ...]:
    module = sys.modules[package]
    if package == "pandas":
        names = ("DataFrame", "Series", "Index", "Timestamp", "Timedelta", "Period", "Interval", "DateOffset")
        more = (module.api.extensions.ExtensionArray, module.api.extensions.ExtensionDtype, type(module.NA), type(module.NaT))
    elif package == "polars":
        names, more = ("DataFrame", "Series"), (module.DataType,)
    else:
        names, more = ("Table", "Array", "ChunkedArray", "RecordBatch", "DataType", "Schema", "Scalar"), ()
    found = _TABLES[package] = (*(getattr(module, name) for name in names), *more)
    return found


_PLAIN_TYPES = frozenset({range, slice})


def _is_text(array: np.ndarray) -> bool:
    return all(isinstance(one, (str, float, type(None))) for one in array.ravel()[:: max(1, array.size // 100)])


def _held(value: Any, kind: type) -> Iterable[Any]:
    """What a fitted estimator, a state or an outcome holds, which may be the user's; nothing for data and code."""
    module = f"{kind.__module__}."
    if module.startswith(_OPAQUE):
        return value.get_params().values() if hasattr(value, "get_params") else ()
    if not module.startswith(_LIBRARIES) or module.startswith("scipy.sparse.") or isinstance(value, _CODE):
        return ()
    return attributes(value).values()


def attributes(value: Any) -> dict[str, Any]:
    """What an object holds by name, in slots too."""
    found = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


_CODE = (type, types.FunctionType, types.BuiltinFunctionType)


def size_of(value: Any) -> int:
    """Bytes of a value, its buffers above all; a guess for what does not tell."""
    seen: dict[int, Any] = {}
    todo, total = [value], 0
    while todo:
        one = todo.pop()
        if id(one) in seen or len(seen) >= _MOST_OBJECTS:
            continue
        seen[id(one)] = one
        kind = type(one)
        if kind in (tuple, list, set, frozenset):
            todo.extend(one)
        elif kind is dict:
            todo.extend(one.keys())
            todo.extend(one.values())
        else:
            todo.extend(_held(one, kind))
        total += _own_size(one, kind)
    return total


def _own_size(value: Any, kind: type) -> int:
    """Bytes of an object without what it holds."""
    if kind is np.ndarray:
        return int(value.nbytes) + 100
    module = f"{kind.__module__}."
    if module.startswith("pandas."):
        usage = getattr(value, "memory_usage", None)
        found = usage() if callable(usage) and not isinstance(value, type) else 0
        return int(found if np.isscalar(found) else found.sum()) + 1000
    if module.startswith("polars."):
        return int(value.estimated_size()) + 1000 if hasattr(value, "estimated_size") else 1000
    if module.startswith("pyarrow."):
        return int(getattr(value, "nbytes", 1000))
    if module.startswith("scipy.sparse."):
        parts = (getattr(value, name, None) for name in ("data", "indices", "indptr", "row", "col", "offsets"))
        return 1000 + sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    if module.startswith(_OPAQUE) and not hasattr(value, "get_params"):
        return _MODEL_BYTES
    return sys.getsizeof(value, 100) if isinstance(value, (str, bytes)) else 100


# -- Values as bytes --------------------------------------------------------------------------------


def is_library_code(obj: Any) -> bool:
    """Whether a function or class is this package's, an installed library's or the interpreter's."""
    module = getattr(obj, "__module__", None)
    if isinstance(module, str) and (module == "stratum" or module.startswith("stratum.")):
        return True
    return _encode.is_library_module(module)


def _strided(whole: np.ndarray, dtype: np.dtype, shape: tuple, offset: int, strides: tuple) -> np.ndarray:
    """A part of an array, in the layout that it had."""
    return np.ndarray(shape, dtype, whole if whole.flags.c_contiguous else whole.T, offset, strides)


def _with_gaps(array: np.ndarray) -> Any:
    """How to pickle an array with gaps: with all of the array that it is a part of, as sums depend on the layout.

    The columns of a frame are often parts of one matrix, which is written once.
    """
    whole = array.base
    if type(array) is not np.ndarray or type(whole) is not np.ndarray or whole.dtype.hasobject:
        raise NotShareable("an array with gaps in foreign memory")
    if not (whole.flags.c_contiguous or whole.flags.f_contiguous) or whole.nbytes > WORTH_PART * array.nbytes:
        raise NotShareable("a small part of a large array")
    offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return _strided, (whole, array.dtype, array.shape, offset, array.strides)


class _Pickler(pickle.Pickler):
    """Refuses what would not be the same thing in another process."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
            module = getattr(obj, "__module__", None)
            if module is not None and not is_library_code(obj):
                raise NotShareable(f"{obj!r} is not a library's")
        elif isinstance(obj, np.ndarray):
            if not (obj.flags.c_contiguous or obj.flags.f_contiguous):
                return _with_gaps(obj)
        elif isinstance(obj, types.ModuleType):
            raise NotShareable("a module")
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            raise NotShareable(f"{module}.{name}")
        return super().find_class(module, name)


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """A value as a pickle and the buffers beside it.

    Raises
    ------
    NotShareable
        If it is not to leave the process, or refuses to be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    out = io.BytesIO()
    try:
        _Pickler(out, 5, buffer_callback=lambda b: bool(buffers.append(b))).dump(value)
        return out.getvalue(), [buffer.raw() for buffer in buffers]
    except NotShareable:
        raise
    except Exception as error:  # whatever an object's own way of pickling says
        raise NotShareable(f"{type(error).__name__}: {error}") from error


def load(body: Any, buffers: Sequence[Any]) -> Any:
    """The value of a pickle and its buffers, which it goes on reading."""
    return _Unpickler(io.BytesIO(body), buffers=buffers).load()
