"""``python -m bench``: takes the tables, prints them and writes ``docs/bench.md``.

    python -m bench                          all tables, as in docs/bench.md
    python -m bench uk-housing --rows 20000  one of them, smaller
    python -m bench --quick                  everything at tiny sizes, to see that it works
"""

from __future__ import annotations

import argparse
import sys

from . import boosting, harness, nodes, predict, replay, report, reuse, ridge, scripts, sklearn_search, small, uk_housing

TABLES = {
    table.NAME: table
    for table in (uk_housing, reuse, sklearn_search, boosting, ridge, small, nodes, predict, scripts)
}
# Taken only when it is named.
HOURS = {replay.NAME: replay}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    known = TABLES | HOURS
    names = ", ".join(known)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {names}; default: all but {', '.join(HOURS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes below build/")
    parser.add_argument("--rows", type=int, help="of the uk-housing table")
    parser.add_argument(
        "--tries", type=int, default=5, help="how often a disturbed row is taken (default: 5)"
    )
    parser.add_argument("--side", choices=["skrub", "stratum"], help="take only this side's rows")
    parser.add_argument(
        "--only", action="append", default=[], help="take only rows whose label holds this"
    )
    parser.add_argument(
        "--check", action="store_true", help="status 1 where a target is missed or a row is void"
    )
    given = parser.parse_args(arguments)
    for name in given.tables:
        if name not in known:
            parser.error(f"no table {name!r}; there are {names}")
    partial = given.quick or given.rows or given.side or given.only
    options = report.Options(
        quick=given.quick,
        rows=given.rows,
        tries=1 if given.quick else given.tries,
        sides=(given.side,) if given.side else ("skrub", "stratum"),
        only=tuple(given.only),
    )
    for name, version in harness.versions().items():
        print(f"{name} {version}")
    print(harness.machine(), flush=True)

    # Only whole tables are kept beside the others; parts and small ones go below build/.
    folder = report.QUICK_RESULTS if partial else report.RESULTS
    fine = True
    for name in given.tables or TABLES:
        print(f"\n== {name}", flush=True)
        result = known[name].take(options)
        content = report.keep(result, folder)
        print(report.text(content), flush=True)
        fine &= all(target.met for target in result.targets)
        fine &= not any(answer["void"] for answer in result.answers.values())
        if not partial:
            report.write_docs(list(known))
    if options.failed:
        print(f"\nfailed: {', '.join(options.failed)}")
        return 1
    return 1 if given.check and not fine else 0


if __name__ == "__main__":
    sys.exit(main())
