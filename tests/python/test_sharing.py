"""What is computed once: counted calls of a user's estimators and functions.

The estimators (see `counted`) say when they are fitted and applied; nothing here depends on time.
"""

from __future__ import annotations

import gc
import weakref

import counted
import numpy as np
import pandas as pd
import pytest
import sides
from counted import Mean, Nearest, Scale, Shift
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, mean_absolute_error

N_FOLDS = 3


_data_of_test = 0


@pytest.fixture(autouse=True)
def own_data():
    """Data of its own for each test: values that previews of other tests left are no use."""
    global _data_of_test
    _data_of_test += 1000


def table(n=60, seed=0):
    seed += _data_of_test
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, pd.Series(rng.normal(size=n) + X["a"], name="y")


def prepare(df):
    counted.hit("prepare")
    return df.assign(d=df["a"] * df["b"])


def lookup(seed):
    counted.hit("lookup")
    return pd.DataFrame({"e": [float(seed), 2.0]})


def add_mean(df, other):
    counted.hit("add_mean")
    return df.assign(e=other["e"].mean())


for _function in (prepare, lookup, add_mean):
    _function._stratum_purity = "pure"  # counting does not change what they return


def variables(skrub, values=True):
    """X and y with work before and beside them."""
    X, y = table()
    source = skrub.var("X", X) if values else skrub.var("X")
    target = (skrub.var("y", y) if values else skrub.var("y")).skb.mark_as_y()
    side = skrub.var("seed", 7 + _data_of_test) if values else skrub.var("seed")
    other = skrub.deferred(lookup)(side)
    x = source.skb.apply_func(prepare).skb.mark_as_X()
    return x.skb.apply_func(add_mean, other), target


def environment():
    X, y = table()
    return {"X": X, "y": y, "seed": 7 + _data_of_test}


def fused(skrub, transformers, models, values=True):
    """One graph with all preprocessings and models as choices."""
    x, y = variables(skrub, values)
    step = skrub.choose_from(transformers, name="transformer")
    return x.skb.apply(step).skb.apply(skrub.choose_from(models, name="model"), y=y)


def separate(skrub, transformers, models, values=True):
    """The same candidates, each a graph of its own, built from the first variable on."""
    pipelines = []
    for transformer in transformers:
        for model in models:
            x, y = variables(skrub, values)
            pipelines.append(x.skb.apply(transformer).skb.apply(model, y=y))
    return pipelines


def grid():
    return [Shift(0.0), Scale(1.0)], [Mean(1.0), Mean(0.5), Mean(2.0), Mean(0.0)]


def fits(counts):
    return {k: v for k, v in counts.items() if k.endswith(".fit")}


def others(counts):
    return {k: v for k, v in counts.items() if "(" not in k}


# -- One search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("refit", [True, False])
def test_each_transformer_is_fitted_once_per_fold(refit):
    import stratum

    pipeline = fused(stratum, *grid(), values=False)
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, refit=refit)
    counted.log().take()
    search.fit(environment())
    counts = counted.log().take()
    best = None
    if refit:
        winner = search.results_.iloc[0]
        best = (winner["transformer"].replace("()", "(0.0)"), winner["model"])
    for name in ("Shift(0.0)", "Scale(1.0)"):
        extra = refit and name[:5] == best[0][:5]
        assert counts[f"{name}.fit"] == N_FOLDS + extra, counts
        assert counts[f"{name}.transform"] == N_FOLDS, counts  # of the test rows, for four models
    models = {k: v for k, v in fits(counts).items() if k.startswith("Mean")}
    assert sorted(models) == [f"Mean({w}).fit" for w in (0.0, 0.5, 1.0, 2.0)]
    assert sum(models.values()) == 8 * N_FOLDS + refit
    assert sum(v for k, v in counts.items() if k.startswith("Mean") and k.endswith("predict")) == 8 * N_FOLDS + 0
    assert stratum.last_run().fallbacks == []


def test_plain_skrub_fits_them_again_for_each_candidate():
    """The reference of the test above: if skrub shared by itself there would be nothing to show."""
    said = sides.plain(case_counts)
    assert said.error is None, said.trace
    assert said.value["Shift(0.0).fit"] + said.value["Scale(1.0).fit"] == 2 * 4 * N_FOLDS + 1
    # once for X, then for every fit and score
    assert said.value["lookup"] == 8 * N_FOLDS * 2 + 1


def case_counts(skrub):
    pipeline = fused(skrub, *grid(), values=False)
    search = pipeline.skb.make_grid_search(cv=N_FOLDS)
    counted.log().take()
    search.fit(environment())
    return counted.log().take()


def case_results(skrub, seed):
    global _data_of_test
    _data_of_test = seed
    pipeline = fused(skrub, *grid(), values=False)
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, return_train_score=True)
    search.fit(environment())
    X, _ = table(seed=1)
    return search.cv_results_, search.results_, search.best_learner_.predict({"X": X, "seed": 7 + _data_of_test})


def test_sharing_does_not_change_results():
    sides.same(case_results, _data_of_test)


def test_what_does_not_depend_on_rows_runs_once():
    import stratum

    search = fused(stratum, *grid(), values=False).skb.make_grid_search(cv=N_FOLDS)
    counted.log().take()
    search.fit(environment())
    counts = others(counted.log().take())
    assert counts["prepare"] == 1 and counts["lookup"] == 1
    # For each side of each fold, and for all rows of the refit: never for a candidate.
    assert counts["add_mean"] == 2 * N_FOLDS + 1


def test_previews_serve_the_search():
    import stratum

    counted.log().take()
    pipeline = fused(stratum, *grid(), values=True)
    built = counted.log().take()
    assert built["Shift(0.0).fit"] == 1 and built["Mean(1.0).fit"] == 1  # the defaults of the choices
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, fitted=True)
    counts = counted.log().take()
    default_is_best = search.best_params_ == {k: 0 for k in search.best_params_}
    # The refit of the default outcome is its preview.
    assert counts["Shift(0.0).fit"] + counts["Scale(1.0).fit"] == 2 * N_FOLDS + (
        0 if search.results_.iloc[0]["transformer"].startswith("Shift") else 1
    )
    assert sum(v for k, v in fits(counts).items() if k.startswith("Mean")) == 8 * N_FOLDS + (not default_is_best)


def test_searching_again_for_more_computes_what_is_new():
    """A second search over one more model, in the same batch."""
    import stratum

    transformers, models = grid()
    first = fused(stratum, transformers, models[:3], values=False).skb.make_grid_search(cv=N_FOLDS, refit=False)
    second = fused(stratum, transformers, models, values=False).skb.make_grid_search(cv=N_FOLDS, refit=False)
    counted.log().take()
    stratum.run([(first, environment()), (second, environment())])
    counts = counted.log().take()
    assert sum(v for k, v in fits(counts).items() if k.startswith("Mean")) == 8 * N_FOLDS
    assert counts["Shift(0.0).fit"] == counts["Scale(1.0).fit"] == N_FOLDS


# -- Scorers --------------------------------------------------------------------------------------


def classes(n=60):
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    return X, pd.Series((X["a"] + rng.normal(size=n) > 0).astype(int), name="y")


def test_a_prediction_is_made_once_for_several_scorers():
    import stratum

    X, y = classes()
    pipeline = stratum.var("X").skb.mark_as_X().skb.apply(
        Nearest(stratum.choose_from([1.0, 2.0], name="power")), y=stratum.var("y").skb.mark_as_y()
    )
    scoring = ["accuracy", "f1", "balanced_accuracy", "roc_auc", "neg_log_loss", "average_precision"]
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, scoring=scoring, refit=False)
    counted.log().take()
    search.fit({"X": X, "y": y})
    counts = counted.log().take()
    for power in (1.0, 2.0):
        assert counts[f"Nearest({power}).fit"] == N_FOLDS
        assert counts[f"Nearest({power}).predict"] == N_FOLDS
        assert counts[f"Nearest({power}).predict_proba"] == N_FOLDS
    assert len(counts) == 6


def by_hand(estimator, X, y):
    """A scorer nobody knows: asks for what it likes, twice."""
    one, two = estimator.predict(X), estimator.predict(X)
    assert np.array_equal(one, two)
    return float((one == np.asarray(y)).mean())


def test_a_prediction_is_made_once_for_an_unknown_scorer():
    import stratum

    X, y = classes()
    pipeline = stratum.var("X").skb.mark_as_X().skb.apply(Nearest(), y=stratum.var("y").skb.mark_as_y())
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, scoring=by_hand, refit=False)
    counted.log().take()
    search.fit({"X": X, "y": y})
    assert counted.log().take() == {"Nearest(2.0).fit": N_FOLDS, "Nearest(2.0).predict": N_FOLDS}


def test_train_scores_share_the_fit():
    import stratum

    X, y = classes()
    pipeline = stratum.var("X").skb.mark_as_X().skb.apply(Shift()).skb.apply(
        Nearest(), y=stratum.var("y").skb.mark_as_y()
    )
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, scoring="accuracy", refit=False, return_train_score=True)
    counted.log().take()
    search.fit({"X": X, "y": y})
    counts = counted.log().take()
    assert counts["Nearest(2.0).fit"] == counts["Shift(0.0).fit"] == N_FOLDS
    assert counts["Nearest(2.0).predict"] == 2 * N_FOLDS


# -- Batches --------------------------------------------------------------------------------------


def fused_counts(stratum, refit=False):
    search = fused(stratum, *grid(), values=False).skb.make_grid_search(cv=N_FOLDS, refit=refit)
    counted.log().take()
    search.fit(environment())
    return counted.log().take(), search


def test_eight_searches_cost_what_the_fused_one_costs():
    import stratum

    expected, whole = fused_counts(stratum)
    searches = [p.skb.make_grid_search(cv=N_FOLDS, refit=False) for p in separate(stratum, *grid(), values=False)]
    counted.log().take()
    results = stratum.run([(s, environment()) for s in searches])
    assert counted.log().take() == expected
    assert all(a is b for a, b in zip(results, searches))
    together = sorted(s.cv_results_["mean_test_score"][0] for s in searches)
    assert together == sorted(whole.cv_results_["mean_test_score"])


def test_eight_searches_with_values_cost_what_the_fused_one_costs():
    """As users write them: from variables with values, environments not repeated."""
    import stratum

    expected, _ = fused_counts(stratum)
    searches = [p.skb.make_grid_search(cv=N_FOLDS, refit=False) for p in separate(stratum, *grid())]
    counted.log().take()
    stratum.run(searches)
    counts = counted.log().take()
    assert fits(counts) == fits(expected)
    assert {k: v for k, v in counts.items() if "(" in k} == {k: v for k, v in expected.items() if "(" in k}
    for name, count in others(counts).items():
        assert count <= others(expected)[name]


def test_eight_searches_with_refit_fit_each_once_on_all_rows():
    import stratum

    expected, _ = fused_counts(stratum)
    searches = [p.skb.make_grid_search(cv=N_FOLDS, refit=True) for p in separate(stratum, *grid(), values=False)]
    counted.log().take()
    stratum.run([(s, environment()) for s in searches])
    counts = counted.log().take()
    for name in ("Shift(0.0)", "Scale(1.0)"):
        assert counts[f"{name}.fit"] == N_FOLDS + 1
    for weight in (0.0, 0.5, 1.0, 2.0):
        # two graphs with this model, one for each transformer
        assert counts[f"Mean({weight}).fit"] == 2 * (N_FOLDS + 1)
    assert counts["add_mean"] == expected["add_mean"] + 1
    assert counts["prepare"] == counts["lookup"] == 1


def test_eight_searches_with_refit_are_served_by_previews():
    import stratum

    counted.log().take()
    pipelines = separate(stratum, *grid())
    built = counted.log().take()
    assert built["Shift(0.0).fit"] == built["Scale(1.0).fit"] == 1  # a preview serves equal pipelines
    searches = [p.skb.make_grid_search(cv=N_FOLDS) for p in pipelines]
    counted.log().take()
    stratum.run(searches)
    counts = counted.log().take()
    assert counts["Shift(0.0).fit"] == counts["Scale(1.0).fit"] == N_FOLDS
    assert {counts[f"Mean({w}).fit"] for w in (0.0, 0.5, 1.0, 2.0)} == {2 * N_FOLDS}


def test_a_search_keeps_the_previews_of_its_pipeline():
    """A function that builds a pipeline and returns the search leaves no DataOp behind."""
    import stratum
    from stratum.capture import previews

    def build(transformer, model):
        x, y = variables(stratum)
        return x.skb.apply(transformer).skb.apply(model, y=y).skb.make_grid_search(cv=N_FOLDS)

    gc.collect()
    known = len(previews._by_ref)
    counted.log().take()
    searches = [build(transformer, model) for transformer in grid()[0] for model in grid()[1]]
    gc.collect()
    built = counted.log().take()
    assert built["Shift(0.0).fit"] == built["Scale(1.0).fit"] == 1
    assert len(previews._by_ref) > known
    stratum.run(searches)
    counts = counted.log().take()
    assert counts["Shift(0.0).fit"] == counts["Scale(1.0).fit"] == N_FOLDS
    assert {counts[f"Mean({w}).fit"] for w in (0.0, 0.5, 1.0, 2.0)} == {2 * N_FOLDS}
    # They have been fitted: nothing is kept for them any longer.
    gc.collect()
    assert len(previews._by_ref) == known


def test_nodes_do_not_keep_the_previews_of_what_was_built():
    """Once the search is about to run, values go that neither the user nor the refit can ask for."""
    import stratum
    from stratum.capture import previews

    def build():
        x, y = variables(stratum)
        scaled = x.skb.apply(Shift(0.0)).skb.apply(Scale(1.0))
        alive = [weakref.ref(op) for op in (scaled, scaled._skrub_impl.X)]
        outputs = [weakref.ref(op._skrub_impl.results["preview"]) for op in (scaled, scaled._skrub_impl.X)]
        return scaled.skb.apply(Mean(2.0), y=y).skb.make_grid_search(cv=N_FOLDS), alive, outputs

    search, alive, outputs = build()
    previews.forget_recent()
    gc.collect()
    assert [ref() for ref in alive] == [None, None]
    assert [ref() for ref in outputs] == [None, None]
    previews.trim(search)
    counted.log().take()
    search.fit(previews.environment_of(search))
    counts = counted.log().take()
    assert counts["Shift(0.0).fit"] == counts["Scale(1.0).fit"] == counts["Mean(2.0).fit"] == N_FOLDS


def test_a_refit_may_ask_for_the_output_that_another_choice_reads():
    """What only previewed nodes read goes before the folds; what a choice reads stays for the refit."""
    import stratum
    from stratum.capture import previews

    def build():
        x, y = variables(stratum)
        scaled = x.skb.apply(Shift(0.0)).skb.apply(Scale(1.0))
        model = stratum.choose_from([Mean(2.0), Mean(0.0)], name="model")
        return scaled.skb.apply(model, y=y).skb.make_grid_search(cv=N_FOLDS)

    search = build()
    gc.collect()
    previews.trim(search)
    kept = [preview.output is not None for preview, _ in previews._environments[id(search)][2] if preview.states]
    assert kept == [True, True, False]  # the model, what it reads, and what only that reads
    counted.log().take()
    search.fit(previews.environment_of(search))
    counts = counted.log().take()
    assert counts["Shift(0.0).fit"] == counts["Scale(1.0).fit"] == N_FOLDS


def test_search_and_cross_validation_share():
    import stratum

    pipeline = fused(stratum, [Shift()], [Mean()], values=False)
    search = pipeline.skb.make_grid_search(cv=N_FOLDS, refit=False)
    counted.log().take()
    items = [
        (search, environment()),
        stratum.lazy.cross_validate(pipeline, environment(), cv=N_FOLDS, scoring=make_scorer(mean_absolute_error)),
        stratum.lazy.cross_validate(pipeline, environment(), cv=N_FOLDS),
    ]
    stratum.run(items)
    counts = counted.log().take()
    assert counts["Shift(0.0).fit"] == counts["Mean(1.0).fit"] == N_FOLDS
    assert counts["prepare"] == 1


def test_other_data_is_not_shared():
    import stratum

    pipelines = separate(stratum, [Scale()], [Mean()], values=False) * 2
    searches = [p.skb.make_grid_search(cv=N_FOLDS, refit=False) for p in pipelines]
    first, second = environment(), environment()
    second["X"] = second["X"] ** 3
    counted.log().take()
    stratum.run([(searches[0], first), (searches[1], second)])
    counts = counted.log().take()
    assert counts["Scale(1.0).fit"] == counts["Mean(1.0).fit"] == 2 * N_FOLDS
    a, b = (s.cv_results_["mean_test_score"][0] for s in searches)
    assert a != b


def test_data_changed_between_runs_is_other_data():
    """In place, between building and running: what counts is what is there."""
    import stratum

    X, y = table()
    x = stratum.var("X", X).skb.mark_as_X()
    pipeline = x.skb.apply(Shift()).skb.apply(Mean(), y=stratum.var("y", y).skb.mark_as_y())
    before = pipeline.skb.make_grid_search(cv=N_FOLDS, fitted=True)
    X.loc[:, "a"] += 100.0
    counted.log().take()
    after = pipeline.skb.make_grid_search(cv=N_FOLDS, fitted=True)
    counts = counted.log().take()
    assert counts["Shift(0.0).fit"] == counts["Mean(1.0).fit"] == N_FOLDS + 1
    fitted = after.best_learner_.find_fitted_estimator(lambda n: "Shift" in repr(n))
    transformer = getattr(fitted, "transformer_", fitted)
    np.testing.assert_allclose(transformer.mean_, X.to_numpy().mean(axis=0))
    assert before.best_learner_.find_fitted_estimator(lambda n: "Shift" in repr(n)) is not fitted


def test_evaluations_share():
    import stratum

    counted.log().take()
    evaluations = []
    for k in range(4):
        x, _ = variables(stratum, values=False)
        evaluations.append(stratum.lazy.eval(x["d"] * k, environment()))
    values = stratum.run(evaluations)
    assert counted.log().take() == {"add_mean": 1, "lookup": 1, "prepare": 1}
    for k, value in enumerate(values):
        pd.testing.assert_series_equal(value, table()[0].eval("a * b").rename("d") * k)


def test_library_estimators_are_shared_too():
    """They run on workers: eight searches ask for each transformer's fit on a fold once."""
    import collections

    import stratum
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    X, y = table(n=300)
    searches = []
    for make in (lambda: QuantileTransformer(n_quantiles=20, random_state=0), StandardScaler):
        for alpha in (0.1, 1.0, 10.0, 100.0):
            x = stratum.var("X").skb.mark_as_X().skb.apply(make())
            pipeline = x.skb.apply(Ridge(alpha=alpha), y=stratum.var("y").skb.mark_as_y())
            searches.append((pipeline.skb.make_grid_search(cv=N_FOLDS), {"X": X, "y": y}))
    stratum.run(searches)
    fitted = collections.Counter(what for op, what, _ in stratum.last_run().profile if op == "fit")
    assert fitted == {
        "<Apply QuantileTransformer>": N_FOLDS + 1,
        "<Apply StandardScaler>": N_FOLDS + 1,
        "<Apply Ridge>": 8 * (N_FOLDS + 1),
    }


def test_columns_named_at_random_keep_the_names_that_were_fitted():
    """Duplicate columns get a random suffix: what was learned from a preview goes with the preview's names."""
    import stratum

    def build(alpha):
        X, y = table()
        x = stratum.var("X", X).skb.mark_as_X()
        both = x.skb.concat([x * 2.0], axis=1)
        return both.skb.apply(Ridge(alpha), y=stratum.var("y", y).skb.mark_as_y()).skb.make_grid_search(cv=N_FOLDS)

    X, y = table()
    searches = [build(alpha) for alpha in (0.5, 1.0, 2.0)]
    for search in [build(0.25).fit({"X": X, "y": y}), *stratum.run(searches)]:
        predictions = search.best_learner_.predict({"X": X})
        assert np.corrcoef(predictions, y)[0, 1] > 0.3
        names = search.best_learner_.data_op._skrub_impl.estimator_.feature_names_in_
        assert len(set(names)) == 6 and any("__skrub_" in name for name in names)
