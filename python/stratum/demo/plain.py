"""One demonstration under plain skrub, for ``--compare``; a script, started by its path.

    python plain.py flights --rows 20000 --seed 0 --out result.json

A process of its own is the only honest other side: importing stratum changes how skrub's searches
run. Started by path, this directory is first on the import path and the package ``stratum`` is
never imported; that is checked before and after.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    """Run the workload named on the command line and write what ``agent.play`` returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=["flights", "uk_housing"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)

    workload = importlib.import_module(options.workload)
    agent = importlib.import_module("agent")
    skrub = importlib.import_module("skrub")
    check_plain()
    data = workload.load(options.rows, options.seed, options.csv)
    result = agent.play(workload, skrub, agent.fit_each, data, options.seed)
    check_plain()
    options.out.write_text(json.dumps(result), encoding="utf-8")


def check_plain() -> None:
    """Refuse to measure anything but skrub itself."""
    if "stratum" in sys.modules:
        raise RuntimeError("stratum is loaded in the process that measures plain skrub")


if __name__ == "__main__":
    main()
