"""The command line: ``python -m stratum`` and the script ``stratum``.

A command is a row of `COMMANDS`: its name, one sentence, a function that adds its arguments and
one that runs it. What a command needs is imported when it runs, so that ``--help`` and
``--version`` stay quick and work without the packages of the demonstration, and ``run`` imports nothing
that the script does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__

@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes
    ----------
    name : str
        What is typed.
    summary : str
        One sentence for ``--help``.
    add_arguments : callable
        Is handed the command's own parser.
    run : callable
        Is handed the parsed arguments; returns the exit status.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def positive(text: str) -> int:
    """A whole number above zero."""
    try:
        value = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number above zero is needed, not {text!r}")
    return value


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``demo``."""
    parser.add_argument(
        "workload",
        nargs="?",
        choices=["flights", "uk-housing"],
        default="flights",
        help="which data and pipelines (default: %(default)s)",
    )
    parser.add_argument("--rows", type=positive, metavar="N", help="rows of the data to take")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also run plain skrub on the same, in a process of its own",
    )
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="the price-paid file, for uk-housing; without it a table like it is generated",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="for rows, folds and tuning (default: %(default)s)"
    )
    parser.add_argument("--explain", action="store_true", help="print the plans")


def run_demo(options: argparse.Namespace) -> int:
    """Run ``demo``."""
    from .. import _load

    _load()
    from ..demo.run import DemoError, demo

    try:
        demo(
            options.workload,
            rows=options.rows,
            compare=options.compare,
            csv=options.csv,
            seed=options.seed,
            explain=options.explain,
        )
    except DemoError as error:
        print(f"stratum demo: {error}", file=sys.stderr)
        return 2
    return 0


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``run``."""
    parser.add_argument("--jobs", type=positive, metavar="N", help="scripts at once (default: twice the cores)")
    parser.add_argument(
        "--output-dir", metavar="DIR", help="leave the outputs as files NUMBER-NAME.out and .err"
    )
    parser.add_argument("--no-share", action="store_true", help="let scripts share nothing")
    parser.add_argument("--stats", action="store_true", help="say on stderr what was shared")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="SCRIPT [ARGUMENT ...]",
        help='one script and its arguments, or several: a.py b.py; "a.py --x 1" b.py; a.py --x 1 -- b.py',
    )


def run_scripts(options: argparse.Namespace) -> int:
    """Run ``run``."""
    from ..scripts import runner

    if not options.words:
        print("stratum run: a script is needed", file=sys.stderr)
        return 2
    try:
        return runner.run(
            options.words, jobs=options.jobs, output_dir=options.output_dir, share=not options.no_share,
            stats=options.stats,
        )  # fmt: skip
    except runner.RunError as error:
        print(f"stratum run: {error}", file=sys.stderr)
        return 2


def add_hook_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``install-hook`` and ``uninstall-hook``."""
    parser.add_argument("--target", metavar="DIR", help="a site directory (default: the interpreter's)")


def run_install_hook(options: argparse.Namespace) -> int:
    """Run ``install-hook``."""
    from ..scripts import install

    try:
        written = install.install(options.target)
    except OSError as error:
        print(f"stratum install-hook: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"wrote {path}" for path in written))
    return 0


def run_uninstall_hook(options: argparse.Namespace) -> int:
    """Run ``uninstall-hook``."""
    from ..scripts import install

    try:
        removed = install.uninstall(options.target)
    except OSError as error:
        print(f"stratum uninstall-hook: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"removed {path}" for path in removed) or "no hook was installed")
    return 0


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cache``."""
    parser.add_argument("--store", metavar="DIR", help="the store's folder (default: STRATUM_STORE, or the user's)")
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    tasks.add_parser("stats", help="what is there and what it was good for")
    listing = tasks.add_parser("ls", help="the entries, dearest first")
    listing.add_argument("-n", type=positive, metavar="N", help="so many of them")
    why = tasks.add_parser("why", help="what differs between what two entries stand for")
    why.add_argument("one", metavar="KEY")
    why.add_argument("other", metavar="KEY")
    gc = tasks.add_parser("gc", help="take out what is worth least")
    gc.add_argument("--bytes", type=positive, metavar="N", help="what the store may take")
    tasks.add_parser("verify", help="read every byte; what is damaged is taken out")
    tasks.add_parser("clear", help="take everything out")
    export = tasks.add_parser("export", help="copy the entries to another folder")
    export.add_argument("target", metavar="DIR")


def run_cache(options: argparse.Namespace) -> int:
    """Run ``cache``."""
    from .. import EngineError, _load, cache

    _load()
    from .. import config_context

    try:
        with config_context(**({} if options.store is None else {"store": options.store})):
            return _CACHE_TASKS[options.task](cache, options)
    except (OSError, KeyError, EngineError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        print(f"stratum cache: {text}", file=sys.stderr)
        return 1


def _cache_stats(cache: Any, options: argparse.Namespace) -> int:
    found = cache.stats()
    asked = found["hits"] + found["misses"]
    print(f"{found['folder']} (index: {found['index']})")
    print(f"{found['entries']} entries, {_size(found['bytes'])}; {found['puts']} put, {found['removed']} removed")
    rate = f", {100 * found['hits'] / asked:.0f} % of what was asked for" if asked else ""
    print(f"{found['hits']} hits{rate}; {found['damaged']} damaged; {found['seconds_saved']:.1f} s saved")
    return 0


def _cache_ls(cache: Any, options: argparse.Namespace) -> int:
    for entry in cache.ls()[: options.n]:
        print(f"{entry.key[:12]}  {entry.seconds:9.3f} s  {_size(entry.bytes):>9}  {entry.hits:4d} hits  {entry.label}")
    return 0


def _cache_why(cache: Any, options: argparse.Namespace) -> int:
    print("\n".join(cache.why(options.one, options.other)) or "nothing differs: they are one entry")
    return 0


def _cache_gc(cache: Any, options: argparse.Namespace) -> int:
    print(f"freed {_size(cache.gc(options.bytes))}")
    return 0


def _cache_verify(cache: Any, options: argparse.Namespace) -> int:
    damaged = cache.verify()
    for entry, what in damaged:
        print(f"{entry.key[:12]}  {what}  {entry.label}")
    print(f"{len(damaged)} damaged")
    return 1 if damaged else 0


def _cache_clear(cache: Any, options: argparse.Namespace) -> int:
    cache.clear()
    return 0


def _cache_export(cache: Any, options: argparse.Namespace) -> int:
    print(f"copied {cache.export(options.target)} entries")
    return 0


_CACHE_TASKS = {
    "stats": _cache_stats, "ls": _cache_ls, "why": _cache_why, "gc": _cache_gc, "verify": _cache_verify,
    "clear": _cache_clear, "export": _cache_export,
}  # fmt: skip


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


COMMANDS: tuple[Command, ...] = (
    Command(
        "demo",
        "Send a batch of pipelines on real data, tune the winner, show what was shared.",
        add_demo_arguments,
        run_demo,
    ),
    Command(
        "run",
        "Run scripts that know nothing of stratum; several at once share what they have in common.",
        add_run_arguments,
        run_scripts,
    ),
    Command(
        "cache",
        "Look after the store of results that runs leave for later ones.",
        add_cache_arguments,
        run_cache,
    ),
    Command(
        "install-hook",
        "Let STRATUM=1 speed up scripts of this interpreter (two files in site-packages).",
        add_hook_arguments,
        run_install_hook,
    ),
    Command(
        "uninstall-hook",
        "Remove what install-hook wrote.",
        add_hook_arguments,
        run_uninstall_hook,
    ),
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="stratum", description="Runs batches of skrub searches with their work shared."
    )
    parser.add_argument("--version", action="version", version=f"stratum {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        added = commands.add_parser(
            command.name, help=command.summary, description=command.summary
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = make_parser().parse_args(arguments)
    return options.run(options)
