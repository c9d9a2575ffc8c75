"""Cases of ``bench.kernels``: text. Data are made from a fixed seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import skrub
from sklearn.feature_extraction import text as sklearn_text

from stratum import native

from .kernel_case import Case

SEED = 0


def words(rng: np.random.Generator, n: int) -> list[str]:
    """Words of 3 to 8 letters."""
    return ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(3, 9))) for _ in range(n)]


def few(n_rows: int) -> pd.Series:
    """1,000 distinct strings of three words each, as names of streets are."""
    rng = np.random.default_rng(SEED)
    known = words(rng, 400)
    pool = [" ".join(known[i] for i in rng.integers(0, len(known), 3)) for _ in range(1000)]
    return pd.Series([pool[i] for i in rng.integers(0, 1000, n_rows)], name="few")


def ids(n_rows: int) -> pd.Series:
    """Distinct identifiers of 36 characters."""
    digits = np.random.default_rng(SEED).bytes(16 * n_rows).hex()
    rows = [digits[32 * i : 32 * i + 32] for i in range(n_rows)]
    return pd.Series([f"{r[:8]}-{r[8:12]}-{r[12:16]}-{r[16:20]}-{r[20:]}" for r in rows], name="id")


def documents(n_rows: int) -> list[str]:
    """Documents of 50 words, some words far more frequent than others."""
    rng = np.random.default_rng(SEED)
    known = words(rng, 20_000)
    picked = rng.zipf(1.3, size=(n_rows, 50)) % len(known)
    return [" ".join(known[j] for j in row) for row in picked]


def fitted(make: Any, cls: Any, **parameters: Any) -> Any:
    """A function of rows: the data, and an estimator fitted to them."""
    return lambda n_rows: (cls(**parameters).fit(make(n_rows)), make(n_rows))


def fit_transform(cls: Any, exactness: str = "equivalent", **parameters: Any) -> Any:
    """What fits a new estimator."""

    def run(data: Any) -> Any:
        with native.config_context(exactness=exactness):
            return cls(**parameters).fit_transform(data)

    return run


def transform(pair: Any) -> Any:
    """What applies the original."""
    return pair[0].transform(pair[1])


def native_transform(cls: Any) -> Any:
    """What applies the native one."""
    return lambda pair: cls.from_original(pair[0]).transform(pair[1])


CHAR = {"analyzer": "char", "ngram_range": (3, 4)}

CASES = [
    Case(
        "StringEncoder, 1,000 distinct strings", few,
        fit_transform(skrub.StringEncoder, random_state=0),
        fit_transform(native.StringEncoder, random_state=0), target=60,
    ),
    Case(
        "the same, bit for bit", few,
        fit_transform(skrub.StringEncoder, random_state=0),
        fit_transform(native.StringEncoder, "identical", random_state=0),
    ),
    Case(
        "StringEncoder, distinct ids, bit for bit", ids,
        fit_transform(skrub.StringEncoder, random_state=0),
        fit_transform(native.StringEncoder, "identical", random_state=0), target=7,
    ),
    Case(
        "StringEncoder.transform, distinct ids", fitted(ids, skrub.StringEncoder, random_state=0),
        transform, native_transform(native.StringEncoder),
    ),
    Case(
        "CountVectorizer, characters, 1,000 distinct strings", few,
        fit_transform(sklearn_text.CountVectorizer, **CHAR), fit_transform(native.CountVectorizer, **CHAR),
        target=20,
    ),
    Case(
        "CountVectorizer, characters, distinct ids", ids,
        fit_transform(sklearn_text.CountVectorizer, **CHAR), fit_transform(native.CountVectorizer, **CHAR),
        target=20,
    ),
    Case(
        "CountVectorizer.transform, characters, distinct ids",
        fitted(ids, sklearn_text.CountVectorizer, **CHAR), transform, native_transform(native.CountVectorizer),
    ),
    Case(
        "TfidfVectorizer, documents of 50 words", documents,
        fit_transform(sklearn_text.TfidfVectorizer), fit_transform(native.TfidfVectorizer), target=12,
    ),
    Case(
        "HashingVectorizer, documents of 50 words", documents,
        fit_transform(sklearn_text.HashingVectorizer), fit_transform(native.HashingVectorizer),
    ),
]  # fmt: skip
