"""`stratum.native.metrics` against `sklearn.metrics`: values, types, errors, warnings; and who gets them."""

from __future__ import annotations

import inspect
import itertools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from amounts import cases
import sklearn
from hypothesis import given, settings, strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics._scorer import _MultimetricScorer

import stratum
from stratum import _core
from stratum.hosts import kernels
from stratum.native import metrics as native
from stratum.sklearn import GridSearchCV, cross_validate

ON_NUMBERS = ["r2_score", "mean_squared_error", "root_mean_squared_error", "mean_absolute_error"]
ON_LABELS = ["accuracy_score", "balanced_accuracy_score", "f1_score", "precision_score", "recall_score"]
ON_SCORES = ["roc_auc_score", "average_precision_score"]


def outcome(call: Any) -> Any:
    """What a call gives: its value or its error, and its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = (type(error), str(error))
    return result, [(w.category, str(w.message)) for w in seen]


def check(name: str, *args: Any, tolerance: float = 1e-12, **kwargs: Any) -> Any:
    """Ask both and compare."""
    got = outcome(lambda: getattr(native, name)(*args, **kwargs))
    want = outcome(lambda: getattr(metrics, name)(*args, **kwargs))
    assert got[1] == want[1]
    assert type(got[0]) is type(want[0]), (name, got, want)
    if isinstance(want[0], (float, np.ndarray)):
        np.testing.assert_allclose(got[0], want[0], rtol=tolerance, atol=tolerance)
    else:
        assert got[0] == want[0]
    return want[0]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which kernels were called."""
    seen: list[str] = []
    for name in ("metric_residuals", "metric_ranking", "metric_pairs", "metric_picked"):
        real = getattr(_core, name)
        monkeypatch.setattr(_core, name, lambda *args, _name=name, _real=real: (seen.append(_name), _real(*args))[1])
    return seen


def test_functions_look_like_the_originals() -> None:
    assert set(native.__all__) == set(kernels._METRICS) == {*ON_NUMBERS, *ON_LABELS, *ON_SCORES, "log_loss"}
    for name in native.__all__:
        ours, theirs = getattr(native, name), getattr(metrics, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert (ours.__name__, ours.__doc__) == (theirs.__name__, theirs.__doc__)
        assert pickle.loads(pickle.dumps(ours)) is ours


def test_ours_may_stand_in_the_originals_module(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p = np.arange(90) % 3, np.arange(90) // 7 % 3
    want = {name: getattr(metrics, name)(y % 2, p % 2) for name in ON_LABELS}
    for name in native.__all__:
        monkeypatch.setattr(metrics, name, getattr(native, name))
    assert {name: getattr(metrics, name)(y % 2, p % 2) for name in ON_LABELS} == want


# -- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_NUMBERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_numbers(name: str, weighted: bool, asked: list[str]) -> None:
    rng = np.random.default_rng(1)
    forms = [
        np.asarray, lambda v: v.astype(np.int64), lambda v: v.astype(np.float32), lambda v: pd.Series(v, index=v),
        lambda v: np.repeat(v, 2)[::2],
    ]  # fmt: skip
    for n in (2, 8, 1001, 5000):
        y = rng.normal(50, 10, n)
        p = y + rng.normal(size=n)
        p.setflags(write=False)
        weight = rng.random(n) if weighted else None
        for form in forms:
            asked.clear()
            check(name, form(y), p, sample_weight=weight, tolerance=1e-11)
            check(name, p, form(y), sample_weight=weight, tolerance=1e-11)
            assert asked == ["metric_residuals"] * 2
            check(name, form(y), form(p), sample_weight=weight, tolerance=1e-5)


@pytest.mark.parametrize("name", ON_NUMBERS)
def test_numbers_made_to_break_it(name: str) -> None:
    y, p = np.arange(40.0), np.arange(40.0)[::-1].copy()
    odd = [
        np.where(y == 3, np.nan, y), np.where(y == 3, np.inf, y), np.full(40, 0.1), np.full(40, 1e300),
        y * 1e-200, y * 1e200, 1e9 + y * 1e-7, np.zeros(40), -0.0 * y, y[:1], y[:0], y[:39], y[:, None],
        np.column_stack([y, p]), y.astype(object), y.astype(str), y > 3, y.astype(np.float16), y.astype(np.float32),
        y.astype(np.longdouble), y.astype(np.uint64), y.astype(complex), y.tolist(), pd.Series(y, dtype="Float64"),
        pd.Series(y.astype(int), dtype="int64[pyarrow]"), pd.DataFrame(y), None, "text", 3.0,
        np.ma.masked_array(y, y > 3), np.full(40, 0.1) + 1e-17,
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        for one, other in [*((o, p) for o in odd), *((y, o) for o in odd), *((o, o) for o in odd[:12])]:
            check(name, one, other)
        for weight in (*odd[::3], -y, np.full(40, np.nan), np.zeros(40)):
            check(name, y, p, sample_weight=weight)
        for options in ({"multioutput": "raw_values"}, {"multioutput": [1.0]}, {"multioutput": "much"}, {"no": 1}):
            check(name, y, p, **options)
        check(name, y)
        check(name, y_true=y, y_pred=p)


# -- Labels ---------------------------------------------------------------------------------------

TRUE = {
    "int": lambda r, n, k: r.integers(0, k, n),
    "negative": lambda r, n, k: r.integers(-1, k - 1, n),
    "int8": lambda r, n, k: r.integers(0, k, n).astype(np.int8),
    "gaps": lambda r, n, k: r.choice([1, 5, 9][:k], n),
    "float": lambda r, n, k: r.integers(0, k, n).astype(float),
    "bool": lambda r, n, k: r.random(n) < 0.5,
    "objects": lambda r, n, k: r.choice(np.array(["b", "ä", "ccc"][:k], dtype=object), n),
    "fixed": lambda r, n, k: r.choice(["no", "yes", "y"][:k], n),
    "series": lambda r, n, k: pd.Series(r.choice(np.array(["b", "a", "c"][:k], dtype=object), n)),
    "strings": lambda r, n, k: pd.Series(r.choice(["b", "a", "c"][:k], n), dtype="str"),
    "categories": lambda r, n, k: pd.Series(r.choice(["b", "a", "c"][:k], n), dtype="category"),
    "unsigned": lambda r, n, k: r.integers(0, k, n).astype(np.uint8),
}
OPTIONS: list[dict[str, Any]] = [
    {}, {"average": "macro"}, {"average": "micro"}, {"average": "weighted"}, {"average": None}, {"average": "no such"},
    {"average": "samples"}, {"pos_label": 0}, {"pos_label": "a"}, {"labels": [1], "average": "macro"},
    {"labels": [7], "average": "macro"}, {"average": "macro", "zero_division": 1}, {"zero_division": np.nan},
]  # fmt: skip


@pytest.mark.parametrize("name", ON_LABELS)
@pytest.mark.parametrize("kind", TRUE)
def test_labels(name: str, kind: str, asked: list[str]) -> None:
    rng = np.random.default_rng(2)
    averaged = name in ("f1_score", "precision_score", "recall_score")
    full = averaged and kind in ("int", "objects")
    for k, n, weighted in itertools.product((1, 2, 3), (1, 60, 2000), (False, True)):
        y, p = TRUE[kind](rng, n, k), TRUE[kind](rng, n, k)
        weight = rng.random(n) + 0.1 if weighted else None
        for options in (OPTIONS if n == 60 and full else OPTIONS[:2] if averaged else [{}]):
            asked.clear()
            check(name, y, p, sample_weight=weight, **options)
            assert n < 2000 or bool(asked) == (kind not in ("categories", "unsigned"))
    check(name, y, np.asarray(p))


@pytest.mark.parametrize("name", ON_LABELS)
def test_labels_made_to_break_it(name: str) -> None:
    y, p = np.arange(40) % 2, np.arange(40) // 3 % 2
    none = np.array(["a", None] * 20, dtype=object)
    odd = [
        y + 0.5, np.where(y == 1, np.nan, y), np.where(y == 1, np.inf, y), y[:0], y[:39], y[:, None], np.column_stack([y, p]),
        y.astype(object), y.astype(str), none, np.array(["a", 1] * 20, dtype=object), np.arange(40), y * 10**12,
        y.astype(bool), y.astype(float), y.astype(np.float32), y.tolist(), pd.Series(y, dtype="Int64"), pd.DataFrame(y),
        None, 3, np.full(40, 2**62), y * 2, y + 1, -y, np.array(["a", np.nan] * 20, dtype=object),
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        for one, other in [*((o, p) for o in odd), *((y, o) for o in odd), *((o, o) for o in odd)]:
            check(name, one, other)
            if name == "f1_score":
                check(name, one, other, average="macro")
        for weight in (y, np.zeros(40), y - 1.0, np.full(40, np.nan), y[:3], y.tolist(), ["a"] * 40, y.astype(bool)):
            check(name, y, p, sample_weight=weight)
    if name == "accuracy_score":
        check(name, y, p, normalize=False)
        check(name, y, p, normalize="much")
    if name == "balanced_accuracy_score":
        check(name, y, p, adjusted=True)
        check(name, y % 2, y + p)  # a label that is only predicted


# -- Scores and probabilities ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_SCORES)
@pytest.mark.parametrize("kind", TRUE)
def test_scores(name: str, kind: str, asked: list[str]) -> None:
    rng = np.random.default_rng(3)
    for n, weighted, form in itertools.product((2, 9, 2000), (False, True), range(6)):
        y = TRUE[kind](rng, n, 2)
        score = rng.normal(size=n)
        score = [
            score, score.round(1), score.astype(np.float32), np.column_stack([score, score])[:, 1], pd.Series(score),
            np.where(score > 0, 0.0, -0.0),
        ][form]  # fmt: skip
        weight = np.where(rng.random(n) < 0.2, 0, rng.random(n)) if weighted else None
        options = {"pos_label": max(np.asarray(y).tolist())} if name == "average_precision_score" else {}
        asked.clear()
        check(name, y, score, sample_weight=weight, **options)
        check(name, y, score, sample_weight=weight)
        if n == 2000 and name == "roc_auc_score":
            assert asked == ["metric_ranking"] * 2 or kind == "categories"


@pytest.mark.parametrize("name", ON_SCORES)
def test_scores_made_to_break_it(name: str) -> None:
    y, score = np.arange(40) % 2, np.linspace(-1, 1, 40)
    true = [
        y * 0, y[:39], y[:, None], np.arange(40) % 3, y * 2 - 1, y + 5, y * 10**15, np.where(y == 1, np.nan, y), y.tolist(),
        np.column_stack([y, y]), np.array(["a", None] * 20, dtype=object), y + 0.5, y[:0], None, y.astype(np.uint64),
    ]  # fmt: skip
    scores = [
        score[:39], np.where(y == 1, np.nan, score), np.where(y == 1, np.inf, score), score.astype(int), score[:, None],
        np.column_stack([-score, score]), score.astype(np.float16), score.tolist(), score.astype(object), score * 1e308,
        score * 5e-324, np.zeros(40), None, score.astype(str),
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        for one in true:
            check(name, one, score)
        for one in scores:
            check(name, y, one)
        for weight in (y, 1 - y, y * 0, -score, score[:3], np.full(40, np.nan), y.tolist()):
            check(name, y, score, sample_weight=weight)
        for options in (
            {"average": "weighted"}, {"average": None}, {"average": "micro"}, {"average": "no"}, {"max_fpr": 0.5}, {"max_fpr": 1.0},
            {"multi_class": "ovr"}, {"multi_class": "much"}, {"labels": [0, 1]}, {"pos_label": 0}, {"pos_label": 3},
            {"pos_label": "a"}, {"pos_label": True}, {"pos_label": 1.0},
        ):  # fmt: skip
            check(name, y, score, **options)
            check(name, y.astype(str), score, **options)
    many = np.random.default_rng(4).dirichlet(np.ones(3), 40)
    check("roc_auc_score", np.arange(40) % 3, many, multi_class="ovr")


@pytest.mark.parametrize("kind", TRUE)
def test_log_loss(kind: str, asked: list[str]) -> None:
    rng = np.random.default_rng(5)
    for k, n, weighted in itertools.product((1, 2, 3), (9, 3000), (False, True)):
        y = TRUE[kind](rng, n, k)
        P = rng.dirichlet(np.ones(max(k, 2)), n)
        weight = rng.random(n) if weighted else None
        asked.clear()
        check("log_loss", y, P, sample_weight=weight)
        check("log_loss", y, np.asfortranarray(P), sample_weight=weight)
        check("log_loss", y, P[:, 1], sample_weight=weight)
        check("log_loss", y, P[:, 1:2], sample_weight=weight)
        check("log_loss", y, P.astype(np.float32), sample_weight=weight, tolerance=1e-5)
        if n == 3000 and k > 1 and kind not in ("categories", "bool"):
            assert asked[:2] == ["metric_picked"] * 2
    y, P = np.arange(40) % 2, np.linspace(0, 1, 40)
    for odd in (P * 2, -P, np.where(y == 1, np.nan, P), np.column_stack([P, P]), P[:3], P[:0], P > 0.5, None, P.tolist()):
        check("log_loss", y, odd)
    for options in ({"labels": [0, 1]}, {"labels": [0, 1, 2]}, {"normalize": False}, {"sample_weight": y * 0}):
        with np.errstate(all="ignore"):
            check("log_loss", y, P, **options)
    check("log_loss", y * 0, P)
    check("log_loss", y, y.astype(float))


def random_case(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 300)), int(rng.integers(1, 4))
    kind = TRUE[rng.choice(list(TRUE))]
    weight = rng.random(n) if rng.random() < 0.4 else None
    y, p = kind(rng, n, k), kind(rng, n, k)
    scale = 10.0 ** rng.integers(-12, 6)
    score = rng.normal(size=n) * scale + rng.integers(0, 2)
    score = score.round(int(rng.integers(0, 4))) if rng.random() < 0.3 else score
    with np.errstate(all="ignore"):
        check(str(rng.choice(ON_LABELS)), y, p, sample_weight=weight)
        check("f1_score", y, p, sample_weight=weight, average=rng.choice([None, "macro", "micro", "weighted"]))
        check(str(rng.choice(ON_SCORES)), y, score, sample_weight=weight)
        check(str(rng.choice(ON_NUMBERS[1:])), score, rng.normal(size=n), sample_weight=weight)
        check("r2_score", score, score + rng.normal(size=n) * score.std(), sample_weight=weight, tolerance=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_predictions(seed: int) -> None:
    random_case(seed)


@pytest.mark.slow
@pytest.mark.many
@settings(max_examples=cases(4000), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_many_random_predictions(seed: int) -> None:
    random_case(seed)


# -- Who gets them --------------------------------------------------------------------------------


def test_scorers_are_copied_and_nothing_else_changes() -> None:
    before = {name: vars(metrics)[name] for name in native.__all__}
    scorer = metrics.get_scorer("neg_mean_squared_error")
    made = kernels.scorer(scorer)
    assert made is not scorer and type(made) is type(scorer) and repr(made) == repr(scorer)
    assert scorer._score_func is metrics.mean_squared_error and made._score_func is not scorer._score_func
    assert made._accept_sample_weight() and made._get_pos_label() is None
    assert kernels.scorer(metrics.get_scorer("f1"))._get_pos_label() == 1
    several = _MultimetricScorer(scorers={"a": scorer, "b": metrics.make_scorer(metrics.median_absolute_error)})
    copied = kernels.scorer(several)
    assert several._scorers["a"] is scorer and copied._scorers["a"] is not scorer
    assert copied._scorers["b"] is several._scorers["b"]
    assert all(vars(metrics)[name] is function for name, function in before.items())

    def r2_score(y: Any, p: Any) -> float:
        return 7.0

    class Mine(type(scorer)):
        pass

    mine = Mine(metrics.r2_score, 1, {}, "predict")
    for other in (metrics.make_scorer(r2_score), r2_score, None, mine, metrics.get_scorer("explained_variance")):
        assert kernels.scorer(other) is other


def test_somebody_elses_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import functools

    @functools.wraps(metrics.r2_score)
    def wrapped(*args: Any, **kwargs: Any) -> float:
        return 7.0

    assert kernels._is_sklearns(metrics.r2_score) and not kernels._is_sklearns(wrapped)
    kernels._metrics.cache_clear()
    try:
        monkeypatch.setattr(metrics, "r2_score", wrapped)
        scorer = metrics.make_scorer(wrapped)
        assert kernels.scorer(scorer) is scorer
    finally:
        kernels._metrics.cache_clear()


def test_exactness_decides(asked: list[str]) -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(300, 4))
    y = X @ [1.0, 2, 3, 4] + rng.normal(size=300)
    scorer, model = kernels.scorer(metrics.get_scorer("r2")), Ridge().fit(X, y)
    want = metrics.get_scorer("r2")(model, X, y)
    assert scorer(model, X, y) == want and not asked
    for exactness, calls in (("identical", 0), ("equivalent", 1), ("approximate", 1)):
        asked.clear()
        with stratum.config_context(exactness=exactness), kernels.on():
            assert scorer(model, X, y) == pytest.approx(want, rel=1e-12)
        assert len(asked) == calls
    asked.clear()
    with stratum.config_context(exactness="equivalent", native=False), kernels.on():
        scorer(model, X, y)
    assert not asked


@pytest.mark.parametrize("exactness", ["identical", "equivalent"])
def test_searches_score_with_them(exactness: str, asked: list[str]) -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(400, 4))
    y = (X[:, 0] + rng.normal(size=400) > 0).astype(int)
    scoring = ["roc_auc", "neg_log_loss", "f1", "accuracy", "average_precision"]
    model = LogisticRegression()
    want = sklearn.model_selection.cross_validate(model, X, y, cv=3, scoring=scoring)
    with stratum.config_context(exactness=exactness):
        got = cross_validate(model, X, y, cv=3, scoring=scoring)
        search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=3, scoring=scoring, refit="f1").fit(X, y)
    for name in scoring:
        np.testing.assert_allclose(got[f"test_{name}"], want[f"test_{name}"], rtol=1e-4)
    if exactness == "identical":
        assert not asked
    else:
        assert {"metric_ranking", "metric_picked", "metric_pairs"} <= set(asked)
    assert search.scorer_["f1"]._score_func is metrics.f1_score


def test_scoring_that_fails_says_what_it_says_without() -> None:
    X = np.random.default_rng(8).normal(size=(90, 2))
    y = np.array(["b", "a", "c"] * 30)
    said = []
    for run in (sklearn.model_selection.cross_validate, cross_validate):
        with warnings.catch_warnings(record=True) as seen, stratum.config_context(exactness="equivalent"):
            warnings.simplefilter("always")
            result = run(LogisticRegression(), X, y, cv=3, scoring="f1")
        assert np.isnan(result["test_score"]).all()
        said.append([str(w.message).splitlines()[-2:] for w in seen])
        assert not [w for w in seen if "stratum" in str(w.message)]
    assert said[0] == said[1]
