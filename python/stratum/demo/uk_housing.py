"""House prices: two ways of preparing the table, four models, then the winner is tuned.

The pipelines of the ``uk-housing`` demonstration, for ``agent.play`` and the benchmarks. One
preparation is written by hand (missing values, string encoding, a target encoder of the user's
own, dates on circles, scaling), the other is skrub's TableVectorizer on the table as it comes,
identifiers included, which is what makes it expensive.

Imports neither stratum nor skrub: every function that builds takes the module as its argument.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

TITLE = "House prices in England and Wales: logarithm of the price paid"
DEFAULT_ROWS = 10_000
SCORE = "R2"
PREPROCESSINGS = ("encoded", "vectorized")
MODELS = ("ridge", "xgboost", "lightgbm", "elastic-net")
N_TUNING = 6
N_FOLDS = 3

TEXTS = ["Town/City", "District"]
CODES = ["Town/City", "District", "County", "Property Type", "Old/New", "Duration"]


def load(rows: int | None = None, seed: int = 0, csv: str | None = None) -> dict[str, Any]:
    """Read ``rows`` of the price-paid file, or make as many.

    Parameters
    ----------
    rows : int or None
        How many sales; None for the whole file, or `DEFAULT_ROWS` generated ones.
    seed : int
        Seeds the generated table.
    csv : str or None
        The file, Kaggle's or the Land Registry's.

    Returns
    -------
    dict
        The data frame, as ``sales``.

    Raises
    ------
    ModuleNotFoundError
        When LightGBM or XGBoost is not installed.
    OSError, ValueError
        When the file cannot be read, or there are fewer than 100 rows.
    """
    if rows is not None and rows < 100:
        raise ValueError(f"at least 100 rows are needed, not {rows}")
    require_models()
    price_paid = sibling("price_paid")
    if csv is not None:
        sales = price_paid.read(csv, rows)
    else:
        sales = price_paid.generate(DEFAULT_ROWS if rows is None else rows, seed)
    if len(sales) < 100:
        raise ValueError(f"at least 100 rows are needed; {csv} has {len(sales)}")
    return {"sales": sales}


def sibling(name: str) -> Any:
    """A module beside this one, whether this one was imported within a package or by path."""
    package = __name__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}" if package else name)


def require_models() -> None:
    """Import the boosting libraries now, so that no clock measures it; say what is missing."""
    for module, package in (("lightgbm", "lightgbm"), ("xgboost", "xgboost-cpu")):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f"the demonstration trains models of {module}, which is not installed: "
                f"pip install {package}",
                name=module,
            )
        importlib.import_module(module)


# -- Steps, as an agent would write them --------------------------------------------------------


class TargetEncoder(TransformerMixin, BaseEstimator):
    """Replaces each category by the mean of the target, drawn towards the mean of all.

    Parameters
    ----------
    smoothing : float
        How many rows of the overall mean are mixed in.
    """

    def __init__(self, smoothing: float = 20.0) -> None:
        self.smoothing = smoothing

    def fit(self, X: pd.DataFrame, y: pd.Series) -> TargetEncoder:
        """Learn the means of each column's categories."""
        target = np.asarray(y, dtype=float)
        self.mean_ = float(target.mean())
        self.means_ = {}
        for name in X.columns:
            groups = pd.Series(target).groupby(X[name].to_numpy())
            sums, counts = groups.sum(), groups.count()
            self.means_[name] = (sums + self.smoothing * self.mean_) / (counts + self.smoothing)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Look the means up; a category never seen gets the mean of all."""
        check_is_fitted(self)
        return pd.DataFrame(
            {
                f"{name} mean": X[name].map(means).astype(float).fillna(self.mean_)
                for name, means in self.means_.items()
            },
            index=X.index,
        )

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the columns made."""
        return np.array([f"{name} mean" for name in self.means_], dtype=object)


def cyclic_dates(dates: pd.Series) -> pd.DataFrame:
    """The date as years passed, and its month, weekday and day of the year on circles."""
    when = pd.to_datetime(dates)
    parts = {
        "month": (when.dt.month, 12),
        "weekday": (when.dt.day_of_week, 7),
        "season": (when.dt.day_of_year, 365.25),
    }
    columns = {"years": when.dt.year - 1995 + when.dt.day_of_year / 365.25}
    for name, (values, period) in parts.items():
        columns[f"{name}_sin"] = np.sin(2 * np.pi * values / period)
        columns[f"{name}_cos"] = np.cos(2 * np.pi * values / period)
    return pd.DataFrame(columns, index=dates.index)


# -- Graphs -------------------------------------------------------------------------------------


def start(skrub: Any, data: dict[str, Any]) -> tuple[Any, Any]:
    """The table without the price, and the logarithm of the price: two DataOps, marked."""
    sales = skrub.var("sales", data["sales"])
    target = sales["Price"].skb.apply_func(np.log).skb.mark_as_y()
    return sales.drop(columns=["Price"]).skb.mark_as_X(), target


def encoded(skrub: Any, table: Any, target: Any) -> Any:
    """The preparation written by hand."""
    filled = table.fillna({name: "UNKNOWN" for name in CODES})
    texts = filled[TEXTS].skb.apply(skrub.StringEncoder(n_components=30, random_state=0))
    means = filled[CODES].skb.apply(TargetEncoder(), y=target, no_wrap=True)
    dates = filled["Date of Transfer"].skb.apply_func(cyclic_dates)
    return texts.skb.concat([means, dates], axis=1).skb.apply(StandardScaler())


def vectorized(skrub: Any, table: Any, target: Any) -> Any:
    """skrub's own preparation of the table as it comes, scaled for the linear models."""
    features = table.skb.apply(
        skrub.TableVectorizer(
            high_cardinality=skrub.StringEncoder(n_components=30, random_state=0)
        )
    )
    return features.skb.apply(StandardScaler())


def prepared(skrub: Any, table: Any, target: Any, preprocessing: str) -> Any:
    """The features made by one of `PREPROCESSINGS`."""
    if preprocessing == "encoded":
        return encoded(skrub, table, target)
    if preprocessing == "vectorized":
        return vectorized(skrub, table, target)
    raise ValueError(f"no preprocessing {preprocessing!r}; there are {PREPROCESSINGS}")


def model(name: str, **parameters: Any) -> Any:
    """One of `MODELS`; ``parameters`` stand over the ones of the first iteration."""
    if name == "ridge":
        return Ridge(**{"alpha": 1.0, **parameters})
    if name == "elastic-net":
        return ElasticNet(**{"alpha": 0.001, **parameters})
    if name == "lightgbm":
        from lightgbm import LGBMRegressor

        return LGBMRegressor(
            **{"n_estimators": 100, "verbosity": -1, "random_state": 0, **parameters}
        )
    if name == "xgboost":
        from xgboost import XGBRegressor

        return XGBRegressor(**{"n_estimators": 100, "random_state": 0, **parameters})
    raise ValueError(f"no model {name!r}; there are {MODELS}")


def ranges(skrub: Any, name: str) -> dict[str, Any]:
    """What the second iteration varies in a model."""
    if name == "ridge":
        return {"alpha": skrub.choose_float(1e-2, 1e3, log=True, name="alpha")}
    if name == "elastic-net":
        return {
            "alpha": skrub.choose_float(1e-4, 1e-1, log=True, name="alpha"),
            "l1_ratio": skrub.choose_float(0.1, 0.9, name="l1_ratio"),
        }
    if name in ("lightgbm", "xgboost"):
        size = "num_leaves" if name == "lightgbm" else "max_leaves"
        return {
            "n_estimators": skrub.choose_int(100, 400, name="n_estimators"),
            "learning_rate": skrub.choose_float(0.03, 0.3, log=True, name="learning_rate"),
            size: skrub.choose_int(15, 127, name=size),
        }
    raise ValueError(f"no model {name!r}; there are {MODELS}")


def grid(skrub: Any, data: dict[str, Any], **options: Any) -> Any:
    """All preprocessings and models as one grid search, unfitted.

    Parameters
    ----------
    skrub : module
        skrub, or stratum in its place.
    data : dict
        What `load` returned.
    **options
        For ``make_grid_search``, besides the folds.
    """
    table, target = start(skrub, data)
    features = skrub.choose_from(
        {name: prepared(skrub, table, target, name) for name in PREPROCESSINGS},
        name="preprocessing",
    ).as_data_op()
    models = skrub.choose_from({name: model(name) for name in MODELS}, name="model")
    prediction = features.skb.apply(models, y=target)
    return prediction.skb.make_grid_search(cv=N_FOLDS, **options)


def search_one(
    skrub: Any, data: dict[str, Any], preprocessing: str, name: str, **options: Any
) -> Any:
    """The unfitted search of one preprocessing and one model, from the first variable on."""
    table, target = start(skrub, data)
    features = prepared(skrub, table, target, preprocessing)
    prediction = features.skb.apply(model(name), y=target)
    return prediction.skb.make_grid_search(cv=N_FOLDS, **options)


def first_iteration(
    skrub: Any, data: dict[str, Any], seed: int = 0, **options: Any
) -> list[tuple[str, str, Any]]:
    """One search for each preprocessing and model, each built from its first variable on.

    Returns
    -------
    list of (str, str, ParamSearch)
        Preprocessing, model, and the unfitted search of one candidate.
    """
    return [
        (preprocessing, name, search_one(skrub, data, preprocessing, name, **options))
        for preprocessing in PREPROCESSINGS
        for name in MODELS
    ]


def second_iteration(
    skrub: Any, data: dict[str, Any], preprocessing: str, name: str, seed: int = 0
) -> Any:
    """The unfitted search that tunes one model on one preprocessing."""
    table, target = start(skrub, data)
    features = prepared(skrub, table, target, preprocessing)
    prediction = features.skb.apply(model(name, **ranges(skrub, name)), y=target)
    return prediction.skb.make_randomized_search(
        n_iter=N_TUNING, cv=N_FOLDS, random_state=seed
    )
