"""The checks of tools/check_tree.py: each finds what it is for, and the tree passes them."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("check_tree", ROOT / "tools" / "check_tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_tree = load()

MESON = {
    "include/stratum/meson.build": "public_headers = files(\n)\n",
    "src/meson.build": "stratum_sources = files(\n)\n",
    "python/stratum/meson.build": "core_sources = files(\n)\n\npython_sources = [\n]\n",
    "tests/c/meson.build": "c_tests = [\n]\n",
    "examples/meson.build": "c_examples = [\n]\n",
    "fuzz/meson.build": "c_fuzzers = [\n]\n",
}


class Tree:
    """A small tree in a temporary folder: some layers, empty source lists."""

    def __init__(self, root):
        self.root = root
        for name, text in MESON.items():
            self.add(name, text)
        self.add("include/stratum/base.h")
        self.add("include/stratum/graph.h", "#include <stratum/base.h>\n")
        self.add("include/stratum/more.h", "#include <stratum/graph.h>\n")
        self.add("src/base/base.c", '#include "base/base.h"\n#include <stdio.h>\n')
        self.add("src/base/base.h", "#include <stratum/base.h>\n")
        self.add("src/graph/graph.c", '#include "graph.h"\n#include "../base/base.h"\n')
        self.add("src/graph/graph.h", "#include <stratum/graph.h>\n")
        self.add("src/lower/lower.h")
        self.add("src/reuse/reuse.c", '#include "graph/graph.h"\n')

    def add(self, name, text=""):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def layers(self):
        return check_tree.check_layers(self.root)

    def lists(self, write=False):
        return check_tree.check_lists(self.root, write)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_our_tree():
    assert check_tree.check_layers(ROOT) == []
    assert check_tree.check_lists(ROOT, write=False) == []


def test_a_good_tree(tree):
    assert tree.layers() == []


@pytest.mark.parametrize(
    "file, include",
    [
        ("src/base/base.c", '#include "graph/graph.h"'),
        ("src/base/base.c", '#include "../graph/graph.h"'),
        ("src/base/base.c", "#include <graph/graph.h>"),
        ("src/base/base.c", "  #  include <stratum/graph.h>"),
        ("src/base/base.c", "#include <stratum/more.h>"),
        ("src/base/base.h", '#include "lower/lower.h"'),
        ("src/graph/graph.c", '#include "../lower/lower.h"'),
        ("src/reuse/reuse.c", '#include "lower/lower.h"'),
        ("src/graph/graph.c", "#include <Python.h>"),
        ("src/graph/graph.h", "#include <numpy/arrayobject.h>"),
        ("include/stratum/base.h", "#include <Python.h>"),
        ("tests/c/test_base.c", "#include <Python.h>"),
    ],
)
def test_upward_include(tree, file, include):
    tree.add(file, f"/* first line */\n{include}\n")
    (problem,) = tree.layers()
    assert problem.startswith(f"{file}:2: ")


def test_comments_are_not_includes(tree):
    tree.add(
        "src/base/base.c",
        '/* no\n#include "graph/graph.h"\n*/\n// #include "graph/graph.h"\nint x;\n',
    )
    assert tree.layers() == []


def test_folder_that_is_no_layer(tree):
    tree.add("src/misc/misc.c")
    tree.add("src/loose.c")
    assert sorted(problem.split(":")[0] for problem in tree.layers()) == [
        "src/loose.c",
        "src/misc/misc.c",
    ]


def test_lists(tree):
    tree.add("python/stratum/_core/module.c")
    tree.add("python/stratum/__init__.py")
    tree.add("python/stratum/_core.pyi")
    tree.add("python/stratum/py.typed")
    tree.add("python/stratum/part/__init__.py")
    tree.add("python/stratum/part/__pycache__/x.py")
    tree.add("tests/c/test_base.c")
    tree.add("examples/hello.c")
    tree.add("fuzz/fuzz_graph.c")
    missing = tree.lists()
    for name in [
        "stratum/meson.build: public_headers lacks base.h",
        "src/meson.build: stratum_sources lacks base/base.c",
        "core_sources lacks _core/module.c",
        "python_sources lacks __init__.py",
        "python_sources lacks _core.pyi",
        "python_sources lacks py.typed",
        "python_sources lacks part/__init__.py",
        "c_tests lacks base",
        "c_examples lacks hello",
        "c_fuzzers lacks graph",
    ]:
        assert any(name in problem for problem in missing), name
    assert not any("__pycache__" in problem for problem in missing)
    assert tree.lists(write=True) == []
    assert tree.lists() == []
    (tree.root / "src/base/base.c").unlink()
    (problem,) = tree.lists()
    assert "stratum_sources names base/base.c, which does not exist" in problem


def test_list_that_is_gone(tree):
    tree.lists(write=True)
    tree.add("tests/c/meson.build", "tests = []\n")
    assert tree.lists() == ["tests/c/meson.build: no list c_tests"]


def test_main_answers_with_the_exit_status(tree, capsys):
    assert check_tree.main(["--root", str(tree.root), "--no-format", "--write"]) == 0
    assert check_tree.main(["--root", str(tree.root), "--no-format"]) == 0
    tree.add("src/base/base.c", '#include "graph/graph.h"\n')
    assert check_tree.main(["--root", str(tree.root), "--no-format"]) == 1
    assert "src/base/base.c:1: base must not include graph/graph.h" in capsys.readouterr().err


def test_format(tree):
    if check_tree.find_clang_format(tree.root) is None:
        pytest.skip("clang-format is not installed")
    tree.add(".clang-format", (ROOT / ".clang-format").read_text())
    tree.add("src/base/base.c", "int f(void)\n{\n    int x = 1;\n    return x;\n}\n")
    assert check_tree.check_format(tree.root) == []
    tree.add("src/base/base.c", "int f( void ) {\n  return 1; }\n")
    (problem,) = check_tree.check_format(tree.root)
    assert problem.startswith("src/base/base.c: not as clang-format has it")


def private_imports(path):
    """What a file imports of skrub and scikit-learn under private names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in ("skrub", "sklearn") and any(p.startswith("_") and not p.startswith("__") for p in parts):
                yield name


def test_private_names_of_the_libraries_stand_where_contributing_says():
    root = ROOT / "python" / "stratum"
    found = {p.relative_to(root).as_posix() for p in root.rglob("*.py") if any(private_imports(p))}
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Style")[2].partition("\n## ")[0]
    told = told.partition("- Private names")[2].partition("\n- ")[0]
    assert "hosts/_skrub_0_11.py" in found and "native/_sklearn.py" in found
    for name in found:
        assert name.removeprefix("hosts/").removeprefix("native/") in told, name
