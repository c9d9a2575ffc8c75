"""Linear models: `Ridge`, `LinearRegression`, `ElasticNet`, `Lasso`, `LogisticRegression`.

Subclasses of scikit-learn's, for whoever imports `stratum.native`. They learn from the products of columns
(`_core.numeric_gram`) or with a native loss (`_core.numeric_logistic`), in double precision also for float32;
all else is inherited. Equivalent, not identical: what is learned differs from the original's by rounding
(relative 1e-8 on well-conditioned data, tests/python/test_native_numeric.py says where it is more).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral, Number
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from scipy import optimize
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from .. import _core
from . import _sklearn
from ._base import Declined, Native, check_plain, threads, usable_weights

__all__ = ["ElasticNet", "Lasso", "LinearRegression", "LogisticRegression", "Ridge"]

_FLOATS = (np.float64, np.float32)

# Columns from which BLAS's blocked products and LAPACK's factors are faster than ours (one thread, 20,000 rows:
# the product of 512 columns takes as long in both).
MOST_COLUMNS = 512
MOST_UNKNOWNS = 256

# For Ridge the product is all there is to save: one thread, 20,000 rows of 300 columns take 0.7 times as long as
# the original, of 500 columns 0.9 times.
RIDGE_COLUMNS = 400

# Steps of L-BFGS up to which rounding does not tell where it ends (60 tables, penalties over ten decades: coefficients
# differ from those of SciPy's by 1e-10 of the largest up to 59 steps, by 5e-6 beyond; both made as many steps always).
MOST_STEPS = 59

# Condition of X'X up to which normal equations keep eight digits.
BEST_CONDITION = 1e7


class _Products:
    """Means and products of the columns of X and y, and what they were made from."""

    def __init__(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, center: bool) -> None:
        self.p = X.shape[1]
        if y.dtype not in _FLOATS:
            y = y.astype(X.dtype)
        q = self.p + (1 if y.ndim == 1 else y.shape[1])
        mean, self.all = np.empty(q), np.empty((q, q))
        self.weight = _core.numeric_gram(X, y, weight, center, threads(X.nbytes, 1 + self.p / 16), mean, self.all)
        # the diagonal tells: a column with anything that is not finite has no finite square
        if not np.isfinite(self.all.diagonal()).all():
            raise Declined("numbers that are not finite, or have no finite squares")
        self.dtype = X.dtype
        self.X_offset = mean[: self.p].astype(X.dtype)
        self.y_offset: Any = mean[self.p :].astype(X.dtype)
        self.X_mean = mean[: self.p]
        self.y_mean: Any = mean[self.p :]
        if y.ndim == 1:
            self.y_offset, self.y_mean = self.y_offset[0], self.y_mean[0]

    @property
    def gram(self) -> np.ndarray:
        """X'X, a copy."""
        return self.all[: self.p, : self.p].copy()

    @property
    def targets(self) -> np.ndarray:
        """y'X, one row a target, a copy."""
        return self.all[self.p :, : self.p].copy()

    def intercept(self, coef: np.ndarray) -> Any:
        """The intercept that belongs to coefficients, in the precision of X."""
        value = self.y_mean - self.X_mean @ coef.T
        return self.dtype.type(value) if np.ndim(value) == 0 else value.astype(self.dtype)


def _validated(
    estimator: Any, X: Any, y: Any, sample_weight: Any, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """X, y and weights, checked as scikit-learn does, but for X being finite: the products tell that."""
    check_plain(X)
    X, y = validate_data(
        estimator, X, y, dtype=_FLOATS, ensure_all_finite=False, multi_output=True, y_numeric=True
    )
    if X.shape[1] > MOST_COLUMNS:
        raise Declined(f"more than {MOST_COLUMNS} columns")
    if X.shape[0] < X.shape[1]:
        raise Declined("fewer rows than columns")
    if y.dtype.kind not in "fiub" or hasattr(y, "tocsr"):
        raise Declined("a target that is no array of numbers")
    y = y.astype(X.dtype, copy=False)
    if sample_weight is not None:
        sample_weight = usable_weights(
            _sklearn.check_sample_weight(sample_weight, X, dtype=X.dtype, **options)
        )
    return X, y, sample_weight


@dataclass
class Many:
    """What fits have learned that differ in penalties alone: by their place in the order that was given."""

    coef: np.ndarray  # (fits, columns); of a classifier (fits, classes, columns), with one class for two
    intercept: np.ndarray  # (fits,), or (fits, classes)
    done: np.ndarray  # which of them were fitted: the others are the original's
    classes: np.ndarray | None = None


class _Fits(Native):
    """`fit`: by `_fit` of the class, or by the original behind it where that declines."""

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def fit(self: Any, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit to X, y; parameters as the original's."""
        try:
            self._fit(X, y, sample_weight)
        except Declined as reason:
            super().fit(X, y, sample_weight=sample_weight)  # type: ignore[misc]
            self._declined(reason)
        return self


class Ridge(_Fits, linear_model.Ridge):
    """`sklearn.linear_model.Ridge`; dense input with the solvers "auto" and "cholesky" is native."""

    _original: ClassVar[type] = linear_model.Ridge

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if self.solver not in ("auto", "cholesky") or self.positive:
            raise Declined("a solver other than cholesky")
        X, y, weight = _validated(self, X, y, sample_weight)
        if X.shape[1] > RIDGE_COLUMNS:
            raise Declined(f"more than {RIDGE_COLUMNS} columns")
        return X, y, weight

    def fit_many(self, X: Any, y: Any, alpha: np.ndarray) -> Many:
        """Fit with each of the penalties, bit for bit as `fit` would; nothing is learned by this object."""
        X, y, _ = self._checked(X, y, None)
        if y.ndim != 1:
            raise Declined("several targets")
        products = _Products(X, y, None, self.fit_intercept)
        p = products.p
        if p > MOST_UNKNOWNS:
            raise Declined(f"more than {MOST_UNKNOWNS} unknowns")
        alpha = alpha.astype(X.dtype).astype(np.float64)
        coef, done = np.empty((len(alpha), p)), np.empty(len(alpha), dtype=bool)
        _core.numeric_ridges(products.all, p, p, alpha, coef, done)
        # (`_penalised` asks SciPy where digits are at stake: that, and what is near to it, is left to it)
        done &= (alpha > 0) & ((products.all.diagonal()[:p].sum() + p * alpha) * p < 1e13 * alpha)
        intercept = np.zeros(len(alpha), dtype=X.dtype)
        if self.fit_intercept:
            intercept[:] = [products.intercept(one) for one in coef]
        return Many(coef.astype(X.dtype), intercept, done)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        X, y, weight = self._checked(X, y, sample_weight)
        n_targets = 1 if y.ndim == 1 else y.shape[1]
        alpha = np.asarray(self.alpha, dtype=X.dtype).ravel().astype(np.float64)
        if alpha.shape[0] not in (1, n_targets):
            raise Declined("as many penalties as nobody knows")
        products = _Products(X, y, weight, self.fit_intercept)
        coef = _penalised(products, alpha)
        self.coef_ = (coef[0] if n_targets == 1 else coef).astype(X.dtype)
        self.n_iter_ = None
        self.solver_ = "cholesky"
        if self.fit_intercept:
            self.intercept_ = products.intercept(coef[0] if n_targets == 1 else coef)
        else:
            self.intercept_ = 0.0
        self.fitted_by_ = "stratum"


def _penalised(products: _Products, alpha: np.ndarray) -> np.ndarray:
    """Solutions of (X'X + alpha) w = X'y, one row a target."""
    coef = products.targets
    same = bool((alpha == alpha[0]).all())
    for rows, penalty in [(slice(None), alpha[0])] if same else [(slice(i, i + 1), a) for i, a in enumerate(alpha)]:
        a = products.gram
        a.flat[:: products.p + 1] += penalty
        # The condition is at most trace over penalty: where no digit is at stake scipy, too, would not warn.
        safe = penalty > 0 and a.trace() * products.p < 1e14 * penalty
        right = coef[rows].copy()
        if safe and products.p <= MOST_UNKNOWNS and _core.numeric_solve(a, products.p, right, len(right)):
            coef[rows] = right
            continue
        a = products.gram
        a.flat[:: products.p + 1] += penalty
        try:
            coef[rows] = scipy.linalg.solve(a, coef[rows].T, assume_a="pos", overwrite_a=True).T
        except scipy.linalg.LinAlgError:
            raise Declined("a singular matrix") from None
    return coef


class LinearRegression(_Fits, linear_model.LinearRegression):
    """`sklearn.linear_model.LinearRegression`; dense well-conditioned input with more rows than columns is native.

    Where the condition of the centred X exceeds 3,000, normal equations would lose digits: there the original's
    least squares are used.
    """

    _original: ClassVar[type] = linear_model.LinearRegression

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        if self.positive:
            raise Declined("coefficients that must be positive")
        X, y, weight = _validated(self, X, y, sample_weight, ensure_non_negative=True)
        if X.shape[0] <= X.shape[1]:
            raise Declined("not more rows than columns")
        products = _Products(X, y, weight, self.fit_intercept)
        gram = products.gram
        values = scipy.linalg.eigvalsh(gram, check_finite=False)[::-1]
        if not values[-1] * BEST_CONDITION > values[0] or np.sqrt(values[-1] / values[0]) <= self.tol:
            raise Declined("columns that depend on each other")
        coef = products.targets
        if products.p <= MOST_UNKNOWNS:
            solved = _core.numeric_solve(gram, products.p, coef, len(coef))
        else:
            coef, solved = scipy.linalg.solve(gram, coef.T, assume_a="pos", overwrite_a=True).T, True
        if not solved:
            raise Declined("columns that depend on each other")
        coef = np.ascontiguousarray(coef)
        self.rank_ = int(products.p)
        self.singular_ = np.sqrt(values).astype(X.dtype)
        if y.ndim == 1:
            coef = coef[0]
        self.coef_ = coef.astype(X.dtype)
        self.intercept_ = products.intercept(coef) if self.fit_intercept else 0.0
        self.fitted_by_ = "stratum"


class _Descends(Native):
    """`fit` by coordinate descent on products of columns, or by the original."""

    @_sklearn.fit_context(prefer_skip_nested_validation=True)
    def fit(self: Any, X: Any, y: Any, sample_weight: Any = None, check_input: bool = True) -> Any:
        """Fit to X, y; parameters as the original's."""
        try:
            self._descend(X, y, sample_weight, check_input)
        except Declined as reason:
            super().fit(X, y, sample_weight=sample_weight, check_input=check_input)  # type: ignore[misc]
            self._declined(reason)
        return self

    def fit_many(self: Any, X: Any, y: Any, alpha: np.ndarray, l1_ratio: np.ndarray | None = None) -> Many:
        """Fit with each of the penalties, bit for bit as `fit` would; nothing is learned by this object."""
        self._check_options()
        X, y, _ = _validated(self, X, y, None)
        if y.ndim != 1:
            raise Declined("several targets")
        (n, p), products = X.shape, _Products(X, y, None, self.fit_intercept)
        if not products.all[p, p] > 0:
            raise Declined("a target without variance")
        ratio = np.full(len(alpha), float(self.l1_ratio)) if l1_ratio is None else l1_ratio
        coef, done = np.zeros((len(alpha), p)), alpha != 0
        for k in np.flatnonzero(done):
            strength, share = float(alpha[k]), float(ratio[k])
            l1, l2 = strength * share * n, strength * (1.0 - share) * n
            _, _, done[k] = _core.numeric_descend(
                products.all, p, p, coef[k], l1, l2, self.tol, self.max_iter, self.positive
            )
        intercept = np.zeros(len(alpha), dtype=X.dtype)
        if self.fit_intercept:
            intercept[:] = [products.intercept(one) for one in coef]
        done &= np.isfinite(coef).all(axis=1) & np.isfinite(intercept)
        return Many(coef.astype(X.dtype), intercept, done)

    def _check_options(self: Any) -> None:
        if self.alpha == 0 or self.selection != "cyclic" or self.max_iter is None:
            raise Declined("a penalty of zero, or random selection")
        if not isinstance(self.precompute, (bool, np.bool_)):
            raise Declined("a Gram matrix from outside")
        # The gap is a difference of sums of squares of y: with less tolerance than that it would be rounding.
        if self.tol < 1e-9:
            raise Declined("a tolerance that needs residuals")

    def _descend(self: Any, X: Any, y: Any, sample_weight: Any, check_input: bool) -> None:
        if not check_input:
            raise Declined("unchecked input")
        self._check_options()
        if isinstance(sample_weight, Number):
            sample_weight = None
        X, y, weight = _validated(self, X, y, sample_weight)
        n, p = X.shape
        if weight is not None:
            weight = weight * (n / weight.sum())
        products = _Products(X, y, weight, self.fit_intercept)
        n_targets = products.all.shape[0] - p
        squares = products.all.diagonal()[p:]
        # A target without variance, and one that is fitted exactly, have gaps below what differences can tell.
        if not (squares > 0).all():
            raise Declined("a target without variance")
        start = self.coef_ if self.warm_start and hasattr(self, "coef_") else np.zeros((n_targets, p))
        coef = np.array(start, dtype=np.float64, ndmin=2)
        l1, l2 = self.alpha * self.l1_ratio * n, self.alpha * (1.0 - self.l1_ratio) * n
        gaps, n_iter, messages = np.zeros(n_targets, dtype=X.dtype), [], []
        for k in range(n_targets):
            row = np.ascontiguousarray(coef[k])
            gap, steps, converged = _core.numeric_descend(
                products.all, p, p + k, row, l1, l2, self.tol, self.max_iter, self.positive
            )
            coef[k], gaps[k] = row, gap / n
            n_iter.append(steps)
            if not converged:
                text = f"{_sklearn.NOT_CONVERGED} Duality gap: {gap:.6e}, tolerance: {self.tol * squares[k]:.3e}"
                messages.append(f"{text}\n{_sklearn.USE_RIDGE}" if l1 < np.finfo(np.float64).eps else text)
        learned = coef if n_targets > 1 else coef[0]
        intercept = products.intercept(learned) if self.fit_intercept else 0.0
        if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
            raise Declined("coefficients that are not finite")
        for message in messages:
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        self.coef_ = learned.astype(X.dtype)
        self.intercept_ = intercept
        self.n_iter_ = n_iter if n_targets > 1 else n_iter[0]
        self.dual_gap_ = gaps if n_targets > 1 else gaps[0]
        self.fitted_by_ = "stratum"


class ElasticNet(_Descends, linear_model.ElasticNet):
    """`sklearn.linear_model.ElasticNet`; dense input with cyclic selection is native.

    The solver makes the original's steps on products of columns, so that `n_iter_` is the original's, and a
    step does not cost more for more rows.
    """

    _original: ClassVar[type] = linear_model.ElasticNet


class Lasso(_Descends, linear_model.Lasso):
    """`sklearn.linear_model.Lasso`; dense input with cyclic selection is native, as in `ElasticNet`."""

    _original: ClassVar[type] = linear_model.Lasso


class _Loss:
    """Loss and gradient for SciPy's L-BFGS, as scikit-learn scales them."""

    def __init__(
        self, X: np.ndarray, target: np.ndarray, weight: np.ndarray | None, classes: int, intercept: bool, C: float
    ) -> None:
        self.X, self.target, self.weight, self.intercept = X, target, weight, intercept
        self.total = float(X.shape[0]) if weight is None else float(weight.sum())
        self.penalty = 1.0 / (C * self.total)
        self.shape = (classes, X.shape[1] + 1)
        self.coef, self.gradient = np.zeros(self.shape), np.empty(self.shape)
        self.dof = X.shape[1] + int(intercept)
        self.threads = threads(X.nbytes, 1 + 2 * classes)
        self.first: tuple[np.ndarray, tuple[float, np.ndarray]] | None = None

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean loss with its penalty, and the gradient, where classes of one feature lie together."""
        known, self.first = self.first, None
        if known is not None and np.array_equal(known[0], w):
            return known[1]
        self.coef[:, : self.dof] = w.reshape((self.shape[0], -1), order="F")
        loss = _core.numeric_logistic(
            self.X, self.target, self.weight, self.shape[0], self.coef, self.intercept, self.threads, self.gradient
        )
        weights = self.coef[:, :-1]
        gradient = self.gradient[:, : self.dof] / self.total
        gradient[:, : self.X.shape[1]] += self.penalty * weights
        loss = loss / self.total + 0.5 * self.penalty * float(np.vdot(weights, weights))
        return loss, gradient.ravel(order="F")


class LogisticRegression(_Fits, linear_model.LogisticRegression):
    """`sklearn.linear_model.LogisticRegression`; dense input with solver "lbfgs" and an L2 penalty is native.

    SciPy's L-BFGS makes the steps, as in the original; loss and gradient take one pass over the rows.
    """

    _original: ClassVar[type] = linear_model.LogisticRegression

    def _checked(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """X, the classes, each row's class by its number, and weights."""
        check_plain(X)
        if self.solver != "lbfgs" or self.dual or self.l1_ratio != 0 or self.penalty != "deprecated":
            raise Declined("a solver other than lbfgs, or a penalty other than L2")
        if self.verbose or self.n_jobs is not None or hasattr(self, "_skl_callbacks"):
            raise Declined("messages, jobs or callbacks")
        X, y = validate_data(self, X, y, dtype=_FLOATS, order="C", ensure_all_finite=False)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        n_classes = len(classes)
        if n_classes < 2:
            raise Declined("one class")
        target = codes.astype(np.float64)
        weight = None
        if sample_weight is not None or self.class_weight is not None:
            weight = _sklearn.check_sample_weight(sample_weight, X, dtype=X.dtype, copy=True)
            if self.class_weight is not None:
                each = compute_class_weight(self.class_weight, classes=classes, y=y, sample_weight=weight)
                weight *= each.astype(X.dtype)[codes]
            weight = usable_weights(weight)
        return X, classes, target, weight

    def fit_many(self, X: Any, y: Any, C: np.ndarray) -> Many:
        """Fit with each of the penalties, from zeros; nothing is learned by this object."""
        if self.warm_start:
            raise Declined("a warm start")
        X, classes, target, weight = self._checked(X, y, None)
        rows, p = 1 if len(classes) == 2 else len(classes), X.shape[1]
        coef, steps = np.empty((len(C), rows, p + 1)), np.empty(len(C), dtype=np.int64)
        _core.numeric_logistic_fits(
            X, target, weight, rows, self.fit_intercept, threads(X.nbytes, 1 + 2 * rows), C, self.tol,
            min(self.max_iter, 1 << 30), coef, steps,
        )  # fmt: skip
        coef = coef.astype(X.dtype)
        return Many(coef[:, :, :p], coef[:, :, p], (steps >= 0) & (steps <= MOST_STEPS), classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        X, classes, target, weight = self._checked(X, y, sample_weight)
        n_classes = len(classes)
        rows = 1 if n_classes == 2 else n_classes
        loss = _Loss(X, target, weight, rows, self.fit_intercept, self.C)
        w = np.zeros((rows, loss.dof), order="F")
        start = getattr(self, "coef_", None) if self.warm_start else None
        if start is not None:
            if self.fit_intercept:
                start = np.concatenate([start, self.intercept_[:, None]], axis=1)
            if start.shape != w.shape:
                raise Declined("coefficients of another shape to begin with")
            w[:] = start
        w = w.ravel(order="F")
        first, gradient = loss(w)
        if not (np.isfinite(first) and np.isfinite(gradient).all()):
            raise Declined("numbers that are not finite")
        loss.first = (w.copy(), (first, gradient))  # SciPy begins with the same question
        found = optimize.minimize(
            loss, w, method="L-BFGS-B", jac=True,
            options={"maxiter": self.max_iter, "maxls": 50, "gtol": self.tol, "ftol": 64 * np.finfo(float).eps},
        )  # fmt: skip
        if found.status != 0:
            # Where it stands then depends on the last bits of every step: only the original ends where it ends.
            raise Declined("no convergence")
        n_iter = _sklearn.check_optimize_result(
            "lbfgs", found, self.max_iter, extra_warning_msg=_sklearn.LOGISTIC_ADVICE
        )
        learned = np.ascontiguousarray(found.x.reshape((rows, -1), order="F"), dtype=X.dtype)
        self.classes_ = classes
        self.n_iter_ = np.asarray([n_iter], dtype=np.int32)
        self.coef_ = learned[:, : X.shape[1]]
        self.intercept_ = learned[:, -1] if self.fit_intercept else np.zeros(rows, dtype=X.dtype)
        self.fitted_by_ = "stratum"
