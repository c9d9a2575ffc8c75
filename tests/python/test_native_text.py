"""Text vectorizers of `stratum.native` against scikit-learn's: every bit of every matrix."""

from __future__ import annotations

import pickle
import random
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from amounts import THOROUGH, cases
import sklearn
from scipy import sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction import text as original

import stratum.native as native
from stratum import _core
from stratum.native import text

# Letters with every kind of lower case, sigmas, marks that do not count as letters, all kinds of white space, a
# character of three and one of four bytes, NUL.
LETTERS = (
    "aabbccdeXYZ  \t\n_-.,;0123éÉßİıΣσςΑΒ\u0345\u0301日本\u3000ﬁǅ😀𐐀\u00ad'\x00\x1c\u2028ÀàŁ"
)
SEED = 20261121


def same(a: Any, b: Any) -> None:
    """Two sparse matrices of one type, with the same bits in the same order."""
    assert type(a) is type(b)
    assert a.shape == b.shape
    for name in ("indptr", "indices", "data"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype, name
        assert x.tobytes() == y.tobytes(), name
    assert a.has_sorted_indices == b.has_sorted_indices


def outcome(call: Callable[[], Any]) -> tuple[Any, Any, list[str]]:
    """Result, error and warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = call(), None
        except Exception as raised:
            result, error = None, (type(raised), str(raised))
    return result, error, [str(w.message) for w in caught]


def agree(a: Callable[[], Any], b: Callable[[], Any]) -> bool:
    """Compare the outcomes of two calls; whether there was a result."""
    x, y = outcome(a), outcome(b)
    assert x[1:] == y[1:]
    if x[1] is None:
        same(x[0], y[0])
    return x[1] is None


def document(rng: random.Random) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.choice([0, 1, 2, 5, 10, 40, 150])))


CONTAINERS: list[Callable[[list[str]], Any]] = [
    list,
    tuple,
    iter,
    lambda d: np.array(d, object),
    lambda d: np.array(d, object)[::2].repeat(2)[: len(d)],
    np.array,
    pd.Series,
    lambda d: pd.Series(d, dtype=object, index=range(5, 5 + len(d))),
    lambda d: pd.Series(d, dtype="category"),
    pl.Series,
    lambda d: pl.Series(d, dtype=pl.Categorical),
]


def options(rng: random.Random, docs: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters of scanning, of counting, of weighting."""
    low = rng.randint(1, 4)
    scan: dict[str, Any] = {
        "analyzer": rng.choice(["char", "char_wb", "word"]),
        "ngram_range": (low, low + rng.randint(0, 3)),
        "lowercase": rng.random() < 0.7,
    }
    if rng.random() < 0.3:
        scan["strip_accents"] = rng.choice(["ascii", "unicode"])
    if scan["analyzer"] == "word":
        if rng.random() < 0.5:
            scan["token_pattern"] = rng.choice([r"(?u)\b\w+\b", r"\w+", r"\w\w+", r"[a-z]+"])
        if rng.random() < 0.3:
            scan["stop_words"] = ["aa", "bb", "é", "Σ"]
    count: dict[str, Any] = {"dtype": rng.choice([np.int64, np.float64, np.float32, np.int32, np.int8])}
    for name, values in (
        ("binary", [True]), ("min_df", [2, 0.1, 3]), ("max_df", [0.5, 0.9, 5]), ("max_features", [1, 5, 50]),
    ):  # fmt: skip
        if rng.random() < 0.3:
            count[name] = rng.choice(values)
    if rng.random() < 0.2:
        learned, _, _ = outcome(lambda: original.CountVectorizer(**scan).fit(docs))
        if learned is not None:
            terms = list(learned.vocabulary_)
            rng.shuffle(terms)
            count["vocabulary"] = terms[: max(1, len(terms) // 2)]
    weigh = {
        "norm": rng.choice([None, "l1", "l2"]),
        "use_idf": rng.random() < 0.8,
        "smooth_idf": rng.random() < 0.7,
        "sublinear_tf": rng.random() < 0.3,
    }
    return scan, count, weigh


@pytest.mark.parametrize("n_cases", [25, pytest.param(cases(1500), marks=[pytest.mark.slow, pytest.mark.many])])
def test_random_documents(n_cases: int) -> None:
    rng = random.Random(SEED + n_cases)
    print("seed", SEED + n_cases)
    results = 0
    for case in range(n_cases):
        docs = [document(rng) for _ in range(rng.choice([10, 11, 30, 200]))]
        if rng.random() < 0.5:
            docs = [rng.choice(docs[:7]) for _ in docs]
        new = [document(rng) for _ in range(15)] + docs[:3]
        scan, count, weigh = options(rng, docs)
        hashing = {
            **scan,
            "n_features": rng.choice([2, 7, 1000, 2**20, 2**31 - 1]),
            "dtype": rng.choice([np.float64, np.float32, np.int64]),
            "norm": weigh["norm"],
            "alternate_sign": rng.random() < 0.7,
            "binary": rng.random() < 0.3,
        }
        contain = rng.choice(CONTAINERS)
        for name, parameters in (
            ("CountVectorizer", {**scan, **count}),
            ("TfidfVectorizer", {**scan, **count, **weigh}),
            ("HashingVectorizer", hashing),
        ):
            a, b = getattr(original, name)(**parameters), getattr(native, name)(**parameters)
            print(case, b)
            with native.config_context(n_threads=rng.choice([1, 2, 3])):
                if not agree(lambda: a.fit_transform(contain(docs)), lambda: b.fit_transform(contain(docs))):
                    continue
                results += 1
                for documents in (new, docs):
                    agree(lambda: a.transform(documents), lambda: b.transform(documents))
                agree(lambda: a.transform(new), lambda: b.to_original().transform(new))
                agree(lambda: a.transform(new), lambda: type(b).from_original(a).transform(new))
                again = pickle.loads(pickle.dumps((a, b)))
                agree(lambda: again[0].transform(new), lambda: again[1].transform(new))
            if name == "HashingVectorizer":
                continue
            assert set(vars(a)) == set(vars(b))
            assert list(a.vocabulary_.items()) == list(b.vocabulary_.items())
            assert {type(x) for x in a.vocabulary_.values()} == {type(x) for x in b.vocabulary_.values()}
            assert {type(x) for x in b.vocabulary_} == {str}
            assert list(a.get_feature_names_out()) == list(b.get_feature_names_out())
            if name == "TfidfVectorizer" and a.use_idf:
                assert a.idf_.tobytes() == b.idf_.tobytes() and a.idf_.dtype == b.idf_.dtype
    assert results > n_cases


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.many])])
def test_every_character(every: bool) -> None:
    """Lower case, white space and words are those of this Python, for every code point (or every fifth)."""
    codes = [
        c for c in range(sys.maxunicode + 1)
        if (every and c % (1 if THOROUGH else 5) == 0) or c < 0x800 or c % 1009 == 0 or chr(c).lower() != chr(c) or chr(c).isspace()
    ]  # fmt: skip
    # Beside a letter, a sigma and a space, so that rules about neighbours show.
    docs = [f"A{chr(c)}Σ {chr(c)}Σ" for c in codes]
    found, _ = text.column(docs)
    strings = [d.lower() for d in docs]
    for analyzer, cut in (
        (text.ANALYZERS["char"], lambda s: re.sub(r"\s\s+", " ", s)),
        (text.ANALYZERS["char_wb"], lambda s: f" {' '.join(s.split())} "),
        (text.ANALYZERS["word"], lambda s: " ".join(re.findall(r"\w+", s))),
    ):
        # Longest n-grams: for the first analyzer the text, for others their words or tokens, joined by order.
        size = 20 if analyzer == text.ANALYZERS["char"] else 1
        counts = _core.text_count(found, analyzer, size if size > 1 else 1, 20, 1, True, None, None, 2)
        own = set(counts.vocabulary(np.arange(counts.n_terms, dtype=np.int32)))
        wanted: set[str] = set()
        for s in strings:
            t = cut(s)
            if analyzer == text.ANALYZERS["char"]:
                continue
            if analyzer == text.ANALYZERS["word"]:
                words = t.split(" ") if t else []
                wanted.update(" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
            else:
                for word in t.split(" "):
                    padded = f" {word} "
                    if word:
                        wanted.update(
                            padded[i:j] for i in range(len(padded)) for j in range(i + 1, len(padded) + 1)
                        )
        if analyzer != text.ANALYZERS["char"]:
            assert own == wanted
    whole = original.CountVectorizer(analyzer="char", ngram_range=(1, 2))
    ours = native.CountVectorizer(analyzer="char", ngram_range=(1, 2))
    some = [f"A{chr(c)}Σ {chr(c)}Σ" for c in (*range(0, 0x3000, 7), *range(0xD7F0, 0xE010, 9), *range(0x10400, 0x10450))]
    same(whole.fit_transform(some), ours.fit_transform(some))
    assert whole.vocabulary_ == ours.vocabulary_


def test_threads_and_sizes() -> None:
    """Enough text for several threads, with words that only some of them see: same bits."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 12))) for _ in range(3000)]
    docs = [" ".join(rng.choices(words, k=rng.randint(0, 40))) for _ in range(3000)]
    docs[1234] = "only here " * 3000
    for name, parameters in (
        ("CountVectorizer", {"analyzer": "char", "ngram_range": (2, 5)}),
        ("TfidfVectorizer", {"ngram_range": (1, 2), "max_features": 2000}),
        ("HashingVectorizer", {"analyzer": "char_wb", "ngram_range": (3, 3), "n_features": 5000}),
    ):
        a = getattr(original, name)(**parameters)
        wanted, later = a.fit_transform(docs), a.transform(docs[::3])
        for threads in (1, 2, 5):
            b = getattr(native, name)(**parameters)
            with native.config_context(n_threads=threads):
                same(wanted, b.fit_transform(docs))
                same(later, b.transform(docs[::3]))


BAD: list[Any] = [
    [], [""], [" "] * 20, ["a"], "text", [None] * 20, [*"ab" * 10, np.nan], [*"ab" * 10, None], [1] * 20,
    [b"bytes here", b"more of them"] * 10, [b"\xff"] * 20, pd.Series([*"ab" * 10, None]), pd.Series(range(20)),
    pl.Series([*"ab" * 10, None]), np.array([["a", "b"]] * 20), {"one": 1, "two": 2}, [["a"]] * 20,
    pd.DataFrame({"one two": ["x"] * 20}), ["\ud800 lone", "\udfff surrogates"] * 10, ["the"] * 20, 7,
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(BAD)))
@pytest.mark.parametrize("few", [1, text.FEW])
def test_bad_input(at: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "FEW", few)
    docs = BAD[at]
    for name, parameters in (
        ("CountVectorizer", {}), ("CountVectorizer", {"analyzer": "char", "ngram_range": (0, 2)}),
        ("CountVectorizer", {"vocabulary": {"the": 0, 3: 1}}), ("CountVectorizer", {"vocabulary": ["The", "the"]}),
        ("CountVectorizer", {"ngram_range": (2, 1)}), ("CountVectorizer", {"min_df": 5, "max_df": 2}),
        ("CountVectorizer", {"stop_words": "english"}), ("CountVectorizer", {"max_df": "x"}),
        ("CountVectorizer", {"token_pattern": r"(\w)(\w)"}), ("CountVectorizer", {"tokenizer": str.split}),
        ("CountVectorizer", {"analyzer": str.split}), ("CountVectorizer", {"preprocessor": str.upper}),
        ("TfidfVectorizer", {"dtype": np.int32}), ("TfidfVectorizer", {"norm": "l3"}),
        ("TfidfVectorizer", {"stop_words": ["don't"]}), ("TfidfVectorizer", {"analyzer": "char", "stop_words": ["a"]}),
        ("TfidfVectorizer", {"smooth_idf": False, "vocabulary": ["a", "zz"]}),
        ("HashingVectorizer", {}), ("HashingVectorizer", {"n_features": 0}), ("HashingVectorizer", {"norm": "l3"}),
        ("HashingVectorizer", {"dtype": np.float16}),
    ):  # fmt: skip
        a, b = getattr(original, name)(**parameters), getattr(native, name)(**parameters)
        if agree(lambda: a.fit_transform(docs), lambda: b.fit_transform(docs)):
            agree(lambda: a.transform(["the b", "a"] * 10), lambda: b.transform(["the b", "a"] * 10))
        else:
            assert set(vars(a)) == set(vars(b))
        if parameters.get("n_features") != 0:  # which ends scikit-learn's process
            agree(lambda: a.transform(docs), lambda: b.transform(docs))


def test_not_fitted_and_changed_by_hand() -> None:
    docs = ["one two", "two three"] * 10
    for name in ("CountVectorizer", "TfidfVectorizer"):
        a, b = getattr(original, name)(), getattr(native, name)()
        agree(lambda: a.transform(docs), lambda: b.transform(docs))
        a.fit(docs), b.fit(docs)
        for each in (a, b):
            each.vocabulary_["two"] = 0
        agree(lambda: a.transform(docs), lambda: b.transform(docs))
        for each in (a, b):
            each.vocabulary_["new"] = 77
        agree(lambda: a.transform(docs), lambda: b.transform(docs))
    a, b = original.TfidfVectorizer().fit(docs), native.TfidfVectorizer().fit(docs)
    for value in (np.array([1.0, 2.0, 3.0]), np.array([1.0, np.inf, 1.0]), [1.0, 2.0, 3.0], np.ones(3, np.float32)):
        a.idf_ = b.idf_ = value
        agree(lambda: a.transform(docs), lambda: b.transform(docs))


def test_subclass_with_own_step() -> None:
    """A method of a subclass is called, not passed over."""

    class Reversed(native.CountVectorizer):
        def build_preprocessor(self) -> Any:
            return lambda doc: doc[::-1]

    found = Reversed().fit(["abc def"] * 20).vocabulary_
    assert set(found) == {"cba", "fed"}


def test_clone_and_sparse_interface() -> None:
    docs = ["one two", "two three", ""] * 10
    ours = clone(native.TfidfVectorizer(min_df=2)).fit(docs)
    assert type(ours.to_original()) is original.TfidfVectorizer
    assert type(ours._tfidf) is original.TfidfTransformer
    with pytest.raises(TypeError, match="TfidfVectorizer expected"):
        native.TfidfVectorizer.from_original(original.CountVectorizer())
    if "sparse_interface" in sklearn.get_config():
        with sklearn.config_context(sparse_interface="sparray"):
            for name in ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer"):
                a, b = getattr(original, name)(), getattr(native, name)()
                same(a.fit_transform(docs), b.fit_transform(docs))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8])
@pytest.mark.parametrize("norm", ["l1", "l2", None])
def test_transformer(dtype: Any, norm: str | None) -> None:
    rng = np.random.default_rng(SEED)
    counts = rng.poisson(0.3, (200, 50)).astype(dtype)
    counts[3] = 0
    big = counts.astype(np.float64)
    big[0, 0], big[5, 7] = 1e200, 1e308
    negative = sp.csr_matrix(counts)
    if dtype is not np.int8:
        negative.data = negative.data.copy()
        negative.data[0] = -1
    unsorted = sp.csr_matrix(counts)
    unsorted.indices = unsorted.indices[::-1].copy()
    locked = sp.csr_matrix(counts)
    locked.data.flags.writeable = False
    nan = sp.csr_matrix(counts.astype(np.float64))
    nan.data[1] = np.nan
    wide = sp.csr_matrix(counts)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    matrices = [
        sp.csr_matrix(counts), sp.csr_array(counts), sp.csc_matrix(counts), counts, sp.csr_matrix(big), negative,
        unsorted, locked, nan, wide, sp.csr_matrix(counts)[:0], sp.csr_matrix(counts)[:, :10],
    ]  # fmt: skip
    for parameters in ({}, {"sublinear_tf": True}, {"use_idf": False}, {"smooth_idf": False}):
        a, b = original.TfidfTransformer(norm=norm, **parameters), native.TfidfTransformer(norm=norm, **parameters)
        agree(lambda: a.transform(counts), lambda: b.transform(counts))
        a.fit(counts), b.fit(counts)
        for X in matrices:
            for copy in (True, False):
                x, y = pickle.loads(pickle.dumps((X, X)))[0], pickle.loads(pickle.dumps(X))
                if agree(lambda: a.transform(x, copy=copy), lambda: b.transform(y, copy=copy)) and sp.issparse(x):
                    # left alone or changed in place, as the original leaves or changes it
                    assert x.data.tobytes() == y.data.tobytes()


def test_columns() -> None:
    """Every way in gives the same strings, codes and nulls."""
    values = ["b", "a", None, "b", "", "longer than twelve bytes", "é" * 9, None]
    ways = [
        pd.Series(values), pd.Series(values, dtype="string"), pd.Series(values, dtype="category"),
        pd.Series(["x", *values])[1:], pl.Series(values), pl.Series(["x", *values])[1:],
        pl.Series(values, dtype=pl.Categorical), pa.array(values), pa.chunked_array([values[:3], values[3:]]),
        pa.array(values, pa.large_string()), pa.array(values, pa.string_view()),
        pa.array(["x", *values]).slice(1), pa.array(values).dictionary_encode(), values,
        np.array(values, object), pd.Series(values, dtype=object),
        pd.Series(values, dtype=pd.ArrowDtype(pa.string())),
    ]  # fmt: skip
    for way in ways:
        found, _ = text.column(way, nulls=(pd.NA,))
        strings = found.strings()
        codes = text.codes_of(found)
        assert [strings[code] for code in codes] == [v or "" for v in values], way
        assert list(text.counts_of(found)) == [2, 1, 3, 1, 1]
        assert (found.n_nulls, found.n_rows, found.ascii) == (2, 8, 0)
        assert text.column(way)[0] is None  # a missing value is no document
    assert text.column(pa.array([1, 2]))[0] is None
    assert text.column(pd.Series([1, 2]))[0] is None
    assert text.column(pd.Series([1, 2], dtype="category"))[0] is None


def test_core_refuses_bad_buffers() -> None:
    found, _ = text.column(["a b", "b c"] * 10)
    counts = _core.text_count(found, 2, 1, 1, 1, True, None, None, 1)
    small, map_ = np.empty(1, np.int32), np.arange(counts.n_terms, dtype=np.int32)
    with pytest.raises(ValueError, match="too small"):
        counts.layout(map_, small)
    with pytest.raises(ValueError, match="too small"):
        counts.order(np.empty(1, np.uint32), 1)
    with pytest.raises(ValueError, match="not a sparse matrix"):
        _core.csr_dense(
            np.array([0, 1], np.int32), np.array([5], np.int32), np.ones(1, np.float32), 2, 1,
            np.ones(2, np.float32), np.ones(1, np.float32), 1,
        )  # fmt: skip
    with pytest.raises(ValueError, match="n_threads"), native.config_context(n_threads=0):
        pass
    with pytest.raises(ValueError, match="exactness"), native.config_context(exactness="exact"):
        pass


@pytest.mark.parametrize(
    "broken", [b"bad \xff\xfe text", b"caf\xc3", b"\xed\xa0\x80 surrogate", b"\xc0\x80"]
)
@pytest.mark.parametrize("dictionary", [False, True])
def test_arrow_text_that_is_no_utf8(broken: bytes, dictionary: bool) -> None:
    # Arrow does not look at what its strings hold; making a str of one raises in the original.
    words = [b"good text", broken, "café".encode()]
    off = np.cumsum([0, *map(len, words)]).astype(np.int32)
    array = pa.StringArray.from_buffers(3, pa.py_buffer(off.tobytes()), pa.py_buffer(b"".join(words)))
    if dictionary:
        array = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, 2], pa.int8()), array)
    assert _core.text_from_arrow(pa.chunked_array([array]).__arrow_c_stream__()) is None
    column = pd.Series(array, dtype=pd.ArrowDtype(array.type))
    with pytest.raises(UnicodeDecodeError) as want:
        original.CountVectorizer().fit_transform(column)
    with pytest.raises(UnicodeDecodeError) as got:
        native.CountVectorizer().fit_transform(column)
    assert str(got.value) == str(want.value)
