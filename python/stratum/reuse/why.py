"""Why two results are not one: what differs between the encodings that their keys stand for.

Who may call it
    `stratum.cache` (``cache.why``, ``python -m stratum cache why A B``). For people only: nothing decides by it.

An encoding is the settings, the node (operator, version, attributes, keys of its inputs) and the output's number,
as ``_core.Recall.encoding`` writes them; attributes are C's (``src/graph/print.c``), values inside of them
`stratum.capture.encode`'s: tag, length, body. Long bodies are there as digests: they differ, and nobody can say
in what.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_DIGESTED = 1 << 63
_CODE_HEAD = 20
_U64 = struct.Struct("<Q")

# Types of attributes in C, in their order (ST_ATTR_TYPES), as far as they are told apart here.
_NONE, _BOOL, _INT, _FLOAT, _STR, _BYTES, _VALUE = range(7)
_CONTAINERS = {7: "list", 8: "tuple", 9: "set", 10: "frozenset", 11: "dict", 12: "slice"}
_SLOT = 13

_FIELDS = {
    "call": ("function", "arguments", "keywords", "globals", "closure", "defaults", "keyword defaults", "no_cache", "token"),
    "method": ("object", "method", "arguments", "keywords", "token"),
    "fit": ("method", "estimator", "X", "y", "unsupervised", "cols", "exclude_cols", "no_wrap", "allow_reject",
            "no_cache", "keywords", "seed", "subsampling"),
    "apply": ("method", "inner", "state", "X", "y", "no_cache", "keywords"),
    "score": ("fitted", "scorer", "methods", "predictions", "state", "X", "y", "scorers", "model", "held"),
}  # fmt: skip

# Bodies that hold pairs of a name and a value, and what a person calls them.
_PAIRS = {b"parm": "parameter", b"kwds": "keyword", b"glob": "global", b"attr": "attribute", b"fitd": "attribute",
          b"body": "member", b"dict": "key"}  # fmt: skip
_NAMES = {b"code": "code", b"opcd": "bytecode", b"cons": "constants", b"clos": "closure", b"esti": "estimator",
          b"func": "function", b"clsu": "class", b"clsl": "class", b"fnlb": "library function", b"ndar": "array",
          b"pddf": "data frame", b"pdse": "series", b"list": "list", b"tupl": "tuple", b"file": "file",
          b"nams": "names", b"data": "data", b"clos ": "closure"}  # fmt: skip


@dataclass
class Part:
    """A piece of an encoding: a tag, and its parts or what it says."""

    tag: bytes
    parts: list[Part] = field(default_factory=list)
    text: Any = None
    digested: bool = False

    def name(self) -> str:
        """What a person calls it."""
        what = _NAMES.get(self.tag, self.tag.decode("ascii", "replace").strip())
        if self.tag == b"func" and self.parts:
            return f"{what} {self.parts[0].text}"
        if self.tag in (b"clsl", b"fnlb", b"clsu") and len(self.parts) > 1:
            return f"{what} {self.parts[1].text}"
        if self.tag == b"esti" and self.parts and len(self.parts[0].parts) > 1:
            return str(self.parts[0].parts[1].text)
        return what


@dataclass
class Node:
    """A decoded encoding."""

    settings: Part
    op: str
    version: int
    attribute: Part
    inputs: list[tuple[int, bytes]]
    port: int


# -- Decoding ---------------------------------------------------------------------------------------


def _part(body: bytes, at: int) -> tuple[Part, int]:
    tag = body[at : at + 4]
    size = _U64.unpack_from(body, at + 4)[0]
    at += 12
    if size & _DIGESTED:
        return Part(tag, text=body[at : at + 16].hex(), digested=True), at + 16
    if at + size > len(body):
        raise ValueError("not an encoding")
    inside = body[at : at + size]
    return _inside(tag, inside), at + size


def _inside(tag: bytes, body: bytes) -> Part:
    if tag == b"str ":
        return Part(tag, text=body.decode("utf-8", "surrogatepass"))
    if tag == b"int ":
        return Part(tag, text=int.from_bytes(body, "little", signed=True))
    if tag == b"flt ":
        return Part(tag, text=struct.unpack("<d", body)[0])
    if tag in (b"none", b"true", b"fals"):
        return Part(tag, text={b"none": None, b"true": True, b"fals": False}[tag])
    if tag in (b"opcd", b"exct", b"byts", b"data", b"text"):
        return Part(tag, text=body)
    parts, at = [], 0
    try:
        if tag == b"code":  # numbers of arguments and flags stand after the interpreter's name, as they are
            first, at = _part(body, 0)
            parts = [first, Part(b"head", text=body[at : at + _CODE_HEAD])]
            at += _CODE_HEAD
        while at < len(body):
            if not body[at : at + 4].isascii():
                raise ValueError("not an encoding")
            part, at = _part(body, at)
            parts.append(part)
    except (ValueError, struct.error, KeyError):
        return Part(tag, text=body)
    return Part(tag, parts)


def _attribute(body: bytes, at: int) -> tuple[Part, int]:
    kind, word = body[at], _U64.unpack_from(body, at + 1)[0]
    at += 9
    if kind == _NONE:
        return Part(b"none"), at
    if kind == _BOOL:
        return Part(b"bool", text=bool(word)), at
    if kind == _INT:
        return Part(b"int ", text=word - (1 << 64) if word >> 63 else word), at
    if kind == _FLOAT:
        return Part(b"flt ", text=struct.unpack("<d", word.to_bytes(8, "little"))[0]), at
    if kind in (_STR, _BYTES):
        raw = body[at : at + word]
        return Part(b"str ", text=raw.decode("utf-8", "replace") if kind == _STR else raw), at + word
    if kind == _VALUE:
        part, end = _part(body, at) if word >= 12 else (Part(b"valu", text=body[at : at + word]), at + word)
        return (part, end) if end == at + word else (Part(b"valu", text=body[at : at + word]), at + word)
    if kind == _SLOT:
        return Part(b"slot", text=f"input {word}"), at
    parts = []
    for _ in range(word):
        part, at = _attribute(body, at)
        parts.append(part)
    return Part(_CONTAINERS[kind].encode(), parts), at


def decode(encoding: bytes) -> Node:
    """Take an encoding apart.

    Raises
    ------
    ValueError
        If it is none.
    """
    settings, at = _part(encoding, 0)
    size = _U64.unpack_from(encoding, at + 1)[0]
    op = encoding[at + 9 : at + 9 + size].decode()
    at += 9 + size
    version = _U64.unpack_from(encoding, at + 1)[0]
    attribute, at = _attribute(encoding, at + 9)
    inputs = []
    while encoding[at : at + 1] == b"I":
        port = _U64.unpack_from(encoding, at + 1)[0]
        inputs.append((port, encoding[at + 10 : at + 18] + encoding[at + 19 : at + 27]))
        at += 27
    if encoding[at : at + 1] != b"P":
        raise ValueError("not an encoding")
    return Node(settings, op, version, attribute, inputs, int.from_bytes(encoding[at + 1 : at + 5], "little"))


# -- Comparing --------------------------------------------------------------------------------------


def differences(one: bytes, other: bytes) -> list[str]:
    """What differs between two encodings, one line each; empty if they are equal."""
    if one == other:
        return []
    a, b = decode(one), decode(other)
    found = [f"settings: {line}" for line in _between(a.settings, b.settings, ())]
    if a.op != b.op:
        return [*found, f"the operation: {a.op} | {b.op}"]
    if a.version != b.version:
        found.append(f"version of the operation {a.op}: {a.version} | {b.version}")
    fields = _FIELDS.get(a.op, ())
    if len(a.attribute.parts) == len(b.attribute.parts):
        for i, (x, y) in enumerate(zip(a.attribute.parts, b.attribute.parts)):
            name = fields[i] if i < len(fields) else f"argument {i}"
            found += [f"{a.op}: {name}: {line}" for line in _between(x, y, ())]
    else:
        found += [f"{a.op}: {line}" for line in _between(a.attribute, b.attribute, ())]
    if len(a.inputs) != len(b.inputs):
        found.append(f"{a.op}: {len(a.inputs)} inputs | {len(b.inputs)}")
    else:
        for i, (x, y) in enumerate(zip(a.inputs, b.inputs)):
            if x != y:
                found.append(f"{a.op}: input {i} is another one: {x[1].hex()[:12]} | {y[1].hex()[:12]}")
    if a.port != b.port:
        found.append(f"the output: {a.port} | {b.port}")
    return found


def _between(a: Part, b: Part, path: tuple[str, ...]) -> Iterator[str]:
    if a == b:
        return
    where = " > ".join(path)
    if a.tag != b.tag or (not a.parts and not b.parts) or a.digested or b.digested:
        yield f"{where}: {_say(a)} | {_say(b)}" if where else f"{_say(a)} | {_say(b)}"
        return
    here = (*path, a.name()) if a.tag in _NAMES else path
    if a.tag in _PAIRS:
        yield from _between_pairs(a, b, here)
    elif len(a.parts) != len(b.parts):
        yield f"{' > '.join(here) or a.name()}: {len(a.parts)} parts | {len(b.parts)}"
    else:
        for x, y in zip(a.parts, b.parts):
            yield from _between(x, y, here)


def _between_pairs(a: Part, b: Part, path: tuple[str, ...]) -> Iterator[str]:
    what = _PAIRS[a.tag]
    ours = {str(k.text): v for k, v in zip(a.parts[::2], a.parts[1::2])}
    theirs = {str(k.text): v for k, v in zip(b.parts[::2], b.parts[1::2])}
    for name in [*ours, *(n for n in theirs if n not in ours)]:
        here = (*path, f"{what} {name}")
        if name not in theirs or name not in ours:
            yield f"{' > '.join(here)}: only in {'one' if name in ours else 'the other'}"
        else:
            yield from _between(ours[name], theirs[name], here)


def _say(part: Part) -> str:
    if part.digested:
        return f"{part.name()} with content {part.text[:12]}"
    if part.parts:
        return part.name()
    if isinstance(part.text, bytes):
        return f"{part.name()} of {len(part.text)} bytes"
    return repr(part.text)
