"""How many random cases the tests of kernels take: a fifth in `make test`, all with ``STRATUM_TESTS=thorough``.

`make soak` takes all of them (its step "kernels against their originals").
"""

from __future__ import annotations

import os

THOROUGH = os.environ.get("STRATUM_TESTS") == "thorough"


def cases(all_of_them: int) -> int:
    """How many of so many cases to take here."""
    return all_of_them if THOROUGH else max(1, all_of_them // 5)
