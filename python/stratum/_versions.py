"""Which versions of the libraries the engine knows.

`stratum/__init__` asks before anything else of the package is imported: the adapters in `stratum.hosts` use
private names that another version may not have.
"""

from __future__ import annotations

import re

import sklearn
import skrub

# First and last known (major, minor); the adapters are hosts/_skrub_0_11.py and hosts/_sklearn.py.
SKRUB = ((0, 11), (0, 11))
SKLEARN = ((1, 8), (1, 9))


def _short(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _text(known: tuple[tuple[int, int], tuple[int, int]]) -> str:
    first, last = (f"{major}.{minor}" for major, minor in known)
    return first if first == last else f"{first} to {last}"


def refusal() -> str | None:
    """Why the engine stays off, or None if it knows what is installed.

    Returns
    -------
    str or None
    """
    installed = (("skrub", skrub.__version__, SKRUB), ("scikit-learn", sklearn.__version__, SKLEARN))
    for name, version, known in installed:
        if not known[0] <= _short(version) <= known[1]:
            return f"stratum knows {name} {_text(known)}, not {version}: everything runs by plain skrub"
    return None
