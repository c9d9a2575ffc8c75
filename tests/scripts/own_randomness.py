"""Estimators without a seed after `np.random.seed`, and code of the script's own that draws, prints or counts."""

import random

import numpy as np
import skrub
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 5))
y = X[:, 0] + rng.normal(size=60) * 0.3


class Talks(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        print("fit", len(X))
        return self

    def transform(self, X):
        print("transform", len(X))
        return X


class Draws(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.noise_ = np.random.rand() + random.random()
        return self

    def transform(self, X):
        return X + self.noise_ * X**2


class Guesses(RegressorMixin, BaseEstimator):
    def __init__(self, k=1):
        self.k = k

    def fit(self, X, y):
        self.coef_ = np.random.normal(size=X.shape[1])
        return self

    def predict(self, X):
        return X @ self.coef_ * self.k


def jitter(X):
    return X + np.random.normal(size=X.shape) * 0.1


seen = []


def count(X):
    seen.append(len(X))
    return X


def talking_score(model, X, y):
    print("score", len(X))
    return float(np.mean(model.predict(X)))


@skrub.deferred
def noisy(x):
    return x + np.random.normal(size=x.shape) * 0.1


@skrub.deferred
def told(x):
    print("rows", len(x))
    return x


def drawn():
    return np.random.rand(), random.random()


for step in (Talks(), Draws(), FunctionTransformer(jitter), FunctionTransformer(count)):
    np.random.seed(1)
    random.seed(1)
    search = GridSearchCV(make_pipeline(step, Ridge()), {"ridge__alpha": [0.1, 1.0, 10.0]}, cv=3).fit(X, y)
    print(type(step).__name__, search.cv_results_["mean_test_score"], search.best_index_, drawn())
    print(cross_val_score(make_pipeline(step, StandardScaler(), Lasso(alpha=0.1)), X, y, cv=3), len(seen), drawn())
np.random.seed(2)
print(GridSearchCV(Guesses(), {"k": [1, 2]}, cv=3).fit(X, y).cv_results_["mean_test_score"], drawn())
print(GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=2, scoring=talking_score).fit(X, y).best_score_)
forest = RandomForestRegressor(n_estimators=3)
print(cross_val_score(forest, X, y, cv=KFold(3, shuffle=True)), drawn())
print(GridSearchCV(forest, {"max_depth": [1, 2]}, cv=3).fit(X, y).cv_results_["mean_test_score"], drawn())
data, target = skrub.X(X), skrub.y(y)
model = Ridge(alpha=skrub.choose_from([0.1, 1.0], name="alpha"))
for step in (noisy, told):
    pred = step(data).skb.apply(model, y=target)
    print(pred.skb.make_grid_search(cv=3, fitted=True).cv_results_["mean_test_score"], drawn())
    print(pred.skb.cross_validate(cv=2)["test_score"].to_numpy(), drawn())
pred = data.skb.apply(RandomForestRegressor(n_estimators=3, max_depth=skrub.choose_from([1, 3], name="d")), y=target)
print(pred.skb.make_randomized_search(n_iter=2, random_state=0, cv=3, fitted=True).cv_results_["mean_test_score"], drawn())
