"""Searches whose data lacks a variable or a column, before the folds and in them."""
import traceback

import pandas as pd
import skrub
from sklearn.linear_model import LogisticRegression


def show(title, action):
    print("--", title)
    try:
        print("no error", type(action()).__name__)
    except Exception:
        print(traceback.format_exc())


def searches(title, X, y, environment, **how):
    op = X.skb.apply(LogisticRegression(C=skrub.choose_from([0.1, 1.0], name="C")), y=y)
    show(f"{title}: grid", lambda: op.skb.make_grid_search(cv=2, **how).fit(environment))
    show(f"{title}: cross_validate", lambda: op.skb.cross_validate(environment, cv=2, **how))
    if how:
        search = op.skb.make_randomized_search(cv=2, n_iter=1, random_state=0, **how)
        show(f"{title}: randomized", lambda: search.fit(environment))


table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0] * 5, "b": [0, 1, 0, 1] * 5})
data = skrub.var("data")
X, y = data[["a"]].skb.mark_as_X(), data["b"].skb.mark_as_y()
searches("no variable", X, y, {})
searches("no column for X", X, y, {"data": table.drop(columns="a")})
searches("no column for y", X, y, {"data": table.drop(columns="b")})
searches("no table", X, y, {"data": None})
searches("no such operator", -data[["b"]].assign(c="text").skb.mark_as_X(), y, {"data": table})
searches("no variable for y", X, skrub.var("other").skb.mark_as_y(), {"data": table})
searches("no dict", X, y, 3)
searches("a DataOp", X, y, {"data": table, "other": X})
show("eval with a DataOp", lambda: X.skb.eval({"data": X}))
places = {
    "an item": X["gone"], "an attribute": X.gone, "a method": X.drop(columns="gone"), "an argument": X.assign(c=X["gone"]),
    "an operator": X.assign(c="text") - 1, "a variable": X + skrub.var("unknown"), "a choice": X[skrub.choose_from(["gone"])],
    "a branch": (X.shape[0] > 3).skb.if_else(X["gone"], X), "a selection": X.skb.select(["gone"]),
}
for name, table_of in places.items():
    searches(name, table_of, y, {"data": table})
    searches(f"{name}, raised", table_of, y, {"data": table}, error_score="raise")
unsupervised = X[["gone"]].skb.apply(skrub.TableVectorizer(cardinality_threshold=skrub.choose_from([1, 2], name="n")))
show("no y", lambda: unsupervised.skb.make_grid_search(cv=2, scoring=lambda *given: 0.0).fit({"data": table}))
