"""Wrong answers that an optimiser of such graphs can give without a word: each one is a test.

Every case runs with plain skrub in a process of its own and with stratum here, and both must agree;
where the right answer can be said in a line, it is said too.
"""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import sides
from sklearn import metrics
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler


def series():
    return pd.Series([1.0, 4.0, 9.0, 16.0, 25.0, 36.0], name="a")


def times(x, k=1, plus=0):
    return x * k + plus


def minus(a, b):
    return a - b


def run_all(skrub, pipelines):
    """Evaluate pipelines: together where there are batches, one after another in plain skrub."""
    if hasattr(skrub, "lazy"):
        return skrub.run([skrub.lazy.eval(p) for p in pipelines])
    return [p.skb.eval() for p in pipelines]


def data(n=120, seed=0, classes=2):
    X, y = make_classification(
        n_samples=n, n_features=6, n_informative=4, n_classes=classes, random_state=seed,
        weights=[0.75] if classes == 2 else None
    )
    return pd.DataFrame(X, columns=list("abcdef")), pd.Series(y, name="target")


def xy(skrub, **kwargs):
    X, y = data(**kwargs)
    return skrub.var("X", X).skb.mark_as_X(), skrub.var("y", y).skb.mark_as_y()


# -- Equal hashes, different things ---------------------------------------------------------------


def case_shifts(skrub):
    a = skrub.var("a", series())
    return run_all(skrub, [a.shift(-1) + 0.5 - a.shift(-2) * 2, a.shift(-1), a.shift(-2)])


def test_minus_one_and_minus_two_are_two_shifts():
    assert hash(-1) == hash(-2)
    both, one, two = sides.same(case_shifts).value
    s = series()
    pd.testing.assert_series_equal(both, s.shift(-1) + 0.5 - s.shift(-2) * 2)
    assert one.tolist()[0] == 4.0 and two.tolist()[0] == 9.0


def case_equal_but_not_the_same(skrub):
    a = skrub.var("a", 8)
    f = skrub.deferred(lambda x, y: (x, type(y).__name__, repr(y)))
    return run_all(skrub, [f(a, v) for v in (1, 1.0, True, np.int64(1), 0.0, -0.0, 0, False, "1", b"1", 2**61 - 1, 0)])


def test_equal_values_of_other_types_are_not_merged():
    kinds = [name for _, name, _ in sides.same(case_equal_but_not_the_same).value]
    assert kinds[:4] == ["int", "float", "bool", "int64"]


# -- Arguments ------------------------------------------------------------------------------------


def case_keywords(skrub):
    a = skrub.var("a", series())
    return run_all(skrub, [a.skb.apply_func(times, k=1), a.skb.apply_func(times, k=100), a.skb.apply_func(times, plus=1)])


def test_keyword_arguments_tell_calls_apart():
    one, hundred, plus = sides.same(case_keywords).value
    assert hundred.sum() == 100 * one.sum() and plus.sum() == one.sum() + 6


def case_column_order(skrub):
    df = skrub.var("df", pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    return run_all(skrub, [df[["a", "b"]], df[["b", "a"]], df[["a", "b"]].to_numpy(), df[["b", "a"]].to_numpy()])


def test_lists_of_columns_keep_their_order():
    ab, ba, _, values = sides.same(case_column_order).value
    assert list(ab.columns) == ["a", "b"] and list(ba.columns) == ["b", "a"]
    assert values.tolist() == [[3, 1], [4, 2]]


def case_argument_order(skrub):
    a, b = skrub.var("a", 10), skrub.var("b", 3)
    f = skrub.deferred(minus)
    return run_all(skrub, [f(a, b), f(b, a), f(a, b=b), f(b=a, a=b), a - b, b - a])


def test_argument_order_tells_calls_apart():
    assert sides.same(case_argument_order).value == [7, -7, 7, -7, 7, -7]


# -- Arithmetic that is not algebra ---------------------------------------------------------------


def case_numpy_semantics(skrub):
    x = skrub.var("x", np.array([-1.0, 0.0, 2.0, 800.0, 1e200, -1e200]))
    exp, log, sqrt = skrub.deferred(np.exp), skrub.deferred(np.log), skrub.deferred(np.sqrt)
    with np.errstate(all="ignore"):
        return run_all(skrub, [exp(log(x)), log(exp(x)), sqrt(x * x), sqrt(x) * sqrt(x), -(-x), x / x, x * 0])


def test_floating_point_is_not_rewritten():
    exp_log, log_exp, root, *_ = sides.same(case_numpy_semantics, check_warnings=False).value
    assert math.isnan(exp_log[0])
    assert log_exp[3] == math.inf
    assert root[4] == math.inf and root[0] == 1.0


def case_difference_with_itself(skrub):
    a = skrub.var("a", 5)
    s = skrub.var("s", series())
    i = skrub.var("i", np.array([1.0, np.inf, np.nan]))
    with np.errstate(all="ignore"):
        return run_all(skrub, [a - a, s - s, i - i, a * a, a + a])


def test_a_minus_a():
    a, s, i, *_ = sides.same(case_difference_with_itself, check_warnings=False).value
    assert a == 0 and s.tolist() == [0.0] * 6 and np.isnan(i[1]) and np.isnan(i[2])


# -- Scores ---------------------------------------------------------------------------------------


PENALTIES = [0.001, 1.0]


def case_scorers(skrub, scoring):
    X, y = xy(skrub)
    pred = X.skb.apply(StandardScaler()).skb.apply(
        LogisticRegression(C=skrub.choose_from(PENALTIES, name="C")), y=y
    )
    search = pred.skb.make_grid_search(fitted=True, cv=3, scoring=scoring, refit=False)
    table = pred.skb.cross_validate(cv=3, scoring=scoring, return_indices=True)
    return {"search": search.cv_results_, "table": table}


@pytest.mark.parametrize(
    "scoring, metric, sign, soft",
    [
        ("roc_auc", metrics.roc_auc_score, 1, "decision_function"),
        ("neg_log_loss", metrics.log_loss, -1, "predict_proba"),
        ("average_precision", metrics.average_precision_score, 1, "decision_function"),
        ("neg_brier_score", metrics.brier_score_loss, -1, "predict_proba"),
    ],
)
def test_scorers_call_the_model_in_their_own_way(scoring, metric, sign, soft):
    """Each score is the metric of probabilities or decisions, and not that of predicted labels."""
    value = sides.same(case_scorers, scoring).value
    X, y = data()
    table = value["table"]
    assert len(table) == 3
    for fold, (train, test) in enumerate(zip(table["train_indices"], table["test_indices"])):
        scaler = StandardScaler().fit(X.iloc[train])
        for candidate, C in enumerate(PENALTIES):
            assert value["search"]["params"][candidate] == {"data_op__0": candidate}
            model = LogisticRegression(C=C).fit(scaler.transform(X.iloc[train]), y.iloc[train])
            rows, truth = scaler.transform(X.iloc[test]), y.iloc[test]
            answer = getattr(model, soft)(rows)
            right = sign * metric(truth, answer if answer.ndim == 1 else answer[:, 1])
            labels = sign * metric(truth, model.predict(rows))
            score = value["search"][f"split{fold}_test_score"][candidate]
            assert score == pytest.approx(right, rel=1e-9), (fold, C)
            assert abs(score - labels) > 1e-3, (fold, C)
            if candidate == 0:
                assert table["test_score"].iloc[fold] == score


def case_default_scoring(skrub, classes):
    X, y = xy(skrub, classes=classes)
    pred = X.skb.apply(RandomForestClassifier(n_estimators=5, random_state=0), y=y)
    table = pred.skb.cross_validate(return_indices=True)
    return table, [y.skb.eval().iloc[rows].mean() for rows in table["test_indices"]]


@pytest.mark.parametrize("classes", [2, 3])
def test_default_scoring_of_a_classifier_is_accuracy_on_stratified_folds(classes):
    table, means = sides.same(case_default_scoring, classes).value
    assert len(table) == 5 and ((table["test_score"] > 0.3) & (table["test_score"] <= 1)).all()
    if classes == 2:
        assert max(means) - min(means) <= 1 / 24 + 1e-9


# -- Choices --------------------------------------------------------------------------------------


def case_choice_in_parameters(skrub):
    X, y = xy(skrub)
    pred = X.skb.apply(
        RandomForestClassifier(
            n_estimators=skrub.choose_from([2, 5], name="trees"),
            max_depth=skrub.optional(skrub.choose_int(1, 4, n_steps=3, name="depth"), name="limit"),
            random_state=0,
        ),
        y=y,
    )
    search = pred.skb.make_grid_search(fitted=True, cv=3)
    return search.cv_results_, search.results_, search.best_learner_.describe_params()


def test_choices_inside_the_parameters_of_an_estimator():
    results, *_ = sides.same(case_choice_in_parameters).value
    assert len(results["params"]) == 8


def case_two_levels(skrub):
    X, y = xy(skrub)
    scaled = skrub.choose_from(
        {
            "standard": X.skb.apply(StandardScaler(with_mean=skrub.choose_bool(name="center"))),
            "range": X.skb.apply(MinMaxScaler()),
            "none": X,
        },
        name="scaling",
    ).as_data_op()
    model = skrub.choose_from(
        {
            "logistic": LogisticRegression(C=skrub.choose_from([1e-4, 1.0], name="C")),
            "forest": RandomForestClassifier(n_estimators=3, random_state=0),
        },
        name="model",
    )
    pred = scaled.skb.apply(model, y=y)
    search = pred.skb.make_grid_search(fitted=True, cv=3, scoring="roc_auc")
    return search.cv_results_, search.results_, search.best_params_


def expected_two_levels():
    """The scores of each candidate, by scikit-learn alone."""
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    X, y = data()
    scalings = {
        ("standard", True): StandardScaler(), ("standard", False): StandardScaler(with_mean=False),
        ("range", None): MinMaxScaler(), ("none", None): "passthrough",
    }  # fmt: skip
    models = {
        ("logistic", 1e-4): LogisticRegression(C=1e-4), ("logistic", 1.0): LogisticRegression(C=1.0),
        ("forest", None): RandomForestClassifier(n_estimators=3, random_state=0),
    }  # fmt: skip
    return {
        (*s, *m): cross_val_score(make_pipeline(scaler, model), X, y, cv=3, scoring="roc_auc").mean()
        for s, scaler in scalings.items()
        for m, model in models.items()
    }


@pytest.mark.slow
def test_each_score_stands_beside_its_own_candidate():
    _, table, _ = sides.same(case_two_levels).value
    expected = expected_two_levels()
    assert len(table) == len(expected) == 12

    def value(row, name):
        cell = row[name] if name in row else None
        return None if cell is None or cell != cell else cell

    seen = {}
    for _, row in table.iterrows():
        key = (value(row, "scaling"), value(row, "center"), value(row, "model"), value(row, "C"))
        seen[key] = row["mean_test_score"]
    assert set(seen) == set(expected)
    for key in expected:
        assert seen[key] == pytest.approx(expected[key], abs=1e-9), key


# -- Randomness -----------------------------------------------------------------------------------


def case_seeded_samples(skrub):
    a = skrub.var("a", pd.Series(range(1000)))
    return run_all(skrub, [a.sample(5, random_state=3), a.sample(5, random_state=3), a.sample(5, random_state=4)])


def test_two_unseeded_samples_are_two_draws():
    import stratum

    a = stratum.var("a", pd.Series(range(100_000)))
    one, other = a.sample(20), a.sample(20)
    first, second, third = stratum.run([stratum.lazy.eval(op) for op in (one, other, one)])
    assert first.tolist() != second.tolist()
    assert first.tolist() == third.tolist()  # one creation is one draw
    difference = (a.sample(20).reset_index(drop=True) - a.sample(20).reset_index(drop=True)).skb.eval()
    assert difference.abs().sum() > 0
    x, y, z = sides.same(case_seeded_samples).value
    assert x.tolist() == y.tolist() != z.tolist()


# -- Settings and the user's objects --------------------------------------------------------------


def test_setting_one_option_leaves_the_others():
    import stratum

    before = stratum.get_config()
    with stratum.config_context():
        stratum.set_config(n_threads=1)
        stratum.set_config(table_report_plots_threshold=17)
        stratum.set_config(seed=5)
        now = stratum.get_config()
        changed = {k for k in now if now[k] != before[k]}
        assert changed <= {"n_threads", "table_report_plots_threshold", "seed"}
        assert (now["n_threads"], now["table_report_plots_threshold"], now["seed"]) == (1, 17, 5)
    assert stratum.get_config() == before


def picture(data_op):
    """Everything that is on the nodes of a graph, by node: which objects, and what is in them."""
    from skrub._data_ops import _evaluation

    found = []
    for node in _evaluation.nodes(data_op):
        impl = node._skrub_impl
        found.append((id(impl), type(impl), {k: (id(v), content(v)) for k, v in vars(impl).items()}))
    return found


def content(value, above=()):
    """What an object is made of: it shows a change made in place, and which objects its parts are."""
    from skrub._data_ops._data_ops import DataOp

    if id(value) in above or isinstance(value, DataOp | type) or callable(value):
        return id(value)
    above = (*above, id(value))
    if isinstance(value, dict):
        return [(content(k, above), id(v), content(v, above)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [(id(v), content(v, above)) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, pd.DataFrame):
        return [(name, content(value[name])) for name in value.columns]
    if isinstance(value, pd.Series | pd.Index):
        return value.name, pickle.dumps(value.to_numpy()), None if isinstance(value, pd.Index) else content(value.index)
    if isinstance(value, np.ndarray):
        return pickle.dumps(value)
    if hasattr(value, "__dict__"):
        return type(value), content(vars(value), above)
    return type(value), repr(value)


def users_graph(stratum):
    """Data, a graph with choices and an estimator on it, and that estimator."""
    X, y = data()
    x = stratum.var("X", X).skb.mark_as_X()
    target = stratum.var("y", y).skb.mark_as_y()
    forest = RandomForestClassifier(n_estimators=stratum.choose_from([2, 3], name="n"), random_state=0)
    return X, y, (x + 0).skb.apply(StandardScaler()).skb.apply(forest, y=target), forest


def test_the_picture_of_a_graph_shows_each_change():
    """What the next test stands on: changes in place, of attributes, of estimators, of data and of results."""
    import stratum
    from skrub._data_ops import _evaluation

    X, _, pred, forest = users_graph(stratum)
    impls = [node._skrub_impl for node in _evaluation.nodes(pred)]
    apply = next(i for i in impls if getattr(i, "estimator", None) is forest)

    def changes(do, undo):
        before = picture(pred)
        assert picture(pred) == before
        do()
        assert picture(pred) != before
        undo()
        assert picture(pred) == before

    changes(lambda: setattr(forest, "max_depth", 3), lambda: setattr(forest, "max_depth", None))
    changes(lambda: apply.results.update(fit=1), lambda: apply.results.pop("fit"))
    changes(lambda: setattr(apply, "note", 1), lambda: delattr(apply, "note"))
    value = X.iloc[0, 0]
    changes(lambda: X.isetitem(0, X["a"].where(X.index != 0, 7.0)), lambda: X.isetitem(0, X["a"].where(X.index != 0, value)))


def test_the_users_graph_is_untouched():
    import stratum

    X, y, pred, forest = users_graph(stratum)
    before, values, parameters = picture(pred), (X.copy(), y.copy()), content(vars(forest))
    search = pred.skb.make_grid_search(cv=3)
    result = stratum.run([(search, {"X": X, "y": y}), stratum.lazy.cross_validate(pred)])[0]
    assert result is search and len(search.cv_results_["params"]) == 2
    assert picture(pred) == before
    assert content(vars(forest)) == parameters
    pd.testing.assert_frame_equal(X, values[0])
    pd.testing.assert_series_equal(y, values[1])


def case_ridge_after_search(skrub):
    X, y = data()
    a = skrub.var("a", X)
    b = a.drop(columns="a") * 2
    pred = b.skb.mark_as_X().skb.apply(Ridge(alpha=skrub.choose_from([1.0, 2.0], name="alpha")), y=skrub.as_data_op(y).skb.mark_as_y())
    search = pred.skb.make_grid_search(fitted=True, cv=3)
    return b.skb.eval(), pred.skb.eval(), search.results_, pred.skb.preview()


def test_the_users_graph_gives_the_same_after_a_run():
    sides.same(case_ridge_after_search)
