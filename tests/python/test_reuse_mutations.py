"""Edits of pipelines and of what they read: no stale result where something changed, a hit where nothing did.

Each edit is made to one base pipeline, whose results are kept. Its results are compared bit for bit with those of
a run that keeps nothing; where nothing that matters was edited, no fit may run.
"""

import importlib
import io
import os
import sys
import tokenize

import numpy as np
import pandas as pd
import pytest
import stratum
from stratum import engine as engines

HELPER = '''
"""What the pipeline imports."""
FACTOR = 3.0

class Config:
    shift = 0.25
    names = ("x", "z")

def inner(v):
    return v * FACTOR + Config.shift

def transform(column):
    """Used by the pipeline."""
    return inner(column) - len(Config.names)

def unused(v):
    return v + 1
'''

SCRIPT = '''
import functools
import numpy as np
import pandas as pd
import skrub
import reuse_helper
from reuse_helper import transform as renamed
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler, PolynomialFeatures
from sklearn.model_selection import KFold

SCALE = 2.5
OFFSETS = {"first": 1.5, "second": [4.0, 5.0]}
NAMES = ("x", "z")
UNUSED = 17

def maker(power, offset=0.5):
    def made(frame):
        out = frame.copy()
        out["p"] = out["x"].abs() ** power + offset
        return out
    return made

class Tool:
    limit = 1.5
    @classmethod
    def clip(cls, v):
        return v.clip(-cls.limit, cls.limit)

tool = Tool

def features(frame, weight=1.25, *, bias=0.75):
    """Adds columns."""
    out = frame.copy()
    # a comment
    local = out["x"] * SCALE
    out["f"] = local * weight + bias + OFFSETS["first"]
    out["g"] = reuse_helper.transform(out["z"]) + OFFSETS["second"][1]
    out["h"] = renamed(out[NAMES[0]]) + tool.clip(out["z"])
    return out

def build(frame):
    data = skrub.var("data", frame)
    X = data.drop(columns=["target"]).skb.mark_as_X()
    y = data["target"].skb.mark_as_y()
    made = X[["x", "z"]].skb.apply_func(features, weight=1.5)
    made = made.skb.apply_func(maker(2)).skb.apply_func(functools.partial(maker(3, offset=0.125)))
    made = made.assign(q=X["k"] * 2 + 1)
    scaled = made.fillna(0.0).skb.apply(StandardScaler(with_mean=True)).skb.apply(PolynomialFeatures(2))
    return scaled.skb.apply(Ridge(alpha=1.0, fit_intercept=True), y=y)

CV = KFold(3, shuffle=True, random_state=5)
SCORING = "r2"
'''


def table():
    rng = np.random.default_rng(3)
    n = 48
    return pd.DataFrame(
        {
            "x": rng.normal(size=n), "z": rng.normal(size=n), "k": rng.integers(0, 9, n),
            "target": rng.normal(size=n), "other": rng.choice(["u", "v", "wé"], n),
        }
    )  # fmt: skip


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "_engine", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    with stratum.config_context(reuse="memory", reuse_seconds=0):
        yield
    sys.modules.pop("reuse_helper", None)


class Lab:
    """Runs edits of the base, each with what is kept and without."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        assert self.run(SCRIPT, HELPER, table())[1] > 0
        assert self.run(SCRIPT, HELPER, table())[1] == 0  # the base itself is a hit

    def search(self, script, helper, frame):
        (self.folder / "reuse_helper.py").write_text(helper, encoding="utf-8")
        sys.modules.pop("reuse_helper", None)
        importlib.invalidate_caches()
        for cached in self.folder.glob("__pycache__/*"):
            cached.unlink()
        space = {"__name__": "a_script"}
        exec(compile(script, "a_script.py", "exec"), space)
        op = space["build"](frame)
        found = op.skb.make_grid_search(fitted=True, cv=space["CV"], scoring=space["SCORING"])
        fits = sum(op in ("fit", "call") for op, _, _ in stratum.last_run().profile)
        scores = [v for name, v in found.cv_results_.items() if "_test_" in name]
        scores.append(np.asarray(found.best_learner_.predict({"data": frame})))
        return scores, fits

    def run(self, script, helper, frame):
        return self.search(script, helper, frame)

    def check(self, script=SCRIPT, helper=HELPER, frame=None, same=False, what=""):
        frame = table() if frame is None else frame
        got, fits = self.run(script, helper, frame.copy())
        with stratum.config_context(reuse="off"):
            want, _ = self.search(script, helper, frame.copy())
        assert len(got) == len(want)
        for one, other in zip(got, want):
            np.testing.assert_array_equal(one, other, err_msg=f"stale: {what}")
        assert (fits == 0) is same, f"{what}: {fits} fits ran"
        self.count += 1


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def tokens(source, kind):
    """(start, end, text) of the tokens of a kind, as offsets."""
    lines = source.splitlines(keepends=True)
    starts = np.cumsum([0, *map(len, lines)])
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == kind:
            (row, column), (last, end) = token.start, token.end
            yield starts[row - 1] + column, starts[last - 1] + end, token.string


def edited(source, start, end, text):
    return source[:start] + text + source[end:]


# Numbers that no result depends on.
_IDLE_NUMBERS = {"17"}


def test_every_number_of_the_script_and_of_its_module(lab):
    for name, source in (("script", SCRIPT), ("helper", HELPER)):
        for start, end, text in tokens(source, tokenize.NUMBER):
            line = source[source.rfind("\n", 0, start) + 1 : source.find("\n", start)]
            if "[0]" in line and text == "0" or "[1]" in line and text == "1":
                continue  # an index: another one may be an error
            idle = text in _IDLE_NUMBERS or "return v + 1" in line
            new = edited(source, start, end, repr(type(eval(text))(eval(text) + 1)))
            lab.check(**{name: new}, same=idle, what=f"{name}: {line.strip()}: {text}")
    assert lab.count > 20


@pytest.mark.parametrize(
    "old,new",
    [
        ("# a comment", "# another comment\n    # and one more"),
        ('"""Adds columns."""', '"""Adds columns."""\n'),
        ("UNUSED = 17", "UNUSED = 18\nMORE = 1"),
        ("SCALE = 2.5", "\n\n\nSCALE = 2.5"),
        ("SCALE = 2.5", "SCALE = 5 / 2"),
        ("local", "somewhere_local"),
        ("def build(frame):\n    data", "def build(frame):\n    ignored = 3\n    data"),
        ("    made = X[", "    wanted = X[\"k\"]\n    made = X["),
        ("import numpy as np\n", "import numpy as np\nimport os, json\n"),
        ("tool = Tool\n", "tool = Tool\nsecond = Tool\n"),
    ],
)
def test_edits_that_change_nothing(lab, old, new):
    assert old in SCRIPT
    lab.check(script=SCRIPT.replace(old, new), same=True, what=new)


@pytest.mark.parametrize(
    "old,new",
    [
        ("def unused(v):\n    return v + 1", "def unused(v):\n    return v + 2"),
        ('"""What the pipeline imports."""', "# nothing"),
    ],
)
def test_edits_of_a_module_that_change_nothing(lab, old, new):
    assert old in HELPER
    lab.check(helper=HELPER.replace(old, new), same=True, what=new)


@pytest.mark.parametrize(
    "old,new",
    [
        ("out[\"x\"] * SCALE", "out[\"x\"] + SCALE"),
        ("out[\"x\"] * SCALE", "SCALE * out[\"z\"]"),
        ('NAMES = ("x", "z")', 'NAMES = ("z", "x")'),
        ('OFFSETS["first"]', 'OFFSETS["second"][0]'),
        ("v.clip(-cls.limit, cls.limit)", "v.clip(-cls.limit, 2 * cls.limit)"),
        (".abs() ** power", ".abs() * power"),
        ("features, weight=1.5", "features, weight=1.5, bias=0.5"),
        ("features, weight=1.5", "features"),
        ("with_mean=True", "with_mean=False"),
        ("with_mean=True", "with_mean=True, with_std=False"),
        ("fit_intercept=True", "fit_intercept=False"),
        ("PolynomialFeatures(2)", "PolynomialFeatures(2, interaction_only=True)"),
        ("PolynomialFeatures(2)", "PolynomialFeatures(2, include_bias=False)"),
        (".skb.apply(PolynomialFeatures(2))", ""),
        ("fillna(0.0)", "fillna(0.0).abs()"),
        ("KFold(3, shuffle=True, random_state=5)", "KFold(3)"),
        ("KFold(3, shuffle=True, random_state=5)", "4"),
        ("from reuse_helper import transform as renamed", "from reuse_helper import inner as renamed"),
        ("tool = Tool\n", "tool = Tool\ntool.limit = 0.5\n"),
        ("tool = Tool\n", "class Other(Tool):\n    limit = 0.25\ntool = Other\n"),
        ("SCALE = 2.5", "SCALE = np.float32(2.3)"),
        ("SCALE = 2.5", "SCALE = np.array([2.25])"),
        ("assign(q=X[\"k\"] * 2 + 1)", "assign(q=X[\"k\"] * 2.0 + 1)"),
        ("assign(q=X[\"k\"] * 2 + 1)", "assign(q=X[\"k\"] // 2 + 1)"),
        ("assign(q=X[\"k\"] * 2 + 1)", "assign(w=X[\"k\"] * 2 + 1)"),
        ("X[[\"x\", \"z\"]]", "X[[\"z\", \"x\"]]"),
        ("X[[\"x\", \"z\"]]", "X[[\"x\", \"z\", \"k\"]]"),
        ("Ridge(alpha=1.0", "Ridge(alpha=1.0, solver=\"svd\""),
        ("Ridge(alpha=1.0", "Ridge(alpha=1.0, tol=1e-2, solver=\"lsqr\""),
        ("Ridge(alpha=1.0", "Ridge(alpha=1.0, positive=True"),
    ],
)
def test_edits_that_change_something(lab, old, new):
    assert old in SCRIPT
    lab.check(script=SCRIPT.replace(old, new), what=new)


@pytest.mark.parametrize("scoring", ["neg_mean_squared_error", "neg_max_error", "explained_variance"])
def test_another_scoring_scores_again_what_was_fitted(lab, scoring):
    lab.check(script=SCRIPT.replace('SCORING = "r2"', f'SCORING = "{scoring}"'), same=True, what=scoring)


@pytest.mark.parametrize(
    "old,new",
    [
        ("v * FACTOR + Config.shift", "v * FACTOR - Config.shift"),
        ('names = ("x", "z")', 'names = ("x", "z", "w")'),
        ("shift = 0.25", "shift = np.float64(0.5)"),
        ("- len(Config.names)", "- 2 * len(Config.names)"),
    ],
)
def test_edits_of_a_module_that_change_something(lab, old, new):
    assert old in HELPER
    lab.check(helper="import numpy as np\n" + HELPER.replace(old, new), what=new)


def _in(frame, row, column, value):
    frame = frame.copy()
    frame.loc[row, column] = value
    return frame


def data_edits():
    """(what, how, whether results stay)."""
    numbers = ["x", "z", "target"]
    for column in numbers:
        for row in (0, 17, 47):
            yield f"{column}[{row}] + 1", lambda f, c=column, r=row: _in(f, r, c, f.loc[r, c] + 1), False
            yield f"{column}[{row}] next", lambda f, c=column, r=row: _in(f, r, c, np.nextafter(f.loc[r, c], 9)), False
        yield f"{column} swapped", lambda f, c=column: f.assign(**{c: f[c].to_numpy()[::-1].copy()}), False
        yield f"-{column}", lambda f, c=column: f.assign(**{c: -f[c]}), False
    for column in ("x", "z"):
        for bad in (np.nan, 0.0):
            yield f"{column} {bad}", lambda f, c=column, b=bad: _in(f, 5, c, b), False
        yield f"{column} float32", lambda f, c=column: f.astype({c: "float32"}), False
        yield f"{column} Float64", lambda f, c=column: f.astype({c: "Float64"}), False
    for row in range(0, 48, 5):
        yield f"k[{row}] + 1", lambda f, r=row: _in(f, r, "k", f.loc[r, "k"] + 1), False
    for dtype in ("int32", "int8", "float64", "Int64", "uint16"):
        yield f"k as {dtype}", lambda f, d=dtype: f.astype({"k": d}), False
    for rows in (24, 36, 46):
        yield f"{rows} rows", lambda f, n=rows: f.head(n), False
    yield "two rows exchanged", lambda f: f.iloc[[1, 0, *range(2, 48)]].reset_index(drop=True), False
    yield "all rows twice", lambda f: pd.concat([f, f], ignore_index=True), False
    yield "a duplicate index", lambda f: f.set_axis([*range(47), 0]), False
    yield "another index", lambda f: f.set_axis(range(1, 49)), False
    yield "an index of text", lambda f: f.set_axis([str(i) for i in range(48)]), False
    yield "a column more", lambda f: f.assign(more=1.0), False
    yield "columns turned round", lambda f: f[f.columns[::-1]], False
    yield "a copy", lambda f: f.copy(), True
    yield "read again", lambda f: pd.DataFrame({c: f[c].to_numpy(copy=True) for c in f}, columns=list(f)), True


def test_edits_of_the_data(lab):
    for what, how, same in data_edits():
        frame = how(table())
        # (What X's ancestors make of another frame of the same columns may be equal; a fit must run again.)
        lab.check(frame=frame, same=same, what=what)
    assert lab.count > 55


@pytest.mark.slow
def test_two_hundred_random_edits_of_the_data(lab):
    rng = np.random.default_rng(11)
    for n in range(200):
        frame = table()
        column = ["x", "z", "target", "k"][n % 4]
        row = int(rng.integers(48))
        change = n + 1 if column == "k" else float(rng.normal())
        frame.loc[row, column] += change
        lab.check(frame=frame, what=f"{column}[{row}] += {change}")
    assert lab.count == 200


FILE_SCRIPT = SCRIPT.replace('data = skrub.var("data", frame)', 'data = skrub.deferred(pd.read_csv)(frame)')


def test_files_by_their_content(tmp_path, lab):
    path = tmp_path / "table.csv"

    def results(**kwargs):
        space = {"__name__": "a_script"}
        exec(compile(FILE_SCRIPT, "a_script.py", "exec"), space)
        op = space["build"](str(path))
        found = op.skb.make_grid_search(fitted=True, cv=3)
        fits = sum(op == "fit" for op, _, _ in stratum.last_run().profile)
        return found.cv_results_["mean_test_score"], fits

    def check(same):
        got, fits = results()
        with stratum.config_context(reuse="off"):
            want, _ = results()
        np.testing.assert_array_equal(got, want)
        assert (fits == 0) is same

    table().to_csv(path, index=False)
    check(False)
    check(True)
    text, before = path.read_text(), os.stat(path)
    digits = [at + 3 for at in range(len(text)) if text.startswith("0.", at)]
    for at in digits[:: len(digits) // 20]:  # the same size, the same times, within the same second
        new = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        path.write_text(new)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.stat(path).st_size == before.st_size
        check(False)
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    check(True)  # put back
    os.replace(path, tmp_path / "elsewhere.csv")
    path.write_text(text)
    check(True)  # another file of the same content
