"""Canonical encodings of Python objects, the structural keys of graph nodes.

What for: two nodes are the same node when their operator, parameters and
inputs are the same.  `encode` turns a parameter, a callable, an estimator or
a table into bytes such that *equal bytes mean that one object can stand for
the other as an input*.  Whatever cannot be encoded yields None, and the
engine then falls back to the identity of the object, which never merges two.

Who may call it: capture, the hosts and the cache.  The module needs nothing
but the standard library; handlers for NumPy, pandas, SciPy, Polars, PyArrow
and scikit-learn are added when the first object of theirs is met.

Why it is as it is:

- Never Python's ``hash``, ``id``, ``==`` or ``repr``: ``hash(-1) == hash(-2)``
  and ``True == 1 == 1.0`` have merged different pipelines before.  Dispatch
  is by the exact type; a subclass is not its base.
- Every encoding is ``tag (4 bytes) | length (8 bytes) | body``, hence
  self-delimiting.  Long bodies enter by a 128-bit digest, marked by the top
  bit of the length.
- Mutable objects and functions met twice in one encoding become
  back-references: cycles end, diamonds stay linear, and ``[a, a]`` differs
  from ``[a, copy(a)]``.  Immutable values do not, because the compiler merges
  equal constants as it likes.
- The address of an object serves only to recognise *that very object* within
  one call (or one memo, which holds it alive); it never enters the bytes.
- Items of a set are encoded each on its own and sorted by bytes, because the
  order of iteration depends on addresses and the hash seed.
- The memory layout of an array (order, strides, alignment, read-only) is not
  part of the key.  A NumPy reduction may round differently over another
  layout, as it may in the original library after any copy.
- The work per level is bounded by a depth limit, since a graph of 100,000
  nested lists must not exhaust the interpreter's stack.
"""

from __future__ import annotations

import builtins
import collections
import dataclasses
import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import logging
import opcode
import operator
import os
import pathlib
import random
import re
import stat
import struct
import sys
import sysconfig
import threading
import time
import types
import typing
import uuid
import weakref
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "digest",
    "encode",
    "is_library_module",
    "reason_not_encodable",
    "stamp_of_file",
]

try:
    from stratum._core import Front as _Front
    from stratum._core import hash128 as _hash128
except ImportError:  # the extension is not built: the module works without it
    _hash128 = None

#: Bodies of at most this many bytes stand in the encoding as they are.
INLINE_BYTES = 1024
#: The same for containers, whose items are already shortened one by one.
INLINE_CONTAINER_BYTES = 1 << 16
#: Containers nested deeper than this are not encoded.
MAX_DEPTH = 120
#: A file's stamp is remembered only when its times are older than this.
SETTLED_NS = 2_000_000_000

_DIGESTED = 1 << 63


class _NotEncodable(Exception):
    """Raised inside the module; its text says what could not be encoded."""


def digest(buffer: Any) -> bytes:
    """Digest a contiguous buffer to 16 bytes.

    Parameters
    ----------
    buffer : bytes-like
        Any C-contiguous object with the buffer protocol.

    Returns
    -------
    bytes
        128 bits: by the extension's ``hash128`` where it is built, else by
        BLAKE2b.  The two differ, so digests are comparable only between
        processes that run the same build.
    """
    if _hash128 is not None:
        value = _hash128(buffer)
        return value if isinstance(value, bytes) else value.to_bytes(16, "little")
    return hashlib.blake2b(buffer, digest_size=16).digest()


# ---------------------------------------------------------------------------
# Packing


def _pack(tag: bytes, body: bytes) -> bytes:
    size = len(body)
    if size > INLINE_CONTAINER_BYTES:
        return tag + (size | _DIGESTED).to_bytes(8, "little") + digest(body)
    return tag + size.to_bytes(8, "little") + body


def _pack_buffer(tag: bytes, buffer: Any) -> bytes:
    """Pack a leaf buffer without copying it when it is long."""
    size = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    if size > INLINE_BYTES:
        return tag + (size | _DIGESTED).to_bytes(8, "little") + digest(buffer)
    return tag + size.to_bytes(8, "little") + bytes(buffer)


def _text(value: str) -> bytes:
    """Bytes of a string; lone surrogates are kept apart from real characters."""
    return value.encode("utf-8", "surrogatepass")


def _enc_str(value: str) -> bytes:
    body = value.encode("utf-8", "surrogatepass")
    size = len(body)
    if size > INLINE_BYTES:
        return b"str " + (size | _DIGESTED).to_bytes(8, "little") + digest(body)
    return b"str " + size.to_bytes(8, "little") + body


def _enc_int(value: int) -> bytes:
    size = (value.bit_length() + 8) // 8
    if size > INLINE_BYTES:
        return _pack_buffer(b"int ", value.to_bytes(size, "little", signed=True))
    return b"int " + size.to_bytes(8, "little") + value.to_bytes(size, "little", signed=True)


_pack_double = struct.Struct("<d").pack
_LEN_8 = (8).to_bytes(8, "little")
_LEN_0 = (0).to_bytes(8, "little")


def _enc_float(value: float) -> bytes:
    return b"flt " + _LEN_8 + _pack_double(value)


def _enc_complex(value: complex) -> bytes:
    return _pack(b"cplx", _pack_double(value.real) + _pack_double(value.imag))


_NONE = b"none" + _LEN_0
_TRUE = b"true" + _LEN_0
_FALSE = b"fals" + _LEN_0

#: Types without inner objects: no context is needed to encode them.
_SCALARS: dict[type, Callable[[Any], bytes]] = {
    int: _enc_int,
    str: _enc_str,
    float: _enc_float,
    bool: lambda v: _TRUE if v else _FALSE,
    types.NoneType: lambda v: _NONE,
    bytes: lambda v: _pack_buffer(b"byts", v),
    complex: _enc_complex,
    types.EllipsisType: lambda v: b"elli" + _LEN_0,
    types.NotImplementedType: lambda v: b"noti" + _LEN_0,
    datetime.date: lambda v: _pack(b"date", struct.pack("<HBB", v.year, v.month, v.day)),
    datetime.timedelta: lambda v: _pack(
        b"tdel", struct.pack("<qqq", v.days, v.seconds, v.microseconds)
    ),
    uuid.UUID: lambda v: _pack(b"uuid", v.bytes),
    decimal.Decimal: lambda v: _enc_decimal(v),
    fractions.Fraction: lambda v: _pack(b"frac", _enc_int(v.numerator) + _enc_int(v.denominator)),
}


def _enc_decimal(value: decimal.Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    kind = _enc_str(exponent) if isinstance(exponent, str) else _enc_int(exponent)
    return _pack(b"decm", bytes([sign]) + _pack_buffer(b"digs", bytes(digits)) + kind)


# ---------------------------------------------------------------------------
# The context of one call


class _Context:
    """State of one `encode` call."""

    __slots__ = ("active", "depth", "immutables", "in_code", "memo", "references", "seen")

    def __init__(self, memo: dict | None, active: frozenset[int] = frozenset()):
        self.memo = memo
        self.in_code = False
        self.depth = 0
        # id -> (number, object): the object is held, so that its id stays its own
        self.seen: dict[int, tuple[int, Any]] = {}
        # id -> (bytes, object) of finished immutable containers
        self.immutables: dict[int, tuple[bytes, Any]] = {}
        self.references = 0
        # objects being encoded by an enclosing context (around items of a set)
        self.active = active

    def fork(self) -> _Context:
        """A context for an item that must not depend on what came before."""
        inner = _Context(self.memo, self.active | self.seen.keys())
        inner.depth = self.depth
        inner.in_code = self.in_code
        return inner

    def fork_for_code(self) -> _Context:
        """A context of a function's own, whose result can be remembered."""
        inner = _Context(self.memo, self.active)
        inner.depth = self.depth
        inner.in_code = True
        return inner


def _enc(ctx: _Context, obj: Any) -> bytes:
    """Encode any object; the one place that recurses."""
    cls = type(obj)
    if type(cls) is not type and not _hashes_by_identity(type(cls)):
        raise _NotEncodable("an object whose class has a hash of its own")
    scalar = _SCALARS.get(cls)
    if scalar is not None:
        return scalar(obj)
    handler = _HANDLERS.get(cls) or _find_handler(cls)
    if ctx.depth >= MAX_DEPTH:
        raise _NotEncodable("nested too deeply")
    ctx.depth += 1
    try:
        kind = handler.kind
        if kind == _PLAIN:
            return handler.function(ctx, obj)
        if kind == _IMMUTABLE:
            return _enc_immutable(ctx, obj, handler.function)
        if kind == _CODE:
            return _enc_code_object(ctx, obj, handler)
        return _enc_identified(ctx, obj, handler)
    finally:
        ctx.depth -= 1


def _hashes_by_identity(metaclass: type) -> bool:
    """Whether classes of a metaclass may be keys of the tables of handlers."""
    return metaclass.__hash__ is type.__hash__ and metaclass.__eq__ is type.__eq__


def _enc_immutable(ctx: _Context, obj: Any, function: Callable[[_Context, Any], bytes]) -> bytes:
    """Encode an immutable container.

    Its bytes do not depend on how often it is met.  One that holds mutable
    objects is counted among the seen ones when it is finished, as its bytes
    hold numbers of this context.
    """
    address = id(obj)
    done = ctx.immutables.get(address)
    if done is not None:
        return done[0]
    known = ctx.seen.get(address)
    if known is not None:
        ctx.references += 1
        return _pack(b"ref ", _enc_int(known[0]))
    if address in ctx.active:
        raise _NotEncodable("a set that holds itself")
    before = (len(ctx.seen), ctx.references)
    result = function(ctx, obj)
    if before == (len(ctx.seen), ctx.references):
        ctx.immutables[address] = (result, obj)
    else:
        ctx.seen[address] = (len(ctx.seen), obj)
    return result


def _enc_identified(ctx: _Context, obj: Any, handler: _Handler) -> bytes:
    """Encode an object whose identity shows, as it may change."""
    address = id(obj)
    known = ctx.seen.get(address)
    if known is not None:
        ctx.references += 1
        return _pack(b"ref ", _enc_int(known[0]))
    if address in ctx.active:
        raise _NotEncodable("a set that holds itself")
    ctx.seen[address] = (len(ctx.seen), obj)
    memo = ctx.memo if handler.remembered else None
    if memo is None:
        return handler.function(ctx, obj)
    entry = memo.get(address)
    if entry is not None:
        return entry[1]
    before = (len(ctx.seen), ctx.references)
    result = handler.function(ctx, obj)
    if before == (len(ctx.seen), ctx.references):
        memo[address] = (obj, result, ())
    return result


def _enc_code_object(ctx: _Context, obj: Any, handler: _Handler) -> bytes:
    """Encode a function or a class.

    What libraries offer is known by its name.  Of the user's code each
    function met from outside of code has a context of its own, with whatever
    it reaches: so its bytes do not depend on where it is met, and a memo can
    keep them (35 microseconds for a small function, 200 for a class).  What
    it reaches is then counted as seen outside too, and what had been seen is
    listed, so that shared mutable objects still show.
    """
    named = _name_of_code(obj)
    if named is not None:
        return named
    if ctx.in_code:
        return _enc_identified(ctx, obj, handler)
    address = id(obj)
    known = ctx.seen.get(address)
    if known is not None:
        ctx.references += 1
        return _pack(b"ref ", _enc_int(known[0]))
    memo = ctx.memo
    entry = memo.get(address) if memo is not None else None
    if entry is None:
        inner = ctx.fork_for_code()
        inner.seen[address] = (0, obj)
        result = handler.function(inner, obj)
        entry = (obj, result, tuple(o for _, o in inner.seen.values()))
        if memo is not None and not ctx.active:
            memo[address] = entry
    _, result, reached = entry
    shared = b""
    for position, one in enumerate(reached):
        known = ctx.seen.get(id(one))
        if known is None:
            ctx.seen[id(one)] = (len(ctx.seen), one)
        else:
            ctx.references += 1
            shared += _enc_int(position) + _enc_int(known[0])
    return _pack(b"shar", result + shared) if shared else result


_PLAIN, _IMMUTABLE, _IDENTIFIED, _CODE = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True, slots=True)
class _Handler:
    """How objects of one exact type are encoded."""

    function: Callable[[_Context, Any], bytes]
    kind: int = _PLAIN
    #: Whether a caller's memo may keep the result (large data).
    remembered: bool = False


_HANDLERS: dict[type, _Handler] = {}
_registered_libraries: set[str] = set()
_register_lock = threading.Lock()


#: Handlers of classes that are in no table; weak, as classes come and go.
_derived_handlers: weakref.WeakKeyDictionary[type, _Handler] = weakref.WeakKeyDictionary()


def _find_handler(cls: type) -> _Handler:
    """The handler of a class that was not found in the table at once."""
    handler = _derived_handlers.get(cls)
    if handler is not None:
        return handler
    root = cls.__module__.partition(".")[0] if isinstance(cls.__module__, str) else ""
    register = _LIBRARIES.get(root)
    if register is not None and root not in _registered_libraries:
        with _register_lock:
            if root not in _registered_libraries:
                register()
                _registered_libraries.add(root)
        handler = _HANDLERS.get(cls)
        if handler is not None:
            return handler
    handler = _derive_handler(cls)
    _derived_handlers[cls] = handler
    return handler


def encode(obj: Any, memo: dict | None = None) -> bytes | None:
    """Encode an object canonically.

    Parameters
    ----------
    obj : object
        What to encode.
    memo : dict, optional
        A dictionary that the caller keeps for as long as it vouches that no
        array, table or function encoded with it changes: these are encoded
        once, and held alive by the memo.  Lists, dictionaries, estimators and
        other small objects are encoded afresh each time.

    Returns
    -------
    bytes or None
        Equal bytes mean that either object can stand for the other as an
        input.  None when the object cannot be encoded.
    """
    cls = type(obj)
    if type(cls) is type and (scalar := _SCALARS.get(cls)) is not None:
        return scalar(obj)
    try:
        return _enc(_Context(memo), obj)
    except _NotEncodable:
        return None
    except RecursionError:
        # The caller's own stack was nearly full; identity is always sound.
        return None


def reason_not_encodable(obj: Any) -> str | None:
    """Say why `encode` returns None for an object; None when it does not."""
    try:
        _enc(_Context(None), obj)
    except _NotEncodable as error:
        return str(error)
    except RecursionError:
        return "nested too deeply"
    return None


def _many(ctx: _Context, items: Iterable[Any]) -> bytes:
    return b"".join([_enc(ctx, item) for item in items])


def _pairs(ctx: _Context, items: Iterable[tuple[Any, Any]]) -> bytes:
    return b"".join([_enc(ctx, key) + _enc(ctx, value) for key, value in items])


# ---------------------------------------------------------------------------
# Containers and small values of the standard library


def _enc_set(tag: bytes) -> Callable[[_Context, Any], bytes]:
    def function(ctx: _Context, obj: Any) -> bytes:
        parts = sorted(_enc(ctx.fork(), item) for item in obj)
        return _pack(tag, b"".join(parts))

    return function


def _enc_datetime(ctx: _Context, obj: datetime.datetime) -> bytes:
    fields = (obj.year, obj.month, obj.day, obj.hour, obj.minute, obj.second)
    body = struct.pack("<7IB", *fields, obj.microsecond, obj.fold)
    return _pack(b"dttm", body + _enc(ctx, obj.tzinfo))


def _enc_time(ctx: _Context, obj: datetime.time) -> bytes:
    fields = (obj.hour, obj.minute, obj.second, obj.microsecond)
    return _pack(b"time", struct.pack("<4IB", *fields, obj.fold) + _enc(ctx, obj.tzinfo))


def _enc_zoneinfo(ctx: _Context, obj: zoneinfo.ZoneInfo) -> bytes:
    if obj.key is None:
        raise _NotEncodable("a time zone without a name")
    return _pack(b"zone", _enc_str(obj.key))


def _enc_memoryview(ctx: _Context, obj: memoryview) -> bytes:
    try:
        content = obj.tobytes()
        head = _enc_str(obj.format) + _many(ctx, obj.shape or ())
    except (ValueError, NotImplementedError) as error:
        raise _NotEncodable("a memoryview that is released or indirect") from error
    return _pack(b"mviw", head + _pack_buffer(b"data", content))


def _enc_random(ctx: _Context, obj: random.Random) -> bytes:
    return _pack(b"rand", _enc(ctx, obj.getstate()))


def _enc_partial(ctx: _Context, obj: functools.partial) -> bytes:
    body = _enc(ctx, obj.func) + _enc(ctx, obj.args)
    body += _pack(b"kwds", _pairs(ctx, obj.keywords.items()))
    return _pack(b"part", body + _pack(b"attr", _pairs(ctx, vars(obj).items())))


def _enc_by_reduce(tag: bytes) -> Callable[[_Context, Any], bytes]:
    """For a few final C types whose ``__reduce__`` lists all of their state."""

    def function(ctx: _Context, obj: Any) -> bytes:
        return _pack(tag, _enc(ctx, obj.__reduce__()))

    return function


def _enc_lru_cache(ctx: _Context, obj: Any) -> bytes:
    parameters = obj.cache_parameters()
    return _pack(b"lruc", _enc(ctx, obj.__wrapped__) + _enc(ctx, parameters))


def _enc_generic_alias(ctx: _Context, obj: types.GenericAlias) -> bytes:
    return _pack(b"alia", _enc(ctx, obj.__origin__) + _enc(ctx, obj.__args__))


_register = _HANDLERS.__setitem__

_register(list, _Handler(lambda c, o: _pack(b"list", _many(c, o)), _IDENTIFIED))
_register(tuple, _Handler(lambda c, o: _pack(b"tupl", _many(c, o)), _IMMUTABLE))
_register(dict, _Handler(lambda c, o: _pack(b"dict", _pairs(c, o.items())), _IDENTIFIED))
_register(set, _Handler(_enc_set(b"set "), _IDENTIFIED))
_register(frozenset, _Handler(_enc_set(b"fset"), _IMMUTABLE))
_register(bytearray, _Handler(lambda c, o: _pack_buffer(b"barr", o), _IDENTIFIED))
_register(memoryview, _Handler(_enc_memoryview, _IDENTIFIED))
_register(slice, _Handler(lambda c, o: _pack(b"slic", _many(c, (o.start, o.stop, o.step)))))
_register(range, _Handler(lambda c, o: _pack(b"rang", _many(c, (o.start, o.stop, o.step)))))
_register(datetime.datetime, _Handler(_enc_datetime))
_register(datetime.time, _Handler(_enc_time))
_register(
    datetime.timezone,
    _Handler(lambda c, o: _pack(b"tzon", _enc(c, o.__getinitargs__()))),
)
_register(zoneinfo.ZoneInfo, _Handler(_enc_zoneinfo))
_register(re.Pattern, _Handler(lambda c, o: _pack(b"rexp", _many(c, (o.pattern, o.flags)))))
for _path_type in (
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    pathlib.WindowsPath,
):
    _register(
        _path_type,
        _Handler(lambda c, o: _pack(b"path", _enc_str(type(o).__name__) + _enc_str(os.fspath(o)))),
    )
_register(
    collections.OrderedDict,
    _Handler(lambda c, o: _pack(b"odic", _pairs(c, o.items())), _IDENTIFIED),
)
_register(
    collections.Counter,
    _Handler(lambda c, o: _pack(b"cntr", _pairs(c, o.items())), _IDENTIFIED),
)
_register(
    collections.defaultdict,
    _Handler(
        lambda c, o: _pack(b"ddic", _enc(c, o.default_factory) + _pairs(c, o.items())),
        _IDENTIFIED,
    ),
)
_register(
    collections.deque,
    _Handler(lambda c, o: _pack(b"dequ", _enc(c, o.maxlen) + _many(c, o)), _IDENTIFIED),
)
_register(
    types.MappingProxyType,
    _Handler(lambda c, o: _pack(b"mprx", _pairs(c, o.items())), _IDENTIFIED),
)
_register(
    types.SimpleNamespace,
    _Handler(lambda c, o: _pack(b"nspc", _pairs(c, vars(o).items())), _IDENTIFIED),
)
_register(random.Random, _Handler(_enc_random, _IDENTIFIED))
_register(functools.partial, _Handler(_enc_partial, _IDENTIFIED))
_register(type(functools.lru_cache(len)), _Handler(_enc_lru_cache, _IDENTIFIED))
_register(operator.itemgetter, _Handler(_enc_by_reduce(b"itmg")))
_register(operator.attrgetter, _Handler(_enc_by_reduce(b"attg")))
_register(operator.methodcaller, _Handler(_enc_by_reduce(b"metc")))
_register(types.GenericAlias, _Handler(_enc_generic_alias))
_register(types.UnionType, _Handler(lambda c, o: _pack(b"unio", _enc(c, o.__args__))))


# ---------------------------------------------------------------------------
# Libraries, modules, and what is known by its name


def _library_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    roots = {paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")}
    # virtual environments share the standard library of their base
    roots.add(os.path.dirname(os.__file__))
    return tuple(sorted(os.path.join(r, "") for x in roots for r in {x, os.path.realpath(x)}))


_LIBRARY_ROOTS = _library_roots()
_SITE_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_library_cache: dict[str, tuple[Any, bool]] = {}


def _is_library_file(filename: str) -> bool:
    if filename.startswith("<frozen "):
        return True
    return any(part in filename for part in _SITE_PARTS) or filename.startswith(_LIBRARY_ROOTS)


def is_library_module(name: Any) -> bool:
    """Whether a module belongs to the interpreter or an installed package.

    Parameters
    ----------
    name : str
        Name of an imported module.

    Returns
    -------
    bool
        True for built-in modules and those whose file lies in the standard
        library or a site-packages directory.  False for ``__main__``, for
        modules that lie elsewhere and for those that are not imported.
    """
    if not isinstance(name, str) or name == "__main__":
        return False
    if name.partition(".")[0] == __name__.partition(".")[0]:
        return True  # ourselves, wherever we lie
    module = sys.modules.get(name)
    if module is None:
        return False
    cached = _library_cache.get(name)
    if cached is not None and cached[0] is module:
        return cached[1]
    spec = getattr(module, "__spec__", None)
    filename = getattr(module, "__file__", None)
    if filename is not None:
        # frozen modules of the standard library also have a file
        result = _is_library_file(os.path.abspath(filename))
    elif getattr(spec, "origin", None) in ("built-in", "frozen"):
        result = True
    else:
        # Extensions make inner modules without a file: ask for the package's.
        parent = name.rpartition(".")[0]
        result = bool(parent) and is_library_module(parent)
    _library_cache[name] = (module, result)
    return result


@functools.cache
def _version_of(root: str) -> str:
    """Version of the installed package that a module belongs to."""
    version = getattr(sys.modules.get(root), "__version__", None)
    if isinstance(version, str) and root not in sys.stdlib_module_names:
        return version
    if root in sys.stdlib_module_names:
        return f"{sys.implementation.name} {sys.hexversion:x}"
    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _resolve(module_name: str, qualname: str) -> Any:
    """The object of that name in an imported module, or None.

    Only dictionaries are looked into, so that no user code runs.
    """
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        space = getattr(found, "__dict__", None)
        if space is None or part not in space:
            return None
        found = space[part]
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    return found


def _library_name(obj: Any) -> tuple[str, str] | None:
    """(module, qualified name) by which an installed library offers an object."""
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if not is_library_module(module) or _resolve(module, name) is not obj:
        return None
    return module, name


def _enc_named(tag: bytes, module: str, name: str) -> bytes:
    version = _version_of(module.partition(".")[0])
    return _pack(tag, _enc_str(module) + _enc_str(name) + _enc_str(version))


def _enc_module(ctx: _Context, obj: types.ModuleType) -> bytes:
    name = obj.__name__
    if sys.modules.get(name) is not obj:
        raise _NotEncodable(f"module {name!r}, which is not the imported one")
    if is_library_module(name):
        return _enc_named(b"modl", name, "")
    filename = getattr(obj, "__file__", None)
    stamp = stamp_of_file(filename) if isinstance(filename, str) else None
    if stamp is None:
        raise _NotEncodable(f"module {name!r}, which has no source file")
    return _pack(b"modu", _enc_str(name) + stamp)


_register(types.ModuleType, _Handler(_enc_module))


def _enc_logger(ctx: _Context, obj: logging.Logger) -> bytes:
    """Loggers are one of each name; many functions refer to theirs."""
    if logging.getLogger(obj.name) is not obj:
        raise _NotEncodable(f"logger {obj.name!r}, which is not the registered one")
    return _pack(b"logr", _enc_str(obj.name))


_register(logging.Logger, _Handler(_enc_logger))
_register(type(logging.getLogger()), _Handler(_enc_logger))


# ---------------------------------------------------------------------------
# Code and functions

_OP_LOAD_GLOBAL = opcode.opmap["LOAD_GLOBAL"]
_OP_EXTENDED_ARG = opcode.opmap["EXTENDED_ARG"]
#: Opcodes that read a global by name -> how far the argument is shifted.
_GLOBAL_READERS = {_OP_LOAD_GLOBAL: 1, opcode.opmap["LOAD_NAME"]: 0}
if "LOAD_FROM_DICT_OR_GLOBALS" in opcode.opmap:  # class bodies, since 3.12
    _GLOBAL_READERS[opcode.opmap["LOAD_FROM_DICT_OR_GLOBALS"]] = 0


_OP_IMPORT_NAME = opcode.opmap["IMPORT_NAME"]


def _own_imports(code: types.CodeType, package: str) -> list[str]:
    """Full names of the modules that a code object imports when it runs."""
    if _OP_IMPORT_NAME not in code.co_code[::2]:
        return []
    found: dict[str, None] = {}
    constants: list[Any] = [0, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
            constants = [constants[-1], instruction.argval]
        elif instruction.opcode == _OP_IMPORT_NAME:
            # the level and the names wanted are loaded just before
            level, name = constants[0], instruction.argval
            if level:
                name = importlib.util.resolve_name("." * level + name, package)
            found[name] = None
    return list(found)


def _own_global_names(code: types.CodeType) -> list[str]:
    """Names that a code object itself looks up in its globals."""
    return _names_used_by(code, _GLOBAL_READERS)


def _names_used_by(code: types.CodeType, readers: dict[int, int]) -> list[str]:
    """Names that are arguments of some opcodes, each once.

    The bytes are walked by hand: ``dis`` takes a thousand times longer.
    ``co_code`` is the code as compiled, without the interpreter's
    specialisations, with zeros for inline caches.
    """
    raw = code.co_code
    opcodes = raw[::2]
    found: dict[str, None] = {}
    for op, shift in readers.items():
        at = opcodes.find(op)
        while at >= 0:
            argument, unit, before = raw[2 * at + 1], 8, at - 1
            while before >= 0 and opcodes[before] == _OP_EXTENDED_ARG:
                argument |= raw[2 * before + 1] << unit
                unit += 8
                before -= 1
            found[code.co_names[argument >> shift]] = None
            at = opcodes.find(op, at + 1)
    return list(found)


def _nested_codes(code: types.CodeType) -> list[types.CodeType]:
    """A code object and those it makes functions and classes from."""
    found, todo = [], [code]
    while todo:
        current = todo.pop()
        found.append(current)
        todo.extend(c for c in current.co_consts if type(c) is types.CodeType)
    return found


#: Names by which code gets at the names of variables: its own, or (pandas' ``query`` and ``eval``) its caller's.
_LOOKS_AT_NAMES = frozenset(
    {"locals", "vars", "dir", "eval", "exec", "query", "_getframe", "currentframe", "stack", "f_locals", "globals"}
)


def _enc_code(ctx: _Context, code: types.CodeType) -> bytes:
    head = struct.pack(
        "<5I",
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_nlocals,
        code.co_flags,
    )
    body = [
        _enc_str(sys.implementation.cache_tag or sys.version),
        head,
        _enc_str(code.co_name),
        _pack_buffer(b"opcd", code.co_code),
        _pack_buffer(b"exct", code.co_exceptiontable),
    ]
    # The name of an argument can be given by keyword; that of another variable shows only to code that looks.
    arguments = code.co_argcount + code.co_kwonlyargcount
    arguments += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    looks = not _LOOKS_AT_NAMES.isdisjoint(code.co_names)
    variables = code.co_varnames if looks else code.co_varnames[:arguments]
    for names in (code.co_names, variables, code.co_cellvars, code.co_freevars):
        body.append(_pack(b"nams", b"".join([_enc_str(n) for n in names])))
    body.append(_pack(b"cons", _many(ctx, code.co_consts)))
    return _pack(b"code", b"".join(body))


_register(types.CodeType, _Handler(_enc_code, _IMMUTABLE))


def _enc_global(
    ctx: _Context, value: Any, names: tuple[str, ...], visited: frozenset[str]
) -> bytes:
    """Encode the value of a global.

    Of a user's module only those attributes count that the code may read:
    whatever else the module holds (open files, caches) is no input.
    """
    if type(value) is not types.ModuleType or is_library_module(value.__name__):
        return _enc(ctx, value)
    name = value.__name__
    if name in visited:
        return _pack(b"modr", _enc_str(name))
    space = vars(value)
    if "__getattr__" in space:
        raise _NotEncodable(f"module {name!r}, which computes its attributes")
    body = _enc_str(name)
    for attribute in names:
        if attribute in space:
            inner = _enc_global(ctx, space[attribute], names, visited | {name})
            body += _enc_str(attribute) + inner
    return _pack(b"modp", body)


def _enc_import(ctx: _Context, name: str, names: tuple[str, ...]) -> bytes:
    """Encode a module that code imports when it runs."""
    module = sys.modules.get(name)
    if type(module) is types.ModuleType and not is_library_module(name):
        return _enc_global(ctx, module, names, frozenset())
    root = name.partition(".")[0]
    if module is None and not _is_installed(root):
        raise _NotEncodable(f"an import of {name!r}, which is not imported yet")
    return _enc_named(b"impo", name, "")


@functools.cache
def _is_installed(root: str) -> bool:
    """Whether a top-level module is a library's (it is found, not imported)."""
    if root in sys.stdlib_module_names or is_library_module(root):
        return True
    spec = importlib.util.find_spec(root)
    origin = spec.origin if spec is not None else None
    return isinstance(origin, str) and _is_library_file(origin)


def _enc_globals(ctx: _Context, func: types.FunctionType) -> bytes:
    space = func.__globals__
    builtin_space = space.get("__builtins__", builtins)
    if isinstance(builtin_space, types.ModuleType):
        builtin_space = vars(builtin_space)
    parts = []
    done: set[str] = set()
    codes = _nested_codes(func.__code__)
    names = tuple(dict.fromkeys(n for code in codes for n in code.co_names))
    for code in codes:
        for name in _own_global_names(code):
            if name in done:
                continue
            done.add(name)
            if name in space:
                value = _enc_global(ctx, space[name], names, frozenset())
            elif name in builtin_space:
                value = _enc(ctx, builtin_space[name])
            else:
                value = b"miss" + _LEN_0
            parts.append(_enc_str(name) + value)
        package = space.get("__package__")
        try:
            imports = _own_imports(code, package if isinstance(package, str) else "")
        except ImportError as error:
            raise _NotEncodable("a relative import outside of a package") from error
        for name in imports:
            if f"import {name}" not in done:
                done.add(f"import {name}")
                parts.append(_enc_import(ctx, name, names))
    return _pack(b"glob", b"".join(parts))


def _enc_cell(ctx: _Context, cell: types.CellType) -> bytes:
    try:
        content = cell.cell_contents
    except ValueError:  # the variable is not bound (yet)
        return b"clle" + _LEN_0
    return _pack(b"cell", _enc(ctx, content))


# Cells are shared by the closures that write to them: identity shows.
_register(types.CellType, _Handler(_enc_cell, _IDENTIFIED))


def _enc_function(ctx: _Context, func: types.FunctionType) -> bytes:
    code = func.__code__
    try:
        # The name is an input too: pandas names aggregated columns after it.
        body = _enc_str(func.__name__) + _enc(ctx, code)
        body += _enc(ctx, func.__defaults__)
        keywords = func.__kwdefaults__
        body += _NONE if keywords is None else _pack(b"kwds", _pairs(ctx, keywords.items()))
        body += _pack(b"clos", _many(ctx, func.__closure__ or ()))
        body += _enc_globals(ctx, func)
        annotations = func.__annotations__
        if annotations:
            body += _pack(b"anno", _pairs(ctx, annotations.items()))
        if vars(func):
            body += _pack(b"attr", _pairs(ctx, vars(func).items()))
    except _NotEncodable as error:
        raise _NotEncodable(f"{error}, reached from function {func.__name__!r}") from None
    return _pack(b"func", body)


_register(types.FunctionType, _Handler(_enc_function, _CODE))


def _enc_bound_method(ctx: _Context, obj: types.MethodType) -> bytes:
    return _pack(b"meth", _enc(ctx, obj.__func__) + _enc(ctx, obj.__self__))


def _enc_builtin(ctx: _Context, obj: Any) -> bytes:
    owner = obj.__self__
    if owner is None or type(owner) is types.ModuleType:
        module = owner.__name__ if owner is not None else obj.__module__
        if not is_library_module(module):
            named = _library_name(obj)
            if named is None:
                raise _NotEncodable(f"compiled function {obj.__name__!r}")
            module = named[0]
        if _resolve(module, obj.__qualname__) is not obj:
            raise _NotEncodable(f"compiled function {obj.__name__!r}")
        return _enc_named(b"bltn", module, obj.__qualname__)
    return _pack(b"bmet", _enc_str(obj.__name__) + _enc(ctx, owner))


def _enc_descriptor(ctx: _Context, obj: Any) -> bytes:
    kind = _enc_str(type(obj).__name__)
    return _pack(b"desc", kind + _enc_str(obj.__name__) + _enc(ctx, obj.__objclass__))


def _enc_method_wrapper(ctx: _Context, obj: Any) -> bytes:
    return _pack(b"mwrp", _enc_str(obj.__name__) + _enc(ctx, obj.__self__))


_register(types.MethodType, _Handler(_enc_bound_method))
_register(types.BuiltinFunctionType, _Handler(_enc_builtin))
# (What we put before a function of a library's or in its place: it is that function.)
if _hash128 is not None:
    _register(_Front, _Handler(lambda c, o: _pack(b"frnt", _enc_str(o.__module__) + _enc_str(o.__qualname__))))
_register(types.MethodWrapperType, _Handler(_enc_method_wrapper))
for _descriptor_type in (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
):
    _register(_descriptor_type, _Handler(_enc_descriptor))
# Slots: the class is being encoded, only the name tells one from another.
_register(types.MemberDescriptorType, _Handler(lambda c, o: _pack(b"slot", _enc_str(o.__name__))))
_register(staticmethod, _Handler(lambda c, o: _pack(b"stat", _enc(c, o.__func__))))
_register(classmethod, _Handler(lambda c, o: _pack(b"clsm", _enc(c, o.__func__))))
_register(
    property,
    _Handler(lambda c, o: _pack(b"prop", _many(c, (o.fget, o.fset, o.fdel)))),
)
_register(
    functools.cached_property,
    _Handler(lambda c, o: _pack(b"cprp", _many(c, (o.func, o.attrname)))),
)


# ---------------------------------------------------------------------------
# Classes

#: Entries of a class's dictionary that say nothing about what it does.
_CLASS_NOISE = frozenset(
    {
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        # what a dataclass was asked for shows in the methods that it got
        "__dataclass_params__",
        "__abstractmethods__",
        "__dict__",
        "__firstlineno__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__slotnames__",  # copyreg's notes, made when an instance is first copied or pickled
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)


def _enc_class(ctx: _Context, cls: type) -> bytes:
    module, qualname = cls.__module__, cls.__qualname__
    if not cls.__flags__ & (1 << 9):
        # A compiled type that no library offers under its name, such as
        # NoneType or function: their names in the interpreter are unique.
        if module == "builtins":
            return _enc_named(b"clsb", module, qualname)
        raise _NotEncodable(f"compiled class {qualname!r}")
    if not isinstance(module, str):
        raise _NotEncodable(f"class {qualname!r} without a module")
    try:
        body = _enc_str(module) + _enc_str(qualname)
        body += _pack(b"meta", _enc(ctx, type(cls)))
        body += _pack(b"base", _many(ctx, cls.__bases__))
        if issubclass(cls, enum.Enum):
            body += _enc_enum_body(ctx, cls)
        else:
            items = [(k, v) for k, v in vars(cls).items() if k not in _CLASS_NOISE]
            body += _pack(b"body", _pairs(ctx, items))
    except _NotEncodable as error:
        raise _NotEncodable(f"{error}, reached from class {qualname!r}") from None
    return _pack(b"clsu", body)


def _enc_enum_body(ctx: _Context, cls: type) -> bytes:
    members = [(n, m.value) for n, m in cls.__members__.items()]
    kinds = (types.FunctionType, staticmethod, classmethod, property)
    methods = [(k, v) for k, v in vars(cls).items() if isinstance(v, kinds)]
    return _pack(b"memb", _pairs(ctx, members)) + _pack(b"body", _pairs(ctx, methods))


def _enc_enum(ctx: _Context, obj: enum.Enum) -> bytes:
    cls = _enc(ctx, type(obj))
    # A combination of flags has no name of its own.
    return _pack(b"enum", cls + _enc(ctx, obj._name_) + _enc(ctx, obj._value_))


def _enc_field(ctx: _Context, obj: dataclasses.Field) -> bytes:
    flags = (obj.init, obj.repr, obj.hash, obj.compare, obj.kw_only)
    head = _enc_str(obj.name) + _many(ctx, flags)
    head += _many(ctx, (obj.default, obj.default_factory))
    return _pack(b"fild", head + _pack(b"meta", _pairs(ctx, obj.metadata.items())))


def _name_of_code(obj: Any) -> bytes | None:
    """The encoding of a function or class that a library offers by name."""
    if type(obj) is types.FunctionType:
        if not _is_library_file(obj.__code__.co_filename):
            return None
        named = _library_name(obj)
        return None if named is None else _enc_named(b"fnlb", *named)
    module, qualname = obj.__module__, obj.__qualname__
    if is_library_module(module) and _resolve(module, qualname) is obj:
        return _enc_named(b"clsl", module, qualname)
    return None


_register(type, _Handler(_enc_class, _CODE))
_register(dataclasses.Field, _Handler(_enc_field))
_register(type(dataclasses.MISSING), _Handler(lambda c, o: b"dmis" + _LEN_0))
_register(type(collections.namedtuple("_Probe", "x").x), _Handler(_enc_by_reduce(b"ntge")))


# ---------------------------------------------------------------------------
# Objects whose type has no handler of its own


def _has_plain_layout(cls: type) -> bool:
    """Whether ``__dict__`` and slots are all the state that instances have.

    A class with a compiled base keeps state where Python cannot see it; such
    instances are larger than their dictionary, weak references and slots.
    """
    slots = 0
    for base in cls.__mro__[:-1]:
        if not base.__flags__ & (1 << 9):
            return False
        slots += sum(type(v) is types.MemberDescriptorType for v in vars(base).values())
    pointer = struct.calcsize("P")
    size = object.__basicsize__ + pointer * slots
    size += pointer * ((cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0))
    return cls.__itemsize__ == 0 and cls.__basicsize__ == size


#: Names of slots by class: walking the bases each time takes 10 microseconds.
_slots: weakref.WeakKeyDictionary[type, tuple[tuple[int, str], ...]] = weakref.WeakKeyDictionary()


def _slots_of(cls: type) -> tuple[tuple[int, str], ...]:
    """(place of the base in the MRO, name) of each slot of a class."""
    found = _slots.get(cls)
    if found is None:
        found = _slots[cls] = tuple(
            (place, name)
            for place, base in enumerate(cls.__mro__[:-1])
            for name, value in vars(base).items()
            if type(value) is types.MemberDescriptorType
        )
    return found


def _state_of(obj: Any) -> list[tuple[str, Any]]:
    """All attributes that an instance of plain layout holds."""
    items = list(getattr(obj, "__dict__", {}).items())
    cls = type(obj)
    for place, name in _slots_of(cls):
        descriptor = vars(cls.__mro__[place])[name]
        try:
            items.append((name, descriptor.__get__(obj)))
        except AttributeError:  # an empty slot
            continue
    return items


def _is_subclass_of(cls: type, module: str, name: str) -> bool:
    """``issubclass`` for a class of a library that need not be imported."""
    owner = sys.modules.get(module)
    base = getattr(owner, name, None) if owner is not None else None
    return any(c is base for c in cls.__mro__)


def _in_any_family(cls: type, prefixes: tuple[str, ...]) -> bool:
    """Whether a class or one of its bases comes from the packages named."""
    return any(
        isinstance(c.__module__, str) and (c.__module__ + ".").startswith(prefixes)
        for c in cls.__mro__[:-1]
    )


#: Objects of these modules' classes (and of their subclasses) are what their
#: ``__dict__`` says: scorers, splitters, metadata requests, selectors.
_BY_DICT_FAMILIES = ("sklearn.", "skrub.selectors.")
#: Subclasses of dict from these are their items and attributes.
_DICT_FAMILIES = ("sklearn.", "skrub.")


def _derive_handler(cls: type) -> _Handler:
    """Find out how objects of a class without a handler are encoded.

    Attributes are looked up on the class only: lazy graph nodes answer any
    attribute of an instance with a new node.
    """
    if any("__stratum_encode__" in vars(c) for c in cls.__mro__):
        return _Handler(_enc_hook, _IDENTIFIED)
    if issubclass(cls, type):
        return _Handler(_enc_class, _CODE)
    if issubclass(cls, enum.Enum):
        return _Handler(_enc_enum)
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return _Handler(_enc_named_tuple, _IMMUTABLE)
    plain = _has_plain_layout(cls)
    if plain and _is_subclass_of(cls, "sklearn.base", "BaseEstimator"):
        return _Handler(_enc_estimator, _IDENTIFIED)
    if issubclass(cls, dict) and _in_any_family(cls, _DICT_FAMILIES):
        return _Handler(_enc_library_dict, _IDENTIFIED)
    if cls is getattr(typing, "TypeAliasType", None):
        return _Handler(_enc_type_alias, _IDENTIFIED)
    if cls.__module__ == "typing":
        return _Handler(_enc_typing)
    if plain and (
        _in_any_family(cls, _BY_DICT_FAMILIES)
        or (issubclass(cls, collections.UserDict) and _in_any_family(cls, _DICT_FAMILIES))
        # skrub's choices are dataclasses, but two alike are still two choices
        or ("__dataclass_fields__" in vars(cls) and not _in_any_family(cls, ("skrub.",)))
    ):
        return _Handler(_enc_by_state, _IDENTIFIED)
    lazy = any("__getattr__" in vars(c) for c in cls.__mro__)
    if "__call__" in dir(cls) and not lazy:
        return _Handler(_enc_named_callable)
    return _Handler(_refuse)


def _refuse(ctx: _Context, obj: Any) -> bytes:
    cls = type(obj)
    raise _NotEncodable(f"an object of class {cls.__module__}.{cls.__qualname__}")


def _enc_named_callable(ctx: _Context, obj: Any) -> bytes:
    """Compiled functions and dispatchers, if a library offers them by name."""
    named = _library_name(obj)
    return _refuse(ctx, obj) if named is None else _enc_named(b"call", *named)


def _enc_named_tuple(ctx: _Context, obj: Any) -> bytes:
    cls = type(obj)
    if getattr(obj, "__dict__", None):
        raise _NotEncodable(f"a {cls.__qualname__} with attributes")
    return _pack(b"ntup", _enc(ctx, cls) + _many(ctx, tuple.__iter__(obj)))


def _enc_library_dict(ctx: _Context, obj: Any) -> bytes:
    body = _enc(ctx, type(obj)) + _pack(b"item", _pairs(ctx, dict.items(obj)))
    extra = list(getattr(obj, "__dict__", {}).items())
    return _pack(b"dsub", body + _pairs(ctx, extra))


def _enc_hook(ctx: _Context, obj: Any) -> bytes:
    cls = type(obj)
    value = cls.__stratum_encode__(obj)
    if value is None:
        raise _NotEncodable(f"an object of class {cls.__qualname__}, as it says itself")
    if not isinstance(value, bytes):
        raise TypeError(
            f"{cls.__qualname__}.__stratum_encode__ must return bytes or None, "
            f"got {type(value).__name__}"
        )
    return _pack(b"hook", _enc(ctx, cls) + _pack_buffer(b"data", value))


def _enc_by_state(ctx: _Context, obj: Any) -> bytes:
    # By name: attributes set in another order make no difference.
    items = sorted(_state_of(obj), key=lambda item: _text(str(item[0])))
    return _pack(b"objd", _enc(ctx, type(obj)) + _pairs(ctx, items))


#: Names of the parameters of estimators whose ``get_params`` is the usual one.
_parameter_names: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def _params_of(obj: Any) -> dict[str, Any]:
    """``get_params(deep=False)``; its inspection of signatures done once.

    That is half of the time for a small estimator (65 against 30
    microseconds); the usual one reads the attributes named after them.
    """
    cls = type(obj)
    names = _parameter_names.get(cls)
    if names is not None:
        return {name: getattr(obj, name) for name in names}
    params = obj.get_params(deep=False)
    base = sys.modules["sklearn.base"].BaseEstimator
    if cls.get_params is base.get_params:
        _parameter_names[cls] = tuple(sorted(params))
    return params


def _enc_estimator(ctx: _Context, obj: Any) -> bytes:
    cls = type(obj)
    try:
        params = _params_of(obj)
    except Exception as error:  # noqa: BLE001 - whatever the user's class raises
        # scikit-learn's clone will report it, at its place
        raise _NotEncodable(f"{cls.__qualname__}, whose get_params fails") from error
    head = _enc(ctx, cls)
    head += _pack(b"parm", _pairs(ctx, [(n, params[n]) for n in sorted(params)]))
    rest = [
        (name, value)
        for name, value in _state_of(obj)
        if not (name in params and value is params[name])
    ]
    rest.sort(key=lambda item: item[0])
    return _pack(b"esti", head + _pack(b"fitd", _pairs(ctx, rest)))


def _enc_typing(ctx: _Context, obj: Any) -> bytes:
    """Type hints: special forms by name, parametrised ones by their parts."""
    kind = _enc_str(type(obj).__qualname__)
    if isinstance(obj, typing.TypeVar):
        parts = (obj.__name__, *(_type_part(obj, n) for n in ("__bound__", "__constraints__")))
        return _pack(b"tvar", _many(ctx, parts) + _enc_type_default(ctx, obj))
    if isinstance(obj, typing.ForwardRef):
        return _pack(b"fref", _enc_str(obj.__forward_arg__))
    name = getattr(obj, "__name__", None) or getattr(obj, "_name", None)
    args = getattr(obj, "__args__", ())
    origin = typing.get_origin(obj) if args else None
    if not isinstance(name, str) and not args:
        raise _NotEncodable(f"a type hint of kind {type(obj).__qualname__}")
    body = kind + _enc(ctx, name) + _enc(ctx, origin) + _enc(ctx, args)
    return _pack(b"hint", body + _enc_type_default(ctx, obj))


def _type_part(obj: Any, name: str) -> Any:
    """A part of a type parameter or alias; since 3.12 code of the user's that runs when it is asked for."""
    try:
        return getattr(obj, name)
    except Exception as error:  # noqa: BLE001 - a name that is not there yet, or whatever it raises
        raise _NotEncodable(f"a type whose {name} cannot be had") from error


def _enc_type_default(ctx: _Context, obj: Any) -> bytes:
    """The default of a type parameter (since 3.13); nothing where it has none."""
    has_default = getattr(type(obj), "has_default", None)
    if has_default is None or not has_default(obj):
        return b""
    return _pack(b"tdef", _enc(ctx, _type_part(obj, "__default__")))


def _enc_type_alias(ctx: _Context, obj: Any) -> bytes:
    """What ``type X = ...`` makes (since 3.12); it may name itself."""
    parts = (obj.__name__, obj.__type_params__, _type_part(obj, "__value__"))
    return _pack(b"tals", _many(ctx, parts))


# ---------------------------------------------------------------------------
# NumPy


def _enc_numpy_dtype(ctx: _Context, dtype: Any) -> bytes:
    import numpy as np

    if dtype.metadata:
        raise _NotEncodable("a NumPy dtype with metadata")
    if dtype.names is not None:
        body = _enc_int(dtype.itemsize) + (_TRUE if dtype.isalignedstruct else _FALSE)
        for name in dtype.names:
            field = dtype.fields[name]
            title = field[2] if len(field) > 2 else None
            body += _enc_str(name) + _enc_int(field[1]) + _enc(ctx, title)
            body += _enc_numpy_dtype(ctx, field[0])
        # records yield another scalar type than plain structures
        body += _enc_str(dtype.type.__name__)
        return _pack(b"dtst", body)
    if dtype.subdtype is not None:
        inner, shape = dtype.subdtype
        return _pack(b"dtsu", _enc_numpy_dtype(ctx, inner) + _many(ctx, shape))
    if dtype.kind == "T":
        marker = getattr(dtype, "na_object", _MISSING)
        null = b"miss" + _LEN_0 if marker is _MISSING else _enc(ctx, marker)
        return _pack(b"dtvs", _enc(ctx, bool(dtype.coerce)) + null)
    if type(dtype).__module__ != "numpy.dtypes" and type(dtype) is not np.dtype:
        raise _NotEncodable(f"NumPy dtype of class {type(dtype).__qualname__}")
    return _pack(b"dtyp", _enc_str(dtype.str))


_MISSING = object()


def _contiguous(array: Any) -> memoryview:
    """The content of an array in C order as bytes, copied only if need be."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size == 0:
        return memoryview(b"")
    return memoryview(flat.view(np.uint8))


#: How elements of a column of strings with gaps are told apart.
_STRING_KINDS: dict[type, int] = {str: 0, types.NoneType: 1, float: 2}


def _enc_elements(ctx: _Context, items: list[Any]) -> bytes:
    """Encode many objects; strings with gaps in one pass over joined text.

    0.1 microseconds a string instead of 0.8: columns of text are the usual
    case.  The test depends on the items alone, so the form is canonical.
    """
    kinds = set(map(type, items))
    if not items or str not in kinds or not kinds <= _STRING_KINDS.keys():
        return _pack(b"elem", _many(ctx, items))
    marks, doubles = b"", b""
    strings = items
    if len(kinds) > 1:
        marks = bytes(map(_STRING_KINDS.__getitem__, map(type, items)))
        strings = [x for x in items if type(x) is str]
        doubles = b"".join([_pack_double(x) for x in items if type(x) is float])
    lengths = struct.pack(f"<{len(strings)}q", *map(len, strings))
    body = _enc_int(len(items)) + _pack_buffer(b"mark", marks)
    body += _pack_buffer(b"lens", lengths) + _pack_buffer(b"dbls", doubles)
    return _pack(b"strs", body + _pack_buffer(b"text", _text("".join(strings))))


def _enc_content(ctx: _Context, array: Any) -> bytes:
    """The elements of an array whose dtype and shape are already encoded."""
    dtype = array.dtype
    if dtype.names is not None:
        # by field: the bytes between fields are whatever was in memory
        return _pack(b"flds", b"".join([_enc_content(ctx, array[n]) for n in dtype.names]))
    if dtype.hasobject or dtype.kind == "T":
        return _enc_elements(ctx, array.astype(object, copy=False).ravel().tolist())
    return _pack_buffer(b"data", _contiguous(array))


def _enc_ndarray(ctx: _Context, array: Any) -> bytes:
    head = _enc_numpy_dtype(ctx, array.dtype) + _pack(b"shap", _many(ctx, array.shape))
    return _pack(b"ndar", head + _enc_content(ctx, array))


def _enc_numpy_scalar(ctx: _Context, obj: Any) -> bytes:
    import numpy as np

    return _pack(b"npsc", _enc_ndarray(ctx, np.asarray(obj)))


def _enc_random_state(ctx: _Context, obj: Any) -> bytes:
    return _pack(b"rsta", _enc_str(type(obj).__name__) + _enc_state(ctx, obj))


def _enc_state(ctx: _Context, obj: Any) -> bytes:
    state = obj.get_state(legacy=False) if hasattr(obj, "get_state") else obj.state
    return _enc_immutable_tree(ctx, state)


def _enc_immutable_tree(ctx: _Context, value: Any) -> bytes:
    """Encode a fresh nested dictionary of plain values."""
    if type(value) is dict:
        return _pack(
            b"tree",
            b"".join([_enc(ctx, k) + _enc_immutable_tree(ctx, v) for k, v in value.items()]),
        )
    return _enc(ctx, value)


def _enc_bit_generator(ctx: _Context, obj: Any) -> bytes:
    # spawned children depend on the seed sequence as well
    sequence = obj.seed_seq
    body = _enc_immutable_tree(ctx, obj.state)
    state = getattr(sequence, "state", None)
    if not isinstance(state, dict):
        raise _NotEncodable("a bit generator with a seed sequence of its own kind")
    return _pack(b"bitg", _enc_str(type(obj).__name__) + body + _enc_immutable_tree(ctx, state))


def _enc_ufunc(ctx: _Context, obj: Any) -> bytes:
    named = _library_name(obj)
    if named is not None:
        return _enc_named(b"ufnc", *named)
    for module in ("numpy", "scipy.special"):
        space = vars(sys.modules[module]) if module in sys.modules else {}
        if space.get(obj.__name__) is obj:
            return _enc_named(b"ufnc", module, obj.__name__)
    raise _NotEncodable(f"ufunc {obj.__name__!r}, which no library offers")


def _register_numpy() -> None:
    import numpy as np

    _register(np.ndarray, _Handler(_enc_ndarray, _IDENTIFIED, remembered=True))
    _register(np.ufunc, _Handler(_enc_ufunc))
    for scalar in set(np.sctypeDict.values()) | {np.datetime64, np.timedelta64}:
        if scalar is not np.object_:
            _register(scalar, _Handler(_enc_numpy_scalar))
    for dtype_class in {type(np.dtype(c)) for c in np.typecodes["All"]}:
        _register(dtype_class, _Handler(_enc_numpy_dtype))
    if hasattr(np.dtypes, "StringDType"):
        _register(np.dtypes.StringDType, _Handler(_enc_numpy_dtype))
    _register(np.random.RandomState, _Handler(_enc_random_state, _IDENTIFIED))
    for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        _register(getattr(np.random, name), _Handler(_enc_bit_generator, _IDENTIFIED))
    _register(
        np.random.Generator,
        _Handler(lambda c, o: _pack(b"ngen", _enc(c, o.bit_generator)), _IDENTIFIED),
    )
    _register(
        np.random.SeedSequence,
        _Handler(lambda c, o: _pack(b"sseq", _enc_immutable_tree(c, o.state)), _IDENTIFIED),
    )


# ---------------------------------------------------------------------------
# SciPy


_SPARSE_PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "coords"),
    "dia": ("data", "offsets"),
}


def _enc_sparse(ctx: _Context, obj: Any) -> bytes:
    parts = _SPARSE_PARTS[obj.format]
    body = _enc_str(type(obj).__name__) + _pack(b"shap", _many(ctx, obj.shape))
    for part in parts:
        value = getattr(obj, part)
        arrays = value if isinstance(value, tuple) else (value,)
        body += b"".join([_enc_ndarray(ctx, a) for a in arrays])
    return _pack(b"spar", body)


def _register_scipy() -> None:
    sparse = sys.modules.get("scipy.sparse")
    if sparse is None:
        return
    for name in _SPARSE_PARTS:
        for kind in ("array", "matrix"):
            cls = getattr(sparse, f"{name}_{kind}", None)
            if cls is not None:
                _register(cls, _Handler(_enc_sparse, _IDENTIFIED, remembered=True))


# ---------------------------------------------------------------------------
# PyArrow


def _enc_arrow_type(ctx: _Context, arrow_type: Any) -> bytes:
    import pyarrow as pa

    schema = pa.schema([pa.field("", arrow_type)])
    return _pack(b"arty", schema.serialize().to_pybytes())


def _arrow_validity(array: Any) -> Any:
    """A boolean NumPy array, true where a value is; None without gaps."""
    if array.null_count == 0:
        return None
    return array.is_valid().to_numpy(zero_copy_only=False)


def _enc_arrow_chunks(ctx: _Context, chunks: list[Any], arrow_type: Any) -> bytes:
    """Encode chunks as one array: neither chunks, offsets nor gaps' bytes show."""
    import numpy as np
    import pyarrow as pa

    t = pa.types
    if isinstance(arrow_type, pa.BaseExtensionType):
        storage = [c.storage for c in chunks]
        return _enc_arrow_chunks(ctx, storage, arrow_type.storage_type)
    if t.is_dictionary(arrow_type):
        whole = pa.chunked_array(chunks, type=arrow_type).unify_dictionaries()
        values = [c.dictionary for c in whole.chunks[:1]]
        body = _enc_arrow_chunks(ctx, values, arrow_type.value_type)
        indices = [c.indices for c in whole.chunks]
        return _pack(b"ardi", body + _enc_arrow_chunks(ctx, indices, arrow_type.index_type))
    if t.is_string_view(arrow_type) or t.is_binary_view(arrow_type):
        wide = pa.large_string() if t.is_string_view(arrow_type) else pa.large_binary()
        chunks, arrow_type = [c.cast(wide) for c in chunks], wide
    size = sum(map(len, chunks))
    masks = [_arrow_validity(c) for c in chunks]
    if all(m is None for m in masks):
        valid = b""
    else:
        full = [
            np.ones(len(c), bool) if m is None else m for c, m in zip(chunks, masks, strict=True)
        ]
        valid = np.packbits(np.concatenate(full)).tobytes()
    body = _enc_int(size) + _pack_buffer(b"vald", valid)
    if t.is_null(arrow_type):
        return _pack(b"arnu", body)
    if t.is_struct(arrow_type):
        columns = [c.flatten() for c in chunks]
        for i in range(arrow_type.num_fields):
            field = arrow_type.field(i)
            body += _enc_arrow_chunks(ctx, [c[i] for c in columns], field.type)
        return _pack(b"arst", body)
    if t.is_list(arrow_type) or t.is_large_list(arrow_type):
        lengths = [c.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for c in chunks]
        body += _pack_buffer(b"lens", _joined(lengths, np.int64))
        inner = [c.flatten() for c in chunks]
        return _pack(b"arli", body + _enc_arrow_chunks(ctx, inner, arrow_type.value_type))
    if t.is_fixed_size_list(arrow_type):
        chunks = [c if m is None else c.drop_null() for c, m in zip(chunks, masks, strict=True)]
        inner = [c.flatten() for c in chunks]
        return _pack(b"arfl", body + _enc_arrow_chunks(ctx, inner, arrow_type.value_type))
    if (
        t.is_string(arrow_type)
        or t.is_large_string(arrow_type)
        or t.is_binary(arrow_type)
        or t.is_large_binary(arrow_type)
    ):
        wide = t.is_large_string(arrow_type) or t.is_large_binary(arrow_type)
        return _pack(b"arte", body + _enc_arrow_text(chunks, masks, wide))
    if t.is_boolean(arrow_type):
        bits = [c.fill_null(False).to_numpy(zero_copy_only=False) for c in chunks]
        return _pack(b"arbo", body + _pack_buffer(b"data", _joined(bits, np.bool_)))
    if (
        not t.is_primitive(arrow_type)
        and not t.is_decimal(arrow_type)
        and not (t.is_fixed_size_binary(arrow_type))
    ):
        raise _NotEncodable(f"an Arrow column of type {arrow_type}")
    width = arrow_type.byte_width
    parts = []
    for chunk, mask in zip(chunks, masks, strict=True):
        buffer = chunk.buffers()[1]
        if buffer is None or len(chunk) == 0:
            continue
        raw = np.frombuffer(buffer, np.uint8, len(chunk) * width, chunk.offset * width)
        if mask is not None:
            raw = raw.reshape(len(chunk), width).copy()
            raw[~mask] = 0
            raw = raw.reshape(-1)
        parts.append(raw)
    return _pack(b"arpr", body + _pack_buffer(b"data", _joined(parts, np.uint8)))


def _joined(parts: list[Any], dtype: Any) -> memoryview:
    import numpy as np

    arrays = [np.asarray(p, dtype=dtype) for p in parts]
    if not arrays:
        return memoryview(b"")
    return _contiguous(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def _enc_arrow_text(chunks: list[Any], masks: list[Any], wide: bool) -> bytes:
    import numpy as np

    lengths, texts = [], []
    for chunk, mask in zip(chunks, masks, strict=True):
        if len(chunk) == 0:
            continue
        _, offset_buffer, data = chunk.buffers()
        offset_type = np.int64 if wide else np.int32
        offsets = np.frombuffer(
            offset_buffer, offset_type, len(chunk) + 1, chunk.offset * offset_type().itemsize
        )
        sizes = np.diff(offsets).astype(np.int64, copy=False)
        if mask is not None and sizes[~mask].any():
            # bytes lie under a gap: take only those of the values
            present = chunk.drop_null()
            full = np.zeros(len(chunk), np.int64)
            full[mask] = sizes[mask]
            sizes = full
            if len(present) == 0:
                lengths.append(sizes)
                continue
            _, offset_buffer, data = present.buffers()
            offsets = np.frombuffer(
                offset_buffer,
                offset_type,
                len(present) + 1,
                present.offset * offset_type().itemsize,
            )
        lengths.append(sizes)
        first, last = int(offsets[0]), int(offsets[-1])
        if last > first:
            texts.append(np.frombuffer(data, np.uint8, last - first, first))
    body = _pack_buffer(b"lens", _joined(lengths, np.int64))
    return body + _pack_buffer(b"text", _joined(texts, np.uint8))


def _enc_arrow_column(ctx: _Context, column: Any) -> bytes:
    chunks = column.chunks if hasattr(column, "chunks") else [column]
    return _enc_arrow_type(ctx, column.type) + _enc_arrow_chunks(ctx, chunks, column.type)


def _enc_arrow_table(ctx: _Context, table: Any) -> bytes:
    import pyarrow as pa

    tag = b"artb" if type(table) is pa.Table else b"arrb"
    body = _pack_buffer(b"schm", table.schema.serialize().to_pybytes())
    body += _enc_int(table.num_rows)
    for column in table.columns:
        chunks = column.chunks if hasattr(column, "chunks") else [column]
        body += _enc_arrow_chunks(ctx, chunks, column.type)
    return _pack(tag, body)


def _register_pyarrow() -> None:
    import pyarrow as pa

    for cls in (pa.Table, pa.RecordBatch):
        _register(cls, _Handler(_enc_arrow_table, _IDENTIFIED, remembered=True))
    column = _Handler(
        lambda c, o: _pack(b"arch", _enc_arrow_column(c, o)), _IDENTIFIED, remembered=True
    )
    _register(pa.ChunkedArray, column)
    array = _Handler(
        lambda c, o: _pack(b"arar", _enc_arrow_column(c, o)), _IDENTIFIED, remembered=True
    )
    for name in dir(pa):
        cls = getattr(pa, name)
        if isinstance(cls, type) and issubclass(cls, pa.Array):
            _register(cls, array)
    for name in dir(pa.lib):
        cls = getattr(pa.lib, name)
        if isinstance(cls, type) and issubclass(cls, pa.DataType):
            _register(cls, _Handler(_enc_arrow_type))
    _register(pa.Schema, _Handler(lambda c, o: _pack(b"arsc", o.serialize().to_pybytes())))


# ---------------------------------------------------------------------------
# pandas


def _enc_pandas_dtype(ctx: _Context, dtype: Any) -> bytes:
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return _enc_numpy_dtype(ctx, dtype)
    cls = type(dtype)
    name = _enc_str(cls.__name__)
    if cls is pd.StringDtype:
        body = _enc_str(dtype.storage) + _enc(ctx, dtype.na_value)
    elif cls is pd.CategoricalDtype:
        categories = dtype.categories
        body = _enc(ctx, dtype.ordered)
        body += _NONE if categories is None else _enc_index(ctx, categories)
    elif cls is pd.DatetimeTZDtype:
        body = _enc_str(dtype.unit) + _enc_timezone(ctx, dtype.tz)
    elif cls is pd.PeriodDtype:
        body = _enc(ctx, dtype.freq)
    elif cls is pd.IntervalDtype:
        sub = dtype.subtype
        body = _NONE if sub is None else _enc_pandas_dtype(ctx, sub)
        body += _enc(ctx, dtype.closed)
    elif cls is pd.SparseDtype:
        body = _enc_numpy_dtype(ctx, dtype.subtype) + _enc(ctx, dtype.fill_value)
    elif cls is pd.ArrowDtype:
        body = _enc_arrow_type(ctx, dtype.pyarrow_dtype)
    elif hasattr(dtype, "numpy_dtype") and cls in _HANDLERS:
        body = _enc_numpy_dtype(ctx, dtype.numpy_dtype)
    else:
        raise _NotEncodable(f"a pandas column of dtype {dtype}")
    return _pack(b"pddt", name + body)


def _enc_timezone(ctx: _Context, zone: Any) -> bytes:
    """Time zones, those of pytz by their name."""
    if type(zone).__module__.partition(".")[0] == "pytz":
        name = getattr(zone, "zone", None)
        if isinstance(name, str):
            return _pack(b"pytz", _enc_str(name))
    return _enc(ctx, zone)


def _enc_pandas_array(ctx: _Context, array: Any) -> bytes:
    """One column: dtype, then values."""
    import numpy as np
    import pandas as pd

    if isinstance(array, np.ndarray):
        return _enc_ndarray(ctx, array)
    dtype = array.dtype
    cls = type(array)
    if cls is pd.arrays.NumpyExtensionArray:
        return _enc_ndarray(ctx, array.to_numpy())
    if isinstance(dtype, np.dtype):  # dates without a zone, and durations
        return _enc_ndarray(ctx, array.to_numpy(dtype))
    head = _enc_pandas_dtype(ctx, dtype)
    if cls is pd.Categorical:
        body = _enc_ndarray(ctx, np.asarray(array.codes))
    elif hasattr(array, "__arrow_array__") and _is_arrow_backed(dtype):
        whole = array.__arrow_array__()
        chunks = whole.chunks if hasattr(whole, "chunks") else [whole]
        body = _enc_arrow_chunks(ctx, chunks, whole.type)
        if type(dtype) is pd.StringDtype:
            # string and large_string make no difference to a pandas column
            body = _pack(b"text", body)
    elif type(dtype) is pd.StringDtype:
        body = _enc_elements(ctx, np.asarray(array, dtype=object).tolist())
    elif type(dtype) is pd.DatetimeTZDtype:
        body = _enc_ndarray(ctx, array.to_numpy(f"M8[{dtype.unit}]"))
    elif type(dtype) is pd.PeriodDtype:
        body = _enc_ndarray(ctx, array.asi8)
    elif type(dtype) is pd.IntervalDtype:
        body = _enc_index(ctx, array.left) + _enc_index(ctx, array.right)
    elif type(dtype) is pd.SparseDtype:
        # points and values; positions are implied by the index of the array
        index = array.sp_index.to_int_index()
        body = _enc_ndarray(ctx, np.asarray(index.indices)) + _enc_int(len(array))
        body += _enc_ndarray(ctx, array.sp_values)
    else:
        mask = np.asarray(array.isna())
        values = array.to_numpy(dtype.numpy_dtype, na_value=dtype.type(0))
        body = _enc_ndarray(ctx, mask) + _enc_ndarray(ctx, values)
    return _pack(b"pdar", head + body)


def _is_arrow_backed(dtype: Any) -> bool:
    import pandas as pd

    if type(dtype) is pd.ArrowDtype:
        return True
    return type(dtype) is pd.StringDtype and dtype.storage == "pyarrow"


def _enc_index(ctx: _Context, index: Any) -> bytes:
    import pandas as pd

    cls = type(index)
    names = _pack(b"nams", _many(ctx, index.names))
    if cls is pd.RangeIndex:
        body = _many(ctx, (index.start, index.stop, index.step))
        return _pack(b"pdri", names + body)
    if cls is pd.MultiIndex:
        body = b""
        for level, codes in zip(index.levels, index.codes, strict=True):
            body += _enc_index(ctx, level) + _enc_pandas_array(ctx, codes)
        return _pack(b"pdmi", names + body)
    if cls not in _HANDLERS:
        raise _NotEncodable(f"an index of class {cls.__qualname__}")
    body = _enc_str(cls.__name__) + _enc_pandas_array(ctx, index.array)
    freq = getattr(index, "freq", None)
    return _pack(b"pdix", names + body + _enc(ctx, freq))


def _enc_attrs(ctx: _Context, obj: Any) -> bytes:
    duplicates = obj.flags.allows_duplicate_labels
    return _pack(b"attr", _enc(ctx, duplicates) + _pairs(ctx, obj.attrs.items()))


def _enc_series(ctx: _Context, series: Any) -> bytes:
    body = _enc(ctx, series.name) + _enc_attrs(ctx, series)
    body += _enc_index(ctx, series.index) + _enc_pandas_array(ctx, series.array)
    return _pack(b"pdse", body)


#: Frames of at least so many columns of one numeric dtype enter as one matrix.
_WIDE = 32


def _enc_frame(ctx: _Context, frame: Any) -> bytes:
    import numpy as np

    body = _enc_attrs(ctx, frame) + _enc_index(ctx, frame.columns)
    body += _enc_index(ctx, frame.index)
    if frame.shape[1] >= _WIDE:
        dtypes = {d.str if isinstance(d, np.dtype) else "" for d in frame.dtypes}
        if len(dtypes) == 1 and dtypes.pop()[1:2] in ("f", "i", "u", "b", "c"):
            # pandas keeps such columns as rows of one block: no copy
            return _pack(b"pdwd", body + _enc_ndarray(ctx, frame.to_numpy().T))
    for position in range(frame.shape[1]):
        body += _enc_pandas_array(ctx, frame.iloc[:, position].array)
    return _pack(b"pddf", body)


def _enc_timestamp(ctx: _Context, obj: Any) -> bytes:
    body = _enc_numpy_scalar(ctx, obj.asm8) + _enc_timezone(ctx, obj.tzinfo)
    return _pack(b"pdts", body + bytes([obj.fold]))


def _enc_offset(ctx: _Context, obj: Any) -> bytes:
    body = _enc(ctx, type(obj)) + _enc(ctx, obj.n) + _enc(ctx, obj.normalize)
    items = sorted(obj.kwds.items(), key=lambda item: item[0])
    return _pack(b"pdof", body + _enc_str(obj.freqstr) + _pairs(ctx, items))


def _register_pandas() -> None:
    import pandas as pd

    # NA stands beside None and NaN among gaps of object columns
    _STRING_KINDS.setdefault(type(pd.NA), 3)
    _STRING_KINDS.setdefault(type(pd.NaT), 4)
    _SCALARS[type(pd.NA)] = lambda v: b"pdna" + _LEN_0
    _SCALARS[type(pd.NaT)] = lambda v: b"pdnt" + _LEN_0
    _register(pd.DataFrame, _Handler(_enc_frame, _IDENTIFIED, remembered=True))
    _register(pd.Series, _Handler(_enc_series, _IDENTIFIED, remembered=True))
    for cls in (
        pd.Index,
        pd.RangeIndex,
        pd.MultiIndex,
        pd.DatetimeIndex,
        pd.TimedeltaIndex,
        pd.PeriodIndex,
        pd.CategoricalIndex,
        pd.IntervalIndex,
    ):
        # an Index is immutable, but for its names: treated as mutable
        _register(cls, _Handler(_enc_index, _IDENTIFIED, remembered=True))
    _register(pd.Timestamp, _Handler(_enc_timestamp))
    _register(
        pd.Timedelta,
        _Handler(lambda c, o: _pack(b"pdtd", _enc_numpy_scalar(c, o.asm8))),
    )
    _register(
        pd.Period,
        _Handler(lambda c, o: _pack(b"pdpe", _enc_int(o.ordinal) + _enc(c, o.freq))),
    )
    _register(
        pd.Interval,
        _Handler(lambda c, o: _pack(b"pdiv", _many(c, (o.left, o.right, o.closed)))),
    )
    for cls in vars(pd.offsets).values():
        if isinstance(cls, type) and issubclass(cls, pd.offsets.BaseOffset):
            _register(cls, _Handler(_enc_offset))
    numeric = [f"{p}Int{b}Dtype" for p in ("", "U") for b in (8, 16, 32, 64)]
    for name in (
        *numeric,
        "Float32Dtype",
        "Float64Dtype",
        "BooleanDtype",
        "StringDtype",
        "CategoricalDtype",
        "DatetimeTZDtype",
        "PeriodDtype",
        "IntervalDtype",
        "SparseDtype",
        "ArrowDtype",
    ):
        _register(getattr(pd, name), _Handler(_enc_pandas_dtype))
    for name in dir(pd.arrays):
        cls = getattr(pd.arrays, name)
        if isinstance(cls, type):
            _register(cls, _Handler(_enc_pandas_array, _IDENTIFIED, remembered=True))
    _register(pd.Categorical, _Handler(_enc_pandas_array, _IDENTIFIED, remembered=True))


# ---------------------------------------------------------------------------
# Polars


def _enc_polars_dtype(ctx: _Context, dtype: Any) -> bytes:
    import polars as pl

    if isinstance(dtype, type):
        return _pack(b"pldc", _enc_str(dtype.__name__))
    cls = type(dtype)
    body = _enc_str(cls.__name__)
    if cls is pl.Datetime:
        body += _enc(ctx, dtype.time_unit) + _enc(ctx, dtype.time_zone)
    elif cls is pl.Duration:
        body += _enc(ctx, dtype.time_unit)
    elif cls is pl.Decimal:
        body += _enc(ctx, dtype.precision) + _enc(ctx, dtype.scale)
    elif cls is pl.List:
        body += _enc_polars_dtype(ctx, dtype.inner)
    elif cls is pl.Array:
        body += _enc(ctx, tuple(dtype.shape)) + _enc_polars_dtype(ctx, dtype.inner)
    elif cls is pl.Struct:
        for field in dtype.fields:
            body += _enc_str(field.name) + _enc_polars_dtype(ctx, field.dtype)
    elif cls is pl.Enum:
        body += _enc(ctx, tuple(dtype.categories.to_list()))
    elif cls is pl.Categorical:
        categories = getattr(dtype, "categories", None)
        if categories is not None:
            body += _many(ctx, (categories.name(), categories.namespace()))
    elif cls in (pl.Object, pl.Unknown) or vars(dtype):
        raise _NotEncodable(f"a Polars column of dtype {dtype}")
    return _pack(b"pldt", body)


def _enc_polars_series(ctx: _Context, series: Any) -> bytes:
    body = _enc_str(series.name) + _enc_polars_dtype(ctx, series.dtype)
    try:
        array = series.to_arrow()
    except ImportError as error:
        raise _NotEncodable("a Polars column, without PyArrow") from error
    return _pack(b"plse", body + _enc_arrow_chunks(ctx, [array], array.type))


def _enc_polars_frame(ctx: _Context, frame: Any) -> bytes:
    columns = [_enc_polars_series(ctx, s) for s in frame.get_columns()]
    return _pack(b"pldf", _enc_int(frame.height) + b"".join(columns))


#: An expression whose serialised form holds one of these calls Python or a
#: plugin, or draws: its meaning is not in its bytes.
_OPAQUE_EXPRESSIONS = (b"PLPYFN", b"Anonymous", b"Plugin", b"Random", b"Opaque")


def _enc_polars_expr(ctx: _Context, expr: Any) -> bytes:
    import polars as pl

    try:
        content = expr.meta.serialize()
    except Exception as error:  # noqa: BLE001 - which one depends on the expression
        # Polars cannot write it down (a function that pickle refuses, ...)
        raise _NotEncodable("a Polars expression that is not serialisable") from error
    if any(part in content for part in _OPAQUE_EXPRESSIONS):
        raise _NotEncodable("a Polars expression that calls Python or draws")
    return _pack(b"plex", _enc_str(pl.__version__) + _pack_buffer(b"expr", content))


def _register_polars() -> None:
    import polars as pl

    _register(pl.Expr, _Handler(_enc_polars_expr))
    _register(pl.DataFrame, _Handler(_enc_polars_frame, _IDENTIFIED, remembered=True))
    _register(pl.Series, _Handler(_enc_polars_series, _IDENTIFIED, remembered=True))
    metaclass = type(pl.Int64)
    _register(metaclass, _Handler(_enc_polars_dtype))
    for name in dir(pl):
        cls = getattr(pl, name)
        if isinstance(cls, metaclass):
            _register(cls, _Handler(_enc_polars_dtype))


_LIBRARIES: dict[str, Callable[[], None]] = {
    "numpy": _register_numpy,
    "pandas": _register_pandas,
    "scipy": _register_scipy,
    "pyarrow": _register_pyarrow,
    "polars": _register_polars,
}


# ---------------------------------------------------------------------------
# Files

_stamps: dict[tuple, bytes] = {}
_stamps_lock = threading.Lock()
_MAX_STAMPS = 4096


def _file_key(path: str, info: os.stat_result) -> tuple:
    return (
        path,
        info.st_dev,
        info.st_ino,
        info.st_size,
        info.st_mtime_ns,
        info.st_ctime_ns,
    )


def stamp_of_file(path: str | os.PathLike) -> bytes | None:
    """Stamp the content of a file.

    Parameters
    ----------
    path : str or path-like
        A file's path, relative ones from the current directory.

    Returns
    -------
    bytes or None
        Size and digest of the content; None when no regular file is there, it
        cannot be read, or it changes while it is read.  A stamp is remembered
        by path, device, inode, size and both times in nanoseconds, unless a
        time is so young that another write may leave it as it is.
    """
    name = os.path.abspath(os.fspath(path))
    try:
        with open(name, "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                return None
            key = _file_key(name, before)
            known = _stamps.get(key)
            if known is not None:
                return known
            now = time.time_ns()
            content = _digest_of_file(file)
            after = os.fstat(file.fileno())
    except (OSError, ValueError):
        # Absent, forbidden, a directory, an impossible name: no content to
        # vouch for.  The reader that needs the file reports it.
        return None
    if _file_key(name, after) != key:
        return None
    stamp = _pack(b"file", _enc_int(before.st_size) + content)
    if now - max(before.st_mtime_ns, before.st_ctime_ns) >= SETTLED_NS:
        with _stamps_lock:
            if len(_stamps) >= _MAX_STAMPS:
                _stamps.clear()
            _stamps[key] = stamp
    return stamp


def _digest_of_file(file: Any) -> bytes:
    """Digest a file by pieces of 16 MiB, so that it need not fit in memory."""
    parts = []
    while piece := file.read(1 << 24):
        parts.append(digest(piece))
    return digest(b"".join(parts))
