"""House prices: randomized search over a target on a log scale, with a scorer of the script's own."""
import numpy as np
import pandas as pd
from scipy.stats import loguniform, randint
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import KFold, RandomizedSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor

rng = np.random.RandomState(7)
n = 24_000
df = pd.DataFrame({
    "area": rng.gamma(9, 13, n), "rooms": rng.randint(1, 9, n), "bathrooms": rng.randint(1, 4, n),
    "year": rng.randint(1880, 2024, n), "garden": rng.exponential(200, n), "floor": rng.randint(0, 12, n),
    "distance": rng.exponential(7, n), "district": rng.choice(list("ABCDEFGH"), n),
    "heating": rng.choice(["gas", "oil", "pump"], n), "condition": rng.randint(1, 6, n),
    "garage": rng.randint(0, 3, n), "view": rng.rand(n),
})
df["price"] = np.exp(11 + 0.008 * df["area"] + 0.05 * df["rooms"] - 0.04 * df["distance"] + rng.normal(0, 0.2, n))
df.loc[rng.rand(n) < 0.1, "garden"] = np.nan


def add_features(frame):
    frame = frame.copy()
    frame["age"] = 2024 - frame["year"]
    frame["area_per_room"] = frame["area"] / frame["rooms"]
    frame["is_new"] = (frame["age"] < 10).astype(int)
    return frame


def rmsle(y_true, y_pred):
    return np.sqrt(np.mean((np.log1p(y_true) - np.log1p(np.maximum(y_pred, 0))) ** 2))


df = add_features(df)
X, y = df.drop(columns="price"), df["price"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=0)
prep = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
    (OneHotEncoder(sparse_output=False), make_column_selector(dtype_exclude="number")),
)
scorer = make_scorer(rmsle, greater_is_better=False)
cv = KFold(2, shuffle=True, random_state=1)
model = TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
search = RandomizedSearchCV(
    make_pipeline(prep, model), {"transformedtargetregressor__regressor__alpha": loguniform(1e-3, 1e3)},
    n_iter=3, scoring=scorer, cv=cv, random_state=3,
)
search.fit(X_train, y_train)
for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"]):
    print(params, repr(float(score)))
print("test rmsle", repr(float(rmsle(y_test, search.predict(X_test)))))

tree = RandomizedSearchCV(
    make_pipeline(prep, DecisionTreeRegressor(random_state=0)),
    {"decisiontreeregressor__max_depth": randint(2, 6), "decisiontreeregressor__min_samples_leaf": [5, 50]},
    n_iter=3, scoring={"rmsle": scorer, "mae": "neg_mean_absolute_error"}, refit="mae", cv=2, random_state=0,
)
tree.fit(X_train, y_train)
print(tree.best_index_, tree.cv_results_["mean_test_rmsle"].tolist(), tree.cv_results_["mean_test_mae"].tolist())
print("test mae", repr(mean_absolute_error(y_test, tree.predict(X_test))))
print(cross_val_score(search.best_estimator_, X_test, y_test, scoring=scorer, cv=3).tolist())
pd.DataFrame({"true": y_test, "linear": search.predict(X_test), "tree": tree.predict(X_test)}).head(50).to_csv("prices.csv")
