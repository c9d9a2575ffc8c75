"""Scripts that know nothing of stratum: what they write is the same byte for byte with and without.

The scripts of ``tests/scripts`` run by plain Python, by ``python -m stratum run`` and with ``STRATUM=1``, in
an environment of its own into which the hook has been installed; paths are masked, and seconds. At its end
each script that searches leaves a word outside of its folder about what the engine did. Then several at once: bad ones beside good ones, and what they share, counted by a profiler in each script.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "helper_functions")

# What a script is given: arguments, and what it reads.
ARGUMENTS = {
    "argparse_report": ["--rows", "7", "--name=x y", "--", "one.py", "--two"],
    "looks_at_itself": ["--one", "two.py", ""],
    "logs": ["-v"],
}
STDIN = {"reads_stdin": b"one two\nthree\n\nfour five six"}

#: Filters of warnings belong to the process before Python 3.14: while a library ignores warnings on one thread, those
#: of another thread are lost (seen once in some ten runs, under load).
ONE_THREAD = {"repeated_warnings"}

#: Scripts whose searches, learners or cross-validations are run by the engine.
ACCELERATED = {
    "churn_grid_search", "custom_transformers", "data_ops_choices", "data_ops_joins", "data_ops_search",
    "failing_candidates", "failing_user_code", "halving_search", "housing_random_search", "learning_curves", "lightgbm_categories",
    "many_scorers", "optuna_study", "own_randomness", "patches_pandas", "polars_frames", "rare_class", "repeated_warnings",
    "search_missing_columns", "search_tracebacks",
    "stacking_voting", "steps_passed_through", "submission", "tabular_pipelines", "time_series_lags", "xgboost_loop",
}  # fmt: skip

#: Each of their sides takes three to five seconds, most of them imports: one of ours, `run` or `hook` by turns,
#: unless this is in the environment.
BOTH = "SCRIPTS_ON_BOTH_SIDES"

#: On purpose too short for the engine: searches (`stratum.sklearn._entry.PATIENCE`), and fits of one learner on few
#: cells (`stratum.hosts.fitting.LEAST_CELLS`).
TOO_SHORT = {"data_ops_learner", "does_not_converge", "grid_search", "iris_quick"}

#: Fits of a learner of which the last one fails before a node has run.
FAILS_AT_ONCE = {"many_tracebacks"}

#: In the environment of these tests, for every side alike: at its end, a process says what its engine did.
COUNT = """
import atexit, os, sys

def write():
    engine, ran, asked = sys.modules.get("stratum.engine"), 0, 0
    if engine is not None:
        last = engine.last_run()
        ran = last.nodes_run + last.recalled
        asked = engine.get_engine().graph.stats()["asked"]
    with open(os.path.join(os.environ["COUNT_NODES"], str(os.getpid())), "w") as file:
        file.write(f"{ran} {asked}")

atexit.register(write)
"""


@dataclass
class Said:
    """What a script left behind."""

    out: bytes
    err: bytes
    status: int
    files: dict[str, bytes]
    nodes: list[int] | None = None  # those of the engine's last run in the main thread, those that were ever asked for


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the same packages, into which the hook has been installed."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = place / "lib" / version / "site-packages"
    packages = sorted({str(Path(_origin(name)).parent.parent) for name in ("skrub", "sklearn", "pandas", "numpy")})
    (site / "packages.pth").write_text("\n".join(packages) + "\n", encoding="utf-8")
    (site / "count_nodes.pth").write_text("import os; 'COUNT_NODES' in os.environ and __import__('count_nodes')\n")
    (site / "count_nodes.py").write_text(COUNT)
    interpreter = place / "bin" / "python"
    done = subprocess.run(
        [interpreter, "-m", "stratum", "install-hook"], env=environment(), capture_output=True, text=True, check=True
    )
    assert str(site / "stratum_hook.pth") in done.stdout
    # Matplotlib says so where it has to look for fonts for long: in the cache folder of these tests, once, before all.
    fonts = "import importlib.util, importlib\nif importlib.util.find_spec('matplotlib'): importlib.import_module('matplotlib.font_manager')"
    subprocess.run([interpreter, "-c", fonts], env=environment(), capture_output=True, check=True)
    return interpreter


CACHE = tempfile.TemporaryDirectory()


def _origin(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return spec.origin


def environment(**more: str) -> dict[str, str]:
    """The environment of every side: one thread, one seed, and stratum where these tests have it from."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STRATUM", "PYTHON"))}
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    home = str(Path(_origin("stratum")).parent.parent)
    one["STRATUM_EXACTNESS"] = "identical"
    one["XDG_CACHE_HOME"] = CACHE.name  # for the store of `run`
    return {**kept, **one, "PYTHONPATH": home, "PYTHONHASHSEED": "0", **more}


SIDES = {"plain": [], "run": ["-m", "stratum", "run"], "hook": []}


def start(python: Path, side: str, name: str, place: Path, **more: str) -> tuple[subprocess.Popen, Path]:
    folder = place / side / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if side == "hook":
        more["STRATUM"] = "1"
    if name in ONE_THREAD:
        more["STRATUM_N_THREADS"] = "1"
    if name in ACCELERATED:
        counts = place / side / "counts"
        counts.mkdir()
        more["COUNT_NODES"] = str(counts)
    given = environment(**more)
    del given["STRATUM_EXACTNESS"]  # that the bits are the same is the hook's own doing
    process = subprocess.Popen(
        [python, *SIDES[side], f"{name}.py", *ARGUMENTS.get(name, [])], cwd=folder, env=given,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return process, folder


def finish(process: subprocess.Popen, folder: Path, name: str) -> Said:
    out, err = process.communicate(STDIN.get(name, b""), timeout=300)
    count = folder.parent / "counts" / str(process.pid)
    nodes = [int(number) for number in count.read_text().split()] if count.exists() else None
    return Said(mask(out, folder), mask(err, folder), process.returncode, written(folder), nodes)


def mask(text: bytes, folder: Path) -> bytes:
    """Without the folder's own path, and seconds."""
    text = text.replace(str(folder).encode(), b"FOLDER")
    return re.sub(rb"\b\d+\.\d+ ?s\b", b"T s", text)


def written(folder: Path) -> dict[str, bytes]:
    """The files that a script has written."""
    known = {path.name for path in SCRIPTS.iterdir()} | {"__pycache__"}
    return {path.name: mask(path.read_bytes(), folder) for path in sorted(folder.iterdir()) if path.name not in known}


def agree(python: Path, name: str, place: Path, sides: list[str]) -> Said:
    """Run the sides at the same time; assert that they say the same, and that the engine has worked for ours."""
    started = {side: start(python, side, name, place) for side in ["plain", *sides]}
    said = {side: finish(process, folder, name) for side, (process, folder) in started.items()}
    for side in sides:
        assert said[side].status == said["plain"].status, said[side].err.decode()
        assert said[side].out == said["plain"].out
        assert said[side].err == said["plain"].err
        assert said[side].files == said["plain"].files
        if name in ACCELERATED:
            assert said["plain"].nodes == [0, 0] and said[side].nodes is not None
            assert min(said[side].nodes) > 0, said[side].nodes
    return said["plain"]


def sides_of(name: str) -> list[str]:
    """Which of our sides are compared: both, of scripts that import little; by turns else (see `BOTH`)."""
    if name not in ACCELERATED or os.environ.get(BOTH):
        return ["run", "hook"]
    return [["run", "hook"][sorted(ACCELERATED).index(name) % 2]]


EXPECTED_STATUS = {
    "argparse_error": 2, "exit_message": 1, "exit_number": 7, "failing_user_code": 1, "traceback_chain": 1, "hard_exit": 3,
    "syntax_error": 1, "interrupted": -signal.SIGINT, "killed": -signal.SIGKILL, "own_excepthook": 1,
    "pandas_report": 1, "grid_search": 1, "data_ops_error": 1, "failing_candidates": 1,
}  # fmt: skip


def test_there_are_fifty() -> None:
    assert len(NAMES) >= 50
    assert len(ACCELERATED) >= 20 > 3 * len(TOO_SHORT) and not ACCELERATED & TOO_SHORT
    assert EXPECTED_STATUS.keys() | ARGUMENTS.keys() | STDIN.keys() | ACCELERATED | TOO_SHORT | FAILS_AT_ONCE <= set(NAMES)


def test_every_script_that_searches_is_counted() -> None:
    """A script that searches or fits by scikit-learn's or skrub's loops is in one of the lists."""
    asks = re.compile(r"SearchCV\(|cross_val_\w+\(|cross_validate\(|make_\w+_search\(|make_learner\(")
    searching = {name for name in NAMES if asks.search((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"))}
    assert searching == ACCELERATED | TOO_SHORT | FAILS_AT_ONCE


# (The quick part leaves out what loads the libraries on every side.)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ACCELERATED | TOO_SHORT else []) for name in NAMES]
)
def test_same_with_and_without(python: Path, name: str, tmp_path: Path) -> None:
    said = agree(python, name, tmp_path, sides_of(name))
    assert said.status == EXPECTED_STATUS.get(name, 0), said.err.decode()
    assert said.out or said.err


@pytest.mark.parametrize("name", ["data_ops_search", "polars_frames"])
def test_again(python: Path, name: str, tmp_path: Path) -> None:
    """What the store of the user's cache folder has of an earlier process changes nothing that is seen."""
    said = []
    for turn in ("first", "second"):
        more = {"STRATUM_REUSE_SECONDS": "0", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        process, folder = start(python, "run", name, tmp_path / turn, **more)
        said.append(finish(process, folder, name))
    assert said[0].status == 0 and all(one.nodes is not None and min(one.nodes) > 0 for one in said)
    said[0].nodes = said[1].nodes = None
    assert said[0] == said[1]
    entries = list((tmp_path / "cache" / "stratum" / "store").glob("??/*.st"))
    assert entries


# -- The hook and the command -----------------------------------------------------------------------


def ask(python: Path, *words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    more = {"STRATUM_REUSE": "off", **more}  # what was computed before is no matter of these tests
    return subprocess.run(
        [python, *words], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=300
    )


def test_the_hook_comes_with_skrub_and_goes_when_it_is_uninstalled(python: Path, tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(
        "import sys\nbefore = 'stratum' in sys.modules\nimport skrub\nprint(before, 'stratum' in sys.modules)\n"
    )
    assert ask(python, "look.py", cwd=tmp_path).stdout == "False False\n"
    assert ask(python, "look.py", cwd=tmp_path, STRATUM="0").stdout == "False False\n"
    assert ask(python, "look.py", cwd=tmp_path, STRATUM="1").stdout == "False True\n"
    target = tmp_path / "site"
    target.mkdir()
    for command, text in (("install-hook", "wrote"), ("uninstall-hook", "removed"), ("uninstall-hook", "no hook")):
        done = ask(python, "-m", "stratum", command, "--target", str(target), cwd=tmp_path)
        assert done.returncode == 0 and text in done.stdout, done.stderr
        assert len(list(target.iterdir())) == (2 if command == "install-hook" else 0)
    done = ask(python, "-m", "stratum", "install-hook", "--target", str(tmp_path / "absent"), cwd=tmp_path)
    assert done.returncode == 1 and "absent" in done.stderr


def test_the_command_line_imports_no_library(python: Path, tmp_path: Path) -> None:
    done = ask(python, "-X", "importtime", "-m", "stratum", "--version", cwd=tmp_path)
    assert done.stdout.startswith("stratum ")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "stratum.cli" in imported
    assert not imported & {"numpy", "pandas", "sklearn", "skrub", "stratum._core", "stratum.engine"}


def test_a_script_that_imports_nothing_pays_for_the_hook_only(python: Path, tmp_path: Path) -> None:
    (tmp_path / "light.py").write_text("import sys\nprint(sorted(m for m in sys.modules if 'stratum' in m))\n")
    done = ask(python, "-m", "stratum", "run", "light.py", cwd=tmp_path)
    assert done.stdout == "['_stratum_hook']\n", done.stderr
    assert ask(python, "light.py", cwd=tmp_path, STRATUM="1").stdout == "['_stratum_hook']\n"


def test_model_selection_alone_imports_no_skrub(python: Path, tmp_path: Path) -> None:
    (tmp_path / "splits.py").write_text(
        "import sys\nfrom sklearn.model_selection import train_test_split, KFold\nimport sklearn.model_selection as m\n"
        "print('skrub' in sys.modules, 'stratum' in sys.modules, 'GridSearchCV' in dir(m))\n"
        "print(len(train_test_split(list(range(8)), random_state=0)[0]), KFold(3))\n"
        "try:\n    m.no_such_name\nexcept AttributeError as error:\n    print(error)\n"
    )
    plain = ask(python, "splits.py", cwd=tmp_path)
    ours = ask(python, "splits.py", cwd=tmp_path, STRATUM="1")
    assert plain.stdout.startswith("False False True\n6 ") and "no_such_name" in plain.stdout
    assert (ours.stdout, ours.stderr) == (plain.stdout, plain.stderr)


def test_no_progress_on_the_stderr_of_a_script(python: Path, tmp_path: Path) -> None:
    for first, expected in (("skrub", "False"), ("stratum", "None")):
        text = f"import {first}\nimport stratum\nprint(stratum.get_config()['progress'])"
        assert ask(python, "-c", text, cwd=tmp_path, STRATUM="1").stdout == f"{expected}\n"
    asked = ask(python, "-c", text.replace("import stratum\n", "import skrub, stratum\n", 1), cwd=tmp_path,
                STRATUM="1", STRATUM_PROGRESS="1")  # fmt: skip
    assert asked.stdout == "True\n", asked.stderr


def test_options_of_the_interpreter_reach_the_script(python: Path, tmp_path: Path) -> None:
    (tmp_path / "flags.py").write_text("import sys\nprint(sys.flags, sys.warnoptions, sys._xoptions, sys.orig_argv[1:])\n")
    options = ["-u", "-W", "ignore", "-Xutf8", "-OO", "-bb"]
    plain = ask(python, *options, "flags.py", "x", cwd=tmp_path)
    ours = ask(python, *options, "-m", "stratum", "run", "flags.py", "x", cwd=tmp_path)
    assert plain.returncode == 0 and ours.stdout == plain.stdout
    joined = ask(python, "-um", "stratum", "run", "flags.py", cwd=tmp_path)
    assert joined.stdout == ask(python, "-u", "flags.py", cwd=tmp_path).stdout
    home = environment()["PYTHONPATH"]
    refused = ask(python, "-I", "-c", f"import sys; sys.path.insert(0, {home!r}); sys.orig_argv[1:] = ['-I', '-m']\n"
                  "from stratum.scripts import runner\nrunner.interpreter_options(sys.orig_argv)", cwd=tmp_path)
    assert refused.returncode == 1 and "python -I ignores what run needs" in refused.stderr


def test_a_script_that_is_not_there(python: Path, tmp_path: Path) -> None:
    plain = ask(python, "absent.py", cwd=tmp_path)
    ours = ask(python, "-m", "stratum", "run", "absent.py", cwd=tmp_path)
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode) and plain.stderr


@pytest.mark.parametrize(
    "words, expected",
    [
        (["a.py"], [["a.py"]]),
        (["a.py", "x", "b.py"], [["a.py", "x", "b.py"]]),
        (["a.py", "b.py"], [["a.py"], ["b.py"]]),
        (["a.py", "b.py", "--"], [["a.py", "b.py"]]),
        (["a.py --x 'y z'", "b.py"], [["a.py", "--x", "y z"], ["b.py"]]),
        (["a.py", "-x", "--", "b.py", "--", "a.py", "1"], [["a.py", "-x"], ["b.py"], ["a.py", "1"]]),
        (["a.py", "--", "x"], [["a.py", "--", "x"]]),
        (["absent.py", "b.py"], [["absent.py", "b.py"]]),
    ],
)
def test_what_the_command_line_means(
    words: list[str], expected: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stratum.scripts import runner

    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    assert runner.commands(words) == expected


# -- Several at once --------------------------------------------------------------------------------

BAD = ["syntax_error", "hard_exit", "closes_stdout", "starts_threads", "starts_programs", "killed", "interrupted"]


def together(
    python: Path, folder: Path, *words: str, **more: str
) -> tuple[list[bytes], list[bytes], list[str], int, str]:
    """Run several; their outputs, errors and labels in order, the status, and what was said of sharing."""
    out = folder / "out"
    done = ask(python, "-m", "stratum", "run", "--stats", "--output-dir", str(out), *words, cwd=folder, **more)
    labels = [line for line in done.stderr.splitlines() if re.match(r"== \d+/\d+ ", line)]
    outs = [mask(path.read_bytes(), folder) for path in sorted(out.glob("*.out"))]
    errs = [mask(path.read_bytes(), folder) for path in sorted(out.glob("*.err"))]
    return outs, errs, labels, done.returncode, done.stderr


def test_bad_scripts_harm_no_other(python: Path, tmp_path: Path) -> None:
    names = [*BAD[:4], "patches_pandas", *BAD[4:], "data_ops_search"]
    folder = tmp_path / "all" / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    outs, errs, labels, status, text = together(python, folder, *[f"{name}.py" for name in names])
    assert status == 1 and len(outs) == len(names), text
    for name, out, err, label in zip(names, outs, errs, labels, strict=True):
        process, own = start(python, "plain", name, tmp_path / name)
        plain = finish(process, own, name)
        how = f"exit {plain.status}" if plain.status >= 0 else signal.Signals(-plain.status).name
        assert f"{name}.py: {how}, " in label
        assert (out, err) == (plain.out, plain.err), name
    assert re.search(r"stays out of it: .*DataFrame.mean", text), text


def test_outputs_are_written_whole_and_in_order(python: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"s{number}.py").write_text(
            f"import sys, time\nfor i in range(3):\n    print({number}, i, flush=True)\n    time.sleep({0.1 / number})\n"
            f"print('error', {number}, sys.argv[1:], file=sys.stderr)\nprint(repr(sys.stdin.read()))\n"
        )
    done = ask(python, "-m", "stratum", "run", "s1.py", "s2.py 'a b'", "s3.py", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "".join(f"{n} 0\n{n} 1\n{n} 2\n''\n" for n in (1, 2, 3))
    lines = [re.sub(r", \d.*", "", line) for line in done.stderr.splitlines()]
    assert lines == [
        "== 1/3 s1.py: exit 0", "error 1 []", "== 2/3 s2.py 'a b': exit 0", "error 2 ['a b']",
        "== 3/3 s3.py: exit 0", "error 3 []",
    ]  # fmt: skip


def test_an_interrupt_goes_on_to_the_scripts(python: Path, tmp_path: Path) -> None:
    (tmp_path / "sleeps.py").write_text("import time\nprint('begun', flush=True)\nopen('begun', 'w')\ntime.sleep(60)\n")
    words = ["-m", "stratum", "run", "--jobs", "1", "sleeps.py", "sleeps.py"]
    process = subprocess.Popen(
        [python, *words], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (1, "begun\n")
    assert "sleeps.py: SIGINT, " in err and "KeyboardInterrupt\n== 2/2 sleeps.py: not started" in err


COUNTING = """
    import os, signal, sys, threading, time

    role, alpha = sys.argv[1], float(sys.argv[2])

    def count(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "fit_transform" and "string_encoder" in frame.f_code.co_filename:
            with open("counted", "a") as file:
                file.write(f"{role}\\n")
            if role == "dies":
                open("begun", "w").close()
                time.sleep(1.5)
                os.kill(os.getpid(), signal.SIGKILL)

    if role == "waits":
        while not os.path.exists("begun"):
            time.sleep(0.01)
    import numpy as np
    import pandas as pd
    import skrub
    from sklearn.linear_model import Ridge

    if role == "patches":
        pd.Series.round = lambda self, decimals=0: self * 0
    if role == "warns":
        import warnings
        warnings.simplefilter("always")
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"text": [f"item {i} of {j}" for i, j in rng.integers(0, 3000, (9000, 2))]})
    df["n"], df["y"] = rng.normal(size=9000), rng.normal(size=9000)
    threading.setprofile(count)
    sys.setprofile(count)
    data = skrub.var("data", df)
    X, y = data[["text", "n"]].skb.mark_as_X(), data["y"].skb.mark_as_y()
    encoder = skrub.StringEncoder(n_components=5, random_state=0)
    features = X.skb.apply(skrub.TableVectorizer(cardinality_threshold=2, high_cardinality=encoder))
    search = features.skb.apply(Ridge(alpha=alpha), y=y).skb.make_grid_search(cv=3, fitted=True)
    sys.setprofile(None)
    print(search.results_["mean_test_score"].tolist())
    print(search.best_learner_.predict({"data": df})[:5].tolist())
"""


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    (tmp_path / "count.py").write_text(textwrap.dedent(COUNTING))
    return tmp_path


def counted(folder: Path) -> list[str]:
    lines = (folder / "counted").read_text().split()
    (folder / "counted").unlink()
    return lines


def test_equal_work_is_done_once(python: Path, counting: Path) -> None:
    expected = {}
    for alpha in ("1", "5"):
        done = ask(python, "count.py", "alone", alpha, cwd=counting, STRATUM="1")
        assert done.returncode == 0, done.stderr
        expected[alpha] = done.stdout.encode()
    alone = counted(counting)
    distinct = len(alone) // 2  # three folds, and all rows
    assert distinct == 4
    outs, errs, _, status, text = together(python, counting, "count.py a 1", "count.py b 5", "count.py c 1")
    assert status == 0, (errs, text)
    assert outs == [expected["1"], expected["5"], expected["1"]]
    assert len(counted(counting)) == distinct, text
    assert errs == [b"", b"", b""]


def test_a_process_that_dies_leaves_its_work_to_others(python: Path, counting: Path) -> None:
    outs, errs, labels, status, text = together(python, counting, "count.py dies 1", "count.py waits 1")
    assert status == 1 and "SIGKILL" in labels[0] and "exit 0" in labels[1], (labels, errs)
    assert outs[0] == b"" and outs[1]
    lines = counted(counting)
    assert lines.count("dies") == 1 and lines.count("waits") == 4, text


def test_what_a_killed_runner_left_is_removed(python: Path, tmp_path: Path) -> None:
    from stratum.scripts import runner

    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, alive = (tmp_path / f"stratum-run-{pid}-x" for pid in (done.stdout.strip(), os.getpid()))
    for place in (dead, alive):
        place.mkdir()
    runner._remove_left_over(str(tmp_path))
    assert not dead.exists() and alive.exists()


def test_scripts_go_on_when_the_runner_is_killed(python: Path, counting: Path) -> None:
    """The meeting place disappears while they work: each computes for itself."""
    text = (counting / "count.py").read_text()
    text = text.replace(
        "threading.setprofile(count)",
        "import stratum.scripts.exchange, _stratum_hook, shutil; shutil.rmtree(_stratum_hook.exchange)",
    )
    (counting / "alone.py").write_text(text)
    outs, errs, _, status, said = together(python, counting, "alone.py a 1", "count.py b 1")
    assert status == 0, (errs, said)
    assert outs[0] == outs[1] and errs == [b"", b""]


def test_a_process_that_patched_a_library_shares_nothing(python: Path, counting: Path) -> None:
    outs, errs, _, status, text = together(python, counting, "count.py patches 1", "count.py b 1", "count.py c 5")
    assert status == 0, errs
    lines = counted(counting)
    assert lines.count("patches") == 4 and lines.count("b") + lines.count("c") == 4, text
    assert re.search(r"stays out of it: pandas\.Series\.round|stays out of it: .*Series.round", text), text
    assert outs[0] == outs[1]


def test_other_settings_are_other_work(python: Path, counting: Path) -> None:
    outs, _, _, status, text = together(python, counting, "count.py warns 1", "count.py b 1")
    assert status == 0 and outs[0] == outs[1]
    lines = counted(counting)
    assert lines.count("warns") == 4 and lines.count("b") == 4, text


WARNING = """
    import sys
    import numpy as np
    import pandas as pd
    import skrub
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    df = pd.DataFrame(rng.normal(size=(9000, 6)), columns=list("abcdef"))
    df["y"] = (df["a"] + rng.normal(size=9000) > 0).astype(int)
    data = skrub.var("data", df)
    X, y = data[list("abcdef")].skb.mark_as_X(), data["y"].skb.mark_as_y()
    model = MLPClassifier(max_iter=int(sys.argv[1]), random_state=0)
    pred = X.skb.apply(model, y=y)
    print(pred.skb.cross_validate(cv=2)["test_score"].tolist())
    pred.skb.make_learner(fitted=True)
    print(pred.skb.eval().to_numpy().flags.writeable)
"""


READS = """
    import sys
    import pandas as pd
    import skrub

    def count(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "__init__" and frame.f_code.co_filename.endswith("readers.py"):
            with open("counted", "a") as file:
                file.write("read\\n")

    sys.setprofile(count)
    df = pd.read_csv("big.csv", **eval(sys.argv[1]))
    again = pd.read_csv("big.csv", usecols=lambda name: name != "note", **eval(sys.argv[1]))
    small = pd.read_csv("small.csv")
    sys.setprofile(None)
    print(df.dtypes, again.shape, df.describe(include="all").to_string(), small, sep="\\n")
    df.loc[0, "n"] = -1.0
    df["more"] = df["n"] + 1
    print(df.head(3).to_string(), df.index, df["n"].to_numpy().flags.writeable)
    try:
        pd.read_csv("none.csv")
    except FileNotFoundError as error:
        print(error)
    pd.read_csv("big.csv", usecols=["absent"])
"""


def test_a_file_is_read_once(python: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 120_000
    words = np.array(["", "Zürich", "a,b", "x" * 99, "12"])
    pd.DataFrame(
        {"n": rng.normal(size=n).round(6), "k": rng.integers(0, 9, n), "note": words[rng.integers(0, 5, n)],
         "mixed": [*["1"] * (n - 1), "one"]}
    ).to_csv(tmp_path / "big.csv", index=False)  # fmt: skip
    (tmp_path / "small.csv").write_text("a,b\n1,2\n")
    (tmp_path / "read.py").write_text(textwrap.dedent(READS))
    plain = {words: ask(python, "read.py", words, cwd=tmp_path) for words in ("{}", "dict(nrows=9)")}
    (tmp_path / "counted").unlink()
    assert plain["{}"].returncode == 1 and "absent" in plain["{}"].stderr
    outs, errs, _, _, text = together(python, tmp_path, *["read.py {}"] * 3, "read.py dict(nrows=9)")
    said = [plain["{}"]] * 3 + [plain["dict(nrows=9)"]]
    assert [out.decode() for out in outs] == [one.stdout for one in said]
    assert errs == [mask(one.stderr.encode(), tmp_path) for one in said]
    # Of the whole reads one is made; with a function of the user, for few bytes, and where pandas refuses, each its own.
    assert len(counted(tmp_path)) == 2 + 4 * 2, text


SEARCHES = """
    import sys
    import threading
    import numpy as np
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline

    def count(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "fit_transform" and "_column_transformer" in frame.f_code.co_filename:
            with open("counted", "a") as file:
                file.write(sys.argv[1] + "\\n")

    rng = np.random.default_rng(0)
    df = pd.DataFrame({"text": [f"item {i} of {j}" for i, j in rng.integers(0, 3000, (8000, 2))], "n": rng.normal(size=8000)})
    words = ColumnTransformer([("words", TfidfVectorizer(analyzer="char", ngram_range=(2, 3)), "text")])
    pipe = make_pipeline(words, Ridge(alpha=float(sys.argv[2])))
    threading.setprofile(count)
    sys.setprofile(count)
    print(cross_val_score(pipe, df, df["n"], cv=3).round(9).tolist())
    search = GridSearchCV(pipe, {"ridge__solver": ["lsqr", "sparse_cg"]}, cv=3, refit=False).fit(df, df["n"])
    sys.setprofile(None)
    print(search.cv_results_["mean_test_score"].round(9).tolist())
"""


def test_searches_of_scikit_learn_share(python: Path, tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(textwrap.dedent(SEARCHES))
    plain = {n: ask(python, "search.py", "plain", n, cwd=tmp_path) for n in ("1", "2")}
    assert counted(tmp_path) == ["plain"] * 18, plain  # three folds, by one and by two candidates
    # (With kernels the fits take less than sharing them would.)
    words = ("search.py a 1", "search.py b 2", "search.py c 1")
    outs, errs, _, status, text = together(python, tmp_path, *words, STRATUM_NATIVE="0")
    assert status == 0, (errs, text)
    assert [out.decode() for out in outs] == [plain[n].stdout for n in ("1", "2", "1")]
    assert len(counted(tmp_path)) == 3, text


def test_warnings_of_shared_work_are_shown_by_every_script(python: Path, tmp_path: Path) -> None:
    """The values of one process, the warnings as if each had computed them: where, and as often."""
    (tmp_path / "warning.py").write_text(textwrap.dedent(WARNING))
    # Two fits at the same time: whether the interpreter takes a warning for a repetition is chance.
    one = {"STRATUM_N_THREADS": "1"}
    alone = {n: ask(python, "warning.py", n, cwd=tmp_path, STRATUM="1", **one) for n in ("2", "3")}
    outs, errs, _, status, text = together(python, tmp_path, "warning.py 2", "warning.py 3", "warning.py 2", **one)
    assert status == 0, errs
    taken = re.search(r"(\d+) taken", text)
    assert taken is not None and int(taken[1]) >= 1 and "not shared" not in text, text
    for out, err, n in zip(outs, errs, ("2", "3", "2"), strict=True):
        assert out.decode() == alone[n].stdout
        assert err.decode() == alone[n].stderr and err.count(b"ConvergenceWarning") > 1


WAITS = """
import sys
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.linear_model import Ridge
import numpy as np

entry = sys.modules.get("stratum.sklearn._entry")

class Counted(Ridge):
    fits = 0
    def fit(self, X, y):
        Counted.fits += 1
        if entry is not None:
            entry.PATIENCE = -1.0 if Counted.fits >= LAST else float("inf")
        return super().fit(X, y)

if entry is not None:
    entry.PATIENCE = float("inf")
X = np.random.default_rng(0).normal(size=(60, 3))
y = X @ [1.0, 2.0, 3.0] + np.sin(X[:, 0])
search = GridSearchCV(Counted(), {"alpha": [0.1, 1.0, 10.0]}, cv=4, return_train_score=True, n_jobs=N_JOBS).fit(X, y)
for name in sorted(search.cv_results_):
    if "time" not in name:
        print(name, [repr(value) for value in search.cv_results_[name]])
print(search.best_params_, search.n_splits_, search.predict(X[:3]).tolist())
print(cross_val_predict(search.best_estimator_, X, y, cv=3)[:4].tolist())
print("loaded", LOADED if entry is None else "skrub" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("last", [1, 5, 1000])
def test_small_searches_do_without_the_engine_and_long_ones_get_it(tmp_path: Path, last: int, n_jobs: object) -> None:
    text = WAITS.replace("LAST", str(last)).replace("N_JOBS", str(n_jobs)).replace("LOADED", str(last < 1000))
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    said = [
        subprocess.run(
            [sys.executable, *words, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        for words in ([], ["-m", "stratum", "run"])
    ]
    assert said[1].stdout == said[0].stdout and said[0].stdout.count("split") >= 8
    assert said[1].stderr == said[0].stderr == f"loaded {last < 1000}\n"
    assert said[0].returncode == said[1].returncode == 0
