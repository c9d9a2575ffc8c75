"""Table: unmodified scripts. Eight of an agent's in one run, and what a script that does little pays.

The eight read one file, share their preprocessing and differ in the model, as an agent's scripts do that
tries one model after another. Plain Python runs them one after another; ``python -m stratum run`` takes all
at once. Wall time from the first process to the last, imports included; outputs are compared byte for
byte. How much of the time is preprocessing is taken from the same script with a model that does nothing and
from one that only imports and reads.

Import cost: scripts that do nothing heavy, by plain Python and by ``run``, in turns; the median of the
differences in processor time.
"""

from __future__ import annotations

import importlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import harness, report

NAME = "scripts"
TITLE = "Eight unmodified scripts that share their preprocessing"
ROWS, QUICK_ROWS = 30_000, 4_000

SCRIPT = '''"""Which model for prices? This one: {model}."""
import pandas as pd
import skrub
from sklearn.preprocessing import StandardScaler
{imports}

df = pd.read_csv({path!r})
data = skrub.var("data", df)
y = data["Price"].skb.mark_as_y()
X = data.drop(columns=["Price", "Transaction unique identifier"]).skb.mark_as_X()
encoder = skrub.StringEncoder(n_components=20, random_state=0)
features = X.skb.apply(skrub.TableVectorizer(high_cardinality=encoder)).skb.apply(StandardScaler())
pred = features.skb.apply({model}, y=y)
scores = pred.skb.cross_validate(cv=5, scoring="r2")["test_score"]
print("{model}")
print(scores.round(6).tolist(), round(scores.mean(), 6))
'''
READS = "import pandas as pd\nimport skrub\nfrom sklearn.linear_model import Ridge\ndf = pd.read_csv({path!r})\n"
MODELS = (
    ("from sklearn.linear_model import Ridge", "Ridge(alpha=1.0)"),
    ("from sklearn.linear_model import Ridge", "Ridge(alpha=10.0)"),
    ("from sklearn.linear_model import Ridge", "Ridge(alpha=100.0)"),
    ("from sklearn.linear_model import ElasticNet", "ElasticNet(alpha=0.1)"),
    ("from sklearn.linear_model import BayesianRidge", "BayesianRidge()"),
    ("from sklearn.tree import DecisionTreeRegressor", "DecisionTreeRegressor(max_depth=6, random_state=0)"),
    ("from sklearn.ensemble import HistGradientBoostingRegressor",
     "HistGradientBoostingRegressor(max_iter=10, random_state=0)"),
    ("from sklearn.linear_model import Lasso", "Lasso(alpha=1.0)"),
)  # fmt: skip
NOTHING = ("from sklearn.dummy import DummyRegressor", "DummyRegressor()")

LITTLE = (
    ("prints one line", "print('hello')\n"),
    ("pandas and a split", "import pandas\nfrom sklearn.model_selection import train_test_split\n"
     "print(len(train_test_split(range(9), random_state=0)[0]))\n"),
    ("skrub, a cleaned table", "import pandas as pd\nimport skrub\n"
     "print(skrub.Cleaner().fit_transform(pd.DataFrame({'a': ['1', '2']})).dtypes)\n"),
)  # fmt: skip


def take(options: report.Options) -> report.Result:
    """Take all rows."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    with tempfile.TemporaryDirectory(prefix="bench-scripts-") as folder:
        place = Path(folder)
        names = _write(place, rows)
        answers = _eight(place, names, options)
        costs = _import_costs(place, options)
    lines = [
        [
            label, f"{answer['total']:.1f}", f"{answer['window']['own']:.2f}",
            f"{answers['plain Python, one after another']['total'] / answer['total']:.2f}"
            if "plain Python, one after another" in answers else "",
            "void" if answer["void"] else "",
        ]
        for label, answer in answers.items()
    ]  # fmt: skip
    lines += [[f"import cost: {label}", f"{cost:.3f}", "", "", ""] for label, cost in costs.items()]
    plain, ours = answers.get("plain Python, one after another"), answers.get("stratum run, all at once")
    same = plain is not None and ours is not None and plain["outputs"] == ours["outputs"]
    return report.Result(
        name=NAME,
        title=f"{TITLE}, {rows:,} rows",
        columns=["", "wall s", "cores", "plain / this", "void"],
        lines=lines,
        targets=[
            report.Target(
                "eight scripts: plain Python / stratum run",
                plain["total"] / ours["total"] if plain and ours else None, ">=", 2.5,
            ),
            report.Target("preprocessing's part of a script's time", plain["share"] if plain else None, ">=", 0.7),
            report.Target("outputs that are the same (1: all)", float(same) if plain and ours else None, ">=", 1),
            report.Target("seconds that a script pays which does nothing heavy", max(costs.values()), "<=", 0.15),
        ],
        answers={**answers, "import costs": {"costs": costs, "void": False}},
        notes=[
            "preprocessing's part: of the wall time of the eight by plain Python, imports included.",
            "import cost: processor seconds more than by plain Python, median of the differences.",
        ],
    )  # fmt: skip


def _write(place: Path, rows: int) -> list[str]:
    """The file and the scripts."""
    sys.path.insert(0, str(harness.DEMO))
    path = str(place / "prices.csv")
    importlib.import_module("uk_housing").load(rows)["sales"].to_csv(path, index=False)
    names = []
    for number, (imports, model) in enumerate((*MODELS, NOTHING), 1):
        name = f"model_{number}.py"
        (place / name).write_text(SCRIPT.format(imports=imports, model=model, path=path), encoding="utf-8")
        names.append(name)
    (place / "reads.py").write_text(READS.format(path=path), encoding="utf-8")
    return names


def _environment() -> dict[str, str]:
    """One thread, and nothing of an earlier run."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "STRATUM_REUSE": "off"}


def _run(place: Path, *words: str) -> bytes:
    done = subprocess.run([sys.executable, *words], cwd=place, env=_environment(), capture_output=True)
    if done.returncode != 0:
        raise harness.Failed(f"{' '.join(words)}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def _taken(options: report.Options, job: Any) -> dict[str, Any]:
    """A row: again while others disturb it, as `harness.measure` does."""
    for attempt in range(1, options.tries + 1):
        window = harness.Window()
        answer = job()
        answer["window"] = window.close()
        answer["total"] = answer["window"]["wall"]
        answer["void"] = answer["window"]["others"] > harness.NOISE
        answer["tries"] = attempt
        answer["memory"] = {"peak": harness.peak_memory()["child"]}
        if not answer["void"]:
            break
    return answer


def _eight(place: Path, names: list[str], options: report.Options) -> dict[str, Any]:
    eight, nothing = names[:-1], names[-1]
    answers: dict[str, Any] = {}
    if options.wanted("plain Python, one after another", "skrub"):
        label = "plain Python, one after another"
        _run(place, "reads.py")  # files into the page cache, for both sides
        print(f"{label} ...", flush=True)
        answer = _taken(options, lambda: {"outputs": [_run(place, name).decode() for name in eight]})
        seconds = []
        for name in (nothing, "reads.py"):
            start = time.perf_counter()
            _run(place, name)
            seconds.append(time.perf_counter() - start)
        answer["share"] = (seconds[0] - seconds[1]) / (answer["total"] / len(eight))
        answers[label] = answer
        options.say(label, answer)
    for label, words in (
        ("stratum run, all at once", ("run",)),
        ("stratum run, all at once, nothing shared", ("run", "--no-share")),
    ):
        if not options.wanted(label, "stratum"):
            continue
        print(f"{label} ...", flush=True)
        answers[label] = _taken(options, lambda: {"outputs": _together(place, words, eight)})
        options.say(label, answers[label])
    return answers


def _together(place: Path, words: tuple[str, ...], names: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory(dir=place) as out:
        _run(place, "-m", "stratum", *words, "--output-dir", out, *names)
        return [path.read_text(encoding="utf-8") for path in sorted(Path(out).glob("*.out"))]


def _import_costs(place: Path, options: report.Options) -> dict[str, float]:
    costs = {}
    for label, text in LITTLE:
        (place / "little.py").write_text(text, encoding="utf-8")
        differences = []
        for _ in range(3 if options.quick else 15):
            seconds = []
            for words in (("little.py",), ("-m", "stratum", "run", "little.py")):
                start = _processor_seconds()
                _run(place, *words)
                seconds.append(_processor_seconds() - start)
            differences.append(seconds[1] - seconds[0])
        costs[label] = statistics.median(differences)
        print(f"  import cost, {label}: {costs[label]:.3f} s", flush=True)
    return costs


def _processor_seconds() -> float:
    """Of children that have ended. A start runs on one core: on a quiet machine it takes as long."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
