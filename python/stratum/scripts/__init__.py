"""Scripts that know nothing of stratum: the import hook, ``python -m stratum run``, what processes share.

``site/_stratum_hook`` watches imports in the script's process, ``runner`` starts scripts, ``install`` puts
the hook into site-packages, ``exchange`` passes values between scripts that run together, ``patched`` says
whether a process has changed a library. Nothing here imports a library before the script does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchange import Exchange


def connected() -> Exchange | None:
    """This process's side of the exchange; None in a script that runs alone, and outside of scripts."""
    if getattr(sys.modules.get("_stratum_hook"), "exchange", None) is None:
        return None
    from . import exchange

    return exchange.current()
