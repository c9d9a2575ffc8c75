"""Encoders that work in their fitted object: `transform` on two threads at once, one after the other."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skrub import ApplyToCols, GapEncoder, MinHashEncoder, StringEncoder, TableVectorizer

COLUMN = pd.Series([f"text {k % 7}" for k in range(60)], name="s")


@pytest.mark.parametrize(
    ("estimator", "alone"),
    [
        (MinHashEncoder(), True),
        (GapEncoder(), True),
        (ApplyToCols(MinHashEncoder()), True),
        (TableVectorizer(high_cardinality=GapEncoder()), True),
        (make_pipeline(StandardScaler(), TableVectorizer(low_cardinality=MinHashEncoder())), True),
        (make_column_transformer((GapEncoder(), "s")), True),
        (TableVectorizer(), False),
        (StringEncoder(), False),
        (make_pipeline(StandardScaler(), Ridge()), False),
    ],
)
def test_who_needs_a_turn(estimator, alone):
    import stratum  # noqa: F401
    from stratum.hosts import estimators

    first, second = estimators.in_turn(estimator), estimators.in_turn(estimator)
    assert (first is second) == alone  # one lock for each fitted object
    with first, second:  # by one thread more than once: a composite may be asked inside of itself
        pass


def test_two_transforms_of_one_encoder_do_not_meet(monkeypatch):
    """Many rows, so that the engine would run the two at the same time."""
    import stratum

    inside, most, guard = [0], [0], threading.Lock()
    original = MinHashEncoder.transform

    def watched(self, X):
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        try:
            return original(self, X)
        finally:
            with guard:
                inside[0] -= 1

    monkeypatch.setattr(MinHashEncoder, "transform", watched)
    n = 40_000
    X = pd.DataFrame({"s": np.tile(COLUMN.to_numpy(), n // 60 + 1)[:n], "x": np.arange(n) % 11})
    y = np.arange(n) % 13 + 0.5
    x = stratum.var("X").skb.mark_as_X()
    encoded = x.skb.apply(MinHashEncoder(n_components=2), cols="s")
    pred = encoded.skb.apply(Ridge(), y=stratum.var("y").skb.mark_as_y())
    pred.skb.cross_validate({"X": X, "y": y}, cv=[(np.arange(n // 2), np.arange(n // 2, n))], return_train_score=True)
    assert most[0] == 1
