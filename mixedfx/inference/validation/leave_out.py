"""Expected log predictive density of groups, by leaving each out.

    elpd = sum_g log p(y_g | y_-g),

each density at the estimates of the other rows (Vehtari, Gelman and Gabry 2017, Stat. Comput.
27:1413, with estimates in the place of posterior draws). All parameters are estimated anew. Of a
linear model the density is the joint normal one of the group's rows given the others, the
coefficients being integrated over; of a generalised one the ratio of the two marginal likelihoods,
the group's effects being integrated out by the approximation of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.inference.validation.cross_validation import check_can_be_validated
from mixedfx.inference.validation.fold_fits import (
    SubtractedFits,
    log_density_of_rest,
    naming_fold,
)
from mixedfx.inference.validation.folds import LEAVE_ONE_OUT, Fold, Units, make_folds
from mixedfx.inference.validation.training import TrainingRows
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class LeaveGroupOut:
    """
    Log predictive density of each group by a fit without it.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each group: ``group n elpd converged``.
    by : str
        The groups.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> slopes = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).loo(by="Subject")
    >>> intercepts = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep).loo(by="Subject")
    >>> slopes
    <mixedfx.LeaveGroupOut: elpd -891.3 (se 29.8), 18 groups of 'Subject'>
    >>> slopes.compare(intercepts).round(1)
    elpd_diff    15.8
    se_diff      15.1
    dtype: float64
    """

    table: pd.DataFrame
    by: str

    @property
    def elpd(self) -> float:
        """Sum over the groups."""
        return float(self.table["elpd"].sum())

    @property
    def se(self) -> float:
        """Standard error of the sum, the groups being independent."""
        return float(np.sqrt(len(self.table)) * self.table["elpd"].std())

    @property
    def looic(self) -> float:
        """-2 ``elpd``, on the scale of the deviance."""
        return -2.0 * self.elpd

    def compare(self, other: LeaveGroupOut) -> pd.Series:
        """
        Subtract the densities of another model of the same groups.

        Parameters
        ----------
        other : LeaveGroupOut
            Of another model of the same rows.

        Returns
        -------
        pandas.Series
            ``elpd_diff``, positive where this model predicts better, and ``se_diff``, the standard
            error of the sum of the groups' differences.

        Raises
        ------
        ArgumentError
            If the groups or their numbers of rows differ.
        """
        columns = ["group", "n"]
        if not isinstance(other, LeaveGroupOut) or not self.table[columns].equals(
            other.table[columns]
        ):
            raise ArgumentError("compare() takes the loo() of another model of the same rows.")
        difference = self.table["elpd"] - other.table["elpd"]
        error = float(np.sqrt(len(difference)) * difference.std())
        return pd.Series({"elpd_diff": float(difference.sum()), "se_diff": error})

    def __repr__(self) -> str:
        """Sum with its standard error."""
        return (
            f"<mixedfx.LeaveGroupOut: elpd {self.elpd:.1f} (se {self.se:.1f}), "
            f"{len(self.table):,} groups of '{self.by}'>"
        )


# Log density of the rows of a fold given the others, and whether the search converged.
Density = Callable[[Fold], tuple[float, bool]]


def leave_group_out(fit: FittedModel, units: Units) -> LeaveGroupOut:
    """Log predictive density of each group."""
    check_can_be_validated(fit, "loo()")
    check_no_priors(fit, "loo()")
    training = TrainingRows(fit)
    folds = make_folds(LEAVE_ONE_OUT, units, pd.DataFrame(), fit.rows.y, None)
    training.check_response(folds[0].train)
    density, found = _density(fit, training), []
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        for fold in folds:
            with naming_fold(fold):
                found.append(density(fold))
    columns = {
        "group": [fold.label for fold in folds],
        "n": [len(fold.test) for fold in folds],
        "elpd": [value for value, _ in found],
        "converged": [converged for _, converged in found],
    }
    return LeaveGroupOut(pd.DataFrame(columns), str(units.by))


def _density(fit: FittedModel, training: TrainingRows) -> Density:
    """How the densities of a model are computed."""
    deletion = fit.residual.deletion(fit.design, fit.solution)
    if deletion is not None:
        return lambda fold: deletion.held_out_density(fold.test)
    fit.spec.residual.check_one_variance(
        "loo()", "cross_validate(by=, folds='loo') scores the rows of each group one by one"
    )
    subtracted = SubtractedFits.of(fit)
    return partial(_of_linear, fit, subtracted, training)


def _of_linear(
    fit: FittedModel, subtracted: SubtractedFits | None, training: TrainingRows, fold: Fold
) -> tuple[float, bool]:
    """By cross-products of all rows less those of the group, or by a fit built anew."""
    found = None if subtracted is None else subtracted.solution(fold.test)
    if found is not None:
        solution, converged = found
        return log_density_of_rest(fit.crossprod, solution), converged
    again = training.refitted(fold.train)
    everything = _all_rows(again, fit, training)
    bases = again.crossprod.bases
    whole, part = (compute_crossproducts(d, bases=bases) for d in (everything, again.design))
    solution = replace(again.solution, crossprod=part)
    return log_density_of_rest(whole, solution), again.optimizer_result.converged


def _all_rows(again: FittedModel, fit: FittedModel, training: TrainingRows) -> Design:
    """All rows with the columns that a fit of some of them has."""
    new = evaluate_new_data(again.spec, training.frame, groups=(), effects=True)
    if not np.isfinite(new.X).all():
        raise ArgumentError(
            "the group's rows have levels or combinations that no other row has: their density is "
            "not determined. Leave the term out, or these rows."
        )
    pairs = zip(fit.rows.random_terms, new.model_matrices, strict=True)
    terms = tuple(replace(term, model_matrix=Z) for term, Z in pairs)
    specs = tuple(
        replace(own, levels=of_all.levels)
        for own, of_all in zip(again.spec.random_terms, fit.spec.random_terms, strict=True)
    )
    rows = replace(fit.rows, X=new.X, random_terms=terms)
    return Design(replace(again.spec, random_terms=specs), rows)
