"""Whether this process has changed a library: then it shares nothing of what libraries compute.

Who calls it
    The hook, with every module of the `LIBRARIES` that has been imported (only in scripts that run
    together); `exchange` asks `changed` before values are handed out or taken.

How
    When an import of a library ends, before code of the script can run again, the functions, classes and
    simple constants of its modules are noted, and the members of the classes, functions with their code and
    defaults. `changed` compares what is there now with what was noted, by identity. What stratum itself
    replaces is known by the file of its code. Everything else that is not as it was counts as a change, and
    so do modules that nobody noted: on any doubt a process shares nothing. What is inside mutable tables of a
    library (registries, caches) is not seen.

    It stands alone (the hook loads it by its path) and takes 10 to 20 ms for pandas, scikit-learn and skrub.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

LIBRARIES = frozenset(
    {"numpy", "scipy", "pandas", "polars", "pyarrow", "sklearn", "skrub", "lightgbm", "xgboost", "catboost", "joblib"}
)

_HOME = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_CONSTANTS = (int, float, complex, str, bytes, bool, tuple, frozenset)
_NOTED = (types.FunctionType, types.BuiltinFunctionType, type, *_CONSTANTS)
_WRAPPERS = (staticmethod, classmethod)
# Entries of a module or class that the import system, abc or type checking write to.
_OWN_BUSINESS = frozenset(
    {"__file__", "__cached__", "__name__", "__package__", "__doc__", "__abstractmethods__", "_abc_impl",
     "__annotations__", "__dict__", "__weakref__", "__slotnames__", "__warningregistry__"}
)  # fmt: skip
_IMMUTABLE_TYPE = 1 << 8

_modules: dict[str, tuple[types.ModuleType, dict[str, Any]]] = {}
_classes: dict[type, dict[str, Any]] = {}
_functions: list[tuple[types.FunctionType, types.CodeType, Any, Any]] = []
_seen: set[int] = set()
_pending: list[tuple[str, types.ModuleType]] = []
_running = 0


def begun() -> None:
    """An import of a library's module begins."""
    global _running
    _running += 1


def ended(name: str, module: types.ModuleType | None) -> None:
    """An import ends; with the outermost one, everything new is noted."""
    global _running
    _running -= 1
    if module is not None:
        _pending.append((name, module))
    if _running == 0:
        for one in _pending:
            _note(*one)
        _pending.clear()


def _note(name: str, module: types.ModuleType) -> None:
    if name.startswith("joblib.externals."):  # starts processes; notes what it finds out in its globals
        _modules[name] = (module, {})
        return
    space = {
        key: value for key, value in vars(module).items() if key not in _OWN_BUSINESS and isinstance(value, _NOTED)
    }
    _modules[name] = (module, space)
    for value in space.values():
        if isinstance(value, type):
            _note_class(value)
        elif type(value) is types.FunctionType:
            _note_function(value)


def _note_class(cls: type) -> None:
    if cls in _classes or cls.__flags__ & _IMMUTABLE_TYPE or not _is_ours_to_watch(cls):
        return
    space = {key: value for key, value in vars(cls).items() if key not in _OWN_BUSINESS}
    _classes[cls] = space
    for value in space.values():
        inner = value.__func__ if isinstance(value, _WRAPPERS) else value
        if isinstance(inner, property):
            for part in (inner.fget, inner.fset):
                if type(part) is types.FunctionType:
                    _note_function(part)
        elif type(inner) is types.FunctionType:
            _note_function(inner)


def _is_ours_to_watch(cls: type) -> bool:
    module = cls.__module__
    return isinstance(module, str) and module.partition(".")[0] in LIBRARIES


def _note_function(function: types.FunctionType) -> None:
    if id(function) not in _seen:
        _seen.add(id(function))
        _functions.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))


def _by_stratum(value: Any) -> bool:
    """Whether a function is one that stratum put in the place of a library's."""
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return code is not None and (
        code.co_filename.startswith(_HOME) or os.path.basename(code.co_filename) == "_stratum_hook.py"
    )


_gone = object()


def changed() -> str | None:
    """What has been changed in a library, in words; None if nothing has."""
    if _running or _pending:
        return "an import that is going on"
    for name, (module, space) in _modules.items():
        if sys.modules.get(name) is not module:
            if name in sys.modules:
                return f"module {name}, which is another one now"
            continue
        now = vars(module)
        for key, value in space.items():
            if now.get(key, _gone) is not value:
                other = now.get(key, _gone)
                if _by_stratum(other) or (other is _gone and "_stratum" in str(now.get("__getattr__"))):
                    continue
                if other is not _gone and isinstance(other, types.ModuleType):
                    continue  # a submodule of that name has been imported since
                if name == "sklearn.model_selection" and other is _gone:
                    continue  # the hook computes this one
                return f"{name}.{key}"
    for cls, space in _classes.items():
        now = vars(cls)
        for key, value in space.items():
            if now.get(key, _gone) is not value and not _by_stratum(now.get(key)):
                return f"{cls.__module__}.{cls.__qualname__}.{key}"
        if len(now) > len(space):
            for key in now.keys() - space.keys() - _OWN_BUSINESS:
                if not _harmless(cls, key, now[key]):
                    return f"{cls.__module__}.{cls.__qualname__}.{key}"
    for function, code, defaults, keywords in _functions:
        if (
            function.__code__ is not code or function.__defaults__ is not defaults
            or function.__kwdefaults__ is not keywords
        ):  # fmt: skip
            return f"{function.__module__}.{function.__qualname__}"
    for name in sys.modules.keys() - _modules.keys():
        if name.partition(".")[0] in LIBRARIES and not _is_alias(name):
            return f"module {name}, which was not seen as it was imported"
    return None


def _harmless(cls: type, key: str, value: Any) -> bool:
    """Whether a new member changes nothing that was there: its name is new and no hook of Python's."""
    if _by_stratum(value):
        return True
    return not key.startswith("__") and not any(key in vars(base) for base in cls.__mro__[1:])


def _is_alias(name: str) -> bool:
    """Whether a name in ``sys.modules`` stands for a module that was noted, or for one that a library makes."""
    module = sys.modules[name]
    known = _modules.get(getattr(module, "__name__", ""))
    if known is not None and known[0] is module:
        return True
    file = getattr(module, "__file__", None)
    return file is None or not file.endswith(".py")
