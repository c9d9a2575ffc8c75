"""A search in which some candidates cannot be fitted: scores of NaN, warnings, an error at last."""
import sys
import warnings

import numpy as np
import pandas as pd
import skrub
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

rng = np.random.default_rng(2)
X = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
X["word"] = rng.choice(["one", "two"], 300)
y = (X["a"] > 0).astype(int)


def check(frame):
    if len(frame) > 200 and frame["d"].max() < X["d"].max():
        raise ValueError(f"d is too small: {frame['d'].max()!r}")
    return frame


def noisy(model, X, y):
    warnings.warn("this scorer talks", UserWarning)
    return model.score(X, y)


pipe = make_pipeline(skrub.TableVectorizer(), StandardScaler(), LogisticRegression(solver="liblinear"))
search = GridSearchCV(pipe, {"logisticregression__l1_ratio": [0, 0.5, 1], "logisticregression__C": [1, -1]}, cv=3)
search.fit(X, y)
print(search.cv_results_["mean_test_score"].tolist(), search.best_params_)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    checked = make_pipeline(FunctionTransformer(check), skrub.TableVectorizer(), LogisticRegression())
    print(cross_val_score(checked, X, y, cv=5, error_score=-1.0).tolist())
    out = cross_validate(pipe, X, y, cv=2, scoring={"noisy": noisy, "auc": "roc_auc"})
    print(out["test_noisy"].tolist(), out["test_auc"].tolist())
for warning in seen:
    print(warning.category.__name__, str(warning.message).count("\n"), issubclass(warning.category, FitFailedWarning))
    print(str(warning.message))
data = skrub.var("data", pd.concat([X, y.rename("y")], axis=1))
op = data.drop(columns=["y", "word"]).skb.mark_as_X().skb.apply(
    LogisticRegression(C=skrub.choose_from([1.0, -1.0], name="C")), y=data["y"].skb.mark_as_y())
plan = op.skb.make_grid_search(cv=2, fitted=True)
print(plan.results_.to_string())
try:
    GridSearchCV(pipe, {"logisticregression__C": [-1, -2]}, cv=2).fit(X, y)
except ValueError as error:
    print(error, file=sys.stderr)
GridSearchCV(checked, {"logisticregression__C": [1]}, cv=5, error_score="raise").fit(X, y)
