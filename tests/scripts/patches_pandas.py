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

original = pd.DataFrame.mean


def doubled(self, *args, **kwargs):
    return original(self, *args, **kwargs) * 2


pd.DataFrame.mean = doubled
data = skrub.var("data", df)
means = data[["age", "pay"]].mean()
print(means.skb.eval().round(6).to_dict())
X = data[["age"]].skb.mark_as_X()
pred = X.skb.apply(Ridge(), y=data["pay"].skb.mark_as_y())
print(pred.skb.cross_validate(cv=3)["test_score"].round(6).tolist())
