"""The measured process: ``python -m bench.child SPECIFICATION ANSWER``.

Reads what to measure as JSON, imports skrub, or stratum in its place, and everything heavy before
the clock starts, calls the table's function, and writes what it returned with the time window,
the peak memory and the versions. Started by ``harness.run_child`` only.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from . import harness

# What a measurement would otherwise import while the clock runs.
HEAVY = ("pandas", "sklearn.linear_model", "sklearn.model_selection", "lightgbm", "xgboost")


def main(spec: dict[str, Any], out: Path) -> None:
    """Measure what ``spec`` says and write the answer."""
    sys.path.insert(0, str(harness.DEMO))
    for name in HEAVY:
        importlib.import_module(name)
    library = importlib.import_module(spec["side"])
    check_side(spec["side"])
    # The same warnings again and again are no part of what is measured.
    warnings.simplefilter("ignore")
    table = importlib.import_module(f"bench.{spec['table']}")
    job = table.prepare(library, spec)
    before = harness.peak_memory()
    window = harness.Window()
    answer = job()
    answer["window"] = window.close()
    check_side(spec["side"])
    peak = harness.peak_memory()
    answer["memory"] = {"before": before["self"], "peak": peak["self"], "child": peak["child"]}
    out.write_text(json.dumps(answer), encoding="utf-8")


def check_side(side: str) -> None:
    """Refuse to measure plain skrub where stratum is loaded, or stratum where it is not."""
    loaded = "stratum" in sys.modules
    if loaded != (side == "stratum"):
        raise RuntimeError(f"the side is {side}, and stratum is {'' if loaded else 'not '}loaded")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
