"""What an engine's runs recall and keep.

What it is for
    The scheduler asks for each node, before it asks for its inputs, whether its value is known, and offers it what
    was computed (`_core.Recall`). This module decides what is worth keeping: in memory, under the engine's own
    cache, whatever takes longer to compute than to look up; in the store, from which another process takes it,
    whatever takes longer to compute than to read.

Who may call it
    `stratum.engine` (`Session.begin` and `end` around a run), `stratum.capture.previews` (`find`, `keep`: fits at
    construction), whoever hands a value to a user (`holds`).

What is never kept
    Nodes that cannot be encoded, and what is made of them; what belongs to one creation (a clock, a draw, input or
    output, fits that print); what warned, and what was made of it, so that a warning is never lost; failures;
    values that are not known to be safe to share.

Threads
    `_load` and `_offer` are called by the workers. Values that are kept are not written to: readers that might get
    private copies (the scheduler tells operators that an input is shared, `holds` tells who hands results out).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from .. import _config, _core
from . import settings, store, values

#: Operators whose outputs are kept. The others are cheaper than their lookup, or make something for one run.
_KEPT = frozenset({
    "getattr", "getitem", "unpack", "call", "method", "binop", "unary", "fit", "apply", "concat_fit", "concat",
    "subsample", "score",
})  # fmt: skip


def mode() -> str:
    """"off", "memory" or "disk": what the options ask for."""
    chosen = _config.option("reuse")
    if chosen is None or chosen == "verify":
        return "disk" if _config.option("store") is not None else "memory"
    return str(chosen)


#: Of what is kept, one in so many is computed again under `reuse="verify"`.
VERIFIED = 4

#: What is kept may add so many bytes to what the process takes anyway (see `_memory_limits`).
FLOOR = 64 << 20


def _memory_limits() -> tuple[int, int]:
    """Bytes that results may take in memory at most, and whatever the process takes besides.

    Where the option says nothing: a tenth of the machine's memory, but beyond `FLOOR` only what fits below the most
    that the process has taken without it. Two preprocessings and four models on 100,000 rows would keep a gigabyte,
    and peak at twice what they take without.
    """
    given = _config.option("reuse_bytes")
    if given is not None:
        return int(given), int(given)
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10
    return most, min(most, FLOOR)


@dataclass(frozen=True)
class Counts:
    """What reuse has come to so far: the difference of two is what one run made of it."""

    saved: float = 0.0  # seconds that it would have taken to compute what was loaded, without those of loading
    memory: int = 0  # bytes that are kept in memory (now)
    written: int = 0  # bytes that were written to the store

    def __sub__(self, before: Counts) -> Counts:
        return Counts(self.saved - before.saved, self.memory, self.written - before.written)


class Session:
    """What one engine keeps between its runs."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._lock = threading.Lock()
        self._recall: Any = None
        self._disk: store.Disk | None = None
        self._verifying = False
        self.verified = 0  # values that were computed again and found equal, or not
        self._differences: list[str] = []
        self._held: set[int] = set()  # ids of objects in memory; one that has left it is copied in vain at most

    def begin(self) -> Any:
        """The `_core.Recall` for a run that begins now; None if nothing is to be reused."""
        if mode() == "off":
            return None
        now = settings.now()
        if now is None:
            return None
        disk = store.opened() if mode() == "disk" else None
        if disk is not None:
            disk.store.refresh()
        with self._lock:
            if self._recall is None:
                self._recall = _core.Recall(self._graph, now, 0, self._load, self._offer)
            else:
                self._recall.set_settings(now)
            self._recall.limit(*_memory_limits())
            # (Looking at a value and filing it takes some tenths of a millisecond for a fitted model.)
            self._recall.set_worth(_config.option("reuse_seconds"))
            self._verifying = _config.option("reuse") == "verify"
            self._recall.set_sample(VERIFIED if self._verifying else 0)
            self._disk = disk
            self._recall.set_store(None if disk is None else disk.store)
        return self._recall

    def end(self) -> None:
        """A run has ended: what it left is written before anybody can change it."""
        if self._disk is not None:
            self._disk.flush()
            self._disk.store.refresh()  # what was of use is noted in the index

    def check(self) -> None:
        """Under ``reuse="verify"``: raise `VerifyError` if what was computed again was not what was kept."""
        from .._verify import VerifyError

        with self._lock:
            found, self._differences = self._differences, []
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise VerifyError(f"a result that was kept is not what is computed now: {found[0]}{more}")

    def holds(self, value: Any) -> bool:
        """Whether an object is kept: whoever hands it to a user makes a copy."""
        return id(value) in self._held

    def forget(self) -> None:
        """Let go of everything in memory."""
        if self._recall is not None:
            self._recall.forget()
        self._held.clear()

    def stats(self) -> dict[str, Any]:
        """Counters of the memory; empty before the first run."""
        return dict(self._recall.stats()) if self._recall is not None else {}

    def counts(self) -> Counts:
        """What reuse has come to so far."""
        memory, disk = self.stats(), self._disk
        return Counts(
            memory.get("saved", 0.0) + (disk.saved if disk is not None else 0.0),
            memory.get("bytes", 0),
            disk.bytes_written if disk is not None else 0,
        )

    def place(self) -> str | None:
        """Where the store of the last run is; None if it had none."""
        return str(self._disk.where) if self._disk is not None else None

    # -- outside of runs

    def find(self, ref: Any) -> tuple[Any] | None:
        """The value of a node's output, alone in a tuple, if it is kept."""
        if self._recall is None or not ref.plain or ref.flags & _core.N_ONCE or self._verifying:
            return None
        return self._recall.get(ref) or self._load(ref)

    def was_long(self, name: str) -> bool:
        """Whether calls of that name took long in another process that wrote to the store."""
        disk = store.opened() if mode() == "disk" else None
        return disk is not None and disk.was_long(name)

    def note_long(self, name: str) -> None:
        """Let other processes look for calls of that name."""
        if self._disk is not None:
            self._disk.note_long(name)

    def keep(self, ref: Any, value: Any, seconds: float) -> None:
        """Keep a value that was computed outside of a run, if that is worth it."""
        if self._recall is not None and seconds >= _config.option("reuse_seconds") and ref.plain and not ref.flags & _core.N_ONCE:
            self._keep(ref, value, seconds)

    # -- what the scheduler calls

    def _offer(self, ref: Any, outputs: tuple, seconds: float, again: float) -> float | None:
        """A node was computed: keep what is worth it. The seconds that loading takes, or None."""
        if ref.op not in _KEPT or (ref.op == "score" and not _is_success(outputs[0])):
            return None
        costs = [self._keep(ref.at(port), value, again) for port, value in enumerate(outputs) if value is not None]
        return max(costs) if costs and None not in costs else None

    def _compare(self, ref: Any, value: Any) -> None:
        """What was computed with what was kept, if anything was."""
        from .._verify import difference

        kept = self._recall.get(ref) or self._load(ref)
        if kept is None:
            return
        found = difference(value, kept[0], f"{_described(ref)}, output {ref.port}")
        with self._lock:
            self.verified += 1
            if found is not None:
                self._differences.append(found)

    def _load(self, ref: Any) -> tuple[Any] | None:
        """A value from the store, alone in a tuple.

        It is the asker's own, and not kept in memory too: who asks again has the file's pages there already, and what
        is kept would have to be copied for whoever may change it (unpickling a fitted TableVectorizer takes a
        third of the time of a deep copy).
        """
        disk = self._disk
        return disk.load(self._recall.key(ref), self._recall.encoding(ref)) if disk is not None else None

    def _keep(self, ref: Any, value: Any, again: float) -> float | None:
        """Keep a value if that is worth it: the seconds that having it again takes then, or None."""
        if not values.is_keepable(value):
            return None
        if self._verifying:
            self._compare(ref, value)
        size = values.size_of(value)
        self._held.add(id(value))
        cost = 0.0 if self._recall.put(ref, value, size, again) else None
        disk = self._disk
        if disk is not None and disk.pays(size, again):
            label = _described(ref)
            disk.write(self._recall.key(ref), self._recall.encoding(ref), label, again, value, size)
            return disk.cost(size)
        return cost if disk is None else None


def _described(ref: Any) -> str:
    return f"{ref.op} {_describe(ref)}".strip()


def _describe(ref: Any) -> str:
    """What a node is, for people."""
    origin = ref.origin
    return " ".join(repr(origin).split())[:200] if origin is not None else ""


def _is_success(outcome: Any) -> bool:
    return outcome.fit_error is None and outcome.error is None
