"""From a seed to a recipe: the data, the graph and the entry points of one random case, as JSON.

A recipe holds no objects, so that each side builds the very same case in its own process
(``build``). Consecutive seeds walk systematically over the kinds of things that a case can have
(``rotate``): any 300 of them cover every kind, whatever the first seed. Within that, a case is
random; its numbers come from its seed alone.

The vocabulary of a recipe is described in ``build``.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

Expr = Any

CONTAINERS = ["pandas"] * 7 + ["polars", "numpy", "other"]
DTYPES = [
    "float64", "float32", "int64", "int8", "bool", "str", "object", "category",
    "datetime64", "Int64", "boolean", "arrow",
]  # fmt: skip
SPLITTERS = [
    "none", "int", "kfold", "stratified", "group", "shuffle", "repeated", "timeseries",
    "predefined", "iterable",
]  # fmt: skip
SCORERS = [
    "none", "string_regression", "string_labels", "string_probabilities", "list", "dict",
    "callable", "callable_dict", "make_scorer", "with_scoring", "with_scoring_several",
    "with_scoring_kwargs",
]  # fmt: skip
SEVERAL = ("list", "dict", "callable_dict", "with_scoring_several")
ENTRIES = [
    "grid_fit", "grid_fitted", "grid_no_refit", "grid_refit_string", "grid_refit_callable",
    "randomized_fit", "randomized_fitted", "cross_validate", "learner_cross_validate",
    "nested_cross_validate", "batch", "lazy_cross_validate", "lazy_eval", "eval", "learner",
    "iter_learners_grid", "iter_learners_randomized", "truncated_after",
]  # fmt: skip
# How a batch is run: its results as they come, errors among the results, or the first error raised.
BATCHES = ["completed", "return", "completed", "return", "raise"]
# What a case mainly shows, by rotation: searches twice in a round, as nothing else runs them; batches in each way. (All
# others come second.)
PRIMARY = [e for e in ENTRIES[:7] + ["nested_cross_validate"] for _ in range(2)] + len(BATCHES) * ["batch"]
SECONDARY = ["cross_validate", "eval", "learner", "lazy_cross_validate", "lazy_eval",
             "learner_cross_validate"]  # fmt: skip
CHOICES = [
    "from_list", "from_dict", "optional", "bool", "int_continuous", "int_steps",
    "float_continuous", "float_steps", "log", "nested", "in_estimator", "match",
    "estimators", "data_ops", "bool_if_else", "match_data_op", "unnamed", "in_key", "shared",
]  # fmt: skip
CONTINUOUS = ("int_continuous", "float_continuous")
NODES = [
    "Var", "Value", "GetAttr", "GetItem", "Call", "CallMethod", "BinOp", "UnaryOp", "Concat",
    "AsTuple", "IfElse", "Match", "FreezeAfterFit", "Apply", "AppliedEstimator", "EvalMode",
    "SplitX", "Scoring", "SubsamplePreviews", "ShouldSubsample",
]  # fmt: skip
USES_SPLITTER = frozenset(ENTRIES) - {"lazy_eval", "eval", "learner", *ENTRIES[-3:]}
GRID = frozenset({"grid_fit", "grid_fitted", "grid_no_refit", "grid_refit_string",
                  "grid_refit_callable", "nested_cross_validate"})  # fmt: skip
RANDOMIZED = frozenset({"randomized_fit", "randomized_fitted"})
NEEDS_VALUES = frozenset({"grid_fitted", "randomized_fitted"})


def _shuffled(name: str, block: int, n: int) -> list[int]:
    order = list(range(n))
    random.Random(f"{name}:{block}").shuffle(order)
    return order


def rotate(name: str, turn: int, items: Sequence[Any], k: int = 1) -> list[Any]:
    """``k`` items for one turn; consecutive turns go over all of them in shuffled rounds.

    Any n consecutive turns contain each item at least ``n * k // len(items) - 1`` times.
    """
    out = []
    for position in range(turn * k, turn * k + k):
        block, place = divmod(position, len(items))
        item = items[_shuffled(name, block, len(items))[place]]
        if item not in out:
            out.append(item)
    return out


def ref(name: str) -> Expr:
    """An expression: the object that a step made."""
    return {"$ref": name}


def fn(name: str) -> Expr:
    """An expression: a function of ``udf``."""
    return {"$fn": name}


def est(name: str, /, **params: Expr) -> Expr:
    """An expression: a new estimator."""
    return {"$est": name, "params": params}


@dataclasses.dataclass
class Frame:
    """What the generator knows about a node that holds a table."""

    id: str
    container: str
    cols: dict[str, str]

    def pick(self, rng: random.Random, *dtypes: str) -> str | None:
        """The name of a column of one of these types."""
        names = [c for c, d in self.cols.items() if d in dtypes]
        return rng.choice(names) if names else None

    def having(self, node: str, **cols: str) -> Frame:
        """Another node with the same columns and some more."""
        return Frame(node, self.container, {**self.cols, **cols})


FLOATS = ("float64", "float32")
NUMBERS = ("float64", "float32", "int64", "int8")

# name -> (parameters that take a real number, that take an integer, that take a Boolean)
REGRESSORS: dict[str, tuple[dict[str, Any], dict[str, tuple], dict[str, tuple], list[str]]] = {
    "Ridge": ({}, {"alpha": (0.1, 10.0)}, {}, ["fit_intercept"]),
    "Lasso": ({"max_iter": 200}, {"alpha": (0.01, 1.0)}, {}, ["fit_intercept"]),
    "LinearRegression": ({}, {}, {}, ["fit_intercept"]),
    "DecisionTreeRegressor": (
        {"random_state": 0, "max_depth": 3}, {}, {"max_depth": (1, 4), "min_samples_leaf": (1, 5)}, [],
    ),
    "KNeighborsRegressor": ({"n_neighbors": 3}, {}, {"n_neighbors": (1, 4)}, []),
    "Shrink": ({}, {"shrink": (0.1, 0.9)}, {}, []),
    "DummyRegressor": ({}, {}, {}, []),
    "RandomForestRegressor": (
        {"n_estimators": 3, "max_depth": 3, "random_state": {"$rng": 5}}, {}, {"max_depth": (1, 3)}, [],
    ),
    "HistGradientBoostingRegressor": (
        {"max_iter": 2, "random_state": 0, "min_samples_leaf": 3}, {"learning_rate": (0.1, 0.9)}, {}, [],
    ),
    "LGBMRegressor": (
        {"n_estimators": 3, "n_jobs": 1, "verbose": -1, "random_state": 0, "min_child_samples": 3},
        {"learning_rate": (0.1, 0.9)}, {}, [],
    ),
    "XGBRegressor": (
        {"n_estimators": 2, "n_jobs": 1, "random_state": 0}, {"learning_rate": (0.1, 0.9)},
        {"max_depth": (1, 3)}, [],
    ),
}  # fmt: skip
CLASSIFIERS: dict[str, tuple[dict[str, Any], dict[str, tuple], dict[str, tuple], list[str]]] = {
    "LogisticRegression": ({"max_iter": 40}, {"C": (0.1, 10.0)}, {}, ["fit_intercept"]),
    "DecisionTreeClassifier": (
        {"random_state": 0, "max_depth": 3}, {}, {"max_depth": (1, 4), "min_samples_leaf": (1, 5)}, [],
    ),
    "KNeighborsClassifier": ({"n_neighbors": 3}, {}, {"n_neighbors": (1, 4)}, []),
    "GaussianNB": ({}, {"var_smoothing": (1e-9, 1e-3)}, {}, []),
    "Nearest": ({}, {"power": (0.25, 4.0)}, {}, []),
    "DummyClassifier": ({"strategy": "prior"}, {}, {}, []),
    "RandomForestClassifier": (
        {"n_estimators": 3, "max_depth": 3, "random_state": {"$rng": 5}}, {}, {"max_depth": (1, 3)}, [],
    ),
    "HistGradientBoostingClassifier": (
        {"max_iter": 2, "random_state": 0, "min_samples_leaf": 3}, {"learning_rate": (0.1, 0.9)}, {}, [],
    ),
    "LGBMClassifier": (
        {"n_estimators": 3, "n_jobs": 1, "verbose": -1, "random_state": 0, "min_child_samples": 3},
        {"learning_rate": (0.1, 0.9)}, {}, [],
    ),
}  # fmt: skip
WEIGHTED = ("Ridge", "Shrink", "Nearest", "LogisticRegression", "DecisionTreeRegressor",
            "DecisionTreeClassifier", "GaussianNB")  # fmt: skip
COMMON_REGRESSORS = ["Ridge", "Shrink", "DecisionTreeRegressor", "KNeighborsRegressor", "Lasso",
                     "LinearRegression"]  # fmt: skip
COMMON_CLASSIFIERS = ["LogisticRegression", "Nearest", "DecisionTreeClassifier",
                      "KNeighborsClassifier", "GaussianNB"]  # fmt: skip


class Generator:
    """One recipe in the making."""

    def __init__(self, seed: int, rows: int = 1) -> None:
        self.seed, self.rows = seed, rows
        self.rng = random.Random(f"recipe:{seed}")
        self.steps: list[dict[str, Any]] = []
        self.tables: dict[str, dict[str, Any]] = {}
        self.variables: dict[str, str] = {}
        self.counter = 0
        self.tags: list[str] = []
        self.size = 1  # candidates so far
        self.named_values: dict[str, list[Expr]] = {}  # name of a choice -> legal overrides

    # -- small things -------------------------------------------------------

    def fresh(self, prefix: str) -> str:
        """A name that nothing else has."""
        self.counter += 1
        return f"{prefix}{self.counter}"

    def add(self, op: str, **fields: Any) -> str:
        """Append a step, and say its name."""
        name = self.fresh("s")
        self.steps.append({"id": name, "op": op, **fields})
        return name

    def call(self, func: Expr, *args: Expr, how: str | None = None, **kwargs: Expr) -> str:
        """A function call, deferred, by ``apply_func`` or on a node that holds the function."""
        if how is None:
            how = self.rng.choice(["deferred", "deferred", "apply_func"])
        if how == "apply_func" and not (args and isinstance(args[0], dict) and "$ref" in args[0]):
            how = "deferred"
        return self.add("call", how=how, func=func, args=list(args), kwargs=kwargs)

    def method(self, obj: str, name: str, *args: Expr, **kwargs: Expr) -> str:
        """A method call."""
        return self.add("method", obj=ref(obj), name=name, args=list(args), kwargs=kwargs)

    def item(self, obj: str, key: Expr) -> str:
        """An item."""
        return self.add("getitem", obj=ref(obj), key=key)

    def attr(self, obj: str, name: Expr) -> str:
        """An attribute."""
        return self.add("getattr", obj=ref(obj), name=name)

    def bin(self, op: str, left: Expr, right: Expr) -> str:
        """A binary operation."""
        return self.add("binop", op_name=op, left=left, right=right)

    def apply(self, obj: str, estimator: Expr, **kwargs: Expr) -> str:
        """An estimator applied."""
        return self.add("apply", obj=ref(obj), estimator=estimator, kwargs=kwargs)

    # -- the parts of a recipe ------------------------------------------------

    def choice(self, kind: str, tag: str, /, *, name: str | None = "auto", **args: Expr) -> Expr:
        """Make a choice object (a step) and give an expression for it."""
        if name == "auto":
            name = self.fresh("c")
        step = self.add("choice", kind=kind, name=name, args=args, tag=tag)
        return ref(step)

    def constant(self) -> Expr:
        """A number, of those that an engine could confuse."""
        return self.rng.choice(
            [-1, -2, 1, 2, 1.0, True, 0.5, {"$float": "-0.0"}, 0.0, 0, -1.0, {"$np": ["int64", 2]},
             {"$np": ["float32", 0.5]}, {"$np": ["float64", -2.0]}, 3]
        )  # fmt: skip


def _assign(g: Generator, f: Frame, node: str, dtype: str = "float64") -> Frame:
    name = g.fresh("f")
    return f.having(g.method(f.id, "assign", **{name: ref(node)}), **{name: dtype})


# --------------------------------------------------------------------------
# steps on pandas frames


def pd_arith(g: Generator, f: Frame) -> Frame:
    """Operators between columns and constants of several types."""
    a = g.item(f.id, f.pick(g.rng, "float64", "int64"))
    first = g.bin(g.rng.choice(["add", "mul", "sub"]), ref(a), g.constant())
    second = g.bin(g.rng.choice(["add", "mul", "sub", "truediv"]), ref(a), g.constant())
    left, right = (first, second) if g.rng.random() < 0.5 else (second, first)
    return _assign(g, f, g.bin(g.rng.choice(["sub", "add", "mul"]), ref(left), ref(right)))


def pd_shift(g: Generator, f: Frame) -> Frame:
    """Two shifts that differ in -1 and -2 alone."""
    a = g.item(f.id, "n0")
    one, two = g.method(a, "shift", -1), g.method(a, "shift", -2)
    return _assign(g, f, g.bin("sub", ref(g.bin("add", ref(one), 0.5)), ref(g.bin("mul", ref(two), 2))))


def pd_swap(g: Generator, f: Frame) -> Frame:
    """The same function with its arguments swapped."""
    a, b = g.item(f.id, "n0"), g.item(f.id, "i0")
    one = g.call(fn("weighted"), ref(a), ref(b), how="deferred")
    two = g.call(fn("weighted"), ref(b), ref(a), how="deferred")
    return _assign(g, _assign(g, f, one), two)


def pd_column_order(g: Generator, f: Frame) -> Frame:
    """The same two columns in two orders."""
    one = g.call(fn("first_minus_second"), ref(g.item(f.id, ["n0", "i0"])))
    two = g.call(fn("first_minus_second"), ref(g.item(f.id, ["i0", "n0"])))
    return _assign(g, _assign(g, f, one), two)


def pd_keywords(g: Generator, f: Frame) -> Frame:
    """Calls that differ in a keyword alone, or in a default."""
    one = g.call(fn("add_scaled"), ref(f.id), k=1, name=(x := g.fresh("f")))
    two = g.call(fn("add_scaled"), ref(one), k=g.rng.choice([100, 1.5, -1]), name=(y := g.fresh("f")))
    three = g.call(fn("add_scaled"), ref(two), name=(z := g.fresh("f")))
    return f.having(three, **{x: "float64", y: "float64", z: "float64"})


def pd_unary(g: Generator, f: Frame) -> Frame:
    """Unary operators."""
    a = g.item(f.id, "n0")
    out = _assign(g, f, g.add("unary", op_name=g.rng.choice(["neg", "abs", "pos"]), operand=ref(a)))
    if (b := f.pick(g.rng, "bool", "boolean")) is not None:
        out = _assign(g, out, g.add("unary", op_name="invert", operand=ref(g.item(f.id, b))), "bool")
    return out


def pd_accessors(g: Generator, f: Frame) -> Frame:
    """Attributes of attributes: ``.dt`` and ``.str``."""
    if (d := f.pick(g.rng, "datetime64")) is not None:
        dt = g.attr(g.item(f.id, d), "dt")
        f = _assign(g, f, g.attr(dt, g.rng.choice(["day", "month", "dayofweek"])), "int64")
    s = g.attr(g.item(f.id, "s0"), "str")
    f = _assign(g, f, g.method(s, "len"), "int64")
    if g.rng.random() < 0.5:
        f = _assign(g, f, g.method(g.attr(g.item(f.id, "s0"), "str"), "count", "a"), "int64")
    return f


def pd_reach(g: Generator, f: Frame) -> Frame:
    """A function that reaches a node by its closure, a default or a global name."""
    mean = g.call(fn("total"), ref(g.attr(f.id, "shape")))
    how = g.rng.choice(["closure", "default", "kwdefault", "global"])
    return f.having(g.add("reach", how=how, value=ref(mean), args=[ref(f.id)], kwargs={}))


def pd_unpack(g: Generator, f: Frame) -> Frame:
    """Unpacking a tuple or an iterator, and putting the parts together again."""
    if g.rng.random() < 0.6:
        pair = g.call(fn("halves"), ref(f.id))
        a, b = g.fresh("s"), g.fresh("s")
        g.steps.append({"id": g.fresh("s"), "op": "unpack", "obj": ref(pair), "names": [a, b]})
        out = g.add("concat", first=ref(a), others=[ref(b)], axis=1)
    else:
        trio = g.call(fn("thirds"), ref(f.id))
        a, b, c = g.fresh("s"), g.fresh("s"), g.fresh("s")
        g.steps.append({"id": g.fresh("s"), "op": "unpack", "obj": ref(trio), "names": [a, b, c]})
        both = g.add("concat", first=ref(a), others=[ref(b)], axis=1)
        out = g.call(fn("scale_by"), ref(both), ref(c), how="apply_func", name="thirds")
        f = f.having(out, thirds="float64")
    return f.having(out)


def pd_if_else(g: Generator, f: Frame) -> Frame:
    """A branch on data, on the evaluation mode, or on a constant."""
    how = g.rng.choice(["data", "mode", "value"])
    if how == "data":
        mean = g.method(g.item(f.id, "i0"), "mean")
        condition = g.bin(g.rng.choice(["gt", "le"]), ref(mean), 2.0)
    elif how == "mode":
        condition = g.bin(g.rng.choice(["eq", "ne"]), ref(g.add("eval_mode")), "predict")
    else:
        condition = g.add("value", value=g.rng.choice([True, False, 0, 1, "", "x"]))
    name = g.fresh("f")
    yes = g.call(fn("add_scaled"), ref(f.id), k=1.0, name=name)
    no = g.call(fn("add_scaled"), ref(f.id), k=-3.0, name=name)
    out = g.add("if_else", obj=ref(condition), yes=ref(yes), no=ref(no))
    return f.having(out, **{name: "float64"})


def pd_match(g: Generator, f: Frame) -> Frame:
    """``match`` on a value computed from data."""
    name = g.fresh("f")
    if g.rng.random() < 0.5:
        query = g.add("eval_mode")
        targets = {"predict": ref(g.call(fn("add_scaled"), ref(f.id), k=2.0, name=name))}
        default = ref(g.call(fn("add_scaled"), ref(f.id), k=1.0, name=name))
        out = g.add("match", obj=ref(query), targets=targets, default=default)
    else:
        parity = g.bin("mod", ref(g.item(g.attr(f.id, "shape"), 0)), 2)
        targets = {
            "$dict": [
                [0, ref(g.call(fn("add_scaled"), ref(f.id), k=2.0, name=name))],
                [1, ref(g.call(fn("add_scaled"), ref(f.id), k=-0.5, name=name))],
            ]
        }
        out = g.add("match", obj=ref(parity), targets=targets)
    return f.having(out, **{name: "float64"})


def pd_freeze(g: Generator, f: Frame) -> Frame:
    """A statistic of the training rows, kept for the rows to come."""
    statistic = g.method(g.item(f.id, "i0"), g.rng.choice(["mean", "max", "sum"]))
    frozen = g.add("freeze", obj=ref(statistic))
    centred = g.bin("sub", ref(g.item(f.id, "i0")), ref(frozen))
    return _assign(g, f, centred)


def pd_concat_rows(g: Generator, f: Frame) -> Frame:
    """Rows stacked; a statistic of the stack."""
    stacked = g.add("concat", first=ref(f.id), others=[ref(f.id)], axis=0)
    statistic = g.method(g.item(stacked, "n0"), "count")
    return f.having(g.call(fn("scale_by"), ref(f.id), ref(statistic), name=(x := g.fresh("f"))), **{x: "float64"})


def pd_scale(g: Generator, f: Frame) -> Frame:
    """A scaler on some columns."""
    cols = [c for c, d in f.cols.items() if d in NUMBERS][: g.rng.choice([1, 2, 3])]
    estimator = g.rng.choice(
        [est("StandardScaler"), est("MinMaxScaler"), est("StandardScaler", with_mean=False),
         est("RobustScaler"), est("SquashingScaler")]
    )  # fmt: skip
    if "int8" in {f.cols[c] for c in cols} or "float32" in {f.cols[c] for c in cols}:
        estimator = est("StandardScaler")
    clean = g.call(fn("finite_columns"), ref(f.id), cols)
    key = g.rng.choice(["cols", "cols", "selector"])
    selected = cols if key == "cols" else {"$sel": "cols", "args": cols}
    return f.having(g.apply(clean, estimator, cols=selected))


def pd_onehot(g: Generator, f: Frame) -> Frame:
    """An encoder of strings."""
    estimator = g.rng.choice(
        [est("OneHotEncoder", sparse_output=False, handle_unknown="ignore"),
         est("OrdinalEncoder", handle_unknown="use_encoded_value", unknown_value=-1),
         est("ToCategorical"), est("MinHashEncoder", n_components=2)]
    )  # fmt: skip
    out = g.apply(f.id, estimator, cols=g.rng.choice(["s0", ["s0"]]))
    cols = {c: d for c, d in f.cols.items() if c != "s0"}
    return Frame(out, f.container, cols)


def pd_text(g: Generator, f: Frame) -> Frame:
    """An encoder of text, by a randomized SVD.

    Of texts that are so often there that no two singular values are equal: their vectors would be anybody's choice. And
    not before a classifier: rounding in single precision (1e-6) moves rows that lie between two classes.
    """
    if g.task != "regression":
        return pd_onehot(g, f) if "s0" in f.cols else pd_passthrough(g, f)
    texts = g.call(fn("with_text"), ref(f.id))
    return f.having(g.apply(texts, est("StringEncoder", n_components=2, random_state=0), cols="text"))


def pd_passthrough(g: Generator, f: Frame) -> Frame:
    """Steps that do nothing."""
    return f.having(g.apply(f.id, g.rng.choice([None, "passthrough"])))


def pd_custom(g: Generator, f: Frame) -> Frame:
    """The user's own transformer on some columns or on the frame as a whole."""
    how = g.rng.choice(["mean", "median"])
    if g.rng.random() < 0.5:
        sub = g.item(f.id, ["n0", "i0"])
        out = g.apply(sub, est("Centre", how=how, factor=2.0), no_wrap=True)
        return _assign(g, f, g.item(out, "n0"))
    return f.having(g.apply(f.id, est("Centre", how=how), cols=["n0", "i0"]))


def pd_supervised(g: Generator, f: Frame) -> Frame:
    """A transformer that looks at the target."""
    if g.y_node is None:
        return pd_custom(g, f)
    numbers = g.call(fn("numeric"), ref(g.item(f.id, ["n0", "i0"])))
    score = "f_regression" if g.task == "regression" else "f_classif"
    out = g.apply(numbers, est("SelectKBest", score_func={"$attr": f"sklearn.feature_selection.{score}"}, k=1),
                  y=ref(g.y_node))  # fmt: skip
    return f.having(g.call(fn("join_columns"), ref(f.id), ref(out)))


def pd_applied(g: Generator, f: Frame) -> Frame:
    """Something that a fitted estimator knows, used further down."""
    numbers = g.call(fn("numeric"), ref(g.item(f.id, ["n0", "i0"])))
    scaled = g.apply(numbers, est("StandardScaler"), no_wrap=True)
    fitted = g.add("applied_estimator", obj=ref(scaled))
    mean = g.item(g.attr(fitted, "mean_"), g.rng.choice([0, 1, -1]))
    return f.having(g.call(fn("scale_by"), ref(f.id), ref(mean), name=(x := g.fresh("f"))), **{x: "float64"})


def pd_mode(g: Generator, f: Frame) -> Frame:
    """A function that is told the evaluation mode."""
    out = g.call(fn("mode_shift"), ref(f.id), ref(g.add("eval_mode")))
    return f.having(out, mode_shift="float64")


def pd_select(g: Generator, f: Frame) -> Frame:
    """Columns chosen or dropped by names and by selectors."""
    spare = [c for c in f.cols if c not in ("n0", "i0", "s0")]
    gone = spare[:1]
    if g.rng.random() < 0.5 and gone:
        out = g.add("drop", obj=ref(f.id), cols=g.rng.choice([gone, {"$sel": "cols", "args": gone}]))
        return Frame(out, f.container, {c: d for c, d in f.cols.items() if c not in gone})
    cols = [c for c in f.cols if c not in gone]
    out = g.add("select", obj=ref(f.id), cols=cols)
    return Frame(out, f.container, {c: f.cols[c] for c in cols})


def pd_merge(g: Generator, f: Frame) -> Frame:
    """A join with a second table by a key."""
    name = "aux"
    if name not in g.variables:
        g.tables[name] = {"kind": "lookup", "n": 6, "seed": g.seed % 1000}
        g.variables[name] = g.add("var", name=name, table=name, value=g.with_values,
                                  becomes_default=g.with_values and g.rng.random() < 0.4)  # fmt: skip
    aux = g.variables[name]
    out = g.method(f.id, "merge", ref(aux), on="s0", how="left")
    return f.having(out, rate="float64")


def pd_group(g: Generator, f: Frame) -> Frame:
    """A statistic by group, given back to the rows."""
    grouped = g.method(g.item(f.id, "n0"), "groupby", ref(g.item(f.id, "s0")))
    return _assign(g, f, g.method(grouped, "transform", g.rng.choice(["mean", "count"])))


def pd_where(g: Generator, f: Frame) -> Frame:
    """A mask made by comparisons and logic."""
    a = g.item(f.id, "i0")
    mask = g.bin(g.rng.choice(["and_", "or_", "xor"]), ref(g.bin("gt", ref(a), 1)),
                 ref(g.bin("le", ref(a), g.rng.choice([4, 4.0, True]))))  # fmt: skip
    return _assign(g, f, g.method(g.item(f.id, "n0"), "where", ref(mask), g.rng.choice([-1.0, -2.0])))


def pd_callable_node(g: Generator, f: Frame) -> Frame:
    """A call of a node that holds a function or an object of the user's class."""
    how = g.rng.choice(["function", "object", "method", "table"])
    if how == "function":
        holder = g.add("value", value=fn("add_scaled"))
        return f.having(g.call(ref(holder), ref(f.id), how="node", k=3.0, name="called"))
    holder = g.add("value", value={"$fn": "Table", "call": [g.rng.choice([2.0, -1.0, -2.0])]})
    if how == "object":
        return f.having(g.call(ref(holder), ref(f.id), how="node"))
    if how == "method":
        return f.having(g.method(holder, "apply_to", ref(f.id), extra=0.5))
    choice = g.add("value", value={"double": {"$lambda": "double"}, "minus": {"$lambda": "minus"}})
    return f.having(g.call(ref(g.item(choice, g.rng.choice(["double", "minus"]))), ref(f.id), how="node"))


def pd_lambda(g: Generator, f: Frame) -> Frame:
    """Lambdas with the same code and another constant."""
    one = g.call({"$lambda": "minus"}, ref(f.id))
    two = g.call({"$lambda": "minus2"}, ref(one))
    return f.having(g.call({"$fn": "make_lambda", "call": [g.rng.choice([3.0, -1.0])]}, ref(two)))


def pd_constants(g: Generator, f: Frame) -> Frame:
    """The same call with 1, 1.0, True, 0.0 and -0.0."""
    for value in g.rng.sample([1, 1.0, True, 0.0, {"$float": "-0.0"}, 0, False], 3):
        name = g.fresh("f")
        f = f.having(g.call(fn("add_constant"), ref(f.id), value, name=name), **{name: "float64"})
    return f


def pd_mutate(g: Generator, f: Frame) -> Frame:
    """Functions that change, in place, what another one made; nothing else reads it."""
    made, changed = g.rng.choice(
        [("fresh_weights", "mutate_array"), ("fresh_list", "mutate_list"), ("fresh_frame", "mutate_frame")]
    )
    k = g.choice("choose_from", "from_list", outcomes=[2.0, 3.0]) if g.room(2) else 3.0
    step = g.call(fn(changed), ref(g.call(fn(made))), how="deferred", k=k)
    number = g.call(fn("total"), ref(step))
    return f.having(g.call(fn("scale_by"), ref(f.id), ref(number), name=(x := g.fresh("f"))), **{x: "float64"})


def pd_subsampled(g: Generator, f: Frame) -> Frame:
    """A function that asks whether a subsample is taken."""
    asked = g.add("should_subsample")
    return f.having(g.call(fn("maybe_subsampled"), ref(f.id), ref(asked)), sub="float64")


def pd_named(g: Generator, f: Frame) -> Frame:
    """A named, described node, which the environment may override."""
    number = g.add("value", value=g.rng.choice([2.0, 3]))
    scaled = g.bin("mul", ref(number), 1.5)
    name = g.fresh("node")
    named = g.add("set_name", obj=ref(scaled), name=name, description="a factor")
    g.named_values[name] = [0.25, 5]
    return f.having(g.call(fn("scale_by"), ref(f.id), ref(named), name=(x := g.fresh("f"))), **{x: "float64"})


def pd_datetime(g: Generator, f: Frame) -> Frame:
    """An encoder of dates, rejecting the other columns."""
    if f.pick(g.rng, "datetime64") is None:
        return pd_passthrough(g, f)
    out = g.apply(f.id, est("DatetimeEncoder", resolution="day", add_weekday=True), allow_reject=True)
    return Frame(out, f.container, {c: d for c, d in f.cols.items() if d != "datetime64"})


def pd_clean(g: Generator, f: Frame) -> Frame:
    """skrub's cleaner over the frame; types change."""
    out = g.apply(f.id, est("Cleaner", drop_null_fraction=None))
    return Frame(out, f.container, {c: d for c, d in f.cols.items() if c in ("n0", "i0", "s0")})


def pd_frozen_predictor(g: Generator, f: Frame) -> Frame:
    """Predictions of one model as a column for the next."""
    if g.y_node is None:
        return pd_custom(g, f)
    numbers = g.call(fn("numeric"), ref(g.item(f.id, ["n0", "i0"])))
    model = est("Shrink") if g.task == "regression" else est("Nearest")
    pred = g.apply(numbers, model, y=ref(g.y_node))
    return f.having(g.call(fn("with_predictions"), ref(f.id), ref(pred)), predicted="float64")


def pd_introspect(g: Generator, f: Frame) -> Frame:
    """A function that looks at the index and the types."""
    out = g.call(fn("introspect"), ref(f.id))
    return f.having(out, kind_code="float64")


def pd_names(g: Generator, f: Frame) -> Frame:
    """Columns side by side whose names in ``fit`` differ from those in ``predict``."""
    other = g.call(fn("named_by_mode"), ref(f.id), ref(g.add("eval_mode")), how="deferred")
    both = g.add("concat", first=ref(f.id), others=[ref(other)], axis=1)
    number = g.call(fn("names_of"), ref(both))
    return f.having(g.call(fn("scale_by"), ref(f.id), ref(number), name=(x := g.fresh("f"))), **{x: "float64"})


PANDAS_STEPS: list[Callable[[Generator, Frame], Frame]] = [
    pd_arith, pd_shift, pd_swap, pd_column_order, pd_keywords, pd_unary, pd_accessors, pd_reach,
    pd_unpack, pd_if_else, pd_match, pd_freeze, pd_concat_rows, pd_scale, pd_onehot,
    pd_passthrough, pd_custom, pd_supervised, pd_applied, pd_mode, pd_select, pd_merge, pd_group,
    pd_where, pd_callable_node, pd_lambda, pd_constants, pd_mutate, pd_subsampled, pd_named,
    pd_datetime, pd_clean, pd_frozen_predictor, pd_introspect, pd_names,
]  # fmt: skip
# Kinds of nodes that a single step above makes: these steps come twice in a round.
PANDAS_STEPS += [pd_freeze, pd_applied, pd_subsampled, pd_unpack, pd_unary, pd_if_else]
PANDAS_STEPS += [pd_if_else, pd_freeze, pd_applied]
PANDAS_STEPS += 3 * [pd_text]


# --------------------------------------------------------------------------
# steps on polars frames


def pl_arith(g: Generator, f: Frame) -> Frame:
    """Operators between columns."""
    a = g.item(f.id, "n0")
    total = g.bin("add", ref(g.bin("mul", ref(a), g.rng.choice([-1, -2, 0.5]))), ref(g.item(f.id, "i0")))
    name = g.fresh("f")
    return f.having(g.method(f.id, "with_columns", **{name: ref(total)}), **{name: "float64"})


def pl_expression(g: Generator, f: Frame) -> Frame:
    """A Polars expression as an argument."""
    name = g.fresh("f")
    out = g.method(f.id, "with_columns", {"$pl": ["n0", g.rng.choice([-1.0, -2.0, 3.0]), name]})
    return f.having(out, **{name: "float64"})


def pl_select(g: Generator, f: Frame) -> Frame:
    """Columns in another order."""
    out = g.item(f.id, list(reversed(list(f.cols))))
    return Frame(out, f.container, dict(reversed(list(f.cols.items()))))


def pl_scale(g: Generator, f: Frame) -> Frame:
    """A scaler on one column."""
    return f.having(g.apply(f.id, est("StandardScaler"), cols=["i0"]))


def pl_onehot(g: Generator, f: Frame) -> Frame:
    """An encoder on one column."""
    out = g.apply(f.id, est("ToCategorical"), cols="s0")
    return Frame(out, f.container, {c: d for c, d in f.cols.items() if c != "s0"})


def pl_unpack(g: Generator, f: Frame) -> Frame:
    """Rows and columns by unpacking the shape."""
    shape = g.attr(f.id, "shape")
    a, b = g.fresh("s"), g.fresh("s")
    g.steps.append({"id": g.fresh("s"), "op": "unpack", "obj": ref(shape), "names": [a, b]})
    return f.having(g.call(fn("scale_by"), ref(f.id), ref(b), name=(x := g.fresh("f"))), **{x: "float64"})


GENERIC = [pd_keywords, pd_if_else, pd_match, pd_constants, pd_mode, pd_callable_node, pd_lambda,
           pd_reach, pd_subsampled, pd_mutate, pd_named, pd_introspect, pd_names]  # fmt: skip
POLARS_STEPS = [pl_arith, pl_expression, pl_select, pl_scale, pl_onehot, pl_unpack, *GENERIC]
POLARS_STEPS.remove(pd_if_else)


# --------------------------------------------------------------------------
# steps on NumPy arrays


def np_columns(g: Generator, f: Frame) -> Frame:
    """Columns by a slice and a list, put side by side."""
    everything = {"$slice": [None, None, None]}
    a = g.item(f.id, {"$tuple": [everything, {"$slice": [None, None, -1]}]})
    b = g.item(f.id, {"$tuple": [everything, [0, 1]]})
    return f.having(g.add("concat", first=ref(a), others=[ref(b)], axis=1))


def np_arith(g: Generator, f: Frame) -> Frame:
    """Operators on whole arrays."""
    total = g.bin(g.rng.choice(["add", "mul", "sub"]), ref(f.id), g.constant())
    return f.having(g.add("unary", op_name=g.rng.choice(["neg", "abs"]), operand=ref(total)))


def np_product(g: Generator, f: Frame) -> Frame:
    """A matrix product with a constant."""
    clean = g.call(fn("numeric"), ref(f.id))
    sub = g.item(clean, {"$tuple": [{"$slice": [None, None, None]}, {"$slice": [0, 2, None]}]})
    weights = g.add("value", value={"$array": [[1.0, -1.0], [0.5, 2.0]]})
    out = g.bin("matmul", ref(sub), ref(weights))
    return f.having(g.add("concat", first=ref(clean), others=[ref(out)], axis=1))


def np_scale(g: Generator, f: Frame) -> Frame:
    """A transformer."""
    clean = g.call(fn("numeric"), ref(f.id))
    estimator = g.rng.choice([est("StandardScaler"), est("PCA", n_components=2, random_state=0), est("Centre")])
    return f.having(g.apply(clean, estimator))


def np_dtype(g: Generator, f: Frame) -> Frame:
    """Another precision."""
    return f.having(g.method(f.id, "astype", g.rng.choice(["float32", "float64"])))


NUMPY_STEPS = [np_columns, np_arith, np_product, np_scale, np_dtype, *GENERIC]
NUMPY_STEPS.remove(pd_if_else)

STEPS = {"pandas": PANDAS_STEPS, "polars": POLARS_STEPS, "numpy": NUMPY_STEPS}


# --------------------------------------------------------------------------
# joins of two branches


def join(g: Generator, a: Frame, b: Frame, how: str) -> Frame:
    """Bring two branches together."""
    if how == "concat" and a.container != "polars":
        return a.having(g.add("concat", first=ref(a.id), others=[ref(b.id)], axis=1))
    if how == "sum":
        return a.having(g.call(fn("sum_matrices"), ref(a.id), ref(b.id), how="deferred"))
    if how == "list":
        return a.having(g.call(fn("join_list"), [ref(a.id), ref(b.id)], how="deferred"))
    if how == "tuple":
        return a.having(g.call(fn("join_list"), {"$tuple": [ref(a.id), ref(b.id)]}, how="deferred"))
    if how == "dict":
        return a.having(g.call(fn("join_dict"), {"z": ref(a.id), "a": ref(b.id)}, how="deferred"))
    if how == "operator":
        ma = g.call(fn("matrix"), ref(a.id))
        first = {"$tuple": [{"$slice": [None, None, None]}, {"$slice": [0, 2, None]}]}
        left, right = g.item(ma, first), g.item(g.call(fn("matrix"), ref(b.id)), first)
        both = g.bin(g.rng.choice(["sub", "add"]), ref(left), ref(right))
        out = g.add("concat", first=ref(ma), others=[ref(both)], axis=1)
        return Frame(out, "numpy", {})
    return a.having(g.call(fn("join_columns"), ref(a.id), ref(b.id)))


JOINS = ["concat", "function", "sum", "list", "tuple", "dict", "operator"]


# --------------------------------------------------------------------------
# choices


def _number_choice(g: Generator, kind: str, bounds: tuple, integer: bool, tag: str | None = None) -> Expr:
    """A numeric choice of one of the kinds, over these bounds."""
    args: dict[str, Any] = {"low": bounds[0], "high": bounds[1]}
    low = max(bounds[0], 1 if integer else 1e-6)
    if kind == "log" and bounds[0] > 0:
        args.update(log=True)
        if not g.continuous_allowed or g.rng.random() < 0.5:
            args.update(n_steps=2)
    elif not kind.endswith("continuous"):
        args.update(n_steps=g.rng.choice([2, 2, 3]) if g.room(3) else 2)
    if g.rng.random() < 0.3:
        args["default"] = int(low) if integer else float(low)
    g.size *= args.get("n_steps", 2)
    expr = g.choice("choose_int" if integer else "choose_float", tag or kind, **args)
    g.named_values[g.steps[-1]["name"]] = [int(bounds[1])] if integer else [float(bounds[1])]
    return expr


def _enumerated(g: Generator, values: list[Expr], tag: str, named: bool = True) -> Expr:
    """A choice among values, as a list or as a dict."""
    name = g.fresh("c") if named else None
    g.size *= len(values)
    if tag == "from_dict" or (tag not in ("from_list", "unnamed") and g.rng.random() < 0.3):
        outcomes: Expr = {f"o{k}": v for k, v in enumerate(values)}
    else:
        outcomes = values
    if named and name is not None:
        g.named_values[name] = [values[-1]]
    return g.choice("choose_from", tag, name=name, outcomes=outcomes)


def install(g: Generator, f: Frame, kind: str) -> Frame:
    """Put a choice of this kind into the graph after a frame."""
    name = g.fresh("f")
    if kind in ("int_steps", "int_continuous", "float_steps", "float_continuous", "log"):
        integer = kind.startswith("int")
        bounds = (1, 3) if integer else (0.25, 2.0)
        return _use_number(g, f, _number_choice(g, kind, bounds, integer), name)
    if kind in ("from_list", "from_dict", "unnamed"):
        values = g.rng.choice([[-1, -2], [1, 2.5], [1.0, -2.0], [2.0, 3.0, -1.0], [1, True]])
        return _use_number(g, f, _enumerated(g, values, kind, named=kind != "unnamed"), name)
    if kind == "shared":
        choice = _enumerated(g, [-1.0, -2.0], "shared")
        f = f.having(g.call(fn("add_scaled"), ref(f.id), k=choice, name=name), **{name: "float64"})
        other = g.fresh("f")
        return f.having(g.call(fn("scale_by"), ref(f.id), choice, name=other), **{other: "float64"})
    if kind == "optional":
        g.size *= 2
        args: dict[str, Any] = {"value": est("Centre")}
        if g.rng.random() < 0.4:
            args["default"] = None
        numbers = g.call(fn("numeric"), ref(f.id))
        out = g.apply(numbers, g.choice("optional", "optional", **args))
        return Frame(out, f.container, {})
    if kind == "bool":
        g.size *= 2
        choice = g.choice("choose_bool", "bool", default=g.rng.random() < 0.5)
        g.named_values[g.steps[-1]["name"]] = [False, True]
        if g.rng.random() < 0.5 or f.container != "pandas":
            return f.having(g.call(fn("add_constant"), ref(f.id), choice, name=name), **{name: "float64"})
        numbers = g.call(fn("numeric"), ref(f.id))
        return f.having(g.apply(numbers, est("StandardScaler", with_mean=choice)))
    if kind == "bool_if_else":
        g.size *= 2
        choice = g.choice("choose_bool", "bool_if_else")
        g.named_values[g.steps[-1]["name"]] = [False, True]
        value = {"$if_else": choice, "yes": 2.0, "no": -1.0}
        return f.having(g.call(fn("add_scaled"), ref(f.id), k=value, name=name), **{name: "float64"})
    if kind == "match_data_op":
        choice = _enumerated(g, ["one", "two"], "match_data_op")
        asked = g.add("value", value=choice)
        targets = {
            "one": ref(g.call(fn("add_scaled"), ref(f.id), k=1.0, name=name)),
            "two": ref(g.call(fn("add_scaled"), ref(f.id), k=-2.0, name=name)),
        }
        return f.having(g.add("match", obj=ref(asked), targets=targets), **{name: "float64"})
    if kind == "data_ops":
        one = g.call(fn("add_scaled"), ref(f.id), k=1.0, name=name)
        two = g.call(fn("add_scaled"), ref(f.id), k=-2.0, name=name)
        g.size *= 2
        outcomes: Expr = [ref(one), ref(two)]
        if g.rng.random() < 0.4:
            outcomes = {"first": ref(one), "second": ref(two)}
        choice = g.choice("choose_from", "data_ops", outcomes=outcomes)
        return f.having(g.add("value", value=choice), **{name: "float64"})
    if kind == "in_key":
        if f.container == "numpy":
            keys: list[Expr] = [0, 1]
            column = g.item(f.id, {"$tuple": [{"$slice": [None, None, None]},
                                              _enumerated(g, keys, "in_key")]})  # fmt: skip
        else:
            column = g.item(f.id, _enumerated(g, ["n0", "i0"], "in_key"))
        return f.having(g.call(fn("with_predictions"), ref(f.id), ref(column)))
    if kind == "match":
        choice = _enumerated(g, ["x", "y"], "match")
        value = {"$match": choice, "mapping": {"x": g.constant(), "y": 4.0}}
        out = g.call(fn("add_constant"), ref(f.id), value, name=name)
        return f.having(out, **{name: "float64"})
    raise AssertionError(f"no such kind of choice: {kind}")


def _use_number(g: Generator, f: Frame, value: Expr, name: str) -> Frame:
    how = g.rng.choice(["keyword", "positional", "closure", "default", "kwdefault", "global", "binop", "deferred"])
    if how == "keyword":
        out = g.call(fn("add_scaled"), ref(f.id), k=value, name=name)
    elif how == "positional":
        out = g.call(fn("scale_by"), ref(f.id), value, name, how="deferred")
    elif how == "binop":
        factor = g.bin("mul", ref(g.add("value", value=value)), 0.5)
        out = g.call(fn("scale_by"), ref(f.id), ref(factor), name=name)
    elif how == "deferred":
        kind = g.call(fn("kind_code"), value, how="deferred")
        out = g.call(fn("scale_by"), ref(f.id), ref(kind), name=name)
    else:
        return f.having(g.add("reach", how=how, value=value, args=[ref(f.id)], kwargs={}))
    return f.having(out, **{name: "float64"})


MODEL_CHOICES = ("estimators", "nested", "in_estimator")


def plain_model(g: Generator, name: str | None = None) -> tuple[str, dict[str, Expr]]:
    """A final estimator without choices."""
    table, common = (
        (REGRESSORS, COMMON_REGRESSORS) if g.task == "regression" else (CLASSIFIERS, COMMON_CLASSIFIERS)
    )
    if name is None:
        name = g.rng.choice(common) if g.rng.random() < 0.85 else g.rng.choice(list(table))
    return name, dict(table[name][0])


def model_with_choice(g: Generator, tag: str, exclude: tuple[str, ...] = ()) -> Expr:
    """A final estimator with a choice in one of its parameters."""
    table = REGRESSORS if g.task == "regression" else CLASSIFIERS
    common = COMMON_REGRESSORS if g.task == "regression" else COMMON_CLASSIFIERS
    name = g.rng.choice([n for n in common if n not in exclude])
    params = dict(table[name][0])
    _, reals, integers, flags = table[name]
    options = [("real", p) for p in reals] + [("int", p) for p in integers] + [("flag", p) for p in flags]
    what, param = g.rng.choice(options)
    if what == "flag":
        g.size *= 2
        params[param] = g.choice("choose_bool", tag)
    elif what == "real":
        kind = g.rng.choice(["float_steps", "log", "list"])
        if kind == "list":
            params[param] = _enumerated(g, [reals[param][0], reals[param][1]], tag)
        else:
            params[param] = _number_choice(g, kind, reals[param], False, tag)
    else:
        params[param] = _number_choice(g, "int_steps", integers[param], True, tag)
    return est(name, **params)


def build_model(g: Generator, kinds: list[str]) -> Expr:
    """The final estimator, with the choices that belong in it."""
    if "estimators" in kinds or "nested" in kinds:
        nested = "nested" in kinds
        before = g.size
        if nested:
            first = model_with_choice(g, "in_estimator")
        else:
            first_name, first_params = plain_model(g)
            first = est(first_name, **first_params)
        second_name, second_params = plain_model(g)
        second = est(second_name, **second_params)
        pair = [first, second] if g.rng.random() < 0.7 else [second, first]
        outcomes: Expr = pair if g.rng.random() < 0.5 else {"a": pair[0], "b": pair[1]}
        g.size += before
        return g.choice("choose_from", "nested" if nested else "estimators", outcomes=outcomes)
    if "in_estimator" in kinds:
        return model_with_choice(g, "in_estimator")
    name, params = plain_model(g)
    return est(name, **params)


# --------------------------------------------------------------------------
# splitters, scorers, entries


def splitter(g: Generator, kind: str, n: int) -> Expr:
    """An expression for a splitter for n rows, or None."""
    r = g.rng
    seed = r.choice([0, 1, 7, {"$rng": 3}])
    table: dict[str, Callable[[], Expr]] = {
        "none": lambda: None,
        "int": lambda: r.choice([2, 2, 3]),
        "kfold": lambda: est("KFold", n_splits=r.choice([2, 2, 3]), shuffle=True, random_state=seed),
        "stratified": lambda: est("StratifiedKFold", n_splits=2, shuffle=True, random_state=seed),
        "group": lambda: est("GroupKFold", n_splits=r.choice([2, 2, 3])),
        "shuffle": lambda: est("ShuffleSplit", n_splits=2, test_size=0.3, random_state=seed),
        "repeated": lambda: est("RepeatedKFold", n_splits=2, n_repeats=2, random_state=seed),
        "timeseries": lambda: est("TimeSeriesSplit", n_splits=2),
        "predefined": lambda: est("PredefinedSplit", test_fold={"$array": [(k % 3) - 1 for k in range(n)]}),
        "iterable": lambda: {"$splits": n, "seed": r.randrange(100), "folds": 2},
    }
    return table[kind]()


def scoring(g: Generator, kind: str) -> dict[str, Any]:
    """The fields of an entry for a kind of scorer: ``scoring``, ``with_scoring``, names of metrics."""
    r, task = g.rng, g.task
    if task == "regression":
        names = r.sample(["r2", "neg_mean_squared_error", "neg_mean_absolute_error", "explained_variance",
                          "neg_median_absolute_error"], 2)  # fmt: skip
        probabilities: list[str] = []
    else:
        names = r.sample(["accuracy", "f1_macro", "balanced_accuracy", "jaccard_macro"], 2)
        probabilities = ["neg_log_loss", "roc_auc" if task == "binary" else "roc_auc_ovr"]
        if r.random() < 0.5:
            names[0] = r.choice(probabilities)
    own: Expr = {"$scorer": "metric_signed", "greater_is_better": r.random() < 0.5}
    if probabilities and r.random() < 0.5:
        own = {"$scorer": "metric_proba", "response_method": "predict_proba"}
    if kind == "none":
        return {"metrics": []}
    if kind == "string_regression":
        return {"scoring": names[0], "metrics": []}
    if kind == "string_labels":
        return {"scoring": names[1], "metrics": []}
    if kind == "string_probabilities":
        return {"scoring": r.choice(probabilities), "metrics": []}
    if kind == "list":
        return {"scoring": names, "metrics": names}
    if kind == "dict":
        return {"scoring": {"z": names[0], "a": own}, "metrics": ["z", "a"]}
    if kind == "callable":
        return {"scoring": fn("scorer_callable"), "metrics": []}
    if kind == "callable_dict":
        return {"scoring": fn("scorer_dict"), "metrics": ["first", "second"]}
    if kind == "make_scorer":
        return {"scoring": own, "metrics": []}
    if kind == "with_scoring":
        return {"with_scoring": [{"scoring": r.choice([names[0], own, fn("scorer_callable")])}], "metrics": []}
    if kind == "with_scoring_several":
        if r.random() < 0.5:
            return {"with_scoring": [{"scoring": names}], "metrics": names}
        return {"with_scoring": [{"scoring": names[0]}, {"scoring": names[1], "name": "other"}],
                "metrics": [names[0], "other"]}  # fmt: skip
    if kind == "with_scoring_kwargs":
        weights = {"$weights": True}
        scorer = names[1] if r.random() < 0.5 else {"$scorer": "metric_weighted", "greater_is_better": False}
        return {"with_scoring": [{"scoring": scorer, "kwargs": {"sample_weight": weights}, "name": "w"}],
                "metrics": []}  # fmt: skip
    raise AssertionError(kind)


def environment(g: Generator, *, new: bool = False, override: bool = False) -> Expr:
    """An expression for the environment of an entry point."""
    out: dict[str, Any] = {"$env": "new" if new else "fit"}
    if override and g.named_values:
        nodes = [n for n in g.named_values if n.startswith("node")]
        name = g.rng.choice(nodes if nodes and g.rng.random() < 0.7 else list(g.named_values))
        out["set"] = {name: g.rng.choice(g.named_values[name])}
    return out


def search_fields(g: Generator, kind: str, scores: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a search for an entry kind."""
    r = g.rng
    metrics = scores["metrics"]
    kwargs: dict[str, Any] = {}
    if kind == "grid_no_refit":
        kwargs["refit"] = False
    elif kind == "grid_refit_callable":
        kwargs["refit"] = fn("refit_lowest")
    elif metrics:
        kwargs["refit"] = r.choice(metrics)
    if "scoring" in scores:
        kwargs["scoring"] = scores["scoring"]
    if r.random() < 0.4:
        kwargs["return_train_score"] = True
    if r.random() < 0.15:
        kwargs["n_jobs"] = 1
    return kwargs


def error_score(g: Generator) -> Expr:
    """One of the three ways to treat a failing fit."""
    return g.rng.choice([{"$float": "nan"}, -1.0, 0.25, "raise"])


class Case(Generator):
    """A whole recipe."""

    def room(self, factor: int) -> bool:
        """Whether that many times more candidates are still few."""
        return self.size * factor <= self.limit

    def make(self) -> dict[str, Any]:
        """Draw everything and return the recipe."""
        seed, r = self.seed, self.rng
        entry_turn, entry_place = divmod(seed, len(PRIMARY))
        place = _shuffled("entry", entry_turn, len(PRIMARY))[entry_place]
        kind = PRIMARY[place]
        # How many cases of this kind came before.
        entry_turn = entry_turn * PRIMARY.count(kind) + PRIMARY[:place].count(kind)
        # Few candidates: a case must be quick, and more of them show nothing new.
        self.limit = {"nested_cross_validate": 2, "batch": 3}.get(kind, 4)
        self.continuous_allowed = kind not in GRID
        self.with_values = kind in NEEDS_VALUES or r.random() < 0.6

        # What this case shows, by rotation.
        scorer_kind = rotate("scorer", seed, SCORERS)[0]
        if kind == "grid_refit_string" and scorer_kind not in SEVERAL:
            scorer_kind = rotate("scorers", entry_turn, SEVERAL)[0]
        second, place = rotate("second", seed, SECONDARY)[0], _shuffled(
            "second", seed // len(SECONDARY), len(SECONDARY)
        )[seed % len(SECONDARY)]
        scored = [k for k, s in enumerate(SECONDARY) if s.endswith("cross_validate")]
        second_scorer = ""
        if place in scored:
            turn = seed // len(SECONDARY) * len(scored) + scored.index(place)
            second_scorer = rotate("second scorer", turn, [*SCORERS, "string_regression", "string_labels"])[0]
        regression, labels = ("string_regression",), ("string_labels", "string_probabilities")
        if {scorer_kind, second_scorer} & set(regression) and {scorer_kind, second_scorer} & set(labels):
            second_scorer = "with_scoring_kwargs"
        if {scorer_kind, second_scorer} & set(regression):
            self.task = "regression"
        elif {scorer_kind, second_scorer} & set(labels):
            self.task = r.choice(["binary", "multiclass"])
        else:
            self.task = r.choice(["regression", "regression", "binary", "multiclass"])
        splitter_kind = rotate("splitter", seed, SPLITTERS)[0]
        choices = [c for c in CHOICES if self.continuous_allowed or c not in CONTINUOUS]
        choices += ["estimators", "in_key", "unnamed"]
        if self.continuous_allowed:
            choices += CONTINUOUS
        # More choices cost nothing where the number of candidates does not depend on them.
        how_many = 2 if kind in GRID else 3 if kind in RANDOMIZED or kind == "batch" else 4
        choice_kinds = rotate(f"choice:{kind}", entry_turn, choices, how_many)
        self.container = rotate("container", seed, CONTAINERS)[0]
        if self.container == "other":
            self.container = r.choice(["polars", "numpy"])
        # (Every other seed, so that half of any seeds in a row have it.)
        joined = seed % 2 == 0
        extra = rotate("extra", seed, ["subsample", "", "post", "fails", "unsupervised", "kwargs", "", "override", ""])[0]
        self.subsampled = extra == "subsample"
        self.mode = rotate("batch", entry_turn, BATCHES)[0]

        frame = self.source(splitter_kind, kind)
        frame = self.middle(frame, joined, choice_kinds)
        target = self.finish(frame, choice_kinds, extra)

        entries: list[dict[str, Any]] = [self.entry(kind, target, scorer_kind, splitter_kind, extra)]
        if second != kind:
            splitters = [s for s in SPLITTERS if s != "group"] if not self.grouped else ["none"]
            second_splitter = rotate("second splitter", seed, splitters)[0]
            entries.append(self.entry(second, target, second_scorer, second_splitter, extra))
        third = ("iter_learners_randomized" if self.continuous_allowed else "iter_learners_grid", "", "truncated_after", "")
        if third[entry_turn % len(third)]:
            entries.append(self.learners(third[entry_turn % len(third)], target))
        for entry in [*entries, *(item for e in entries for item in e.get("items", ()))]:
            # skrub 0.11 evaluates the keywords of a scorer on the test rows, keeps the values on the
            # nodes, and finds them there when it scores the training rows: wrong weights, or NaN
            # where the two sides have other lengths. The engine does not copy that.
            if entry.get("scorer") == "with_scoring_kwargs":
                entry.get("kwargs", {}).pop("return_train_score", None)
        return {
            "seed": seed,
            "tables": self.tables,
            "variables": {name: step for name, step in self.variables.items()},
            "steps": self.steps,
            "target": target,
            "with_values": self.with_values,
            "entries": entries,
            "inside": self.inside,
            "tags": sorted(set(self.tags)),
        }

    def source(self, splitter_kind: str, entry_kind: str) -> Frame:
        """Variables, marks and what comes before them."""
        r = self.rng
        n = r.choice([20, 30, 40, 60, 90, 120] if r.random() < 0.3 else [24, 32, 40]) * self.rows
        self.n = n
        others = [d for d in DTYPES if d not in ("float64", "int64", "str")]
        drawn = rotate("dtypes", self.seed, others, 4)
        cols = {"n0": "float64", "i0": "int64", "s0": "str"}
        if self.container == "numpy":
            cols = {"n0": "float64", "i0": "float64", "n1": "float64"}
        else:
            prefix = {"float32": "r", "int8": "j", "bool": "b", "object": "o", "category": "k",
                      "datetime64": "d", "Int64": "I", "boolean": "B", "arrow": "a"}  # fmt: skip
            cols.update({f"{prefix[d]}1": d for d in drawn})
        names = list(cols)
        r.shuffle(names)
        cols = {c: cols[c] for c in names} if self.container != "numpy" else cols
        discrete = splitter_kind == "stratified" or r.random() < 0.1
        form = "series" if self.container != "numpy" else "array"
        target = {
            "task": self.task,
            "discrete": discrete,
            "labels": r.choice(["int", "str", "bool" if self.task == "binary" else "float"]),
            "form": r.choice([form, form, form, "array", "frame"]),
        }
        separate = self.container == "numpy" or r.random() < 0.6
        self.tables["main"] = {
            "kind": "main",
            "container": self.container,
            "n": n,
            "seed": self.seed % 100_003,
            "cols": list(cols.items()),
            "index": r.choice(["range", "range", "shuffled", "duplicate", "strings", "negative"]),
            "specials": r.random() < 0.5,
            "sorted": r.random() < 0.04 and self.task == "binary",
            "target": None if separate else {**target, "form": "series"},
        }
        how = r.choice(["head", "random"])
        rows = max(12, n - r.choice([4, 8]))
        if separate:
            self.tables["y"] = {"kind": "target", "of": "main", **target}
            x = self.add("var", name="X", table="main", value=self.with_values)
            y = self.add("var", name="y", table="y", value=self.with_values)
            self.variables.update({"X": x, "y": y})
            if self.subsampled:
                x = self.add("subsample", obj=ref(x), n=rows, how=how)
                y = self.add("subsample", obj=ref(y), n=rows, how=how)
        else:
            data = self.add("var", name="data", table="main", value=self.with_values)
            self.variables["data"] = data
            if self.subsampled:
                data = self.add("subsample", obj=ref(data), n=rows, how=how)
            y = self.item(data, "target")
            if self.container == "polars":
                x = self.method(data, "drop", "target", strict=False)
            else:
                x = self.method(data, "drop", columns="target", errors="ignore")
            if target["form"] == "frame":
                y = self.item(data, ["target"])
        frame = Frame(x, self.container, cols)
        self.tables["main"]["var"] = "X" if separate else "data"
        if r.random() < 0.3:
            self.y_node = None
            frame = r.choice([s for s in STEPS[self.container] if s.__name__ in BEFORE_X])(self, frame)
        self.grouped = splitter_kind == "group"
        self.own_splitter = self.grouped or (entry_kind in USES_SPLITTER and r.random() < 0.35)
        mark: dict[str, Any] = {}
        self.inside = None
        if self.own_splitter:
            # PredefinedSplit and explicit lists of splits need the number of rows they will see.
            inside = splitter_kind if not (
                self.subsampled and splitter_kind in ("predefined", "iterable")
            ) else "kfold"
            cv = splitter(self, inside, n)
            if cv is not None:
                mark["cv"], self.inside = cv, inside
            else:
                self.own_splitter = False
            if self.grouped:
                mark["split_kwargs"] = {"groups": ref(self.call(fn("groups_of"), ref(frame.id)))}
        frame.id = self.add("mark_X", obj=ref(frame.id), **mark)
        self.X_node = frame.id
        self.y_node = self.add("mark_y", obj=ref(y))
        return frame

    def middle(self, frame: Frame, joined: bool, choice_kinds: list[str]) -> Frame:
        """Steps on X, in one or in two branches, with choices on the way."""
        r = self.rng
        steps = STEPS[self.container]
        drawn = rotate(f"steps:{self.container}", self.seed, steps, 3)
        inside = [c for c in choice_kinds if c not in MODEL_CHOICES]
        # Steps that need the frame's own columns come before choices that replace them.
        work: list[tuple[str, Any]] = [("step", s) for s in drawn] + [("choice", c) for c in inside if c != "optional"]
        last = [("choice", c) for c in inside if c == "optional"]
        r.shuffle(work)

        def go(f: Frame, tasks: list[tuple[str, Any]]) -> Frame:
            for what, task in tasks:
                f = task(self, f) if what == "step" and self._possible(task, f) else (
                    install(self, f, task) if what == "choice" else f
                )
            return f

        if not joined:
            return go(frame, work + last)
        cut = len(work) // 2
        a = go(dataclasses.replace(frame, cols=dict(frame.cols)), work[:cut] + last)
        b = go(dataclasses.replace(frame, cols=dict(frame.cols)), work[cut:])
        self.tags.append("join")
        return join(self, a, b, rotate("join", self.seed // 2, JOINS)[0])

    def _possible(self, step: Any, f: Frame) -> bool:
        needs = NEEDS.get(step.__name__, ())
        return all(c in f.cols for c in needs)

    def finish(self, frame: Frame, choice_kinds: list[str], extra: str) -> str:
        """From a table to a prediction."""
        r = self.rng
        how = r.choice(["numeric", "numeric", "vectorizer", "selector", "centre", "matrix"])
        node = frame.id
        if extra == "fails":
            node = self.failing(node)
        if self.container == "pandas" and frame.container == "pandas" and how in ("vectorizer", "selector"):
            if how == "vectorizer":
                options = [est("TableVectorizer", high_cardinality="passthrough"),
                           est("TableVectorizer", low_cardinality=est("ToCategorical"), high_cardinality="drop")]  # fmt: skip
                node = self.apply(node, r.choice(options))
            else:
                node = self.add("select", obj=ref(node), cols={"$sel": "numeric_or_boolean", "args": []})
        if how == "matrix":
            node = self.call(fn("matrix"), ref(node))
        elif how == "centre":
            node = self.apply(node, est("Centre"), no_wrap=True)
        else:
            node = self.call(fn("numeric"), ref(node))
        if how in ("numeric", "matrix") and r.random() < 0.15:
            node = self.apply(node, est(r.choice(["PCA", "TruncatedSVD"]), n_components=2, random_state=0))
        kwargs: dict[str, Any] = {"y": ref(self.y_node)}
        model = build_model(self, choice_kinds)
        if extra == "fails" and self.fail_model:
            name = "Shrink" if self.task == "regression" else "Nearest"
            self.size *= 2
            model = est(name, fail=self.choice("choose_from", "from_list", outcomes=[False, "yes"]))
        elif extra == "kwargs" and "$est" in model:
            name = "Shrink" if self.task == "regression" else "Nearest"
            if model["$est"] not in WEIGHTED or r.random() < 0.5:
                model = est(name)
            weights = self.call(fn(r.choice(["row_weights", "column_weights"])), ref(self.X_node))
            kwargs["fit_kwargs"] = {"sample_weight": ref(weights)}
            if model["$est"] == name:
                kwargs["fit_kwargs"]["bias"] = r.choice([0.0, 0.5])
                kwargs["predict_kwargs"] = {"offset": r.choice([0.25, ref(self.add("value", value=0.5))])}
        elif extra == "unsupervised" and "$est" in model:
            model = est("KMeans", n_clusters=2, n_init=1, random_state=0) if r.random() < 0.3 else est("Cluster")
            kwargs["unsupervised"] = True
            self.tags.append("unsupervised")
        node = self.apply(node, model, **kwargs)
        if extra == "post":
            node = self.call(fn("post"), ref(node), k=r.choice([1.0, 2.0]))
        return node

    def failing(self, node: str) -> str:
        """A candidate, or a fold, that fails."""
        r = self.rng
        self.fail_model = False
        how = r.choice(["model", "flag", "fold"])
        if how == "model":
            self.fail_model = True
            return node
        self.size *= 2
        choice = self.choice("choose_bool", "bool", default=False)
        if how == "flag":
            return self.call(fn("fail_if"), ref(node), choice)
        return self.call(fn("fail_on_fold"), ref(node), r.choice([0.0, 0.1, -0.1]), flag=choice)

    def entry(self, kind: str, target: str, scorer_kind: str, splitter_kind: str, extra: str) -> dict[str, Any]:
        """An entry point."""
        r = self.rng
        out: dict[str, Any] = {"kind": kind, "target": target}
        override = extra == "override" or r.random() < 0.05
        env = environment(self, override=override)
        if kind == "batch":
            return self.batch(out, scorer_kind, splitter_kind, extra)
        if kind in ("eval", "lazy_eval"):
            out["env"] = env if not self.with_values or r.random() < 0.6 else None
            nodes = [s["id"] for s in self.steps if s["op"] not in ("choice", "unpack")]
            out["also"] = r.sample(nodes, min(2, len(nodes)))
            if self.subsampled and r.random() < 0.5:
                out["keep_subsampling"] = True
            return out
        if kind == "learner":
            out["env"], out["new_env"] = env, environment(self, new=True)
            out["split"] = r.random() < 0.5
            if not self.own_splitter:
                out["split_kwargs"] = {"random_state": 0}
            return out
        scores = scoring(self, scorer_kind)
        out["scorer"] = scorer_kind
        if "with_scoring" in scores:
            out["with_scoring"] = scores["with_scoring"]
            for info in out["with_scoring"]:
                if (info.get("kwargs") or {}).get("sample_weight") == {"$weights": True}:
                    weights = {"$call": "row_weights", "args": [ref(self.X_node)]}
                    info["kwargs"] = {"sample_weight": weights}
        cv_inside = self.own_splitter and kind != "other"
        cv = None
        if cv_inside and (self.grouped or r.random() < 0.7):
            out["splitter"] = next(s for s in ("inside",))
        else:
            if self.subsampled and splitter_kind in ("predefined", "iterable"):
                splitter_kind = "kfold"
            cv = splitter(self, splitter_kind, self.n)
            out["splitter"] = splitter_kind
        out["env"] = env
        if kind in ("cross_validate", "learner_cross_validate", "lazy_cross_validate"):
            kwargs: dict[str, Any] = {}
            if cv is not None:
                kwargs["cv"] = cv
            if "scoring" in scores:
                kwargs["scoring"] = scores["scoring"]
            if r.random() < 0.4:
                kwargs["return_train_score"] = True
            if r.random() < 0.2:
                kwargs["return_learner"] = True
            if r.random() < 0.25:
                kwargs["return_indices"] = True
            if extra == "fails":
                kwargs["error_score"] = error_score(self)
            if self.subsampled and r.random() < 0.5:
                kwargs["keep_subsampling"] = True
            out["kwargs"] = kwargs
            if self.with_values and kind != "learner_cross_validate" and r.random() < 0.3:
                out["env"] = None
            return out
        kwargs = search_fields(self, kind, scores)
        if cv is not None:
            kwargs["cv"] = cv
        if extra == "fails":
            kwargs["error_score"] = error_score(self)
        out["search"] = "randomized" if kind in RANDOMIZED else "grid"
        if kind == "nested_cross_validate":
            out["kwargs"] = {k: v for k, v in kwargs.items() if k != "cv"} | {"cv": 2}
            out["outer"] = {"cv": cv if cv is not None else None}
            if out["outer"]["cv"] is None:
                out["outer"].pop("cv")
            return out
        if out["search"] == "randomized":
            kwargs["n_iter"] = r.choice([2, 2, 3])
            kwargs["random_state"] = r.choice([0, 5, {"$rng": 11}])
        if kind in NEEDS_VALUES:
            out["env"] = None
            if self.subsampled and r.random() < 0.5:
                kwargs["keep_subsampling"] = True
        out["kwargs"] = kwargs
        out["new_env"] = environment(self, new=True)
        return out

    def batch(self, out: dict[str, Any], scorer_kind: str, splitter_kind: str, extra: str) -> dict[str, Any]:
        """Several items in one run, some of them built separately."""
        r = self.rng
        kinds = ["randomized_fit"] + r.sample(["randomized_fit", "lazy_cross_validate", "lazy_eval"], r.choice([1, 2]))
        r.shuffle(kinds)
        items = []
        for kind in kinds:
            item = self.entry(kind, out["target"], scorer_kind, splitter_kind, extra)
            if kind == "lazy_eval":
                item["also"] = []
            item["rebuild"] = r.random() < 0.5
            items.append(item)
        if r.random() < 0.5:
            # Two items that fail, each in its own way, at two places of the list.
            for place, message in ((0, "the first failure"), (len(items), "the last failure")):
                items.insert(place, {"kind": "lazy_eval", "target": out["target"], "broken": message,
                                     "env": environment(self), "also": [], "rebuild": False})  # fmt: skip
        out["items"] = items
        out["scorer"], out["splitter"] = scorer_kind, splitter_kind
        out["on_error"] = "raise" if self.mode == "raise" else "return"
        out["completed"] = self.mode == "completed"
        return out

    def learners(self, kind: str, target: str) -> dict[str, Any]:
        """Learners of all candidates or of some, or the beginning of one learner."""
        r = self.rng
        out = {"kind": kind, "target": target, "env": environment(self), "new_env": environment(self, new=True)}
        if kind == "truncated_after":
            steps = [s["id"] for s in self.steps if s["op"] in ("apply", "call", "method", "concat", "getitem")]
            out["after"] = r.choice(steps[-5:])
        elif kind == "iter_learners_randomized":
            out["kwargs"] = {"n_iter": r.choice([1, 2]), "random_state": r.choice([0, 5, {"$rng": 11}])}
        return out


BEFORE_X = ("pd_keywords", "pd_constants", "pd_arith", "pd_accessors", "pd_group", "pd_where",
            "pd_column_order", "pd_lambda", "pl_arith", "pl_expression", "np_arith", "pd_shift")  # fmt: skip
NEEDS = {
    "pd_onehot": ("s0",), "pd_accessors": ("s0",), "pd_merge": ("s0",), "pd_group": ("s0", "n0"),
    "pd_arith": ("n0", "i0"), "pd_shift": ("n0",), "pd_swap": ("n0", "i0"),
    "pd_column_order": ("n0", "i0"), "pd_unary": ("n0",), "pd_freeze": ("i0",),
    "pd_concat_rows": ("n0",), "pd_custom": ("n0", "i0"), "pd_supervised": ("n0", "i0"),
    "pd_applied": ("n0", "i0"), "pd_where": ("n0", "i0"), "pd_scale": ("n0", "i0"),
    "pd_if_else": ("i0",), "pd_text": ("i0",), "pl_arith": ("n0", "i0"), "pl_expression": ("n0",),
    "pl_onehot": ("s0",), "pl_scale": ("i0",), "pd_frozen_predictor": ("n0", "i0"),
}  # fmt: skip


def generate(seed: int, rows: int = 1) -> dict[str, Any]:
    """The recipe of a seed.

    Parameters
    ----------
    seed : int
        Any non-negative integer.
    rows : int
        How many times as many rows as usual.

    Returns
    -------
    dict
        The recipe; ``json.loads(json.dumps(recipe))`` is the same recipe.
    """
    return json.loads(json.dumps(Case(seed, rows).make()))
