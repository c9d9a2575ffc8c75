"""Batches: `stratum.run` and `stratum.run_as_completed`, and runs side by side, inside each other, after a fork."""

from __future__ import annotations

import os
import textwrap
import threading
import traceback

import forks
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler


def table(n=45, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, pd.Series(X @ [1.0, 2.0, 3.0] + rng.normal(size=n), name="y")


def pipeline(values=True, alpha=None, seed=0):
    import stratum

    X, y = table(seed=seed)
    x = (stratum.var("X", X) if values else stratum.var("X")).skb.mark_as_X()
    target = (stratum.var("y", y) if values else stratum.var("y")).skb.mark_as_y()
    alpha = stratum.choose_from([0.1, 1.0, 10.0], name="alpha") if alpha is None else alpha
    return x.skb.apply(StandardScaler()).skb.apply(Ridge(alpha=alpha), y=target)


def environment(seed=0):
    X, y = table(seed=seed)
    return {"X": X, "y": y}


def fails(x):
    raise LookupError("this pipeline fails")


def failing():
    import stratum

    x = stratum.var("X").skb.mark_as_X().skb.apply_func(fails)
    return x.skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y())


def same_table(a, b):
    times = [c for c in a.columns if c.endswith("_time")]
    assert list(a.columns) == list(b.columns)
    pd.testing.assert_frame_equal(a.drop(columns=times), b.drop(columns=times))


# -- Kinds and order ------------------------------------------------------------------------------


def all_kinds():
    """(items, what each gives): every kind of item."""
    import stratum

    one, other = pipeline(), pipeline(values=False)
    doubled = stratum.var("a", 21) * 2
    items = [
        stratum.lazy.eval(doubled),
        one.skb.make_grid_search(cv=3),
        stratum.lazy.cross_validate(one, cv=3, scoring="neg_mean_squared_error"),
        (other.skb.make_randomized_search(cv=3, n_iter=2, random_state=0), environment(1)),
        stratum.lazy.eval(doubled, {"a": 4}),
        stratum.lazy.cross_validate(other, environment(2), cv=3, return_learner=True),
    ]
    return items


def check_all_kinds(results):
    import skrub

    assert results[0] == 42 and results[4] == 8
    assert isinstance(results[1], skrub.ParamSearch) and isinstance(results[3], skrub.ParamSearch)
    same_table(results[1].results_, pipeline().skb.make_grid_search(fitted=True, cv=3).results_)
    assert len(results[3].cv_results_["params"]) == 2
    X, y = table(seed=0)
    expected = cross_val_score(Ridge(alpha=0.1), StandardScaler().fit_transform(X), y, cv=3)
    assert len(results[2]) == len(expected) == 3 and (results[2]["test_score"] < 0).all()
    assert [type(one).__name__ for one in results[5]["learner"]] == ["SkrubLearner"] * 3


def test_every_kind_in_the_order_of_the_items():
    import stratum

    items = all_kinds()
    results = stratum.run(items)
    assert results[1] is items[1] and results[3] is items[3][0]
    check_all_kinds(results)


def test_as_completed_gives_each_once():
    import stratum

    items = all_kinds()
    seen = dict(stratum.run_as_completed(iter(items)))
    assert sorted(seen) == list(range(len(items)))
    check_all_kinds([seen[i] for i in range(len(items))])


def test_an_empty_batch():
    import stratum

    assert stratum.run([]) == [] and list(stratum.run_as_completed([])) == []


def test_the_same_item_twice():
    import stratum

    evaluation = stratum.lazy.eval(stratum.var("a", 3) + 1)
    assert stratum.run([evaluation, evaluation]) == [4, 4]
    first, second = (pipeline().skb.make_grid_search(cv=3) for _ in range(2))
    results = stratum.run([first, second, stratum.lazy.cross_validate(pipeline(alpha=1.0), cv=3)])
    same_table(results[0].results_, results[1].results_)
    assert results[0].best_learner_ is not results[1].best_learner_


def test_the_same_search_twice_in_a_batch():
    import stratum

    search = pipeline().skb.make_grid_search(cv=3)
    results = stratum.run([search, search])
    assert results[0] is results[1] is search and search.results_.shape[0] == 3


@pytest.mark.parametrize("item", [3, None, "search", pytest.param(object(), id="object"), (1, 2), Ridge()])
def test_what_is_no_item_is_refused(item):
    import stratum

    with pytest.raises(TypeError, match="an item of a batch is"):
        stratum.run([item])
    with pytest.raises(TypeError, match="an item of a batch is"):
        list(stratum.run_as_completed([stratum.lazy.eval(stratum.var("a", 1)), item]))


def test_bad_arguments():
    import stratum

    with pytest.raises(ValueError, match="on_error must be 'raise' or 'return'"):
        stratum.run([], on_error="ignore")
    with pytest.raises(TypeError, match="takes a skrub DataOp"):
        stratum.lazy.eval(3)
    with pytest.raises(TypeError, match="takes a skrub DataOp"):
        stratum.lazy.cross_validate(Ridge())


def test_environment_of_where_it_was_built():
    """A search in a batch takes the values that its variables had."""
    import stratum

    searches = [pipeline(seed=s).skb.make_grid_search(cv=3, refit=False) for s in (0, 1)]
    stratum.run(searches)
    for seed, search in enumerate(searches):
        expected = pipeline(values=False).skb.make_grid_search(cv=3, refit=False)
        expected.fit(environment(seed))
        same_table(search.results_, expected.results_)
    missing = pipeline(values=False).skb.make_grid_search(cv=3)
    with pytest.raises(Exception, match="X"):
        stratum.run([missing])


# -- Errors ---------------------------------------------------------------------------------------


def batch_with_errors():
    import stratum

    return [
        (pipeline(values=False).skb.make_grid_search(cv=3), environment()),
        stratum.lazy.eval(failing(), environment()),
        (failing().skb.make_grid_search(cv=3), environment()),
        stratum.lazy.cross_validate(pipeline(values=False), environment(), cv=3),
        stratum.lazy.cross_validate(failing(), environment(), cv=3, error_score="raise"),
        stratum.lazy.eval(stratum.var("nothing") + 1),
    ]


def check_errors(results):
    assert len(results[0].results_) == 3 and len(results[3]) == 3
    assert type(results[1]) is LookupError and type(results[4]) is LookupError
    assert type(results[2]) is ValueError and "All the 3 fits failed" in str(results[2])
    assert type(results[5]).__name__ == "UninitializedVariable"
    for i in (1, 4):
        notes = results[i].__notes__
        assert any("apply_func(fails)" in note for note in notes)


def test_errors_stand_in_their_place():
    import stratum

    check_errors(stratum.run(batch_with_errors(), on_error="return"))


def test_the_first_error_is_raised_after_all_have_ended():
    import stratum

    with pytest.raises(LookupError, match="this pipeline fails") as caught:
        stratum.run(batch_with_errors())
    check_errors(caught.value.results)
    assert caught.value.results[1] is caught.value


def test_errors_as_completed():
    import stratum

    seen = dict(stratum.run_as_completed(batch_with_errors()))
    check_errors([seen[i] for i in range(6)])


def test_equal_pipelines_fail_each_for_itself():
    """One failing node, two items: each has its error, with its own line."""
    import stratum

    first = stratum.var("X").skb.apply_func(fails)
    second = stratum.var("X").skb.apply_func(fails)
    errors = stratum.run([stratum.lazy.eval(p, {"X": 1}) for p in (first, second)], on_error="return")
    assert [type(e) for e in errors] == [LookupError] * 2
    assert "first = " in "".join(errors[0].__notes__) and "second = " not in "".join(errors[0].__notes__)
    assert "second = " in "".join(errors[1].__notes__) and "first = " not in "".join(errors[1].__notes__)


def test_stopping_early():
    """Who stops listening leaves the rest undone; the next run works."""
    import stratum

    for _ in stratum.run_as_completed([stratum.lazy.eval(stratum.var("a", i) + 1) for i in range(5)]):
        break
    assert stratum.run([stratum.lazy.eval(stratum.var("a", 1) + 1)]) == [2]
    waiting = stratum.run_as_completed([stratum.lazy.eval(stratum.var("a", 1) + 1), pipeline().skb.make_grid_search(cv=3)])
    next(waiting)
    # another run while that one is not finished
    assert stratum.run([stratum.lazy.eval(stratum.var("a", 2) + 1)]) == [3]
    assert len(list(waiting)) == 1


def test_many_small_items():
    import stratum

    a = stratum.var("a")
    values = stratum.run([stratum.lazy.eval(a * k + 1, {"a": k}) for k in range(300)])
    assert values == [k * k + 1 for k in range(300)]


# -- Runs inside runs -----------------------------------------------------------------------------


def inner_search(df):
    """A user's function that searches itself."""
    import stratum

    X, y = table(seed=4)
    inner = stratum.var("X").skb.mark_as_X().skb.apply(
        Ridge(alpha=stratum.choose_from([0.1, 1.0], name="alpha")), y=stratum.var("y").skb.mark_as_y()
    )
    search = inner.skb.make_grid_search(cv=3)
    search.fit({"X": X, "y": y})
    return df * search.cv_results_["mean_test_score"][0]


class SearchesItself(RegressorMixin, BaseEstimator):
    """A model that is fitted by a search of its own."""

    def __init__(self, top=1.0):
        self.top = top

    def fit(self, X, y):
        import stratum

        inner = stratum.X().skb.apply(Ridge(alpha=stratum.choose_from([0.1, self.top], name="alpha")), y=stratum.y())
        self.search_ = inner.skb.make_grid_search(cv=2)
        self.search_.fit({"X": X, "y": y})
        return self

    def predict(self, X):
        return self.search_.best_learner_.predict({"X": X})


def test_searches_inside_user_functions():
    import stratum

    x = stratum.var("X").skb.mark_as_X().skb.apply_func(inner_search)
    pred = x.skb.apply(SearchesItself(stratum.choose_from([1.0, 5.0], name="top")), y=stratum.var("y").skb.mark_as_y())
    search = pred.skb.make_grid_search(cv=3)
    search.fit(environment())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all() and len(search.results_) == 2
    with stratum.config_context(engine="skrub"):
        plain = pred.skb.make_grid_search(cv=3)
        plain.fit(environment())
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"], rtol=1e-9)


def test_batches_inside_user_functions():
    import stratum

    def inner(n):
        return sum(stratum.run([stratum.lazy.eval(stratum.var("k", k) + n) for k in range(3)]))

    outer = stratum.var("n").skb.apply_func(inner)
    assert stratum.run([stratum.lazy.eval(outer + k, {"n": 10}) for k in (0, 1)]) == [33, 34]


# -- Several threads ------------------------------------------------------------------------------


def test_several_threads_at_once():
    import stratum

    expected = pipeline(values=False).skb.make_grid_search(cv=3)
    expected.fit(environment())
    results, errors = {}, []
    start = threading.Barrier(4)

    def work(i):
        try:
            start.wait()
            for _ in range(3):
                search = pipeline(values=bool(i % 2)).skb.make_grid_search(cv=3)
                search.fit(environment())
                results[i] = search.results_
                assert stratum.last_run().nodes_run > 0
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, errors[0]
    assert sorted(results) == [0, 1, 2, 3]
    for table_ in results.values():
        same_table(table_, expected.results_)


def test_in_a_daemon_thread():
    found = []

    def work():
        search = pipeline().skb.make_grid_search(fitted=True, cv=3)
        found.append(len(search.results_))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert found == [3]


def in_a_process(script):
    """Run a script of its own; what it printed."""
    preamble = """
    import os, sys, threading, time
    import numpy as np, pandas as pd
    import stratum
    from sklearn.linear_model import Ridge
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["a", "b", "c"])
    y = X["a"] * 2

    def search():
        p = stratum.var("X").skb.mark_as_X().skb.apply(
            Ridge(alpha=stratum.choose_from([0.1, 1.0], name="alpha")), y=stratum.var("y").skb.mark_as_y())
        return p.skb.make_grid_search(cv=3).fit({"X": X, "y": y}).cv_results_["mean_test_score"].tolist()
    """
    text = textwrap.dedent(preamble) + textwrap.dedent(script)
    done = forks.run(text, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_fork_can_run():
    out = in_a_process(
        """
        first = search()
        pid = os.fork()
        if pid == 0:
            same = search() == first and search() == first
            os.write(1, b"child %d\\n" % same)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert search() == first
        os.write(1, b"parent\\n")
        """
    )
    assert out == ["child", "1", "parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_during_a_run_can_run():
    out = in_a_process(
        """
        first = search()

        def forks(df):
            pid = os.fork()
            if pid == 0:
                os.write(1, b"child %d\\n" % (search() == first))
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            return df

        p = stratum.var("X").skb.apply_func(forks)
        stratum.run([stratum.lazy.eval(p, {"X": X})])
        assert search() == first
        os.write(1, b"parent\\n")
        """
    )
    assert out == ["child", "1", "parent"]


def test_the_process_ends_with_a_run_in_a_daemon_thread():
    out = in_a_process(
        """
        def forever(df):
            os.write(1, b"inside\\n")
            while True:
                time.sleep(0.01)

        p = stratum.var("X").skb.apply_func(forever)
        thread = threading.Thread(target=lambda: stratum.run([stratum.lazy.eval(p, {"X": X})]), daemon=True)
        thread.start()
        time.sleep(0.5)
        """
    )
    assert out == ["inside"]


def test_no_threads_are_left():
    before = threading.active_count()
    for _ in range(5):
        pipeline().skb.make_grid_search(fitted=True, cv=3)
    assert threading.active_count() <= before


def refuses_few(table):
    if len(table) < 20:
        raise ValueError("few rows")
    return table


def of_its_own(skrub, first):
    """A pipeline whose predictions on a fold's rows fail; each call makes an equal one on lines of its own."""
    x, y = skrub.var("X").skb.mark_as_X(), skrub.var("y").skb.mark_as_y()
    if first:
        few = x.skb.apply_func(refuses_few)
    else:
        few = x.skb.apply_func(refuses_few)
    return few.skb.apply(Ridge(alpha=skrub.choose_from([1.0, 2.0], name="alpha")), y=y)


def predicts(model, X, y=None):
    return float(model.predict(X).mean())


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("scoring", ["r2", predicts, ["r2", "neg_mean_squared_error"]])
def test_each_search_names_its_own_line_for_an_error_of_a_scorer(scoring, train):
    """The scores of two searches are the same nodes; who reads the error sees the pipeline that is his."""
    import skrub as plain
    import stratum

    how = {"cv": 3, "scoring": scoring, "error_score": "raise", "return_train_score": train, "refit": False}

    def notes(error):
        assert str(error) == "few rows"
        return error.__notes__

    def alone(op):
        with stratum.config_context(engine="skrub"), pytest.raises(ValueError) as caught:
            op.skb.make_grid_search(**how).fit(environment())
        return notes(caught.value)

    ops = [of_its_own(plain, first) for first in (True, False, True)]
    found = stratum.run([(op.skb.make_grid_search(**how), environment()) for op in ops], on_error="return")
    assert [notes(error) for error in found] == [alone(op) for op in ops]
    lines = [note for error in found for note in error.__notes__]
    assert len(lines) == 3 and lines[0] == lines[2] != lines[1]


@pytest.mark.parametrize("failing_first", [True, False])
def test_what_comes_after_a_failure_leaves_nothing_on_the_nodes(failing_first):
    """As in skrub, which stops there; in a batch the rest may have been computed all the same."""
    import stratum

    def evaluate(run):
        x = stratum.var("x")
        fails = x.skb.apply_func(_refuse)
        frozen = (x + 1).skb.freeze_after_fit()
        both = stratum.as_data_op([fails, frozen] if failing_first else [frozen, fails])
        with pytest.raises(Exception, match="refused"):
            run(both)
        return [name for name in vars(frozen._skrub_impl) if name == "value_"]

    def in_batch(op):
        raise stratum.run([stratum.lazy.eval(op, {"x": 3})], on_error="return")[0]

    def plain(op):
        with stratum.config_context(engine="skrub"):
            op.skb.eval({"x": 3})

    assert evaluate(in_batch) == evaluate(plain) == ([] if failing_first else ["value_"])


def _refuse(value):
    raise ValueError("refused")
