"""scikit-learn 1.8 and 1.9 as the engine sees them: the one place for their private names.

Splitters, grids, samplers, scorers and the arithmetic of `cv_results_` stay scikit-learn's own, so that
order, ties, stratification and warnings are exactly what users know.
"""

from __future__ import annotations

import inspect
from typing import Any

from sklearn import model_selection
from sklearn._config import get_config
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._validation import (
    _aggregate_score_dicts,
    _insert_error_scores,
    _normalize_score_results,
    _score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils import indexable
from sklearn.utils._param_validation import validate_parameter_constraints

__all__ = [
    "check_cv", "check_scoring", "cross_validate_defaults", "indexable", "is_classifier",
    "multimetric_scorer", "response_methods", "score_model", "validate_cross_validate", "validate_search",
]  # fmt: skip

multimetric_scorer = _MultimetricScorer
score_model = _score
warn_or_raise_about_fit_failures = _warn_or_raise_about_fit_failures
insert_error_scores = _insert_error_scores
aggregate_score_dicts = _aggregate_score_dicts
normalize_score_results = _normalize_score_results
SEARCHES = (model_selection.GridSearchCV, model_selection.RandomizedSearchCV)

_SIGNATURE = inspect.signature(model_selection.cross_validate)


def cross_validate_defaults() -> dict[str, Any]:
    """Parameters of `cross_validate` that have a default."""
    return {n: p.default for n, p in _SIGNATURE.parameters.items() if p.default is not p.empty}


def validate_cross_validate(arguments: dict[str, Any]) -> None:
    """Raise what `cross_validate` raises for a bad argument."""
    constraints = getattr(model_selection.cross_validate, "_skl_parameter_constraints", None)
    if constraints is not None and not get_config()["skip_parameter_validation"]:
        known = {k: v for k, v in arguments.items() if k in constraints}
        validate_parameter_constraints(constraints, known, caller_name="cross_validate")


def validate_search(search: Any) -> None:
    """Raise what `fit` of a search raises for a bad parameter."""
    if not get_config()["skip_parameter_validation"]:
        search._validate_params()


def has_callbacks(search: Any) -> bool:
    """Whether scikit-learn callbacks are set on a search."""
    return bool(getattr(search, "_skl_callbacks", None))


def metadata_routing_enabled() -> bool:
    """Whether metadata routing is on."""
    return bool(get_config().get("enable_metadata_routing", False))


def response_methods(scorer: Any, estimator: Any) -> set[str] | None:
    """The methods that a scorer will call on a model of `estimator`; None if that is not known."""
    if isinstance(scorer, _MultimetricScorer):
        found: set[str] = set()
        for one in scorer._scorers.values():
            methods = response_methods(one, estimator)
            if methods is None:
                return None
            found |= methods
        return found
    if isinstance(scorer, _PassthroughScorer):
        return {"score"}
    if not isinstance(scorer, _BaseScorer):
        return None
    wanted = scorer._response_method
    if wanted == "default":
        return {"predict"}
    for method in (wanted,) if isinstance(wanted, str) else wanted:
        if hasattr(estimator, method):
            return {method}
    return set()  # the scorer will raise by itself


def candidates_of(search: Any) -> list[dict]:
    """The candidates of a grid or randomised search, in scikit-learn's order."""
    if isinstance(search, model_selection.GridSearchCV):
        return list(model_selection.ParameterGrid(search.param_grid))
    sampler = model_selection.ParameterSampler(
        search.param_distributions, search.n_iter, random_state=search.random_state
    )
    return list(sampler)
