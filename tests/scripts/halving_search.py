"""Successive halving, by samples and by a parameter."""
import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import HalvingGridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

X, y = make_classification(24_000, 24, n_informative=6, n_classes=3, random_state=0)
X = pd.DataFrame(X, columns=[f"f{i}" for i in range(24)])
pipe = Pipeline([("scale", StandardScaler()), ("select", SelectKBest(f_classif)),
                 ("model", SGDClassifier(random_state=0, max_iter=3, tol=None))])
grid = {"select__k": [4, 8, 12], "model__alpha": [1e-5, 1e-4, 1e-3]}
search = HalvingGridSearchCV(pipe, grid, cv=StratifiedKFold(3), factor=3, min_resources=2_000, random_state=0)
search.fit(X, y)
print(search.n_resources_, search.n_candidates_, search.n_iterations_)
results = pd.DataFrame(search.cv_results_)
print(results[["iter", "n_resources", "param_select__k", "param_model__alpha", "mean_test_score"]].to_string())
print(search.best_params_, repr(search.best_score_))
results[[name for name in results if "time" not in name]].to_csv("halving.csv", index=False)

forest = HalvingGridSearchCV(
    RandomForestClassifier(random_state=0, n_jobs=1), {"max_depth": [2, 4], "min_samples_leaf": [1, 20]},
    resource="n_estimators", min_resources=3, max_resources=9, cv=2, random_state=0, factor=2,
)
forest.fit(X[:3000], y[:3000])
print(forest.best_params_, repr(forest.best_score_), forest.cv_results_["n_resources"].tolist())
print(forest.cv_results_["mean_test_score"].tolist())
print(np.bincount(forest.predict(X[-500:])).tolist(), forest.predict_proba(X[:2]).tolist())
