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
try:
    data["no such column"]
except Exception as error:
    print(type(error).__name__, error)
pred = data[["age"]].skb.mark_as_X().skb.apply(Ridge(alpha="x"), y=data["pay"].skb.mark_as_y())
