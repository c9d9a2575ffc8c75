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

import os
import pickle
import sys


def clean(frame):
    print("cleaning", frame.shape)
    return frame.assign(job=frame["job"].str.upper())


data = skrub.var("data")
X = data.drop(columns="pay", errors="ignore").skb.mark_as_X()
y = data["pay"].skb.mark_as_y()
pred = X.skb.apply_func(clean).skb.apply(skrub.TableVectorizer(high_cardinality=skrub.StringEncoder(n_components=5, random_state=0))).skb.apply(Ridge(), y=y)
learner = pred.skb.make_learner()
learner.fit({"data": df})
with open("learner.pkl", "wb") as file:
    pickle.dump(learner, file)
with open("learner.pkl", "rb") as file:
    loaded = pickle.load(file)
print(loaded.predict({"data": df.head(3)}).round(6))
os.remove("learner.pkl")  # skrub's nodes have random numbers of their own
split = pred.skb.train_test_split({"data": df}, random_state=0)
print(sorted(split), round(learner.score({"data": df}), 6))
sys.exit(0 if loaded is not learner else 1)
