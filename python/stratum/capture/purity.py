"""Whether a user's function may be computed once for all who ask for it.

What for: work is shared between candidates, folds and searches only where a
second call would give the same result.  `classify` reads the bytecode of a
function, and of the user's functions that it refers to, and looks for clocks,
randomness, input and output, and writes to state that outlives the call.

Who may call it: capture and the hosts.  Standard library alone.

What the verdicts mean: *pure* - shared and kept; *impure* - computed wherever
plain evaluation would compute it; *unknown* - code that cannot be seen (a
compiled function of no known library): shared within a run, not kept.

Why bytecode and not source: functions made by ``exec``, in a notebook or by a
factory have no source at hand, and what the source calls ``time`` may be
something else.  Names are resolved to the objects that they stand for, so
that ``from time import time as t`` is found and a variable named ``time`` is
not.  A small stack machine follows values through the code (each instruction
once, in any order of branches), which is what tells ``.sample(3)`` from
``.sample(3, random_state=0)``.

A function that gets a pure verdict may still be impure by means that code
does not show, such as ``eval`` of a text or a library that caches; the mark
``_stratum_purity`` then settles it.
"""

from __future__ import annotations

import builtins
import dataclasses
import dis
import functools
import opcode
import os
import sys
import sysconfig
import types
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Verdict", "classify", "is_reader", "is_unseeded_method", "shown"]


class Verdict(NamedTuple):
    """What `classify` found.

    Attributes
    ----------
    kind : str
        ``"pure"``, ``"impure"`` or ``"unknown"``.
    reason : str
        Why, in words; empty for a pure function.
    """

    kind: str
    reason: str


_PURE = Verdict("pure", "")

# ---------------------------------------------------------------------------
# Tables

#: Modules all of whose functions are a clock, randomness, or input and output.
_IMPURE_MODULES = {
    "time": "clock",
    "random": "randomness",
    "secrets": "randomness",
    "numpy.random": "randomness",
    "requests": "input/output",
    "httpx": "input/output",
    "urllib.request": "input/output",
    "urllib3": "input/output",
    "http.client": "input/output",
    "socket": "input/output",
    "ssl": "input/output",
    "subprocess": "input/output",
    "shutil": "input/output",
    "tempfile": "input/output",
    "sqlite3": "input/output",
    "sqlalchemy": "input/output",
    "ftplib": "input/output",
    "smtplib": "input/output",
    "multiprocessing": "input/output",
    "glob": "input/output",
    "_socket": "input/output",
    "_posixsubprocess": "input/output",
    "_sqlite3": "input/output",
}

#: What in those modules is harmless.
_HARMLESS = frozenset(
    {
        "time.strftime",  # of a given time; without one it reads the clock, see below
        "time.strptime",
        "time.mktime",
        "time.struct_time",
        "time.asctime",
        "time.gmtime",
        "time.localtime",
        "numpy.random.Generator",
        "numpy.random.BitGenerator",
        "numpy.random.SeedSequence",
        "numpy.random.MT19937",
        "numpy.random.PCG64",
        "numpy.random.PCG64DXSM",
        "numpy.random.Philox",
        "numpy.random.SFC64",
        "numpy.random.RandomState",
        "numpy.random.default_rng",
        "random.Random",
        "glob.escape",
        "glob.translate",
    }
)

#: Called without a seed (no argument, or None) these draw one from the system.
_SEEDED_BY_ARGUMENT = frozenset(
    {
        "numpy.random.default_rng",
        "numpy.random.RandomState",
        "numpy.random.SeedSequence",
        "numpy.random.MT19937",
        "numpy.random.PCG64",
        "numpy.random.PCG64DXSM",
        "numpy.random.Philox",
        "numpy.random.SFC64",
        "random.Random",
    }
)

#: Called without their time argument these read the clock: name -> its position.
_CLOCK_WITHOUT_ARGUMENT = {
    "time.strftime": 1,
    "time.asctime": 0,
    "time.gmtime": 0,
    "time.localtime": 0,
}

#: Called with the text "now" or "today" these read the clock.
_PARSES_NOW = frozenset(
    {"pandas.to_datetime", "pandas.Timestamp", "numpy.datetime64", "pandas.DatetimeIndex"}
)

#: Functions that draw from the global generator unless ``random_state`` is given.
_DRAWS_UNLESS_SEEDED = frozenset(
    {
        "sklearn.train_test_split",
        "sklearn.shuffle",
        "sklearn.resample",
        "sklearn.permutation_importance",
    }
)

#: Single functions, by the module and name under which they are found.
_IMPURE_NAMES = {
    "datetime.datetime.now": "clock",
    "datetime.datetime.today": "clock",
    "datetime.datetime.utcnow": "clock",
    "datetime.date.today": "clock",
    "pandas.Timestamp.now": "clock",
    "pandas.Timestamp.today": "clock",
    "pandas.Timestamp.utcnow": "clock",
    "pandas.Period.now": "clock",
    "uuid.uuid1": "randomness",
    "uuid.uuid4": "randomness",
    "uuid.uuid6": "randomness",
    "uuid.uuid7": "randomness",
    "uuid.uuid8": "randomness",
    "uuid.getnode": "randomness",
    "os.urandom": "randomness",
    "os.getrandom": "randomness",
    "builtins.open": "input/output",
    "builtins.input": "input/output",
    "io.open": "input/output",
    "io.open_code": "input/output",
    "_io.open": "input/output",
    "io.FileIO": "input/output",
    "builtins.breakpoint": "input/output",
    "builtins.eval": "code made at run time",
    "builtins.exec": "code made at run time",
    "builtins.__import__": "code made at run time",
    "importlib.import_module": "code made at run time",
    "builtins.globals": "global writes",
    "builtins.id": "an address in memory",
    "os.environ": "input/output",
    "os.environb": "input/output",
    "os.getenv": "input/output",
    "os.putenv": "input/output",
    "sys.stdin": "input/output",
    "sys.argv": "input/output",
    "sys.setrecursionlimit": "global writes",
    "joblib.load": "input/output",
    "joblib.dump": "input/output",
    "numpy.load": "input/output",
    "numpy.save": "input/output",
    "numpy.savez": "input/output",
    "numpy.savetxt": "input/output",
    "numpy.loadtxt": "input/output",
    "numpy.genfromtxt": "input/output",
    "numpy.fromfile": "input/output",
    "numpy.memmap": "input/output",
    "pickle.load": "input/output",
    "_pickle.load": "input/output",
    "pickle.dump": "input/output",
    "_pickle.dump": "input/output",
    "json.load": "input/output",
    "json.dump": "input/output",
    "skrub.set_config": "global writes",
    "sklearn.set_config": "global writes",
    "pandas.set_option": "global writes",
    "numpy.seterr": "global writes",
    "warnings.simplefilter": "global writes",
    "warnings.filterwarnings": "global writes",
    "threading.current_thread": "the running thread",
    "threading.get_ident": "the running thread",
}

#: Of module os everything touches the system but its paths' text and these.
_OS_HARMLESS = frozenset(
    {
        "path",
        "sep",
        "altsep",
        "extsep",
        "linesep",
        "pathsep",
        "curdir",
        "pardir",
        "devnull",
        "name",
        "fspath",
        "fsdecode",
        "fsencode",
        "PathLike",
        "error",
        "cpu_count",
        "getpid",
    }
)
_OS_PATH_IMPURE = frozenset(
    {
        "abspath",
        "exists",
        "expanduser",
        "expandvars",
        "getatime",
        "getctime",
        "getmtime",
        "getsize",
        "isdir",
        "isfile",
        "islink",
        "ismount",
        "lexists",
        "realpath",
        "samefile",
    }
)

#: Methods that read or write wherever they are called: names no table has.
_IO_METHODS = frozenset(
    {
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "urlopen",
        "to_csv",
        "to_parquet",
        "to_pickle",
        "to_excel",
        "to_feather",
        "to_hdf",
        "to_sql",
        "write_csv",
        "write_parquet",
        "write_ipc",
        "sink_parquet",
        "sink_csv",
        "iterdir",
        "rglob",
        "unlink",
        "savefig",
    }
)
#: The same names when called on a file-like thing; without arguments a frame's
#: to_csv returns a text, which is why those are looked at with their arguments.
_TEXT_WITHOUT_ARGUMENT = frozenset({"to_csv", "to_parquet", "write_csv"})

#: Methods that change what they are called on.
_MUTATORS = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "insort",
        "pop",
        "popitem",
        "popleft",
        "put",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "update",
        "write",
        "writelines",
        "__setitem__",
        "__delitem__",
        "__setattr__",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
        "cache_clear",
        "set_params",
        "fit",
        "partial_fit",
        "fit_transform",
        "fit_predict",
        "seed",
        "shuffle",
    }
)

#: Compiled code of these is known: the tables above say all that is impure.
_KNOWN_LIBRARIES = frozenset(
    {"numpy", "pandas", "polars", "scipy", "sklearn", "skrub", "pyarrow"}
) | frozenset(sys.stdlib_module_names)

#: Methods that draw, and the keywords that seed them.
_RANDOM_METHODS = {
    "sample": ("random_state", "seed"),
    "shuffle": ("seed", "random_state"),
    "sample_n": ("seed", "random_state"),
    "rvs": ("random_state",),
}
#: Where the seed stands among the arguments without a name.
_SEED_POSITION = {"sample": 4, "shuffle": 0}

_READERS = frozenset(
    {
        "csv",
        "table",
        "fwf",
        "parquet",
        "json",
        "ndjson",
        "excel",
        "ods",
        "feather",
        "orc",
        "avro",
        "ipc",
        "ipc_stream",
        "delta",
        "stata",
        "sas",
        "spss",
        "hdf",
        "pickle",
        "xml",
        "html",
        "sql",
        "sql_query",
        "sql_table",
        "database",
        "clipboard",
        "iceberg",
        "lance",
        "dataset",
        "pandas",
        "schema",
    }
)


def is_reader(func: Any) -> bool:
    """Whether a function reads a table from outside (a file, a database).

    Parameters
    ----------
    func : object
        Any object; those that are no functions are no readers.

    Returns
    -------
    bool
        True for ``pandas.read_*``, ``polars.read_*`` and ``polars.scan_*``,
        and PyArrow's readers of tables.
    """
    if isinstance(func, functools.partial):
        return is_reader(func.func)
    if not isinstance(func, (types.FunctionType, types.BuiltinFunctionType)) and not (
        callable(func) and type(func).__name__ == "cython_function_or_method"
    ):
        return False
    module = getattr(func, "__module__", None) or ""
    name = getattr(func, "__name__", "")
    if module.partition(".")[0] not in ("pandas", "polars", "pyarrow"):
        return False
    verb, _, what = name.partition("_")
    if verb == "open" and module.startswith("pyarrow."):
        return what == "csv"
    return verb in ("read", "scan") and what in _READERS


def is_unseeded_method(name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call of a method draws anew each time.

    Parameters
    ----------
    name : str
        The method's name.
    args, kwargs : tuple, dict
        Its arguments, without the object itself.

    Returns
    -------
    bool
        True for ``sample`` and ``shuffle`` when neither ``random_state`` nor
        ``seed`` is given, or what is given is None.
    """
    keywords = _RANDOM_METHODS.get(name)
    if keywords is None:
        return False
    given = [kwargs[k] for k in keywords if k in kwargs]
    position = _SEED_POSITION.get(name)
    if position is not None and len(args) > position:
        given.append(args[position])
    return all(value is None for value in given)


# ---------------------------------------------------------------------------
# Symbols: what the stack machine knows of a value


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """An object found by name, and the dotted name under which it was found."""

    obj: Any
    path: str
    #: Whether it outlives the call: reached from a global or an outer function.
    outer: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class _Method:
    """A method not called yet; ``outer`` when its object outlives the call."""

    name: str
    outer: bool


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Const:
    value: Any


class _Marker:
    """One of the two slots under a call's arguments, or nothing known."""


_NULL = _Marker()
_ANY = _Marker()
#: A value that lives in an outer scope but is not known by name.
_OUTER = _Known(None, "?")


# ---------------------------------------------------------------------------
# Where code comes from

_LIBRARY_ROOTS = tuple(
    os.path.join(path, "")
    for root in (
        sysconfig.get_paths()["stdlib"],
        sysconfig.get_paths()["purelib"],
        sysconfig.get_paths()["platlib"],
        os.path.dirname(os.__file__),
    )
    for path in {root, os.path.realpath(root)}
)
_SITE_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def _is_library_code(code: types.CodeType) -> bool:
    name = code.co_filename
    if name.startswith(("<frozen ", "<__array_function__", "<decorator-gen")):
        return True
    return name.startswith(_LIBRARY_ROOTS) or any(p in name for p in _SITE_PARTS)


def _root_of(module: Any) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def _answers_anything(obj: Any) -> bool:
    """Whether asking an object for an attribute runs code of its class.

    Lazy graph nodes answer with a new node, and evaluate a preview of it.
    """
    return any(
        "__getattr__" in vars(c) or isinstance(vars(c).get("__getattribute__"), types.FunctionType)
        for c in type(obj).__mro__
    )


def _public_path(obj: Any, found_as: str) -> Iterator[str]:
    """Dotted names to look an object up by: as found, and as it calls itself."""
    yield found_as
    if _answers_anything(obj):
        return
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if isinstance(name, str):
        if isinstance(module, str):
            yield f"{module}.{name}"
            # pandas.core.tools.datetimes.to_datetime is found as pandas.to_datetime
            yield f"{_root_of(module)}.{name}"
            if module.startswith("numpy.random."):
                yield f"numpy.random.{name}"
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, type):
            yield f"{owner.__module__}.{owner.__qualname__}.{obj.__name__}"
            yield f"{_root_of(owner.__module__)}.{owner.__qualname__}.{obj.__name__}"
            for base in owner.__mro__[1:]:
                yield f"{base.__module__}.{base.__qualname__}.{obj.__name__}"
        elif owner is not None and not isinstance(owner, types.ModuleType):
            kind = type(owner)
            if kind.__module__ == "random":
                yield f"random.{obj.__name__}"
            if kind.__module__.startswith("numpy.random"):
                yield f"numpy.random.{obj.__name__}"


def _is_harmless(obj: Any, found_as: str) -> bool:
    return any(path in _HARMLESS for path in _public_path(obj, found_as))


def _impurity_of(obj: Any, found_as: str) -> str | None:
    """What makes an object of a library impure, looked up in the tables."""
    if isinstance(obj, types.ModuleType):
        return None
    if isinstance(obj, (bool, int, float, str, bytes, tuple, frozenset, type(None))):
        # time.altzone, socket.AF_INET: constants
        return None
    if _is_harmless(obj, found_as):
        return None
    paths = list(_public_path(obj, found_as))
    for path in paths:
        kind = _IMPURE_NAMES.get(path)
        if kind is not None:
            return f"{kind} ({path})"
        module, _, name = path.rpartition(".")
        if module in ("os", "posix", "nt") and name not in _OS_HARMLESS:
            return f"input/output ({path})"
        if module in ("os.path", "posixpath", "ntpath", "genericpath"):
            if name in _OS_PATH_IMPURE:
                return f"input/output ({path})"
            continue
        while module:
            kind = _IMPURE_MODULES.get(module)
            if kind is not None:
                if isinstance(obj, type) and issubclass(obj, BaseException):
                    return None
                return f"{kind} ({path})"
            module = module.rpartition(".")[0]
    if is_reader(obj):
        return f"input/output ({paths[-1]})"
    return None


# ---------------------------------------------------------------------------
# The stack machine

_BINARY = frozenset(
    {
        "BINARY_OP",
        "BINARY_SUBSCR",
        "COMPARE_OP",
        "IS_OP",
        "CONTAINS_OP",
        "CHECK_EXC_MATCH",
    }
)
_LOAD_LOCAL = frozenset({"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_FAST_BORROW"})
_TWO_LOCALS = frozenset({"LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW"})
_LOAD_OUTER = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_NO_FALL_THROUGH = frozenset(
    {
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
        "INTERPRETER_EXIT",
    }
)
_JUMPS = frozenset(opcode.hasjrel) | frozenset(opcode.hasjabs)


_Decoded = tuple[list[dis.Instruction], dict[int, int], list[tuple[int, int]]]
_decoded_codes: weakref.WeakKeyDictionary[types.CodeType, _Decoded] = weakref.WeakKeyDictionary()


def _decoded(code: types.CodeType) -> _Decoded:
    """Instructions, their places by offset, and (place, depth) of handlers.

    Remembered by code object: decoding takes nine tenths of a verdict's time,
    and a verdict itself cannot be remembered, as names may be bound anew.
    """
    found = _decoded_codes.get(code)
    if found is None:
        instructions = list(dis.get_instructions(code))
        at = {i.offset: n for n, i in enumerate(instructions)}
        handlers = [
            (at[e.target], e.depth + (1 if e.lasti else 0) + 1)
            for e in dis.Bytecode(code).exception_entries
        ]
        found = _decoded_codes[code] = (instructions, at, handlers)
    return found


class _Scan:
    """Runs over one code object and collects what it refers to and does."""

    def __init__(
        self,
        code: types.CodeType,
        space: dict[str, Any],
        cells: dict[str, Any],
        outer_names: frozenset[str],
        bound: bool = False,
    ):
        self.code = code
        self.space = space
        self.cells = cells
        #: variables of an enclosing function *outside* of what is classified
        self.outer_names = outer_names
        self.findings: list[str] = []
        #: id -> (object, whether it is a method of an object that stays)
        self.callees: dict[int, tuple[Any, bool]] = {}
        self.locals: dict[str, list[Any]] = {}
        if bound and code.co_argcount:
            # self is an object that stays when the call ends
            self.locals[code.co_varnames[0]] = [_OUTER]
        self.changed = False

    # -- resolving names

    def global_value(self, name: str) -> Any:
        if name in self.space:
            value = self.space[name]
            path = f"{self.space.get('__name__', '')}.{name}"
            if isinstance(value, types.ModuleType):
                path = value.__name__
            return self.meet(_Known(value, path))
        known = self.space.get("__builtins__", builtins)
        known = vars(known) if isinstance(known, types.ModuleType) else known
        if name in known:
            return self.meet(_Known(known[name], f"builtins.{name}", outer=False))
        return _ANY

    def attribute(self, owner: Any, name: str) -> Any:
        """The attribute of a known object, without running any code of it."""
        if not isinstance(owner, _Known):
            return _ANY
        obj = owner.obj
        path = f"{owner.path}.{name}"
        if isinstance(obj, types.ModuleType):
            if name in vars(obj):
                value = vars(obj)[name]
                if isinstance(value, types.ModuleType):
                    return _Known(value, value.__name__)
                return self.meet(_Known(value, path))
            value = sys.modules.get(f"{obj.__name__}.{name}")
            if value is not None:
                return _Known(value, value.__name__)
            self.look_up(None, path)
            return _Known(None, path)
        if isinstance(obj, type):
            for base in type.mro(obj):
                if name in vars(base):
                    value = vars(base)[name]
                    plain = getattr(value, "__func__", value)
                    self.look_up(None, f"{base.__module__}.{base.__qualname__}.{name}")
                    return self.meet(_Known(plain, path))
            self.look_up(None, f"{obj.__module__}.{obj.__qualname__}.{name}")
            return _Known(None, path)
        if obj is None and owner.path != "?":
            # a module that is not imported yet
            self.look_up(None, path)
            return _Known(None, path)
        return _Known(None, "?", outer=owner.outer)

    def meet(self, known: _Known) -> _Known:
        """Note an object that the code refers to."""
        obj = known.obj
        finding = _impurity_of(obj, known.path)
        if finding is not None:
            self.findings.append(finding)
        elif callable(obj) and not _is_harmless(obj, known.path):
            self.callees[id(obj)] = (obj, False)
        return known

    def look_up(self, obj: Any, path: str) -> None:
        if path in _HARMLESS:
            return
        if obj is None and path in _IMPURE_NAMES:
            self.findings.append(f"{_IMPURE_NAMES[path]} ({path})")
            return
        module = path.rpartition(".")[0]
        if obj is None and module in _IMPURE_MODULES and module not in sys.modules:
            self.findings.append(f"{_IMPURE_MODULES[module]} ({path})")

    # -- running

    def run(self) -> None:
        for _ in range(4):  # until values that flow through variables are known
            self.changed = False
            self.pass_over()
            if not self.changed:
                break

    def pass_over(self) -> None:
        instructions, at, handlers = _decoded(self.code)
        keywords: tuple[str, ...] = ()
        visited: set[int] = set()
        todo: list[tuple[int, list[Any]]] = [(0, [])]
        for target, depth in handlers:
            todo.insert(0, (target, [_ANY] * depth))
        while todo:
            position, stack = todo.pop()
            stack = list(stack)
            while position not in visited and position < len(instructions):
                visited.add(position)
                instruction = instructions[position]
                if instruction.opname == "KW_NAMES":
                    keywords = self.code.co_consts[instruction.arg]
                    position += 1
                    continue
                if instruction.opcode in _JUMPS:
                    target = at[instruction.argval]
                    other = list(stack)
                    self.default(instruction, other, jump=True)
                    todo.append((target, other))
                    if instruction.opname in _NO_FALL_THROUGH:
                        break
                    self.default(instruction, stack, jump=False)
                    if instruction.opname == "FOR_ITER" and len(stack) > 1:
                        source = stack[-2]
                        if isinstance(source, (_Known, _Method)) and source.outer:
                            stack[-1] = _OUTER
                else:
                    self.step(instruction, stack, keywords)
                    if instruction.opname == "CALL":
                        keywords = ()
                    if instruction.opname in _NO_FALL_THROUGH:
                        break
                position += 1

    def default(self, instruction: Any, stack: list[Any], jump: bool | None) -> None:
        """Any instruction: the right depth, and nothing known of the top."""
        argument = instruction.arg if instruction.opcode >= opcode.HAVE_ARGUMENT else None
        effect = dis.stack_effect(instruction.opcode, argument, jump=jump)
        if effect < 0:
            del stack[max(len(stack) + effect, 0) :]
            if stack and jump is None:
                stack[-1] = _ANY
        else:
            stack.extend([_ANY] * effect)
            if jump is None and effect == 0 and stack:
                stack[-1] = _ANY

    @staticmethod
    def pop(stack: list[Any], count: int = 1) -> list[Any]:
        if count <= 0:
            return []
        taken = stack[-count:]
        del stack[-count:]
        return [_ANY] * (count - len(taken)) + taken

    def step(self, ins: Any, stack: list[Any], keywords: tuple[str, ...]) -> None:
        name = ins.opname
        if name == "LOAD_GLOBAL" or name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            if name == "LOAD_FROM_DICT_OR_GLOBALS":
                self.pop(stack)
            value = self.global_value(ins.argval)
            if name == "LOAD_GLOBAL" and ins.arg & 1:
                stack.append(_NULL)
            stack.append(value)
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            stack.append(_Const(ins.argval))
        elif name in _LOAD_LOCAL:
            stack.append(self.load_local(ins.argval))
        elif name in _TWO_LOCALS:
            stack.extend(self.load_local(n) for n in ins.argval)
        elif name == "STORE_FAST":
            self.store_local(ins.argval, self.pop(stack)[0])
        elif name == "STORE_FAST_STORE_FAST":
            for variable in ins.argval:
                self.store_local(variable, self.pop(stack)[0])
        elif name == "STORE_FAST_LOAD_FAST":
            self.store_local(ins.argval[0], self.pop(stack)[0])
            stack.append(self.load_local(ins.argval[1]))
        elif name in _LOAD_OUTER:
            if name == "LOAD_FROM_DICT_OR_DEREF":
                self.pop(stack)
            stack.append(self.load_outer(ins.argval))
        elif name == "STORE_DEREF":
            value = self.pop(stack)[0]
            if ins.argval in self.outer_names:
                self.findings.append(f"a write to the outer variable {ins.argval!r}")
            else:
                self.store_local(ins.argval, value)
        elif name == "DELETE_DEREF" and ins.argval in self.outer_names:
            self.findings.append(f"a write to the outer variable {ins.argval!r}")
        elif name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            self.findings.append(f"a write to the global {ins.argval!r}")
            self.default(ins, stack, None)
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            self.load_attribute(ins, stack)
        elif name in ("STORE_ATTR", "DELETE_ATTR"):
            owner = self.pop(stack)[0]
            self.pop(stack, 1 if name == "STORE_ATTR" else 0)
            self.check_write(owner, f"attribute {ins.argval!r}")
        elif name in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            popped = self.pop(stack, 3 if name == "STORE_SUBSCR" else 2)
            self.check_write(popped[-2], "an item")
        elif name == "STORE_SLICE":
            self.check_write(self.pop(stack, 4)[1], "a slice")
        elif name == "BINARY_OP" and ins.argrepr.endswith("=") and ins.arg >= 13:
            left, _ = self.pop(stack, 2)
            # in place: x += [1] with x from outside changes what x holds
            if isinstance(left, _Known) and left.outer and self.is_mutable(left.obj):
                self.findings.append(f"a change of {left.path}")
            stack.append(_ANY)
        elif name == "BINARY_SLICE":  # since 3.12; before, a slice and BINARY_SUBSCR
            owner = self.pop(stack, 3)[0]
            outer = isinstance(owner, _Known) and owner.outer
            stack.append(_OUTER if outer else _ANY)
        elif name in _BINARY:
            if name == "CHECK_EXC_MATCH":
                self.pop(stack)
                stack.append(_ANY)
            else:
                left, _ = self.pop(stack, 2)
                inner = name == "BINARY_SUBSCR" or ins.argrepr == "[]"
                outer = inner and isinstance(left, _Known) and left.outer
                stack.append(_OUTER if outer else _ANY)
        elif name == "IMPORT_NAME":
            level, wanted = self.pop(stack, 2)
            path = ins.argval
            if isinstance(level, _Const) and level.value:
                package = self.space.get("__package__") or ""
                above = package.rsplit(".", level.value - 1)[0]
                path = f"{above}.{path}" if path else above
            elif isinstance(wanted, _Const) and not wanted.value and "." in path:
                path = path.partition(".")[0]  # ``import a.b`` binds a
            stack.append(_Known(sys.modules.get(path), path))
        elif name == "IMPORT_FROM":
            stack.append(self.attribute(stack[-1] if stack else _ANY, ins.argval))
        elif name == "COPY":
            stack.append(stack[-ins.arg] if len(stack) >= ins.arg else _ANY)
        elif name == "SWAP":
            if len(stack) >= ins.arg:
                stack[-1], stack[-ins.arg] = stack[-ins.arg], stack[-1]
        elif name == "PUSH_NULL":
            stack.append(_NULL)
        elif name == "PRECALL":
            pass
        elif name == "CALL":
            arguments = self.pop(stack, ins.arg)
            self.call(self.pop(stack, 2), arguments, keywords)
            stack.append(_ANY)
        elif name == "CALL_KW":
            names = self.pop(stack)[0]
            arguments = self.pop(stack, ins.arg)
            given = names.value if isinstance(names, _Const) else ()
            self.call(self.pop(stack, 2), arguments, given)
            stack.append(_ANY)
        elif name == "CALL_FUNCTION_EX":
            self.pop(stack, 1 + (ins.arg & 1 if sys.version_info < (3, 14) else 1))
            self.call(self.pop(stack, 2), None, ())
            stack.append(_ANY)
        elif name in ("GET_ITER", "TO_BOOL", "GET_LEN", "NOP", "RESUME", "CAST"):
            if name == "GET_LEN":
                stack.append(_ANY)
        elif name == "LOAD_SUPER_ATTR":
            self.pop(stack, 3)
            if ins.arg & 1:
                stack.extend((_Method(ins.argval, False), _NULL))
            else:
                stack.append(_ANY)
        elif name.startswith("BUILD_") and name not in ("BUILD_CONST_KEY_MAP", "BUILD_MAP"):
            items = self.pop(stack, dis.stack_effect(ins.opcode, ins.arg) * -1 + 1)
            self.check_escape(items)
            stack.append(_ANY)
        else:
            self.default(ins, stack, None)

    # -- what instructions mean

    def load_local(self, name: str) -> Any:
        values = self.locals.get(name)
        if not values:
            return _ANY
        return values[0] if len(values) == 1 else tuple(values)

    def store_local(self, name: str, value: Any) -> None:
        values = self.locals.setdefault(name, [])
        for one in value if isinstance(value, tuple) else (value,):
            interesting = isinstance(one, (_Known, _Method))
            if interesting and len(values) < 8 and not any(_same(one, v) for v in values):
                values.append(one)
                self.changed = True

    def load_outer(self, name: str) -> Any:
        if name not in self.outer_names:
            return self.load_local(name)
        if name in self.cells:
            return self.meet(_Known(self.cells[name], name))
        return _Known(None, "?")

    def load_attribute(self, ins: Any, stack: list[Any]) -> None:
        owner = self.pop(stack)[0]
        owners = owner if isinstance(owner, tuple) else (owner,)
        found: list[Any] = []
        for one in owners:
            if isinstance(one, _Known) and (
                isinstance(one.obj, (types.ModuleType, type))
                or (one.obj is None and one.path != "?")
            ):
                found.append(self.attribute(one, ins.argval))
            else:
                outer = isinstance(one, (_Known, _Method)) and one.outer
                self.method_of_value(one, ins.argval)
                found.append(_Method(ins.argval, outer))
        value = found[0] if len(found) == 1 else tuple(found)
        as_method = ins.opname == "LOAD_METHOD" or (
            sys.version_info >= (3, 12) and bool(ins.arg & 1)
        )
        stack.append(value)
        if as_method:
            stack.append(_NULL)

    def method_of_value(self, owner: Any, name: str) -> None:
        """A method of an object that is known: its class's function is called."""
        if not isinstance(owner, _Known) or owner.obj is None:
            return
        obj = owner.obj
        kind = type(obj)
        if kind.__module__.startswith("numpy.random"):
            self.findings.append(f"randomness ({owner.path}.{name})")
            return
        if kind.__module__ == "random":
            self.findings.append(f"randomness ({owner.path}.{name})")
            return
        if kind.__module__ in ("_io", "io") and name not in ("getvalue", "name"):
            self.findings.append(f"input/output ({owner.path}.{name})")
            return
        for base in type.mro(kind):
            if name in vars(base):
                value = vars(base)[name]
                if isinstance(value, types.FunctionType) and not _is_library_code(value.__code__):
                    self.callees[id(value)] = (value, True)
                return

    @staticmethod
    def is_mutable(obj: Any) -> bool:
        immutable = (bool, int, float, complex, str, bytes, tuple, frozenset)
        return obj is not None and not isinstance(obj, immutable)

    def check_write(self, owner: Any, what: str) -> None:
        for one in owner if isinstance(owner, tuple) else (owner,):
            if isinstance(one, _Known) and one.outer:
                self.findings.append(f"a write to {what} of {_named(one)}")
            elif isinstance(one, _Method) and one.outer:
                self.findings.append(f"a write to {what} of .{one.name} of a global")

    def check_escape(self, items: list[Any]) -> None:
        """A maker of generators that is passed on may be called without a seed."""
        for item in items:
            for one in item if isinstance(item, tuple) else (item,):
                if isinstance(one, _Known) and callable(one.obj):
                    for path in _public_path(one.obj, one.path):
                        if path in ("numpy.random.default_rng", "numpy.random.RandomState"):
                            self.findings.append(f"randomness ({path})")
                            break

    def call(
        self, slots: list[Any], arguments: list[Any] | None, keywords: tuple[str, ...]
    ) -> None:
        """A call; ``arguments`` None when they are not in the code (``f(*a)``)."""
        callee = next((s for s in slots if s is not _NULL and s is not _ANY), None)
        if arguments is not None:
            self.check_escape(arguments)
        for one in callee if isinstance(callee, tuple) else (callee,):
            if isinstance(one, _Method):
                self.call_method(one, arguments, keywords)
            elif isinstance(one, _Known):
                self.call_known(one, arguments, keywords)

    @staticmethod
    def split(arguments: list[Any], keywords: tuple[str, ...]) -> tuple[tuple, dict[str, Any]]:
        """Arguments as a call would get them; what is not known is not None."""
        plain = [a.value if isinstance(a, _Const) else _ANY for a in arguments]
        count = len(plain) - len(keywords)
        return tuple(plain[:count]), dict(zip(keywords, plain[count:], strict=True))

    def call_method(
        self, method: _Method, arguments: list[Any] | None, keywords: tuple[str, ...]
    ) -> None:
        name = method.name
        if name in _MUTATORS and method.outer:
            self.findings.append(f"a change of a global or outer variable by .{name}()")
        if arguments is None:
            if name in _RANDOM_METHODS:
                self.findings.append(f"randomness (.{name} with arguments not in sight)")
            return
        args, kwargs = self.split(arguments, keywords)
        if method.outer and kwargs.get("inplace") is True:
            self.findings.append(f"a change of a global or outer variable by .{name}()")
        if is_unseeded_method(name, args, kwargs):
            self.findings.append(f"randomness (.{name}() without a seed)")
        if name in _IO_METHODS and not (
            name in _TEXT_WITHOUT_ARGUMENT and not args and "path_or_buf" not in kwargs
        ):
            self.findings.append(f"input/output (.{name})")

    def call_known(
        self, known: _Known, arguments: list[Any] | None, keywords: tuple[str, ...]
    ) -> None:
        if arguments is None:
            return
        args, kwargs = self.split(arguments, keywords)
        for path in _public_path(known.obj, known.path):
            if path in _SEEDED_BY_ARGUMENT:
                given = [*args[:1], *(kwargs[k] for k in ("seed", "x", "entropy") if k in kwargs)]
                if all(v is None for v in given):
                    self.findings.append(f"randomness ({path} without a seed)")
                break
            position = _CLOCK_WITHOUT_ARGUMENT.get(path)
            if position is not None:
                if len(args) <= position or args[position] is None:
                    self.findings.append(f"clock ({path})")
                break
            if path in _PARSES_NOW:
                if any(isinstance(a, str) and a in ("now", "today") for a in args):
                    self.findings.append(f"clock ({path})")
                break
            if path == "builtins.getattr" and len(args) > 1:
                if isinstance(args[1], str):
                    self.attribute(arguments[0], args[1])
                break
            if path in _DRAWS_UNLESS_SEEDED:
                if kwargs.get("random_state") is None:
                    self.findings.append(f"randomness ({path} without random_state)")
                break
            if path in ("builtins.setattr", "builtins.delattr") and arguments:
                self.check_write(arguments[0], "an attribute")
                break
            if path in ("builtins.next",) and arguments:
                self.check_write(arguments[0], "the position")
                break


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, _Known) and isinstance(other, _Known):
        return one.obj is other.obj and one.path == other.path
    return isinstance(one, _Method) and isinstance(other, _Method) and one == other


def _named(known: _Known) -> str:
    return "a global or outer variable" if known.path == "?" else known.path


# ---------------------------------------------------------------------------
# Classifying


def classify(func: Any, memo: dict[int, tuple[Any, Verdict]] | None = None) -> Verdict:
    """Say whether a callable's result depends on its arguments alone.

    Parameters
    ----------
    func : callable
        A function, method, class, partial, or object with ``__call__``.
    memo : dict, optional
        A dictionary that the caller keeps for as long as it vouches that no
        function changes and no global is bound anew; it holds the callables
        alive.  A verdict takes 30 to 200 microseconds without it.

    Returns
    -------
    Verdict
        ``kind`` and ``reason``.  A mark ``_stratum_purity`` ("pure" or
        "impure") on the callable is taken as it stands.

    Raises
    ------
    ValueError
        If the mark is neither.
    """
    if memo is not None and (known := memo.get(id(func))) is not None:
        return known[1]
    try:
        verdict = _classify(func, set())
    except RecursionError:
        verdict = Verdict("unknown", "functions that call each other too deeply")
    if memo is not None:
        memo[id(func)] = (func, verdict)
    return verdict


class _Watching(set):  # of those visited
    """What is asked is whether calls could be counted, rather than whether results could differ."""


#: What code refers to that writes where somebody reads along.
_OUTPUT = frozenset(
    {
        "critical",
        "debug",
        "display",
        "exception",
        "getLogger",
        "info",
        "logger",
        "logging",
        "pprint",
        "print",
        "stderr",
        "stdout",
        "tqdm",
        "trange",
        "warn",
        "warning",
        "write",
    }
)
#: Findings that nobody can count calls by: a file is read, a clock is looked at.
_UNCOUNTED = ("input/output", "clock", "an address", "the running thread", "code made at run time")


def shown(func: Any) -> str | None:
    """Why somebody could tell how often, or in which order, a callable has been called.

    Parameters
    ----------
    func : callable
        A function, method, class, partial, or object with ``__call__``.

    Returns
    -------
    str or None
        What it does: draw from a global generator, change what outlives the call, or print (names
        that stand for output are enough, so some functions are named that do not).  None if it does
        nothing of the kind that can be seen.
    """
    try:
        verdict = _classify(func, _Watching())
    except RecursionError:
        return "functions that call each other too deeply"
    return verdict.reason if verdict.kind == "impure" else None


def _counts(finding: str | None, visited: set[tuple[int, bool]]) -> bool:
    """Whether a finding is one of those that were asked for."""
    if finding is None:
        return False
    return not (isinstance(visited, _Watching) and finding.startswith(_UNCOUNTED))


def _marked(func: Any) -> Verdict | None:
    space = None if _answers_anything(func) else getattr(func, "__dict__", None)
    space = space if isinstance(space, (dict, types.MappingProxyType)) else {}
    mark = space.get("_stratum_purity")
    if mark is None:
        mark = getattr(type(func), "_stratum_purity", None)
    if mark is None:
        return None
    if mark not in ("pure", "impure"):
        raise ValueError(f"_stratum_purity must be 'pure' or 'impure', got {mark!r}")
    return _PURE if mark == "pure" else Verdict("impure", "marked as impure")


def _classify(func: Any, visited: set[tuple[int, bool]], bound: bool = False) -> Verdict:
    mark = _marked(func)
    if mark is not None:
        return mark
    if isinstance(func, functools.partial):
        parts = [func.func, *func.args, *func.keywords.values()]
        return _worst(_classify(p, visited) for p in parts if callable(p))
    if isinstance(func, types.MethodType):
        owner = _impurity_of(func, "")
        if _counts(owner, visited):
            return Verdict("impure", owner)
        stays = not isinstance(func.__self__, type)
        return _classify(func.__func__, visited, bound=stays)
    if isinstance(func, (staticmethod, classmethod)):
        return _classify(func.__func__, visited)
    if isinstance(func, types.FunctionType):
        return _classify_function(func, visited, bound)
    finding = _impurity_of(func, "")
    if _counts(finding, visited):
        return Verdict("impure", finding)
    if isinstance(func, type):
        return _classify_class(func, visited)
    if _is_known_compiled(func):
        return _PURE
    lazy = _answers_anything(func)
    if not lazy and isinstance(getattr(func, "__wrapped__", None), types.FunctionType):
        # functools.lru_cache and other wrappers that say what they wrap
        return _classify(func.__wrapped__, visited)
    call = getattr(type(func), "__call__", None)
    if isinstance(call, types.FunctionType):
        if _is_library_code(call.__code__):
            known = _root_of(type(func).__module__) in _KNOWN_LIBRARIES
            return _PURE if known else Verdict("unknown", _no_sight(func))
        return _classify(call, visited, bound=True)
    return Verdict("unknown", _no_sight(func))


def _no_sight(func: Any) -> str:
    kind = type(func)
    return f"code of {kind.__module__}.{kind.__qualname__} that cannot be read"


def _worst(verdicts: Iterator[Verdict]) -> Verdict:
    worst = _PURE
    for verdict in verdicts:
        if verdict.kind == "impure":
            return verdict
        if verdict.kind == "unknown":
            worst = verdict
    return worst


def _is_known_compiled(func: Any) -> bool:
    """Whether compiled code belongs to a library whose tables we have."""
    if _answers_anything(func):
        return False
    owner = getattr(func, "__objclass__", None)
    module = owner.__module__ if isinstance(owner, type) else None
    if module is None:
        module = getattr(func, "__module__", None)
    bound = getattr(func, "__self__", None)
    if module is None and bound is not None:
        module = (
            bound.__name__
            if isinstance(bound, types.ModuleType)
            else (bound.__module__ if isinstance(bound, type) else type(bound).__module__)
        )
    if type(func).__module__ == "numpy" and type(func).__name__ == "ufunc":
        # scipy's ufuncs name no module; those of frompyfunc name their function
        name = func.__name__
        return any(
            vars(sys.modules[m]).get(name) is func
            for m in ("numpy", "scipy.special")
            if m in sys.modules
        )
    if type(func).__module__ in ("operator", "_operator"):
        return True
    compiled = isinstance(
        func,
        (
            types.BuiltinFunctionType,
            types.MethodDescriptorType,
            types.WrapperDescriptorType,
            types.MethodWrapperType,
            types.ClassMethodDescriptorType,
            types.GetSetDescriptorType,
        ),
    ) or type(func).__name__ in ("cython_function_or_method", "_ArrayFunctionDispatcher")
    return compiled and _root_of(module) in _KNOWN_LIBRARIES


def _classify_class(cls: type, visited: set[tuple[int, bool]]) -> Verdict:
    """A class as a callable, and as what its instances may do."""
    if (id(cls), False) in visited:
        return _PURE  # what it adds is counted where it was met first
    if not isinstance(cls.__module__, str):
        return Verdict("unknown", f"class {cls.__qualname__} without a module")
    module = sys.modules.get(cls.__module__)
    filename = getattr(module, "__file__", None) or ""
    library = cls.__module__ != "__main__" and (
        cls.__module__ in sys.builtin_module_names
        or filename.startswith(_LIBRARY_ROOTS)
        or any(p in filename for p in _SITE_PARTS)
    )
    if library:
        if _root_of(cls.__module__) in _KNOWN_LIBRARIES:
            return _PURE
        return Verdict("unknown", f"class {cls.__module__}.{cls.__qualname__}")
    visited.add((id(cls), False))
    members: list[Any] = [b for b in cls.__bases__ if b is not object]
    for value in vars(cls).values():
        if isinstance(value, property):
            members.extend(f for f in (value.fget, value.fset, value.fdel) if f)
        elif isinstance(value, (types.FunctionType, staticmethod, classmethod)):
            members.append(value)
    return _worst(_classify(m, visited) for m in members)


def _cells_of(func: types.FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return found


def _classify_function(
    func: types.FunctionType, visited: set[tuple[int, bool]], bound: bool = False
) -> Verdict:
    if (id(func), bound) in visited:
        return _PURE  # what it adds is counted where it was met first
    if _is_library_code(func.__code__):
        finding = _impurity_of(func, "")
        if _counts(finding, visited):
            return Verdict("impure", finding)
        root = _root_of(func.__module__)
        wrapped = vars(func).get("__wrapped__")
        if isinstance(wrapped, types.FunctionType) and not _is_library_code(wrapped.__code__):
            # a library's decorator around a function of the user's
            return _classify(wrapped, visited)
        if root in _KNOWN_LIBRARIES:
            return _PURE
        return Verdict("unknown", f"function {func.__module__}.{func.__qualname__}")
    visited.add((id(func), bound))
    return _scan_function(func, visited, bound)


def _scan_function(
    func: types.FunctionType, visited: set[tuple[int, bool]], bound: bool
) -> Verdict:
    outer = frozenset(func.__code__.co_freevars)
    cells = _cells_of(func)
    todo = [func.__code__]
    unknown: Verdict | None = None
    callees: dict[int, tuple[Any, bool]] = {}
    for default in (*(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values()):
        if callable(default):
            callees[id(default)] = (default, False)
    while todo:
        code = todo.pop()
        # variables of the function itself, seen by its inner functions, end
        # with the call: only those of outer functions stay
        own = bound and code is func.__code__
        scan = _Scan(code, func.__globals__, cells, outer, own)
        scan.run()
        findings = [finding for finding in scan.findings if _counts(finding, visited)]
        if isinstance(visited, _Watching):
            findings += [f"output ({name})" for name in code.co_names if name in _OUTPUT]
        if findings:
            return Verdict("impure", findings[0])
        callees.update(scan.callees)
        todo.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
    for callee, stays in callees.values():
        verdict = _classify(callee, visited, stays)
        if verdict.kind == "impure":
            name = getattr(callee, "__name__", type(callee).__name__)
            return Verdict("impure", f"{verdict.reason}, in {name}")
        if verdict.kind == "unknown":
            unknown = verdict
    return unknown or _PURE
