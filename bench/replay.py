"""Table: the search of an agent, step by step: forty scripts, each a new process that edits the one before.

Each script reads its files, builds two preprocessings and four models as one skrub grid with three folds, and
prints the scores. The edits are drawn once and for all: ten add a feature or drop a column, twenty-two change one
model, eight return to an earlier idea. Peers: the same scripts by plain Python, and with skrub's own cache switched
on by one more line; stratum's are run unchanged by ``python -m stratum run`` with its store. All stores are empty at the first
step. Seconds are the wall time of all processes, less what as many scripts take that only import.

It takes hours at 100,000 rows, by far the most of them in plain skrub: it is taken when it is named, not with the
other tables.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import harness, report

NAME = "replay"
TITLE = "An agent's search: forty scripts, each edits the one before"
ROWS, QUICK_ROWS = 100_000, 1_000
SEED = 12
EDITS = ("columns",) * 10 + ("model",) * 22 + ("return",) * 8
PLAIN, CACHED, OURS = "plain Python, skrub", "plain Python, skrub with its cache", "stratum run, a store"

IMPORTS = """\
import json
import sys
import warnings

import numpy as np
import pandas as pd
import skrub
from lightgbm import LGBMRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

warnings.simplefilter("ignore")
"""

GRID = """
features = skrub.choose_from({{"first": first(table), "second": second(table)}}, name="preprocessing").as_data_op()
models = skrub.choose_from({{
{models}
}}, name="model")
search = features.skb.apply(models, y=target).skb.make_grid_search(cv=3, fitted=True)
results = search.results_
for _, row in results.sort_values(["preprocessing", "model"]).iterrows():
    print(json.dumps([row["preprocessing"], row["model"], row["mean_test_score"]]))
"""

HOUSING = """

def with_features(sales):
    sales = sales.copy()
    when = pd.to_datetime(sales["Date of Transfer"])
    sales["years"] = when.dt.year - 1995
{features}
    return sales


def first(table):
    names = table[["Town/City", "District"]].fillna("UNKNOWN")
    texts = names.skb.apply(skrub.StringEncoder(n_components=30, random_state=0))
    numbers = table.skb.select(skrub.selectors.numeric())
    return numbers.skb.concat([texts], axis=1).skb.apply(StandardScaler())


def second(table):
    encoder = skrub.StringEncoder(n_components=30, random_state=0)
    return table.skb.apply(skrub.TableVectorizer(high_cardinality=encoder)).skb.apply(StandardScaler())


sales = skrub.var("sales", pd.read_csv("sales.csv"))
target = sales["Price"].skb.apply_func(np.log).skb.mark_as_y()
table = sales.drop(columns={dropped!r}).skb.mark_as_X().skb.apply_func(with_features)
"""

FLIGHTS = """

def with_features(flights, weather, planes):
    flights = flights.merge(planes[["tailnum", "manufacturer", "engine", "seats"]], on="tailnum", how="left")
    hourly = weather.groupby(["origin", "time_hour"], as_index=False)[["temp", "wind_speed", "precip", "visib"]].mean()
    flights = flights.merge(hourly, on=["origin", "time_hour"], how="left").drop(columns=["time_hour"])
{features}
    return flights


def first(table):
    names = table[["tailnum", "manufacturer", "dest"]].fillna("unknown")
    texts = names.skb.apply(skrub.StringEncoder(n_components=20, random_state=0))
    numbers = table.skb.select(skrub.selectors.numeric()).skb.apply(SimpleImputer(strategy="median"))
    return numbers.skb.concat([texts], axis=1).skb.apply(StandardScaler())


def second(table):
    encoder = skrub.StringEncoder(n_components=20, random_state=0)
    wide = table.skb.apply(skrub.TableVectorizer(high_cardinality=encoder))
    return wide.skb.apply(SimpleImputer()).skb.apply(StandardScaler())


flights = skrub.var("flights", pd.read_csv("flights.csv")).dropna(subset=["arr_delay"]).reset_index(drop=True)
target = flights["arr_delay"].skb.mark_as_y()
table = flights.drop(columns={dropped!r}).skb.mark_as_X()
table = skrub.deferred(with_features)(table, pd.read_csv("weather.csv"), pd.read_csv("planes.csv"))
"""


@dataclass(frozen=True)
class Workload:
    """What a search is made on."""

    name: str
    text: str  # between the imports and the grid
    features: tuple[str, ...]  # lines that add one
    dropped: tuple[str, ...]  # at first
    droppable: tuple[str, ...]


WORKLOADS = (
    Workload(
        "uk-housing", HOUSING,
        (
            'sales["month"] = when.dt.month',
            'sales["weekday"] = when.dt.day_of_week',
            'sales["season"] = np.sin(2 * np.pi * when.dt.day_of_year / 365.25)',
            'sales["is_new"] = (sales["Old/New"] == "Y").astype(float)',
            'sales["town_size"] = sales.groupby("Town/City")["Old/New"].transform("size")',
            'sales["district_size"] = sales.groupby("District")["Old/New"].transform("size")',
            'sales["town_letters"] = sales["Town/City"].str.len()',
            'sales["leasehold"] = (sales["Duration"] == "L").astype(float)',
        ),
        ("Price",), ("Record Status - monthly file only", "PPDCategory Type", "Transaction unique identifier"),
    ),
    Workload(
        "flights", FLIGHTS,
        (
            'flights["departs"] = flights["hour"] * 60 + flights["minute"]',
            'flights["evening"] = (flights["hour"] > 17).astype(float)',
            'flights["windy"] = flights["wind_speed"] * (flights["visib"] < 5)',
            'flights["busy"] = flights.groupby(["month", "day", "hour"])["origin"].transform("size")',
            'flights["long"] = (flights["distance"] > 1000).astype(float)',
            'flights["season"] = np.sin(2 * np.pi * flights["month"] / 12)',
            'flights["freezing"] = (flights["temp"] < 32).astype(float)',
            'flights["speed"] = flights["distance"] / (1 + flights["seats"].fillna(0))',
        ),
        ("arr_delay", "dep_time", "dep_delay", "arr_time", "air_time"), ("year", "flight", "minute"),
    ),
)  # fmt: skip

MODELS = {
    "ridge": "Ridge(alpha=1.0)",
    "elastic-net": "ElasticNet(alpha=0.001)",
    "lightgbm": "LGBMRegressor(n_estimators=100, n_jobs=1, verbosity=-1, random_state=0)",
    "xgboost": "XGBRegressor(n_estimators=100, n_jobs=1, random_state=0)",
}
CHANGES = {
    "ridge": [f"Ridge(alpha={a})" for a in (0.1, 0.5, 3.0, 10.0, 30.0, 100.0)],
    "elastic-net": [f"ElasticNet(alpha={a})" for a in (0.0005, 0.002, 0.005, 0.01)] + ["Lasso(alpha=0.001)"],
    "lightgbm": [
        f"LGBMRegressor(n_estimators={n}, num_leaves={k}, n_jobs=1, verbosity=-1, random_state=0)"
        for n, k in ((100, 15), (100, 63), (150, 31), (60, 31))
    ] + ["HistGradientBoostingRegressor(max_iter=60, random_state=0)"],
    "xgboost": [
        f"XGBRegressor(n_estimators={n}, max_depth={d}, n_jobs=1, random_state=0)"
        for n, d in ((100, 4), (100, 5), (60, 6), (150, 4), (80, 8))
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Idea:
    """What a script stands for."""

    features: tuple[str, ...]
    dropped: tuple[str, ...]
    models: tuple[tuple[str, str], ...]

    def script(self, workload: Workload) -> str:
        lines = "\n".join(f"    {line}" for line in self.features)
        models = "\n".join(f"    {name!r}: {model}," for name, model in self.models)
        body = workload.text.format(features=lines, dropped=list(self.dropped))
        return IMPORTS + body + GRID.format(models=models)


def steps(workload: Workload, seed: int = SEED) -> list[Idea]:
    """The ideas of all steps, the first with one edit already."""
    rng = random.Random(seed)
    kinds = list(EDITS)
    rng.shuffle(kinds)
    while kinds[0] == "return":
        rng.shuffle(kinds)
    now = Idea((), workload.dropped, tuple(MODELS.items()))
    found: list[Idea] = []
    for kind in kinds:
        if kind == "return":
            now = rng.choice([idea for idea in found if idea != now] or found)
        elif kind == "model":
            name = rng.choice(list(MODELS))
            model = rng.choice([text for text in CHANGES[name] if (name, text) not in now.models])
            now = replace(now, models=tuple((n, model if n == name else text) for n, text in now.models))
        else:
            new = [line for line in workload.features if line not in now.features]
            columns = [name for name in workload.droppable if name not in now.dropped]
            if columns and (not new or rng.random() < 0.3):
                now = replace(now, dropped=(*now.dropped, rng.choice(columns)))
            elif new:
                now = replace(now, features=(*now.features, rng.choice(new)))
            else:  # everything was tried: the last one goes
                now = replace(now, features=now.features[:-1])
        found.append(now)
    return found


# -- Taking it ------------------------------------------------------------------------------------


def take(options: report.Options) -> report.Result:
    """Take all rows."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    count = 4 if options.quick else len(EDITS)
    answers: dict[str, dict[str, Any]] = {}
    lines, targets = [], []
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory(prefix="bench-replay-") as folder:
            place = Path(folder)
            _data(workload.name, rows, place)
            ideas = steps(workload)[:count]
            taken = {}
            for label, side in ((PLAIN, "skrub"), (CACHED, "skrub"), (OURS, "stratum")):
                if options.wanted(f"{workload.name}: {label}", side):
                    taken[label] = _search(label, ideas, workload, place)
        for label, answer in taken.items():
            answers[f"{workload.name}: {label}"] = answer
            lines.append(_line(workload.name, label, taken))
        targets += [
            report.Target(f"{workload.name}: plain skrub / stratum", _ratio(taken, PLAIN), ">=", 12),
            report.Target(f"{workload.name}: skrub with its cache / stratum", _ratio(taken, CACHED), ">=", 4),
        ]
    return report.Result(
        name=NAME,
        title=f"{TITLE}, {rows:,} rows",
        columns=["", "total s", "without imports s", "plain / this", "score off by", "void"],
        lines=lines,
        targets=targets,
        answers=answers,
        notes=["score off by: largest difference of a mean score from plain skrub's, over all steps."],
    )


def _data(name: str, rows: int, place: Path) -> None:
    sys.path.insert(0, str(harness.DEMO))
    tables = importlib.import_module(name.replace("-", "_")).load(rows)
    for table, frame in tables.items():
        frame.to_csv(place / f"{table}.csv", index=False)


def _search(label: str, ideas: list[Idea], workload: Workload, place: Path) -> dict[str, Any]:
    """All steps on one side, from an empty store."""
    store = place / f"store-{label.split()[0]}"
    words = ["-m", "stratum", "run"] if label == OURS else []
    cache = f"skrub.set_config(cache={str(place / 'cache')!r})\n" if label == CACHED else ""
    script = place / "step.py"
    imports = _imports(words, script, place, store)
    window = harness.Window()
    seconds, scores = [], []
    for number, idea in enumerate(ideas, 1):
        script.write_text(idea.script(workload).replace(IMPORTS, IMPORTS + cache), encoding="utf-8")
        start = time.perf_counter()
        out = _run(words, script, place, store)
        seconds.append(time.perf_counter() - start)
        scores.append([json.loads(line) for line in out.splitlines()])
        print(f"  {workload.name}: {label}: step {number} of {len(ideas)}: {seconds[-1]:.1f} s", flush=True)
    window = window.close()
    return {
        "total": sum(seconds), "net": sum(seconds) - len(ideas) * imports, "imports": imports, "seconds": seconds,
        "scores": scores, "window": window, "void": window["others"] > harness.NOISE,
    }  # fmt: skip


def _imports(words: list[str], script: Path, place: Path, store: Path) -> float:
    """Seconds of a script that only imports: the least of three."""
    script.write_text(IMPORTS, encoding="utf-8")
    found = []
    for _ in range(3):
        start = time.perf_counter()
        _run(words, script, place, store)
        found.append(time.perf_counter() - start)
    return min(found)


def _run(words: list[str], script: Path, place: Path, store: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STRATUM")}
    environment["STRATUM_STORE"] = str(store)
    done = subprocess.run(
        [sys.executable, *words, script.name], cwd=place, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise harness.Failed(f"{script.read_text(encoding='utf-8')}\n{done.stderr[-3000:]}")
    return done.stdout


def _ratio(taken: dict[str, dict[str, Any]], over: str) -> float | None:
    return taken[over]["net"] / taken[OURS]["net"] if over in taken and OURS in taken else None


def _line(name: str, label: str, taken: dict[str, dict[str, Any]]) -> list[str]:
    answer, plain = taken[label], taken.get(PLAIN)
    off = ""
    if plain is not None:
        pairs = zip(answer["scores"], plain["scores"], strict=True)
        off = f"{max(abs(a[2] - b[2]) for one, two in pairs for a, b in zip(one, two, strict=True)):.1e}"
    return [
        f"{name}: {label}", f"{answer['total']:.1f}", f"{answer['net']:.1f}",
        f"{plain['net'] / answer['net']:.2f}" if plain is not None else "", off, "void" if answer["void"] else "",
    ]  # fmt: skip
