"""XGBoost: one hyperparameter after the other is tuned in a loop of the script's own."""
import argparse
import logging
import sys

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.model_selection import StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from xgboost import XGBClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=24_000)
parser.add_argument("--seed", type=int, default=13)
args = parser.parse_args()
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
log = logging.getLogger("tune")

rng = np.random.default_rng(args.seed)
df = pd.DataFrame(rng.normal(size=(args.rows, 10)).astype("float32"), columns=list("abcdefghij"))
df["kind"] = rng.choice(["x", "y", "z"], args.rows)
df.loc[rng.random(args.rows) < 0.1, "c"] = np.nan
y = ((df["a"] * df["b"] > 0) ^ (df["kind"] == "z")).astype(int)
prep = make_column_transformer((OrdinalEncoder(), ["kind"]), remainder="passthrough")
params = {"n_estimators": 10, "max_depth": 3, "learning_rate": 0.3, "tree_method": "hist", "n_jobs": 1, "random_state": 0}
cv = StratifiedKFold(3, shuffle=True, random_state=args.seed)
history = []
for name, values in {"max_depth": [2, 4, 6], "learning_rate": [0.1, 0.5], "reg_lambda": [0.5, 5.0]}.items():
    scores = {}
    for value in values:
        model = make_pipeline(prep, XGBClassifier(**{**params, name: value}))
        fold = cross_val_score(model, df, y, cv=cv, scoring="roc_auc")
        scores[value] = fold.mean()
        history.append({"name": name, "value": value, "auc": fold.mean(), "worst": fold.min()})
        log.info("%s=%r auc %r", name, value, float(fold.mean()))
    params[name] = max(scores, key=scores.get)
print(params)
pd.DataFrame(history).to_csv("history.csv", index=False)
out = cross_validate(make_pipeline(prep, XGBClassifier(**params)), df, y, cv=cv, scoring=["accuracy", "neg_log_loss"])
print(out["test_accuracy"].tolist(), out["test_neg_log_loss"].tolist())
sys.exit(0 if out["test_accuracy"].mean() > 0.6 else 1)
