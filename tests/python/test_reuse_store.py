"""The store on disk: what another process finds, what damage and strangers do, the command line."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import skrub
import stratum
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from stratum import cli
from stratum import engine as engines
from stratum.capture import previews
from stratum.reuse import store


def table(seed=0, rows=300):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows), "y": rng.normal(size=rows)})


def search(alpha=1.0, seed=0, **kwargs):
    data = skrub.var("data", table(seed))
    X = data[["a", "b"]].skb.mark_as_X().skb.apply(StandardScaler()).skb.apply(PolynomialFeatures(2))
    op = X.skb.apply(Ridge(alpha=alpha), y=data["y"].skb.mark_as_y())
    return op.skb.make_grid_search(fitted=True, cv=3, **kwargs)


def outcome(found):
    return found.cv_results_["mean_test_score"].tolist(), found.best_learner_.predict({"data": table()}).tolist()


def fits():
    return sum(op == "fit" for op, _, _ in stratum.last_run().profile)


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Makes this process forget what it has in memory, as a new one would have."""
    monkeypatch.setattr(store, "MARGIN", 0.0)
    folder = tmp_path / "store"

    def begin():
        engines._engine = None
        store._open.clear()

    monkeypatch.setattr(engines, "_engine", None)
    begin()
    with stratum.config_context(store=folder, reuse_seconds=0):
        yield begin
    begin()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def without():
    with stratum.config_context(reuse="off"):
        return outcome(search())


def test_another_process_computes_nothing(process, folder):
    want = without()
    assert outcome(search()) == want
    assert stratum.cache.stats()["entries"] > 5
    process()
    assert outcome(search()) == want
    assert stratum.last_run().recalled > 0 and fits() == 0
    process()
    found = search(alpha=2.0)
    assert fits() == 3  # Ridge on three folds; on all rows it was fitted for the preview
    with stratum.config_context(reuse="off"):
        assert outcome(found) == outcome(search(alpha=2.0))


def test_memory_alone_leaves_nothing_on_disk(process, folder):
    for reuse in ("memory", "off"):
        with stratum.config_context(reuse=reuse):
            search()
    assert not folder.exists()


def entries(folder):
    return sorted(folder.glob("??/*.st"))


def test_damaged_entries_are_computed_again(process, folder):
    want = outcome(search())
    for i, path in enumerate(entries(folder)):
        raw = bytearray(path.read_bytes())
        if i % 3 == 0:
            raw[len(raw) // 2] ^= 16
        elif i % 3 == 1:
            raw = raw[: len(raw) // 2]
        else:
            raw = bytearray()
        path.write_bytes(raw)
    process()
    assert outcome(search()) == want
    assert fits() > 0
    process()
    assert outcome(search()) == want
    assert fits() == 0  # written again


def test_a_folder_that_others_may_write_to_is_not_read(process, folder):
    search()
    os.chmod(folder, 0o777)
    process()
    with pytest.warns(RuntimeWarning, match="written to by others"):
        search()
    assert fits() > 0


def test_no_store_where_there_is_no_folder(process, tmp_path):
    (tmp_path / "file").write_text("")
    with stratum.config_context(store=tmp_path / "file" / "store"):
        with pytest.warns(RuntimeWarning, match="no store is used"):
            first = search()
        assert outcome(first) == without()


def version_line(version):
    said = f"stratum store {version} "
    return f"{said}{int.from_bytes(stratum._core.hash128(said.encode())[:8], 'little'):016x}\n"


def test_a_store_of_a_newer_version_is_left_alone(process, folder):
    search()
    assert (folder / "format").read_text() == version_line(1)
    (folder / "format").write_text(version_line(999))
    before = {path: path.read_bytes() for path in entries(folder)}
    process()
    with pytest.warns(RuntimeWarning, match="no store is used"):
        search()
    assert {path: path.read_bytes() for path in entries(folder)} == before


def test_a_store_that_can_only_be_read(process, folder):
    want = outcome(search())
    count = len(entries(folder))
    disk = store.opened()
    process()
    store._open[os.path.abspath(folder)] = read_only = object.__new__(store.Disk)
    read_only.__dict__.update(disk.__dict__, store=stratum._core.Store(folder, read_only=True))
    assert outcome(search()) == want and fits() == 0
    search(alpha=3.0)
    assert len(entries(folder)) == count


def test_the_size_is_limited(process, folder):
    with stratum.config_context(store_bytes=30_000):
        for alpha in range(1, 30):
            search(alpha=float(alpha))
        assert sum(path.stat().st_size for path in entries(folder)) < 60_000


def test_models_with_functions_of_the_script_stay_here(process, folder):
    from sklearn.preprocessing import FunctionTransformer

    def double(X):
        return X * 2

    def make():
        data = skrub.var("data", table())
        X = data[["a", "b"]].skb.mark_as_X().skb.apply(FunctionTransformer(double))
        return X.skb.apply(Ridge(), y=data["y"].skb.mark_as_y()).skb.make_grid_search(fitted=True, cv=3)

    first = make()
    process()
    again = make()
    np.testing.assert_array_equal(first.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(
        first.best_learner_.predict({"data": table()}), again.best_learner_.predict({"data": table()})
    )
    disk = store.opened()
    disk.flush()
    assert any("is not a library's" in why or "double" in why for why in disk.refused) or not disk.refused


class Calls(list):
    """What was called, which is no part of what a function means."""

    def __stratum_encode__(self):
        return b"calls"


CALLS = Calls()


@stratum.pure
def with_squares(frame):
    CALLS.append(len(frame))
    return frame.assign(aa=frame["a"] ** 2)


def test_previews_of_long_calls_are_found_by_other_processes(process, folder, monkeypatch):
    monkeypatch.setattr(previews, "LONG_CALL_S", -1.0)
    monkeypatch.setattr(previews, "NOTED_CALL_S", 0.0)

    def build():
        CALLS.clear()
        X = skrub.var("data", table())[["a", "b"]].skb.mark_as_X().skb.apply_func(with_squares)
        built = list(CALLS)
        return X.skb.preview(), built

    def forget():
        process()
        monkeypatch.setattr(previews, "_long_calls", {})

    want, built = build()
    assert built == [300]
    forget()
    found, built = build()
    assert built == []
    pd.testing.assert_frame_equal(found, want)
    found["a"] = 0.0  # the user's own
    forget()
    found, built = build()
    assert built == []
    pd.testing.assert_frame_equal(found, want)
    # Looked for in vain often enough, a call is looked for no more, until it takes long again.
    monkeypatch.setattr(previews, "LONG_CALL_S", 1e9)
    for row in range(previews._IN_VAIN + 3):
        assert previews._was_long("with_squares") == (row <= previews._IN_VAIN)
        CALLS.clear()
        skrub.var("data", table(seed=10 + row)).skb.apply_func(with_squares)
        assert CALLS == [300]


SCRIPT = """
    import json, sys
    import numpy as np, pandas as pd
    import stratum as skrub
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler
    skrub.set_config(reuse_seconds=0)
    from stratum.reuse import store
    store.MARGIN = 0.0

    def features(frame, power=2):
        out = frame.copy()
        out["p"] = out["a"].abs() ** power
        return out

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "y"])
    data = skrub.var("data", frame)
    X = data[["a", "b"]].skb.mark_as_X().skb.apply_func(features).skb.apply(StandardScaler())
    op = X.skb.apply(Ridge(alpha=skrub.choose_from([1.0, 2.0], name="alpha")), y=data["y"].skb.mark_as_y())
    found = op.skb.make_grid_search(fitted=True, cv=3)
    ran = [op for op, _, _ in skrub.last_run().profile if op in ("fit", "call")]
    print(json.dumps([len(ran), found.cv_results_["mean_test_score"].tolist()]))
"""


def run(folder, script=SCRIPT, cwd=None, wait=True, **environment):
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {**os.environ, "STRATUM_STORE": str(folder), **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, env=environment, text=True)
    return answer(process) if wait else process


def answer(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


def test_processes(folder, tmp_path):
    ran, scores = run(folder)
    assert ran > 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    edited = SCRIPT.replace("def features", "# a comment\n\n    def features").replace("out", "table_that_comes_out")
    # (hash seeds differ between processes by default)
    assert run(folder, edited, cwd=elsewhere, PYTHONHASHSEED="7") == [0, scores]
    assert run(folder, STRATUM_REUSE="off") == [ran, scores]
    ran_again, others = run(folder, SCRIPT.replace("power=2", "power=3"))
    assert ran_again > 0 and others != scores


@pytest.mark.slow
def test_processes_at_once_and_killed_ones(folder):
    want = run(folder, STRATUM_REUSE="off")[1]
    several = [run(folder, wait=False) for _ in range(3)]
    assert [answer(process)[1] for process in several] == [want] * 3
    rng = np.random.default_rng(0)
    for n in range(2):
        killed = run(folder, SCRIPT.replace("default_rng(0)", f"default_rng({n})"), wait=False)
        try:
            killed.wait(timeout=float(rng.uniform(1.0, 6.0)))
        except subprocess.TimeoutExpired:
            killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert run(folder) == [0, want]
    for n in range(2):
        script = SCRIPT.replace("default_rng(0)", f"default_rng({n})")
        assert run(folder, script)[1] == run(folder, script, STRATUM_REUSE="off")[1]


def command(capsys, *words):
    capsys.readouterr()
    status = cli.main(["cache", *words])
    return status, capsys.readouterr()


def test_the_command_line(process, folder, capsys, tmp_path):
    status, said = command(capsys, "--store", str(tmp_path / "none"), "stats")
    assert status == 1 and "there is no store" in said.err
    search(alpha=1.0)
    search(alpha=2.0)
    status, said = command(capsys, "stats")
    assert status == 0 and "entries" in said.out and str(folder) in said.out
    status, said = command(capsys, "ls", "-n", "3")
    assert status == 0 and len(said.out.splitlines()) == 3
    ridges = [entry for entry in stratum.cache.ls() if entry.label.startswith("fit <Apply Ridge")]
    differences = {line for one in ridges for other in ridges for line in stratum.cache.why(one.key, other.key)}
    assert any("parameter alpha: 1.0 | 2.0" in line for line in differences), differences
    status, said = command(capsys, "why", ridges[0].key, ridges[0].key)
    assert status == 0 and "nothing differs" in said.out
    status, said = command(capsys, "why", "zz", ridges[0].key)
    assert status == 1 and "no entries" in said.err
    status, said = command(capsys, "verify")
    assert status == 0 and said.out == "0 damaged\n"
    status, said = command(capsys, "export", str(tmp_path / "copy"))
    assert status == 0
    with stratum.config_context(store=tmp_path / "copy"):
        assert stratum.cache.stats()["entries"] == stratum.cache.stats()["entries"] > 0
        process()
        search(alpha=2.0)
        assert fits() == 0
    path = max(entries(folder), key=lambda path: path.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    status, said = command(capsys, "verify")
    assert status == 1 and "1 damaged" in said.out
    status, said = command(capsys, "gc", "--bytes", "1")
    assert status == 0 and stratum.cache.stats()["entries"] == 0
    search(alpha=5.0)
    process()
    status, said = command(capsys, "clear")
    assert status == 0 and not entries(folder)


def test_why_says_what_changed(process):
    def first(frame):
        return frame * 2

    def second(frame):
        return frame * 3

    def make(step, **kwargs):
        data = skrub.var("data", table())
        X = data[["a", "b"]].skb.mark_as_X().skb.apply_func(step)
        X.skb.apply(Ridge(), y=data["y"].skb.mark_as_y()).skb.make_grid_search(fitted=True, cv=3)

    make(first)
    keys = {entry.key for entry in stratum.cache.ls()}
    second.__name__ = "first"
    make(second)
    calls = [entry for entry in stratum.cache.ls() if entry.label.startswith("call")]
    old, new = [e for e in calls if e.key in keys], [e for e in calls if e.key not in keys]
    lines = stratum.cache.why(old[0].key, new[0].key)
    assert any("constants" in line and "2 | 3" in line for line in lines), lines
