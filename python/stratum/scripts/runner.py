"""Run scripts that know nothing of stratum: ``python -m stratum run``.

One script
    This process becomes ``python script.py args``: the interpreter is executed again with its own options,
    and finds ``sitecustomize`` beside the hook on its path (see there). So whatever a script can see of
    itself is what it would see without.

Several scripts
    Each is a process of its own, with its output in files; at most ``jobs`` at once. When a script and all
    before it have ended, its output is written in one piece: its stdout to ours, a line that names it and
    its stderr to ours. What they have in common is computed once: `exchange`. An interrupt goes on to the
    scripts, once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

SITE = Path(__file__).resolve().parent / "site"
HOME = SITE.parent.parent

#: A directory in memory is taken for what scripts share if so much of it is free.
ENOUGH_BYTES = 1 << 30

_TAKES_A_WORD = ("W", "X")


class RunError(Exception):
    """What was asked for cannot be run; the text says why."""


# -- The command line -------------------------------------------------------------------------------


def interpreter_options(words: Sequence[str]) -> list[str]:
    """The options of the running interpreter, from its command line (`sys.orig_argv`).

    Raises
    ------
    RunError
        For options under which the interpreter would not look at the hook.
    """
    options: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-") or word == "-":
            break
        options.append(word)
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                options.append(next(rest))
            continue
        for at, letter in enumerate(word[1:], 1):
            if letter in "EIS":
                raise RunError(f"python -{letter} ignores what run needs; leave it out")
            if letter == "m":
                options.pop()
                return [*options, word[:at]] if at > 1 else options
            if letter in _TAKES_A_WORD:
                if at + 1 == len(word):
                    options.append(next(rest))
                break
    return options


def _is_script(word: str) -> bool:
    return word.endswith(".py") and os.path.isfile(word)


def commands(words: Sequence[str]) -> list[list[str]]:
    """What to run: a list of [script, argument, ...] (the rules stand in ``docs/scripts.md``)."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            groups.append([])
        else:
            groups[-1].append(word)
    if len(groups) > 1 and not groups[-1]:
        groups.pop()  # a closing mark: one script and its arguments
    if "--" in words and all(group and _is_script(group[0]) for group in groups):
        return groups
    quoted = [[word] if os.path.exists(word) else shlex.split(word) for word in words]
    if len(words) > 1 and all(parts and _is_script(parts[0]) for parts in quoted):
        return quoted
    if len(words) == 1 and not os.path.exists(words[0]) and _is_script((shlex.split(words[0]) or [""])[0]):
        return quoted
    return [list(words)]


def _environment(exchange: str | None) -> dict[str, str]:
    environment = dict(os.environ)
    before = environment.get("PYTHONPATH")
    environment["_STRATUM_HOME"] = str(HOME)
    if before is not None:
        environment["_STRATUM_PYTHONPATH"] = before
    environment["PYTHONPATH"] = f"{SITE}{os.pathsep}{before}" if before else str(SITE)
    if exchange is not None:
        environment["_STRATUM_EXCHANGE"] = exchange
    return environment


def run(
    words: Sequence[str], jobs: int | None = None, output_dir: str | None = None, share: bool = True,
    stats: bool = False,
) -> int:  # fmt: skip
    """Run what the command line says; returns the exit status, or becomes the script.

    Parameters
    ----------
    words : sequence of str
        Scripts and their arguments.
    jobs : int, optional
        Scripts that run at once; by default twice the cores.
    output_dir : str, optional
        Where the outputs are left as files; without it they are written to ours.
    share : bool, default=True
        Whether scripts share what they compute.
    stats : bool, default=False
        Whether to say on stderr what was shared.

    Returns
    -------
    int
        0 if every script ended with 0, else 1.
    """
    options = interpreter_options(sys.orig_argv)
    todo = commands(words)
    if len(todo) == 1 and output_dir is None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *options, *todo[0]], _environment(None))
    at_once = jobs or 2 * len(os.sched_getaffinity(0))
    folder = _exchange_folder() if share else None
    try:
        return _run_all(todo, options, at_once, output_dir, folder)
    finally:
        if folder is not None:
            if stats:
                sys.stderr.write(shared(folder))
            shutil.rmtree(folder, ignore_errors=True)


def shared(folder: str) -> str:
    """What scripts noted in the exchange, in words: who computed, who took, who kept out of it and why."""
    lines = []
    try:
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").split(" ", 2) for line in file]
    except FileNotFoundError:
        pass
    counts = {what: sum(line[1] == what for line in lines) for what in ("made", "took")}
    text = f"== shared: {counts['made']} computed, {counts['took']} taken\n"
    for pid, what, why in lines:
        if what in ("kept", "closed"):
            text += f"==   {'not shared' if what == 'kept' else f'process {pid} stays out of it'}: {why}\n"
    return text


# -- Several ----------------------------------------------------------------------------------------


@dataclass
class Script:
    """One script of several: its command, its process, where its output goes."""

    words: list[str]
    out: Any
    err: Any
    process: subprocess.Popen | None = None
    started: float = 0.0
    status: int | None = None
    seconds: float = 0.0

    def start(self, options: list[str], environment: dict[str, str]) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *options, *self.words], stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err,
            env=environment, process_group=0,
        )  # fmt: skip

    def ended(self) -> bool:
        """Whether it has ended; notes how."""
        if self.status is None and self.process is not None:
            self.status = self.process.poll()
            self.seconds = time.monotonic() - self.started
        return self.status is not None

    def label(self, number: int, count: int) -> str:
        assert self.status is not None
        if self.process is None:
            how = "not started"
        else:
            how = f"exit {self.status}" if self.status >= 0 else signal.Signals(-self.status).name
        return f"== {number}/{count} {shlex.join(self.words)}: {how}, {self.seconds:.1f} s\n"


def _exchange_folder() -> str:
    """A directory for what scripts share: in memory where there is room."""
    memory = "/dev/shm"
    try:
        room = os.statvfs(memory)
        where = memory if room.f_bavail * room.f_frsize >= ENOUGH_BYTES and os.access(memory, os.W_OK) else None
    except OSError:
        where = None
    _remove_left_over(where or tempfile.gettempdir())
    return tempfile.mkdtemp(prefix=f"stratum-run-{os.getpid()}-", dir=where)


def _remove_left_over(where: str) -> None:
    """Directories of runners that were killed: memory that nobody would give back."""
    for place in Path(where).glob("stratum-run-*-*"):
        owner = place.name.split("-")[2]
        try:
            if owner.isdigit() and place.stat().st_uid == os.getuid():
                os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue


def _outputs(count: int, todo: list[list[str]], output_dir: str | None) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    if output_dir is None:
        for _ in range(count):
            yield tempfile.TemporaryFile(), tempfile.TemporaryFile()  # type: ignore[misc]
        return
    place = Path(output_dir)
    place.mkdir(parents=True, exist_ok=True)
    width = len(str(count))
    for number, words in enumerate(todo, 1):
        stem = f"{number:0{width}}-{Path(words[0]).stem}"
        yield open(place / f"{stem}.out", "wb"), open(place / f"{stem}.err", "wb")


def _run_all(
    todo: list[list[str]], options: list[str], at_once: int, output_dir: str | None, folder: str | None
) -> int:
    scripts = [
        Script(words, out, err) for words, (out, err) in zip(todo, _outputs(len(todo), todo, output_dir))
    ]
    environment = _environment(folder)
    woken_r, woken_w = os.pipe()
    os.set_blocking(woken_w, False)
    os.set_blocking(woken_r, False)
    asked: list[int] = []

    def passed_on(number: int, _frame: Any) -> None:
        asked.append(number)

    outer = {s: signal.signal(s, passed_on) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    outer[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken_w, warn_on_full_buffer=False)
    waiting, running, shown = list(scripts), [], 0
    try:
        while shown < len(scripts):
            if asked:
                number = asked.pop()
                for script in running:
                    _signal(script, number)
                if number in outer:
                    waiting, stopped = [], waiting
                    for script in stopped:
                        script.status = 128 + number
            while waiting and len(running) < at_once:
                script = waiting.pop(0)
                script.start(options, environment)
                running.append(script)
            running = [script for script in running if not script.ended()]
            while shown < len(scripts) and scripts[shown].ended():
                shown += 1
                _show(scripts[shown - 1], shown, len(scripts), output_dir is None)
            if running and not asked:
                _wait(woken_r)
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in outer.items():
            signal.signal(number, handler)
        os.close(woken_r)
        os.close(woken_w)
        for script in running:
            _signal(script, signal.SIGKILL)
    return 1 if any(script.status for script in scripts) else 0


def _wait(woken: int) -> None:
    """Until a child ends or a signal comes; half a second at most."""
    import select

    if select.select([woken], [], [], 0.5)[0]:
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            pass


def _signal(script: Script, number: int) -> None:
    """To the script's process group: what it started belongs to it."""
    if script.process is not None and script.process.poll() is None:
        try:
            os.killpg(script.process.pid, number)
        except ProcessLookupError:
            pass


def _show(script: Script, number: int, count: int, written: bool) -> None:
    """Write what a script said, and say which one it was."""
    sys.stdout.flush()
    if written:
        _copy(script.out, sys.stdout.buffer)
    sys.stderr.write(script.label(number, count))
    sys.stderr.flush()
    if written:
        _copy(script.err, sys.stderr.buffer)
    script.out.close()
    script.err.close()


def _copy(source: Any, target: Any) -> None:
    source.seek(0)
    shutil.copyfileobj(source, target)
    target.flush()
