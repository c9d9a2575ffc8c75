"""Churn: a CSV, a ColumnTransformer, a grid search; the best model saved, loaded and applied."""
import json
import os
import sys
import tempfile
import warnings

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

warnings.filterwarnings("ignore", category=FutureWarning)
SEED = 42


def make_csv(path, n=18_000):
    rng = np.random.default_rng(SEED)
    df = pd.DataFrame({
        "tenure": rng.integers(0, 72, n),
        "monthly": rng.gamma(4, 15, n).round(2),
        "calls": rng.poisson(1.5, n).astype(float),
        "age": rng.normal(45, 12, n).round(),
        "data_gb": rng.exponential(8, n).round(3),
        "contract": rng.choice(["month", "year", "two years"], n, p=[0.6, 0.25, 0.15]),
        "payment": rng.choice(["card", "transfer", "cheque", None], n),
        "region": rng.choice([f"région {i}" for i in range(9)], n),
        "senior": rng.integers(0, 2, n),
    })
    df.loc[rng.random(n) < 0.06, "age"] = np.nan
    df.loc[rng.random(n) < 0.03, "data_gb"] = np.nan
    logit = 0.8 * (df["contract"] == "month") - 0.03 * df["tenure"] + 0.3 * df["calls"] + 0.01 * df["monthly"] - 1
    df["churn"] = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "yes", "no")
    df.to_csv(path, index=False)


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "churn.csv")
    make_csv(path)
    df = pd.read_csv(path)

df["spend"] = df["tenure"] * df["monthly"]
X, y = df.drop(columns="churn"), df["churn"].map({"yes": 1, "no": 0})
numbers = X.select_dtypes("number").columns.tolist()
words = [name for name in X.columns if name not in numbers]
print(X.isna().sum().to_dict(), numbers, words)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=SEED)

pipe = Pipeline([
    ("prep", ColumnTransformer([
        ("num", Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]), numbers),
        ("cat", Pipeline([("impute", SimpleImputer(strategy="most_frequent")),
                          ("onehot", OneHotEncoder(handle_unknown="ignore"))]), words),
    ])),
    ("model", LogisticRegression(max_iter=300)),
])
grid = {"model__C": [0.01, 0.1, 1.0], "prep__num__impute__strategy": ["median", "mean"]}
cv = StratifiedKFold(n_splits=3, shuffle=True, random_state=SEED)
search = GridSearchCV(pipe, grid, cv=cv, scoring="roc_auc", return_train_score=True)
search.fit(X_train, y_train)

results = pd.DataFrame(search.cv_results_)
results = results[[name for name in results if "time" not in name]]
results.to_csv("churn_results.csv", index=False)
print(results[["param_model__C", "mean_test_score", "std_test_score", "rank_test_score"]].to_string())
print("best", search.best_params_, repr(search.best_score_))

joblib.dump(search.best_estimator_, "churn.joblib")
model = joblib.load("churn.joblib")
os.remove("churn.joblib")
proba = model.predict_proba(X_test)[:, 1]
print("AUC", repr(roc_auc_score(y_test, proba)))
print(classification_report(y_test, model.predict(X_test), digits=6))
with open("churn.json", "w") as file:
    json.dump({"best": search.best_params_, "score": search.best_score_, "coef": model[-1].coef_.tolist()}, file)
sys.exit(0)
