"""A DataOps plan with choices of encoders, steps and models; a grid over all of it."""
import json
import sys

import numpy as np
import pandas as pd
import skrub
from skrub import selectors as s
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

rng = np.random.default_rng(17)
n = 240
jobs = pd.DataFrame({
    "title": rng.choice(["data engineer", "Data Engineer II", "nurse", "head nurse", "truck driver", "driver"], n),
    "company": rng.choice(["Ünal & co", "acme", "Acme Inc.", None], n),
    "posted": rng.choice(pd.date_range("2023-01-01", periods=90).strftime("%d/%m/%Y"), n),
    "remote": rng.choice([True, False], n),
    "years": rng.integers(0, 20, n).astype("float32"),
})
jobs.loc[::13, "years"] = np.nan
jobs["salary"] = 30 + 2 * jobs["years"].fillna(5) + 9 * jobs["title"].str.contains("(?i)data") + rng.normal(0, 3, n)

data = skrub.var("jobs", jobs)
X = data.drop(columns="salary").skb.mark_as_X().skb.set_name("features")
y = data["salary"].skb.mark_as_y()


@skrub.deferred
def parse(frame, lower):
    frame = frame.copy()
    if lower:
        frame["title"] = frame["title"].str.lower()
    frame["posted"] = pd.to_datetime(frame["posted"], format="%d/%m/%Y")
    return frame


X = parse(X, True)
X = X.assign(seniority=X["years"].fillna(X["years"].median()) // 5)
words = skrub.choose_from(
    {"one-hot": OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
     "minhash": skrub.MinHashEncoder(n_components=2)}, name="words")
vectorizer = skrub.TableVectorizer(low_cardinality=words, high_cardinality=skrub.StringEncoder(3, random_state=0))
features = X.skb.apply(vectorizer)
features = features.skb.apply(StandardScaler(), cols=s.float())
model = skrub.choose_from(
    {"ridge": Ridge(alpha=skrub.choose_from([0.5, 5.0], name="alpha")),
     "boosting": HistGradientBoostingRegressor(max_iter=4, random_state=0)}, name="model")
filled = features.fillna(0.0)
pred = filled.skb.apply(model, y=y)
print(pred.skb.describe_param_grid())
print(pred.skb.describe_defaults())
search = pred.skb.make_grid_search(cv=2, scoring="r2")
search.fit({"jobs": jobs})
print(search.results_.to_string())
print(search.best_params_, repr(search.best_score_))
search.results_.to_csv("grid.csv", index=False)
detailed = search.detailed_results_
print(detailed[[name for name in detailed if "duration" not in name and "time" not in name]].head(4).to_string())
best = search.best_learner_
print(best.describe_params())
print(best.predict({"jobs": jobs.tail(4)}).tolist())
report = {key: values.tolist() for key, values in skrub.cross_validate(
    best, {"jobs": jobs}, cv=2, scoring=["neg_mean_absolute_error", "neg_max_error"]).items() if not key.endswith("time")}
json.dump(report, sys.stdout)
print()
sys.exit()
