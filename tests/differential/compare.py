"""Exact comparison of what two sides said about one recipe, and a report of where they part.

Called by ``run`` and by the tests. The forms compared are those of ``values``: equal forms are
equal values, so there is no tolerance here.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

# Keys that are there to be read by people, or that say how a result came about.
IGNORED_KEYS = frozenset({"see", "engine", "seconds", "fallbacks", "coverage", "trace", "warnings"})


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


def first_difference(left: Any, right: Any) -> Difference | None:
    """Where two canonical forms part first, or None where they are equal."""
    return next(differences(left, right), None)


def differences(left: Any, right: Any) -> Iterator[Difference]:
    """Every place where two canonical forms part, in their own order."""
    stack = [(left, right, "")]
    while stack:
        a, b, where = stack.pop()
        if type(a) is not type(b):
            yield Difference(where, a, b)
        elif isinstance(a, dict):
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
            yield Difference(where, a, b)


def report(recipe: dict[str, Any], left: dict[str, Any], right: dict[str, Any]) -> str | None:
    """A text about the differences with the recipe and how to see it again, or None."""
    found = list(itertools.islice(differences(left, right), 200))
    if not found:
        return None
    more = "".join(f"also {d.path}\n" for d in found[1:6])
    if len(found) > 6:
        more += f"and at {len(found) - 6}{'' if len(found) < 200 else ' or more'} other places\n"
    return (
        f"seed {recipe['seed']}: the sides differ {found[0]}\n{more}"
        f"recipe: {json.dumps(recipe)}\n"
        f"again:  python -m tests.differential.run --seed {recipe['seed']} --count 1"
    )
