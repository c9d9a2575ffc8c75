"""Errors at several places of pipelines, each with the traceback that the library gives."""
import traceback

import numpy as np
import pandas as pd
import skrub
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler


def attempt(title, action):
    print(f"-- {title}")
    try:
        print("no error", type(action()).__name__)
    except Exception:
        print(traceback.format_exc())


class Refuses(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        if len(X) < 30:
            raise ValueError(f"{len(X)} rows are too few")
        return self

    def transform(self, X):
        if len(X) < 5:
            raise LookupError("cannot transform so little")
        return X


df = pd.DataFrame({"a": np.arange(60.0), "b": np.arange(60) % 7, "t": np.arange(60) % 2})
data = skrub.var("data")
X, y = data[["a", "b"]].skb.mark_as_X(), data["t"].skb.mark_as_y()


@skrub.deferred
def strict(table, least):
    if table["a"].max() < least:
        raise ArithmeticError("too small")
    return table


checked = strict(X, skrub.var("least", 3))
pred = checked.skb.apply(Refuses()).skb.apply(StandardScaler()).skb.apply(LogisticRegression(), y=y)
attempt("a function", lambda: checked.skb.eval({"data": df, "least": 100}))
attempt("a variable is missing", lambda: checked.skb.eval({"least": 100}))
attempt("an unknown variable", lambda: checked.skb.eval({"data": df, "least": 1, "other": 3}))
attempt("a method", lambda: X.no_such_method(3).skb.eval({"data": df}))
attempt("an operator", lambda: (X["a"] + "text").skb.eval({"data": df}))
attempt("a column", lambda: X["none"].skb.eval({"data": df}))
attempt("a fit", lambda: pred.skb.make_learner().fit({"data": df.head(10), "least": 3}))
learner = pred.skb.make_learner().fit({"data": df, "least": 3})
attempt("a prediction", lambda: learner.predict({"data": df.head(3), "least": 1}))
attempt("no such method", lambda: learner.transform({"data": df, "least": 3}))
attempt("not fitted", lambda: pred.skb.make_learner().predict({"data": df, "least": 3}))
attempt("a branch", lambda: (X["a"].sum() > 3).skb.if_else(X["no"], X["b"]).skb.eval({"data": df}))
attempt("a match", lambda: X["b"].max().skb.match({1: X, 2: y}).skb.eval({"data": df}))
attempt("one class", lambda: pred.skb.make_learner().fit({"data": df[df["t"] == 0].head(30), "least": 3}))
valued = skrub.var("data", df)
attempt("a preview", lambda: valued["a"].no_such_method())
attempt("a preview of a fit", lambda: valued[["a"]].skb.apply(Ridge(alpha=-1), y=valued["t"]))
attempt("a split", lambda: checked.skb.train_test_split({"least": 3000, "data": df}))
