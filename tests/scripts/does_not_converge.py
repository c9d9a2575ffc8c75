import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_validate

rng = np.random.default_rng(1)
X = rng.normal(size=(200, 8)) * 1000
y = (X[:, 0] + rng.normal(size=200) * 500 > 0).astype(int)
warnings.filterwarnings("ignore", category=ConvergenceWarning)
scores = cross_validate(LogisticRegression(max_iter=3), X, y, cv=3, scoring=["accuracy", "roc_auc"])
print({k: v.round(6).tolist() for k, v in scores.items() if "time" not in k})
print(np.bincount(cross_val_predict(LogisticRegression(max_iter=3), X, y, cv=3)))
warnings.simplefilter("always")
LogisticRegression(max_iter=3).fit(X, y)
