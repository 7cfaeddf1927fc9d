"""Random small designs with a family and a link, and random parameters for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from designs import TERMS, Case, cases
from hypothesis import assume
from hypothesis import strategies as st

import mixedfx as mfx
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.design.build import Design, build
from mixedfx.errors import MixedfxError
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.families import FAMILIES, Family
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalCoordinates,
    Point,
)
from mixedfx.likelihood.generalized.rows import GeneralizedRows

PAIRS = [(name, link) for name, family in FAMILIES.items() for link in family.links]
# Links whose linear predictor must not change its sign.
ONE_SIDED = ("identity", "inverse", "sqrt")


@dataclass(frozen=True)
class GeneralizedCase:
    """A design's structure, with a response of the family, and parameters at which to evaluate."""

    case: Case
    pair: tuple[str, str]
    rounded: bool  # covariates of few values, so that rows merge

    @property
    def family(self) -> Family:
        family = FAMILIES[self.pair[0]].with_link(self.pair[1])
        return family.of_categories(("1", "2", "3")) if family.ordered else family

    @property
    def _centre(self) -> float:
        """Linear predictor about which the effects move it."""
        link = self.pair[1]
        if self.family.takes_trials and link == "log":
            return -4.0
        any_sign = ("gaussian", "identity"), ("student", "identity")
        return 4.0 if link in ONE_SIDED and self.pair not in any_sign else 0.0

    @property
    def spread(self) -> float:
        return 0.08 if self._centre else 1.0

    @property
    def formula(self) -> str:
        return self.case.formula

    @cached_property
    def data(self) -> pd.DataFrame:
        table, rng = self.case.data.copy(), np.random.default_rng(self.case.seed + 7)
        n = len(table)
        if self.rounded:
            table["x"], table["z"] = np.rint(table["x"]), np.rint(table["z"])
            table["o"] = np.rint(table["o"])
        table["o"] = self._centre + 0.3 * self.spread * table["o"]
        if self.family.takes_trials:
            table["w"] = rng.integers(1, 7, n).astype(float)
        w = table["w"].to_numpy() if self.case.weighted else None
        eta = self._centre + 0.3 * self.spread * rng.normal(size=n)
        y = self.family.simulate(self.family.mean(eta), w, self.params, rng)
        if self.family.ordered:
            y[:3] = [1.0, 2.0, 3.0][: len(y)]
        elif self.family.discrete:
            y[:2] = 0.0, 1.0  # not constant
        return table.assign(y=y)

    @cached_property
    def design(self) -> Design:
        return build(
            mfx.parse(self.formula),
            self.data,
            weights="w" if self.case.weighted else None,
            offset="o" if self.has_offset else None,
            family=self.family,
        )

    @property
    def has_offset(self) -> bool:
        return self.case.has_offset or bool(self._centre)

    @property
    def can_be_evaluated(self) -> bool:
        try:
            return self.design.rows.n > 0 and bool(self.case.theta.size)
        except MixedfxError:
            return False

    # ------------------------------------------------------------ parameters, as in the formula

    @cached_property
    def params(self) -> np.ndarray:
        rng = np.random.default_rng(self.case.seed + 3)
        if self.family.ordered:
            return np.sort(rng.normal(size=2)) + np.array([0.0, 0.1])
        params = np.exp(rng.uniform(-2.0, 0.0, len(self.family.param_names)))
        if self.pair[0] == "tweedie":
            return np.array([params[0], 1.1 + 0.8 * params[1]])
        # Of few degrees of freedom a density has several modes, of which each search finds one.
        return params * [20.0 if name == "df" else 1.0 for name in self.family.param_names]

    @cached_property
    def beta(self) -> np.ndarray:
        rng = np.random.default_rng(self.case.seed + 2)
        scale = np.abs(self.design.rows.X).max(axis=0, initial=1.0)
        return 0.5 * self.spread * rng.normal(size=self.design.rows.X.shape[1]) / scale

    @cached_property
    def lambdas(self) -> list[np.ndarray]:
        factors = self.case.crossprod.parametrization.lambdas(self.case.theta * self.spread)
        return [np.asarray(F) for F in factors]

    # ------------------------------------------------------------ our likelihood

    @cached_property
    def rows(self) -> GeneralizedRows:
        return GeneralizedRows.of(self.design)

    @property
    def point(self) -> Point:
        return self.point_of(self.lambdas, self.beta, self.params)

    def point_of(self, factors, beta, params) -> Point:
        """Point of factors, coefficients and parameters of the formula's own columns."""
        terms = zip(self.rows.bases, factors, strict=True)
        own = tuple(basis.own_factor(F) for basis, F in terms)
        return Point(own, basis_coefficients(self.rows, beta), self.family.coordinates(params))

    def likelihood(self, nagq: int = 1) -> GeneralizedLikelihood:
        return GeneralizedLikelihood(self.rows, nagq)

    @cached_property
    def coordinates(self) -> MarginalCoordinates:
        covariance: Coordinates = self.rows.parametrization.coordinates
        return MarginalCoordinates(covariance, self.rows.p, len(self.params))

    def as_in_formula(self, point: Point):
        """Factors, coefficients and parameters of a point, of the formula's own columns."""
        factors = [b.T @ F for b, F in zip(self.rows.bases, point.factors, strict=True)]
        beta = np.linalg.solve(self.rows.qr_R, point.beta) if self.rows.p else point.beta
        return factors, beta, self.family.natural(point.family_coordinates)


@st.composite
def generalized_cases(
    draw,
    *,
    kinds=("ordinary", "some zero", "all zero", "singular", "tiny"),
    terms=None,
    pairs=tuple(PAIRS),
) -> GeneralizedCase:
    """Draw a family, a link, and a structure; ``terms`` restricts it to one factor with these."""
    case = draw(cases(kinds=kinds, most_factors=1 if terms else 3))
    if terms:
        [factor] = case.factors
        case = replace(case, factors=[replace(factor, terms=draw(st.sampled_from(terms)))])
        assume(case.can_be_fitted)
    found = GeneralizedCase(case, draw(st.sampled_from(pairs)), draw(st.booleans()))
    assume(found.can_be_evaluated)
    return found


NARROW = [t for t in TERMS if len(t) == 1 and t[0] in ("1 |", "x |", "0 + x |", "x ||")]
