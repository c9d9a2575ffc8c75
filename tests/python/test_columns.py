"""Columns of TableVectorizers, Cleaners and ApplyToCols as nodes: the same as skrub's, and once where they are equal."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import column_cases
import forks
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sides
import skrub
from column_cases import ROWS, low_cardinality, pipeline, table, unwrapped, vectorizer
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

import stratum
import stratum.sklearn
from stratum.hosts import columns, fitting, kernels, tables

NAMES = sorted(column_cases.estimators(skrub))


@pytest.fixture(autouse=True)
def every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables are worth nodes as well."""
    monkeypatch.setattr(columns, "LEAST_ROWS", 1)
    monkeypatch.setattr(fitting, "LEAST_CELLS", 1)
    monkeypatch.setattr(tables, "SAMPLE", 8)
    columns.forget()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The columns that were computed as nodes."""
    seen: list[str] = []
    node = columns._node

    def noted(x: Any, task: tuple, keeps: bool) -> Any:
        seen.append(str(task[1][0].name))
        return node(x, task, keeps)

    monkeypatch.setattr(columns, "_node", noted)
    return seen


@pytest.mark.parametrize("kind", ["pandas", "polars", "odd index", "strided"])
@pytest.mark.parametrize("name", NAMES)
def test_one_fit_gives_what_skrub_gives(name: str, kind: str, nodes: list[str]) -> None:
    if kind == "polars" and name == "other encoders":
        pytest.skip("the pipeline of scikit-learn's encoders gives arrays there")
    sides.same(column_cases.fitted_alone, name, kind)
    assert len(nodes) > 1 or name in ("cleaner", "dropping", "scaled")  # one long column at most


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fitted_is_complete(name: str) -> None:
    sides.same(column_cases.described_fit, name)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_search_over_one_branch(kind: str) -> None:
    made, taken, _ = columns.counts()
    sides.same(column_cases.grid, kind)
    now = columns.counts()
    assert now[0] > made and now[1] >= taken + 3 * 2 * 4  # what is not of the branch, two candidates of three
    assert now[2] == 0


def test_equal_columns_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    plain = skrub.StringEncoder.fit_transform
    monkeypatch.setattr(
        skrub.StringEncoder, "fit_transform", lambda self, X, y=None: (fits.append(len(X)), plain(self, X, y))[1]
    )
    with stratum.config_context(native=False):
        search = pipeline(stratum, low_cardinality(stratum)).skb.make_grid_search(cv=3, refit=False)
        search.fit({"data": table(seed=5)})
        once = len(fits)
        fits.clear()
        monkeypatch.setattr(columns.Columns, "_key", lambda self, *task: None)
        search = pipeline(stratum, low_cardinality(stratum)).skb.make_grid_search(cv=3, refit=False)
        search.fit({"data": table(seed=6)})
    assert once > 0 and len(fits) == 3 * once


def test_the_rows_and_the_target_matter() -> None:
    X, y = table().drop(columns="target"), table()["target"]

    class Node:
        graph = None

        def readers(self, value: Any) -> int:
            return 2

    def key(data: Any, y: Any, transformer: Any, **options: Any) -> bytes | None:
        task = (columns.sk.fit_transform_column, (data, y, ["town"], transformer, True, options), {})
        return columns.Columns(Node(), transformer, X)._key(*task)

    base = key(X["town"], y, OneHotEncoder())
    assert base is not None and base == key(X["town"].copy(), y.copy(), OneHotEncoder())
    changed = X["town"].copy()
    changed.iloc[5] = "elsewhere"
    others = [
        key(changed, y, OneHotEncoder()), key(X["town"].rename("x"), y, OneHotEncoder()),
        key(X["town"].set_axis(range(len(X))), y, OneHotEncoder()), key(X["town"], -y, OneHotEncoder()),
        key(X["town"], None, OneHotEncoder()), key(X["town"], y, OneHotEncoder(drop="first")),
        key(X["town"], y, OneHotEncoder(), option=1), key(X["town"].astype(object), y, OneHotEncoder()),
    ]  # fmt: skip
    assert None not in others and len({base, *others}) == len(others) + 1
    assert key(X["town"], y, skrub.MinHashEncoder()) is None  # works in the fitted object


def test_a_column_that_fails() -> None:
    found = sides.same(column_cases.failing)
    assert len(found.value) == 2


def test_a_column_that_is_warned_of() -> None:
    # (One thread: filters belong to the process, and a library that ignores warnings does so on all threads.)
    with stratum.config_context(n_threads=1):
        assert column_cases.warning(stratum) > 0
    with stratum.config_context(n_threads=1, unseeded="faithful"):
        assert column_cases.warning(stratum) == sides.plain(column_cases.warning).value


class Own(TransformerMixin, BaseEstimator):
    """A transformer of the user's."""

    threads: list[int] = []

    def fit(self, X: Any, y: Any = None) -> Own:
        Own.threads.append(threading.get_ident())
        return self

    def transform(self, X: Any) -> Any:
        Own.threads.append(threading.get_ident())
        return X.assign(**{name: X[name].map(hash) % 7 for name in X.columns})


def test_code_of_users_stays_in_its_thread_and_order(nodes: list[str]) -> None:
    Own.threads.clear()
    composite = vectorizer(stratum, specific_transformers=[(Own(), ["town", "kind", "street"])])
    search = pipeline(stratum, composite).skb.make_grid_search(cv=2, refit=False)
    search.fit({"data": table(seed=7)})
    assert set(Own.threads) == {threading.get_ident()} and not nodes


def test_no_two_results_hold_one_fitted_transformer() -> None:
    data = table(seed=8)
    encoders = [OneHotEncoder(sparse_output=False, handle_unknown="ignore"), OrdinalEncoder()]
    searches = [
        pipeline(stratum, vectorizer(stratum, low_cardinality=one, drop_if_constant=True)).skb.make_grid_search(cv=2)
        for one in encoders
    ]
    taken = columns.counts()[1]
    fitted = stratum.run([(search, {"data": data}) for search in searches])
    assert columns.counts()[1] > taken
    ones, others = (unwrapped(one.best_learner_.find_fitted_estimator("composite")).transformers_ for one in fitted)
    assert ones.keys() == others.keys()
    assert not {id(one) for one in ones.values()} & {id(one) for one in others.values()}
    before = fitted[1].predict({"data": data})
    for one in ones.values():
        one.__dict__.clear()
    np.testing.assert_array_equal(fitted[1].predict({"data": data}), before)


def test_pickles_need_no_engine(tmp_path: Any) -> None:
    search = pipeline(stratum, low_cardinality(stratum)).skb.make_grid_search(cv=2)
    search.fit({"data": table(seed=9)})
    expected = search.predict({"data": table(seed=10)})
    data = pickle.dumps(search.best_learner_)
    assert b"stratum.hosts" not in data and b"stratum.native" not in data
    (tmp_path / "learner").write_bytes(data)
    table(seed=10).to_pickle(tmp_path / "table")
    said = forks.run(
        "import pickle, sys, pandas as pd\n"
        "learner = pickle.load(open('learner', 'rb'))\n"
        "print([repr(float(v)) for v in learner.predict({'data': pd.read_pickle('table')})])\n"
        "assert not [name for name in sys.modules if name.startswith('stratum')]\n",
        cwd=tmp_path,
    )
    assert said.returncode == 0, said.stderr
    np.testing.assert_allclose([float(v) for v in eval(said.stdout)], expected, rtol=1e-9)


def test_searches_of_scikit_learn(nodes: list[str]) -> None:
    data = table(seed=11)
    X, y = data.drop(columns="target"), data["target"]
    model = make_pipeline(vectorizer(skrub), SimpleImputer(), Ridge())
    grid = {"tablevectorizer__low_cardinality": [OrdinalEncoder(), OneHotEncoder(sparse_output=False, handle_unknown="ignore")]}
    taken = columns.counts()[1]
    ours = stratum.sklearn.GridSearchCV(model, grid, cv=3).fit(X, y)
    assert nodes and columns.counts()[1] > taken and columns.counts()[2] == 0
    theirs = GridSearchCV(model, grid, cv=3).fit(X, y)
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9)


def test_time_of_columns_is_the_fits() -> None:
    search = pipeline(stratum, vectorizer(stratum)).skb.make_grid_search(cv=2, refit=False)
    search.fit({"data": table(3_000, seed=12)})
    spent = sum(seconds for op, _, seconds in stratum.last_run().profile if op == "column")
    assert spent > 0
    assert sum(search.cv_results_["mean_fit_time"] + search.cv_results_["mean_score_time"]) * 2 >= spent * 0.9


def test_outside_of_nodes_nothing_is_ours() -> None:
    assert type(columns.sk.columns_module.Parallel(n_jobs=None)).__module__.startswith("joblib")
    columns._own.taker = None
    fitted = vectorizer(skrub).fit(table().drop(columns="target"))
    assert fitted.all_processing_steps_


# -- Questions about columns ------------------------------------------------------------------------------


def series() -> list[Any]:
    data = table(60)
    found = [data[name] for name in data.columns]
    found += [
        pd.Series(["a", None] * 30, dtype=dtype) for dtype in ("str", "string", "string[python]", "object", "category")
    ]
    found += [pd.Series([None] * 40, dtype=dtype) for dtype in ("str", "object", "float64", "Int64", "boolean")]
    found += [pd.Series([], dtype=dtype) for dtype in ("str", "object", "category", "M8[ns]")]
    found += [
        pd.Series(pd.interval_range(0, 40)), pd.Series(pd.period_range("2020", periods=40, freq="D")),
        pd.Series(pd.arrays.SparseArray([0, 1] * 20)), pd.Series([[1], [2]] * 20), pd.Series(["a", 1, 2.5] * 20),
        pd.Series([0.0, -0.0, np.nan] * 20), pd.Series(sorted(range(40)) * 2).sort_values(),
        pd.Series([1, 1] * 30 + list(range(30))), pl.Series("p", ["a", "b"] * 30),
    ]  # fmt: skip
    arrow = pytest.importorskip("pyarrow")
    for kind in (arrow.string(), arrow.large_string(), arrow.int64(), arrow.binary()):
        values = [1, 2] * 20 if kind == arrow.int64() else [b"a", b"b"] * 20 if kind == arrow.binary() else ["a", "b"] * 20
        found.append(pd.Series(values, dtype=pd.ArrowDtype(kind)))
    return found


def test_whether_a_column_holds_strings() -> None:
    for column in series():
        expected = skrub._dataframe.is_string(column)
        with kernels.on():
            got = [skrub._dataframe.is_string(column) for _ in range(2)]
        assert got == [expected] * 2 and type(got[0]) is type(bool(expected)), column


@pytest.mark.parametrize("threshold", [0, 1, 2, 3, 30, 31, 40, 2.5, "x", None])
def test_whether_there_are_few_values(threshold: Any) -> None:
    selector = skrub.selectors.cardinality_below(threshold)
    for column in series():
        expected = selector._matches(column)
        with kernels.on():
            assert selector._matches(column) is expected or selector._matches(column) == expected, column
    again = pickle.loads(pickle.dumps(selector))
    assert repr(again) == repr(selector) and b"stratum" not in pickle.dumps(selector)


def test_long_columns_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    column = pd.Series([f"{i}" for i in range(ROWS)], dtype="str")
    asked: list[int] = []
    plain = skrub._dataframe.n_unique
    monkeypatch.setattr(skrub._dataframe, "n_unique", lambda col: (asked.append(len(col)), plain(col))[1])
    with kernels.on():
        assert not skrub.selectors.cardinality_below(5)._matches(column)
        assert max(asked) < ROWS / 2
        assert skrub.selectors.cardinality_below(500)._matches(column)
    assert max(asked) == ROWS
