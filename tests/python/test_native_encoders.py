"""Native encoders against scikit-learn's own: values, types, attributes, warnings and errors."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn import config_context, preprocessing
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import stratum
from stratum import native
from stratum.hosts import kernels
from stratum.native import encoders

NAMES = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
ROWS = 100
rng = np.random.default_rng(0)


def pick(*values: Any, rows: int = ROWS) -> list[Any]:
    return [values[i] for i in np.random.default_rng(len(values)).integers(0, len(values), rows)]


WORDS = pick("b", "a", "", "zz", "Ünï", "a much longer string", "a much longer strinG", "\U0001f600", "x\0", "x")
TABLES: dict[str, Any] = {
    "str": pd.DataFrame({"a": pd.Series(WORDS, dtype="str"), "b": pick("x", "y")}),
    "str with nulls": pd.DataFrame({"a": pd.Series(pick("b", None, "a"), dtype="str")}),
    "nulls and empty": pd.DataFrame({"a": pd.Series(pick("", None, np.nan), dtype="str")}),
    "all null": pd.DataFrame({"a": pd.Series([None] * ROWS, dtype="str")}),
    "constant": pd.DataFrame({"a": ["x"] * ROWS}),
    "string": pd.DataFrame({"a": pd.Series(WORDS, dtype="string")}),
    "string with NA": pd.DataFrame({"a": pd.Series(pick("b", pd.NA, "a"), dtype="string")}),
    "string[python]": pd.DataFrame({"a": pd.Series(WORDS, dtype="string[python]")}),
    "arrow": pd.DataFrame({"a": pd.Series(WORDS, dtype="string[pyarrow]").astype(pd.ArrowDtype(__import__("pyarrow").string()))}),
    "arrow with nulls": pd.DataFrame({"a": pd.Series(pick("b", None), dtype=pd.ArrowDtype(__import__("pyarrow").large_string()))}),
    "object": pd.DataFrame({"a": pd.Series(WORDS, dtype=object), "b": pd.Series(pick("q", None, np.nan), dtype=object)}),
    "object None": pd.DataFrame({"a": pd.Series(pick("q", None, "r"), dtype=object)}),
    "object NaN": pd.DataFrame({"a": pd.Series(pick("q", float("nan"), np.nan, "r"), dtype=object)}),
    "object NA": pd.DataFrame({"a": pd.Series(pick("q", pd.NA, "r"), dtype=object)}),
    "mixed": pd.DataFrame({"a": pd.Series(pick("q", 1, "r"), dtype=object)}),
    "equal objects": pd.DataFrame({"a": pd.Series(pick(1, True, 1.0, 0, 2.5, None), dtype=object)}),
    "object ints": pd.DataFrame({"a": pd.Series(pick(3, 1, 2), dtype=object)}),
    "other objects": pd.DataFrame({"a": pd.Series(pick((1,), (2, 3)), dtype=object)}),
    "category": pd.DataFrame({"a": pd.Categorical(pick("b", "a", "c"), categories=["c", "b", "unused", "a"])}),
    "category null": pd.DataFrame({"a": pd.Categorical(pick("b", None, "a"))}),
    "category object": pd.DataFrame({"a": pd.Categorical(pick("b", None, "a"), categories=pd.Index(["b", "a"], dtype=object))}),
    "category ints": pd.DataFrame({"a": pd.Categorical(pick(7, 3, 5))}),
    "category ints null": pd.DataFrame({"a": pd.Categorical(pick(7, None, 5))}),
    "category dates": pd.DataFrame({"a": pd.Categorical(pd.to_datetime(pick("2020-01-01", "2021-01-01")))}),
    "int": pd.DataFrame({"a": pick(3, -1, 2), "b": np.array(pick(3, 1, 200), np.uint8)}),
    "int8": pd.DataFrame({"a": np.array(pick(3, -1, 2), np.int8), "b": np.array(pick(3, -1), np.int16)}),
    "Int64": pd.DataFrame({"a": pd.Series(pick(3, 1), dtype="Int64")}),
    "Int64 NA": pd.DataFrame({"a": pd.Series(pick(3, pd.NA), dtype="Int64")}),
    "float": pd.DataFrame({"a": pick(3.5, -1.0, np.nan, 1e300), "b": np.array(pick(0.1, np.nan), np.float32)}),
    "zeros": pd.DataFrame({"a": pick(0.0, -0.0, 1.0)}),
    "minus zero": pd.DataFrame({"a": pick(-0.0, 1.0)}),
    "inf": pd.DataFrame({"a": pick(1.0, np.inf)}),
    "half": pd.DataFrame({"a": np.array(pick(1.0, 2.0), np.float16)}),
    "complex": pd.DataFrame({"a": np.array(pick(1.0, 2.0), complex)}),
    "bool": pd.DataFrame({"a": pick(True, False), "b": pd.Series(pick(True, False), dtype="boolean")}),
    "dates": pd.DataFrame({"a": pd.to_datetime(pick("2020-01-01", "2021-01-01"))}),
    "many": pd.DataFrame({"a": [f"id {i}" for i in range(ROWS)], "b": pick("x", "y")}),
    "duplicate names": pd.DataFrame(np.array([pick("a", "b"), pick("c", "d", "e")], object).T, columns=["n", "n"]),
    "odd index": pd.DataFrame({1: pick("a", "b")}, index=[7] * ROWS),
    "few": pd.DataFrame({"a": ["x", "y", None]}),
    "one row": pd.DataFrame({"a": ["x"]}),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="str")}),
    "no columns": pd.DataFrame(index=range(ROWS)),
    "array": np.array([pick("a", "b", None), pick("c", "d", "e")], object).T,
    "array U": np.array([pick("a", "bcd"), pick("c", "d")]).T,
    "array S": np.array([pick(b"a", b"bcd")]).T,
    "array ints": np.array([pick(1, 2), pick(5, 6, 7)]).T,
    "array floats": np.asfortranarray(np.array([pick(1, np.nan), pick(5, 6, 7)], np.float32).T)[::1],
    "strided": np.array([pick(1, 2), pick(5, 6, 7)] * 2).T[:, ::2],
    "big-endian": np.array([pick(1, 2)], ">i4").T,
    "list": [[a, b] for a, b in zip(pick("a", "b"), pick("x", "y", "z"), strict=True)],
    "list of numbers": [[a] for a in pick(4, 2)],
    "one dimension": np.array(pick("a", "b"), object),
    "sparse": sp.csr_matrix(np.ones((ROWS, 2))),
    "polars": pl.DataFrame({"a": pick("b", None, "a"), "b": pick("x", "y")}),
    "polars ints": pl.DataFrame({"a": pick(1, 2), "b": pick(1.5, None)}),
}  # fmt: skip
TABLES["read-only"] = np.array([pick(1, 2)]).T
TABLES["read-only"].flags.writeable = False


def parameters(name: str) -> Iterator[dict[str, Any]]:
    if name == "OneHotEncoder":
        yield {}
        yield {"sparse_output": False, "dtype": np.float32, "handle_unknown": "ignore", "drop": "if_binary"}
        yield {"handle_unknown": "infrequent_if_exist", "min_frequency": 30, "sparse_output": False}
        yield {"handle_unknown": "warn", "max_categories": 2, "drop": "first"}
        yield {"handle_unknown": "ignore", "min_frequency": 0.3, "dtype": np.int8}
        yield {"drop": ["b"], "dtype": bool}
        yield {"categories": [["b", "a", "x", "y"]], "handle_unknown": "ignore", "min_frequency": 2}
        yield {"categories": [[1, 2, 3, np.nan]]}
        yield {"dtype": object, "sparse_output": False}
        yield {"dtype": np.float16, "sparse_output": False}
        yield {"max_categories": 0}
    elif name == "OrdinalEncoder":
        yield {}
        yield {"handle_unknown": "use_encoded_value", "unknown_value": -1, "dtype": np.int32, "encoded_missing_value": -2}
        yield {"handle_unknown": "use_encoded_value", "unknown_value": np.nan, "min_frequency": 30, "dtype": "float32"}
        yield {"max_categories": 2, "encoded_missing_value": 99, "dtype": int}
        yield {"categories": [["b", "a", "x", "y"]], "handle_unknown": "use_encoded_value", "unknown_value": 9}
        yield {"dtype": object}
        yield {"unknown_value": 3}
    else:
        yield {}
        yield {"cv": 3, "smooth": 2.5}
        yield {"smooth": 0.0, "shuffle": False}
        yield {"cv": 4, "random_state": 3}
        yield {"categories": [["b", "a", "x", "y"]]}
        yield {"target_type": "continuous"}


def targets(n: int) -> dict[str, Any]:
    r = np.random.default_rng(1)
    return {
        "continuous": r.normal(size=n), "binary": r.integers(0, 2, n), "words": np.array(["n", "y"])[r.integers(0, 2, n)],
        "classes": r.integers(0, 3, n),
    }  # fmt: skip


def outcome(call: Any) -> tuple[Any, Any, list[Any]]:
    """What a call returns or raises, and its warnings."""
    np.random.seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error = call(), None
        except Exception as failure:
            value, error = None, (type(failure).__name__, str(failure))
    return value, error, [(w.category, str(w.message), w.filename) for w in caught]


def same(ours: Any, theirs: Any, exact: bool = True) -> None:
    assert type(ours) is type(theirs)
    if sp.issparse(ours):
        assert ours.format == theirs.format and ours.indices.dtype == theirs.indices.dtype
        assert ours.indptr.dtype == theirs.indptr.dtype and ours.shape == theirs.shape
        for part in ("data", "indices", "indptr"):
            same(getattr(ours, part), getattr(theirs, part))
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert ours.flags.c_contiguous == theirs.flags.c_contiguous and ours.flags.writeable
        if ours.dtype == object:
            assert [repr(v) for v in ours.ravel().tolist()] == [repr(v) for v in theirs.ravel().tolist()]
        else:
            np.testing.assert_array_equal(ours, theirs)
            if ours.dtype.kind == "f":
                there = ours == ours
                np.testing.assert_array_equal(np.signbit(ours[there]), np.signbit(theirs[there]))
    elif isinstance(ours, pd.DataFrame):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    elif isinstance(ours, pl.DataFrame):
        assert ours.equals(theirs) and ours.schema == theirs.schema
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            same(ours[key], theirs[key])
    elif isinstance(ours, float):
        assert ours == theirs or (ours != ours and theirs != theirs)
    else:
        assert ours == theirs


def state(estimator: Any) -> dict[str, Any]:
    return {name: value for name, value in sorted(vars(estimator).items()) if name != "fitted_by_"}


def pair(name: str, **given: Any) -> tuple[Any, Any]:
    return getattr(native, name)(**given), getattr(preprocessing, name)(**given)


def compare(name: str, given: dict[str, Any], X: Any, y: Any, others: list[Any]) -> str:
    """Fit both and encode; returns who fitted ours."""
    arguments = (X, y) if name == "TargetEncoder" else (X,)
    by = ""
    for method in ("fit", "fit_transform"):
        ours, theirs = pair(name, **given)
        (a, error, said), (b, expected, heard) = (
            outcome(lambda e=e: getattr(e, method)(*arguments)) for e in (ours, theirs)
        )
        assert error == expected
        assert said == heard
        if error is not None:
            return "error"
        by = ours.fitted_by_
        same(state(ours), state(theirs))
        if method == "fit_transform":
            same(a, b)
        plain = ours.to_original()
        assert type(plain) is getattr(preprocessing, name)
        if method == "fit":
            continue
        for other in (X, *others):
            again = [pickle.loads(pickle.dumps(plain))] if other is X else []
            value, *heard_of = outcome(lambda: theirs.transform(other))
            for encoder in (ours, *again):
                result, *told = outcome(lambda: encoder.transform(other))
                assert told == heard_of
                same(result, value)
        same(list(ours.get_feature_names_out()), list(theirs.get_feature_names_out()))
    return by


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_as_the_original(name: str, table: str) -> None:
    X = TABLES[table]
    others: list[Any] = []
    if isinstance(X, pd.DataFrame) and X.shape[1] == 1 and len(X):
        new = pd.Series(pick("b", "new", "x"), dtype="str")
        others = [
            X.iloc[::-1], X.iloc[:1], X.iloc[:0], pd.DataFrame({X.columns[0]: new}),
            pd.DataFrame({X.columns[0]: new.astype(object)}), pd.DataFrame({X.columns[0]: pick(1, 77, 2)}),
            pd.DataFrame({X.columns[0]: pick(1.0, np.nan, None)}), pd.DataFrame({"other name": new}),
            pd.DataFrame({X.columns[0]: pd.Series(pick("q", None, np.nan, "q"), dtype=object)}),
        ]  # fmt: skip
    elif isinstance(X, np.ndarray) and X.ndim == 2:
        others = [X[::-1], X[:, :1], pd.DataFrame(X)]
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    for i, given in enumerate(parameters(name)):
        for k, (kind, y) in enumerate(targets(n).items()):
            if name == "TargetEncoder" and (k == i % 4 or table == "str") or kind == "continuous":
                compare(name, given, X, y, others if kind == "continuous" else [])


TAKEN = {
    "str", "str with nulls", "nulls and empty", "all null", "constant", "string", "string[python]", "arrow", "object",
    "object None", "object NaN", "equal objects", "object ints", "category", "category null", "category object",
    "category ints", "int", "int8", "Int64", "Int64 NA", "float", "minus zero", "bool", "odd index", "array",
    "array U", "array ints", "array floats", "strided", "list", "list of numbers", "many", "polars", "read-only", "polars ints",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_native(name: str) -> None:
    for table, X in TABLES.items():
        given = {"max_categories": 99} if name == "OneHotEncoder" else {}
        encoder = getattr(native, name)(**given)
        n = X.shape[0] if hasattr(X, "shape") else len(X)
        try:
            encoder.fit(X, targets(n)["continuous"])
        except (ValueError, TypeError):
            assert table not in TAKEN, table
            continue
        assert (encoder.fitted_by_ == "stratum") == (table in TAKEN), (table, encoder.fitted_by_)


@pytest.mark.parametrize("name", NAMES)
def test_set_output_clone_and_sparse_arrays(name: str) -> None:
    X, y = TABLES["str"], targets(ROWS)["continuous"]
    given = {"sparse_output": False} if name == "OneHotEncoder" else {}
    for output in ("pandas", "polars", "default"):
        ours, theirs = (clone(e).set_output(transform=output) for e in pair(name, **given))
        same(*(outcome(lambda e=e: e.fit_transform(X, y))[0] for e in (ours, theirs)))
        same(ours.transform(X), theirs.transform(X))
    if name == "OneHotEncoder":
        with config_context(transform_output="pandas"):
            assert outcome(lambda: native.OneHotEncoder().fit_transform(X)) == outcome(
                lambda: preprocessing.OneHotEncoder().fit_transform(X)
            )


def test_columns_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    read = encoders._core.encode_arrow
    monkeypatch.setattr(encoders._core, "encode_arrow", lambda *args: (calls.append(1), read(*args))[1])
    for name in NAMES:
        calls.clear()
        getattr(native, name)().fit_transform(TABLES["str"], targets(ROWS)["continuous"])
        assert len(calls) == 2


def test_behind_the_libraries_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    stratum._load()
    calls = []
    read = encoders._core.encode_arrow
    monkeypatch.setattr(encoders._core, "encode_arrow", lambda *args: (calls.append(1), read(*args))[1])
    X, y = TABLES["str"], targets(ROWS)["continuous"]
    for name in NAMES:
        cls = getattr(preprocessing, name)
        plain, given = cls(), (X, y) if name == "TargetEncoder" else (X,)
        (expected, _, said), calls[:] = outcome(lambda: plain.fit_transform(*given)), []
        with kernels.on():
            ours = cls()
            result, _, told = outcome(lambda: ours.fit_transform(*given))
            assert len(calls) == 2
            again = ours.transform(X)
            assert len(calls) == 4
        same(again, plain.transform(X))
        assert type(ours) is cls and told == said
        same(result, expected)
        same(vars(ours), vars(plain))


def test_subclasses_see_what_they_would() -> None:
    class Changing(native.OneHotEncoder):
        def transform(self, X: Any) -> Any:
            return super().transform(X.assign(b="x"))

    X = TABLES["str"]
    ours = Changing().fit_transform(X)
    theirs = preprocessing.OneHotEncoder().fit(X).transform(X.assign(b="x"))
    same(ours, theirs)


@parametrize_with_checks([getattr(native, name)() for name in NAMES])
def test_estimator_checks(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "FEW", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
