"""Native kernels behind the libraries' estimators, where the engine runs them and nowhere else.

Parity of each kernel with its original is tested beside the kernels; here: who gets one, that nothing of them
is left on what users hold, and that `exactness` and `native` mean what they say.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

import forks
import numpy as np
import pandas as pd
import pytest
import skrub
from kernel_cases import scores_and_predictions, searched, table
from sides import plain
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import stratum
from stratum import _core
from stratum.hosts import kernels

@pytest.mark.parametrize("vectorizer", ["tfidf", pytest.param("hashing", marks=pytest.mark.slow)])
def test_identical_has_the_bits_of_skrub_and_equivalent_its_digits(vectorizer: str) -> None:
    theirs = plain(scores_and_predictions, vectorizer).value
    with stratum.config_context(native=False, exactness="equivalent"):
        without = scores_and_predictions(stratum, vectorizer)
    with stratum.config_context(exactness="identical"):
        assert scores_and_predictions(stratum, vectorizer) == without
    with stratum.config_context(exactness="equivalent"):
        ours = scores_and_predictions(stratum, vectorizer)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=5e-3, atol=1e-3)
        np.testing.assert_allclose(without[name], values, rtol=5e-3, atol=1e-3)  # (BLAS has other threads there)


def test_kernels_run_in_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    from stratum.native import Ridge as NativeRidge, StringEncoder

    seen = []
    for native in (NativeRidge, StringEncoder):
        for method in ("fit", "fit_transform"):
            original = getattr(native, method, None)
            if original is not None:

                def noted(self: Any, *args: Any, _do: Any = original, **kwargs: Any) -> Any:
                    seen.append(type(self).__name__)
                    return _do(self, *args, **kwargs)

                monkeypatch.setattr(native, method, noted)
    encoder = skrub.StringEncoder(n_components=5, random_state=0)
    with stratum.config_context(exactness="equivalent"):
        searched(stratum, Ridge(), encoder)
    assert seen.count("Ridge") == 4  # three folds and the refit
    assert seen.count("StringEncoder") == 8  # of two columns
    seen.clear()
    with stratum.config_context(exactness="identical"):
        searched(stratum, Ridge(), encoder)
    assert set(seen) == {"StringEncoder"}
    seen.clear()
    with stratum.config_context(native=False):
        searched(stratum, Ridge(), encoder)
    assert not seen


def level() -> int:
    """The level of this thread's gate."""
    now = _core.gate(0)
    _core.gate(now)
    return now


class Inside(TransformerMixin, BaseEstimator):
    """A transformer of the user's that fits one of scikit-learn's."""

    levels: list[int] = []

    def fit(self, X: Any, y: Any = None) -> Inside:
        Inside.levels.append(level())
        self.scaler_ = StandardScaler().fit(X)
        return self

    def transform(self, X: Any) -> Any:
        return self.scaler_.transform(X)


def test_users_code_gets_the_libraries_own() -> None:
    levels = Inside.levels = []

    @stratum.deferred
    def scaled(X: Any) -> Any:
        levels.append(level())
        return StandardScaler().fit_transform(X)

    data = stratum.var("data")
    X = data[["size"]].fillna(0.0).skb.mark_as_X()
    pred = scaled(X).skb.apply(Inside()).skb.apply(Ridge(), y=data["target"].skb.mark_as_y())
    with stratum.config_context(exactness="equivalent"):
        pred.skb.make_grid_search(cv=3, scoring="r2").fit({"data": table()})
        learner = pred.skb.make_learner().fit({"data": table()})
        learner.predict({"data": table()})
    assert len(levels) > 6 and set(levels) == {0}
    assert level() == 0


def walk(obj: Any, seen: dict[int, Any]) -> None:
    if id(obj) in seen or isinstance(obj, (str, bytes, int, float, np.ndarray, pd.DataFrame)):
        return
    seen[id(obj)] = obj
    if isinstance(obj, dict):
        children = list(obj.values())
    elif isinstance(obj, (list, tuple, set)):
        children = list(obj)
    else:
        children = list(vars(obj).values()) if hasattr(obj, "__dict__") and not isinstance(obj, type) else []
    for child in children:
        walk(child, seen)


@pytest.mark.parametrize("vectorizer", ["tfidf", pytest.param("hashing", marks=pytest.mark.slow)])
def test_nothing_native_is_left_on_what_users_hold(tmp_path: Any, vectorizer: str) -> None:
    encoder = skrub.StringEncoder(n_components=4, vectorizer=vectorizer, random_state=0)
    with stratum.config_context(exactness="equivalent"):
        search = searched(stratum, Ridge(), encoder)
        expected = search.predict({"data": table(150)})
    found: dict[int, Any] = {}
    walk(search.best_learner_, found)
    kinds = {type(obj).__module__ for obj in found.values()}
    assert any(kind.startswith("sklearn.feature_extraction") for kind in kinds)
    assert not [kind for kind in kinds if kind.startswith("stratum.native")]
    assert not [obj for obj in found.values() if isinstance(obj, BaseEstimator) and "fitted_by_" in vars(obj)]
    data = pickle.dumps(search.best_learner_)
    assert b"stratum.native" not in data
    (tmp_path / "learner").write_bytes(data)
    table(150).to_pickle(tmp_path / "table")
    code = (
        "import pickle, sys, pandas as pd\n"
        "learner = pickle.load(open('learner', 'rb'))\n"
        "print([repr(float(v)) for v in learner.predict({'data': pd.read_pickle('table')})])\n"
        "assert not [name for name in sys.modules if name.startswith('stratum')]\n"
    )
    said = forks.run(code, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    np.testing.assert_allclose([float(v) for v in eval(said.stdout)], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StandardScaler(), lambda: MinMaxScaler(), lambda: SimpleImputer(), lambda: Ridge(),
        lambda: ElasticNet(alpha=0.1), lambda: LogisticRegression(),
    ],
)  # fmt: skip
def test_fitted_attributes_are_the_originals(make: Any) -> None:
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(400, 5)), rng.integers(0, 2, 400)
    reference = make().fit(X, y)
    mine = make()
    mine.note = "kept"
    with stratum.config_context(exactness="equivalent"), kernels.on():
        assert mine.fit(X, y) is mine
        step = mine.transform(X) if hasattr(mine, "transform") else mine.predict(X)
    assert type(mine) is type(reference)
    assert set(vars(mine)) == {*vars(reference), "note"}
    for name, value in vars(reference).items():
        if isinstance(value, (np.ndarray, float)):
            np.testing.assert_allclose(getattr(mine, name), value, rtol=1e-4, atol=1e-6)
            assert np.asarray(getattr(mine, name)).dtype == np.asarray(value).dtype
    wanted = reference.transform(X) if hasattr(mine, "transform") else reference.predict(X)
    np.testing.assert_allclose(step, wanted, rtol=1e-4, atol=1e-6)


def test_a_failed_fit_leaves_the_object_as_the_library_leaves_it() -> None:
    for make in (lambda: Ridge(alpha=-1.0), lambda: CountVectorizer(min_df=0.9), lambda: TfidfVectorizer(ngram_range=(2, 1))):
        errors, states = [], []
        for level in (False, True):
            model = make()
            X = [[0.0], [1.0]] * 60 if isinstance(model, Ridge) else [f"word{i} other" for i in range(120)]
            with pytest.raises(ValueError) as caught, stratum.config_context(exactness="equivalent"):
                if isinstance(model, CountVectorizer) and model.min_df == 0.9:
                    X = [f"word{i}" for i in range(120)]
                if level:
                    with kernels.on():
                        model.fit(X, [0.0, 1.0] * 60)
                else:
                    model.fit(X, [0.0, 1.0] * 60)
            errors.append((type(caught.value), str(caught.value)))
            states.append(set(vars(model)))
        assert errors[0] == errors[1]
        assert states[0] == states[1]


def test_a_kernel_that_fails_is_told_of_and_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from stratum.native import StandardScaler as NativeScaler

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.mean_ = "half done"
        raise RuntimeError("no such lane")

    X = np.random.default_rng(3).normal(size=(300, 3))
    wanted = StandardScaler().fit(X)
    monkeypatch.setattr(NativeScaler, "fit", broken)
    with (
        stratum.config_context(exactness="equivalent"),
        kernels.on(),
        pytest.warns(RuntimeWarning, match=r"kernel of StandardScaler\.\w+ failed \(RuntimeError: no such lane\)"),
    ):
        made = StandardScaler().fit(X)
    # (its own code asks `partial_fit`, for which there is a kernel as well)
    np.testing.assert_allclose(made.mean_, wanted.mean_, rtol=1e-12)
    np.testing.assert_allclose(made.scale_, wanted.scale_, rtol=1e-12)


def test_a_pipeline_and_a_subclass() -> None:
    class Mine(StandardScaler):
        pass

    X = np.random.default_rng(2).normal(size=(300, 3))
    with stratum.config_context(exactness="equivalent"), kernels.on():
        made = make_pipeline(Mine(), StandardScaler(), SimpleImputer()).set_output(transform="pandas").fit(pd.DataFrame(X))
        out = made.transform(pd.DataFrame(X))
    assert isinstance(out, pd.DataFrame) and out.shape == X.shape
    assert [type(step).__name__ for _, step in made.steps] == ["Mine", "StandardScaler", "SimpleImputer"]
    assert not any(hasattr(step, "fitted_by_") for _, step in made.steps)


def test_options_say_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="identical"):
        stratum.set_config(exactness="nearly")
    with pytest.raises(ValueError, match="True, False"):
        stratum.set_config(native="yes")
