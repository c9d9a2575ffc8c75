"""Processes of their own for code that needs one, without the second that importing skrub takes each time.

What it is for
    `run` and `start` run a text as `python -c` would: in a new process, where stratum has not been imported. It is
    forked from one that has imported skrub, and so scikit-learn and pandas, before any of them has started a
    thread. What is tested of imports of those libraries themselves needs `subprocess`.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from typing import Any, NoReturn

_server: tuple[subprocess.Popen, socket.socket] | None = None


class Process:
    """A process that runs: the part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, said: socket.socket, out: Any, err: Any) -> None:
        self.pid, self.stdout, self.stderr = pid, out, err
        self._said = said
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._said.settimeout(timeout)
            self.returncode = int(_line(self._said))
            self._said.close()
        return self.returncode


def _line(said: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        more = said.recv(1)
        assert more, "the process that forks is gone"
        text += more
    return text.decode()


def start(code: str, *argv: str, env: dict[str, str] | None = None, cwd: Any = None) -> Process:
    """Run a text in a process of its own; its output comes by the pipes `stdout` and `stderr`, as text."""
    global _server
    if _server is None or _server[0].poll() is not None:
        ours, theirs = socket.socketpair()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("STRATUM")}
        process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=clean)
        theirs.close()
        atexit.register(process.kill)
        _server = process, ours
    asked, given = socket.socketpair()
    pipes = os.pipe(), os.pipe()
    place = os.fspath(cwd) if cwd is not None else os.getcwd()
    text = json.dumps({"code": code, "argv": ["-c", *argv], "env": dict(os.environ) if env is None else env, "cwd": place})
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        file.write(text)
    fds = array.array("i", [given.fileno(), pipes[0][1], pipes[1][1]])
    _server[1].sendmsg([file.name.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    pid = int(_line(asked))
    for fd in (given.detach(), pipes[0][1], pipes[1][1]):
        os.close(fd)
    return Process(pid, asked, os.fdopen(pipes[0][0]), os.fdopen(pipes[1][0]))


def run(
    code: str, *argv: str, env: dict[str, str] | None = None, cwd: Any = None, timeout: float = 300
) -> subprocess.CompletedProcess:
    """Run a text in a process of its own and wait for its end."""
    process = start(code, *argv, env=env, cwd=cwd)
    err: list[str] = []
    reader = threading.Thread(target=lambda: err.append(process.stderr.read()))
    reader.start()
    out = process.stdout.read()
    reader.join()
    code_ = process.wait(timeout)
    process.stdout.close()
    process.stderr.close()
    return subprocess.CompletedProcess(list(argv), code_, out, err[0])


# -- The process that forks -------------------------------------------------------------------------


def serve(number: int) -> NoReturn:
    """Fork a child for each request; a second one waits with it, so that requests may overlap."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those ended that wait
    requests = socket.socket(fileno=number)
    import skrub  # noqa: F401

    assert not any(name == "stratum" or name.startswith("stratum.") for name in sys.modules)
    assert threading.active_count() == 1
    while True:
        name, fds, _, _ = socket.recv_fds(requests, 4096, 3)
        if not name:
            os._exit(0)
        waits = os.fork()
        if waits == 0:
            requests.close()
            _wait(pathlib.Path(name.decode()), *fds)
        for fd in fds:
            os.close(fd)


def _wait(file: pathlib.Path, said: int, out: int, err: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(file.read_text())
    file.unlink()
    pid = os.fork()
    if pid == 0:
        os.close(said)
        _child(request, out, err)
    os.write(said, b"%d\n" % pid)
    os.close(out)
    os.close(err)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(said, b"%d\n" % status)
    os._exit(0)


def _child(request: dict, out: int, err: int) -> NoReturn:
    """What `python -c` does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    empty = os.open(os.devnull, os.O_RDONLY)
    for place, fd in enumerate((empty, out, err)):
        os.dup2(fd, place)
    os.closerange(3, 64)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[:] = request["argv"]
    sys.path[0] = ""
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    status = 0
    try:
        exec(compile(request["code"], "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.exit(status)  # the interpreter ends as any other, with all that may go wrong there


if __name__ == "__main__":
    serve(int(sys.argv[1]))
