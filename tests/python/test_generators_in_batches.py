"""A batch whose items share a generator of the user's: each sees it as in plain skrub, one after the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

import stratum


def _model(rng: np.random.RandomState) -> tuple[stratum.DataOp, dict[str, object]]:
    x = pd.DataFrame({"a": np.arange(90.0) * 7 % 11, "b": np.arange(90) * 5 % 13})
    y = (np.arange(90) * 11) % 17 % 3
    forest = RandomForestClassifier(n_estimators=3, max_depth=3, random_state=rng)
    return stratum.var("X").skb.mark_as_X().skb.apply(forest, y=stratum.var("y").skb.mark_as_y()), {"X": x, "y": y}


_HOW = {"cv": 3, "scoring": "neg_log_loss"}


@pytest.mark.parametrize("broken", [False, True])
def test_validations_around_an_evaluation_that_draws(broken: bool) -> None:
    def scores(batch: bool) -> list[np.ndarray]:
        rng = np.random.RandomState(5)
        model, env = _model(rng)

        @stratum.deferred
        def use(table, fails):
            if fails:
                raise ArithmeticError("after the fit")
            return table

        evaluated = use(model, broken)
        if batch:
            validate = stratum.lazy.cross_validate
            items = [validate(model, env, **_HOW), stratum.lazy.eval(evaluated, env), validate(model, env, **_HOW)]
            first, middle, last = stratum.run(items, on_error="return")
            assert isinstance(middle, ArithmeticError) == broken
            drawn = stratum.last_run()
            assert [why for _, why in drawn.fallbacks] == ["a generator of the user: evaluating in place advances it"]
            assert drawn.nodes_run > 0
        else:
            with stratum.config_context(engine="skrub"):
                first = model.skb.cross_validate(env, **_HOW)
                try:
                    evaluated.skb.eval(env)
                except ArithmeticError:
                    assert broken
                last = model.skb.cross_validate(env, **_HOW)
        return [one["test_score"].to_numpy() for one in (first, last)] + [rng.get_state()[1], rng.get_state()[2]]

    ours, theirs = scores(True), scores(False)
    for one, other in zip(ours, theirs):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(ours[0], ours[1])  # the draw is visible in the scores
