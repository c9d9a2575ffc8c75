"""LightGBM on pandas categories: a grid, early stopping, importances."""
import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, train_test_split

rng = np.random.default_rng(8)
n = 24_000
df = pd.DataFrame({f"x{i}": rng.normal(size=n) for i in range(9)})
df["brand"] = pd.Categorical(rng.choice(["a", "b", "c", "d"], n), categories=["d", "c", "b", "a"])
df["size"] = pd.Categorical(rng.choice(["S", "M", "L"], n), categories=["S", "M", "L"], ordered=True)
df["when"] = pd.to_datetime("2022-03-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
df.loc[rng.random(n) < 0.2, "x1"] = np.nan
df["month"], df["dow"] = df["when"].dt.month, df["when"].dt.day_of_week
df = df.drop(columns="when")
y = df["x0"] * 2 + df["brand"].map({"a": 1.0, "b": 0.0, "c": -1.0, "d": 3.0}).astype(float) + rng.normal(size=n)
model = lgb.LGBMRegressor(n_estimators=15, random_state=0, n_jobs=1, verbose=-1, deterministic=True, force_row_wise=True)
cv = KFold(3, shuffle=True, random_state=0)
search = GridSearchCV(model, {"num_leaves": [7, 15], "min_child_samples": [20, 100]}, cv=cv, scoring="r2").fit(df, y)
for key in ("params", "mean_test_score", "split0_test_score", "rank_test_score"):
    print(key, list(search.cv_results_[key]))
X_train, X_valid, y_train, y_valid = train_test_split(df, y, random_state=0)
best = lgb.LGBMRegressor(**{**search.best_estimator_.get_params(), "n_estimators": 60, "learning_rate": 0.5})
best.fit(X_train, y_train, eval_X=X_valid, eval_y=y_valid, callbacks=[lgb.early_stopping(5, verbose=False)])
print(best.best_iteration_, repr(best.best_score_["valid_0"]["l2"]))
print(pd.Series(best.feature_importances_, index=df.columns).sort_values(ascending=False, kind="stable").to_string())
oof = cross_val_predict(search.best_estimator_, df, y, cv=cv)
print(oof[:5].tolist(), repr(float(np.corrcoef(oof, y)[0, 1])))
pd.DataFrame({"oof": oof[:200], "y": y[:200]}).to_csv("oof.csv", index=False)
