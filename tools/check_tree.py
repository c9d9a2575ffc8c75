#!/usr/bin/env python3
"""Check what the compiler does not: layers, source lists, formatting.

Run by ``make lint`` and ``make check``; needs nothing but the standard library, so that it also
runs before anything is installed. Three checks, each printed with the file and line at fault:

* layers: a file of ``src/`` includes only headers of its own layer or of lower ones, and nothing
  of ``src/``, ``include/`` or the C tests includes ``Python.h``;
* lists: every C source, public header, Python file, C test, example and fuzz driver stands in the
  list of its ``meson.build`` and every listed file exists (``--write`` brings the lists up to
  date);
* format: ``clang-format --dry-run`` over the C files, left out with a note where clang-format is
  not installed (``--no-format`` leaves it out).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Lowest first; directories on one line may not include each other.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"base"}),
    frozenset({"kernels"}),
    frozenset({"value"}),
    frozenset({"graph"}),
    frozenset({"native", "lower", "reuse"}),
    frozenset({"run"}),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def c_files(root: Path, *folders: str) -> list[Path]:
    """All C sources and headers below the given folders, sorted."""
    found: list[Path] = []
    for folder in folders:
        for pattern in ("*.c", "*.h"):
            found.extend((root / folder).rglob(pattern))
    return sorted(found)


def includes(path: Path) -> Iterable[tuple[int, str, str]]:
    """The ``(line, bracket, name)`` of each include of a C file, comments left out."""
    text = path.read_text(encoding="utf-8")
    # Blank comments out, keeping line ends, so that a commented include is not one.
    text = re.sub(
        r"/\*.*?\*/|//[^\n]*",
        lambda m: re.sub(r"[^\n]", " ", m.group()),
        text,
        flags=re.DOTALL,
    )
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1), match.group(2)


def check_layers(root: Path) -> list[str]:
    """Upward includes, unknown layers and uses of ``Python.h``."""
    problems = []
    src = root / "src"
    public_rank = public_header_ranks(root)
    for path in c_files(root, "src", "include", "tests/c", "examples", "fuzz"):
        where = path.relative_to(root)
        in_src = where.parts[0] == "src"
        layer = where.parts[1] if in_src and len(where.parts) > 2 else None
        if in_src and layer not in RANK:
            problems.append(f"{where}: not in a layer; the layers are {', '.join(RANK)}")
            continue
        for line, bracket, name in includes(path):
            if name == "Python.h" or name.startswith("numpy/"):
                problems.append(f"{where}:{line}: libstratum knows nothing of Python: {name}")
            if layer is None:
                continue
            target = resolve(src, path, bracket, name)
            if target is not None and target in RANK:
                if RANK[target] > RANK[layer] or (
                    RANK[target] == RANK[layer] and target != layer
                ):
                    problems.append(f"{where}:{line}: {layer} must not include {name} ({target})")
            elif name.startswith("stratum/"):
                stem = name.removeprefix("stratum/").removesuffix(".h")
                if public_rank.get(stem, -1) > RANK[layer]:
                    problems.append(f"{where}:{line}: {layer} must not include {name}")
    return problems


def public_header_ranks(root: Path) -> dict[str, int]:
    """Rank of each public header: that of the layer of its name, or of what it includes."""
    folder = root / "include" / "stratum"
    direct = {
        path.stem: [
            name.removeprefix("stratum/").removesuffix(".h")
            for _, _, name in includes(path)
            if name.startswith("stratum/")
        ]
        for path in sorted(folder.glob("*.h"))
    }
    ranks: dict[str, int] = {}

    def rank(stem: str, above: tuple[str, ...]) -> int:
        if stem in ranks:
            return ranks[stem]
        if stem in above:
            return -1  # a cycle, held by include guards; the others on it decide
        value = max(
            [RANK.get(stem, -1)] + [rank(s, (*above, stem)) for s in direct.get(stem, [])]
        )
        ranks[stem] = value
        return value

    for stem in direct:
        rank(stem, ())
    return ranks


def resolve(src: Path, path: Path, bracket: str, name: str) -> str | None:
    """The layer that an include of a file of ``src/`` leads to; None when outside ``src/``."""
    if bracket == '"':
        beside = (path.parent / name).resolve()
        if beside.is_file() and src.resolve() in beside.parents:
            return beside.relative_to(src.resolve()).parts[0]
    below = src / name
    return name.split("/")[0] if below.is_file() else None


def wanted_lists(root: Path) -> dict[tuple[str, str], list[str]]:
    """What each list of a ``meson.build`` must hold: ``{(file, variable): entries}``."""

    def below(folder: str, *patterns: str) -> list[str]:
        base = root / folder
        found = {
            p.relative_to(base).as_posix()
            for pattern in patterns
            for p in base.rglob(pattern)
            if "__pycache__" not in p.parts
        }
        return sorted(found, key=lambda name: (name.count("/") > 0, name))

    def programs(folder: str, prefix: str) -> list[str]:
        found = sorted((root / folder).glob(f"{prefix}*.c"))
        return [p.stem.removeprefix(prefix) for p in found]

    return {
        ("include/stratum/meson.build", "public_headers"): below("include/stratum", "*.h"),
        ("src/meson.build", "stratum_sources"): below("src", "*.c"),
        ("python/stratum/meson.build", "core_sources"): below("python/stratum", "*.c"),
        ("python/stratum/meson.build", "python_sources"): below(
            "python/stratum", "*.py", "*.pyi", "py.typed"
        ),
        ("tests/c/meson.build", "c_tests"): programs("tests/c", "test_"),
        ("examples/meson.build", "c_examples"): programs("examples", ""),
        ("fuzz/meson.build", "c_fuzzers"): programs("fuzz", "fuzz_"),
    }


def list_pattern(variable: str) -> re.Pattern[str]:
    """Matches one list of strings assigned in a ``meson.build``."""
    return re.compile(
        rf"^({variable} = (?:files\(|\[)\n)(.*?)^([)\]])$", re.MULTILINE | re.DOTALL
    )


def check_lists(root: Path, write: bool) -> list[str]:
    """Files that no list names, and names that no file has; mends them with ``write``."""
    problems = []
    for (file, variable), wanted in wanted_lists(root).items():
        path = root / file
        if not path.is_file():
            problems.append(f"{file}: missing")
            continue
        text = path.read_text(encoding="utf-8")
        match = list_pattern(variable).search(text)
        if match is None:
            problems.append(f"{file}: no list {variable}")
            continue
        listed = re.findall(r"'([^']*)'", match.group(2))
        if listed == wanted:
            continue
        if write:
            entries = "".join(f"  '{name}',\n" for name in wanted)
            path.write_text(
                text[: match.start(2)] + entries + text[match.end(2) :], encoding="utf-8"
            )
            print(f"{file}: {variable} written, {len(wanted)} entries")
            continue
        for name in sorted(set(wanted) - set(listed)):
            problems.append(f"{file}: {variable} lacks {name} (tools/check_tree.py --write)")
        for name in sorted(set(listed) - set(wanted)):
            problems.append(f"{file}: {variable} names {name}, which does not exist")
        if set(listed) == set(wanted):
            problems.append(f"{file}: {variable} is not sorted (tools/check_tree.py --write)")
    return problems


def find_clang_format(root: Path) -> str | None:
    """clang-format beside the running Python, in ``.venv`` or on the path."""
    for folder in (Path(sys.executable).parent, root / ".venv" / "bin"):
        if (folder / "clang-format").exists():
            return str(folder / "clang-format")
    return shutil.which("clang-format")


def all_c(root: Path) -> list[Path]:
    """Every C file whose format is ours."""
    return c_files(root, "include", "src", "python/stratum", "tests/c", "examples", "fuzz")


def check_format(root: Path) -> list[str]:
    """C files that clang-format would change."""
    program = find_clang_format(root)
    if program is None:
        print("check_tree: clang-format is not installed, format not checked", file=sys.stderr)
        return []
    files = all_c(root)
    if not files:
        return []
    problems = []
    for path in files:
        wanted = subprocess.run(
            [program, "--style=file", str(path)], capture_output=True, text=True, check=True
        ).stdout
        if wanted != path.read_text(encoding="utf-8"):
            problems.append(f"{path.relative_to(root)}: not as clang-format has it (make format)")
    return problems


def main(argv: list[str] | None = None) -> int:
    """Run the checks; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description="Check the layers, lists and format of the tree.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to check")
    parser.add_argument("--write", action="store_true", help="bring the source lists up to date")
    parser.add_argument("--no-format", action="store_true", help="leave clang-format out")
    arguments = parser.parse_args(argv)
    root = arguments.root.resolve()
    problems = check_lists(root, arguments.write)
    if not arguments.write:
        problems += check_layers(root)
        if not arguments.no_format:
            problems += check_format(root)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"check_tree: {len(problems)} problem(s)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
