"""Sales per day: lags and rolling means, TimeSeriesSplit, a loop over one hyperparameter."""
import numpy as np
import pandas as pd
import skrub
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_percentage_error
from sklearn.model_selection import TimeSeriesSplit, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(5)
dates = pd.date_range("2019-01-01", periods=700, freq="D")
season = 20 * np.sin(2 * np.pi * dates.day_of_year / 365.25) + 8 * (dates.day_of_week >= 5)
sales = pd.DataFrame({"date": dates, "sales": 100 + season + np.cumsum(rng.normal(0, 0.5, 700)) + rng.normal(0, 3, 700)})
sales.loc[rng.choice(700, 9, replace=False), "sales"] = np.nan
sales["sales"] = sales["sales"].interpolate().bfill()


def features(df, lags=(1, 7, 14), windows=(7, 28)):
    out = df.copy()
    for lag in lags:
        out[f"lag_{lag}"] = out["sales"].shift(lag)
    for window in windows:
        out[f"mean_{window}"] = out["sales"].shift(1).rolling(window).mean()
        out[f"std_{window}"] = out["sales"].shift(1).rolling(window).std()
    out["weekday"] = out["date"].dt.day_name().astype("category")
    return out.dropna().reset_index(drop=True)


table = features(sales)
print(table.head(3).to_string(), table.dtypes.to_string(), sep="\n")
X, y = table.drop(columns="sales"), table["sales"]
cv = TimeSeriesSplit(n_splits=2, gap=2)
vectorizer = skrub.TableVectorizer(datetime=skrub.DatetimeEncoder(add_weekday=True, periodic_encoding="circular"))
log = []
for alpha in [0.1, 1.0, 10.0]:
    model = make_pipeline(vectorizer, StandardScaler(), Ridge(alpha=alpha))
    scores = cross_val_score(model, X, y, cv=cv, scoring="neg_root_mean_squared_error")
    log.append({"alpha": alpha, "mean": scores.mean(), "std": scores.std(), **{f"fold{i}": s for i, s in enumerate(scores)}})
    print(f"alpha={alpha:<6} rmse={-scores.mean()!r}")
log = pd.DataFrame(log)
log.to_csv("loop.csv", index=False)
best = log.loc[log["mean"].idxmax(), "alpha"]
final = make_pipeline(vectorizer, StandardScaler(), Ridge(alpha=best)).fit(X[:-60], y[:-60])
forecast = final.predict(X[-60:])
print(best, repr(mean_absolute_percentage_error(y[-60:], forecast)), forecast[:5].tolist())
out = cross_validate(final, X, y, cv=cv, scoring=("r2", "neg_mean_absolute_error"), return_train_score=True)
print({k: v.tolist() for k, v in out.items() if not k.endswith("time")})
