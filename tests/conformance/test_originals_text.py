"""The originals' own tests, run against the estimators of `stratum.native`.

They ship in the wheels of scikit-learn and skrub. Each file is taken with one line more after its imports,
which puts the native classes in the places of the original ones, and the sizes below which they leave the work
to the original are set to nothing: the tests' data are small. Every test must pass that passes with the
originals.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

# Test module -> the classes that are replaced, how many tests pass at least.
MODULES = {
    "sklearn.feature_extraction.tests.test_text": (
        ["CountVectorizer", "TfidfTransformer", "TfidfVectorizer", "HashingVectorizer"], 130,
    ),
    "skrub.tests.test_string_encoder": (["StringEncoder"], 30),
}  # fmt: skip

EXPECTED: dict[str, str] = {}


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("exactness", ["identical", "equivalent"])
def test_originals_tests(module: str, exactness: str, tmp_path: pathlib.Path) -> None:
    if exactness == "identical" and "sklearn" in module:
        pytest.skip("has no other exactness")
    names, least = MODULES[module]
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    source = pathlib.Path(found.origin).read_text(encoding="utf-8")
    # After the last import of the head of the file.
    ends = [m.end() for m in re.finditer(r"^(?:import .*|from [^(\n]*|from [^)]*\))$", source, re.M)]
    head = max(end for end in ends if not re.search(r"^(?:def|class|@) ?", source[:end], re.M))
    line = f"\nfrom stratum.native import {', '.join(names)}\n"
    path = tmp_path / "test_taken.py"
    path.write_text(source[:head] + line + source[head:], encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "from sklearn.conftest import *\nfrom stratum.native._config import _exactness\n"
        f"_exactness.set({exactness!r})\n"
        "import stratum.native.string_encoder as encoder, stratum.native.text as text\n"
        "text.FEW, text.LOOKUPS, encoder.FEW = 1, dict.fromkeys(text.LOOKUPS, 0), 1\n"
        "count, calls = text._core.text_count, []\n"
        "text._core.text_count = lambda *args: (calls.append(1), count(*args))[1]\n"
        "def pytest_terminal_summary(terminalreporter):\n"
        "    terminalreporter.write_line(f'counted {len(calls)} times')\n" + ("from skrub.conftest import *\n" if "skrub" in module else ""),
        encoding="utf-8",
    )
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", str(path), "-W", "ignore",
    ]  # fmt: skip
    run = subprocess.run(
        command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=900
    )
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", run.stdout, re.M))
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed.group(1)) >= least, run.stdout[-3000:] + run.stderr[-3000:]
    assert failed <= set(EXPECTED), run.stdout[-6000:]
    counted = re.search(r"^counted (\d+) times", run.stdout, re.M)
    assert counted is not None and int(counted.group(1)) > least, run.stdout[-3000:]
