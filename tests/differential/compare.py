"""Comparison of what two sides said about one recipe, and a report of where they part.

Called by ``run`` and by the tests. The forms compared are those of ``values``: equal forms are equal values. So the
comparison is exact, unless it is given a ``Tolerance``: then floats may differ by rounding, and nothing else may.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

# Keys that are there to be read by people, or that say how a result came about.
IGNORED_KEYS = frozenset({"see", "engine", "seconds", "fallbacks", "coverage", "trace", "warnings", "exactness"})


# What floats may differ by where kernels may round ("equivalent").
RELATIVE = 1e-9
# The same for graphs with one of these estimators, for all that is made of it: what randomized and truncated SVDs
# state; and a logistic regression that is told to stop early makes much of the last bit of its data. Measured, 290
# graphs: StringEncoder 1.5e-5; LogisticRegression 1.2e-4 (32 rows, 40 steps, no end in sight) and mostly 1e-12; the
# others 1e-12.
LOOSE = {"PCA": 5e-4, "TruncatedSVD": 5e-4, "StringEncoder": 5e-4, "LogisticRegression": 5e-4}
# What a search says of the candidate that it found best.
FOLLOWS = ("results_", "detailed_results_", "best_index_", "best_score_", "best_params_", "best_learner", "predict")


@dataclasses.dataclass
class Tolerance:
    """How far floats may part, and how many of them did; one object serves one comparison or many.

    Two floats are close if they are equal, both NaN, or differ by at most so much of the larger one of them (of 1
    where both are smaller: a mean of 1e-17 is a mean of zero). Where one number of an array is not close, the array is
    measured as a whole, against its largest number; that is counted apart.

    Parameters
    ----------
    relative : float
        What floats may differ by.
    loose : float, optional
        What they may differ by in this comparison, where it is more.
    """

    relative: float
    loose: float = 0.0
    exact: int = 0
    rounded: int = 0
    loosened: int = 0
    decided: int = 0
    largest: float = 0.0

    def close(self, a: Any, b: Any) -> bool:
        """Whether two arrays of floats of one shape are close; counts their numbers if so."""
        a, b = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
        if a.shape != b.shape:
            return False
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1.0)
        apart[same] = 0.0
        # (An infinite or missing number is close to itself alone: what is not finite here stays apart.)
        apart[~same & ~(np.isfinite(a) & np.isfinite(b))] = np.inf
        largest = float(apart.max(initial=0.0))
        if largest > max(self.relative, self.loose):
            return False
        self.largest = max(self.largest, largest)
        self.exact += int(same.sum())
        self.rounded += int((~same & (apart <= self.relative)).sum())
        self.loosened += int((apart > self.relative).sum())
        return True


_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?(?![\w.])")


def _floats(form: dict[str, Any]) -> Any:
    """The numbers of a form that is one float or an array of floats; None for any other form."""
    if "float" in form:
        return struct.unpack(">d", bytes.fromhex(form["float"]))
    kind = form.get("array", form.get("numpy"))
    if "bytes" in form and kind is not None and np.dtype(kind).kind in "fc":
        found = np.frombuffer(base64.b64decode(form["bytes"]), dtype=kind)
        return found.view(found.real.dtype) if found.dtype.kind == "c" else found
    return None


def _close(a: dict[str, Any], b: dict[str, Any], tolerance: Tolerance) -> bool:
    """Whether two forms are those of floats, equal but for rounding."""
    one, other = _floats(a), _floats(b)
    if one is None or other is None:
        return False
    if any(a.get(k) != b.get(k) for k in ("array", "numpy", "shape")):
        return False
    return tolerance.close(one, other)


def _close_texts(a: str, b: str, tolerance: Tolerance) -> bool:
    """Whether two models, as their libraries write them, are equal but for rounding of their numbers."""
    if _NUMBER.sub("~", a) != _NUMBER.sub("~", b):
        return False
    return tolerance.close(*([float(n) for n in _NUMBER.findall(text)] for text in (a, b)))


def tolerance_for(recipe: dict[str, Any]) -> Tolerance:
    """What may come of a recipe where kernels may round: 1e-9, but for those estimators that state more.

    ``LOOSE`` has the measured numbers.
    """
    text = json.dumps(recipe["steps"])
    return Tolerance(RELATIVE, max((loose for name, loose in LOOSE.items() if f'"$est": "{name}"' in text), default=0.0))


def _order(results: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Means and ranks of a ``cv_results_``, one metric after the other."""
    columns = dict(results["results"])
    for name, ranks in columns.items():
        means = columns.get(name.replace("rank_", "mean_", 1))
        if name.startswith("rank_") and means is not None:
            found = np.frombuffer(base64.b64decode(ranks["bytes"]), dtype=ranks["array"])
            yield np.asarray(_floats(means), dtype=np.float64), found


def _undecided(left: dict[str, Any], right: dict[str, Any], tolerance: Tolerance) -> bool:
    """Whether candidates rank otherwise on both sides, but none that is better by more than the tolerance."""
    apart = False
    for (means, ranks), (_, others) in zip(_order(left), _order(right)):
        if len(ranks) != len(others):
            return False
        with np.errstate(invalid="ignore"):
            swapped = np.sign(ranks[:, None] - ranks) != np.sign(others[:, None] - others)
            size = np.maximum(np.maximum(np.abs(means[:, None]), np.abs(means)), 1.0)
            close = np.abs(means[:, None] - means) <= 2 * max(tolerance.relative, tolerance.loose) * size
        if (swapped & ~close).any():
            return False
        apart |= bool(swapped.any())
    return apart


def _without_rank(left: Any, right: Any, tolerance: Tolerance) -> tuple[Any, Any]:
    """Two dicts without what follows from the order of candidates that are equally good but for rounding.

    Of such a search its scores are compared, and not its ranks, the order of its tables, and its best learner.
    """

    def both(*gone: str) -> tuple[Any, Any]:
        return tuple({k: v for k, v in d.items() if k not in gone} for d in (left, right))  # type: ignore[return-value]

    def search(one: Any, other: Any) -> bool:
        if not (isinstance(one, dict) and isinstance(other, dict) and "results" in one and "results" in other):
            return False
        return _undecided(one, other, tolerance)

    if search(left, right):
        tolerance.decided += 1
        return tuple(
            {"results": [pair for pair in d["results"] if not pair[0].startswith("rank_")]} for d in (left, right)
        )  # type: ignore[return-value]
    if search(left.get("cv_results"), right.get("cv_results")):
        return both(*FOLLOWS)
    if "learners" in left and any(search(a, b) for a, b in zip(left["learners"], right.get("learners", []))):
        return both("cv")
    return left, right


@dataclasses.dataclass
class Difference:
    """The first place where two results part."""

    path: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"at {self.path or 'the root'}\n  skrub:   {_short(self.left)}\n  stratum: {_short(self.right)}"


def _short(value: Any, limit: int = 1500) -> str:
    text = json.dumps(value, sort_keys=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text)} characters)"


def first_difference(left: Any, right: Any, tolerance: Tolerance | None = None) -> Difference | None:
    """Where two canonical forms part first, or None where they are equal."""
    return next(differences(left, right, tolerance), None)


def differences(left: Any, right: Any, tolerance: Tolerance | None = None) -> Iterator[Difference]:
    """Every place where two canonical forms part, in their own order; with a tolerance, by more than that."""
    stack = [(left, right, "")]
    while stack:
        a, b, where = stack.pop()
        if type(a) is not type(b):
            yield Difference(where, a, b)
        elif isinstance(a, dict):
            if tolerance is not None:
                a, b = _without_rank(a, b, tolerance)
            keys_a = [k for k in a if k not in IGNORED_KEYS]
            keys_b = [k for k in b if k not in IGNORED_KEYS]
            if keys_a != keys_b:
                missing = [k for k in keys_a if k not in b] + [k for k in keys_b if k not in a]
                # An exception says more than whatever stands in its place.
                missing.sort(key=lambda k: k not in ("error", "exception"))
                if missing or sorted(keys_a) != sorted(keys_b):
                    yield Difference(
                        f"{where}.{missing[0]}", a.get(missing[0], "(absent)"), b.get(missing[0], "(absent)")
                    )
                    continue
            if tolerance is not None and _close(a, b, tolerance):
                continue
            if "bytes" in a and "array" in a and a.get("bytes") != b.get("bytes"):
                # Show the values, not the base64 text.
                yield Difference(where, a, b)
                continue
            if "float" in a and a.get("float") != b.get("float"):
                yield Difference(where, a, b)
                continue
            stack.extend((a[k], b[k], f"{where}.{k}") for k in reversed(keys_a))
        elif isinstance(a, list):
            if len(a) != len(b):
                yield Difference(f"{where} (length {len(a)} and {len(b)})", a, b)
                continue
            named = all(
                isinstance(x, list) and len(x) == 2 and isinstance(x[0], str) for x in a
            ) and bool(a)
            for k in range(len(a) - 1, -1, -1):
                label = f"[{k}:{a[k][0]}]" if named else f"[{k}]"
                stack.append((a[k], b[k], f"{where}{label}"))
        elif a != b:
            if tolerance is not None and where.endswith(".model") and _close_texts(a, b, tolerance):
                continue
            yield Difference(where, a, b)


def again(seed: int, tolerance: Tolerance | None) -> str:
    """The command that repeats one recipe."""
    option = "" if tolerance is None else " --exactness equivalent"
    return f"python -m tests.differential.run --seed {seed} --count 1{option}"


def report(
    recipe: dict[str, Any], left: dict[str, Any], right: dict[str, Any], tolerance: Tolerance | None = None
) -> str | None:
    """A text about the differences with the recipe and how to see it again, or None."""
    found = list(itertools.islice(differences(left, right, tolerance), 200))
    if not found:
        return None
    more = "".join(f"also {d.path}\n" for d in found[1:6])
    if len(found) > 6:
        more += f"and at {len(found) - 6}{'' if len(found) < 200 else ' or more'} other places\n"
    return (
        f"seed {recipe['seed']}: the sides differ {found[0]}\n{more}"
        f"recipe: {json.dumps(recipe)}\n"
        f"again:  {again(recipe['seed'], tolerance)}"
    )
