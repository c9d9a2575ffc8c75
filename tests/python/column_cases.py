"""Tables and pipelines of the tests of column-wise transformers, for both sides (this file does not import stratum)."""

from __future__ import annotations

import re
import traceback
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from skrub import selectors as s

ROWS = 180


def table(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """A column of each kind that a TableVectorizer tells apart, in disorder."""
    rng = np.random.default_rng(seed)
    streets = [f"{i % 37} rue de l'Église {i * 7919 % 4093:04x}" for i in range(rows)]
    found = {
        "street": pd.Series(streets, dtype="str"),
        "town": pd.Series(rng.choice([f"Town {i}" for i in range(12)], rows)).where(rng.random(rows) > 0.1, None),
        "kind": rng.choice(["a", "b", "N/A", " "], rows),
        "when": np.datetime_as_string(np.datetime64("2020-01-01") + rng.integers(0, 900, rows)),
        "at": pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 9999, rows), unit="h"),
        "waited": pd.to_timedelta(rng.integers(0, 99, rows), unit="h"),
        "price": pd.Series(rng.integers(1, 999, rows)).astype(str),
        "size": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        "rooms": rng.integers(0, 9, rows).astype(np.int8),
        "new": rng.random(rows) < 0.5,
        "grade": pd.Categorical.from_codes(rng.integers(-1, 3, rows), ["low", "mid", "high"]),
        "nothing": np.full(rows, None),
        "constant": "one",
        "mixed": pd.Series([i if i % 3 else f"n {i % 5}" for i in range(rows)], dtype=object),
        "target": rng.normal(size=rows),
    }
    return pd.DataFrame(found, index=pd.RangeIndex(7, 7 + 2 * rows, 2))


def frame(kind: str, rows: int = ROWS, seed: int = 0) -> Any:
    """The table as a frame of another kind."""
    made = table(rows, seed)
    if kind == "polars":
        import polars as pl

        return pl.from_pandas(made.drop(columns=["mixed", "waited"]))
    if kind == "odd index":
        return made.set_axis([3] * rows)
    if kind == "strided":
        return table(2 * rows, seed).iloc[::2]
    return made


def vectorizer(library: Any, **parameters: Any) -> Any:
    """One that is quick, with a seed."""
    encoder = library.StringEncoder(n_components=4, random_state=0)
    return library.TableVectorizer(**{"cardinality_threshold": 20, "high_cardinality": encoder, **parameters})


def described(fitted: Any) -> dict[str, Any]:
    """All that can be asked of a fitted TableVectorizer, Cleaner or ApplyToCols."""
    fitted = unwrapped(fitted)
    found: dict[str, Any] = {"kind": type(fitted).__name__, "out": list(fitted.get_feature_names_out())}
    for name in (
        "all_inputs_", "all_outputs_", "column_to_kind_", "created_outputs_", "feature_names_in_", "input_to_outputs_",
        "kind_to_columns_", "n_features_in_", "output_to_input_", "used_inputs_",
    ):  # fmt: skip
        if name in vars(fitted):
            found[name] = getattr(fitted, name)
    steps = getattr(fitted, "all_processing_steps_", None)
    if steps is not None:
        found["steps"] = {col: [state_of(one) for one in done] for col, done in steps.items()}
    found["transformers"] = {col: state_of(one) for col, one in getattr(fitted, "transformers_", {}).items()}
    return found


def unwrapped(fitted: Any) -> Any:
    """The estimator that `.skb.apply` was given."""
    return vars(fitted).get("transformer_", fitted)


def state_of(value: Any, depth: int = 0) -> Any:
    """A fitted object as plain data."""
    if isinstance(value, BaseEstimator) and depth < 6:
        # (`sides` takes what has "_time" in its name for seconds.)
        state = {name.replace("_time", "-time"): state_of(one, depth + 1) for name, one in vars(value).items()}
        return type(value).__name__, dict(sorted(state.items()))
    if hasattr(value, "data") and type(value).__name__ == "ShortReprDict":
        value = value.data
    if isinstance(value, dict):
        return {str(name): state_of(one, depth + 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [state_of(one, depth + 1) for one in value]
    if isinstance(value, (str, int, float, np.ndarray, np.generic, type(None))):
        return value
    return type(value).__name__


def estimators(library: Any) -> dict[str, Any]:
    """Composites by name."""
    return {
        "vectorizer": vectorizer(library),
        "dropping": vectorizer(
            library, drop_null_fraction=0.05, drop_if_constant=True, null_strings=["Town 3"], datetime="drop"
        ),
        "other encoders": vectorizer(
            library, low_cardinality=TargetEncoder(random_state=0), numeric=StandardScaler(),
            datetime=library.DatetimeEncoder(periodic_encoding="circular"),
            specific_transformers=[(make_pipeline(OrdinalEncoder(), StandardScaler()), ["town", "grade"])],
        ),
        "cleaner": library.Cleaner(parse_numbers=True, cast_to_str=True, drop_if_constant=True),
        "each": library.ApplyToCols(
            library.StringEncoder(n_components=3, random_state=0), s.string(), exclude_cols=["nothing"], allow_reject=True,
            keep_original=True, rename_columns="{}_text",
        ),
        "rejects": library.ApplyToCols(library.DatetimeEncoder(), allow_reject=True),
        "scaled": library.ApplyToCols(make_pipeline(SimpleImputer(), StandardScaler()), s.numeric()),
        "min-hash": library.ApplyToCols(library.MinHashEncoder(n_components=4), s.string(), allow_reject=True),
        "nested": library.ApplyToCols(vectorizer(library), exclude_cols="street"),
    }  # fmt: skip


def fitted_alone(library: Any, name: str, kind: str) -> dict[str, Any]:
    """One fit on many rows and what the learner makes of others."""
    data = frame(kind)
    y = data["target"]
    X = data.drop("target") if kind == "polars" else data.drop(columns="target")
    out = library.var("X").skb.apply(estimators(library)[name], y=library.var("y"))
    learner = out.skb.make_learner()
    first = learner.fit_transform({"X": X, "y": y})
    other = frame(kind, ROWS, 1)
    other = other.drop("target") if kind == "polars" else other.drop(columns="target")
    second = learner.transform({"X": other})
    return {"first": in_pandas(first), "second": in_pandas(second)}


def in_pandas(data: Any) -> Any:
    """A frame that both processes can compare."""
    return data.to_pandas() if type(data).__module__.startswith("polars") else data


def described_fit(library: Any, name: str) -> dict[str, Any]:
    """What is on the estimator that was fitted."""
    data = table()
    applied = library.var("X").skb.apply(estimators(library)[name], y=library.var("y")).skb.set_name("composite")
    learner = applied.skb.make_learner()
    learner.fit({"X": data.drop(columns="target"), "y": data["target"]})
    return described(learner.find_fitted_estimator("composite"))


def pipeline(library: Any, composite: Any, kind: str = "pandas") -> Any:
    """From the table to a prediction."""
    data = library.var("data")
    X = (data.drop("target") if kind == "polars" else data.drop(columns="target")).skb.mark_as_X()
    features = X.skb.apply(composite).skb.set_name("composite").skb.apply(SimpleImputer())
    return features.skb.apply(Ridge(), y=data["target"].skb.mark_as_y())


def low_cardinality(library: Any, encoders: dict[str, Any] | None = None) -> Any:
    """TableVectorizers that differ in one branch."""
    encoders = encoders or {
        "one-hot": OneHotEncoder(sparse_output=False, dtype="float32", handle_unknown="ignore"),
        "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        "binary": OneHotEncoder(sparse_output=False, dtype="float32", handle_unknown="ignore", drop="if_binary"),
    }
    return vectorizer(library, low_cardinality=library.choose_from(encoders, name="low"))


def grid(library: Any, kind: str = "pandas") -> dict[str, Any]:
    """A search over the branch."""
    search = pipeline(library, low_cardinality(library), kind).skb.make_grid_search(cv=3, scoring="r2")
    search.fit({"data": frame(kind)})
    return {
        "results": {k: v for k, v in search.cv_results_.items() if "params" not in k},
        "best": described(search.best_learner_.find_fitted_estimator("composite")),
        "predictions": search.predict({"data": frame(kind, seed=1)}),
    }


def failing(library: Any) -> list[tuple[str, str, list[str], list[tuple[str, str]]]]:
    """A column fails: the error, its notes and the libraries' frames below skrub's loops."""
    found = []
    for given in (OneHotEncoder(categories=[["absent"]], sparse_output=False), OneHotEncoder(sparse_output=True)):
        learner = library.var("X").skb.apply(vectorizer(library, low_cardinality=clone(given))).skb.make_learner()
        try:
            learner.fit({"X": table().drop(columns="target")})
        except Exception as error:
            frames = [(frame.filename.rpartition("/")[2], frame.name) for frame in traceback.extract_tb(error.__traceback__)]
            names = [name for _, name in frames]
            below = frames[names.index("fit_transform") :] if "fit_transform" in names else frames
            text = re.sub(r"\[.*\]", "[]", str(error).split("\n")[-1])  # categories of a set
            found.append((type(error).__name__, text, list(getattr(error, "__notes__", [])), below))
    return found


def warning(library: Any) -> int:
    """A column is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = library.StringEncoder(n_components=5_000, random_state=0)
        search = pipeline(library, vectorizer(library, high_cardinality=encoder)).skb.make_grid_search(cv=3)
        search.fit({"data": table()})
    return sum("too small to fit a truncated SVD" in str(one.message) for one in caught)
