"""Put the import hook into site-packages, and take it out again (``install-hook``, ``uninstall-hook``).

Two files: ``stratum_hook.pth``, a line that the interpreter runs as it starts and that looks at one
environment variable, and the hook itself, which is loaded only where ``STRATUM=1`` is set.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

HOOK = Path(__file__).parent / "site" / "_stratum_hook.py"
NAMES = ("stratum_hook.pth", "_stratum_hook.py")
LINE = 'import os; os.environ.get("STRATUM", "0") not in ("", "0") and __import__("_stratum_hook").start()\n'


def folder(target: str | None) -> Path:
    """The directory to write to: the interpreter's site-packages, unless another one is given."""
    return Path(target if target is not None else sysconfig.get_path("purelib"))


def install(target: str | None = None) -> list[Path]:
    """Write the two files; returns their paths.

    Raises
    ------
    OSError
        When the directory does not exist or may not be written to.
    """
    place = folder(target)
    line, hook = (place / name for name in NAMES)
    shutil.copyfile(HOOK, hook)
    line.write_text(LINE, encoding="utf-8")
    return [line, hook]


def uninstall(target: str | None = None) -> list[Path]:
    """Remove what `install` wrote; returns the paths that were there."""
    found = [place for name in NAMES if (place := folder(target) / name).exists()]
    for place in found:
        place.unlink()
    return found
