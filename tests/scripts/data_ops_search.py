import numpy as np
import pandas as pd
import skrub
from sklearn.linear_model import Ridge

rng = np.random.default_rng(3)
df = pd.DataFrame({
    "city": rng.choice(["Paris", "Rome", "Oslo", "Bern"], 240),
    "job": rng.choice([f"job {i}" for i in range(60)], 240),
    "age": rng.integers(20, 60, 240),
    "pay": rng.normal(50, 10, 240).round(2),
})

data = skrub.var("data", df)
X = data.drop(columns="pay").skb.mark_as_X()
y = data["pay"].skb.mark_as_y()
X = X.assign(old=X["age"] > skrub.choose_from([30, 40], name="old"))
features = X.skb.apply(skrub.TableVectorizer(high_cardinality=skrub.StringEncoder(n_components=5, random_state=0)))
pred = features.skb.apply(Ridge(alpha=skrub.choose_float(0.1, 10, log=True, name="alpha", default=1.0)), y=y)
print(pred.skb.describe_steps())
search = pred.skb.make_randomized_search(n_iter=4, cv=3, random_state=0, fitted=True)
print(search.results_.round(6).to_string())
print(search.best_learner_.predict({"data": df.head()}).round(6))
print(search.best_learner_)
print(pred.skb.cross_validate(cv=3)["test_score"].round(6).tolist())
search.results_.round(6).to_csv("results.csv")
