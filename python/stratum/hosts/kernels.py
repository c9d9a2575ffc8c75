"""Native kernels behind the libraries' estimators: which methods are computed by `stratum.native`, and when.

What it is for
    A pipeline holds scikit-learn's and skrub's own estimators, many of them inside others (the encoder of a
    TableVectorizer, the steps of a Pipeline).  Where the engine runs them, the methods for which there is a
    kernel are computed by it, on the very object of the library: parameters, fitted attributes and pickles are
    the library's own.

How
    The methods that a native class redefines are replaced on its original.  Where kernels are on in this thread
    and the object is of exactly that class, a native twin of the object does the work, and what was fitted is
    handed back in the original's form.  An error of the native code is not the user's: the library's method then
    runs on the object as it was, and what the library could do after all is warned of.  Everywhere else, in the user's own calls too, the library's method runs:
    the question costs 0.1 microseconds.

    Metrics are stood in for in the scorers that the engine calls (`scorer`), never in `sklearn.metrics`.

Who may call it
    `stratum._patch` installs it; the engine's workers and `stratum.hosts.evaluating` switch it on around
    library calls.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any

from scipy import sparse

from .. import _config, _core
from ..native import _config as native_config
from ..scripts import fronts
from . import _sklearn as skl, tables

# Native class -> the module of its original, and whether its results have the original's bits (then it also
# runs where `exactness` is "identical"; StringEncoder asks for itself).
_KERNELS = {
    "CleanNullStrings": ("skrub._clean_null_strings", True),
    "CountVectorizer": ("sklearn.feature_extraction.text", True),
    "DatetimeEncoder": ("skrub", True),
    "DropUninformative": ("skrub", True),
    "ElasticNet": ("sklearn.linear_model", False),
    "HashingVectorizer": ("sklearn.feature_extraction.text", True),
    "Lasso": ("sklearn.linear_model", False),
    "LinearRegression": ("sklearn.linear_model", False),
    "LogisticRegression": ("sklearn.linear_model", False),
    "MinMaxScaler": ("sklearn.preprocessing", True),
    "MultinomialNB": ("sklearn.naive_bayes", True),
    "OneHotEncoder": ("sklearn.preprocessing", True),
    "OrdinalEncoder": ("sklearn.preprocessing", True),
    "PCA": ("sklearn.decomposition", False),
    "PolynomialFeatures": ("sklearn.preprocessing", True),
    "Ridge": ("sklearn.linear_model", False),
    "RobustScaler": ("sklearn.preprocessing", False),
    "SimpleImputer": ("sklearn.impute", False),
    "SquashingScaler": ("skrub", True),
    "StandardScaler": ("sklearn.preprocessing", False),
    "StringEncoder": ("skrub", True),
    "TargetEncoder": ("sklearn.preprocessing", True),
    "TfidfTransformer": ("sklearn.feature_extraction.text", True),
    "TfidfVectorizer": ("sklearn.feature_extraction.text", True),
    "ToDatetime": ("skrub", True),
    "ToFloat": ("skrub", True),
    "ToStr": ("skrub._to_str", True),
    "TruncatedSVD": ("sklearn.decomposition", True),
}
# Further methods: those that are inherited (what the fit has read the transform keeps), and one that the original's own
# fit calls when it is to say itself that a column holds no dates.
_FURTHER = {
    "Lasso": "fit", "OneHotEncoder": "fit_transform", "OrdinalEncoder": "fit_transform", "ToDatetime": "_get_datetime_format",
}  # fmt: skip
# Functions of `sklearn.metrics` for which scorers get those of `stratum.native.metrics`, where results may differ by
# rounding.
_METRICS = (
    "accuracy_score", "average_precision_score", "balanced_accuracy_score", "f1_score", "log_loss",
    "mean_absolute_error", "mean_squared_error", "precision_score", "r2_score", "recall_score", "roc_auc_score",
    "root_mean_squared_error",
)  # fmt: skip
# Below, handing the fitted state to a native twin takes longer than what it saves (measured: a row by
# StringEncoder 40 microseconds more).
FEW_ROWS = 100
_FITS = frozenset({"fit", "fit_transform", "partial_fit"})
_METHODS = (*sorted(_FITS), "transform", "predict")

# Levels of a thread's gate (`_core.gate`): from which on a kernel stands in.
_IDENTICAL, _EQUIVALENT = 1, 2


@contextlib.contextmanager
def on() -> Iterator[None]:
    """In this thread, library calls may be computed by kernels."""
    level = 0
    if _config.option("native"):
        # (`verify` compares with skrub: rounding is no difference that it should find.)
        identical = _config.option("exactness") == "identical" or _config.option("verify")
        level = _IDENTICAL if identical else _EQUIVALENT
    before = _core.gate(level)
    exactness = "identical" if level == _IDENTICAL else _config.option("exactness")
    try:
        if exactness != "equivalent":
            with native_config.config_context(exactness=exactness):
                yield
        else:
            yield
    finally:
        _core.gate(before)


def within(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """A generator of which each step runs with kernels on, and nothing in between."""
    value = None
    while True:
        try:
            with on():
                asked = steps.send(value)
        except StopIteration as end:
            return end.value
        value = yield asked


def _replace(name: str, original: type, identical: bool) -> None:
    """Replace the methods of an original that its native class redefines."""
    needed = _IDENTICAL if identical else _EQUIVALENT
    native: Any = None

    def native_class() -> Any:
        nonlocal native
        if native is None:
            native = getattr(importlib.import_module("stratum.native"), name)
        return native

    def replaced(method: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        fits = method in _FITS

        @functools.wraps(plain)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if type(self) is not original:
                return plain(self, *args, **kwargs)
            if not fits and _few(args):
                return plain(self, *args, **kwargs)
            before = dict(self.__dict__)
            try:
                return by_twin(self, args, kwargs)
            except Exception as error:
                self.__dict__ = before
                failed = error.with_traceback(None)
            # What is wrong with the input the library says, in its own words and frames.
            telling = getattr(native_class(), "_telling", None)
            result = plain(self, *(args if telling is None else telling(self, args)), **kwargs)
            _report(f"{name}.{method}", failed)
            return result

        def by_twin(self: Any, args: tuple, kwargs: dict) -> Any:
            if not fits:
                return getattr(native_class().from_original(self), method)(*args, **kwargs)
            twin = object.__new__(native_class())
            twin.__dict__ = self.__dict__  # what is set on the one is set on the other
            result = getattr(twin, method)(*args, **kwargs)
            self.__dict__ = dict(vars(twin.to_original()))
            return self if result is twin else result

        return _core.Front(call, "-" if fronts.shown() else fronts.HOME, plain, needed)

    for method in _METHODS:
        plain = vars(original).get(method)
        if plain is not None:
            setattr(original, method, replaced(method, plain))
    further = _FURTHER.get(name)
    if further is not None:
        setattr(original, further, replaced(further, getattr(original, further)))


def _stand_in(plain: Callable[..., Any]) -> Any:
    """What is called in the place of a metric of scikit-learn's, where kernels are on and need not be identical."""
    name = plain.__name__
    native: Any = None

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal native
        if native is None:
            native = getattr(importlib.import_module("stratum.native.metrics"), name)
        return native(*args, **kwargs)

    return _core.Front(call, "-" if fronts.shown() else fronts.HOME, plain, _EQUIVALENT)


@functools.cache
def _metrics() -> list[tuple[Any, Any]]:
    """scikit-learn's metrics and what stands in for each."""
    found = [vars(importlib.import_module("sklearn.metrics"))[name] for name in _METRICS]
    return [(plain, _stand_in(plain)) for plain in found if _is_sklearns(plain)]


def _is_sklearns(function: Any) -> bool:
    """Whether a function, and each that it wraps, is scikit-learn's code: nobody has put one of theirs there."""
    while function is not None:
        if not getattr(function, "__globals__", {}).get("__name__", "").startswith("sklearn."):
            return False
        function = getattr(function, "__wrapped__", None)
    return True


def scorer(one: Any) -> Any:
    """A scorer whose metric is computed natively: a private copy, the user's scorer stays as it is.

    Metrics are functions, which others hold and compare: unlike methods they are replaced nowhere. So a model's own
    `score` and scorers of the user's own functions are computed by scikit-learn.
    """
    return skl.with_functions(one, _metrics())


def _report(what: str, failed: Exception) -> None:
    """Tell of a kernel that failed on what its library could do: a fault of ours, that would else be slow only."""
    warnings.warn(
        f"the native kernel of {what} failed ({type(failed).__name__}: {failed}); the library's own code has done the "
        "work, results are right. Please report it; set_config(native=False) switches kernels off.",
        RuntimeWarning,
        stacklevel=3,
    )


def _few(args: tuple) -> bool:
    """Whether a call is for few rows."""
    data = args[0] if args else None
    return hasattr(data, "__len__") and not sparse.issparse(data) and len(data) < FEW_ROWS


def install() -> None:
    """Put the replacements in place; nothing changes until `on`."""
    for name, (module, identical) in _KERNELS.items():
        _replace(name, getattr(importlib.import_module(module), name), identical)
    tables.install(_IDENTICAL)
