"""scikit-learn 1.8 and 1.9 as the native estimators see it: the one place for private names they use."""

from __future__ import annotations

from sklearn.base import _fit_context
from sklearn.linear_model import _cd_fast
from sklearn.linear_model._logistic import _LOGISTIC_SOLVER_CONVERGENCE_MSG
from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature
from sklearn.utils._param_validation import Interval
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight

__all__ = [
    "LOGISTIC_ADVICE", "NOT_CONVERGED", "USE_RIDGE", "Interval", "begin_partial_fit", "check_optimize_result",
    "check_sample_weight", "fit_context", "handle_zeros_in_scale", "is_constant_feature", "output_config",
]  # fmt: skip

fit_context = _fit_context
output_config = _get_output_config
handle_zeros_in_scale = _handle_zeros_in_scale
is_constant_feature = _is_constant_feature
check_sample_weight = _check_sample_weight
check_optimize_result = _check_optimize_result
begin_partial_fit = _check_partial_fit_first_call
LOGISTIC_ADVICE = _LOGISTIC_SOLVER_CONVERGENCE_MSG
NOT_CONVERGED: str = _cd_fast.message_conv
USE_RIDGE: str = _cd_fast.message_ridge
