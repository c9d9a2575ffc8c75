"""Patients seen several times: grouped folds, many scorers, predictions outside of the training folds."""
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, fbeta_score, log_loss, make_scorer
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

rng = np.random.default_rng(11)
n = 20_000
patient = rng.integers(0, 900, n)
base = rng.normal(size=900)[patient]
X = pd.DataFrame({f"m{i}": base * rng.normal() + rng.normal(size=n) for i in range(14)})
X["age"] = (rng.normal(60, 9, 900)[patient]).astype("float32")
X["sex"] = rng.integers(0, 2, 900)[patient].astype("int8")
y = pd.Series((base + 0.5 * X["m0"] + rng.normal(size=n) > 0.3).astype(int), name="ill")
groups = pd.Series(patient, name="patient")

scoring = {
    "accuracy": "accuracy", "auc": "roc_auc", "ap": "average_precision", "loss": "neg_log_loss",
    "f2": make_scorer(fbeta_score, beta=2),
    "positive": lambda model, X, y: float(model.predict_proba(X)[:, 1].mean()),
}
models = {
    "bayes": make_pipeline(QuantileTransformer(n_quantiles=50, random_state=0), GaussianNB()),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.3)),

}
rows = []
for name, model in models.items():
    for cv in (GroupKFold(2), StratifiedGroupKFold(2, shuffle=True, random_state=0)):
        out = cross_validate(model, X, y, groups=groups, cv=cv, scoring=scoring, return_train_score=True,
                             return_estimator=True, return_indices=True)
        row = {"model": name, "cv": type(cv).__name__}
        for key, values in out.items():
            if key.startswith(("test_", "train_")):
                row[key] = values.mean()
        rows.append(row)
        print(name, cv, {k: v.tolist() for k, v in out.items() if k.startswith("test_")})
        print([len(part) for part in out["indices"]["test"]], type(out["estimator"][0][-1]).__name__)
pd.DataFrame(rows).to_csv("scores.csv", index=False)
proba = cross_val_predict(models["logistic"], X, y, groups=groups, cv=GroupKFold(3), method="predict_proba")
print(proba.shape, repr(log_loss(y, proba)), confusion_matrix(y, proba[:, 1] > 0.5).tolist())
print(pd.DataFrame(proba).groupby(groups).mean().head().to_csv())
