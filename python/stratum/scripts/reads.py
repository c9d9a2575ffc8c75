"""Reads of tables by scripts that run together: a file is read by one of them, the others map what it became.

Who calls it
    `exchange`, when it connects.  Scripts call `pandas.read_csv` as ever; what all of pandas' readers of text end
    in (``pandas.io.parsers.readers._read``) asks the exchange first.

What is shared
    A plain file on this machine of `WORTH_BYTES` and more, read whole, without functions of the user among the
    arguments. The key is the file's content and the arguments. pandas' own function runs without a frame of ours
    below it (`_core.Front`): its warnings point at the line of the script as without.

    Scripts that have not imported skrub, or not come to a search of scikit-learn's that is worth the engine, read
    for themselves: loading the package would take longer than most reads.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from pandas.io.parsers import readers

from .. import _core
from ..capture import encode as _encode
from . import exchange as _exchange
from . import fronts

#: Smaller files are read by everybody: reading takes less than 40 ms, asking 20.
WORTH_BYTES = 4 << 20
_BLOCK = 1 << 20

_original = readers._read


def _content(path: str) -> bytes | None:
    """Digest of a file; None if it is none, small, or was written to meanwhile."""
    try:
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if before.st_size < WORTH_BYTES or not os.path.isfile(path):
                return None
            digest = hashlib.blake2b(digest_size=32)
            while block := file.read(_BLOCK):
                digest.update(block)
            after = os.fstat(file.fileno())
    except OSError:
        return None  # pandas has words for it
    unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return digest.digest() if unchanged else None


def _key(source: Any, arguments: dict[str, Any]) -> bytes | None:
    if not isinstance(source, (str, os.PathLike)) or arguments.get("iterator") or arguments.get("chunksize"):
        return None
    if _exchange.holds_functions(arguments):
        return None
    path = os.fspath(source)
    content = _content(path) if isinstance(path, str) else None
    if content is None:
        return None
    # (compression may be told from the name)
    named = {name: repr(value) if value is readers.lib.no_default else value for name, value in arguments.items()}
    return _encode.encode(("read", os.path.splitext(path)[1], content, named))


def _read(filepath_or_buffer: Any, kwds: dict[str, Any]) -> Any:
    """What pandas' function of this name returns, or what `_core.Front` is to do for it."""
    exchange = _exchange.current()
    if exchange is None or exchange.computes():
        return _original
    key = _key(filepath_or_buffer, kwds)
    if key is None or not exchange.begin():
        return _original
    found, claim = exchange.ask(key, "read")
    if found is not _exchange.MISSING:
        return found
    return _original if claim is None else (_original, claim.end)


def install() -> None:
    """Put the question in front of pandas' readers of text."""
    readers._read = _core.Front(_read, "-" if fronts.shown() else fronts.HOME, _original)
