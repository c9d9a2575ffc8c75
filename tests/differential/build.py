"""From a recipe to data, DataOps and arguments, in the process that calls it.

A recipe is JSON. Its vocabulary:

- ``tables``: how to make each table from a seed (``make_tables``);
- ``steps``: in order, each makes one object, a node or a choice, and has an ``id``;
- expressions, wherever an argument stands: JSON values are themselves; an object with a key that
  begins with ``$`` stands for something else (``Builder.value``): ``$ref`` an object made by a
  step, ``$fn`` a function of ``udf``, ``$est`` a new estimator, ``$float`` a float that JSON
  cannot say, and so on;
- ``entries``: what to do with the graph (``side`` runs them).

Only the public names of skrub are used, but for ``should_subsample``, which has no public name.
"""

from __future__ import annotations

import importlib
import operator
import types
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.metrics import make_scorer

from tests.differential import udf

_PACKAGES = {
    "Ridge": "sklearn.linear_model", "Lasso": "sklearn.linear_model",
    "LinearRegression": "sklearn.linear_model", "LogisticRegression": "sklearn.linear_model",
    "DecisionTreeRegressor": "sklearn.tree", "DecisionTreeClassifier": "sklearn.tree",
    "KNeighborsRegressor": "sklearn.neighbors", "KNeighborsClassifier": "sklearn.neighbors",
    "DummyRegressor": "sklearn.dummy", "DummyClassifier": "sklearn.dummy",
    "RandomForestRegressor": "sklearn.ensemble", "RandomForestClassifier": "sklearn.ensemble",
    "HistGradientBoostingRegressor": "sklearn.ensemble",
    "HistGradientBoostingClassifier": "sklearn.ensemble",
    "GaussianNB": "sklearn.naive_bayes", "KMeans": "sklearn.cluster",
    "PCA": "sklearn.decomposition", "TruncatedSVD": "sklearn.decomposition", "SelectKBest": "sklearn.feature_selection",
    "StandardScaler": "sklearn.preprocessing", "MinMaxScaler": "sklearn.preprocessing",
    "RobustScaler": "sklearn.preprocessing", "OneHotEncoder": "sklearn.preprocessing",
    "OrdinalEncoder": "sklearn.preprocessing", "TargetEncoder": "sklearn.preprocessing",
    "SimpleImputer": "sklearn.impute",
    "KFold": "sklearn.model_selection", "StratifiedKFold": "sklearn.model_selection",
    "GroupKFold": "sklearn.model_selection", "ShuffleSplit": "sklearn.model_selection",
    "RepeatedKFold": "sklearn.model_selection", "TimeSeriesSplit": "sklearn.model_selection",
    "PredefinedSplit": "sklearn.model_selection",
    "LGBMRegressor": "lightgbm", "LGBMClassifier": "lightgbm",
    "XGBRegressor": "xgboost", "XGBClassifier": "xgboost",
    "Centre": "tests.differential.udf", "Shrink": "tests.differential.udf",
    "Nearest": "tests.differential.udf", "Cluster": "tests.differential.udf",
    "NoPredict": "tests.differential.udf",
}  # fmt: skip


def load_everything() -> None:
    """Import every library that a recipe may name."""
    for module in set(_PACKAGES.values()):
        importlib.import_module(module)


# --------------------------------------------------------------------------
# data


def _cells(rng: np.random.Generator, n: int, dtype: str, specials: bool) -> Any:
    base = rng.normal(size=n)
    if dtype in ("float64", "float32"):
        values = np.round(base, 3).astype(dtype)
        if specials:
            for value in (np.nan, np.inf, -np.inf, -0.0, 0.0):
                values[rng.integers(n)] = value
        return values
    if dtype in ("int64", "int8"):
        return rng.integers(-2, 7, size=n).astype(dtype)
    if dtype == "bool":
        return base > 0
    words = np.array(["a", "bb", "", "a b", "ÄÖ", "-1", "-2"], dtype=object)
    if dtype == "str":
        return words[rng.integers(len(words), size=n)]
    if dtype == "object":
        values = np.array([1, 1.0, True, None, "x", "1", -0.0, np.nan], dtype=object)
        return values[rng.integers(len(values), size=n)]
    if dtype == "category":
        return np.array(["low", "mid", "high", None], dtype=object)[rng.integers(4, size=n)]
    if dtype == "datetime64":
        days = rng.integers(0, 800, size=n).astype("timedelta64[D]")
        return np.datetime64("2023-01-01T06:00:00", "us") + days
    if dtype == "Int64":
        return [None if specials and v > 4 else int(v) for v in rng.integers(-3, 6, size=n)]
    if dtype == "boolean":
        return [None if specials and v > 1.5 else bool(v > 0) for v in base]
    if dtype == "arrow":
        return [None if specials and v > 1.5 else float(v) for v in np.round(base, 2)]
    raise AssertionError(dtype)


def _pandas_column(values: Any, dtype: str, rng: np.random.Generator, index: pd.Index) -> pd.Series:
    if dtype == "str":
        return pd.Series(list(values), dtype="str", index=index)
    if dtype == "object":
        return pd.Series(values, dtype=object, index=index)
    if dtype == "category":
        ordered = bool(rng.integers(2))
        return pd.Series(
            pd.Categorical(values, categories=["low", "mid", "high", "never"], ordered=ordered), index=index
        )
    if dtype == "Int64":
        return pd.Series(values, dtype="Int64", index=index)
    if dtype == "boolean":
        return pd.Series(values, dtype="boolean", index=index)
    if dtype == "arrow":
        return pd.Series(values, dtype="double[pyarrow]", index=index)
    return pd.Series(values, index=index)


def _polars_column(name: str, values: Any, dtype: str) -> pl.Series:
    if dtype == "object":
        return pl.Series(name, [None if v is None or v != v else str(v) for v in values], dtype=pl.String)
    if dtype == "category":
        return pl.Series(name, list(values), dtype=pl.Enum(["low", "mid", "high", "never"]))
    if dtype == "str":
        return pl.Series(name, list(values), dtype=pl.String)
    return pl.Series(name, values)


def _index(kind: str, n: int, rng: np.random.Generator) -> pd.Index:
    if kind == "shuffled":
        return pd.Index(rng.permutation(n) * 3 - 5)
    if kind == "duplicate":
        return pd.Index(rng.integers(0, max(2, n // 2), size=n))
    if kind == "strings":
        return pd.Index([f"r{k * 7 % n}" for k in range(n)], name="row")
    if kind == "negative":
        return pd.RangeIndex(-1, -n - 1, -1)
    return pd.RangeIndex(n)


def _main(spec: dict[str, Any], seed: int, n: int) -> tuple[Any, np.ndarray, pd.Index]:
    rng = np.random.default_rng(seed)
    columns = [(name, dtype, _cells(rng, n, dtype, spec["specials"])) for name, dtype in spec["cols"]]
    signal = np.zeros(n)
    for _, dtype, values in columns:
        if dtype in ("float64", "int64"):
            signal += np.tanh(np.nan_to_num(np.asarray(values, dtype=np.float64), posinf=2.0, neginf=-2.0))
    signal += rng.normal(size=n) * 0.3
    index = _index(spec["index"], n, rng)
    if spec["container"] == "pandas":
        frame: Any = pd.concat(
            [_pandas_column(v, d, rng, index).rename(c) for c, d, v in columns], axis=1
        )
    elif spec["container"] == "polars":
        frame = pl.DataFrame([_polars_column(c, v, d) for c, d, v in columns])
    else:
        frame = np.column_stack([np.asarray(v, dtype=np.float64) for _, _, v in columns])
    return frame, signal, index


def _target(spec: dict[str, Any], signal: np.ndarray, container: str, index: pd.Index) -> Any:
    if spec["task"] == "regression":
        values: np.ndarray = np.round(signal * 3, 3)
        if spec["discrete"]:
            values = (signal > np.median(signal)).astype(np.float64) * 2.0 - 0.5
            values = np.floor(values)
    else:
        cuts = [np.median(signal)] if spec["task"] == "binary" else np.quantile(signal, [0.33, 0.66])
        codes = np.searchsorted(np.asarray(cuts), signal, side="right")
        labels = spec["labels"]
        if labels == "str":
            values = np.array(["no", "yes", "may be"], dtype=object)[codes]
        elif labels == "bool":
            values = codes.astype(bool)
        else:
            values = codes.astype(np.int64 if labels == "int" else np.float64)
    if spec["form"] == "array" or container == "numpy":
        return values
    if container == "polars":
        series: Any = pl.Series("target", list(values) if values.dtype == object else values)
        return series if spec["form"] == "series" else pl.DataFrame([series])
    dtype = "str" if values.dtype == object else values.dtype
    series = pd.Series(list(values) if values.dtype == object else values, index=index, name="target", dtype=dtype)
    return series if spec["form"] == "series" else series.to_frame()


def make_tables(recipe: dict[str, Any], *, new: bool = False) -> dict[str, Any]:
    """The values of the variables by table name: the data to fit on, or new data.

    Parameters
    ----------
    recipe : dict
        A recipe.
    new : bool
        Whether to draw other rows, and fewer of them.
    """
    spec = recipe["tables"]["main"]
    seed, n = (spec["seed"] + 7919, max(9, spec["n"] // 3)) if new else (spec["seed"], spec["n"])
    main, signal, index = _main(spec, seed, n)
    order = None
    if spec.get("sorted"):
        order = np.argsort(signal, kind="stable")
        signal = signal[order]
        if spec["container"] == "pandas":
            main, index = main.iloc[order], index[order]
        else:
            main = main[order]
    out = {"main": main}
    for name, other in recipe["tables"].items():
        if other["kind"] == "target":
            out[name] = _target(other, signal, spec["container"], index)
        elif other["kind"] == "lookup":
            keys = ["a", "bb", "", "a b", "ÄÖ", "-1", "-2"][: other["n"]]
            out[name] = pd.DataFrame(
                {"s0": pd.Series(keys, dtype="str"), "rate": np.arange(len(keys)) / 4.0 - 0.5}
            )
    if spec["target"] is not None:
        target = _target(spec["target"], signal, spec["container"], index)
        if spec["container"] == "polars":
            out["main"] = main.with_columns(target.rename("target"))
        else:
            out["main"] = main.assign(target=target)
    return out


# --------------------------------------------------------------------------
# graphs


class Builder:
    """Builds the objects of one recipe through one package.

    Parameters
    ----------
    recipe : dict
        The recipe.
    package : module
        ``skrub``, or something that offers the same names.
    tables : dict
        The tables to fit on, shared by the builders of one recipe.
    """

    def __init__(self, recipe: dict[str, Any], package: Any, tables: dict[str, Any]) -> None:
        self.recipe = recipe
        self.package = package
        self.tables = tables
        self.objects: dict[str, Any] = {}
        self.tags: list[str] = []
        self.estimators: list[Any] = []

    def build(self) -> Any:
        """Build every step; the target node."""
        for step in self.recipe["steps"]:
            self.step(step)
        return self.objects[self.recipe["target"]]

    def environment(self, expr: dict[str, Any] | None) -> dict[str, Any] | None:
        """The environment that an expression stands for; a new dict each time."""
        if expr is None:
            return None
        tables = make_tables(self.recipe, new=True) if expr["$env"] == "new" else self.tables
        env = {}
        for step in self.recipe["steps"]:
            if step["op"] == "var":
                env[step["name"]] = tables[step["table"]]
        for name, value in expr.get("set", {}).items():
            env[name] = self.value(value)
        return env

    # -- expressions ----------------------------------------------------------

    def value(self, expr: Any) -> Any:
        """The object that an expression stands for."""
        if isinstance(expr, list):
            return [self.value(e) for e in expr]
        if not isinstance(expr, dict):
            return expr
        key = next((k for k in expr if k.startswith("$")), None)
        if key is None:
            return {k: self.value(v) for k, v in expr.items()}
        return getattr(self, f"_{key[1:]}")(expr[key], expr)

    def _ref(self, name: str, _: Any) -> Any:
        return self.objects[name]

    def _fn(self, name: str, expr: dict[str, Any]) -> Any:
        function = getattr(udf, name)
        return function(*self.value(expr["call"])) if "call" in expr else function

    def _lambda(self, name: str, _: Any) -> Any:
        return udf.LAMBDAS[name]

    def _est(self, name: str, expr: dict[str, Any]) -> Any:
        module = _PACKAGES.get(name)
        cls = getattr(importlib.import_module(module) if module else self.package, name)
        made = cls(**{k: self.value(v) for k, v in expr["params"].items()})
        if hasattr(made, "fit"):
            self.estimators.append(made)
        return made

    def _tuple(self, items: Any, _: Any) -> tuple:
        return tuple(self.value(v) for v in items)

    def _dict(self, items: Any, _: Any) -> dict:
        return {self.value(k): self.value(v) for k, v in items}

    def _slice(self, parts: Any, _: Any) -> slice:
        return slice(*(self.value(p) for p in parts))

    def _float(self, text: str, _: Any) -> float:
        return float(text)

    def _np(self, pair: Any, _: Any) -> Any:
        return np.dtype(pair[0]).type(pair[1])

    def _array(self, items: Any, _: Any) -> np.ndarray:
        return np.asarray(items)

    def _rng(self, seed: int, _: Any) -> np.random.RandomState:
        return np.random.RandomState(seed)

    def _attr(self, path: str, _: Any) -> Any:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)

    def _sel(self, name: str, expr: dict[str, Any]) -> Any:
        selectors = self.package.selectors
        if name == "numeric_or_boolean":
            return selectors.numeric() | selectors.boolean()
        return getattr(selectors, name)(*expr["args"])

    def _pl(self, parts: Any, _: Any) -> Any:
        return (pl.col(parts[0]) * parts[1]).alias(parts[2])

    def _scorer(self, name: str, expr: dict[str, Any]) -> Any:
        kwargs = {k: v for k, v in expr.items() if k != "$scorer"}
        return make_scorer(getattr(udf, name), **kwargs)

    def _splits(self, n: int, expr: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(expr["seed"])
        splits = []
        for _ in range(expr["folds"]):
            order = rng.permutation(n)
            splits.append((order[n // 3 :], order[: n // 3]))
        return splits

    def _call(self, name: str, expr: dict[str, Any]) -> Any:
        return self.package.deferred(getattr(udf, name))(*self.value(expr["args"]))

    def _match(self, choice: Any, expr: dict[str, Any]) -> Any:
        return self.value(choice).match(self.value(expr["mapping"]))

    def _if_else(self, choice: Any, expr: dict[str, Any]) -> Any:
        return self.value(choice).if_else(self.value(expr["yes"]), self.value(expr["no"]))

    # -- steps ----------------------------------------------------------------

    def step(self, step: dict[str, Any]) -> None:
        """Build one step and remember what it made under its name."""
        made = getattr(self, f"_step_{step['op']}")(step)
        if made is not None:
            self.objects[step["id"]] = made

    def _step_var(self, s: dict[str, Any]) -> Any:
        if not s["value"]:
            return self.package.var(s["name"])
        default = {"becomes_default": True} if s.get("becomes_default") else {}
        return self.package.var(s["name"], self.tables[s["table"]], **default)

    def _step_value(self, s: dict[str, Any]) -> Any:
        return self.package.as_data_op(self.value(s["value"]))

    def _step_choice(self, s: dict[str, Any]) -> Any:
        self.tags.append(f"choice:{s['tag']}")
        args = {k: self.value(v) for k, v in s["args"].items()}
        if s["kind"] == "choose_from":
            self.tags.append(f"choice:from_{'dict' if isinstance(args['outcomes'], dict) else 'list'}")
            return self.package.choose_from(args["outcomes"], name=s["name"])
        if s["kind"] == "optional":
            return self.package.optional(args.pop("value"), name=s["name"], **args)
        if s["kind"] == "choose_bool":
            self.tags.append("choice:bool")
        elif "n_steps" in args:
            self.tags.append("choice:int_steps" if s["kind"] == "choose_int" else "choice:float_steps")
        else:
            self.tags.append("choice:int_continuous" if s["kind"] == "choose_int" else "choice:float_continuous")
        return getattr(self.package, s["kind"])(name=s["name"], **args)

    def _step_getattr(self, s: dict[str, Any]) -> Any:
        return getattr(self.value(s["obj"]), s["name"])

    def _step_getitem(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"])[self.value(s["key"])]

    def _step_method(self, s: dict[str, Any]) -> Any:
        kwargs = {k: self.value(v) for k, v in s["kwargs"].items()}
        return getattr(self.value(s["obj"]), s["name"])(*self.value(s["args"]), **kwargs)

    def _step_call(self, s: dict[str, Any]) -> Any:
        func, args = self.value(s["func"]), self.value(s["args"])
        kwargs = {k: self.value(v) for k, v in s["kwargs"].items()}
        if s["how"] == "apply_func":
            return args[0].skb.apply_func(func, *args[1:], **kwargs)
        if s["how"] == "deferred":
            return self.package.deferred(func)(*args, **kwargs)
        return func(*args, **kwargs)

    def _step_reach(self, s: dict[str, Any]) -> Any:
        value = self.value(s["value"])
        if s["how"] == "global":
            # Another function with the same code whose global name is this recipe's object.
            func = types.FunctionType(
                udf.uses_global.__code__,
                {**vars(udf), "GLOBAL_FACTOR": value},
                "uses_global",
                udf.uses_global.__defaults__,
            )
            func.__module__ = udf.__name__
        else:
            func = getattr(udf, f"make_{s['how']}")(value)
        return self.package.deferred(func)(*self.value(s["args"]))

    def _step_binop(self, s: dict[str, Any]) -> Any:
        return getattr(operator, s["op_name"])(self.value(s["left"]), self.value(s["right"]))

    def _step_unary(self, s: dict[str, Any]) -> Any:
        return getattr(operator, s["op_name"])(self.value(s["operand"]))

    def _step_concat(self, s: dict[str, Any]) -> Any:
        return self.value(s["first"]).skb.concat(self.value(s["others"]), axis=s["axis"])

    def _step_unpack(self, s: dict[str, Any]) -> None:
        names = s["names"]
        # The arity is read from the bytecode of the assignment, so each is written out.
        if len(names) == 2:
            a, b = self.value(s["obj"])
            self.objects.update({names[0]: a, names[1]: b})
        else:
            a, b, c = self.value(s["obj"])
            self.objects.update({names[0]: a, names[1]: b, names[2]: c})

    def _step_if_else(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.if_else(self.value(s["yes"]), self.value(s["no"]))

    def _step_match(self, s: dict[str, Any]) -> Any:
        more = {"default": self.value(s["default"])} if "default" in s else {}
        return self.value(s["obj"]).skb.match(self.value(s["targets"]), **more)

    def _step_freeze(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.freeze_after_fit()

    def _step_apply(self, s: dict[str, Any]) -> Any:
        kwargs = {k: self.value(v) for k, v in s["kwargs"].items()}
        return self.value(s["obj"]).skb.apply(self.value(s["estimator"]), **kwargs)

    def _step_applied_estimator(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.applied_estimator

    def _step_eval_mode(self, _: dict[str, Any]) -> Any:
        return self.package.eval_mode()

    def _step_mark_X(self, s: dict[str, Any]) -> Any:
        kwargs = {k: self.value(s[k]) for k in ("cv", "split_kwargs") if k in s}
        return self.value(s["obj"]).skb.mark_as_X(**kwargs)

    def _step_mark_y(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.mark_as_y()

    def _step_subsample(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.subsample(n=s["n"], how=s["how"])

    def _step_should_subsample(self, _: dict[str, Any]) -> Any:
        # No public name makes this node; user code gets it through skrub's own loaders.
        from skrub._data_ops._subsampling import should_subsample

        return should_subsample()

    def _step_select(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.select(self.value(s["cols"]))

    def _step_drop(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.drop(self.value(s["cols"]))

    def _step_set_name(self, s: dict[str, Any]) -> Any:
        return self.value(s["obj"]).skb.set_name(s["name"]).skb.set_description(s["description"])
