"""Plant each fault of the table and look whether the harness finds it.

``python -m tests.differential.hunt [--engine stratum|skrub] [NAME ...]`` prints where each fault was
found. ``test_faults.py`` asks the same. Recipes that are likely to show a fault are tried first come
first served; what the unplanted sides say about a recipe is computed once for all faults.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
from typing import Any

from tests.differential import compare, faults, generate
from tests.differential.run import SideProcess

POOL = 400
TRIES = 25


class Hunter:
    """Looks for planted faults.

    Parameters
    ----------
    engine : str
        The engine in which the faults are planted: ``"stratum"``, or ``"skrub"`` as its stand-in.
    first : int
        The first seed of the pool of recipes.
    """

    def __init__(self, engine: str, first: int = 0) -> None:
        self.engine, self.first = engine, first
        self.recipes: dict[int, dict[str, Any]] = {}
        self.plain: dict[int, dict[str, Any]] = {}
        self.healthy: dict[int, bool] = {}
        self.lock = threading.Lock()

    def recipe(self, seed: int) -> dict[str, Any]:
        """A recipe of the pool."""
        with self.lock:
            if seed not in self.recipes:
                self.recipes[seed] = generate.generate(seed)
            return self.recipes[seed]

    def likely(self, fault: faults.Fault) -> list[int]:
        """Seeds of recipes that are likely to show a fault; the cheapest first."""
        seeds = [s for s in range(self.first, self.first + POOL) if fault.shown_by(self.recipe(s))]
        known = [s for s in seeds if s in self.plain]
        others = [s for s in seeds if s not in self.plain]
        return (known + others)[:TRIES]

    def reference(self, seed: int, sides: dict[str, SideProcess]) -> dict[str, Any]:
        """What plain skrub says, after checking that the unplanted engine says the same."""
        with self.lock:
            if seed in self.plain:
                return self.plain[seed]
        recipe = self.recipe(seed)
        sides["plain"].send(recipe)
        plain = sides["plain"].receive()
        healthy = True
        if self.engine != "skrub":
            sides["healthy"].send(recipe)
            healthy = compare.first_difference(plain, sides["healthy"].receive()) is None
        with self.lock:
            self.plain[seed], self.healthy[seed] = plain, healthy
        return plain

    def hunt(self, name: str, sides: dict[str, SideProcess]) -> str | None:
        """Where a fault was found, or None.

        Only recipes on which the unplanted engine agrees with skrub count.
        """
        planted = sides["planted"]
        planted.begin_fault(name)
        try:
            for tries, seed in enumerate(self.likely(faults.FAULTS[name]), 1):
                plain = self.reference(seed, sides)
                if not self.healthy[seed]:
                    continue
                planted.send(self.recipe(seed))
                result = planted.receive()
                if {"died", "hung", "timeout"} & set(result):
                    return f"recipe {tries} (seed {seed}): the planted side {sorted(set(result) - {'seed'})[0]}"
                difference = compare.first_difference(plain, result)
                if difference is not None:
                    return f"recipe {tries} (seed {seed}) {str(difference).splitlines()[0]}"
            return None
        finally:
            planted.end_fault()

    def all(self, names: list[str], workers: int = 2) -> dict[str, str | None]:
        """Hunt for several faults in parallel."""
        todo: queue.Queue[str] = queue.Queue()
        for name in names:
            todo.put(name)
        found: dict[str, str | None] = {}
        failures: list[BaseException] = []

        def work() -> None:
            sides = {
                "plain": SideProcess("skrub"),
                "healthy": SideProcess(self.engine),
                "planted": SideProcess(self.engine, faulty=True),
            }
            try:
                while not failures:
                    try:
                        name = todo.get_nowait()
                    except queue.Empty:
                        return
                    found[name] = self.hunt(name, sides)
            except BaseException as error:
                failures.append(error)
            finally:
                for side in sides.values():
                    side.stop()

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return found


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Does the harness find every planted fault?")
    parser.add_argument("names", nargs="*", help="names of faults (default: all)")
    parser.add_argument("--engine", choices=["stratum", "skrub"], default="stratum")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    names = options.names or list(faults.FAULTS)
    cannot = [n for n in names if not faults.can_plant(n, options.engine)]
    found = Hunter(options.engine).all([n for n in names if n not in cannot], options.workers)
    for name in names:
        outcome = "cannot be planted" if name in cannot else found[name] or "NOT FOUND"
        print(f"{name:36} {faults.FAULTS[name].description}\n{'':36} {outcome}")
    missed = [n for n in names if n not in cannot and found[n] is None]
    print(f"{len(names)} faults, {len(cannot)} cannot be planted, {len(missed)} not found: {missed}")
    return 1 if missed or cannot else 0


if __name__ == "__main__":
    sys.exit(main())
