"""Baskets and products: tables read from files, aggregated and joined in a plan, searched at random."""
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import skrub
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression


def write_tables(folder):
    rng = np.random.default_rng(29)
    baskets = pd.DataFrame({"ID": np.arange(350), "day": rng.integers(1, 29, 350)})
    products = pd.DataFrame({
        "basket": rng.integers(0, 350, 1400),
        "item": rng.choice(["COMPUTER", "phone case", "warranty", "TV", "cable", "lamp"], 1400),
        "price": rng.lognormal(4, 1, 1400).round(2),
        "quantity": rng.integers(1, 4, 1400),
    })
    spent = (products["price"] * products["quantity"]).groupby(products["basket"]).sum().reindex(range(350), fill_value=0)
    baskets["fraud"] = (spent.to_numpy() + rng.normal(0, 200, 350) > 700).astype(int)
    baskets.to_csv(folder / "baskets.csv", index=False)
    products.to_csv(folder / "products.csv", index=False)


def total(products):
    return products.assign(total=products["price"] * products["quantity"])


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    write_tables(folder)
    baskets = skrub.var("baskets", pd.read_csv(folder / "baskets.csv"))
    products = skrub.var("products", pd.read_csv(folder / "products.csv"))

ids = baskets[["ID", "day"]].skb.mark_as_X()
fraud = baskets["fraud"].skb.mark_as_y()
kept = products[products["basket"].isin(ids["ID"])]
kept = kept.skb.apply_func(total)
encoded = kept.skb.apply(
    skrub.TableVectorizer(high_cardinality=skrub.MinHashEncoder(n_components=2), cardinality_threshold=3),
    exclude_cols="basket")
how = skrub.choose_from(["mean", "sum", "max"], name="how")
per_basket = encoded.groupby("basket").agg(how).reset_index()
joined = ids.merge(per_basket, left_on="ID", right_on="basket", how="left").drop(columns=["ID", "basket"]).fillna(0)
joined = joined.assign(weekend=joined["day"] % 7 >= 5)
model = skrub.choose_from(
    {"logistic": LogisticRegression(C=skrub.choose_float(0.01, 10, log=True, name="C"), max_iter=500),
     "forest": RandomForestClassifier(n_estimators=5, max_depth=skrub.choose_int(2, 6, name="depth"), random_state=0)},
    name="model")
pred = joined.skb.apply(model, y=fraud)
print(pred.skb.describe_steps())
split = pred.skb.train_test_split(test_size=0.3, random_state=0)
learner = pred.skb.make_learner()
learner.fit(split["train"])
print("score", repr(learner.score(split["test"])), split["y_test"].mean())
for i, candidate in enumerate(pred.skb.iter_learners_randomized(2, random_state=1)):
    print(i, candidate.fit(split["train"]).score(split["test"]))
aggregated = skrub.AggJoiner(aux_table=products.skb.preview(), main_key="ID", aux_key="basket", cols="price",
                             operations=["mean", "max"])
print(aggregated.fit_transform(baskets.skb.preview()).head(4).to_string())

search = pred.skb.make_randomized_search(n_iter=3, cv=2, scoring="roc_auc", random_state=4, fitted=True)
print(search.results_.to_string())
print(search.best_learner_.predict_proba({**pred.skb.get_data()})[:3].tolist())
search.results_.to_json("results.json", orient="records")
print(pred.skb.cross_validate(cv=2)["test_score"].tolist())
