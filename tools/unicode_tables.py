#!/usr/bin/env python3
"""Write what the running Python knows of Unicode as a C header.

Run by the build (``src/meson.build``). ``str.lower``, ``str.isspace`` and ``\\w`` differ between versions of
Python, so the tables are those of the Python that the extension is built for. Code points fall into pages of
256; equal pages are stored once.
"""

from __future__ import annotations

import sys

WORD, SPACE, CASED, IGNORABLE, LOWERS, MANY = 1, 2, 4, 8, 16, 32
N_CODES = 0x110000


def final_sigma(pattern: str) -> list[bool]:
    """For each code point put into ``pattern`` before a capital sigma: whether that became a final one."""
    text = "\n".join(pattern.format(chr(code)) for code in range(N_CODES)).lower()
    # One line a code point; code points that are line ends to nobody but us are few: only "\n" itself.
    lines = text.split("\n")
    answers, at = [], 0
    for code in range(N_CODES):
        if code == 10:
            answers.append(lines[at + 1][-1:] == "\u03c2")
            at += 2
        else:
            answers.append(lines[at][-1:] == "\u03c2")
            at += 1
    return answers


def pages(values: list[int]) -> tuple[list[int], list[list[int]]]:
    """The number of its page for each block of 256 values, and the pages."""
    known: dict[tuple[int, ...], int] = {}
    index = []
    for start in range(0, len(values), 256):
        page = tuple(values[start : start + 256])
        index.append(known.setdefault(page, len(known)))
    return index, [list(page) for page in known]


def array(kind: str, name: str, values: list[int]) -> str:
    """A C array."""
    lines = [", ".join(map(str, values[at : at + 24])) for at in range(0, len(values), 24)]
    return f"static const {kind} {name}[{len(values)}] = {{\n" + ",\n".join(lines) + "};\n"


def main() -> None:
    """Write the header to the path in the first argument."""
    alone, after = final_sigma("{}\u03a3"), final_sigma("A{}\u03a3")
    flags, delta, many = [], [], []
    for code in range(N_CODES):
        char = chr(code)
        lower = char.lower() if code != 0x3A3 else "\u03c3"
        flag = WORD * (char.isalnum() or char == "_") + SPACE * char.isspace()
        flag += CASED * alone[code] + IGNORABLE * (after[code] and not alone[code])
        step = 0
        if lower != char:
            flag += LOWERS
            if len(lower) == 1:
                step = ord(lower) - code
            else:
                flag += MANY
                many.append((code, [ord(c) for c in lower]))
        flags.append(flag)
        delta.append(step)
    out = [f"/* Unicode of Python {sys.version.split()[0]}; written by tools/unicode_tables.py. */\n"]
    out.append("#include <stdint.h>\n")
    for name, value in (("WORD", WORD), ("SPACE", SPACE), ("CASED", CASED), ("IGNORABLE", IGNORABLE),
                        ("LOWERS", LOWERS), ("MANY", MANY)):  # fmt: skip
        out.append(f"#define ST_UNI_{name} {value}\n")
    for name, kind, values in (("flags", "uint8_t", flags), ("delta", "int32_t", delta)):
        index, found = pages(values)
        out.append(array("uint16_t", f"st_uni_{name}_page", index))
        out.append(array(kind, f"st_uni_{name}", [value for page in found for value in page]))
    width = max(len(chars) for _, chars in many)
    out.append(f"#define ST_UNI_MANY_WIDTH {width}\n")
    rows = ", ".join(
        f"{{{code}, {len(chars)}, {{{', '.join(map(str, chars))}}}}}" for code, chars in many
    )
    out.append(
        "static const struct {\n    uint32_t code, n, to[ST_UNI_MANY_WIDTH];\n} "
        f"st_uni_many[{len(many)}] = {{{rows}}};\n"
    )
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write("".join(out))


if __name__ == "__main__":
    main()
