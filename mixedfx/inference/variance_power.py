"""Simulated tests of a variance: p-values of the (restricted) likelihood ratio.

Where the model has this one random term, with one effect, the statistic of a simulated response is
drawn without fits, from the spectral representation of :mod:`mixedfx.inference.rlrt` with
``(1 + l0 mu_s) w_s^2`` in place of ``w_s^2``, ``l0`` the true ratio of variances (Crainiceanu and
Ruppert 2004, theorem 1). Otherwise both models are refitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.inference.comparison import ratio_p_value, reduced_models
from mixedfx.inference.given_parameters import parameter_values
from mixedfx.inference.many_fits import FAILURES
from mixedfx.inference.rlrt import null_draws, spectrum
from mixedfx.refit import optimum_for_refits, refit

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Draws of the statistic where nothing is fitted, by the number of eigenvalues.
_LEAST, _MOST, _EIGENVALUES = 10_000, 100_000, 5_000_000
_FEWER = "Take a design with fewer levels of this factor."
_ZERO = 1e-6  # statistics below are rounding


@dataclass(frozen=True)
class VarianceTest:
    """Test that a random effect has no variance."""

    name: str  # of the model without it, as of ranova
    t: int  # the random term
    n_removed: int  # effects
    has_exact_null: bool  # as of rlrt
    is_alone: bool  # and the only random term

    def check_exact(self) -> None:
        """Raise where the statistic cannot be drawn without fits."""
        if not self.is_alone:
            raise ArgumentError(
                "method='exact' draws the statistic of a variance without fits, in REML fits whose "
                "one random term has one effect; take method='simulation'."
            )

    def drawn_p_values(
        self,
        model: FittedModel,
        design: Design,
        params: Mapping[str, Any] | None,
        n_sim: int | None,
        rng: np.random.Generator,
    ) -> Vector:
        """P-values of draws of the statistic, (n_sim,); None: of as many as take few seconds."""
        values = parameter_values(model, params)
        ratio = float(values.effect_factors[self.t][0, 0] / values.sigma) ** 2
        mu, rest = spectrum(design.rows, self.t, "power()", _FEWER)
        most = _n_draws(mu)
        null = null_draws(mu, rest, most, rng)
        n_sim = most if n_sim is None else n_sim
        return _exceeding(null, null_draws(mu, rest, n_sim, rng, ratio=ratio))

    def refitted_p_values(
        self, model: FittedModel, design: Design, Y: Matrix, rng: np.random.Generator
    ) -> Vector:
        """P-values of responses (n, n_sim) by fits with and without the effect; NaN where none."""
        options: Any = {"engine": "profiled", "reml": model.reml, "control": Control()}
        full = fit_design(design, **options)
        _, smaller, _ = next(m for m in reduced_models(full) if m[0] == self.name)
        reduced = fit_design(smaller, **options)
        near, near_reduced = optimum_for_refits(full), optimum_for_refits(reduced)
        statistics = np.full(Y.shape[1], np.nan)
        for r, y in enumerate(Y.T):
            try:
                above = refit(reduced, y, **options, optimum=near_reduced).deviance
                below = refit(full, y, **options, optimum=near).deviance
                statistics[r] = max(above - below, 0.0)
            except FAILURES:
                continue
        if self.has_exact_null:
            mu, rest = spectrum(design.rows, self.t, "power()", _FEWER)
            return _exceeding(null_draws(mu, rest, _n_draws(mu), rng), statistics)
        df = full.crossprod.parametrization.size - reduced.crossprod.parametrization.size
        return np.array([ratio_p_value(s, df, self.n_removed) for s in statistics])


def variance_test(fit: FittedModel, term: str) -> VarianceTest | None:
    """Test of a random effect by its name; None if there is none of the name."""
    name = _names(fit).get(term)
    if name is None:
        return None
    n_removed = next(n for other, _, n in reduced_models(fit) if other == name)
    terms = [str(term.formula_term) for term in fit.spec.random_terms]
    t = next(t for t, text in enumerate(terms) if name == text or name.endswith(f" in {text}"))
    spec = fit.spec.random_terms[t]
    one = len(spec.effect_names) == 1 and spec.is_plain and fit.reml
    one = one and fit.spec.residual.linear and fit.spec.residual.equal_variances
    alone = one and len(fit.spec.random_terms) == 1
    return VarianceTest(name, t, n_removed, one, alone)


def variance_names(fit: FittedModel) -> list[str]:
    """Names of random effects that can be tested."""
    return list(_names(fit))


def _names(fit: FittedModel) -> dict[str, str]:
    """Names under which each test can be asked for: ranova's, the term, its group, ``sd(...)``."""
    names: dict[str, str] = {}
    if not fit.spec.random_terms:
        return names
    for name, _, _ in reduced_models(fit):
        names[name] = name
        effect, _, of_term = name.rpartition(" in ")
        for spec in fit.spec.random_terms:
            if str(spec.formula_term) != (of_term or name):
                continue
            if not effect and len(spec.effect_names) == 1:
                names[spec.component_name("sd", (0,))] = name
                if len(fit.spec.terms_of(spec.group)) == 1:
                    names.setdefault(spec.group, name)
            elif effect in spec.effect_names:
                names[spec.component_name("sd", (spec.effect_names.index(effect),))] = name
    return names


def _n_draws(mu: Vector) -> int:
    return int(np.clip(_EIGENVALUES // max(len(mu), 1), _LEAST, _MOST))


def _exceeding(null: Vector, statistics: Vector) -> Vector:
    """Share of the draws without the effect that reach each statistic; NaN stays."""
    below = np.searchsorted(np.sort(null), statistics - 1e-8)
    p_values = 1.0 - below / len(null)
    p_values = np.where(statistics > _ZERO, p_values, 1.0)
    return np.where(np.isnan(statistics), np.nan, p_values)
