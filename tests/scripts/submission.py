"""A contest: train and test tables, features, predictions out of fold, a blend and a file to hand in."""
import argparse
import logging
import os
import sys
import tempfile
import warnings

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

warnings.filterwarnings("ignore")
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(levelname)s] %(message)s")


def generate(folder, seed=0):
    rng = np.random.default_rng(seed)
    for name, n in (("train", 22_000), ("test", 2_000)):
        df = pd.DataFrame({"id": np.arange(n) + (0 if name == "train" else 100_000)})
        for i in range(8):
            df[f"num{i}"] = rng.normal(i, 1 + i, n).round(4)
        df["pickup"] = (pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 365 * 24 * 60, n), unit="min")).astype(str)
        df["zone"] = rng.choice([f"z{i:02d}" for i in range(20)], n)
        df["flag"] = rng.choice(["Y", "N"], n)
        df.loc[rng.random(n) < 0.05, "num3"] = np.nan
        target = df["num0"] + 0.2 * df["num1"] * (df["flag"] == "Y") + df["zone"].str[1:].astype(int) / 10 + rng.normal(size=n)
        if name == "train":
            df["target"] = target
        df.to_csv(os.path.join(folder, f"{name}.csv"), index=False)


def build_features(df):
    when = pd.to_datetime(df["pickup"])
    return df.drop(columns=["id", "pickup"]).assign(
        hour=when.dt.hour, weekday=when.dt.day_of_week.astype("category"), day=when.dt.dayofyear,
        product=df["num0"] * df["num1"], missing=df["num3"].isna().astype("int8"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--out", default="submission.csv")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        train, test = (pd.read_csv(os.path.join(folder, f"{name}.csv")) for name in ("train", "test"))
    y = train.pop("target")
    X, X_test = build_features(train), build_features(test)
    logging.info("train %s, test %s", X.shape, X_test.shape)
    words = ["zone", "flag", "weekday"]
    numbers = [name for name in X.columns if name not in words]
    prep = ColumnTransformer([("num", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
                              ("cat", OneHotEncoder(handle_unknown="ignore", sparse_output=False), words)])
    models = {
        "ridge": make_pipeline(prep, Ridge()), "lasso": make_pipeline(prep, Lasso(0.01)),
        "boosting": make_pipeline(prep, HistGradientBoostingRegressor(max_iter=8, random_state=0)),
    }
    cv = KFold(args.folds, shuffle=True, random_state=1)
    tuned = GridSearchCV(models["ridge"], {"ridge__alpha": [0.1, 10.0, 1000.0]}, cv=cv, scoring="neg_root_mean_squared_error")
    models["ridge"] = tuned.fit(X, y).best_estimator_
    logging.info("ridge: %s %r", tuned.best_params_, tuned.cv_results_["mean_test_score"].tolist())
    oof, final = {}, {}
    for name, model in models.items():
        oof[name] = cross_val_predict(model, X, y, cv=cv)
        final[name] = clone(model).fit(X, y).predict(X_test)
        logging.info("%s rmse %r", name, root_mean_squared_error(y, oof[name]))
    oof, final = pd.DataFrame(oof), pd.DataFrame(final)
    weights = np.linalg.lstsq(oof.to_numpy(), y.to_numpy(), rcond=None)[0]
    logging.info("blend %s rmse %r", weights.tolist(), root_mean_squared_error(y, oof @ weights))
    pd.DataFrame({"id": test["id"], "target": final @ weights}).to_csv(args.out, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
