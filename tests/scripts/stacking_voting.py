"""Ensembles compared: voting, stacking, bagging, over one preparation of a table."""
import json

import numpy as np
import pandas as pd
import skrub
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

rng = np.random.default_rng(21)
n = 600
df = pd.DataFrame({
    "job": rng.choice([f"{a} {b}" for a in ("senior", "junior", "chief") for b in ("clerk", "nurse", "driver", "cook")], n),
    "town": rng.choice(["Lyon", "Köln", "Łódź", None], n),
    "since": pd.Series(pd.to_datetime("2001-01-01") + pd.to_timedelta(rng.integers(0, 8000, n), unit="D")).dt.strftime("%Y-%m-%d"),
    "hours": rng.normal(38, 4, n), "distance": rng.exponential(10, n),
})
df.loc[::17, "hours"] = np.nan
y = np.where(df["job"].str.startswith("senior") ^ (df["distance"] > 9) ^ (rng.random(n) < 0.15), "stays", "leaves")
cv = StratifiedKFold(2, shuffle=True, random_state=2)
prepared = skrub.TableVectorizer(cardinality_threshold=20).fit_transform(df).fillna(0)
print(prepared.shape, prepared.columns.tolist())
base = [
    ("lr", make_pipeline(StandardScaler(), LogisticRegression())),
    ("knn", make_pipeline(StandardScaler(), KNeighborsClassifier(7))),
    ("rf", RandomForestClassifier(8, max_depth=5, random_state=0)),
]
models = {
    **dict(base),
    "voting": VotingClassifier(base, voting="soft", weights=[2, 1, 1]),
    "stacking": StackingClassifier(base[:2], final_estimator=LogisticRegression(C=0.5), cv=2, passthrough=True),
    "bagging": BaggingClassifier(DecisionTreeClassifier(max_depth=4), 5, random_state=0),
}
scores = {}
for name, model in models.items():
    values = cross_val_score(model, prepared, y, cv=cv, scoring="balanced_accuracy")
    scores[name] = values.tolist()
    print(f"{name:>9}: {values.mean():.17g} +- {values.std():.17g}")
with open("ensembles.json", "w") as file:
    json.dump(scores, file, indent=1)
whole = make_pipeline(skrub.TableVectorizer(cardinality_threshold=20), models["voting"])
try:
    print(cross_val_score(whole, df, y, cv=cv).tolist())
except ValueError as error:
    print("voting needs no missing values:", str(error).splitlines()[-1])
search = GridSearchCV(models["voting"], {"weights": [[1, 1, 1], [3, 1, 2]], "knn": ["drop"], "lr__logisticregression__C": [0.1, 1.0]}, cv=2)
search.fit(prepared, y)
print(search.best_params_, repr(search.best_score_), search.cv_results_["mean_test_score"].tolist())
print(search.best_estimator_, np.unique(search.predict(prepared), return_counts=True))
