"""Fits that warn, in every order of loops and under every filter: which warnings, how often, in which order."""

import sys
import warnings

import numpy as np
import pandas as pd
import skrub
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import StackingClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

rng = np.random.default_rng(0)
X = np.c_[rng.normal(size=(60, 3)), rng.integers(0, 2, 60), np.ones(60)]
y = X[:, 0] + rng.normal(size=60) * 0.3
labels = (y > 0).astype(int)
frame = pd.DataFrame(X, columns=list("abcde"))


class Warns(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        warnings.warn("mine")
        return self

    def transform(self, X):
        return X


def bins(**how):
    return KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf", **how)


def say(what):
    print("--", what, file=sys.stderr)


def fits():
    say("a shared step")
    GridSearchCV(Pipeline([("k", bins()), ("m", Ridge())]), {"m__alpha": [0.1, 1.0, 10.0]}, cv=3).fit(X, y)
    say("a shared step and models")
    best = SelectKBest(f_classif, k=2)
    small = MLPRegressor(max_iter=2, random_state=0)
    GridSearchCV(Pipeline([("f", best), ("m", small)]), {"m__alpha": [0.1, 1.0]}, cv=2).fit(X, labels)
    say("models of several candidates")
    lasso = Lasso(max_iter=1, tol=1e-12)
    GridSearchCV(make_pipeline(StandardScaler(), lasso), {"lasso__alpha": [1e-3, 1e-2, 0.1]}, cv=3).fit(X, y)
    say("cross-validations")
    cross_val_score(Pipeline([("f", best), ("m", lasso)]), X, labels, cv=2)
    cross_validate(lasso, X, y, cv=2, return_train_score=True)
    cross_val_predict(make_pipeline(StandardScaler(), lasso), frame, y, cv=2)
    say("inner fits")
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2))
    stacked = StackingClassifier([("a", logistic), ("b", LogisticRegression(max_iter=3))], cv=2)
    cross_val_score(stacked, X, labels, cv=2)
    say("a step of the script's")
    GridSearchCV(make_pipeline(Warns(), Ridge()), {"ridge__alpha": [1, 2]}, cv=2).fit(X, y)
    say("skrub")
    data = skrub.X(frame).skb.apply(bins(encode="ordinal"))
    model = Lasso(alpha=skrub.choose_from([1e-9, 1e-8], name="alpha"), max_iter=2)
    pred = data.skb.apply(model, y=skrub.y(pd.Series(y)))
    pred.skb.make_grid_search(cv=2, fitted=True)
    say("skrub's cross-validation")
    pred.skb.cross_validate(cv=2)


fits()
for mode in ("always", "once", "ignore", "error"):
    say(mode)
    with warnings.catch_warnings():
        warnings.simplefilter(mode)
        try:
            fits()
        except Exception as error:
            print(type(error), error)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fits()
print([str(one.message)[:40] for one in caught])
