"""Pipelines of the tests of kernels, for both sides (this file does not import stratum)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import skrub
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.preprocessing import StandardScaler

ROWS = 600


def table(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    towns = np.array([f"Town of {name} {i}" for i in range(60) for name in ("Élan", "straße", "naïve", "x")])
    return pd.DataFrame(
        {
            "town": pd.Series(rng.choice(towns, rows)).where(rng.random(rows) > 0.05, None),
            "id": [f"{i:08x}-{i * 7919 % 65536:04x}" for i in range(rows)],
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 9999, rows), unit="h"),
            "size": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "kind": rng.choice(["a", "b", "c"], rows),
            "target": rng.normal(size=rows),
        }
    )


def searched(library: Any, model: Any, encoder: Any) -> Any:
    data = library.var("data")
    hashing = encoder.vectorizer == "hashing"  # an SVD of a million columns: one column of strings and two folds
    X = data.drop(columns=["target", "id"] if hashing else "target").skb.mark_as_X()
    y = data["target"].skb.mark_as_y()
    features = X.skb.apply(library.TableVectorizer(high_cardinality=encoder)).skb.apply(SimpleImputer())
    pred = features.skb.apply(StandardScaler()).skb.apply(model, y=y)
    return pred.skb.make_grid_search(cv=2 if hashing else 3, scoring="r2").fit({"data": table()})


def scores_and_predictions(library: Any, vectorizer: str) -> dict[str, Any]:
    encoder = skrub.StringEncoder(n_components=8, vectorizer=vectorizer, random_state=0)
    models = skrub.choose_from({"ridge": Ridge(), "net": ElasticNet(alpha=0.01)}, name="model")
    search = searched(library, models, encoder)
    return {
        "scores": search.cv_results_["mean_test_score"].tolist(),
        "predictions": search.predict({"data": table(200)}).tolist(),
    }
