"""Steps, models and scorers of the script's own fail in scikit-learn's searches: warnings and tracebacks."""

import sys
import traceback
import warnings

import numpy as np
import skrub  # noqa: F401
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler


class Step(TransformerMixin, BaseEstimator):
    def __init__(self, fails=None):
        self.fails = fails

    def fit(self, X, y=None):
        if self.fails == "fit":
            raise ValueError("no fit")
        self.rows_ = len(X)
        return self

    def transform(self, X):
        if self.fails == "transform":
            raise ValueError("no transform")
        if self.fails == "others" and len(X) != self.rows_:
            raise ValueError("no transform of other rows")
        return X


class Model(RegressorMixin, BaseEstimator):
    def __init__(self, fails=None):
        self.fails = fails

    def fit(self, X, y):
        if self.fails == "fit":
            try:
                {}["nothing"]
            except KeyError as error:
                raise ValueError("no model") from error
        self.n_features_in_ = 3
        return self

    def predict(self, X):
        if self.fails == "predict":
            raise RuntimeError("no prediction")
        if self.fails == "train" and len(X) > 12:
            raise RuntimeError("no prediction of so many")
        return np.zeros(len(X))


def no_score(model, X, y):
    raise KeyError("no score")


rng = np.random.default_rng(0)
X, y = rng.normal(size=(30, 3)), rng.normal(size=30)


def pipe(step=None, model=None):
    return Pipeline([("scale", StandardScaler()), ("nothing", "passthrough"), ("step", Step(step)), ("model", Model(model))])


def grid(model, params, **how):
    return GridSearchCV(model, params, cv=3, **how).fit(X, y)


def run(what, make):
    print("==", what, file=sys.stderr)
    try:
        make()
    except Exception:
        traceback.print_exc()


warnings.simplefilter("always")
columns = ColumnTransformer([("a", Step(), [0]), ("b", StandardScaler(), [1])])
for how in ({}, {"error_score": "raise"}):
    run("fit of a step", lambda: grid(pipe(), {"step__fails": [None, "fit"]}, **how))
    run("transform of a step", lambda: grid(pipe(), {"step__fails": [None, "transform"]}, **how))
    run("transform of other rows", lambda: grid(pipe(), {"step__fails": [None, "others"]}, **how))
    run("fit of the model", lambda: grid(pipe(), {"model__fails": [None, "fit"]}, **how))
    run("predict", lambda: grid(pipe(), {"model__fails": [None, "predict"]}, **how))
    run("predict of training rows", lambda: grid(pipe(), {"model__fails": ["train"]}, return_train_score=True, **how))
    run("fit of a whole", lambda: grid(Model(), {"fails": [None, "fit"]}, **how))
    run("predict of a whole", lambda: grid(Model(), {"fails": [None, "predict"]}, **how))
    lambdas = Pipeline([("f", FunctionTransformer(lambda x: x)), ("r", Ridge())])
    run("a library's model after a lambda", lambda: grid(lambdas, {"r__alpha": [1, -1]}, **how))
    run("a column", lambda: grid(Pipeline([("c", columns), ("r", Ridge())]), {"c__a__fails": [None, "fit"]}, **how))
    run("everything", lambda: grid(pipe(), {"model__fails": ["fit"]}, **how))
    run("a scorer", lambda: grid(Ridge(), {"alpha": [1, 2]}, scoring=no_score, **how))
    run("one of two scorers", lambda: cross_validate(Ridge(), X, y, scoring={"a": "r2", "b": no_score}, cv=3, **how))
    run("a step becomes nothing", lambda: grid(pipe(model="fit"), {"step": [Step(), "passthrough"]}, **how))
    run("no such parameter", lambda: grid(pipe(), {"step__nothing": [1]}, **how))
    run("a pipeline in a pipeline", lambda: grid(make_pipeline(make_pipeline(Step("fit")), Ridge()), {}, **how))
united = make_pipeline(make_union(Step("fit"), StandardScaler()), Ridge())
run("a union", lambda: cross_val_score(united, X, y, cv=2, error_score="raise"))
run("predictions, fit", lambda: cross_val_predict(pipe("fit"), X, y, cv=2))
run("predictions, fit of the model", lambda: cross_val_predict(pipe(model="fit"), X, y, cv=2))
run("predictions", lambda: cross_val_predict(pipe(model="predict"), X, y, cv=2))
run("predictions of a whole", lambda: cross_val_predict(Model("predict"), X, y, cv=2))
inner = GridSearchCV(pipe(), {"step__fails": ["fit"]}, cv=2)
run("a search in a cross-validation", lambda: cross_val_score(inner, X, y, cv=2, error_score="raise"))
run("outside of searches", lambda: columns.set_params(a__fails="fit").fit(X))
grid(pipe(model="fit"), {}, error_score="raise")
