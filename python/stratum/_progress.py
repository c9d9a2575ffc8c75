"""The line of progress of a run: candidates done, failed, the best score, the time left.

Made by whoever runs searches, with the number of candidates (or of items) to come; `update` may be
called from any thread and as often as is convenient. The line must never be the reason why a run
fails: where it cannot be written (a stream closed, detached, of another encoding), it disappears.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from types import TracebackType
from typing import Any

from tqdm import tqdm

# Most searches end before anybody could read a line; those show none.
DELAY_S = 1.0

# What a stream may answer to a write: closed or detached (ValueError), gone (OSError), unable to
# write a character (UnicodeError, a ValueError), not a text stream (TypeError, AttributeError).
_STREAM_ERRORS = (OSError, ValueError, TypeError, AttributeError, RuntimeError)


class _Bar(tqdm):  # type: ignore[type-arg]
    """tqdm without its monitor thread, which would outlive the run and not survive a fork."""

    monitor_interval = 0


# tqdm's own lock brings multiprocessing in; one of threads is enough for one process.
_Bar.set_lock(threading.RLock())


def _is_terminal(stream: Any) -> bool:
    """Whether a stream is an open terminal; odd objects are not."""
    try:
        return bool(stream.isatty())
    except _STREAM_ERRORS:
        return False


def is_shown(enabled: bool | None) -> bool:
    """Whether lines for people are written to stderr: `enabled`, or, for None, whether it is a terminal."""
    return sys.stderr is not None and (_is_terminal(sys.stderr) if enabled is None else enabled)


def say(text: str, enabled: bool | None) -> None:
    """Write one line for people to stderr, where such lines are shown."""
    if is_shown(enabled):
        with contextlib.suppress(*_STREAM_ERRORS):
            sys.stderr.write(text + "\n")


class Progress:
    """A line on stderr that appears when a run takes more than a second.

    Parameters
    ----------
    total : int
        How many candidates there are.
    enabled : bool or None, default=None
        True for a line in any case, False for none, None for one when stderr is a terminal.

    Examples
    --------
    >>> with Progress(2, enabled=False) as progress:
    ...     progress.update(1, 0, 0.5)
    ...     progress.update(2, 1, 0.5)
    """

    def __init__(self, total: int, enabled: bool | None = None) -> None:
        self._lock = threading.Lock()
        self._bar: _Bar | None = None
        stream = sys.stderr
        if not is_shown(enabled):
            return
        try:
            self._bar = _Bar(
                total=total,
                file=stream,
                delay=DELAY_S,
                miniters=0,  # the time alone decides when the line is drawn again
                mininterval=0.1,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} candidates{postfix}"
                " [{elapsed}, {remaining} left]",
            )
        except _STREAM_ERRORS:
            self._bar = None

    @property
    def active(self) -> bool:
        """Whether there is a line, shown already or not."""
        return self._bar is not None

    def update(self, done: int, failed: int = 0, best_score: float | None = None) -> None:
        """Say how far the run is.

        Parameters
        ----------
        done : int
            Candidates done so far, those that failed among them. Never fewer than said before:
            a smaller number, from a thread that was overtaken, is left out.
        failed : int, default=0
            How many of them failed.
        best_score : float or None, default=None
            The best score so far, None where there is none.
        """
        with self._lock:
            bar = self._bar
            if bar is None or done < bar.n:
                return
            parts = []
            if failed:
                parts.append(f"{failed} failed")
            if best_score is not None:
                parts.append(f"best {best_score:.4g}")
            try:
                bar.set_postfix_str(", ".join(parts), refresh=False)
                bar.update(done - bar.n)
            except _STREAM_ERRORS:
                self._drop()

    def close(self) -> None:
        """End the line, leaving it with its last numbers if it was shown."""
        with self._lock:
            if self._bar is None:
                return
            try:
                self._bar.close()
            except _STREAM_ERRORS:
                self._drop()
            self._bar = None

    def _drop(self) -> None:
        """Give the line up: nothing more is written, not even by tqdm's own clean-up."""
        if self._bar is not None:
            self._bar.disable = True
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
