"""A plan over Polars frames: expressions, selectors, encoders, a search; and skrub's pipelines on Polars."""
import io

import numpy as np
import polars as pl
import skrub
from skrub import selectors as s
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

np.random.seed(0)  # for the encoders of the ready pipeline
rng = np.random.default_rng(31)
n = 240
df = pl.DataFrame({
    "city": rng.choice(["Oslo", "Bergen", "Tromsø", ""], n).tolist(),
    "note": [f"ticket {i % 37} about {w}" for i, w in enumerate(rng.choice(["billing", "login", "crash"], n))],
    "opened": [f"2024-0{m}-{d:02d} 0{h}:30" for m, d, h in zip(rng.integers(1, 9, n), rng.integers(1, 28, n), rng.integers(0, 9, n))],
    "wait": rng.exponential(5, n), "calls": rng.integers(0, 5, n),
}).with_columns(pl.when(pl.col("calls") == 4).then(None).otherwise(pl.col("calls")).alias("calls"))
target = (pl.Series(rng.random(n)) + df["note"].str.contains("crash").cast(pl.Float64) > 0.9).alias("escalated")
buffer = io.BytesIO()
df.with_columns(target).write_csv(buffer)
table = pl.read_csv(buffer.getvalue())
print(table.schema, table.head(2).rows(), sep="\n")


def features(frame, long):
    return frame.with_columns(
        (pl.col("wait") > long).alias("long"), pl.col("note").str.len_chars().alias("length"),
        pl.col("wait").rank().over("city").alias("rank"),
    )


data = skrub.var("tickets", table)
X, y = data.drop("escalated").skb.mark_as_X(), data["escalated"].skb.mark_as_y()
X = X.skb.apply_func(features, skrub.choose_from([5.0, 10.0], name="long"))
encoded = X.skb.apply(skrub.StringEncoder(n_components=3, random_state=0), cols="note")
encoded = encoded.skb.apply(skrub.ToDatetime(), cols="opened").skb.apply(skrub.DatetimeEncoder(add_total_seconds=False), cols="opened")
encoded = encoded.skb.apply(skrub.TableVectorizer(), exclude_cols=s.float())
pred = encoded.fill_null(-1).skb.apply(LogisticRegression(C=skrub.choose_from([0.1, 1.0], name="C"), max_iter=2000), y=y)
print(encoded.skb.preview().head(2).to_dicts())
search = pred.skb.make_grid_search(cv=2, scoring="roc_auc", fitted=True)
print(search.results_)
print(search.best_learner_.predict_proba({"tickets": table.head(3)}).tolist())

plain = table.drop("escalated")
pipe = make_pipeline(skrub.TableVectorizer(high_cardinality=skrub.MinHashEncoder(n_components=4)),
                     skrub.tabular_pipeline(LogisticRegression(max_iter=500))[-3:])
print(cross_val_score(skrub.tabular_pipeline(LogisticRegression(max_iter=500)), plain, table["escalated"], cv=2, scoring="roc_auc").tolist())
grid = GridSearchCV(pipe, {"tablevectorizer__cardinality_threshold": [2, 40]}, cv=2).fit(plain, table["escalated"])
print(grid.cv_results_["mean_test_score"].tolist(), grid.predict(plain[:5]).tolist())
out = plain.with_columns(p=pl.Series(grid.predict_proba(plain)[:, 1]))
out.write_csv("predictions.csv")
print(out.group_by("city", maintain_order=True).agg(pl.col("p").mean()).to_dicts())
