"""The line of progress: when it shows, what it says, and that it never harms."""

from __future__ import annotations

import io
import sys
import threading

import pytest
import tqdm.std

from stratum import _progress
from stratum._progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class Clock:
    """A clock that the test moves, in the place of tqdm's."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(tqdm.std, "time", clock)
    return clock


@pytest.fixture
def use(monkeypatch):
    """Puts a stream in the place of stderr; to be called in the test, for pytest's own capture
    sets stderr again between a fixture and its test."""

    def replace(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def last_line(stream):
    return stream.getvalue().replace("\n", "\r").rstrip("\r").split("\r")[-1]


def test_silent_when_not_a_terminal(use, clock):
    stream = io.StringIO()
    use(stream)
    with Progress(3) as progress:
        assert not progress.active
        clock.now += 10
        progress.update(3, 1, 0.5)
    assert stream.getvalue() == ""


def test_silent_when_asked(use, clock):
    terminal = use(Terminal())
    with Progress(3, enabled=False) as progress:
        clock.now += 10
        progress.update(3)
    assert terminal.getvalue() == ""


def test_shown_on_request_without_a_terminal(use, clock):
    stream = io.StringIO()
    use(stream)
    with Progress(3, enabled=True) as progress:
        clock.now += 10
        progress.update(1)
    assert "1/3 candidates" in stream.getvalue()


def test_nothing_in_the_first_second(use, clock):
    terminal = use(Terminal())
    with Progress(100) as progress:
        for done in range(1, 100):
            clock.now += 0.0099
            progress.update(done)
        assert terminal.getvalue() == ""
    assert terminal.getvalue() == ""


def test_appears_after_a_second(use, clock):
    terminal = use(Terminal())
    progress = Progress(4)
    clock.now += 0.9
    progress.update(1)
    assert terminal.getvalue() == ""
    clock.now += 0.2
    progress.update(2, 1, -0.25)
    line = last_line(terminal)
    assert " 50%|" in line
    assert "2/4 candidates, 1 failed, best -0.25 [00:01, " in line and " left]" in line
    clock.now += 5
    progress.update(4, 1, 0.123456)
    progress.close()
    assert "4/4 candidates, 1 failed, best 0.1235" in last_line(terminal)
    assert terminal.getvalue().endswith("\n")


def test_says_nothing_of_what_is_not_there(use, clock):
    terminal = use(Terminal())
    progress = Progress(2)
    clock.now += 2
    progress.update(1)
    assert "1/2 candidates [" in last_line(terminal)
    clock.now += 1
    progress.update(2, 0, float("nan"))
    assert "2/2 candidates, best nan [" in last_line(terminal)
    progress.close()


def test_never_goes_back(use, clock):
    terminal = use(Terminal())
    progress = Progress(5)
    clock.now += 2
    progress.update(3)
    clock.now += 1
    progress.update(2, 2)
    progress.close()
    assert "3/5 candidates [" in last_line(terminal)
    assert "failed" not in terminal.getvalue()


def test_close_twice(use, clock):
    terminal = use(Terminal())
    progress = Progress(1)
    clock.now += 2
    progress.update(1)
    progress.close()
    text = terminal.getvalue()
    progress.close()
    progress.update(1)
    assert terminal.getvalue() == text


def test_from_many_threads(use, clock):
    terminal = use(Terminal())
    progress = Progress(400)
    clock.now += 2

    def work(first):
        for done in range(first, 401, 4):
            progress.update(done)

    threads = [threading.Thread(target=work, args=(first,)) for first in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress.close()
    assert "400/400 candidates" in last_line(terminal)


def test_no_thread_is_left(use, clock):
    terminal = use(Terminal())
    before = threading.active_count()
    with Progress(3) as progress:
        clock.now += 2
        progress.update(1)
        assert threading.active_count() == before


class Raises(Terminal):
    """A terminal whose writes fail from some moment on."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.broken = False

    def write(self, text):
        if self.broken:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError("gone"),
        ValueError("I/O operation on closed file"),
        ValueError("underlying buffer has been detached"),
        UnicodeEncodeError("ascii", "█", 0, 1, "no"),
        TypeError("a bytes-like object is required"),
    ],
)
@pytest.mark.parametrize("when", ["first", "later", "close"])
def test_stream_that_fails(use, clock, error, when):
    stream = Raises(error)
    use(stream)
    progress = Progress(3)
    stream.broken = when == "first"
    clock.now += 2
    progress.update(1)
    assert progress.active or when == "first"
    stream.broken = when == "later" or stream.broken
    clock.now += 2
    progress.update(2)
    stream.broken = True
    progress.close()
    assert not progress.active
    stream.broken = False
    progress.update(3)
    assert "3/3" not in stream.getvalue()


@pytest.mark.parametrize("enabled", [None, True])
def test_closed_stream(use, clock, enabled):
    stream = Terminal()
    stream.close()
    use(stream)
    with Progress(3, enabled=enabled) as progress:
        clock.now += 2
        progress.update(1)
    assert not progress.active


@pytest.mark.parametrize("stream", [None, object()])
@pytest.mark.parametrize("enabled", [None, True, False])
def test_odd_streams(use, clock, stream, enabled):
    use(stream)
    with Progress(3, enabled=enabled) as progress:
        clock.now += 2
        progress.update(2, 1, 0.5)
    assert not progress.active


def test_delay_is_a_second():
    assert _progress.DELAY_S == 1.0
