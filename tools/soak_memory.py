#!/usr/bin/env python3
"""Whether memory stays flat over many searches in one process.

Run by tools/soak.py with the installed package. Each search is built anew, so that graphs, contexts
and values of earlier ones must be given back; every fourth goes through `stratum.run` with a
cross-validation beside it, and every tenth has a candidate that fails. Resident memory is read
after each hundredth search, with the garbage collected and free pages returned, and must not grow
by more than `--limit` KiB a search after the first fifth. Everything is kept for later runs that may be, within a
mebibyte: what is kept is bounded, and what goes is given back.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import stratum


def resident_kib() -> float:
    """Resident memory of this process, after giving back what can be."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def one(i: int, table: pd.DataFrame) -> None:
    """Build and run the i-th search."""
    data = stratum.var("data", table)
    X = data[["a", "b"]].skb.mark_as_X()
    y = data["y"].skb.mark_as_y()
    alphas = [0.1, 1.0 + i, -1.0] if i % 10 == 9 else [0.1, 1.0 + i, 10.0]
    model = Ridge(alpha=stratum.choose_from(alphas, name="alpha"))
    pipeline = X.skb.apply(StandardScaler()).skb.apply(model, y=y)
    search = pipeline.skb.make_grid_search(cv=2, error_score=np.nan)
    if i % 4 == 3:
        stratum.run([search, stratum.lazy.cross_validate(pipeline, cv=2)])
    else:
        search.fit({"data": table})
    if not np.isfinite(search.best_score_):
        raise AssertionError(f"search {i} has no score")


def main() -> int:
    """Run the searches; 1 when memory grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=4.0, help="KiB a search")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "y"])
    stratum.set_config(reuse="memory", reuse_bytes=1 << 20, reuse_seconds=0)
    warnings.simplefilter("ignore")  # the candidates that fail say so each time
    step = max(1, arguments.searches // 10)
    samples: list[tuple[int, float]] = []
    for i in range(arguments.searches):
        one(i, table)
        if (i + 1) % step == 0:
            samples.append((i + 1, resident_kib()))
            print(f"{i + 1} searches: {samples[-1][1] / 1024:.1f} MiB", flush=True)
    counts, sizes = np.array(samples[1:], dtype=float).T
    growth = float(np.polyfit(counts, sizes, 1)[0])
    print(f"growth: {growth:.2f} KiB a search (limit {arguments.limit:g})")
    return int(growth > arguments.limit)


if __name__ == "__main__":
    sys.exit(main())
