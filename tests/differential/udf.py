"""The user's side of the random graphs: functions, scorers and estimators as a user would write them.

Recipes name these by their names, so both sides of the harness call the very same code.
Everything here is deterministic: no clock, no randomness, no order of a set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin

# ---------------------------------------------------------------------------
# frames


def _pandas_numeric_column(column: pd.Series) -> np.ndarray:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, dtype=np.float64)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return column.dt.dayofyear.to_numpy(dtype=np.float64, na_value=-1.0)
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(
        [0.0 if v is None or v is pd.NA or v != v else float(len(str(v))) for v in column]
    )


def _clean(values: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(values, nan=-0.25, posinf=9.0, neginf=-9.0), -50.0, 50.0)


def numeric(df: Any) -> Any:
    """All columns as finite float64 columns; every cell counts, whatever its type."""
    if isinstance(df, np.ndarray):
        return _clean(np.asarray(df, dtype=np.float64))
    if isinstance(df, pl.DataFrame):
        out = {}
        for name in df.columns:
            column = df[name]
            if column.dtype.is_numeric() or column.dtype == pl.Boolean:
                out[name] = _clean(column.cast(pl.Float64).to_numpy())
            elif column.dtype.is_temporal():
                out[name] = _clean(column.dt.ordinal_day().cast(pl.Float64).to_numpy())
            else:
                strings = column.cast(pl.String)
                out[name] = _clean(strings.str.len_chars().cast(pl.Float64).to_numpy())
        return pl.DataFrame(out)
    columns = [_clean(_pandas_numeric_column(df.iloc[:, k])) for k in range(df.shape[1])]
    return pd.DataFrame(np.column_stack(columns), columns=[str(c) for c in df.columns], index=df.index)


def matrix(df: Any) -> np.ndarray:
    """``numeric`` as a matrix."""
    return np.ascontiguousarray(np.asarray(numeric(df), dtype=np.float64))


def first_column(df: Any) -> np.ndarray:
    """The first column of ``numeric``, without making the others."""
    if isinstance(df, pd.DataFrame):
        return _clean(_pandas_numeric_column(df.iloc[:, 0]))
    return matrix(df[:, :1] if isinstance(df, np.ndarray) else df)[:, 0]


def add_scaled(df: Any, k: float = 1.0, *, name: str = "scaled") -> Any:
    """A new column: the first one as a number, times ``k``."""
    values = first_column(df) * float(k)
    if isinstance(df, np.ndarray):
        return np.column_stack([numeric(df), values])
    if isinstance(df, pl.DataFrame):
        return df.with_columns(pl.Series(name, values))
    return df.assign(**{name: values})


def weighted(a: Any, b: Any, wa: float = 1.0, wb: float = 0.25) -> np.ndarray:
    """Not symmetric: swapping the arguments changes the result."""
    a = np.nan_to_num(np.asarray(a, dtype=np.float64), posinf=3.0, neginf=-3.0)
    b = np.nan_to_num(np.asarray(b, dtype=np.float64), posinf=3.0, neginf=-3.0)
    return wa * np.tanh(a) - wb * b


def first_minus_second(df: Any) -> np.ndarray:
    """Depends on the order of the columns."""
    values = matrix(df)
    return values[:, 0] - 0.5 * values[:, 1]


def halves(df: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The columns in two halves, as a tuple."""
    cut = max(1, df.shape[1] // 2)
    return df.iloc[:, :cut], df.iloc[:, cut:]


def thirds(df: pd.DataFrame) -> Any:
    """An iterator of three things: it can be consumed only once."""
    yield df.iloc[:, :1]
    yield df.iloc[:, 1:]
    yield df.shape[1]


def describe_kind(x: Any) -> str:
    """The type and value of a scalar as text: 1, 1.0, True, and -0.0 are four things."""
    return f"{type(x).__name__}:{x!r}"


def kind_code(x: Any) -> float:
    """A number for each of 1, 1.0, True, 0.0 and -0.0."""
    if isinstance(x, bool | np.bool_):
        return 0.5 + float(x)
    if isinstance(x, int | np.integer):
        return 2.0 + float(x)
    if isinstance(x, float | np.floating):
        return 10.0 + float(x) + (0.125 if np.signbit(x) else 0.0)
    return -1.0


def add_constant(df: Any, value: Any, name: str = "constant") -> Any:
    """A new column filled with ``kind_code(value)`` times the first column."""
    return add_scaled(df, kind_code(value), name=name)


def mode_shift(df: Any, mode: str, step: float = 0.5) -> Any:
    """Another column for fit, for transform and for predict: sees the evaluation mode."""
    shift = {"fit_transform": 0.0, "fit": 0.0, "preview": 0.0}.get(mode, step)
    values = first_column(df) + shift
    if isinstance(df, np.ndarray):
        return np.column_stack([numeric(df), values])
    if isinstance(df, pl.DataFrame):
        return df.with_columns(pl.Series("mode_shift", values))
    return df.assign(mode_shift=values)


def maybe_subsampled(df: Any, subsampling: bool = False) -> Any:
    """Says in a column whether a subsample was taken."""
    return add_scaled(df, 2.0 if subsampling else 1.0, name="sub")


def join_columns(a: Any, b: Any) -> Any:
    """Two frames side by side, the second one's columns renamed."""
    if isinstance(a, np.ndarray):
        return np.column_stack([numeric(a), numeric(b)])
    taken, names = [str(c) for c in a.columns], []
    for column in b.columns:
        name = f"{column}__r"
        while name in taken:
            name += "r"
        taken.append(name)
        names.append(name)
    if isinstance(a, pl.DataFrame):
        return pl.concat([a, b.rename(dict(zip(b.columns, names)))], how="horizontal")
    right = b.set_axis(names, axis=1).set_axis(a.index, axis=0)
    return pd.concat([a, right], axis=1)


def join_list(frames: Any) -> Any:
    """``join_columns`` over a list or a tuple."""
    first, *others = list(frames)
    for other in others:
        first = join_columns(first, other)
    return first


def join_dict(frames: dict[str, Any]) -> Any:
    """``join_columns`` over a dict in its own order."""
    return join_list(list(frames.values()))


def sum_matrices(a: Any, b: Any) -> Any:
    """Sum of the first columns of the two, beside the first."""
    ma, mb = matrix(a), matrix(b)
    k = min(ma.shape[1], mb.shape[1])
    values = (ma[:, :k] - 0.5 * mb[:, :k]).sum(axis=1)
    if isinstance(a, np.ndarray):
        return np.column_stack([ma, values])
    if isinstance(a, pl.DataFrame):
        return a.with_columns(pl.Series("summed", values))
    return a.assign(summed=values)


def fresh_weights(n: int = 4) -> np.ndarray:
    """An array made anew at each call; does not depend on X."""
    return np.arange(1.0, n + 1.0) / 4.0


def fresh_list(n: int = 3) -> list[float]:
    """A list made anew at each call; does not depend on X."""
    return [float(i) / 8.0 for i in range(n)]


def fresh_frame(n: int = 3) -> pd.DataFrame:
    """A frame made anew at each call; does not depend on X."""
    return pd.DataFrame({"w": np.arange(n, dtype=np.float64) / 4.0})


def mutate_array(weights: np.ndarray, k: float = 2.0) -> np.ndarray:
    """Changes its input in place and gives it back."""
    weights *= float(k)
    return weights


def mutate_list(values: list[float], k: float = 1.0) -> list[float]:
    """Appends to its input and gives it back."""
    values.append(float(k))
    return values


def mutate_frame(df: pd.DataFrame, k: float = 1.0) -> pd.DataFrame:
    """Writes into its input and gives it back."""
    df.loc[0, "w"] = df.loc[0, "w"] + float(k)
    df["extra"] = float(len(df.columns))
    return df


def total(x: Any) -> float:
    """The sum of a list, an array or a frame."""
    return float(np.sum(np.asarray(x, dtype=np.float64)))


def scale_by(df: Any, factor: Any, name: str = "by") -> Any:
    """``add_scaled`` with the factor as the second positional argument."""
    return add_scaled(df, float(factor), name=name)


def fail_if(df: Any, flag: Any, message: str = "planned failure") -> Any:
    """Raises where ``flag`` is true."""
    if flag:
        raise ValueError(f"{message}: {flag!r}")
    return df


def fail_on_fold(df: Any, threshold: float, flag: Any = True) -> Any:
    """Raises where the mean of the first column exceeds a threshold: some folds, not others."""
    if flag and float(first_column(df).mean()) > threshold:
        raise ArithmeticError("the mean is too large")
    return df


def post(pred: Any, k: float = 1.0) -> Any:
    """Something done to predictions, or to whatever the last estimator gave."""
    if isinstance(pred, float | int | np.floating | np.integer):
        return float(pred) * k
    return pred


def group_codes(n: int, groups: int = 4) -> np.ndarray:
    """Row groups: 0, 0, 1, 1, 2 ... in runs."""
    return (np.arange(n) * 7 // 5) % groups


def needs_two_outputs(mode: str) -> int:
    """A number for an evaluation mode."""
    return {"preview": 1, "fit_transform": 1, "fit": 1}.get(mode, 2)


# ---------------------------------------------------------------------------
# functions that reach nodes by closure, by default, by global name

GLOBAL_FACTOR: Any = 1.0


def uses_global(df: Any, name: str = "glob") -> Any:
    """Reads the global name ``GLOBAL_FACTOR``, which the recipe binds to a node or a choice."""
    return add_scaled(df, float(GLOBAL_FACTOR), name=name)


def make_closure(factor: Any, name: str = "closed") -> Any:
    """A function with ``factor`` (a node, a choice or a number) as a free variable."""

    def closed_over(df: Any) -> Any:
        return add_scaled(df, float(factor), name=name)

    return closed_over


def make_default(factor: Any) -> Any:
    """A function with ``factor`` as the default of a positional argument."""

    def with_default(df: Any, factor: Any = factor) -> Any:
        return add_scaled(df, float(factor), name="defaulted")

    return with_default


def make_kwdefault(factor: Any) -> Any:
    """A function with ``factor`` as the default of a keyword-only argument."""

    def with_kwdefault(df: Any, *, factor: Any = factor) -> Any:
        return add_scaled(df, float(factor), name="kwdefaulted")

    return with_kwdefault


def make_lambda(k: float) -> Any:
    """A lambda that closes over a number."""
    return lambda df: add_scaled(df, k, name="lambda")


LAMBDAS = {
    "double": lambda df: add_scaled(df, 2.0, name="l2"),
    "halve": lambda df: add_scaled(df, 0.5, name="l2"),
    "minus": lambda df: add_scaled(df, -1.0, name="l2"),
    "minus2": lambda df: add_scaled(df, -2.0, name="l2"),
}


class Table:
    """Something with methods and attributes that is neither a frame nor an array."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def apply_to(self, df: Any, *, extra: float = 0.0) -> Any:
        """A bound method as a step of the graph."""
        return add_scaled(df, self.factor + extra, name="table")

    def __call__(self, df: Any) -> Any:
        return add_scaled(df, self.factor, name="called")


# ---------------------------------------------------------------------------
# scorers


def scorer_callable(estimator: Any, X: Any, y: Any) -> float:
    """A plain callable scorer."""
    pred = np.asarray(estimator.predict(X))
    truth = np.asarray(y)
    if pred.dtype.kind in "fiu" and truth.dtype.kind in "fiub":
        return -float(np.mean(np.abs(pred.astype(np.float64) - truth.astype(np.float64))))
    return float(np.mean(pred.ravel() == truth.ravel()))


def scorer_dict(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    """A callable scorer with several metrics."""
    first = scorer_callable(estimator, X, y)
    return {"first": first, "second": first * 0.5 - float(len(y))}


def metric_signed(y_true: Any, y_pred: Any) -> float:
    """Not symmetric in its arguments, for numbers and labels."""
    truth, pred = np.asarray(y_true).ravel(), np.asarray(y_pred).ravel()
    if pred.dtype.kind in "fiu" and truth.dtype.kind in "fiub":
        difference = pred.astype(np.float64) - truth.astype(np.float64)
        return float(np.mean(np.where(difference > 0, 2.0 * difference, -difference)))
    return float(np.mean(pred == truth)) + (0.25 if len(pred) and pred[0] == truth[0] else 0.0)


def metric_weighted(y_true: Any, y_pred: Any, sample_weight: Any = None, power: float = 1.0) -> float:
    """A metric with a keyword and sample weights."""
    truth, pred = np.asarray(y_true).ravel(), np.asarray(y_pred).ravel()
    if pred.dtype.kind in "fiu" and truth.dtype.kind in "fiub":
        errors = np.abs(pred.astype(np.float64) - truth.astype(np.float64)) ** power
    else:
        errors = (pred != truth).astype(np.float64)
    return float(np.average(errors, weights=sample_weight))


def metric_proba(y_true: Any, proba: Any) -> float:
    """Of probabilities: would be another number if it were handed labels."""
    proba = np.asarray(proba, dtype=np.float64)
    return float(np.mean(proba**2)) + 0.01 * proba.ndim


def failing_scorer(estimator: Any, X: Any, y: Any) -> float:
    """A scorer that raises."""
    raise ValueError("this scorer always fails")


def with_text(frame: Any) -> Any:
    """A column of three texts, of which each is about twice as frequent as the next."""
    number = np.asarray(frame["i0"], dtype=np.float64)
    words = np.array(["alpha apple", "beta book", "gym"], dtype=object)
    return frame.assign(text=words[np.searchsorted([3.0, 6.0], number, side="right")])


def refit_lowest(cv_results: dict[str, Any]) -> int:
    """``refit`` as a callable: the last of the candidates with the lowest mean of a test score."""
    keys = [k for k in cv_results if k.startswith("mean_test_")]
    scores = np.nan_to_num(np.asarray(cv_results[keys[0]]), nan=1e9)
    return int(len(scores) - 1 - np.argmin(scores[::-1]))


# ---------------------------------------------------------------------------
# estimators


class Centre(TransformerMixin, BaseEstimator):
    """A transformer of one's own: subtracts training means; knows what it was fitted on."""

    def __init__(self, factor: float = 1.0, how: str = "mean") -> None:
        self.factor = factor
        self.how = how

    def fit(self, X: Any, y: Any = None) -> Centre:
        """Learn the centres."""
        values = matrix(X)
        self.centre_ = values.mean(axis=0) if self.how == "mean" else np.median(values, axis=0)
        self.n_rows_ = len(values)
        self.saw_y_ = y is not None
        return self

    def transform(self, X: Any) -> Any:
        """Subtract the centres."""
        values = (matrix(X) - self.centre_) * self.factor
        if isinstance(X, np.ndarray):
            return values
        if isinstance(X, pl.DataFrame):
            return pl.DataFrame({c: values[:, k] for k, c in enumerate(X.columns)})
        return pd.DataFrame(values, columns=[str(c) for c in X.columns], index=X.index)


class Shrink(RegressorMixin, BaseEstimator):
    """A regressor with keywords of its own for ``fit`` and for ``predict``."""

    def __init__(self, shrink: float = 0.5, fail: Any = False) -> None:
        self.shrink = shrink
        self.fail = fail

    def fit(self, X: Any, y: Any, sample_weight: Any = None, bias: float = 0.0) -> Shrink:
        """Learn a weighted mean and the signs of the covariances."""
        if self.fail:
            raise ValueError(f"Shrink was told to fail: {self.fail!r}")
        values = matrix(X)
        target = np.asarray(y, dtype=np.float64).ravel()
        self.mean_ = float(np.average(target, weights=sample_weight)) + bias
        self.centre_ = values.mean(axis=0)
        self.coef_ = ((values - self.centre_) * (target - target.mean())[:, None]).mean(axis=0)
        self.n_features_in_ = values.shape[1]
        return self

    def predict(self, X: Any, offset: float = 0.0) -> np.ndarray:
        """Predict; ``offset`` is added."""
        values = (matrix(X) - self.centre_) * self.coef_
        return self.mean_ + self.shrink * np.tanh(values).sum(axis=1) + offset


class Nearest(ClassifierMixin, BaseEstimator):
    """A classifier by nearest class centre, with probabilities and a keyword for ``predict``."""

    def __init__(self, power: float = 1.0, fail: Any = False) -> None:
        self.power = power
        self.fail = fail

    def fit(self, X: Any, y: Any, sample_weight: Any = None, bias: float = 0.0) -> Nearest:
        """Learn one centre a class."""
        if self.fail:
            raise ValueError(f"Nearest was told to fail: {self.fail!r}")
        values, target = matrix(X), np.asarray(y).ravel()
        weights = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight)
        self.classes_ = np.unique(target)
        self.centres_ = np.asarray(
            [np.average(values[target == c], axis=0, weights=weights[target == c]) for c in self.classes_]
        )
        self.bias_ = bias
        self.n_features_in_ = values.shape[1]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities from distances."""
        values = matrix(X)
        distances = np.abs(values[:, None, :] - self.centres_[None, :, :]).mean(axis=2)
        weights = np.exp(-np.minimum(distances * self.power, 50.0)) + 1e-9
        weights[:, 0] += self.bias_
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X: Any, offset: float = 0.0) -> np.ndarray:
        """The likeliest class; ``offset`` is added to the first class's probability."""
        proba = self.predict_proba(X)
        proba[:, 0] += offset
        return self.classes_[np.argmax(proba, axis=1)]


class Cluster(BaseEstimator):
    """Two groups by the sign of the first centred column; remembers whether it was given a target."""

    def __init__(self, flip: bool = False) -> None:
        self.flip = flip

    def fit(self, X: Any, y: Any = None) -> Cluster:
        """Learn the centre."""
        self.centre_ = float(first_column(X).mean())
        self.saw_y_ = y is not None
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The group of each row."""
        groups = (first_column(X) > self.centre_).astype(np.int64)
        return 1 - groups if self.flip else groups

    def score(self, X: Any, y: Any = None) -> float:
        """How even the groups are, and whether there was a target."""
        return float(self.predict(X).mean()) + (0.0 if y is None else 1.0)


class NoPredict(BaseEstimator):
    """An estimator that can be fitted but neither predicts nor transforms."""

    def fit(self, X: Any, y: Any = None) -> NoPredict:
        """Learn nothing."""
        self.n_ = len(X)
        return self


def row_weights(df: Any, power: float = 1.0) -> np.ndarray:
    """A weight a row, from the row's place."""
    return (1.0 + np.arange(len(df)) % 3) ** power


def column_weights(df: Any) -> np.ndarray:
    """A weight a row, from the row's first cell: moves with the row."""
    return 1.0 + np.abs(np.tanh(first_column(df)))


def groups_of(df: Any, groups: int = 4) -> np.ndarray:
    """A group a row, from the row's first cells."""
    values = first_column(df)
    return np.floor((np.abs(values) * 7.0 + np.arange(len(values)) * 0.37) % groups).astype(int)


def round_down(values: Any) -> Any:
    """Whole numbers of the same kind of container."""
    return np.floor(values)


def only_rows(df: Any, rows: int) -> Any:
    """The first rows."""
    return df[:rows] if not isinstance(df, pd.DataFrame) else df.iloc[:rows]


def with_predictions(df: Any, pred: Any) -> Any:
    """Predictions (numbers or labels) as a column of numbers."""
    values = np.asarray(pred).ravel()
    if values.dtype.kind not in "fiub":
        values = np.asarray([float(len(str(v))) + float(ord(str(v)[-1])) for v in values])
    values = _clean(values.astype(np.float64))
    if isinstance(df, np.ndarray):
        return np.column_stack([numeric(df), values])
    if isinstance(df, pl.DataFrame):
        return df.with_columns(pl.Series("predicted", values))
    return df.assign(predicted=values)


def finite_columns(df: Any, cols: list[str]) -> Any:
    """These columns without NaN and infinities, in their own type of float."""
    return df.assign(**{c: _clean(_pandas_numeric_column(df[c])) for c in cols})


def introspect(df: Any) -> Any:
    """Two columns from what is beside the cells: the index, and the types of the columns."""
    if isinstance(df, pd.DataFrame):
        index = [float(sum(map(ord, str(v))) % 97) / 97.0 for v in df.index]
        kinds = float(sum((k + 1) * sum(map(ord, str(d))) for k, d in enumerate(df.dtypes)) % 1009) / 1009.0
        return df.assign(index_code=np.asarray(index), kind_code=kinds)
    if isinstance(df, pl.DataFrame):
        kinds = float(sum((k + 1) * sum(map(ord, str(d))) for k, d in enumerate(df.dtypes)) % 1009) / 1009.0
        return df.with_columns(pl.lit(kinds).alias("kind_code"))
    kinds = float(sum(map(ord, str(df.dtype))) % 101) / 101.0
    return np.column_stack([numeric(df), np.full(len(df), kinds)])


def named_by_mode(df: Any, mode: str) -> Any:
    """One column, whose name depends on the evaluation mode."""
    name = "learnt" if mode in ("fit", "fit_transform", "preview") else f"seen in {mode}"
    if isinstance(df, np.ndarray):
        return numeric(df)[:, :1]
    if isinstance(df, pl.DataFrame):
        return pl.DataFrame({name: first_column(df)})
    return pd.DataFrame({name: first_column(df)}, index=df.index)


def names_of(df: Any) -> float:
    """A number made of the names of the columns and their order."""
    if isinstance(df, np.ndarray):
        return float(df.shape[1])
    return float(sum((k + 1) * sum(map(ord, str(c))) for k, c in enumerate(df.columns) if "__skrub" not in str(c)) % 211)


def fail_unless_preview(df: Any, mode: str, message: str) -> Any:
    """Raises whenever it is run in earnest."""
    if mode != "preview":
        raise LookupError(message)
    return df
