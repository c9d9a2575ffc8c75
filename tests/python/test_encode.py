"""Tests of the canonical encodings that are the structural keys of nodes.

Equal bytes must mean "interchangeable"; every pair that must be told apart
stands here, and so does every pair that must be recognised as the same.
"""

import abc
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import importlib.util
import logging
import math
import operator
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import textwrap
import time
import types
import uuid
import zoneinfo

import pytest

CAPTURE = pathlib.Path(__file__).parents[2] / "python" / "stratum" / "capture"


def _load(name):
    """The module from the installed package, or from its file without it."""
    try:
        return importlib.import_module(f"stratum.capture.{name}")
    except ImportError:
        spec = importlib.util.spec_from_file_location(f"_capture_{name}", CAPTURE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module


E = _load("encode")
encode = E.encode

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")


def same(a, b):
    left, right = encode(a), encode(b)
    assert left is not None, E.reason_not_encodable(a)
    assert right is not None, E.reason_not_encodable(b)
    return left == right


def all_distinct(values):
    codes = [encode(v) for v in values]
    for value, code in zip(values, codes, strict=True):
        assert code is not None, (value, E.reason_not_encodable(value))
    for i, one in enumerate(codes):
        for j in range(i):
            assert one != codes[j], (values[i], values[j])


# -- scalars ---------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Shade(enum.Enum):
    RED = 1


class Bits(enum.Flag):
    A = 1
    B = 2


def _nan(payload):
    return struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000000 | payload))[0]


def test_scalars_that_python_takes_for_equal_are_distinct():
    all_distinct(
        [
            True,
            1,
            1.0,
            complex(1),
            "1",
            b"1",
            bytearray(b"1"),
            decimal.Decimal(1),
            decimal.Decimal("1.0"),
            fractions.Fraction(1),
            np.int64(1),
            np.int32(1),
            np.uint64(1),
            np.float64(1.0),
            np.float32(1.0),
            np.bool_(True),
            np.str_("1"),
            np.array(1),
            np.datetime64(1, "s"),
            np.datetime64(1, "ms"),
            np.timedelta64(1, "s"),
            Colour.RED,
            Shade.RED,
            Bits.A,
            None,
            ...,
            NotImplemented,
            "None",
            (1,),
            [1],
            {1},
            frozenset({1}),
            {1: 1},
            range(1),
            slice(1),
        ]
    )


def test_same_hash_is_not_same_key():
    assert hash(-1) == hash(-2)
    all_distinct([-1, -2, 2**61 - 2, -(2**61)])
    assert hash(2**61 - 1) == hash(0)
    all_distinct([0, 2**61 - 1, 255, 256, -128, 128, -129, 2**64, -(2**64), 10**4000])


def test_floats_by_bits():
    all_distinct([0.0, -0.0, math.inf, -math.inf, _nan(0), _nan(1), 5e-324])
    assert same(_nan(1), _nan(1))
    all_distinct([complex(0.0, 0.0), complex(0.0, -0.0)])


def test_dates_and_times():
    utc = datetime.timezone.utc
    day = datetime.datetime(2020, 1, 1)
    all_distinct(
        [
            datetime.date(2020, 1, 1),
            day,
            day.replace(fold=1),
            day.replace(tzinfo=utc),
            day.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            datetime.time(1),
            datetime.time(1, tzinfo=utc),
            datetime.timedelta(1),
            utc,
            datetime.timezone(datetime.timedelta(hours=1)),
            datetime.timezone(datetime.timedelta(hours=1), "x"),
            pd.Timestamp(day),
            pd.Timestamp(day).as_unit("s"),
            pd.Timestamp(day).as_unit("ns"),
            pd.Timestamp(day, tz="UTC"),
            pd.Timedelta(days=1),
            pd.Period("2020-01", "M"),
            pd.Interval(0, 1),
            pd.Interval(0, 1, closed="left"),
            pd.NaT,
            pd.NA,
            math.nan,
            pd.offsets.Day(1),
            pd.offsets.Day(2),
            pd.offsets.Week(weekday=1),
            pd.offsets.Week(weekday=2),
        ]
    )
    assert same(pd.Timestamp(day, tz="UTC"), pd.Timestamp(day, tz="UTC"))


def test_other_values():
    key = uuid.UUID(int=5)
    all_distinct(
        [
            key,
            pathlib.Path("a"),
            pathlib.PurePosixPath("a"),
            "a",
            re.compile("a"),
            re.compile("a", re.I),
            re.compile(b"a"),
            range(3),
            range(0, 3, 2),
            slice(0, 3),
            slice(None, 3),
            Bits.A | Bits.B,
            Bits.B,
            operator.itemgetter("a"),
            operator.itemgetter("a", "b"),
            operator.attrgetter("a"),
            operator.methodcaller("a"),
            operator.methodcaller("a", 1),
            random.Random(0),
            random.Random(1),
            memoryview(b"a"),
            "\ud800\udc00",
            "\U00010000",
        ]
    )
    assert same(random.Random(3), random.Random(3))


# -- containers ------------------------------------------------------------


def test_containers_keep_order_and_kind():
    all_distinct(
        [
            ["a", "b"],
            ["b", "a"],
            ("a", "b"),
            ["ab"],
            ["a", ["b"]],
            [["a"], "b"],
            ["a", "b", ""],
            {"a": 1, "b": 2},
            {"b": 2, "a": 1},
            {"a": 1},
            [("a", 1)],
            collections.OrderedDict(a=1),
            collections.defaultdict(int, a=1),
            collections.defaultdict(list, a=1),
            collections.Counter(a=1),
            collections.deque(["a", "b"]),
            collections.deque(["a", "b"], 2),
            types.SimpleNamespace(a=1),
            types.MappingProxyType({"a": 1}),
            {"a", "b"},
            frozenset("ab"),
        ]
    )


def test_sets_do_not_depend_on_their_order():
    letters = [chr(97 + i) for i in range(26)]
    assert same(set(letters), set(reversed(letters)))
    assert same({(1, 2), "x", None}, {None, "x", (1, 2)})
    assert not same({1}, {1.0})
    assert not same({-1}, {-2})


def test_items_near_the_limit_of_digests():
    for size in (E.INLINE_BYTES - 1, E.INLINE_BYTES, E.INLINE_BYTES + 1, 70_000):
        assert not same("a" * size, "a" * (size - 1) + "b")
        assert not same("a" * size, b"a" * size)
        assert same("a" * size, "a" * size)
    long = "x" * 5000
    assert len(encode(long)) < 100
    assert not same([long], [long, long])


def test_cycles_end():
    a = [1]
    a.append(a)
    b = [1]
    b.append(b)
    assert same(a, b)
    c = [2]
    c.append(c)
    assert not same(a, c)
    d = {"x": a}
    d["d"] = d
    assert encode(d) is not None
    inner = []
    t = (inner,)
    inner.append(t)
    assert encode(t) is not None


def test_aliases_of_mutable_objects_show_and_those_of_immutable_do_not():
    inner = [1]
    assert not same([inner, inner], [[1], [1]])
    pair = tuple([1, 2])
    assert same([pair, pair], [tuple([1, 2]), tuple([1, 2])])
    assert same([inner, inner], (lambda x: [x, x])([1]))


def test_diamonds_are_linear():
    lists, tuples, sets = [], (), frozenset()
    for _ in range(60):
        lists, tuples = [lists, lists], (tuples, tuples)
        sets = frozenset({sets, "x"})
    assert encode(lists) is not None
    assert encode(tuples) is not None
    assert encode(sets) is not None


def test_deep_nesting_does_not_crash():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert encode(deep) is None
    deep_tuple = ()
    for _ in range(100_000):
        deep_tuple = (deep_tuple,)
    assert encode(deep_tuple) is None
    assert "deep" in E.reason_not_encodable(deep)
    while deep:  # freed from the outside, not by recursion
        deep = deep[0]


def test_nearly_full_stack_is_identity_not_a_crash():
    def at_depth(n):
        return encode([[[[1]]]]) if n == 0 else at_depth(n - 1)

    results = set()
    for n in range(0, sys.getrecursionlimit()):
        try:
            results.add(at_depth(n))
        except RecursionError:
            break
    assert results <= {None, encode([[[[1]]]])}
    assert encode([[[[1]]]]) in results


def test_subclasses_of_builtins_are_not_their_base():
    class MyDict(dict):
        pass

    class MyList(list):
        pass

    class MyStr(str):
        pass

    class MyInt(int):
        pass

    class MyFrame(pd.DataFrame):
        pass

    class MyArray(np.ndarray):
        pass

    class Plain:
        pass

    values = (MyDict(a=1), MyList([1]), MyStr("a"), MyInt(1), MyFrame({"a": [1]}))
    for value in (*values, np.zeros(2).view(MyArray), Plain(), object(), iter([])):
        assert encode(value) is None
        assert encode([value]) is None
        assert encode({"a": (value,)}) is None
        assert encode(functools.partial(len, value)) is None
        assert E.reason_not_encodable(value)


def test_named_tuples_and_dataclasses():
    @dataclasses.dataclass
    class Point:
        x: int
        y: int = 0

    @dataclasses.dataclass(frozen=True, slots=True)
    class Slotted:
        x: int

    Pair = collections.namedtuple("Pair", "x y")
    Other = collections.namedtuple("Other", "x y")
    all_distinct(
        [Point(1), Point(2), Point(0, 1), Slotted(1), Slotted(2), Pair(1, 2), Other(1, 2), (1, 2)]
    )
    assert same(Point(1), Point(1, 0))
    assert same(Pair(1, 2), Pair(1, 2))
    assert encode(Point(object())) is None


def test_own_encoding():
    class Own:
        def __init__(self, value):
            self.value = value

        def __stratum_encode__(self):
            return self.value

    class Own2(Own):
        pass

    all_distinct([Own(b"a"), Own(b"b"), Own2(b"a"), b"a"])
    assert same(Own(b"a"), Own(b"a"))
    assert encode(Own(None)) is None
    with pytest.raises(TypeError, match="must return bytes"):
        encode(Own("text"))


def test_own_encoding_is_looked_up_on_the_class():
    class Lazy:
        def __getattr__(self, name):
            raise AssertionError(f"the instance was asked for {name}")

    assert encode(Lazy()) is None


# -- NumPy -----------------------------------------------------------------


def test_arrays_by_dtype_shape_and_content():
    a = np.arange(6)
    all_distinct(
        [
            a,
            a.astype("i4"),
            a.astype("u8"),
            a.astype("f8"),
            a.astype(">i8"),
            a.astype("M8[s]"),
            a.astype("M8[ms]"),
            a.astype("m8[s]"),
            a.reshape(2, 3),
            a.reshape(3, 2),
            a[:5],
            a[::-1],
            a.tolist(),
            a.astype("S2"),
            a.astype("U2"),
            a.astype("U3"),
            a.astype(object),
            np.zeros(0),
            np.zeros((0, 2)),
            np.zeros((2, 0)),
            np.array([0.0]),
            np.array([-0.0]),
            np.array([True]),
            np.array(["x"], dtype=object),
            np.array([None], dtype=object),
            np.array([np.nan], dtype=object),
        ]
    )


def test_layout_is_no_part_of_the_key():
    base = np.arange(24.0).reshape(4, 6)
    assert same(base[:, ::2], base[:, ::2].copy())
    assert same(base, np.asfortranarray(base))
    assert same(base.T, base.T.copy())
    frozen = base.copy()
    frozen.flags.writeable = False
    assert same(base, frozen)
    assert same(np.broadcast_to(np.float64(1), (3, 3)), np.ones((3, 3)))
    assert same(base.astype(object)[:, ::2], base.astype(object)[:, ::2].copy())
    unaligned = np.frombuffer(b"x" + np.arange(3.0).tobytes(), np.float64, 3, 1)
    assert same(unaligned, np.arange(3.0))


def test_object_arrays_tell_gaps_apart():
    def column(*values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array

    all_distinct(
        [
            column("a", None),
            column("a", np.nan),
            column("a", _nan(1)),
            column("a", pd.NA),
            column("a", pd.NaT),
            column("a", ""),
            column("a", "None"),
            column("a", 1),
            column("a", 1.0),
            column("a", True),
            column("a", b""),
            column("a", "b"),
            column("ab", ""),
            column("", "ab"),
            column(None, "a"),
        ]
    )
    assert same(column("a", None), column("a", None))
    assert encode(column("a", object())) is None


def test_structured_arrays_ignore_what_lies_between_fields():
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    left = np.frombuffer(bytearray(b"\x00" * 32), dtype=dtype)
    right = np.frombuffer(bytearray(b"\xff" * 32), dtype=dtype)
    for array in (left, right):
        array["a"], array["b"] = [1, 2], [3.0, 4.0]
    assert left.tobytes() != right.tobytes()
    assert same(left, right)
    packed = left.astype([("a", "i1"), ("b", "f8")])
    assert not same(left, packed)
    renamed = left.astype(np.dtype([("a", "i1"), ("c", "f8")], align=True))
    assert not same(left, renamed)
    nested = np.zeros(2, dtype=[("a", "i4", (2,)), ("o", object)])
    other = nested.copy()
    other["a"][1, 1] = 1
    assert not same(nested, other)


def test_dtypes():
    all_distinct(
        [
            np.dtype("f8"),
            np.dtype("f4"),
            np.dtype(">f8"),
            np.dtype("M8[s]"),
            np.dtype("M8[ns]"),
            np.dtype("U3"),
            np.dtype(object),
            np.dtype([("a", "f8")]),
            np.dtype(("f8", (2,))),
            np.float64,
            float,
            pd.Int64Dtype(),
            pd.Int32Dtype(),
            pd.BooleanDtype(),
            pd.CategoricalDtype(["a"]),
            pd.CategoricalDtype(["a"], ordered=True),
            pd.DatetimeTZDtype("ns", "UTC"),
            pd.DatetimeTZDtype("s", "UTC"),
            pd.StringDtype("python"),
            pd.PeriodDtype("D"),
            pd.SparseDtype("f8"),
            pd.SparseDtype("f8", 0.0),
        ]
    )
    assert encode(np.dtype("f8", metadata={"a": 1})) is None


def test_generators_by_state():
    all_distinct(
        [
            np.random.RandomState(0),
            np.random.RandomState(1),
            np.random.default_rng(0),
            np.random.default_rng(1),
            np.random.Generator(np.random.MT19937(0)),
            np.random.PCG64(0),
            np.random.SeedSequence(0),
            np.random.SeedSequence(1),
        ]
    )
    assert same(np.random.RandomState(7), np.random.RandomState(7))
    assert same(np.random.default_rng(7), np.random.default_rng(7))
    drawn = np.random.default_rng(7)
    drawn.random()
    assert not same(drawn, np.random.default_rng(7))
    spawned = np.random.default_rng(7)
    spawned.spawn(1)
    assert not same(spawned, np.random.default_rng(7))


def test_sparse():
    sp = pytest.importorskip("scipy.sparse")
    dense = np.array([[0, 1.0], [2.0, 0]])
    kinds = [sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix, sp.bsr_array]
    all_distinct([dense, *(kind(dense) for kind in kinds), sp.csr_array(dense * 2)])
    assert same(sp.csr_array(dense), sp.csr_array(dense.copy()))
    assert not same(sp.csr_array((2, 3)), sp.csr_array((3, 2)))


# -- pandas ----------------------------------------------------------------


def frames():
    base = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    with_attrs = base.copy()
    with_attrs.attrs["k"] = 1
    yield "base", base
    yield "swapped columns", base[["b", "a"]]
    yield "duplicated column", base[["a", "b", "b"]]
    yield "renamed", base.rename(columns={"a": "c"})
    yield "columns' name", base.rename_axis(columns="n")
    yield "index", base.set_axis([1, 2])
    yield "index as list", base.set_axis(pd.Index([0, 1]))
    yield "index's name", base.rename_axis("n")
    yield "dates as index", base.set_axis(pd.to_datetime(["2020", "2021"]))
    yield "multi", base.set_axis(pd.MultiIndex.from_tuples([(1, 2), (3, 4)]))
    yield "attrs", with_attrs
    yield "flags", base.set_flags(allows_duplicate_labels=False)
    yield "float", base.astype({"a": float})
    yield "int32", base.astype({"a": "int32"})
    yield "nullable", base.astype({"a": "Int64"})
    yield "object", base.astype({"b": object})
    yield "category", base.astype({"b": "category"})
    yield "python string", base.astype({"b": pd.StringDtype("python")})
    yield "na string", base.astype({"b": "string"})
    yield "empty", base.iloc[:0]
    yield "no columns", base[[]]
    yield "rows", base.iloc[::-1]
    yield "series", base["a"]
    yield "other series", base["b"]
    yield "array", base["a"].to_numpy()
    yield "index object", pd.Index([1, 2])
    yield "range", pd.RangeIndex(2)
    yield "named range", pd.RangeIndex(2, name="a")


def test_frames_are_told_apart():
    all_distinct([frame for _, frame in frames()])


@pytest.mark.parametrize("name", [name for name, _ in frames()])
def test_equal_frames_are_the_same(name):
    assert same(dict(frames())[name], dict(frames())[name])


COLUMNS = {
    "int": ([1, 2, 3, 4], "int64"),
    "float": ([1.5, math.nan, -0.0, 0.0], "float64"),
    "bool": ([True, False, True, True], "bool"),
    "object": (["a", None, math.nan, 3], object),
    "lists": ([["a"], ["b"], [], None], object),
    "Int64": ([1, None, 3, 4], "Int64"),
    "Float64": ([1.0, None, 3.0, 4.0], "Float64"),
    "boolean": ([True, None, False, True], "boolean"),
    "str": (["aé", "", "ccc", "d"], None),
    "str with gaps": (["a", None, "ccc", "d"], None),
    "string[python]": (["a", None, "ccc", "d"], "string[python]"),
    "category": (["a", None, "b", "a"], "category"),
    "ordered": (["a", None, "b", "a"], pd.CategoricalDtype(["b", "a"], ordered=True)),
    "dates": (["2020", None, "2021", "2022"], "datetime64[ns]"),
    "dates in s": (["2020", None, "2021", "2022"], "datetime64[s]"),
    "tz": (["2020", None, "2021", "2022"], "datetime64[ns, Europe/Berlin]"),
    "durations": ([1, None, 3, 4], "timedelta64[ns]"),
    "period": (["2020", None, "2021", "2022"], "period[D]"),
    "sparse": ([0, 1, 0, 0], pd.SparseDtype("int64")),
}
try:
    import pyarrow as pa
except ImportError:
    pa = None
else:
    COLUMNS |= {
        "arrow int": ([1, None, 3, 4], "int64[pyarrow]"),
        "arrow bool": ([True, None, False, True], "bool[pyarrow]"),
        "arrow str": (["a", None, "ccc", "d"], pd.ArrowDtype(pa.string())),
        "arrow large": (["a", None, "ccc", "d"], pd.ArrowDtype(pa.large_string())),
        "arrow view": (["a", None, "ccc", "d"], pd.ArrowDtype(pa.string_view())),
        "arrow date": (["2020-01-01", None] * 2, pd.ArrowDtype(pa.timestamp("s"))),
        "arrow list": ([[1], None, [], [2, None]], pd.ArrowDtype(pa.list_(pa.int8()))),
        "arrow struct": (
            [{"x": 1}, None, {"x": None}, {"x": 2}],
            pd.ArrowDtype(pa.struct([("x", pa.int8())])),
        ),
        "arrow dictionary": (
            ["a", None, "b", "a"],
            pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
        ),
        "arrow decimal": (
            [decimal.Decimal("1.5"), None] * 2,
            pd.ArrowDtype(pa.decimal128(5, 2)),
        ),
    }


def column(kind):
    values, dtype = COLUMNS[kind]
    return pd.Series(values, dtype=dtype)


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns(kind):
    whole = column(kind)
    assert same(whole, column(kind))
    assert same(whole, whole.copy())
    for rows in (slice(1, 3), slice(2, None), slice(None, None, 2), slice(0, 0)):
        if kind == "arrow view" and rows.step:
            continue  # PyArrow does not take from views
        part = whole.iloc[rows]
        # built afresh from its values: no offset, no other rows behind it
        fresh = pd.Series(list(part), index=part.index.copy(), dtype=whole.dtype)
        # (but for the categories that a dictionary was made with)
        if kind != "arrow dictionary":
            assert same(part, fresh), rows
        assert not same(part, whole)
    twice = pd.concat([whole, whole], ignore_index=True)
    assert same(twice.iloc[: len(whole)], whole)
    assert same(twice.iloc[len(whole) :].reset_index(drop=True), whole)
    changed = pd.concat([whole.iloc[1:], whole.iloc[:1]], ignore_index=True)
    assert not same(changed, whole)


def test_columns_of_other_dtypes_differ():
    all_distinct([column(kind) for kind in COLUMNS])


def test_categories_matter():
    all_distinct(
        [
            pd.Series(["a"], dtype=pd.CategoricalDtype(["a"])),
            pd.Series(["a"], dtype=pd.CategoricalDtype(["a", "b"])),
            pd.Series(["a"], dtype=pd.CategoricalDtype(["b", "a"])),
            pd.Series(["a"], dtype=pd.CategoricalDtype(["a"], ordered=True)),
        ]
    )


def test_values_under_gaps_do_not_show():
    if pa is None:
        pytest.skip("PyArrow")
    hidden = pd.arrays.IntegerArray(np.array([1, 99]), np.array([False, True]))
    plain = pd.arrays.IntegerArray(np.array([1, 1]), np.array([False, True]))
    assert same(pd.Series(hidden), pd.Series(plain))
    validity = pa.py_buffer(b"\x01")
    a = pa.Array.from_buffers(
        pa.string(), 2, [validity, pa.py_buffer(struct.pack("<3i", 0, 1, 3)), pa.py_buffer(b"abc")]
    )
    b = pa.array(["a", None])
    assert a.equals(b)
    assert same(a, b)
    c = pa.Array.from_buffers(pa.int32(), 2, [validity, pa.py_buffer(struct.pack("<2i", 1, 7))])
    assert same(c, pa.array([1, None], pa.int32()))


def test_wide_frames():
    values = np.arange(300.0).reshape(3, 100)
    consolidated = pd.DataFrame(values)
    by_column = pd.concat([pd.Series(values[:, i], name=i) for i in range(100)], axis=1)
    by_column.columns = consolidated.columns
    assert same(consolidated, by_column)
    assert not same(consolidated, consolidated.astype("f4"))
    other = consolidated.copy()
    other.iloc[2, 99] += 1
    assert not same(consolidated, other)
    assert same(consolidated.iloc[:, :40], pd.DataFrame(values[:, :40].copy()))


# -- Arrow and Polars ------------------------------------------------------


def test_arrow_tables():
    if pa is None:
        pytest.skip("PyArrow")
    table = pa.table({"a": [1, None, 3], "b": ["x", "y", None]})
    halves = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    assert halves["a"].num_chunks == 2
    assert same(table, halves)
    all_distinct(
        [
            table,
            table.slice(1),
            table.select(["b", "a"]),
            table.rename_columns(["a", "c"]),
            table.replace_schema_metadata({"k": "v"}),
            table.cast(pa.schema([("a", pa.int32()), ("b", pa.string())])),
            table.to_pandas(),
            table["a"],
            table["a"].combine_chunks(),
        ]
    )


def test_polars():
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")

    def build(**changes):
        data = {
            "i": [1, None, 3],
            "s": ["x", "é", None],
            "l": [[1], [], None],
            "t": [{"q": 1}, {"q": None}, {"q": 3}],
            "b": [True, None, False],
        }
        return pl.DataFrame(data | changes)

    frame = build()
    assert same(frame, build())
    assert same(frame[1:], build().slice(1).clone())
    assert same(pl.concat([frame[:1], frame[1:]], rechunk=False), frame)
    all_distinct(
        [
            frame,
            frame[1:],
            frame.select(pl.all().reverse()),
            frame.select(*reversed(frame.columns)),
            frame.with_columns(pl.col("i").cast(pl.Int32)),
            frame.with_columns(pl.col("s").cast(pl.Categorical)),
            frame.with_columns(pl.col("s").cast(pl.Enum(["x", "é"]))),
            frame["i"],
            frame["i"].rename("j"),
            build(b=[True, None, None]),
            build(l=[[1], None, None]),
            pl.Series([1, 2]).cast(pl.Datetime("us")),
            pl.Series([1, 2]).cast(pl.Datetime("ms")),
            pl.Series([1, 2]).cast(pl.Datetime("us", "UTC")),
            pl.Int64,
            pl.Int32,
            pl.Datetime("us"),
            pl.List(pl.Int8),
            pl.col("a"),
            pl.col("b"),
            pl.col("a") + 1,
            pl.col("a") + 1.0,
            pl.col("a").alias("b"),
        ]
    )
    assert same(pl.col("a") * 2, pl.col("a") * 2)
    for expr in (
        pl.col("a").sample(1),
        pl.col("a").shuffle(),
        pl.col("a").map_batches(lambda s: s),
    ):
        assert encode(expr) is None
    assert encode(frame.lazy()) is None


# -- functions -------------------------------------------------------------

FACTOR = 3
TABLE = {"k": [1, 2]}


def helper(x):
    return x * FACTOR


def caller(x):
    return helper(x) + 1


def ping(n):
    return pong(n - 1) if n else 0


def pong(n):
    return ping(n - 1) if n else 1


def define(source, **space):
    """Compile the definition of ``f`` in a module's namespace of its own."""
    space.setdefault("__name__", "made_for_a_test")
    exec(compile(textwrap.dedent(source), "<test>", "exec"), space)
    return space["f"]


def test_functions_by_code_not_by_place():
    a = define("def f(x):\n    return x + 1")
    b = define("\n\n\ndef f(x):\n\n    return x + 1")
    assert a.__code__.co_firstlineno != b.__code__.co_firstlineno
    assert same(a, b)
    assert same(lambda x: x + 1, lambda x: x + 1)


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2",
        "def f(x):\n    return x + 1.0",
        "def f(x):\n    return x + True",
        "def f(x):\n    return x - 1",
        "def f(x, y=1):\n    return x + 1",
        "def f(x=1):\n    return x + 1",
        "def f(x, *, y=1):\n    return x + 1",
        "def f(y):\n    return y + 1",
        "def f(x: int):\n    return x + 1",
        "def f(x):\n    yield x + 1",
        "def f(x):\n    'doc'\n    return x + 1",
        "def g(x):\n    return x + 1\nf = g",
        "def f(x):\n    return x + 1\nf.mark = 1",
        "f = lambda x: x + 1",
        "def f(x):\n    return (lambda: x + 1)()",
        "def f(x):\n    return (lambda: x + 2)()",
    ],
)
def test_functions_that_differ(other):
    assert not same(define("def f(x):\n    return x + 1"), define(other))


@pytest.mark.parametrize(
    ("source", "left", "right"),
    [
        ("def f(x): return x + K", {"K": -1}, {"K": -2}),
        ("def f(x): return x + K", {"K": 1}, {"K": 1.0}),
        ("def f(x): return x + K", {"K": 1}, {}),
        ("def f(x): return [x + K for _ in x]", {"K": 1}, {"K": 2}),
        ("def f(x): return (lambda: K)()", {"K": 1}, {"K": 2}),
        ("def f(x):\n  class A:\n    y = K\n  return A.y", {"K": 1}, {"K": 2}),
        ("def f(x): return len(x)", {}, {"len": sum}),
        ("def f(x): return g(x)", {"g": math.sin}, {"g": math.cos}),
        ("def f(x): return g(x)", {"g": lambda x: 1}, {"g": lambda x: 2}),
        ("def f(x): return m.sin(x)", {"m": math}, {"m": np}),
        ("def f(x, y=K): return y", {"K": 1}, {"K": 2}),
        ("def f(x, *, y=K): return y", {"K": 1}, {"K": 2}),
        ("def h(y):\n  return lambda x: x + y\nf = h(K)", {"K": 1}, {"K": 2}),
        ("def f(x): return K", {"K": pd.DataFrame({"a": [1]})}, {"K": pd.DataFrame({"a": [2]})}),
    ],
)
def test_what_a_function_refers_to(source, left, right):
    assert same(define(source, **left), define(source, **left))
    assert not same(define(source, **left), define(source, **right))


def test_names_not_read_do_not_matter():
    source = "def f(x): return x.K"
    assert same(define(source, K=1), define(source, K=2))
    assert same(define(source, K=object()), define(source, K=2))


def test_many_global_names():
    names = [f"N{i}" for i in range(700)]  # beyond one byte: EXTENDED_ARG
    source = "def f():\n    return [" + ", ".join(names) + "]"
    space = dict.fromkeys(names, 0)
    assert same(define(source, **space), define(source, **space))
    for name in ("N0", "N127", "N128", "N255", "N256", "N699"):
        assert not same(define(source, **space), define(source, **space | {name: 1})), name


def test_recursive_functions():
    fact = "def f(n): return n * f(n - 1) if n else {}"
    assert same(define(fact.format(1)), define(fact.format(1)))
    assert not same(define(fact.format(1)), define(fact.format(2)))
    assert encode(ping) is not None
    assert not same(ping, pong)
    assert encode(caller) is not None
    assert not same(caller, helper)


def test_what_cannot_be_encoded_reaches_the_function():
    assert encode(define("def f(x): return K", K=object())) is None
    reason = E.reason_not_encodable(define("def f(x): return K", K=object()))
    assert "object" in reason
    assert "'f'" in reason
    assert encode(define("def f(x, y=K): return y", K=iter([]))) is None


def test_library_functions_by_name():
    all_distinct(
        [len, sum, math.sin, np.sin, np.cos, np.sum, np.mean, np.add.reduce, np.linalg.norm]
        + [pd.to_datetime, pd.concat, textwrap.dedent, str.lower, str.upper, "a".upper, "b".upper]
        + [pd.DataFrame.sum, pd.Series.sum, pd.DataFrame.assign, [].append, os.path.join]
    )
    assert len(encode(pd.concat)) < 200
    assert encode(np.frompyfunc(lambda x: x, 1, 1)) is None
    assert encode(np.vectorize(helper)) is None


def test_impostors_of_library_functions_are_not_taken_by_name():
    @functools.wraps(np.sum)
    def impostor(*args, **kwargs):
        return 0

    assert not same(impostor, np.sum)


def test_partials_and_methods():
    class Tool:
        def __stratum_encode__(self):
            return b"tool"

        def one(self):
            return 1

        def two(self):
            return 2

    tool = Tool()
    all_distinct(
        [
            functools.partial(helper, 1),
            functools.partial(helper, 2),
            functools.partial(helper, x=1),
            functools.partial(caller, 1),
            tool.one,
            tool.two,
            Tool.one,
            functools.lru_cache(helper),
            functools.lru_cache(4)(helper),
        ]
    )


def test_classes_by_their_code():
    def make(body, base=object):
        space = {"__name__": "made_for_a_test", "base": base}
        exec("class C(base):\n" + textwrap.indent(body, "    "), space)
        return space["C"]

    bodies = [
        "def m(self): return 1",
        "def m(self): return 2",
        "def n(self): return 1",
        "k = 1",
        "k = 1.0",
        "@property\ndef m(self): return 1",
        "@staticmethod\ndef m(self): return 1",
        "@classmethod\ndef m(self): return 1",
        "__slots__ = ('a',)",
        "@__import__('functools').cached_property\ndef m(self): return 1",
        "def m(self): return super().m()",
    ]
    classes = [make(body) for body in bodies]
    all_distinct([*classes, make(bodies[0], dict), make(bodies[0], abc.ABC), dict, object])
    for body in bodies:
        assert same(make(body), make(body))


def test_modules():
    all_distinct([math, np, np.random, os.path, sys.modules[__name__]])
    fake = types.ModuleType("math")
    assert encode(fake) is None


def test_loggers():
    all_distinct([logging.getLogger("a"), logging.getLogger("b"), logging.getLogger()])
    logging.getLogger("registered_by_a_test")
    assert encode(logging.Logger("registered_by_a_test")) is None


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = "module_of_a_user"

    def write(source):
        sys.modules.pop(name, None)
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            return importlib.import_module(name)
        finally:
            sys.dont_write_bytecode = before

    yield write
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return mod.helper(x)",
        "def f(x):\n  import module_of_a_user as q\n  return q.helper(x)",
        "def f(x):\n  from module_of_a_user import helper\n  return helper(x)",
    ],
)
def test_functions_of_a_users_module_count_by_their_code(user_module, source):
    text = "import threading\nlock = threading.Lock()\ndef helper(x): return x + {}\nother = {}\n"
    mod = user_module(text.format(1, 1))
    first = encode(define(source, mod=mod))
    mod = user_module(text.format(1, 2))
    assert first is not None
    assert encode(define(source, mod=mod)) == first
    mod = user_module(text.format(2, 2))
    assert encode(define(source, mod=mod)) != first


def test_imports_of_modules_not_there_yet():
    assert encode(define("def f():\n  import no_such_module_at_all")) is None
    assert encode(define("def f():\n  import json.tool\n  import numpy.ma")) is not None


# -- estimators ------------------------------------------------------------


def test_estimators():
    pytest.importorskip("sklearn")
    from sklearn.base import BaseEstimator, TransformerMixin, clone
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import Lasso, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def custom(shift):
        class Custom(TransformerMixin, BaseEstimator):
            def __init__(self, a=1):
                self.a = a

            def fit(self, X, y=None):
                return self

            def transform(self, X):
                return X + shift

        return Custom

    fitted = Ridge().fit([[1.0], [2.0]], [1.0, 2.0])
    all_distinct(
        [
            Ridge(),
            Ridge(alpha=1),
            Ridge(alpha=2.0),
            Ridge(random_state=0),
            Ridge(random_state=np.random.RandomState(0)),
            Lasso(),
            Ridge,
            fitted,
            Ridge().fit([[1.0], [2.0]], [1.0, 3.0]),
            make_pipeline(StandardScaler(), Ridge()),
            make_pipeline(StandardScaler(with_mean=False), Ridge()),
            make_pipeline(Ridge()),
            make_column_transformer((StandardScaler(), ["a"])),
            make_column_transformer((StandardScaler(), ["b"])),
            StandardScaler(),
            StandardScaler().set_output(transform="pandas"),
            custom(1)(),
            custom(2)(),
            custom(1)(a=2),
            custom(1),
        ]
    )
    assert same(fitted, Ridge().fit([[1.0], [2.0]], [1.0, 2.0]))
    assert same(fitted.set_params(alpha=1.0), fitted)
    assert same(clone(fitted), Ridge())
    assert same(custom(1)(), clone(custom(1)()))
    assert encode(Ridge(alpha=object())) is None
    marked = Ridge()
    marked.extra_ = object()
    assert encode(marked) is None


def test_estimator_whose_get_params_fails_has_no_key():
    pytest.importorskip("sklearn")
    from sklearn.base import BaseEstimator

    class Broken(BaseEstimator):
        def __init__(self, a=1):
            pass

    assert encode(Broken()) is None


def test_scorers_and_splitters():
    pytest.importorskip("sklearn")
    from sklearn import metrics, model_selection

    all_distinct(
        [
            metrics.get_scorer("accuracy"),
            metrics.get_scorer("roc_auc"),
            metrics.make_scorer(metrics.fbeta_score, beta=1),
            metrics.make_scorer(metrics.fbeta_score, beta=2),
            metrics.make_scorer(metrics.log_loss, greater_is_better=False),
            model_selection.KFold(3),
            model_selection.KFold(4),
            model_selection.KFold(3, shuffle=True),
            model_selection.KFold(3, shuffle=True, random_state=0),
            model_selection.StratifiedKFold(3),
            model_selection.RepeatedKFold(n_splits=3),
            model_selection.ShuffleSplit(3),
            model_selection.PredefinedSplit([0, 1]),
            model_selection.PredefinedSplit([1, 0]),
        ]
    )

    class Mine(model_selection.KFold):
        pass

    assert not same(Mine(3), model_selection.KFold(3))
    assert same(Mine(3), Mine(3))


def test_skrub_objects():
    skrub = pytest.importorskip("skrub")
    from skrub import selectors as s

    all_distinct(
        [
            s.all(),
            s.cols("a", "b"),
            s.cols("b", "a"),
            s.numeric(),
            s.numeric() & s.glob("a*"),
            s.numeric() | s.glob("a*"),
            s.numeric() - s.glob("a*"),
            s.glob("a*") & s.numeric(),
            ~s.numeric(),
            s.filter_names(str.endswith, "a"),
            s.filter_names(str.endswith, "b"),
            s.filter(lambda c: True),
            s.filter(lambda c: False),
            skrub.TableVectorizer(),
            skrub.TableVectorizer(cardinality_threshold=3),
            skrub.StringEncoder(),
            skrub.StringEncoder(random_state=0),
            skrub.ApplyToCols(skrub.StringEncoder()),
        ]
    )
    assert same(s.numeric() & s.glob("a*"), s.numeric() & s.glob("a*"))
    # lazy nodes and choices are themselves: two alike are still two
    assert encode(skrub.X()) is None
    assert encode(skrub.var("a").b) is None
    assert encode(skrub.choose_from([1, 2], name="a")) is None

    class Counting:
        asked = 0

        def __getattr__(self, name):
            Counting.asked += 1
            raise AttributeError(name)

    value = Counting()
    node = skrub.as_data_op(value)
    Counting.asked = 0
    assert encode(node) is None
    assert Counting.asked == 0
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    assert same(skrub.TableVectorizer().fit(frame), skrub.TableVectorizer().fit(frame))


# -- over processes, and files ---------------------------------------------

SCRIPT = """
import sys, functools, re, enum
sys.path.insert(0, {folder!r})
from encode import encode
import numpy as np, pandas as pd
class Kind(enum.Enum):
    A = 1
class Thing:
    names = {{"x", "y", "z"}}
    def m(self): return K, self
K = frozenset({{"a", "b", ("c", None)}})
def f(x): return [g(i) for i in x if i in {{"p", "q", "r"}}]
def g(x): return f(x) + K
values = [f, g, Thing, Kind.A, {{"a", "b", "c"}}, functools.partial(f, {{1, "x"}}),
          re.compile("x"), pd.DataFrame({{"a": ["x", None]}}), np.arange(3), lambda: K]
for value in values:
    print(encode(value).hex())
"""


@pytest.mark.slow
def test_bytes_are_the_same_in_other_processes():
    outputs = []
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(folder=str(CAPTURE))],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.split())
    assert len(outputs[0]) == 10
    assert outputs[0] == outputs[1] == outputs[2]


def test_memo_holds_what_it_remembers_and_changes_nothing():
    memo = {}
    array = np.arange(10_000)
    frame = pd.DataFrame({"a": array, "b": "x"})
    values = [array, frame, helper, [array, frame], {"f": helper, "g": caller}, (array, array)]
    for _ in range(2):
        for value in values:
            assert encode(value, memo) == encode(value)
    assert any(entry[0] is array for entry in memo.values())
    assert any(entry[0] is frame for entry in memo.values())
    listed = [1]
    before = encode(listed, memo)
    listed.append(2)
    assert encode(listed, memo) != before


def test_memo_keeps_code_wherever_it_is_met():
    shared = [1]

    class Reader:
        limit = shared

        def method(self, x):
            return shared, helper(x)

        def __stratum_encode__(self):
            return b"reader"

    def reads(x):
        return shared, caller(x)

    values = [
        reads,
        [reads],
        [shared, reads],
        [reads, shared],
        [reads, [1]],
        [[1], reads],
        [reads, reads],
        [reads, helper, caller],
        [caller, reads, helper],
        Reader(),
        [Reader(), shared],
        [Reader(), Reader, reads],
        {"a": functools.partial(reads, shared)},
        {reads, "x"},
    ]
    memo = {}
    for order in (values, values[::-1], values):
        for value in order:
            key = encode(value)
            assert key is not None, E.reason_not_encodable(value)
            assert encode(value, memo) == key
    assert any(entry[0] is Reader for entry in memo.values())
    assert any(entry[0] is reads for entry in memo.values())


def test_mutable_objects_shared_by_code_and_data_show():
    shared, alike = [1], [1]

    def reads():
        return shared

    all_distinct([[reads, shared], [reads, alike], [shared, reads], [alike, reads]])


def test_objects_held_by_what_they_hold():
    held = []

    def reads():
        return held

    held.append(reads)
    assert encode(held) is not None
    assert encode(reads) is not None
    assert encode(held, {}) == encode(held)


def test_strange_metaclasses():
    class Unhashable(type):
        def __eq__(cls, other):
            return True

    class Strange(metaclass=Unhashable):
        pass

    assert encode(Strange()) is None
    assert encode([Strange(), 1]) is None
    assert E.reason_not_encodable(Strange())


def test_random_plain_values_round_trip_to_one_key_each():
    seed = int(os.environ.get("STRATUM_TEST_SEED", time.time_ns() % 2**32))
    print("seed", seed)
    rng = random.Random(seed)

    def make(depth):
        kind = rng.randrange(9 if depth else 6)
        if kind < 3:
            return rng.choice([rng.randrange(-3, 4), float(rng.randrange(-1, 2)), True, False])
        if kind < 6:
            return rng.choice(["", "a", "ab", b"", b"a", None, -0.0])
        items = [make(depth - 1) for _ in range(rng.randrange(3))]
        if kind == 6:
            return items
        if kind == 7:
            return tuple(items)
        return {str(i): item for i, item in enumerate(items)}

    def shape(value):
        """The value with its types, as text: what the key stands for."""
        if type(value) is dict:
            return "{" + ",".join(f"{k!r}:{shape(v)}" for k, v in value.items()) + "}"
        if type(value) in (list, tuple):
            return type(value).__name__ + "(" + ",".join(map(shape, value)) + ")"
        return f"{type(value).__name__}:{value!r}"

    by_key, by_shape = {}, {}
    for _ in range(3000):
        value = make(3)
        key, text = encode(value), shape(value)
        assert by_key.setdefault(key, text) == text
        assert by_shape.setdefault(text, key) == key
    assert len(by_key) > 300


def test_digest():
    assert len(E.digest(b"")) == 16
    assert E.digest(b"a") != E.digest(b"b")
    assert E.digest(b"abc") == E.digest(memoryview(b"abc"))
    assert E.digest(np.arange(4)) == E.digest(np.arange(4).tobytes())


def test_stamp_of_file(tmp_path, monkeypatch):
    path = tmp_path / "data.csv"
    assert E.stamp_of_file(path) is None
    assert E.stamp_of_file(tmp_path) is None
    path.write_bytes(b"a,b\n1,2\n")
    first = E.stamp_of_file(path)
    assert first == E.stamp_of_file(str(path))
    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    assert E.stamp_of_file(copy) == first
    copy.write_bytes(b"a,b\n1,3\n")
    assert E.stamp_of_file(copy) != first


def _count_digests(monkeypatch):
    calls = []
    original = E._digest_of_file

    def counted(file):
        calls.append(file.name)
        return original(file)

    monkeypatch.setattr(E, "_digest_of_file", counted)
    return calls


def test_stamp_of_a_young_file_is_not_remembered(tmp_path, monkeypatch):
    calls = _count_digests(monkeypatch)
    path = tmp_path / "data"
    path.write_bytes(b"one")
    info = path.stat()
    first = E.stamp_of_file(path)
    # the same size and times, other content: only hashing can tell
    path.write_bytes(b"two")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert E.stamp_of_file(path) != first
    assert len(calls) == 2


def test_stamp_of_a_settled_file_is_remembered(tmp_path, monkeypatch):
    calls = _count_digests(monkeypatch)
    path = tmp_path / "data"
    path.write_bytes(b"one")
    real = time.time_ns
    monkeypatch.setattr(E.time, "time_ns", lambda: real() + 10 * E.SETTLED_NS)
    first = E.stamp_of_file(path)
    assert E.stamp_of_file(path) == first
    assert len(calls) == 1
    path.write_bytes(b"twos")
    assert E.stamp_of_file(path) != first
    assert len(calls) == 2
    # an old time set by hand does not help: the change time is young
    monkeypatch.setattr(E.time, "time_ns", real)
    os.utime(path, ns=(0, 0))
    E.stamp_of_file(path)
    E.stamp_of_file(path)
    assert len(calls) == 4


def test_copying_an_instance_leaves_its_class_as_it_was():
    class Plain:
        def __init__(self):
            self.x = 1

    before = encode(Plain)
    copy.copy(Plain())  # copyreg writes __slotnames__ into the class
    assert "__slotnames__" in vars(Plain)
    assert before is not None
    assert encode(Plain) == before


# -- Syntax of newer Pythons ------------------------------------------------------------------------


def _made_by(source):
    space = {"__name__": "__main__"}
    exec(textwrap.dedent(source), space)
    return space["f"]


TYPE_PARAMETERS = [
    "def f[T](x): return list[T](x)",
    "def f[T: int](x): return list[T](x)",
    "def f[T: str](x): return list[T](x)",
    "def f[T: (int, str)](x): return list[T](x)",
    "def f[*T](x): return T",
    "def f[**T](x): return T",
    "type X = list[int]\ndef f(x): return X",
    "type X = list[str]\ndef f(x): return X",
    "type X = list[X] | int\ndef f(x): return X",
    "type X[T] = list[T]\ndef f(x): return X[int]",
    "type X[T] = list[T]\ndef f(x): return X[str]",
    "class A[T]:\n    def m(self, x: T) -> T: return x\ndef f(x): return A[int]().m(x)",
    "class A[T]:\n    def m(self, x: T) -> T: return x\ndef f(x): return A[str]().m(x)",
]
DEFAULTS = [
    "def f[T = int](x): return list[T](x)",
    "def f[T = str](x): return list[T](x)",
    "def f[*T = *tuple[int]](x): return T",
    "def f[**T = [int]](x): return T",
]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_parameters_and_aliases():
    sources = TYPE_PARAMETERS + (DEFAULTS if sys.version_info >= (3, 13) else [])
    all_distinct([_made_by(source) for source in sources])
    for source in sources:
        assert same(_made_by(source), _made_by(source)), source


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
@pytest.mark.parametrize(
    "source", ["def f[T: Nowhere](x: T): return x", "type X = Nowhere\ndef f(x): return X"]
)
def test_types_that_cannot_be_evaluated_have_no_encoding(source):
    function = _made_by(source)
    assert encode(function) is None
    assert "cannot be had" in E.reason_not_encodable(function)
