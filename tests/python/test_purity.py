"""Tests of what a function's bytecode shows: clocks, draws, input and output, writes."""

import argparse
import contextlib
import datetime
import functools
import glob
import importlib
import importlib.util
import inspect
import itertools
import json
import json.decoder
import math
import operator
import os
import os.path
import pathlib
import random
import re
import secrets
import socket
import subprocess
import sys
import time
import types
import typing
import uuid
from datetime import datetime as DateTime
from random import random as draw
from time import time as moment

import numpy as np
import pytest

CAPTURE = pathlib.Path(__file__).parents[2] / "python" / "stratum" / "capture"


def _load(name):
    """The module from the installed package, or from its file without it."""
    try:
        return importlib.import_module(f"stratum.capture.{name}")
    except ImportError:
        spec = importlib.util.spec_from_file_location(f"_capture_{name}", CAPTURE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module


P = _load("purity")

CONSTANT = 3
ITEMS = []
TABLE = {}
GROUP = [[]]
RNG = random.Random(0)


class Holder:
    value = 0


class Stateful:
    """Remembers its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + self.calls


class Keeper:
    def __init__(self):
        self.log = []

    def note(self, x):
        self.log.append(x)
        return x

    def reads(self, x):
        return x + len(self.log)


class Stateless:
    def __init__(self, k):
        self.k = k

    def __call__(self, x):
        return x + self.k


class Drawing:
    def method(self):
        return random.random()


STATEFUL = Stateful()
KEEPER = Keeper()


# Each function stands under the verdict that it must get, with the word that
# the reason must hold.
IMPURE = {
    "clock": [],
    "randomness": [],
    "input/output": [],
    "write": [],
    "change": [],
    "run time": [],
}
PURE = []


def impure(word):
    def register(function):
        IMPURE[word].append(function)
        return function

    return register


def pure(function):
    PURE.append(function)
    return function


# -- clocks


@impure("clock")
def c_time(x):
    return time.time()


@impure("clock")
def c_perf_counter(x):
    start = time.perf_counter()
    return x, start


@impure("clock")
def c_renamed(x):
    return moment()


@impure("clock")
def c_now(x):
    return datetime.datetime.now()


@impure("clock")
def c_now_of_class(x):
    return DateTime.utcnow()


@impure("clock")
def c_date_today(x):
    return datetime.date.today()


@impure("clock")
def c_local_import(x):
    import time as hidden

    return hidden.monotonic()


@impure("clock")
def c_local_from(x):
    from datetime import datetime as hidden

    return hidden.now()


@impure("clock")
def c_passed_on(x):
    return list(map(time.localtime.__class__, x)) or sorted(x, key=time.monotonic)


@impure("clock")
def c_strftime(x):
    return time.strftime("%Y")


@impure("clock")
def c_nested(x):
    def inner():
        return [time.time() for _ in x]

    return inner()


@impure("clock")
def c_through_helper(x):
    return c_time(x)


@impure("clock")
def c_through_two(x):
    return c_through_helper(x) if x else c_through_two(x)


@impure("clock")
def c_getattr(x):
    return getattr(time, "time")()  # noqa: B009


# -- randomness


@impure("randomness")
def r_random(x):
    return random.random()


@impure("randomness")
def r_renamed(x):
    return draw()


@impure("randomness")
def r_alias(x):
    source = random if x else math
    return source.random()


@impure("randomness")
def r_unseeded_generator(x):
    return random.Random().random()


@impure("randomness")
def r_global_generator(x):
    return RNG.random()


@impure("randomness")
def r_secrets(x):
    return secrets.token_hex()


@impure("randomness")
def r_uuid(x):
    return uuid.uuid4()


@impure("randomness")
def r_urandom(x):
    return os.urandom(3)


@impure("randomness")
def r_sample(df):
    return df.sample(3)


@impure("randomness")
def r_sample_none(df):
    return df.sample(n=3, random_state=None)


@impure("randomness")
def r_sample_conditional(df):
    return df.head().sample(n=3 if len(df) > 3 else 2, replace=bool(df))


@impure("randomness")
def r_sample_stars(df, kwargs):
    return df.sample(**kwargs)


@impure("randomness")
def r_polars(df):
    return df.select(df["a"].shuffle())


@impure("randomness")
def r_class(x):
    return Drawing().method()


@impure("randomness")
def r_default(x, source=random.random):
    return source()


# -- input and output


@impure("input/output")
def o_open(path):
    with open(path) as file:
        return file.read()


@impure("input/output")
def o_environ(x):
    return os.environ["HOME"]


@impure("input/output")
def o_getenv(x):
    return os.getenv("HOME")


@impure("input/output")
def o_path(path):
    return pathlib.Path(path).read_text()


@impure("input/output")
def o_listing(path):
    return os.listdir(path)


@impure("input/output")
def o_exists(path):
    return os.path.exists(path)


@impure("input/output")
def o_glob(path):
    return glob.glob(path)


@impure("input/output")
def o_subprocess(x):
    return subprocess.run(x, check=True)


@impure("input/output")
def o_socket(x):
    return socket.socket()


@impure("input/output")
def o_input(x):
    return input()


@impure("input/output")
def o_to_csv(df):
    df.to_csv("x.csv")
    return df


# -- writes to what stays


@impure("write")
def w_global(x):
    global CONSTANT
    CONSTANT = x


@impure("write")
def w_item(x):
    TABLE[x] = 1


@impure("write")
def w_item_through_variable(x):
    table = TABLE
    table[x] = 1


@impure("write")
def w_delete(x):
    del TABLE[x]


@impure("write")
def w_attribute(x):
    Holder.value = x


@impure("write")
def w_setattr(x):
    setattr(Holder, "value", x)  # noqa: B010


@impure("write")
def w_deep(x):
    GROUP[0][0] = x


@impure("write")
def w_next(x):
    return next(COUNTER)


COUNTER = itertools.count()


def _closures():
    count = 0
    seen = []

    def nonlocal_write(x):
        nonlocal count
        count += 1
        return count

    def closure_change(x):
        seen.append(x)
        return x

    def nested_write(x):
        def inner():
            nonlocal count
            count = x

        inner()

    return nonlocal_write, closure_change, nested_write


_nonlocal_write, _closure_change, _nested_write = _closures()
impure("write")(_nonlocal_write)
impure("write")(_nested_write)
impure("change")(_closure_change)


@impure("change")
def w_append(x):
    ITEMS.append(x)
    return x


@impure("change")
def w_append_of_item(x):
    GROUP[0].append(x)


@impure("change")
def w_change_of_slice(x):
    GROUP[0:1][0].append(x)


@impure("change")
def w_change_in_slice(x):
    for group in GROUP[1:]:
        group.append(x)


@impure("change")
def w_append_in_loop(x):
    for group in GROUP:
        group.append(x)


@impure("change")
def w_update(x):
    TABLE.update(a=x)


@impure("change")
def w_inplace(x):
    FRAME_LIKE.drop(x, inplace=True)


FRAME_LIKE = Stateless(1)


@impure("change")
def w_method_of_global(x):
    return KEEPER.note(x)


@impure("write")
def w_call_of_global(x):
    return STATEFUL(x)


@impure("run time")
def e_eval(x):
    return eval(x)


@impure("run time")
def e_import(x):
    return importlib.import_module(x)


# -- pure


@pure
def p_arithmetic(x):
    return math.sqrt(x) + CONSTANT


@pure
def p_print(x):
    print(x)
    return x


@pure
def p_local_changes(x):
    out, seen = [], {}
    for item in x:
        try:
            out.append(item)
            seen[item] = 1
        except ValueError as error:
            raise KeyError(item) from error
        finally:
            seen.pop(item, None)
    out += [1]
    x["new"] = 1
    return {k: v for k, v in zip(out, seen, strict=True) if k}


@pure
def p_own_nonlocal(x):
    count = 0
    collected = []

    def step():
        nonlocal count
        count += 1
        collected.append(count)

    step()
    return count, collected


@pure
def p_reads_globals(x):
    return TABLE[x] + ITEMS[0] + len(GROUP) + Holder.value


@pure
def p_copies_global(x):
    mine = dict(TABLE)
    mine[x] = 1
    other = ITEMS.copy()
    other.append(x)
    return mine, other


@pure
def p_seeded(df, seed):
    return df.sample(3, random_state=0), df.sample(2, random_state=seed)


@pure
def p_seeded_conditional(df, seed):
    return df.sample(3, random_state=seed) if seed else df.sample(n=2 if seed else 1, seed=4)


@pure
def p_seeded_by_place(df):
    return df.sample(3, None, False, None, 7)


@pure
def p_seeded_generator(x):
    return random.Random(3).random()


@pure
def p_paths(x):
    return os.path.join("a", x), os.path.basename(x), os.sep, pathlib.PurePath(x)


@pure
def p_times(x):
    return datetime.datetime(2020, 1, 1), datetime.timedelta(1), time.strftime("%Y", x)


@pure
def p_own_name(time):
    return time.time()


@pure
def p_attributes_called_alike(x):
    return x.open, x.time.random, x.now()


@pure
def p_text(df):
    return df.to_csv(), re.sub("a", "b", "c"), json.dumps({})


@pure
def p_class(x):
    made = Stateless(2)
    made.k = 3
    return made(x)


@pure
def p_recursive(n):
    return p_mutual(n - 1) if n else 0


@pure
def p_mutual(n):
    return p_recursive(n - 1) if n else 1


@pure
def p_match(x):
    match x:
        case {"a": y, **rest}:
            return y, rest
        case [first, *_]:
            return first
    return functools.reduce(operator.add, x)


@pure
def p_with(x, manager):
    with manager as inner:
        try:
            return inner(*x, **{"a": 1})
        except* ValueError:
            pass
    return f"{x!r:>{CONSTANT}}"


@pure
async def p_async(x):
    async for item in x:
        yield await item


@pure
def p_super():
    class A(Holder):
        def m(self):
            return super().__init__()

    return A


@pure
def p_shadowed_builtin(x):
    open = list
    return open(x)


@pure
def p_bound_reader(x):
    return KEEPER.reads(x)


@pytest.mark.parametrize(
    ("word", "function"),
    [(w, f) for w, functions in IMPURE.items() for f in functions],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_impure(word, function):
    verdict = P.classify(function)
    assert verdict.kind == "impure", verdict
    assert word in verdict.reason
    # from the memory of verdicts too
    assert P.classify(function) == verdict


@pytest.mark.parametrize("function", PURE, ids=lambda f: f.__name__)
def test_pure(function):
    assert P.classify(function) == P.Verdict("pure", "")
    assert P.classify(function) == P.Verdict("pure", "")


def test_the_table_of_cases_is_not_empty():
    assert min(map(len, IMPURE.values())) >= 2
    assert len(PURE) >= 20


@pytest.mark.parametrize(
    "function",
    [len, sorted, str.lower, "a".upper, math.sin, operator.add, operator.itemgetter(1)]
    + [int, dict, list.append, json.loads, re.sub, os.path.join, p_paths]
    + [functools.partial(p_paths, 1), functools.lru_cache(p_paths), Stateless(1), Stateless]
    + [Keeper().reads, lambda x: x + 1, staticmethod(p_paths)],
)
def test_pure_callables(function):
    assert P.classify(function).kind == "pure", P.classify(function)


@pytest.mark.parametrize(
    "function",
    [time.time, random.random, random.shuffle, open, input, os.getenv, os.urandom, uuid.uuid4]
    + [DateTime.now, datetime.date.today, subprocess.run, time.sleep, eval]
    + [functools.partial(c_time, 1), functools.partial(map, c_time), functools.lru_cache(c_time)]
    + [Stateful(), Keeper().note, Drawing, Drawing().method, random.Random(0).random],
)
def test_impure_callables(function):
    assert P.classify(function).kind == "impure", P.classify(function)


def test_unknown():
    class Callable:
        __call__ = functools.partial(len)

    assert P.classify(Callable()).kind == "unknown"
    assert P.classify(object()).kind == "unknown"
    opaque = Callable()
    source = {"opaque": opaque, "__name__": "made_for_a_test"}
    exec("def f(x): return opaque(x)", source)
    verdict = P.classify(source["f"])
    assert verdict.kind == "unknown"
    assert "Callable" in verdict.reason


def test_functions_of_other_installed_packages_are_unknown():
    assert P.classify(pytest.approx).kind == "unknown"
    assert P.classify(lambda x: pytest.approx(x)).kind == "unknown"


def test_marks():
    def marked(x):
        return random.random()

    marked._stratum_purity = "pure"
    assert P.classify(marked).kind == "pure"
    marked._stratum_purity = "impure"
    assert P.classify(marked) == P.Verdict("impure", "marked as impure")
    marked._stratum_purity = "perhaps"
    with pytest.raises(ValueError, match="perhaps"):
        P.classify(marked)

    class Marked:
        _stratum_purity = "impure"

        def __call__(self, x):
            return x

    assert P.classify(Marked()).kind == "impure"
    assert P.classify(Marked).kind == "impure"
    good = Stateful()
    good._stratum_purity = "pure"
    assert P.classify(good).kind == "pure"


def test_a_verdict_follows_what_the_function_refers_to():
    space = {"__name__": "made_for_a_test", "g": len}
    exec("def f(x): return g(x)", space)
    f = space["f"]
    assert P.classify(f).kind == "pure"
    space["g"] = random.random
    assert P.classify(f).kind == "impure"
    space["g"] = p_paths
    assert P.classify(f).kind == "pure"
    f.__code__ = c_time.__code__
    space["time"] = time
    assert P.classify(f).kind == "impure"


def _ladder(last, rungs=40):
    space = {"__name__": "made_for_a_test", "f0": last}
    for n in range(1, rungs):
        exec(
            f"def a{n}(x): return f{n - 1}(x)\n"
            f"def b{n}(x): return f{n - 1}(x) + 1\n"
            f"def f{n}(x): return a{n}(x) + b{n}(x)",
            space,
        )
    return space[f"f{rungs - 1}"]


def test_ladders_of_functions_are_linear():
    assert P.classify(_ladder(len)).kind == "pure"
    assert P.classify(_ladder(c_time)).kind == "impure"
    assert P.classify(_ladder(pytest.approx)).kind == "unknown"


def test_long_chains_of_functions_do_not_crash():
    space = {"__name__": "made_for_a_test", "f0": len}
    for n in range(1, 3000):
        exec(f"def f{n}(x): return f{n - 1}(x)", space)
    verdict = P.classify(space["f2999"])
    assert verdict.kind == "unknown"
    assert "deeply" in verdict.reason


def test_memo():
    memo = {}
    assert P.classify(c_time, memo).kind == "impure"
    assert P.classify(p_paths, memo).kind == "pure"
    assert {id(c_time), id(p_paths)} == set(memo)
    assert P.classify(c_time, memo) is memo[id(c_time)][1]


def _all_codes(module):
    functions = [v for v in vars(module).values() if isinstance(v, types.FunctionType)]
    for owner in [v for v in vars(module).values() if isinstance(v, type)]:
        functions += [v for v in vars(owner).values() if isinstance(v, types.FunctionType)]
    for function in functions:
        todo = [function.__code__]
        while todo:
            code = todo.pop()
            todo.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
            yield function, code


def test_the_stack_machine_keeps_the_depth_of_the_interpreter():
    """At each return the value alone is on the stack: no instruction is off."""
    returns, wrong = 0, []

    class Checked(P._Scan):
        def step(self, ins, stack, keywords):
            nonlocal returns
            if ins.opname == "RETURN_VALUE":
                returns += 1
                if len(stack) != 1:
                    wrong.append((self.code.co_qualname, ins.offset, len(stack)))
            super().step(ins, stack, keywords)

    for module in (argparse, contextlib, functools, inspect, json.decoder, typing, subprocess):
        for function, code in _all_codes(module):
            scan = Checked(code, function.__globals__, {}, frozenset())
            scan.run()
    assert returns > 500
    assert wrong == []


def test_lazy_objects_are_not_asked():
    class Lazy:
        def __getattr__(self, name):
            raise AssertionError(f"the object was asked for {name}")

        def __call__(self, x):
            return x

    space = {"__name__": "made_for_a_test", "lazy": Lazy()}
    exec("def f(x): return lazy(x), lazy.head(), x", space)
    assert P.classify(space["lazy"]).kind == "pure"
    assert P.classify(space["f"]).kind == "pure"


def test_verdicts_do_not_keep_functions_alive():
    import gc
    import weakref

    def make():
        def local(x):
            return x + 1

        return local

    local = make()
    P.classify(local)
    reference = weakref.ref(local)
    del local
    gc.collect()
    assert reference() is None


def test_library_objects_in_functions():
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)

    def features(df):
        df = df.copy()
        df["a"] = np.sin(df["b"]).clip(0)
        df.loc[df["a"] > 1, "b"] = np.nan
        df.columns = [c.lower() for c in df.columns]
        return (
            df.assign(c=lambda d: d["a"] + CONSTANT)
            .groupby("a")
            .agg(q=("b", "mean"))
            .merge(pd.DataFrame({"a": [1]}), on="a")
        )

    def seeded(x):
        return np.random.default_rng(0).normal(), np.random.RandomState(seed=3).rand(len(x))

    def seeded_by_variable(x, seed):
        return np.random.default_rng(seed).permutation(x)

    def checks(x):
        return isinstance(x, np.random.Generator), pd.to_datetime("2020")

    for function in (features, seeded, seeded_by_variable, checks, np.sin, np.linalg.svd):
        assert P.classify(function).kind == "pure", P.classify(function)
    for function in (pd.to_datetime, pd.DataFrame, pd.DataFrame.assign, np.vectorize):
        assert P.classify(function).kind == "pure", P.classify(function)
    for function in (
        lambda x: np.random.rand(3),
        lambda x: np.random.default_rng().normal(),
        lambda x: np.random.default_rng(None).normal(),
        lambda x: np.random.RandomState(seed=None).rand(),
        lambda x: rng.normal(),
        lambda x: x.apply(np.random.rand),
        lambda x: [make().normal() for make in [np.random.default_rng]],
        lambda x: pd.to_datetime("now"),
        lambda x: pd.Timestamp.now(),
        lambda x: pd.Timestamp("today"),
        lambda x: pd.read_csv(x),
        lambda x: np.load(x),
        np.random.rand,
        np.random.seed,
        pd.read_csv,
        rng.normal,
    ):
        assert P.classify(function).kind == "impure", function.__code__


def test_scikit_learn_and_skrub():
    pytest.importorskip("sklearn")
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import train_test_split

    class Mine(TransformerMixin, BaseEstimator):
        def __init__(self, a=1):
            self.a = a

        def fit(self, X, y=None):
            self.mean_ = X.mean()
            return self

        def transform(self, X):
            return X - self.mean_

    class Noisy(Mine):
        def transform(self, X):
            return X + random.random()

    assert P.classify(Mine).kind == "pure", P.classify(Mine)
    assert P.classify(Noisy).kind == "impure"
    assert P.classify(Ridge).kind == "pure"
    assert P.classify(lambda x: Ridge().fit(x).predict(x)).kind == "pure"
    assert P.classify(lambda x: train_test_split(x)).kind == "impure"
    assert P.classify(lambda x: train_test_split(x, random_state=0)).kind == "pure"


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "unseeded"),
    [
        ("sample", (), {}, True),
        ("sample", (3,), {"frac": 1}, True),
        ("sample", (3,), {"random_state": None}, True),
        ("sample", (3,), {"random_state": 0}, False),
        ("sample", (3,), {"seed": None}, True),
        ("sample", (3,), {"seed": 0}, False),
        ("sample", (3, None, False, None, 0), {}, False),
        ("sample", (3, None, False, None, None), {}, True),
        ("shuffle", (), {}, True),
        ("shuffle", (1,), {}, False),
        ("shuffle", (None,), {}, True),
        ("shuffle", (), {"seed": 1}, False),
        ("head", (), {}, False),
        ("apply", (len,), {"random_state": None}, False),
    ],
)
def test_is_unseeded_method(name, args, kwargs, unseeded):
    assert P.is_unseeded_method(name, args, kwargs) is unseeded


def test_is_reader():
    pd = pytest.importorskip("pandas")
    readers = ["read_csv", "read_parquet", "read_json", "read_excel", "read_feather"]
    readers += ["read_table", "read_fwf", "read_pickle", "read_orc", "read_sql"]
    for name in readers:
        assert P.is_reader(getattr(pd, name)), name
    assert P.is_reader(functools.partial(pd.read_csv, sep=";"))
    for other in (pd.concat, pd.DataFrame, len, None, "read_csv", pd.DataFrame.to_csv, object()):
        assert not P.is_reader(other)

    def read_csv(path):
        return path

    assert not P.is_reader(read_csv)


def test_is_reader_of_polars_and_arrow():
    pl = pytest.importorskip("polars")
    csv = pytest.importorskip("pyarrow.csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    for function in (pl.read_csv, pl.read_parquet, pl.scan_csv, csv.read_csv, parquet.read_table):
        assert P.is_reader(function), function
    for function in (pl.concat, pl.from_pandas, parquet.write_table, pl.DataFrame):
        assert not P.is_reader(function), function


# -- What a script could tell ---------------------------------------------------------------------

calls_seen: list[int] = []


def _counts(x):
    calls_seen.append(len(x))
    return x


def _prints(x):
    print(len(x))
    return x


def _calls_one_that_prints(x):
    return _prints(x)


def _draws(x):
    return x + np.random.normal(size=x.shape)


def _seeded(x):
    return x + np.random.default_rng(0).normal(size=x.shape)


def _reads(path):
    with open(path) as file:
        return file.read()


def _looks_at_the_clock(x):
    return x, time.time()


class _Prints:
    def fit(self, X):
        print(X)
        return self


class _Fits:
    def fit(self, X):
        self.mean_ = X.mean()
        return self


@pytest.mark.parametrize(
    "func", [_counts, _prints, _calls_one_that_prints, _draws, _Prints, _Prints().fit, _Fits().fit, functools.partial(_prints)]
)
def test_calls_that_can_be_counted(func):
    assert P.shown(func)


@pytest.mark.parametrize("func", [_seeded, _reads, _looks_at_the_clock, _Fits, np.log1p, len, str.lower])
def test_calls_that_nobody_can_count(func):
    assert P.shown(func) is None
