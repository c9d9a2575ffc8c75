#!/usr/bin/env python3
"""Print what a working copy needs from PyPI, one requirement a line.

Read by tools/bootstrap.sh. The build requirements, the dependencies and the ``test`` and ``demo``
extras come from pyproject.toml, so that they are written down once; clang-format is for
``make format``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path


def requirements(pyproject: Path) -> list[str]:
    """Build requirements, dependencies and extras of a project file, each once."""
    data = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = data["project"]
    found = list(data["build-system"]["requires"]) + list(project["dependencies"])
    for extra in ("test", "demo"):
        found += project["optional-dependencies"][extra]
    found.append("clang-format")
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print("\n".join(requirements(Path(__file__).resolve().parent.parent / "pyproject.toml")))
