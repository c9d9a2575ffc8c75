"""Tests of the incremental build-time checks (``stratum.capture.building``).

Three kinds: the same scripts run with plain skrub and with the checks
installed, each in its own process, must end the same at every step; random
graphs are built with skrub's own checks running beside ours; and the amount of
work is counted (never timed).

Run as a script (``python test_building.py plain|installed``) this file prints
the outcomes of the scripts as JSON.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib.util
import json
import os
import pathlib
import pickle
import random
import re
import sys
import threading
import warnings

import forks
import pandas as pd
import pytest
import skrub
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from skrub import selectors as s
from skrub._data_ops import _data_ops, _evaluation

HERE = pathlib.Path(__file__)
SOURCE = HERE.parents[2] / "python" / "stratum" / "capture" / "building.py"


def load_building():
    """The module alone: the package around it may not be built yet."""
    spec = importlib.util.spec_from_file_location("_building_under_test", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------------
# Scripts.  Each is a generator: it yields something to build, the runner builds
# it and sends back the result, or None where that failed.
# ---------------------------------------------------------------------------


class Stubborn(BaseEstimator):
    """Cannot be cloned."""

    def __init__(self, a=1):
        self.a = [a]

    def fit(self, X, y=None):
        return self


class Unprintable(BaseEstimator):
    def __repr__(self, N_CHAR_MAX=700):
        raise RuntimeError("no repr")

    def fit(self, X, y=None):
        return self


def total(*args, **kwargs):
    return sum(args) + sum(kwargs.values())


def no_value(x):
    return None


# Not as decorators, which would hide the functions from pickle.
add = skrub.deferred(total)
nothing = skrub.deferred(no_value)


def eager(flag):
    return skrub.config_context(eager_data_ops=flag)


def duplicate_names():
    a, other = skrub.var("a"), skrub.var("a")
    x = yield lambda: a + 1
    yield lambda: x + other
    yield lambda: add(x, [1, {"k": other}])
    z = yield lambda: (x * 2).skb.set_name("z")
    yield lambda: (z + 1).skb.set_name("z")
    yield lambda: (z + 1).skb.set_name("a")
    fine = yield lambda: z + 1
    yield lambda: fine + a


def duplicate_choices():
    c1 = skrub.choose_from([1, 2], name="c")
    c2 = skrub.choose_int(1, 4, name="c")
    unnamed = [skrub.choose_from([1, 2]), skrub.choose_from([1, 2])]
    a = skrub.var("a", 3)
    x = yield lambda: a + c1
    yield lambda: x + c1
    yield lambda: x + c2
    yield lambda: add(x, c2)
    yield lambda: x + unnamed[0] + unnamed[1] + unnamed[0]
    yield lambda: (x + 1).skb.set_name("c")
    yield lambda: x + skrub.choose_from([c2, 5], name="outer")
    yield lambda: x + skrub.choose_from([skrub.var("c", 1), 5], name="outer")
    m = c1.match({1: a, 2: c2})
    yield lambda: a + m
    yield lambda: skrub.as_data_op([c1, c1]) + 1
    yield lambda: skrub.as_data_op([c1, c2])


def two_marks():
    data = skrub.var("data")
    x = yield lambda: data[["a", "b"]].skb.mark_as_X()
    x2 = yield lambda: data["c"].skb.mark_as_X()
    y = yield lambda: data["c"].skb.mark_as_y()
    y2 = yield lambda: data["d"].skb.mark_as_y()
    yield lambda: add(x, x2)
    yield lambda: add(y, y2)
    yield lambda: x.skb.mark_as_X()
    yield lambda: (x + 1).skb.mark_as_X()
    yield lambda: (x + 1).skb.mark_as_y()
    pred = yield lambda: x.skb.apply(Ridge(), y=y)
    yield lambda: pred + y2
    yield lambda: skrub.X() + skrub.y()
    yield lambda: skrub.X() + skrub.X()
    yield lambda: pred + skrub.X()


def two_scorings():
    x, y = skrub.X(), skrub.y()
    pred = yield lambda: x.skb.apply(Ridge(), y=y)
    one = yield lambda: pred.skb.with_scoring("r2")
    two = yield lambda: one.skb.with_scoring("neg_mean_absolute_error")
    yield lambda: (two + 1).skb.with_scoring("r2")
    other = yield lambda: pred.skb.with_scoring("r2")
    yield lambda: add(one, other)


def shared_ids():
    data = skrub.var("data")
    plain = yield lambda: data["a"] + 1
    named = yield lambda: plain.skb.set_name("n")
    yield lambda: plain + named
    yield lambda: named + plain
    yield lambda: (plain * 3) + (named * 2)
    side = yield lambda: data["b"] * 2
    fine = yield lambda: side + named * 2
    fine2 = yield lambda: fine * side + named
    yield lambda: fine2 + plain
    yield lambda: add(fine2, [plain * 2])
    renamed = yield lambda: named.skb.set_name("m")
    yield lambda: add(fine2, renamed)
    del plain
    gc.collect()
    yield lambda: add(side, renamed)
    yield lambda: add(side, named)
    yield lambda: fine2 + copy.copy(side)
    again = copy.copy(side)
    yield lambda: again + side
    yield lambda: again + again


def clones(n=5):
    data = skrub.var("data", 1)
    x = data + 1
    for _ in range(n):
        x = x * 2 + data
    free = skrub.var("free", 1)
    twin = x.skb.clone()
    yield lambda: twin + 1
    yield lambda: twin + x
    yield lambda: x + twin
    top = yield lambda: twin + free
    yield lambda: top + x
    yield lambda: top + twin
    yield lambda: (top + free) * (twin + free)
    back = pickle.loads(pickle.dumps(x))
    yield lambda: back + 1
    yield lambda: back + x
    yield lambda: back + twin
    yield lambda: back + free
    new = x.skb.set_data({"data": 5})
    yield lambda: new + 1
    yield lambda: new + x
    yield lambda: copy.deepcopy(x) + 1
    learner = x.skb.make_learner()
    yield lambda: learner.data_op + 1
    yield lambda: learner.data_op + x
    again = x.skb.clone()
    mixed = yield lambda: again + free
    yield lambda: mixed + learner.data_op
    del x, twin, back, new, learner, top
    gc.collect()
    yield lambda: mixed + again
    yield lambda: mixed * 2


def large_clones():
    yield from clones(n=60)


def inner_clones():
    """Nodes in the middle of a large copy, joined in ways that must fail."""
    left, right = skrub.var("l") + 0, skrub.var("r") + 0
    old = (left, right)
    for _ in range(40):
        left, right = left + 1, right + 1
    root = yield lambda: add(left, right)
    twin = root.skb.clone()
    args = twin._skrub_impl.args
    yield lambda: twin + 1
    joined = yield lambda: add(args[1], old[0])
    yield lambda: args[1] + args[0]
    yield lambda: add(args[0], joined)
    yield lambda: add(joined, args[0] * 1)


def dataframes():
    df = pd.DataFrame({"a": [1, 2]})
    x = skrub.var("x", df)
    yield lambda: x.merge(df)
    yield lambda: add(x, df)
    yield lambda: add(x, [{"k": (df,)}])
    yield lambda: x + df
    yield lambda: df + x
    yield lambda: x.merge(skrub.as_data_op(df))
    yield lambda: skrub.as_data_op([df, df])[0]
    yield lambda: x + skrub.as_data_op([df])[0]
    yield lambda: x.skb.concat([df], axis=1)
    yield lambda: x.skb.apply(StandardScaler(with_mean=df))
    with eager(False):
        bad = x.merge(df)
        worse = bad + 1
    yield lambda: worse + 1
    yield lambda: worse.skb.eval()
    yield lambda: worse.skb.eval()
    yield lambda: bad.skb.eval()
    yield lambda: skrub.as_data_op(worse) + 1


def choices_before_marks():
    c = skrub.choose_from([1, 2], name="c")
    d = skrub.choose_int(1, 5)
    a = skrub.var("a")
    x = yield lambda: (a + c).skb.mark_as_X()
    y = yield lambda: a[d].skb.mark_as_y()
    pred = yield lambda: x.skb.apply(Ridge(alpha=skrub.choose_float(1, 2)), y=y)
    yield lambda: pred + 1
    ok = yield lambda: skrub.X().skb.apply(Ridge(alpha=d))
    yield lambda: ok + 1
    yield lambda: ok.skb.mark_as_y()
    yield lambda: a + skrub.choose_from([skrub.var("q") + d, 3])


def deferred_checks():
    """Built without checks, then with."""
    with eager(False):
        a, b = skrub.var("a"), skrub.var("b")
        x = a + b
        clash = x + skrub.var("a")
        for _ in range(3):
            x = x * 2 + b
            clash = clash * 2 + b
        big = x
        for _ in range(50):
            big = big + b
        bigger = big.skb.set_name("big")
    yield lambda: x + 1
    yield lambda: clash + 1
    yield lambda: clash.skb.eval({"a": 1, "b": 2})
    yield lambda: x.skb.eval({"a": 1, "b": 2})
    yield lambda: clash + 1
    yield lambda: big + 1
    yield lambda: bigger + 1
    yield lambda: bigger + x
    yield lambda: bigger + big
    yield lambda: bigger.skb.make_learner()
    yield lambda: clash.skb.make_learner()
    yield lambda: (bigger + 1).skb.set_name("a")


def failing_nodes():
    x = skrub.X()
    yield lambda: x.skb.apply(Stubborn())
    yield lambda: x.skb.apply(Ridge)
    yield lambda: add(x, Stubborn())
    loop = [1]
    loop.append(loop)
    yield lambda: add(x, loop)
    yield lambda: add(x, skrub.choose_from([Unprintable(), 2]))
    yield lambda: add(x, Unprintable())
    yield lambda: skrub.var("v", 1) / 0
    one = skrub.var("one", 1)
    yield lambda: nothing(one)
    yield lambda: nothing(x)
    yield lambda: one.missing
    yield lambda: _data_ops.BinOp(1)
    yield lambda: _data_ops.BinOp(1, 2, 3, 4)
    yield lambda: _data_ops.BinOp(1, 2, right=3)
    yield lambda: _data_ops.BinOp(1, right=2, op=3).__dict__.keys() == (
        _data_ops.BinOp(1, 2, 3).__dict__.keys()
    )


def preview(node):
    # Not `.skb.preview()`, which keeps skrub's own function.
    return _evaluation.evaluate(node, mode="preview")


def previews():
    a, b, v = skrub.var("a"), skrub.var("b"), skrub.var("v", 2)
    yield lambda: a + b
    yield lambda: v + b
    yield lambda: v + 1
    x = yield lambda: (v + 1) * b
    yield lambda: preview(x)
    yield lambda: preview(x + a)
    yield lambda: preview(a + x)
    yield lambda: (v / 0) + x
    yield lambda: x + (v / 0)
    yield lambda: v.skb.if_else(v + 1, b)
    yield lambda: v.skb.if_else(b, v)
    yield lambda: preview(v.skb.if_else(b, v) + a)
    yield lambda: preview(b.skb.if_else(a, v))
    yield lambda: preview(v.skb.match({2: a, 3: b}))
    yield lambda: preview(v.skb.match({2: 7, 3: b}))
    yield lambda: preview(add(v, [a, b]))
    yield lambda: preview(add(v, k=[{"deep": b}]))
    yield lambda: preview(add(v, skrub.choose_from([3, a])))
    yield lambda: preview(add(v, skrub.choose_from([b, a])))
    yield lambda: preview(b.skb.apply(Ridge(alpha=a)))
    yield lambda: preview(b.skb.apply(Ridge(), y=a))
    yield lambda: preview(b.skb.apply(a))
    yield lambda: preview(b.skb.apply("passthrough", cols=s.all()) + 1)
    yield lambda: preview((b + 1).skb.freeze_after_fit())
    yield lambda: [repr(n._skrub_impl.errors) for n in (a, b, v, x)]
    given = x.skb.set_data({"b": 10})
    yield lambda: given + 1
    yield lambda: (given + 1).skb.eval()
    yield lambda: x.skb.eval({"v": 1, "b": 3})
    yield lambda: x.skb.eval({"v": 1})


class BadKey:
    def __repr__(self):
        raise RuntimeError("no repr")


def labels():
    """The name of the node in errors is made only if there is one."""
    values = skrub.var("values", [1, 2])
    key = skrub.var("key", 7)
    yield lambda: values[7]
    yield lambda: values[key]
    yield lambda: values[key + 1]
    yield lambda: values[skrub.var("bad", BadKey())]
    yield lambda: values[[BadKey()]]
    yield lambda: values[key - 6]
    yield lambda: values[skrub.var("none")]
    yield lambda: values[key](1)
    with eager(False):
        item = add(values, pd.DataFrame({"a": [1]}))
    yield lambda: values[item]


def values_with_choices():
    """`set_data` puts values in without looking at them."""
    c = skrub.choose_from([1, 2], name="c")
    a = skrub.var("a")
    x = a + c
    y = skrub.var("y") + [1]
    new = y.skb.set_data({"y": [skrub.choose_from([3], name="c")]})
    yield lambda: new * 2
    yield lambda: new + x
    yield lambda: x + new
    free = skrub.var("y", [1]) + [1]
    yield lambda: free + x


def nested_helper(x):
    return add(x, 1)


def creation_lines():
    x = skrub.var("x")
    nodes = [
        x + 1,
        nested_helper(x),
        x["a"].b(2),
        [x + i for i in range(2)][1],
        x.skb.set_name("n"),
        (x + 1).skb.clone(),
        eval("x + 1"),
    ]
    for node in nodes:
        yield lambda node=node: node._skrub_impl.creation_stack()[-3:]
        yield lambda node=node: node._skrub_impl.creation_stack_last_line()
        yield lambda node=node: type(node._skrub_impl._creation_stack).__name__
    yield lambda: (nested_helper(skrub.var("one", "s"))).skb.eval()
    yield lambda: (skrub.var("z") / 0).skb.eval({"z": 1})


SCRIPTS = [
    duplicate_names,
    duplicate_choices,
    two_marks,
    two_scorings,
    shared_ids,
    clones,
    large_clones,
    inner_clones,
    dataframes,
    choices_before_marks,
    deferred_checks,
    failing_nodes,
    previews,
    labels,
    values_with_choices,
    creation_lines,
]


def neutral(text):
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    return re.sub(r"\d{30,}", "<id>", text)


def outcome_of(step):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = None
        try:
            result = step()
        except Exception as error:
            notes = getattr(error, "__notes__", [])
            cause = error.__cause__
            outcome = [
                type(error).__name__,
                neutral(str(error)),
                neutral("\n".join(notes)),
                f"{type(cause).__name__}: {neutral(str(cause))}",
            ]
        else:
            outcome = ["built", neutral(repr(result))]
    said = [[w.category.__name__, neutral(str(w.message))] for w in caught]
    return result, [outcome, said]


def run_script(script):
    steps = script()
    outcomes = []
    step = next(steps)
    while True:
        result, outcome = outcome_of(step)
        outcomes.append(outcome)
        try:
            step = steps.send(result)
        except StopIteration:
            return outcomes


def run_all(how):
    assert "stratum" not in sys.modules
    if how == "installed":
        load_building().install()
    return {script.__name__: run_script(script) for script in SCRIPTS}


@pytest.fixture(scope="module")
def outcomes():
    both = {}
    for how in ("plain", "installed"):
        script = f"import runpy; runpy.run_path({os.fspath(HERE)!r}, run_name='__main__')"
        done = forks.run(f"import sys; sys.path.insert(0, {os.fspath(HERE.parent)!r}); {script}", how)
        assert done.returncode == 0, done.stderr
        both[how] = json.loads(done.stdout)
    return both


@pytest.mark.parametrize("name", [script.__name__ for script in SCRIPTS])
def test_same_as_plain(outcomes, name):
    plain, installed = outcomes["plain"][name], outcomes["installed"][name]
    assert len(plain) == len(installed) > 3
    for number, (expected, found) in enumerate(zip(plain, installed)):
        assert found == expected, f"step {number} of {name}"


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("duplicate_names", ["ValueError"]),
        ("duplicate_choices", ["ValueError"]),
        ("two_marks", ["ValueError"]),
        ("two_scorings", ["ValueError"]),
        ("shared_ids", ["ValueError"]),
        ("large_clones", ["ValueError"]),
        ("inner_clones", ["ValueError"]),
        ("dataframes", ["TypeError"]),
        ("deferred_checks", ["ValueError"]),
        ("failing_nodes", ["RuntimeError", "TypeError", "CircularReferenceError"]),
        ("previews", ["UninitializedVariable", "RuntimeError"]),
        ("labels", ["RuntimeError", "TypeError"]),
        ("values_with_choices", ["ValueError"]),
    ],
)
def test_scripts_reach_what_they_are_for(outcomes, name, kinds):
    seen = [outcome[0] for outcome, _ in outcomes["plain"][name]]
    assert "built" in seen
    assert set(kinds) <= set(seen)


def test_warnings_were_compared(outcomes):
    said = [w for _, ws in outcomes["plain"]["choices_before_marks"] for w in ws]
    assert sum("construction of X or y" in text for _, text in said) >= 4


# ---------------------------------------------------------------------------
# In this process
# ---------------------------------------------------------------------------

_module = None


@pytest.fixture
def building():
    global _module
    if _module is None:
        _module = load_building()
    gc.collect()
    _module.install()
    try:
        yield _module
    finally:
        _module.uninstall()


class Full:
    """skrub's own conflict check, counting how often it is asked."""

    def __init__(self, module, monkeypatch):
        self.calls = 0
        self.original = module._originals["find_conflicts"]
        monkeypatch.setitem(module._originals, "find_conflicts", self)

    def __call__(self, data_op):
        self.calls += 1
        return self.original(data_op)


class Shadow:
    """Run skrub's checks beside ours at each step."""

    def __init__(self, module, monkeypatch):
        self.module = module
        self.steps = self.conflicts = 0
        for place, name in [
            (_evaluation, "find_conflicts"),
            (_data_ops, "_find_dataframe"),
            (_evaluation, "check_choices_before_Xy"),
        ]:
            monkeypatch.setattr(place, name, self.beside(place, name))

    def beside(self, place, name):
        ours, theirs = getattr(place, name), self.module._originals[name]

        def both(*args):
            with warnings.catch_warnings(record=True) as expected_said:
                warnings.simplefilter("always")
                expected = theirs(*args)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                found = ours(*args)
            assert len(said) == len(expected_said)
            assert (found is None) == (expected is None), (name, expected)
            if expected is not None:
                assert found["message"] == expected["message"]
                self.conflicts += 1
            self.steps += 1
            return found

        return both


def random_step(rng, pool, shared):
    """Build something from a few nodes of the pool."""

    def pick():
        return rng.choice(pool)

    action = rng.randrange(22)
    if action == 0:
        return skrub.var(rng.choice("abcdef"))
    if action == 1:
        return pick() + rng.choice(shared)
    if action == 2:
        return add(pick(), [pick(), {"k": pick()}])
    if action == 3:
        return pick().skb.set_name(rng.choice(["n", "m", "a", "k", "l", None]))
    if action == 4:
        return pick().skb.mark_as_X()
    if action == 5:
        return pick().skb.mark_as_y()
    if action == 6:
        return pick().skb.clone()
    if action == 7:
        return pickle.loads(pickle.dumps(pick()))
    if action == 8:
        return copy.copy(pick())
    if action == 9:
        return pick().skb.with_scoring("r2")
    if action == 10:
        with eager(False):
            return (pick() * pick()).skb.set_name(rng.choice(["n", "p", None]))
    if action == 11:
        return pick().skb.apply(Ridge(alpha=rng.choice(shared)), y=pick())
    if action == 12:
        return skrub.choose_from([pick(), pick()], name=rng.choice("cn")).as_data_op()
    if action == 13:
        return pick().skb.if_else(pick(), pick())
    if action == 14:
        return add(pick(), pick(), pick())
    if action < 18:
        return pick() + 1
    return pick() + pick()


@pytest.mark.parametrize("by_node", [64, 2])
@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(building, monkeypatch, seed, by_node):
    print("seed", seed)
    monkeypatch.setattr(building, "_MAX_BY_NODE", by_node)
    rng = random.Random(seed)
    shadow = Shadow(building, monkeypatch)
    built = 0
    for _ in range(6):
        pool = [skrub.var(name) for name in "abz"]
        pool += [pool[2] + i for i in range(3)]
        shared = [
            skrub.choose_from([1, 2], name="c"),
            skrub.choose_int(1, 9, name="d"),
            skrub.choose_from([3, 4]),
        ]
        for _ in range(60):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    node = random_step(rng, pool, shared)
                except (ValueError, TypeError) as error:
                    assert "assert" not in str(error)
                    continue
            built += 1
            pool.append(node)
            if rng.random() < 0.3:
                del pool[rng.randrange(len(pool))]
    assert built > 100
    assert shadow.steps > 300 and shadow.conflicts > 5
    del pool, shared, node
    gc.collect()
    assert building.table_sizes()["bits"] == 0


def build_chain(n, start=None):
    x = skrub.var("x") if start is None else start
    for _ in range(n):
        x = x + 1
    return x


@pytest.mark.slow
def test_long_chain_never_asks_skrub(building, monkeypatch):
    full = Full(building, monkeypatch)
    x = build_chain(100_000)
    assert full.calls == 0
    assert building.table_sizes()["nodes"] == 100_001
    with pytest.raises(ValueError, match="'x' was used for 2 different objects"):
        x + skrub.var("x")
    assert full.calls == 1
    del x
    gc.collect()
    assert building.table_sizes() == {
        "nodes": 0,
        "choices": 0,
        "bits": 0,
        "families": 0,
    }


def test_ladder_of_diamonds(building, monkeypatch):
    full = Full(building, monkeypatch)
    x = skrub.var("x").skb.set_name("w")
    for i in range(40):
        x = (x + 1) * (x["b"] - x)
        x = x.skb.set_name(f"level{i}") + skrub.var(f"v{i}")
    assert full.calls == 0
    assert building.preview_known_missing(x) == "w"


def test_long_chain_built_without_checks(building, monkeypatch):
    full = Full(building, monkeypatch)
    with eager(False):
        x = build_chain(5_000)
    assert building.table_sizes()["nodes"] == 0
    x = build_chain(50, x)
    assert full.calls == 1
    assert building.table_sizes()["nodes"] == 5_051
    twin = x.skb.clone()
    build_chain(50, twin)
    assert full.calls == 2


def test_copy_of_a_living_node_joined_often(building, monkeypatch):
    """A family is proved to have met nowhere without skrub's full check."""
    full = Full(building, monkeypatch)
    data = skrub.var("data")
    original = data["a"] + 1
    x = original.skb.mark_as_X()
    side = data["b"] + 1
    for i in range(200):
        x = x + side
        side = side * 2
    assert full.calls == 0
    (family,) = [f for f in building._by_uuid.values() if type(f) is building._Family]
    assert len(family.members) == 2
    assert len(family.reached) < 5 * 200
    with pytest.raises(ValueError, match="Node IDs must be unique"):
        x + (original * 2)


def test_missing_value_is_known_at_once(building, monkeypatch):
    evaluations = []
    original = building._originals["evaluate"]

    def counting(data_op, *args, **kwargs):
        evaluations.append(data_op)
        return original(data_op, *args, **kwargs)

    monkeypatch.setitem(building._originals, "evaluate", counting)
    x = build_chain(100)
    y = add(x, [1, x["k"]]).skb.apply(StandardScaler(), y=x)
    z = y.skb.if_else(1, 2).skb.match({1: 2}).skb.freeze_after_fit()
    assert building.preview_known_missing(z) == "x"
    assert not evaluations
    assert not z._skrub_impl.errors


def test_previews_of_keys_are_not_printed(building):
    printed = []

    class Key(int):
        def __repr__(self):
            printed.append(1)
            return "a key"

    values = skrub.var("values", [1, 2, 3])
    key = skrub.var("key", Key(1))
    assert values[key].skb.preview() == 2
    assert not printed
    with pytest.raises(RuntimeError, match=re.escape("Evaluation of '[a key]' failed")):
        values[skrub.var("key", Key(9))]
    assert printed


def test_value_missing_only_in_another_graph_is_not_remembered(building):
    class Holder:
        inner = skrub.var("inner")
        values = {}

    @skrub.deferred
    def outside(x):
        return Holder.inner.skb.eval(Holder.values)

    first = outside(skrub.var("one", 1))
    assert building.preview_known_missing(first) is None
    Holder.values["inner"] = 5
    assert (first + 1).skb.preview() == 6


@pytest.mark.filterwarnings("ignore:The following choices are used")
def test_nothing_leaks(building):
    gc.collect()
    before = building.table_sizes()
    assert before["bits"] == 0
    kept = skrub.var("kept") + 1
    for i in range(1000):
        choice = skrub.choose_from([1, 2], name="c")
        x = (skrub.var("a") + choice).skb.mark_as_X()
        y = skrub.var("b").skb.mark_as_y()
        pred = x.skb.apply(Ridge(alpha=choice), y=y).skb.set_name(f"p{i}")
        pred = pred + kept
        if i % 100 == 0:
            pred.skb.clone() + 1
    del choice, x, y, pred
    gc.collect()
    sizes = building.table_sizes()
    assert sizes["nodes"] <= 2 and sizes["choices"] == 0
    assert sizes["bits"] == 1 and sizes["families"] == 0
    assert len(building._slot_keys) < 500  # bits are used again
    del kept
    gc.collect()
    assert building.table_sizes() == before


def test_graphs_without_values_need_no_collector(building):
    gc.collect()
    gc.disable()
    try:
        x = build_chain(50, add(skrub.var("x"), 1))
        assert building.table_sizes()["nodes"] >= 50
        del x
        assert building.table_sizes()["nodes"] == 0
    finally:
        gc.enable()


def test_nothing_is_stored_on_skrub_objects(building):
    x = (skrub.var("x") + 1).skb.set_name("n")
    building.uninstall()
    plain = (skrub.var("x") + 1).skb.set_name("n")
    building.install()
    assert list(vars(x._skrub_impl)) == list(vars(plain._skrub_impl))
    assert type(x._skrub_impl._creation_stack) is list
    assert building.__name__.encode() not in pickle.dumps(x)


def test_ids_are_random_uuids(building):
    import uuid

    ids = [(skrub.as_data_op(1))._skrub_impl.uuid for _ in range(50)]
    assert len(set(ids)) == 50
    for number in ids:
        made = uuid.UUID(int=number)
        assert made.version == 4 and made.variant == uuid.RFC_4122


def test_threads_build_at_once(building):
    common = skrub.var("common") + 1
    failures, lines = [], []

    def work(number):
        try:
            x = common
            for i in range(150):
                x = (x + skrub.var(f"v{i}")).skb.set_name(f"n{i}") + common
            with contextlib.suppress(ValueError):
                x + skrub.var("common")
                lines.append(number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and not lines
    del common
    gc.collect()
    assert building.table_sizes()["nodes"] == 0


def test_graphs_meet_that_threads_built(building):
    base = skrub.var("base") + 1
    made = {}

    def work(number):
        made[number] = build_chain(100, base).skb.set_name(f"t{number % 3}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fine = add(made[0], made[1], made[2])
    with pytest.raises(ValueError, match="'t0' was used for 2 different objects"):
        fine + made[3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_child_process_builds_on_what_it_inherits(building):
    x = build_chain(10).skb.set_name("n")
    # as if another thread were inside at the time of the fork
    with building._lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                fresh = building.table_sizes()["nodes"] == 0
                y = build_chain(3, x) + skrub.var("other")
                try:
                    y + skrub.var("x")
                except ValueError:
                    status = 0 if fresh else 2
            finally:
                os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert building.table_sizes()["nodes"] == 11


def test_switched_off_by_the_predicate(building, monkeypatch):
    full = Full(building, monkeypatch)
    on = False
    building.install(lambda: on)
    x = build_chain(5)
    assert full.calls == 5 and building.table_sizes()["nodes"] == 0
    on = True
    x = x + 1
    assert full.calls == 5 and building.table_sizes()["nodes"] == 7
    building.install()
    build_chain(5, x)
    assert full.calls == 5


def test_uninstall_puts_everything_back():
    module = load_building()
    places = [
        (_evaluation, "find_conflicts"),
        (_evaluation, "check_choices_before_Xy"),
        (_evaluation, "evaluate"),
        (_data_ops, "_find_dataframe"),
        (_data_ops, "_data_op_creation_stack"),
        (skrub._data_ops._skrub_namespace.SkrubNamespace, "set_data"),
        (_data_ops.GetItem, "pretty_repr"),
        (_data_ops.BinOp, "__init__"),
        (_data_ops.Var, "__init__"),
    ]
    before = [getattr(place, name) for place, name in places]
    classes = [type(skrub.var("a")._skrub_impl), skrub.DataOp]
    module.install()
    module.install()
    assert module.installed()
    during = [getattr(place, name) for place, name in places]
    assert all(a is not b for a, b in zip(before, during))
    module.uninstall()
    module.uninstall()
    assert not module.installed()
    assert [getattr(place, name) for place, name in places] == before
    assert [type(skrub.var("a")._skrub_impl), skrub.DataOp] == classes


if __name__ == "__main__":
    json.dump(run_all(sys.argv[1]), sys.stdout)


def test_nothing_is_said_when_a_data_op_dies_after_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an interpreter ends, it empties modules before the last DataOps are gone."""
    from stratum.capture import building

    said: list[object] = []
    kept = [(skrub.var("dies late", 1) + 1) * skrub.choose_from([1, 2], name="dies too")]
    assert building.installed() and building.table_sizes()["nodes"]
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    monkeypatch.setattr(building, "_dead", None)
    kept.clear()
    gc.collect()
    monkeypatch.undo()
    assert not said
