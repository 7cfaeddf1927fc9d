"""Predictions of the rows of a fold by a fit of the others.

Where the model is linear with one residual variance, or known ones, no column depends on other rows
and none vanishes, the cross-products of the rows left out are subtracted from those of all, and
theta is estimated from there: no other row is read. Otherwise the model is fitted anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.errors import DataError, MixedfxError, NewLevelError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.least_squares import solve_least_squares
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.estimation.starts import can_have_several_minima
from mixedfx.inference.predictive_rows import PredictedRows, predicted_rows
from mixedfx.inference.validation.folds import Fold
from mixedfx.inference.validation.training import TrainingRows, learns_from_rows
from mixedfx.likelihood.accumulate import check_identified
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.deleted_rows import DeletedRows, has_independent_columns
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.prediction_variance import PredictionRows, prediction_errors
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.residuals.predictive import NormalPredictive

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


# From a start near the optimum the last digits cost one evaluation.
_CONTROL = Control(tolerance=1e-12)


@dataclass(frozen=True)
class FoldPrediction:
    """Distribution of the responses of a fold."""

    fold: Fold
    y: Vector = field(repr=False)  # (m,)
    rows: PredictedRows
    known: Mask = field(repr=False)  # (m,) whether the fit has all levels of a row
    mean_of_others: float  # of the responses that were fitted
    converged: bool

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.y, self.known)


@dataclass(frozen=True)
class SubtractedFits:
    """Fits whose cross-products are those of all rows less those of the fold."""

    fit: FittedModel
    deleted: DeletedRows
    start: Vector | None

    @staticmethod
    def of(fit: FittedModel) -> SubtractedFits | None:
        """None where another fit is not a change of the cross-products alone."""
        plain = fit.residual.model.estimator == "engine" and not fit.priors.specified
        if not plain or not fit.rows.in_memory or learns_from_rows(fit.spec):
            return None
        deleted = DeletedRows.of(fit.crossprod, fit.rows)
        if deleted is None:
            return None
        start = None if can_have_several_minima(fit.likelihood) else fit.solution.theta
        return SubtractedFits(fit, deleted, start)

    def solution(self, test: Codes) -> tuple[Solution, bool] | None:
        """Estimates without some rows, and whether the search converged; None: fit anew."""
        fit = self.fit
        crossprod = self.deleted.without(test)
        if not has_independent_columns(crossprod):
            return None
        check_identified(fit.spec, crossprod, fit.rows.weights)
        likelihood = GaussianLikelihood(crossprod, fit.reml)
        if fit.spec.is_least_squares:
            return solve_least_squares(likelihood), True
        found = estimate_theta(fit.design, likelihood, start=self.start, control=_CONTROL)
        return likelihood.at_factors(found.factors or ()), found.converged

    def predicted(self, fold: Fold) -> tuple[PredictedRows, bool] | None:
        """Rows of a fold."""
        test = fold.test
        found = self.solution(fold.left_out)
        if found is None:
            return None
        solution, converged = found
        rows, terms = self.fit.rows, self.fit.rows.random_terms
        new = PredictionRows(
            rows.X[test],
            [term.model_matrix[test] for term in terms],
            [term.codes[test] for term in terms],
        )
        eta = new.X @ solution.beta
        for Z, codes, b in zip(
            new.model_matrices, new.codes, solution.conditional_modes(), strict=True
        ):
            eta = eta + np.einsum("nk,kn->n", Z, b[:, codes])
        if rows.offset is not None:
            eta = eta + rows.offset[test]
        variance = solution.sigma**2 * prediction_errors(solution, new).variance
        w = rows.weights
        residual = np.full(len(test), solution.sigma**2)
        around = NormalPredictive(residual if w is None else residual / w[test])
        return PredictedRows(eta, variance, around), converged


def log_density_of_rest(everything: CrossProducts, solution: Solution) -> float:
    """
    Log density of the rows that a solution was not estimated from, given those that it was.

    Half the difference of two restricted criteria at one theta and sigma: the coefficients are
    integrated over, with a flat prior.
    """
    whole = replace(everything, sigma=solution.sigma)
    part = replace(solution.crossprod, sigma=solution.sigma)
    criteria = [solve_pls_at_factors(c, solution.factors, reml=True) for c in (whole, part)]
    return -0.5 * (criteria[0].deviance - criteria[1].deviance)


@dataclass(frozen=True)
class FoldFits:
    """Fits without the rows of each fold."""

    fit: FittedModel

    def predictions(self, folds: Sequence[Fold]) -> Iterator[FoldPrediction]:
        """Predict each fold."""
        subtracted, training = SubtractedFits.of(self.fit), TrainingRows(self.fit)
        training.check_response(folds[0].train)
        with single_threaded_blas(self.fit.crossprod.symbolic.dense_size):
            for fold in folds:
                with naming_fold(fold):
                    found = self._prediction(fold, subtracted, training)
                yield found

    def _prediction(
        self, fold: Fold, subtracted: SubtractedFits | None, training: TrainingRows
    ) -> FoldPrediction:
        found = None if subtracted is None else subtracted.predicted(fold)
        rows, converged = _refitted(fold, training) if found is None else found
        y, test, train = self.fit.rows.y, fold.test, fold.train
        missing = test[~(np.isfinite(rows.eta) & np.isfinite(rows.variance))]
        if len(missing):
            raise DataError(
                f"row {self.fit.rows.index[missing[0]]!r} cannot be predicted from the others: "
                "they do not determine the coefficients of its combination of levels. Take folds "
                "that leave rows of each combination, or a simpler formula."
            )
        known = self._known(train, test)
        return FoldPrediction(fold, y[test], rows, known, float(y[train].mean()), converged)

    def _known(self, train: Codes, test: Codes) -> Mask:
        """Rows all of whose levels are those of rows that are fitted."""
        known = np.ones(len(test), dtype=bool)
        for term in self.fit.rows.random_terms:
            seen = np.zeros(term.n_levels, dtype=bool)
            if term.memberships is None:
                seen[term.codes[train]] = True
                known &= seen[term.codes[test]]
            else:
                S = term.memberships.csr
                seen[S[term.codes[train]].indices] = True
                known &= np.asarray((S[term.codes[test]] @ ~seen) == 0)
        return known


def _refitted(fold: Fold, training: TrainingRows) -> tuple[PredictedRows, bool]:
    """Rows of a fold by a fit of the others, built anew."""
    fit = training.refitted(fold.train)
    labels = training.fit.spec.family.labels
    if fit.spec.family.labels != labels:
        lost = next(label for label in labels if label not in fit.spec.family.labels)
        raise DataError(
            f"category {lost!r} of the response has no row among those fitted, so its probability "
            "is not estimated: take fewer folds, or folds with rows of each category."
        )
    weights = training.weights
    w = None if weights is None else weights[fold.test]
    try:
        rows = predicted_rows(fit, training.frame.iloc[fold.test], w)
    except NewLevelError as error:
        advice = "Give folds= labels by which rows of each value are fitted, or leave the term out."
        raise NewLevelError(f"{error} {advice}") from None
    return rows, fit.optimizer_result.converged


@contextlib.contextmanager
def naming_fold(fold: Fold) -> Iterator[None]:
    """Say in an error which fold it is of."""
    try:
        yield
    except MixedfxError as error:
        text = f"fold {fold.label!r}, fitted to {fold.n_train:,} rows: {error}"
        error.args = (text, *error.args[1:])
        raise
