"""Estimators that fit others inside, one after another: a search by the engine says what scikit-learn's says.

The models are built by name on each side (see sides.py), so that neither sees the other's objects.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.experimental.enable_iterative_imputer  # noqa: F401
from sides import same
from sklearn import model_selection
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import (
    ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier, BaggingRegressor, HistGradientBoostingRegressor, RandomForestClassifier, StackingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFECV, SelectKBest, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import ElasticNetCV, Lasso, LassoCV, LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, QuantileTransformer, StandardScaler, TargetEncoder
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeRegressor
from test_sklearn_searches import of, table

pytestmark = pytest.mark.slow

Scale = StandardScaler


def frame_steps() -> Any:
    """Two ColumnTransformers in a row; the first one renames the columns of what it concatenates."""
    numbers = [("n", SimpleImputer(), ["a", "b", "c"]), ("m", Scale(), ["a", "c"])]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_pipeline(
        ColumnTransformer(numbers, remainder="passthrough").set_output(transform="pandas"),
        make_column_transformer((codes, make_column_selector(dtype_exclude="number")), remainder="passthrough"),
        HistGradientBoostingRegressor(max_iter=5),
    )


def encoders() -> Any:
    folds = model_selection.KFold(3, shuffle=True, random_state=0)
    steps = [
        ("n", IterativeImputer(random_state=0, max_iter=3), ["a", "b", "c"]),
        ("c", TargetEncoder(cv=folds), ["city", "word"]),
    ]
    return make_pipeline(ColumnTransformer(steps, n_jobs=2), LogisticRegression())


def union() -> Any:
    parts = [("a", make_pipeline(Scale(), PCA(2))), ("b", SelectKBest(k=1)), ("c", "passthrough"), ("d", "drop")]
    return make_pipeline(FeatureUnion(parts, transformer_weights={"a": 2.0, "b": 0.5}), Ridge())


def stack() -> Any:
    models = [("a", make_pipeline(Scale(), LogisticRegression())), ("b", GaussianNB())]
    return StackingClassifier(models, cv=3, passthrough=True)


def voting() -> Any:
    return VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(random_state=0))], weights=[1, 2])


def inner_search() -> Any:
    search = model_selection.RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1, 10]}, n_iter=2, random_state=0, cv=3)
    return make_pipeline(Scale(), search)


C, ALPHA = [0.1, 1.0], [0.1, 1.0]
# name -> (the model, the grid, which target); the target "text" also takes the columns with strings.
MODELS: dict[str, tuple[Any, dict, str]] = {
    "sequential": (
        lambda: make_pipeline(SequentialFeatureSelector(Ridge(), n_features_to_select=2, cv=3), Ridge()),
        {"ridge__alpha": ALPHA}, "value",
    ),
    "rfecv": (lambda: make_pipeline(Scale(), RFECV(Ridge(), cv=3), Ridge()), {"ridge__alpha": ALPHA}, "value"),
    "one-vs-rest": (lambda: OneVsRestClassifier(LogisticRegression()), {"estimator__C": C}, "three"),
    "one-vs-one": (lambda: OneVsOneClassifier(LogisticRegression()), {"estimator__C": C}, "three"),
    "codes": (lambda: OutputCodeClassifier(LogisticRegression(), random_state=0), {"code_size": [1.5, 2]}, "three"),
    "outputs": (lambda: MultiOutputRegressor(Ridge()), {"estimator__alpha": ALPHA}, "values"),
    "classes": (lambda: MultiOutputClassifier(LogisticRegression()), {"estimator__C": C}, "pairs"),
    "chain": (lambda: RegressorChain(Ridge(), cv=3), {"order": [None, [1, 0]]}, "values"),
    "class-chain": (lambda: ClassifierChain(LogisticRegression(), cv=3), {"order": [None, [1, 0]]}, "opposites"),
    "self-training": (lambda: SelfTrainingClassifier(LogisticRegression()), {"threshold": [0.6, 0.8]}, "two"),
    "frozen": (
        lambda: make_pipeline(FrozenEstimator(Scale().fit(data("two")[0])), LogisticRegression()),
        {"logisticregression__C": C}, "two",
    ),
    "calibrated-frozen": (
        lambda: CalibratedClassifierCV(FrozenEstimator(LogisticRegression().fit(*data("two")))),
        {"method": ["sigmoid", "isotonic"]}, "two",
    ),
    "calibrated": (
        lambda: CalibratedClassifierCV(LogisticRegression(), ensemble=False, cv=3),
        {"estimator__C": C, "method": ["sigmoid", "isotonic"]}, "two",
    ),
    "threshold": (
        lambda: model_selection.TunedThresholdClassifierCV(LogisticRegression(), cv=3), {"estimator__C": C}, "two",
    ),
    "stack": (stack, {"a__logisticregression__C": C, "stack_method": ["predict_proba", "predict"]}, "three"),
    "voting": (voting, {"a": ["drop", Ridge(3)], "b__max_depth": [1, 3]}, "value"),
    "boosting": (lambda: AdaBoostClassifier(random_state=0, n_estimators=3), {"learning_rate": [0.5, 1.0]}, "two"),
    "forest": (lambda: RandomForestClassifier(4, random_state=0, n_jobs=2), {"max_depth": [2, 3]}, "two"),
    "bagging": (
        lambda: BaggingRegressor(make_pipeline(Scale(), Ridge()), n_estimators=4, n_jobs=2, random_state=3),
        {"estimator__ridge__alpha": ALPHA}, "value",
    ),
    "generator": (
        lambda: BaggingRegressor(n_estimators=3, random_state=np.random.RandomState(3)),
        {"max_features": [0.5, 1.0]}, "value",
    ),
    "encoders": (encoders, {"columntransformer__n__max_iter": [2, 3], "logisticregression__C": C}, "text"),
    "frames": (
        frame_steps, {"columntransformer-1__m__with_mean": [True, False], "columntransformer-1__n__strategy": ["mean", "median"]},
        "text",
    ),
    "union": (
        union, {"featureunion__transformer_weights": [None, {"a": 3.0}], "featureunion__a__pca__n_components": [1, 2]},
        "value",
    ),
    "quantiles": (
        lambda: TransformedTargetRegressor(Ridge(), transformer=QuantileTransformer(n_quantiles=20)),
        {"regressor__alpha": ALPHA, "transformer__n_quantiles": [10, 20]}, "value",
    ),
    "ridge-cv": (
        lambda: make_pipeline(Scale(), RidgeCV(alphas=ALPHA, cv=3)), {"ridgecv__fit_intercept": [True, False]}, "value",
    ),
    "net-cv": (
        lambda: ElasticNetCV(cv=3, l1_ratio=[0.2, 0.8], n_jobs=2), {"fit_intercept": [True, False]}, "value",
    ),
    "logistic-cv": (lambda: LogisticRegressionCV(cv=3, Cs=3), {"fit_intercept": [True, False]}, "three"),
    "clusters": (
        lambda: make_pipeline(Scale(), KMeans(3, random_state=0, n_init=2)), {"kmeans__n_clusters": [2, 3]}, "none",
    ),
    "kernel": (
        lambda: make_pipeline(Scale(), Nystroem(n_components=10, random_state=1), SVC()),
        {"svc__C": C, "nystroem__gamma": [0.1, 1.0]}, "two",
    ),
    "search": (inner_search, {"randomizedsearchcv__n_iter": [1, 2]}, "value"),
    "models": (
        lambda: make_pipeline(Scale(), Ridge()),
        {"ridge": [Ridge(), model_selection.GridSearchCV(Lasso(), {"alpha": [0.1, 0.2]}, cv=2), LassoCV(cv=3)]}, "value",
    ),
    "neighbours": (
        lambda: make_pipeline(
            KNeighborsTransformer(n_neighbors=5, mode="distance"), KNeighborsClassifier(4, metric="precomputed")
        ),
        {"kneighborsclassifier__weights": ["uniform", "distance"]}, "two",
    ),
}  # fmt: skip


def data(target: str) -> tuple[Any, Any]:
    """Columns and a target by name."""
    X, two, value = table(160)
    if target == "text":
        return X, two
    numbers = X[["a", "c"]].assign(d=np.arange(160) % 7, e=lambda frame: frame["a"] * frame["c"])
    three = np.digitize(value, [-0.5, 0.5])
    return numbers, {
        "two": two, "value": value, "three": three, "values": np.c_[value, value**2], "pairs": np.c_[two, three],
        "opposites": np.c_[two, 1 - two], "none": None,
    }[target]  # fmt: skip


def searched(skrub: Any, name: str) -> dict:
    make, grid, target = MODELS[name]
    X, y = data(target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what solvers say of so few rows is not the point
        search = of(skrub).GridSearchCV(make(), grid, cv=3, return_train_score=True, error_score="raise").fit(X, y)
    scores = {key: value for key, value in search.cv_results_.items() if "score" in key and "time" not in key}
    return {"scores": scores, "best": search.best_index_, "predicted": search.predict(X)}


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str) -> None:
    import stratum

    same(searched, name)
    assert stratum.last_run().fallbacks == []
