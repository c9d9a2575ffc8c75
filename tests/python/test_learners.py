"""Learners and what is around them: the same results, reports and pickles as skrub's.

A case runs with plain skrub in a process of its own and with stratum here (see `sides`). On our side skrub's
evaluator is out of order: what still went through it fails.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import re
import sys
import tempfile

import forks
import joblib
import numpy as np
import pandas as pd
import pytest
import sides
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.preprocessing import MinMaxScaler, StandardScaler


pytestmark = pytest.mark.usefixtures("no_evaluator")


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    df["city"] = rng.choice(["Rome", "Oslo", "Lima"], n)
    df["group"] = rng.integers(0, 6, n)
    df["label"] = np.where(df["a"] + df["b"] + rng.normal(size=n) * 0.3 > 0, "yes", "no")
    return df


def classifier(skrub, values=False, estimator=None):
    data = skrub.var("data", table()) if values else skrub.var("data")
    X = data.drop(columns="label").skb.mark_as_X()
    y = data["label"].skb.mark_as_y()
    X = X.skb.apply(skrub.TableVectorizer()).skb.set_name("vectorized")
    return X.skb.apply(StandardScaler()).skb.apply(LogisticRegression() if estimator is None else estimator, y=y)


def methods(skrub):
    learner = classifier(skrub).skb.make_learner()
    train, test = {"data": table()}, {"data": table(20, seed=1)}
    first = learner.fit(train)
    found = {"itself": first is learner, "fitted": learner.__sklearn_is_fitted__(), "classes": learner.classes_}
    for name in ("predict", "predict_proba", "decision_function", "score", "transform"):
        found[name] = getattr(learner, name)(test)
    found["fit_transform"] = classifier(skrub).skb.make_learner().fit_transform(train)
    found["one row"] = learner.predict({"data": table().iloc[[3]]})
    found["describe"] = learner.describe_params()
    found["again"] = learner.fit({"data": table(30, seed=4)}).predict_proba(test)
    found["has"] = [hasattr(learner, n) for n in ("predict", "predict_proba", "inverse_transform", "nothing")]
    return found


def transformer_methods(skrub):
    X = skrub.var("X")
    learner = X.skb.apply(PCA(2, random_state=0)).skb.make_learner()
    frame = table()[["a", "b", "c"]]
    fitted = learner.fit_transform({"X": frame})
    return [
        fitted, learner.transform({"X": frame.head(3)}), hasattr(learner, "predict"),
        X.skb.apply(KMeans(2, random_state=0, n_init=1)).skb.make_learner().fit({"X": frame}).predict({"X": frame}),
    ]  # fmt: skip


def made_fitted(skrub):
    op = classifier(skrub, values=True)
    learner = op.skb.make_learner(fitted=True)
    return learner.predict({"data": table(9, seed=3)}), op.skb.preview(), op.skb.eval(), op.skb.eval({"data": table(25)})


@pytest.mark.parametrize("case", [methods, transformer_methods, made_fitted])
def test_methods(case):
    sides.same(case)


# -- Splits ---------------------------------------------------------------------------------------


def splits(skrub):
    op = classifier(skrub)
    environment = {"data": table()}
    split = op.skb.train_test_split(environment, random_state=0, test_size=0.3)
    learner = op.skb.make_learner().fit(split["train"])
    found = [sorted(split), split["X_train"], split["y_test"], learner.predict(split["test"]), learner.score(split["test"])]
    for one in op.skb.iter_cv_splits(environment, cv=KFold(3, shuffle=True, random_state=0)):
        found += [sorted(one), learner.fit(one["train"]).score(one["test"]), one["X_test"].index.to_numpy()]
    values = classifier(skrub, values=True)
    found.append(values.skb.train_test_split(random_state=1)["X_test"])
    return found


def grouped(skrub):
    data = skrub.var("data")
    X = data.drop(columns=["label", "city"]).skb.mark_as_X(cv=GroupKFold(3), split_kwargs={"groups": data["group"]})
    op = X.skb.apply(LogisticRegression(), y=data["label"].skb.mark_as_y())
    environment = {"data": table()}
    parts = [one["X_test"].index.to_numpy() for one in op.skb.iter_cv_splits(environment)]
    return parts, op.skb.cross_validate(environment)


def without_marks(skrub, which):
    data = skrub.var("data")
    if which == "X":
        return (data + 1).skb.train_test_split({"data": table()})
    X = data[["a", "b"]].skb.mark_as_X()
    return X.skb.apply(LogisticRegression(), y=data["label"]).skb.train_test_split({"data": table()})


def test_splits():
    sides.same(splits)
    sides.same(grouped)
    sides.same(without_marks, "X", error="ValueError")
    sides.same(without_marks, "y", error="ValueError")


# -- Many learners --------------------------------------------------------------------------------


def searched(skrub, kind):
    scaler = skrub.choose_from({"standard": StandardScaler(), "range": MinMaxScaler()}, name="scaler")
    data = skrub.var("data", table())
    X = data[["a", "b", "c"]].skb.mark_as_X().skb.apply(scaler)
    C = skrub.choose_from([0.1, 10.0], name="C") if kind == "grid" else skrub.choose_float(0.1, 10, log=True, name="C")
    op = X.skb.apply(LogisticRegression(C=C), y=data["label"].skb.mark_as_y())
    if kind == "grid":
        learners = op.skb.iter_learners_grid()
    else:
        learners = op.skb.iter_learners_randomized(5, random_state=2)
    split = op.skb.train_test_split(random_state=0)
    return [(one.describe_params(), one.fit(split["train"]).score(split["test"])) for one in learners]


@pytest.mark.parametrize("kind", ["grid", "random"])
def test_iterating_over_learners(kind):
    sides.same(searched, kind)


def parts(skrub):
    op = classifier(skrub)
    learner = op.skb.make_learner().fit({"data": table()})
    cut = learner.truncated_after("vectorized")
    estimator = learner.find_fitted_estimator("vectorized")
    named = learner.find_fitted_estimator(op._skrub_impl.name) if op._skrub_impl.name else None
    return cut.transform({"data": table(5, seed=2)}), type(estimator).__name__, list(estimator.get_feature_names_out()), named


def estimator_in_graph(skrub):
    data = skrub.var("data")
    scaled = data[["a", "b"]].skb.apply(StandardScaler(), no_wrap=True)
    mean = scaled.skb.applied_estimator.mean_
    learner = skrub.as_data_op({"mean": mean, "scaled": scaled}).skb.make_learner()
    first = learner.fit_transform({"data": table()})
    return first, learner.transform({"data": table(4, seed=5)})


def replaced_values(skrub):
    op = classifier(skrub, values=True)
    new = op.skb.set_data({"data": table(31, seed=8)})
    vectorized = op.skb.eval({"vectorized": table(12)[["a", "b"]], "data": table(12)})
    return new.skb.preview(), new.skb.eval(), op.skb.preview(), vectorized, sorted(op.skb.get_data())


@pytest.mark.parametrize("case", [parts, estimator_in_graph, replaced_values])
def test_parts_and_overrides(case):
    sides.same(case)


def frozen(skrub):
    data = skrub.var("data")
    X = data[["a", "b", "c"]].skb.mark_as_X()
    top = X.std().sort_values().index[:2].skb.freeze_after_fit()
    op = X[top.tolist()].skb.apply(StandardScaler()).skb.apply(LogisticRegression(), y=data["label"].skb.mark_as_y())
    learner = op.skb.make_learner().fit({"data": table()})
    return learner.predict_proba({"data": table(6, seed=9)}), op.skb.cross_validate({"data": table()})


def subsampled(skrub):
    data = skrub.var("data", table(200)).skb.subsample(n=40, how="random")
    X = data[["a", "b", "c"]].skb.mark_as_X()
    op = X.skb.apply(LogisticRegression(), y=data["label"].skb.mark_as_y())
    found = [len(op.skb.preview()), len(op.skb.eval()), len(op.skb.eval(keep_subsampling=True))]
    found += [len(op.skb.train_test_split(keep_subsampling=keep)["X_train"]) for keep in (True, False)]
    found.append(op.skb.make_learner(fitted=True, keep_subsampling=True).predict({"data": table(8, seed=1)}))
    found.append(op.skb.cross_validate(keep_subsampling=True))
    with skrub.config_context(enable_subsampling="force"):
        found.append(len(op.skb.eval()))
    with skrub.config_context(enable_subsampling="disable"):
        found.append(len(op.skb.eval(keep_subsampling=True)))
    return found


def scored(skrub):
    data = skrub.var("data")
    X = data[["a", "b", "c"]].skb.mark_as_X()
    y = data["label"].skb.mark_as_y()
    op = X.skb.apply(LogisticRegression(), y=y).skb.with_scoring(["accuracy", "roc_auc"])
    weighted = make_scorer(accuracy_score)
    op = op.skb.with_scoring(weighted, kwargs={"sample_weight": X["a"].abs()}, name="weighted")
    learner = op.skb.make_learner().fit({"data": table()})
    test = {"data": table(25, seed=6)}
    first = learner.score(test), learner.score(test, return_predictions=True)
    return first, op.skb.cross_validate({"data": table()})


@pytest.mark.parametrize("case", [frozen, subsampled, scored])
def test_freezing_subsampling_and_scoring(case):
    sides.same(case)


# -- Nested cross-validation ----------------------------------------------------------------------


def nested(skrub, n_jobs, return_learner):
    C = skrub.choose_from([0.1, 10.0], name="C")
    op = classifier(skrub, estimator=LogisticRegression(C=C))
    search = op.skb.make_grid_search(cv=2, scoring="neg_log_loss")
    found = skrub.cross_validate(
        search, {"data": table()}, cv=ShuffleSplit(3, random_state=0), n_jobs=n_jobs, return_learner=return_learner
    )
    if return_learner:
        found["learner"] = [(s.best_params_, type(s).__name__, s.best_learner_.describe_params()) for s in found["learner"]]
    return found


@pytest.mark.parametrize("n_jobs, return_learner", [(None, False), (None, True)])
def test_nested_cross_validation(n_jobs, return_learner):
    import stratum

    sides.same(nested, n_jobs, return_learner)
    assert stratum.last_run().fallbacks == []


def test_nested_cross_validation_starts_no_process(monkeypatch):
    import stratum as skrub

    original = joblib.parallel.LokyBackend.configure

    def refused(self, n_jobs=1, **kwargs):
        assert n_jobs == 1, "joblib was asked for workers"
        return original(self, n_jobs=n_jobs, **kwargs)

    monkeypatch.setattr(joblib.parallel.LokyBackend, "configure", refused)
    expected = nested(skrub, None, False)
    assert sides.difference(nested(skrub, 2, False), expected) is None


# -- joblib's backends ----------------------------------------------------------------------------


class Elsewhere(joblib._parallel_backends.ThreadingBackend):
    """A backend of somebody else's, as Dask and Ray register them."""

    asked = 0

    def submit(self, func, callback=None):
        type(self).asked += 1
        return super().submit(func, callback)


@pytest.mark.parametrize("kind", ["grid", "optuna", "cross_validate", "nested"])
def test_other_backends_run_the_search(kind):
    import stratum as skrub

    joblib.register_parallel_backend("elsewhere", Elsewhere)
    data = skrub.var("data")
    X = data[["a", "b", "c"]].skb.mark_as_X()
    C = skrub.choose_from([0.1, 10.0], name="C")
    op = X.skb.apply(LogisticRegression(C=C), y=data["label"].skb.mark_as_y())
    environment = {"data": table()}

    def fit(n_jobs=None):
        if kind == "cross_validate":
            return op.skb.cross_validate(environment, cv=3, n_jobs=n_jobs)
        if kind == "optuna":
            pytest.importorskip("optuna")
            return op.skb.make_randomized_search(backend="optuna", n_iter=2, random_state=0, n_jobs=n_jobs).fit(environment)
        search = op.skb.make_grid_search(cv=3, n_jobs=n_jobs)
        if kind == "nested":
            return skrub.cross_validate(search, environment, cv=2, n_jobs=n_jobs)
        return search.fit(environment)

    Elsewhere.asked = 0
    with joblib.parallel_config("elsewhere", n_jobs=2):
        fit()
        what = "cross_validate" if kind in ("cross_validate", "nested") else "search"
        assert skrub.last_run().fallbacks == [(what, "joblib's backend is Elsewhere")]
        assert Elsewhere.asked > 0 or kind == "optuna"  # which has threads of its own
        Elsewhere.asked = 0
        fit(n_jobs=1)  # joblib would stay in this thread
        assert Elsewhere.asked == 0
    with joblib.parallel_config("threading", n_jobs=2):
        fit()
        assert skrub.last_run().fallbacks == []


def test_n_jobs_of_joblib_caps_the_threads(monkeypatch):
    import stratum as skrub
    from stratum import engine

    counts = []
    original = engine._Workers.__init__

    def count(self, run, number):
        counts.append(number)
        original(self, run, number)

    monkeypatch.setattr(engine._Workers, "__init__", count)
    monkeypatch.setattr(engine.threads, "cores", lambda: 4)
    op = classifier(skrub, estimator=LogisticRegression(C=skrub.choose_from([0.1, 10.0], name="C")))
    environment = {"data": table()}
    op.skb.make_grid_search(cv=2).fit(environment)
    op.skb.make_grid_search(cv=2, n_jobs=3).fit(environment)
    with joblib.parallel_config(n_jobs=2):
        op.skb.make_grid_search(cv=2).fit(environment)
        op.skb.make_grid_search(cv=2, n_jobs=1).fit(environment)
    assert counts == [4, 3, 2, 1]


def refused_jobs(skrub):
    op = classifier(skrub, estimator=LogisticRegression(C=skrub.choose_from([0.1, 10.0], name="C")))
    return op.skb.make_grid_search(cv=2, n_jobs=0).fit({"data": table()})


def test_jobs_that_joblib_refuses():
    sides.same(refused_jobs, error="ValueError")


# -- Reports --------------------------------------------------------------------------------------


def reports(skrub):
    from skrub._data_ops import _evaluation, _inspection

    op = classifier(skrub)
    learner = op.skb.make_learner().fit({"data": table()})
    environment = {"data": table(7, seed=1)}
    _evaluation.evaluate(learner.data_op, "predict", environment, clear=False)
    nodes = _evaluation.nodes(learner.data_op)
    found = [(repr(n._skrub_impl), sorted(n._skrub_impl.results), sorted(n._skrub_impl.metadata)) for n in nodes]
    page = _inspection.node_report(nodes[-1], mode="predict", environment=environment)
    return found, isinstance(page, str), op.skb.describe_steps(), learner.data_op.skb.describe_steps()


def test_what_reports_are_made_of():
    sides.same(reports)


def nothing_of(frame, mode):
    return frame if mode == "preview" else frame["nothing"]


def full_report(skrub, how):
    data = skrub.var("data", table())
    X = data[["a", "b", "c"]].skb.mark_as_X()
    if how == "broken":
        X = skrub.deferred(nothing_of)(X, skrub.eval_mode())
    op = X.skb.apply(LogisticRegression(), y=data["label"].skb.mark_as_y())
    with tempfile.TemporaryDirectory() as folder:
        given = {} if how == "values" else {"environment": {"data": table(30)}}
        made = op.skb.full_report(open=False, output_dir=os.path.join(folder, "it"), **given)
        texts = {p.name: p.read_text() for p in sorted(made["report_path"].parent.glob("*.html"))}
    error = made["error"]
    # Which nodes were computed, which one failed, and which never had their turn.
    said = [(name, "KeyError" in text, "nothing_of" in text) for name, text in texts.items()]
    status = re.findall(r"data-node-status='(.*?)'", texts["index.html"])
    cause = None if error is None else repr(error.__cause__)
    return made["result"], type(error).__name__, str(error), cause, said, status, sorted(made)


def learner_report(skrub, mode, rows):
    from skrub._data_ops import _evaluation

    learner = classifier(skrub).skb.make_learner()
    if mode != "fit":
        learner.fit({"data": table()})
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.join(folder, "it")
        made = learner.report(environment={"data": table(rows)}, mode=mode, open=False, output_dir=folder)
        pages = sorted(p.name for p in made["report_path"].parent.iterdir())
    result = made["result"] is learner if mode == "fit" else made["result"]
    nodes = [node._skrub_impl for node in _evaluation.nodes(learner.data_op)]
    left = [(sorted(impl.results), sorted(impl.errors), sorted(impl.metadata)) for impl in nodes]
    return result, type(made["error"]).__name__, pages, left, learner.__sklearn_is_fitted__()


@pytest.mark.parametrize("mode, rows", [("fit", 30), ("predict", 5), ("predict_proba", 5), ("score", 20), ("fit", 0)])
def test_learner_report(mode, rows):
    from skrub._data_ops import _utils

    if not _utils.has_graphviz():
        pytest.skip("graphviz is not installed")
    sides.same(learner_report, mode, rows)


@pytest.mark.parametrize("how", ["environment", "values", "broken"])
def test_full_report(how):
    """A report on data that are handed over, on the values of the variables, and of a pipeline that fails."""
    from skrub._data_ops import _utils

    if not _utils.has_graphviz():
        pytest.skip("graphviz is not installed")
    result, kind, text, _, said, status, _ = sides.same(full_report, how).value
    assert (result is None) == (how == "broken") and len(said) >= 5
    assert (kind == "NoneType") == (how != "broken")
    if how == "broken":
        assert "nothing" in text and any(failed for _, failed, _ in said), text
        assert '"success"' in status[0] and status[0].count('"error"') == 1 and '"skipped"' in status[0], status
    else:
        assert not any(failed for _, failed, _ in said) and "error" not in status[0] and len(result) == (60 if how == "values" else 30)


# -- Portable results -----------------------------------------------------------------------------

# What a process without stratum does with what one with it has pickled.
_PORTABLE = """
import builtins, pickle, sys
original = builtins.__import__
def refuse(name, *args, **kwargs):
    assert name.partition(".")[0] != "stratum", "stratum was imported"
    return original(name, *args, **kwargs)
builtins.__import__ = refuse
import numpy as np
with open(sys.argv[1], "rb") as file:
    things, environment = pickle.load(file)
found = {}
for name, thing in things.items():
    found[name] = np.asarray(thing.predict(environment)), type(thing).__module__
found["refit"] = np.asarray(things["learner"].fit({"data": environment["data"]}).predict(environment)), ""
assert not any(m == "stratum" or m.startswith("stratum.") for m in sys.modules)
print(pickle.dumps(found).hex())
"""


def test_pickles_need_no_stratum(tmp_path: pathlib.Path):
    """Learners and searches load, predict and fit where stratum is not."""
    import stratum as skrub

    environment = {"data": table(40)}
    op = classifier(skrub)
    chosen = classifier(skrub, estimator=LogisticRegression(C=skrub.choose_from([0.1, 10.0], name="C")))
    things = {
        "learner": op.skb.make_learner().fit(environment),
        "fitted": classifier(skrub, values=True).skb.make_learner(fitted=True),
        "search": chosen.skb.make_grid_search(cv=2).fit(environment),
        "random": chosen.skb.make_randomized_search(n_iter=2, cv=2, random_state=0).fit(environment),
    }
    things["best"] = things["search"].best_learner_
    things["of a fold"] = op.skb.cross_validate(environment, cv=2, return_learner=True)["learner"][0]
    forest = classifier(skrub, estimator=RandomForestClassifier(4, max_depth=skrub.choose_from([2, 3], name="depth")))
    things["without seed"] = forest.skb.make_grid_search(cv=2).fit(environment)
    batch = skrub.run([(chosen.skb.make_grid_search(cv=3), environment)])
    things["of a batch"] = batch[0]
    expected = {name: np.asarray(thing.predict(environment)) for name, thing in things.items()}
    file = tmp_path / "things.pickle"
    file.write_bytes(pickle.dumps((things, environment)))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STRATUM")}
    done = forks.run(_PORTABLE, str(file), env=clean, cwd=tempfile.gettempdir())
    assert done.returncode == 0, done.stderr
    found = pickle.loads(bytes.fromhex(done.stdout))
    for name, value in expected.items():
        assert np.array_equal(found[name][0], value), name
        assert found[name][1].startswith("skrub"), found[name][1]


# -- Versions -------------------------------------------------------------------------------------

_UNKNOWN = """
import warnings, {library}
{library}.__version__ = "{version}"
import skrub
original = skrub._data_ops._evaluation.evaluate, skrub.ParamSearch.fit
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import stratum
    import stratum as again
    from stratum import *
said = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
assert said == ["stratum knows {known}, not {version}: everything runs by plain skrub"], said
assert original == (skrub._data_ops._evaluation.evaluate, skrub.ParamSearch.fit)
assert (stratum.var("a", 1) + 1).skb.eval() == 2 and stratum.get_config()["engine"] == "stratum"
assert not hasattr(stratum, "run")
try:
    stratum.run
except AttributeError as error:
    assert "{version}" in str(error), error
"""


@pytest.mark.parametrize(
    "library, version, known",
    [
        ("skrub", "0.12.0.dev0", "skrub 0.11"), ("skrub", "0.10.2", "skrub 0.11"), ("skrub", "1rc1", "skrub 0.11"),
        ("sklearn", "1.7.2", "scikit-learn 1.8 to 1.9"), ("sklearn", "1.10.0", "scikit-learn 1.8 to 1.9"),
    ],
)  # fmt: skip
def test_unknown_versions(library, version, known):
    """Another version than those that are known: one warning, nothing replaced, plain skrub."""
    code = _UNKNOWN.format(library=library, version=version, known=known)
    done = forks.run(code)
    assert done.returncode == 0, done.stderr
