"""Scores against rows and against a hyperparameter, drawn if there is matplotlib and written as JSON."""
import json

import numpy as np
import pandas as pd
import skrub
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_validate, learning_curve, validation_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
except ImportError:
    plt = None

rng = np.random.default_rng(77)
X = pd.DataFrame({"x": rng.uniform(-3, 3, 800), "y": rng.uniform(-3, 3, 800), "group": rng.choice(["u", "v"], 800)})
y = ((X["x"] ** 2 + X["y"] ** 2 < 5) ^ ((X["group"] == "u") & (X["x"] > 1))).astype(int)
cv = StratifiedShuffleSplit(2, test_size=0.25, random_state=0)
curves = {}
for depth in range(1, 4):
    model = make_pipeline(skrub.TableVectorizer(), DecisionTreeClassifier(max_depth=depth, random_state=0))
    out = cross_validate(model, X, y, cv=cv, return_train_score=True)
    curves[depth] = {"train": out["train_score"].tolist(), "test": out["test_score"].tolist()}
    print(f"depth {depth} train {np.mean(out['train_score']):.17g} test {np.mean(out['test_score']):.17g}")
smooth = make_pipeline(skrub.TableVectorizer(numeric=SplineTransformer(n_knots=4)), StandardScaler(), LogisticRegression())
sizes, train, test = learning_curve(smooth, X, y, cv=cv, train_sizes=[0.1, 0.5, 1.0], random_state=0)
print(sizes.tolist(), train.tolist(), test.tolist())
numbers = X[["x", "y"]]
values = np.logspace(-3, 1, 4)
train, test = validation_curve(LogisticRegression(), numbers**2, y, param_name="C", param_range=values, cv=cv)
print(train.mean(1).tolist(), test.mean(1).tolist())
with open("curves.json", "w") as file:
    json.dump({"depth": curves, "sizes": sizes.tolist(), "C": dict(zip(map(repr, values.tolist()), test.tolist()))}, file)
if plt is not None:
    fig, ax = plt.subplots(figsize=(3, 2))
    for part in ("train", "test"):
        ax.plot(list(curves), [np.mean(curve[part]) for curve in curves.values()], label=part)
    ax.legend()
    fig.savefig("curves.png", metadata={"Software": None})
    print("drawn", ax.get_xlim(), len(ax.lines))
