"""The libraries' frames in tracebacks keep nothing alive of those who fail; what they show, test_scripts.py compares."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pandas as pd
import pytest
import stratum as skrub
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from stratum import _patch
from stratum.hosts import tracebacks
from stratum.scripts import fronts


class Held:
    """What a caller has in a local variable."""


class Breaks(TransformerMixin, BaseEstimator):
    def fit(self, X: Any, y: Any = None) -> Breaks:
        raise ValueError("never")


def pipeline(kind: str) -> Any:
    data = skrub.var("data")
    X, y = data[["a"]].skb.mark_as_X(), data["b"].skb.mark_as_y()
    inside = {"node": X["gone"], "fit": X.skb.apply(Breaks()), "missing": X + skrub.var("gone")}[kind]
    return inside.skb.apply(LogisticRegression(C=skrub.choose_from([0.1, 1.0], name="C")), y=y)


def fail(kind: str, how: str, kept: list) -> None:
    held, table = Held(), pd.DataFrame({"a": [0.0, 1.0] * 5, "b": [0, 1] * 5})
    op = pipeline(kind)
    kept += [weakref.ref(held), weakref.ref(table), weakref.ref(op._skrub_impl)]
    try:
        if how == "eval":
            op.skb.eval({"data": table})
        elif how == "cross_validate":
            op.skb.cross_validate({"data": table}, cv=2, error_score="raise")
        else:
            op.skb.make_grid_search(cv=2, error_score="raise" if how == "raised" else 0.0).fit({"data": table})
    except Exception as error:
        kept.append(type(error))


@pytest.mark.parametrize("how", ["eval", "cross_validate", "raised", "all"])
@pytest.mark.parametrize("kind", ["node", "fit", "missing"])
def test_frames_keep_nothing_of_the_user(kind: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patch._frames, "_parts", {})
    kept: list = []
    fail(kind, how, kept)
    *refs, error = kept
    assert issubclass(error, Exception)
    assert _patch._frames._parts and all(_patch._frames._parts.values())
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]
    for part in _patch._frames._parts.values():
        outside = part[0][0]
        while outside is not None:
            assert outside.f_code.co_filename != __file__
            outside = outside.f_back


def test_frames_are_asked_for_once_and_not_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = tracebacks._fail

    def counting(*how: Any) -> None:
        assert tracebacks.asking()
        asked.append(how)
        original(*how)

    monkeypatch.setattr(tracebacks, "_fail", counting)
    monkeypatch.setattr(_patch._frames, "_parts", {})
    for _ in range(2):
        fail("node", "eval", [])
    assert len(asked) == 1 and not tracebacks.asking()

    def refuses(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_patch._frames, "_parts", {})
    monkeypatch.setattr(threading.Thread, "start", refuses)
    kept: list = []
    fail("node", "eval", kept)
    assert kept[-1] is KeyError and len(asked) == 1


def test_a_front_does_what_its_function_asks_for() -> None:
    from stratum import _core

    told = []

    def plain(x: int, fail: bool = False) -> int:
        frame = sys._getframe(1)
        assert frame.f_code.co_name == "test_a_front_does_what_its_function_asks_for"
        if fail:
            raise KeyError(x)
        return x + 1

    front = _core.Front(lambda x, fail=False: plain, fronts.HOME, plain)
    assert front(3) == 4
    front = _core.Front(lambda x, fail=False: (plain, lambda *value: told.append(value)), fronts.HOME, plain)
    assert front(3) == 4 and told == [(4,)]
    with pytest.raises(KeyError, match="5"):
        front(5, fail=True)
    assert told == [(4,), ()]
    # what only looks alike is a result
    front = _core.Front(lambda x: (plain, 1, 2), fronts.HOME, plain)
    assert front(3) == (plain, 1, 2)

    def broken(*value: int) -> None:
        raise RuntimeError("cannot say")

    front = _core.Front(lambda x, fail=False: (plain, broken), fronts.HOME, plain)
    with pytest.raises(RuntimeError, match="cannot say"):
        front(3)
