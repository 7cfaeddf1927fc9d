"""What both estimators share: X, y and groups as a table, the formula, fits and predictions.

Without a formula the columns of X are the fixed effects, and ``groups`` has a random intercept;
without groups, too, the model is a regression. One that explains its response exactly, or has no
more rows than coefficients, has no likelihood with a maximum, and the package refuses it: the
coefficients are then least squares of minimum norm, as of scikit-learn's ``LinearRegression``, or
the mode with a normal prior, as of its ``LogisticRegression``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment
from scipy import special
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from mixedfx._names import encode, unused_name, written
from mixedfx.design.source import as_frame
from mixedfx.errors import ArgumentError, brief
from mixedfx.formula.expansion import of_columns
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]

GROUPS = "groups"
# Functions of a formula beside those that formulas know; the caller's own are not there.
ENVIRONMENT = EvalEnvironment([{"np": np}])
_MOST_STEPS = 100
# Names of the columns that a formula does not write.
_RESPONSE, _WEIGHTS = "response", "sample weight"


@dataclass(frozen=True)
class Table:
    """X with the response, groups and weights as columns."""

    frame: pd.DataFrame
    formula: Formula
    weights: str | None
    columns: pd.Index  # of X
    response: str

    def arrays(self) -> tuple[Vector, Vector, Vector]:
        """X, y and weights, ones without."""
        names = [self.response] + ([] if self.weights is None else [self.weights])
        X, rest = self.frame[self.columns].to_numpy(dtype=float), self.frame[names].to_numpy()
        return X, rest[:, 0], np.ones(len(rest)) if self.weights is None else rest[:, 1]


class MixedModel(BaseEstimator):  # type: ignore[misc]
    """Table, formula and predictions of an estimator."""

    formula: str | None
    result_: Any
    intercept_: Any
    coef_: Any
    # With metadata routing groups go where they are used, without a request.
    __metadata_request__fit: ClassVar = {"groups": True}
    __metadata_request__predict: ClassVar = {"groups": True}
    __metadata_request__score: ClassVar = {"groups": True}

    def __sklearn_tags__(self) -> Any:
        """With a formula columns may be text and categories, and values missing."""
        tags = super().__sklearn_tags__()
        with_formula = self.formula is not None
        tags.input_tags.categorical = tags.input_tags.string = with_formula
        tags.input_tags.allow_nan = with_formula
        return tags

    # ------------------------------------------------------------ X as a table

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[pd.DataFrame, Any]:
        """X as a table; numbers alone where there is no formula."""
        if self.formula is None:
            if reset:
                X, y = validate_data(self, X, y, reset=True, multi_output=True, dtype="numeric")
            else:
                X = validate_data(self, X, reset=False, dtype="numeric")
            return pd.DataFrame(X, columns=self._columns(X.shape[1])), y
        if not isinstance(X, pd.DataFrame):
            X = self._as_frame(X)
        if reset:
            validate_data(self, X, y, reset=True, skip_check_array=True)
        return X, y

    def _as_frame(self, X: Any) -> pd.DataFrame:
        if isinstance(X, np.ndarray | list | tuple):
            raise ArgumentError(
                f"formula='{self.formula}' names columns, and X={brief(X)} has no names: give a "
                "DataFrame. In a Pipeline, set_output(transform='pandas') keeps them."
            )
        return as_frame(X)

    def _columns(self, n: int) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{i}" for i in range(n)] if names is None else [str(name) for name in names]

    def _with_groups(self, frame: pd.DataFrame, groups: Any) -> pd.DataFrame:
        """The table with a column of the groups, where they are given."""
        if groups is None:
            return frame
        values = np.asarray(groups, dtype=object)
        if values.shape != (len(frame),):
            raise ArgumentError(
                f"groups has shape {values.shape}, and X has {len(frame)} rows: give a group for "
                "each."
            )
        if self.formula is not None and GROUPS in frame.columns:
            raise ArgumentError(f"X has a column '{GROUPS}', and groups= is given: leave one out.")
        return frame.assign(**{unused_name(GROUPS, frame.columns): pd.Series(groups).array})

    def _table(
        self, X: pd.DataFrame, y: Vector, groups: Any, sample_weight: Any, name: Any
    ) -> Table:
        """Rows with positive weights; the response is named as the Series was."""
        w = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        frame = self._with_groups(X, groups)
        wanted = name if isinstance(name, str) and name.isidentifier() else _RESPONSE
        response = unused_name(wanted, frame.columns)
        frame = frame.assign(**{response: y})
        formula = parse(f"{written(encode(response))} {self._right_side(X, groups)}")
        names = [str(column) for column in frame.columns]  # the dot is no weights
        formula = of_columns(formula, names)
        weights = None
        if w is not None:
            if not (w > 0.0).any():
                raise ArgumentError("sample_weight: all weights are zero; nothing is fitted.")
            weights = unused_name(_WEIGHTS, frame.columns)
            frame = frame.assign(**{weights: w})[w > 0.0]
        return Table(frame, formula, weights, X.columns, response)

    def _right_side(self, X: pd.DataFrame, groups: Any) -> str:
        if self.formula is None:
            terms = [written(encode(str(column))) for column in X.columns]
            if groups is not None:
                terms.append(f"(1 | {written(encode(unused_name(GROUPS, X.columns)))})")
            return "~ " + " + ".join(terms or ["1"])
        if not isinstance(self.formula, str) or not self.formula.lstrip().startswith("~"):
            raise ArgumentError(
                f"formula={brief(self.formula)} must be text without a response, such as "
                "'~ x + (1 | group)': the response is y."
            )
        return self.formula.lstrip()

    # ------------------------------------------------------------ predictions

    def _new_rows(self, X: Any, groups: Any) -> pd.DataFrame:
        check_is_fitted(self)
        frame, _ = self._validated(X, None, reset=False)
        frame = self._with_groups(frame, groups)
        if groups is None and GROUPS in self._grouping and GROUPS not in frame.columns:
            # Rows of a group that no row of the fit has.
            frame = frame.assign(**{GROUPS: free_group(self.result_, GROUPS)})
        return frame

    @property
    def _grouping(self) -> tuple[str, ...]:
        return () if self.result_ is None else self.result_.formula.groups

    def _predicted(self, X: Any, groups: Any, which: str) -> Vector:
        """Means or linear predictors, those of new groups at the population."""
        frame = self._new_rows(X, groups)
        if self.result_ is None:
            linear = frame.to_numpy(dtype=float) @ np.ravel(self.coef_)
            return np.asarray(np.ravel(self.intercept_) + linear)
        found = self.result_.predict(frame, which=which, new_levels="population")
        return np.asarray(found, dtype=np.float64)


def free_group(result: Any, group: str) -> str:
    """A label that no level of a fit has."""
    known = {str(label) for label in result.model.spec.levels_of(group).labels}
    return unused_name("new", known)


def minimum_norm(X: Vector, y: Vector, w: Vector) -> tuple[float, Vector]:
    """Intercept and coefficients of weighted least squares, of minimum norm."""
    x_mean, y_mean = (np.average(values, axis=0, weights=w) for values in (X, y))
    root = np.sqrt(w)
    found = np.linalg.lstsq(root[:, None] * (X - x_mean), root * (y - y_mean), rcond=None)[0]
    coef = np.asarray(found, dtype=np.float64)
    return float(y_mean - x_mean @ coef), coef


def has_free_rows(X: Vector, y: Vector) -> bool:
    """Whether there are more distinct rows than coefficients."""
    distinct = np.unique(np.column_stack([X, y]), axis=0)
    return bool(len(distinct) > X.shape[1] + 1)


def logistic_mode(X: Vector, y: Vector, w: Vector) -> tuple[float, Vector]:
    """
    Intercept and coefficients of a logistic regression with standard normal priors of these.

    Newton steps, halved until the penalised log-likelihood rises.
    """
    M = np.column_stack([np.ones(len(y)), X])
    penalty = np.append(0.0, np.ones(X.shape[1]))

    def value(b: Vector) -> float:
        eta = M @ b
        return float(w @ (y * eta - np.logaddexp(0.0, eta)) - 0.5 * penalty @ b**2)

    b = np.zeros(M.shape[1])
    for _ in range(_MOST_STEPS):
        p = special.expit(M @ b)
        gradient = M.T @ (w * (y - p)) - penalty * b
        H = M.T @ ((w * p * (1.0 - p))[:, None] * M) + np.diag(penalty)
        step = np.linalg.solve(H, gradient)
        while not value(b + step) >= value(b) - 1e-12 and np.abs(step).max() > 1e-14:
            step = 0.5 * step
        b = b + step
        if gradient @ step < 1e-24 * len(y):
            break
    return float(b[0]), b[1:]
