"""One class in twenty: weights, thresholds, calibration, curves; everything from predictions out of fold."""
import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, precision_recall_curve
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

X, y = make_classification(20_000, 25, weights=[0.95], n_informative=5, random_state=3, flip_y=0.02)
X[:, 4] = np.where(X[:, 4] > 1.5, np.nan, X[:, 4])
X = np.nan_to_num(X, nan=0.0)
cv = StratifiedKFold(3, shuffle=True, random_state=0)
table = []
for weight in (None, "balanced", {0: 1, 1: 5}):
    model = make_pipeline(RobustScaler(), LogisticRegression(class_weight=weight))
    proba = cross_val_predict(model, X, y, cv=cv, method="predict_proba")[:, 1]
    margin = cross_val_predict(model, X, y, cv=cv, method="decision_function")
    precision, recall, thresholds = precision_recall_curve(y, proba)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = thresholds[f1[:-1].argmax()]
    table.append({"weight": str(weight), "ap": average_precision_score(y, proba), "brier": brier_score_loss(y, proba),
                  "threshold": best, "f1": f1.max(), "margin": margin.mean()})
    print(weight, confusion_matrix(y, proba >= best).tolist(), repr(float(best)))
print(pd.DataFrame(table).to_csv(index=False, float_format="%.17g"))
calibrated = CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=3, random_state=0), cv=2, method="isotonic")
print(cross_val_score(calibrated, X, y, cv=cv, scoring="neg_brier_score").tolist())
repeated = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=9)
search = GridSearchCV(LogisticRegression(), [{"C": [0.1, 1], "class_weight": [None, "balanced"]}, {"C": [10]}],
                      scoring=["average_precision", "recall"], refit="average_precision", cv=repeated)
search.fit(X[:, :18], y)
frame = pd.DataFrame(search.cv_results_)
print(frame.filter(regex="^param_|mean_test|rank").to_string())
frame.filter(regex="^(param|mean_test|std_test|rank|split)").to_csv("rare.csv", index=False)
print(search.best_params_, search.best_estimator_.coef_[0, :3].tolist())
