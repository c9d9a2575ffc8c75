"""Transformers and a regressor of the script's own in a FeatureUnion, searched and pickled."""
import pickle

import numpy as np
import pandas as pd
import skrub
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, RepeatedKFold, ShuffleSplit, cross_val_predict
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler


class Clip(TransformerMixin, BaseEstimator):
    """Clip columns to quantiles of the training rows."""

    fitted = 0

    def __init__(self, quantile=0.01):
        self.quantile = quantile

    def fit(self, X, y=None):
        Clip.fitted += 1
        self.low_, self.high_ = X.quantile(self.quantile), X.quantile(1 - self.quantile)
        return self

    def transform(self, X):
        return X.clip(self.low_, self.high_, axis=1)

    def get_feature_names_out(self, names=None):
        return np.asarray(self.low_.index, dtype=object)


class TargetMean(TransformerMixin, BaseEstimator):
    """The mean of the target per value of a column, shrunk."""

    def __init__(self, column, smooth=10.0):
        self.column, self.smooth = column, smooth

    def fit(self, X, y):
        stats = pd.Series(np.asarray(y)).groupby(X[self.column].to_numpy()).agg(["sum", "count"])
        self.prior_ = float(np.mean(y))
        self.means_ = (stats["sum"] + self.smooth * self.prior_) / (stats["count"] + self.smooth)
        return self

    def transform(self, X):
        return X[self.column].map(self.means_).fillna(self.prior_).astype(float).to_frame("target_mean")

    def get_feature_names_out(self, names=None):
        return np.asarray(["target_mean"], dtype=object)


class Blend(RegressorMixin, BaseEstimator):
    def __init__(self, weight=0.5):
        self.weight = weight

    def fit(self, X, y):
        self.models_ = LinearRegression().fit(X, y), Ridge(10).fit(X, y)
        return self

    def predict(self, X):
        a, b = (model.predict(X) for model in self.models_)
        return self.weight * a + (1 - self.weight) * b


def ratios(df):
    return pd.DataFrame({"a/b": df["a"] / (df["b"].abs() + 1), "c*a": df["c"] * df["a"]}, index=df.index)


rng = np.random.default_rng(0)
df = pd.DataFrame(rng.standard_t(3, size=(900, 3)), columns=list("abc"), index=np.arange(900) * 3 + 1)
df["shop"] = rng.choice([f"shop {i}" for i in range(25)], 900)
y = df["a"].clip(-2, 2) + df["shop"].str[5:].astype(int) * 0.2 + rng.normal(size=900)
numbers = skrub.SelectCols(["a", "b", "c"])
union = FeatureUnion([
    ("clipped", Pipeline([("take", numbers), ("clip", Clip()), ("scale", StandardScaler()), ("pca", PCA(2, random_state=0))])),
    ("ratios", FunctionTransformer(ratios)),
    ("shop", TargetMean("shop")),
    ("text", Pipeline([("take", skrub.SelectCols("shop")), ("encode", skrub.MinHashEncoder(n_components=4))])),
])
pipe = Pipeline([("features", union), ("model", Blend())])
grid = {"features__clipped__clip__quantile": [0.0, 0.05], "features__shop__smooth": [1.0, 50.0], "model__weight": [0.2, 0.9]}
search = GridSearchCV(pipe, grid, cv=ShuffleSplit(2, random_state=1), return_train_score=True).fit(df, y)
print(search.best_params_, repr(search.best_score_))
print(search.cv_results_["mean_test_score"].tolist(), search.cv_results_["std_train_score"].tolist())
print(search.predict(df.head()).tolist())
pipe.set_params(**search.best_params_, features__clipped__pca="passthrough")
print(cross_val_predict(pipe, df, y, cv=4)[:6].tolist())
union.set_params(clipped__take=skrub.SelectCols(["a", "b", "c"]), ratios="drop", clipped__pca="passthrough")
union.set_params(clipped__scale="passthrough")
again = pickle.loads(pickle.dumps(union.fit(df, y)))
print(again.transform(df.tail(3)).to_string() if hasattr(again.transform(df), "to_string") else again.transform(df.tail(3)).tolist())
print(GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=RepeatedKFold(n_splits=2, n_repeats=2, random_state=0)).fit(
    df[["a", "b"]], y).cv_results_["mean_test_score"].tolist())
