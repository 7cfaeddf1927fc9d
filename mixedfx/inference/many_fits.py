"""Fits of many responses of one design: together where that is certified, else one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import MixedfxError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.known_optimum import KnownOptimum
from mixedfx.estimation.many_responses import can_be_vectorized, estimate_many
from mixedfx.inference.denominator_df import denominator_df
from mixedfx.likelihood.accumulate import compute_crossproducts, with_response
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.many_responses import ManyResponses
from mixedfx.refit import fit_response

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Failures of one response, which are counted; all others are raised.
FAILURES = (MixedfxError, ArithmeticError, np.linalg.LinAlgError)
# Of so many responses, the optimum of the first pays for what the searches near it need.
_MANY = 5


@dataclass(frozen=True)
class CombinationEstimates:
    """Estimates of combinations of coefficients and of variances; NaN where there are none."""

    estimate: Matrix = field(repr=False)  # (r, B)
    variance: Matrix = field(repr=False)  # (r, B)
    df: Matrix = field(repr=False)  # (r, B)
    sigma2: Vector = field(repr=False)  # (B,)
    components: Matrix = field(repr=False)  # (2 + terms, B) variance of the fixed part, terms, rest
    failures: dict[int, str]  # by response
    n_single: int  # responses that were fitted one by one


@dataclass(frozen=True)
class ManyFits:
    """Fits of a linear model to the columns of Y, (n, B)."""

    design: Design
    crossprod: CrossProducts
    Y: Matrix = field(repr=False)
    reml: bool
    method: str  # of degrees of freedom

    @staticmethod
    def of(design: Design, Y: Matrix, *, reml: bool, method: str) -> ManyFits:
        """Fits of a design with the response Y of its rows."""
        return ManyFits(design, compute_crossproducts(design), Y, reml, method)

    def estimates(self, rows: Matrix) -> CombinationEstimates:
        """Estimates of combinations (r, p) of the coefficients, of each response."""
        terms, B = self.design.spec.random_terms, self.Y.shape[1]
        values = np.full((3, len(rows), B), np.nan)
        sigma2, components = np.full(B, np.nan), np.full((2 + len(terms), B), np.nan)
        left = np.arange(B)
        if terms and can_be_vectorized(self.crossprod):
            certified, *found = self._together(rows)
            values[:, :, certified] = found[0][:, :, certified]
            sigma2[certified] = found[1][certified]
            components[:, certified] = found[2][:, certified]
            left = np.flatnonzero(~certified)
        failures, optimum = {}, None
        for done, r in enumerate(left.tolist()):
            if np.ptp(self.Y[:, r]) == 0.0:
                failures[r] = "the response has one value in all its rows."
                continue
            try:
                fit = self.fit(r, optimum)
                values[:, :, r], sigma2[r], components[:, r] = self._single(fit, rows)
            except FAILURES as error:
                failures[r] = str(error).split("\n")[0]
                continue
            if done == 0 and len(left) >= _MANY:
                optimum = KnownOptimum.of(fit.likelihood, fit.solution.factors)
        return CombinationEstimates(
            values[0], values[1], values[2], sigma2, components, failures, len(left)
        )

    def fit(self, r: int, optimum: KnownOptimum | None = None) -> FittedModel:
        """The fit of one response, from the optimum of another where that leads to its own."""
        design = self.design.with_response(self.Y[:, r])
        crossprod = with_response(self.crossprod, design.rows)
        with np.errstate(all="ignore"):
            return fit_response(optimum, design, GaussianLikelihood(crossprod, self.reml))

    def _together(self, rows: Matrix) -> tuple[npt.NDArray[np.bool_], Matrix, Vector, Matrix]:
        """Which are certified; estimates, variances and df (3, r, B), sigma**2, and components."""
        offset = self.design.rows.offset
        Y = self.Y if offset is None else self.Y - offset[:, None]
        many = ManyResponses.of(self.crossprod, self.design.rows, Y, reml=self.reml)
        found = estimate_many(many, rows)
        constant = {"residual": self.crossprod.n - self.crossprod.p, "normal": np.inf}
        df = found.df
        if self.method in constant:
            df = np.full_like(df, constant[self.method])
        values = np.stack([rows @ found.coefficients, found.variances, df])
        of_terms = [
            self._variance_of_term(t, found.factors[at.columns, at.columns], found.sigma2)
            for t, at in enumerate(self.crossprod.term_positions)
        ]
        parts = (self._variance_of_fixed(found.coefficients), *of_terms, found.sigma2)
        return found.certified, values, found.sigma2, np.stack(parts)

    def _single(self, fit: FittedModel, rows: Matrix) -> tuple[Matrix, float, Vector]:
        ddf, beta = denominator_df(fit, self.method), fit.solution.beta
        sigma2 = np.array([fit.solution.sigma**2])
        parts = [
            self._variance_of_term(t, F[:, :, None], sigma2)
            for t, F in enumerate(fit.solution.factors)
        ]
        df = [ddf.t_df(row) for row in rows]
        values = np.stack([rows @ beta, ddf.covariance.variances(rows), np.array(df)])
        fixed = self._variance_of_fixed(beta[:, None])
        return values, float(sigma2[0]), np.concatenate([fixed, *parts, sigma2])

    def _variance_of_fixed(self, beta: Matrix) -> Vector:
        """Variance of ``X beta`` over the rows, (B,)."""
        X = self.design.rows.X - self.design.rows.X.mean(axis=0)
        cov = X.T @ X / (len(X) - 1.0)
        return np.asarray(np.einsum("pb,pq,qb->b", beta, cov, beta, optimize=True))

    def _variance_of_term(self, t: int, F: Matrix, sigma2: Vector) -> Vector:
        """Mean over the rows of ``var(z'b)``: ``sigma**2 tr(F F' Z'WZ) / sum w``, (B,)."""
        at, w = self.crossprod.term_positions[t], self.design.rows.weights
        products = self.crossprod.ZtZ.diagonal[at.group][at.columns, at.columns].sum(axis=2)
        total = float(self.crossprod.n if w is None else w.sum())
        return np.asarray(sigma2 * np.einsum("acb,dcb,ad->b", F, F, products) / total)
