"""Searches whose fits fail: tracebacks, and what scikit-learn says of failed fits."""
import traceback
import numpy as np
import pandas as pd
import skrub
from sklearn.linear_model import Ridge, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
def attempt(title, action):
    print(f"-- {title}")
    try:
        print("no error", type(action()).__name__)
    except Exception:
        print(traceback.format_exc())
df = pd.DataFrame({"a": np.arange(60.0), "b": np.arange(60) % 7, "t": np.arange(60) % 2})
data = skrub.var("data")
X, y = data[["a", "b"]].skb.mark_as_X(), data["t"].skb.mark_as_y()
@skrub.deferred
def fails(x):
    if len(x)<50: raise ValueError("few rows")
    return x
p = fails(X).skb.apply(Ridge(alpha=skrub.choose_from([1.,2.],name="al")), y=y)
attempt("all fail", lambda: p.skb.make_grid_search(fitted=False,cv=3).fit({"data":df}))
attempt("raise", lambda: p.skb.make_grid_search(fitted=False,cv=3,error_score="raise").fit({"data":df}))
attempt("cv", lambda: p.skb.cross_validate({"data":df},cv=3,error_score="raise"))
attempt("sk", lambda: GridSearchCV(make_pipeline(StandardScaler(),LogisticRegression()),{"logisticregression__C":[-1,1]},cv=3,error_score="raise").fit(df[["a"]],df["t"]))
attempt("sk2", lambda: GridSearchCV(make_pipeline(StandardScaler(),LogisticRegression()),{"logisticregression__Q":[-1,1]},cv=3).fit(df[["a"]],df["t"]))
attempt("sk3", lambda: cross_val_score(Ridge(),df[["a"]].assign(q="x"),df["t"],error_score="raise"))
attempt("sk4", lambda: GridSearchCV(Ridge(),{"alpha":[-1]},cv=3).fit(df[["a"]],df["t"]))
@skrub.deferred
def early(x): raise OSError("no such table")
attempt("early", lambda: early(data).skb.mark_as_X().skb.apply(Ridge(),y=y).skb.make_grid_search(cv=3).fit({"data":df}))
attempt("earlycv", lambda: skrub.cross_validate(early(data).skb.mark_as_X().skb.apply(Ridge(),y=y).skb.make_learner(), {"data":df}))
attempt("rnd", lambda: p.skb.make_randomized_search(n_iter=2, random_state=0,cv=3,error_score="raise").fit({"data":df}))
attempt("rnd all", lambda: p.skb.make_randomized_search(n_iter=2, random_state=0,cv=3).fit({"data":df}))
attempt("neg", lambda: X.skb.apply(Ridge(alpha=skrub.choose_from([1.,-2.],name="al")), y=y).skb.make_grid_search(fitted=False,cv=3).fit({"data":df}))
q = X.skb.apply(Ridge(alpha=skrub.choose_from([1.,2.],name="al")), y=y)
for wrong in ("max_eror", ["r2", "max_eror"], ["r2", "explained_variance"]):
    attempt(f"score {wrong}", lambda: q.skb.make_grid_search(cv=3, scoring=wrong).fit({"data":df}))
    attempt(f"score rnd {wrong}", lambda: q.skb.make_randomized_search(n_iter=1, random_state=0, scoring=wrong).fit({"data":df}))
    attempt(f"score cv {wrong}", lambda: q.skb.cross_validate({"data":df}, scoring=wrong))
attempt("splits", lambda: q.skb.make_grid_search(cv=1).fit({"data":df}))
attempt("splits cv", lambda: q.skb.cross_validate({"data":df}, cv="x"))
attempt("score sk", lambda: GridSearchCV(Ridge(), {"alpha":[1]}, scoring="max_eror").fit(df[["a"]], df["t"]))
