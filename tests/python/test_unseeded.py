"""Estimators and calls without a seed: one creation is one draw, and runs can be repeated."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import forks
import numpy as np
import pandas as pd
import pytest
import sides
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch):
    """No draws remembered, and NumPy's global generator as nobody seeded it (another test may have).

    Whether a script has seeded it is asked by the tests that start a process.
    """
    from stratum.hosts import estimators

    estimators.reset_seeds()
    monkeypatch.setattr(estimators, "global_generator_is_seeded", lambda: False)


def data(n=60):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 5)), columns=list("abcde"))
    return X, pd.Series(X["a"] + rng.normal(size=n), name="y")


def forest(**kwargs):
    return RandomForestRegressor(n_estimators=2, max_features=1, **kwargs)


def pipeline(model, values=False):
    import stratum

    X, y = data()
    x = (stratum.var("X", X) if values else stratum.var("X")).skb.mark_as_X()
    return x.skb.apply(model, y=(stratum.var("y", y) if values else stratum.var("y")).skb.mark_as_y())


def scores(pred, **options):
    X, y = data()
    search = pred.skb.make_grid_search(**{"cv": 3, **options})
    search.fit({"X": X, "y": y})
    return search.cv_results_["mean_test_score"]


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import test_unseeded as t
print(repr(t.scores(t.pipeline(t.forest())).tolist()), repr(t.scores(t.pipeline(t.forest())).tolist()))
"""


@pytest.mark.slow
def test_scripts_can_be_repeated():
    """Two processes that do the same draw the same; two creations in one of them do not."""
    script = SCRIPT.format(folder=str(sides.HERE))
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
    first, second = runs[0].stdout.split()
    assert first != second


def test_the_configured_seed_decides():
    import stratum
    from stratum.hosts import estimators

    found = []
    for seed in (0, 1, 0):
        estimators.reset_seeds()
        with stratum.config_context(seed=seed):
            found.append(scores(pipeline(forest())).tolist())
    assert found[0] == found[2] != found[1]


def test_one_creation_is_one_draw_over_candidates():
    """Candidates that differ elsewhere only by name get the same forest."""
    import stratum

    x = stratum.var("X").skb.mark_as_X()
    step = stratum.choose_from({"one": x * 1.0, "same": x + 0.0}, name="step").as_data_op()
    pred = step.skb.apply(forest(), y=stratum.var("y").skb.mark_as_y())
    first, second = scores(pred)
    assert first == second
    again = scores(pred)
    assert first == again[0]  # the same creation, another run


def test_one_creation_is_one_draw_over_folds():
    """Folds with the same training rows get the same model."""
    rows = np.arange(40), np.arange(40, 60)
    X, y = data()
    search = pipeline(forest()).skb.make_grid_search(cv=[rows, rows, rows])
    search.fit({"X": X, "y": y})
    assert len({search.cv_results_[f"split{i}_test_score"][0] for i in range(3)}) == 1


def test_two_creations_are_two_draws():
    import stratum

    X, y = data()
    searches = [pipeline(forest()).skb.make_grid_search(cv=3) for _ in range(3)]
    stratum.run([(s, {"X": X, "y": y}) for s in searches])
    assert len({s.cv_results_["mean_test_score"][0] for s in searches}) == 3


@pytest.mark.parametrize("seeded", [False, True])
def test_faithful_is_independent_once_the_generator_is_seeded(seeded, monkeypatch):
    import stratum
    from stratum.hosts import estimators

    monkeypatch.setattr(estimators, "global_generator_is_seeded", lambda: seeded)
    with stratum.config_context(unseeded="faithful"):
        scores(pipeline(forest()))
    assert bool(stratum.last_run().fallbacks) == seeded


class Prints(StandardScaler):
    def fit(self, X, y=None):
        print("fitted")
        return super().fit(X, y)


def prints_score(model, X, y):
    print("scored")
    return 0.0


@pytest.mark.parametrize("where", ["step", "function", "scorer", "choice", "pipeline", "method"])
@pytest.mark.parametrize("option", ["derived", "faithful"])
def test_faithful_leaves_what_prints_to_the_libraries(where, option, capsys):
    import stratum
    from stratum.sklearn import GridSearchCV

    X, y = data()
    x = stratum.var("X").skb.mark_as_X()
    model = Ridge(alpha=stratum.choose_from([0.1, 1.0], name="alpha"))
    steps = {
        "step": lambda: x.skb.apply(Prints()),
        "function": lambda: x.skb.apply_func(lambda x: print("called") or x),
        "choice": lambda: x.skb.apply(stratum.choose_from([StandardScaler(), Prints()], name="step")),
        "method": lambda: x.apply(lambda column: print("column") or column),
    }
    with stratum.config_context(unseeded=option):
        if where == "pipeline":
            GridSearchCV(make_pipeline(Prints(), Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=3).fit(X, y)
        else:
            pred = steps.get(where, lambda: x)().skb.apply(model, y=stratum.var("y").skb.mark_as_y())
            scoring = prints_score if where == "scorer" else None
            pred.skb.make_grid_search(cv=3, scoring=scoring).fit({"X": X, "y": y})
    fallbacks = stratum.last_run().fallbacks
    assert capsys.readouterr().out
    assert bool(fallbacks) == (option == "faithful")
    assert all("could tell" in reason for _, reason in fallbacks)


def test_no_seed_is_left_behind():
    X, y = data()
    steps = make_pipeline(StandardScaler(), TruncatedSVD(n_components=3), SGDRegressor())
    for model in (forest(), steps):
        before = {k: v for k, v in model.get_params().items() if k.endswith("random_state")}
        assert before and set(before.values()) == {None}
        search = pipeline(model).skb.make_grid_search(cv=3)
        search.fit({"X": X, "y": y})
        fitted = search.best_learner_.find_fitted_estimator(lambda n: "Apply" in repr(n))
        for holder in (model, fitted):
            params = holder.get_params()
            assert {k: params[k] for k in before} == before
    trees = search.best_learner_.find_fitted_estimator(lambda n: "Apply" in repr(n))
    assert trees.named_steps["truncatedsvd"].random_state is None


def test_previews_draw_once_too():
    import stratum

    pred = pipeline(forest(), values=True)
    preview = pred.skb.preview()
    search = pred.skb.make_grid_search(cv=3, fitted=True)
    X, y = data()
    again = stratum.run([stratum.lazy.cross_validate(pred, {"X": X, "y": y}, cv=3)])[0]
    np.testing.assert_array_equal(again["test_score"].mean(), search.cv_results_["mean_test_score"][0])
    assert len(preview) == len(X)


SEEDED = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
import test_unseeded as t
np.random.seed({seed})
print(repr(t.scores(t.pipeline(t.forest())).tolist()))
np.random.seed({seed})
print(repr(t.scores(t.pipeline(t.forest())).tolist()))
"""


@pytest.mark.slow
def test_numpys_seed_is_respected():
    """A script that seeds NumPy's generator decides by that what is drawn."""
    found = {}
    for seed in (1, 2):
        script = SEEDED.format(folder=str(sides.HERE), seed=seed)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.split("\n")[:2]
        assert first == second
        found[seed] = first
    assert found[1] != found[2]


def test_unseeded_runs_leave_the_global_generator_alone():
    before = np.random.get_state()
    scores(pipeline(forest()))
    after = np.random.get_state()
    assert before[2] == after[2] and (before[1] == after[1]).all()


def case_random_state_instance(skrub):
    X, y = data()
    model = RandomForestRegressor(n_estimators=2, max_features=1, random_state=np.random.RandomState(3))
    x = skrub.var("X", X).skb.mark_as_X()
    pred = x.skb.apply(model, y=skrub.var("y", y).skb.mark_as_y())
    search = pred.skb.make_grid_search(fitted=True, cv=3)
    state = model.random_state.get_state()
    return search.cv_results_, pred.skb.cross_validate(cv=3), int(state[2]), np.asarray(state[1][:3])


def test_random_state_instances_are_copied_as_skrub_copies_them():
    sides.same(case_random_state_instance)


def case_generator_in_splitter(skrub):
    X, y = data()
    pred = skrub.var("X", X).skb.mark_as_X().skb.apply(Ridge(), y=skrub.var("y", y).skb.mark_as_y())
    splitter = KFold(3, shuffle=True, random_state=np.random.RandomState(0))
    return [pred.skb.make_grid_search(fitted=True, cv=splitter).cv_results_ for _ in range(2)]


def test_a_splitter_with_a_generator():
    sides.same(case_generator_in_splitter)


def case_independent(skrub):
    X, y = data()
    context = skrub.config_context(unseeded="independent") if hasattr(skrub, "lazy") else skrub.config_context()
    with context:
        np.random.seed(12)
        x = skrub.var("X").skb.mark_as_X()
        pred = x.skb.apply(forest(max_depth=skrub.choose_from([2, 3], name="depth")), y=skrub.var("y").skb.mark_as_y())
        search = pred.skb.make_grid_search(cv=3)
        search.fit({"X": X, "y": y})
        table = pred.skb.cross_validate({"X": X, "y": y}, cv=3)
        return search.cv_results_, table, float(np.random.random())


def test_independent_draws_as_skrub_does():
    sides.same(case_independent)


def test_independent_says_what_fell_back():
    import stratum

    with stratum.config_context(unseeded="independent"):
        scores(pipeline(forest()))
        assert any("independent" in reason for _, reason in stratum.last_run().fallbacks)
        scores(pipeline(Ridge()))
        assert stratum.last_run().fallbacks == []


def case_boosting(skrub, name):
    import importlib

    module = importlib.import_module(name)
    model = {"lightgbm": "LGBMRegressor", "xgboost": "XGBRegressor"}[name]
    kwargs = {"verbose": -1, "subsample": 0.5, "subsample_freq": 1} if name == "lightgbm" else {"subsample": 0.5}
    X, y = data()
    estimator = getattr(module, model)(n_estimators=3, n_jobs=1, **kwargs)
    pred = skrub.var("X", X).skb.mark_as_X().skb.apply(estimator, y=skrub.var("y", y).skb.mark_as_y())
    return [pred.skb.make_grid_search(fitted=True, cv=3).cv_results_ for _ in range(2)]


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_boosting_keeps_its_fixed_seed(name):
    """None is a seed of their own there: equal to skrub, and equal twice."""
    pytest.importorskip(name)
    first, second = sides.same(case_boosting, name, check_warnings=False).value
    assert first["mean_test_score"][0] == second["mean_test_score"][0]


def test_unseeded_methods_of_one_creation():
    """`sample()` without a seed: one creation, one draw in a batch."""
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, %r)
        import pandas as pd, stratum
        a = stratum.var("a", pd.Series(range(10000)))
        one = a.sample(3)
        values = stratum.run([stratum.lazy.eval(one), stratum.lazy.eval(one + 0), stratum.lazy.eval(a.sample(3))])
        assert values[0].tolist() == values[1].tolist() != values[2].tolist()
        """
        % str(sides.HERE)
    )
    done = forks.run(script)
    assert done.returncode == 0, done.stderr
