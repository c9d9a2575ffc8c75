"""Results that outlive a run: what a later search finds in memory, and what it must not."""

import warnings

import numpy as np
import pandas as pd
import pytest
import skrub
import stratum
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from stratum import engine as engines
from stratum.reuse import session

calls = []


@pytest.fixture(autouse=True)
def keeps_everything(monkeypatch):
    """An engine of its own that keeps whatever may be kept, however cheap."""
    monkeypatch.setattr(engines, "_engine", None)
    calls.clear()
    with stratum.config_context(reuse="memory", reuse_seconds=0):
        yield


def table(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"a": rng.normal(size=rows), "b": rng.normal(size=rows), "c": rng.integers(0, 5, rows), "y": rng.normal(size=rows)}
    )


def pipeline(frame, alphas=(0.1, 1.0), step=None):
    data = skrub.var("data", frame)
    X = data[["a", "b", "c"]].skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    if step is not None:
        X = X.skb.apply_func(step) if callable(step) and not hasattr(step, "get_params") else X.skb.apply(step)
    return X.skb.apply(StandardScaler()).skb.apply(Ridge(alpha=skrub.choose_from(list(alphas), name="alpha")), y=y)


def search(op, **kwargs):
    return op.skb.make_grid_search(fitted=True, cv=3, **kwargs)


def scores(found):
    return [v for k, v in found.cv_results_.items() if "_test_" in k]


def assert_same(found, other):
    for one, two in zip(scores(found), scores(other), strict=True):
        np.testing.assert_array_equal(one, two)


def without(op, **kwargs):
    """The same search where nothing is kept."""
    with stratum.config_context(reuse="off"):
        return search(op, **kwargs)


def test_a_search_made_again_runs_nothing_that_was_run():
    first = search(pipeline(table()))
    ran = stratum.last_run()
    assert ran.recalled == 0
    again = search(pipeline(table()))  # equal data, another object
    stats = stratum.last_run()
    assert stats.recalled > 0
    assert not [op for op, _, _ in stats.profile if op in ("fit", "apply")]
    assert_same(first, again)
    np.testing.assert_array_equal(first.best_learner_.predict({"data": table()}), again.best_learner_.predict({"data": table()}))


def test_what_is_new_is_computed_from_what_is_known():
    search(pipeline(table()))
    wider = search(pipeline(table(), alphas=(0.1, 1.0, 10.0)))
    fits = [text for op, text, _ in stratum.last_run().profile if op == "fit"]
    assert fits and not [text for text in fits if "StandardScaler" in text]
    assert_same(wider, without(pipeline(table(), alphas=(0.1, 1.0, 10.0))))


def test_memory_is_the_default():
    with stratum.config_context(reuse=None):
        first = search(pipeline(table()))
        again = search(pipeline(table()))
        assert stratum.last_run().recalled > 0
    assert_same(first, again)


def test_what_is_kept_by_default_leaves_room():
    """Beyond the floor it has only what the process takes below its own peak; a limit that is named holds as it is."""
    with stratum.config_context(reuse=None, reuse_bytes=None):
        search(pipeline(table()))
        stats = engines.get_engine().reuse.stats()
        assert 0 < stats["bytes"] <= stats["max_bytes"]
        assert stats["max_bytes"] >= session.FLOOR
    with stratum.config_context(reuse=None, reuse_bytes=5_000_000):
        search(pipeline(table()))
        assert engines.get_engine().reuse.stats()["max_bytes"] == 5_000_000


def test_one_line_says_what_was_reused(capfd, monkeypatch):
    monkeypatch.setattr(engines._progress, "DELAY_S", 0.0)
    with stratum.config_context(progress=True):
        search(pipeline(table()))
        assert "reused" not in capfd.readouterr().err
        search(pipeline(table()))
    stats = stratum.last_run()
    lines = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("reused ")]
    assert len(lines) == 1
    asked = stats.recalled + stats.nodes_run
    assert lines[0].startswith(f"reused {stats.recalled} of {asked} nodes (") and "kept in memory" in lines[0]
    assert stats.saved_seconds > 0
    with stratum.config_context(progress=False):
        search(pipeline(table()))
    assert capfd.readouterr().err == ""


def test_verify_computes_again_and_compares():
    with stratum.config_context(reuse="verify"):
        first = search(pipeline(table()))
        verified = 0
        for _ in range(session.VERIFIED + 1):  # each run takes another part
            again = search(pipeline(table()))
            assert_same(first, again)
            verified += bool(stratum.last_run().recalled)
        reuse = engines.get_engine().reuse
        assert reuse.verified > 0 and verified == session.VERIFIED + 1


def test_verify_finds_a_stale_result(monkeypatch):
    def changed(self, X, y=None, sample_weight=None):
        fit(self, X, y, sample_weight)
        self.coef_ = self.coef_ * 1.5
        return self

    fit = Ridge.fit
    with stratum.config_context(reuse="verify", native=False):
        search(pipeline(table()))
        monkeypatch.setattr(Ridge, "fit", changed)  # not seen: libraries are known by their version
        with pytest.raises(stratum.VerifyError, match=r"fit <Apply Ridge>.*coef_"):
            for _ in range(session.VERIFIED + 1):
                search(pipeline(table()))


def test_nothing_is_kept_where_it_is_off():
    with stratum.config_context(reuse="off"):
        search(pipeline(table()))
        search(pipeline(table()))
        assert stratum.last_run().recalled == 0
    assert engines.get_engine().reuse.stats() == {}


def test_no_room():
    with stratum.config_context(reuse_bytes=0):
        search(pipeline(table()))
        search(pipeline(table()))
        assert stratum.last_run().recalled == 0


def test_data_changed_in_place_is_other_data():
    frame = table()
    search(pipeline(frame))
    frame.loc[3, "a"] = 99.0
    found = search(pipeline(frame))
    assert_same(found, without(pipeline(frame.copy())))


def test_whoever_changes_a_result_changes_his_own():
    first = search(pipeline(table()))
    first.best_learner_.data_op._skrub_impl.estimator_.coef_[:] = 1e9
    again = search(pipeline(table()))
    assert_same(again, without(pipeline(table())))
    want = without(pipeline(table())).best_learner_.predict({"data": table()})
    np.testing.assert_array_equal(again.best_learner_.predict({"data": table()}), want)
    third = search(pipeline(table()))
    third.best_learner_.data_op._skrub_impl.estimator_.coef_[:] = -1
    np.testing.assert_array_equal(search(pipeline(table())).best_learner_.predict({"data": table()}), want)


def counting(frame):
    calls.append(len(frame))
    return frame


def drawing(frame):
    return frame + np.random.normal(size=frame.shape)


@stratum.pure
def draws_and_is_pure(frame):
    return frame + np.random.normal(size=frame.shape)


@stratum.impure
def impure_by_its_word(frame):
    return frame * 2


def doubling(frame):
    return frame * 2


def test_a_function_that_shows_its_calls_is_called_again():
    search(pipeline(table(), step=counting))
    before = len(calls)
    search(pipeline(table(), step=counting))
    assert len(calls) > before


def test_a_function_that_draws_draws_again():
    first = search(pipeline(table(), step=drawing))
    again = search(pipeline(table(), step=drawing))
    assert not np.array_equal(scores(first)[0], scores(again)[0])


def test_a_function_that_is_said_to_be_pure_is_not_called_again():
    first = search(pipeline(table(), step=draws_and_is_pure))
    again = search(pipeline(table(), step=draws_and_is_pure))
    assert_same(first, again)
    assert not [op for op, _, _ in stratum.last_run().profile if op == "fit"]


def test_a_function_that_is_said_to_be_impure_runs_again():
    for _ in range(2):
        search(pipeline(table(), step=impure_by_its_word))
        assert [op for op, _, _ in stratum.last_run().profile if op == "fit"]


def test_another_version_is_another_function():
    def step(frame):
        return frame * 2

    search(pipeline(table(), step=stratum.version("1")(step)))
    search(pipeline(table(), step=stratum.version("1")(step)))
    assert not [op for op, _, _ in stratum.last_run().profile if op == "fit"]
    search(pipeline(table(), step=stratum.version("2")(step)))
    assert [op for op, _, _ in stratum.last_run().profile if op == "fit"]
    with pytest.raises(TypeError, match="version"):
        stratum.version(2)


class Warner(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        warnings.warn("a warning from a fit", UserWarning, stacklevel=1)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


def test_what_warned_warns_again():
    op = pipeline(table(), step=Warner())
    for _ in range(2):
        with pytest.warns(UserWarning, match="a warning from a fit"):
            search(op)


class Talker(BaseEstimator, TransformerMixin):
    def __init__(self, verbose=0):
        self.verbose = verbose

    def fit(self, X, y=None):
        if self.verbose:
            print("fitting")
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


def test_what_printed_prints_again(capsys):
    op = pipeline(table(), step=Talker(verbose=1))
    capsys.readouterr()
    search(op)
    said = capsys.readouterr().out.count("fitting")
    assert said > 0
    search(pipeline(table(), step=Talker(verbose=1)))
    assert capsys.readouterr().out.count("fitting") >= said


def test_failures_are_not_kept():
    op = pipeline(table(), alphas=(1.0, -1.0))  # Ridge refuses the second
    for _ in range(2):
        with pytest.warns(Warning, match="fits failed"):
            found = search(op, error_score=np.nan)
        assert np.isnan(found.cv_results_["mean_test_score"]).sum() == 1


def test_scorers_of_users_are_asked_again():
    def scorer(model, X, y):
        calls.append(len(y))
        return 0.5

    for _ in range(2):
        calls.clear()
        pipeline(table()).skb.make_grid_search(fitted=True, cv=3, scoring=scorer)
        assert len(calls) == 6


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_absolute_error", ["r2", "neg_max_error"]])
def test_scorings_are_kept_apart(scoring):
    search(pipeline(table()))
    refit = True if isinstance(scoring, str) else "r2"
    found = search(pipeline(table()), scoring=scoring, refit=refit)
    assert_same(found, without(pipeline(table()), scoring=scoring, refit=refit))
    assert_same(search(pipeline(table()), scoring=scoring, refit=refit), found)


def test_settings_are_part_of_the_key():
    search(pipeline(table()))
    with stratum.config_context(exactness="equivalent"):
        search(pipeline(table()))
        assert [op for op, _, _ in stratum.last_run().profile if op == "fit"]


def test_cross_validation_and_learners():
    op = pipeline(table(), step=PolynomialFeatures(2))
    first = op.skb.cross_validate(cv=3, return_learner=True)
    again = op.skb.cross_validate(cv=3, return_learner=True)
    assert stratum.last_run().recalled > 0
    np.testing.assert_array_equal(first["test_score"], again["test_score"])
    one, two = first["learner"][0], again["learner"][0]
    assert one.data_op._skrub_impl.estimator_ is not two.data_op._skrub_impl.estimator_
    np.testing.assert_array_equal(one.predict({"data": table()}), two.predict({"data": table()}))


def test_user_code_gets_copies_of_what_is_kept():
    def spoil(frame):
        frame["a"] = 0.0
        return frame

    op = pipeline(table(), step=doubling)
    want = without(op)
    search(op)
    data = skrub.var("data", table())
    X = data[["a", "b", "c"]].skb.mark_as_X().skb.apply_func(doubling)
    spoiled = X.skb.apply_func(spoil).skb.apply(Ridge(), y=data["y"].skb.mark_as_y())
    search(spoiled)
    assert_same(search(pipeline(table(), step=doubling)), want)


def test_random_names_are_not_kept():
    def twice(frame):
        data = skrub.var("data", frame)
        X = data[["a", "b"]].skb.mark_as_X()
        both = X.skb.concat([X], axis=1)
        return both.skb.apply(Ridge(), y=data["y"].skb.mark_as_y())

    op = twice(table())
    for _ in range(2):
        found = search(op)
        np.testing.assert_array_equal(
            found.best_learner_.predict({"data": table()}), without(op).best_learner_.predict({"data": table()})
        )


def test_code_that_nobody_can_see_runs_again():
    import ctypes

    absolute = ctypes.CDLL(None).labs  # compiled, and no library's that is known

    def step(frame):
        return frame * absolute(-2)

    for _ in range(2):
        search(pipeline(table(), step=step))
        assert [op for op, _, _ in stratum.last_run().profile if op == "fit"]
