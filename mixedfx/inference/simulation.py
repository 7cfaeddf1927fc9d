"""Responses simulated from a fit.

``y = eta + e``, ``eta = X beta + offset + Z b``, with ``b ~ N(0, sigma^2 Lambda Lambda')`` drawn
anew or at the conditional modes, and ``e`` with the residual standard deviations of the fit. A
generalised model's response has its family's distribution around the mean of ``eta``, and is on
the scale of the mean: a proportion where rows have trials.

Each response has a generator of its own, spawned from the caller's: the k-th response depends
neither on their number nor on the process that draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.design.new_data import all_levels, evaluate_combinations
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.slim import raise_without_rows
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.given_parameters import parameter_values
from mixedfx.inference.new_rows import new_offset, new_weights
from mixedfx.likelihood.crossproducts import LevelBasis
from mixedfx.likelihood.level_basis import effects_root
from mixedfx.linalg.random_streams import spawn_generators
from mixedfx.residuals.model import ResponseAroundPredictor

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

RandomName = Literal["new", "fitted"]
RANDOM: tuple[RandomName, ...] = ("new", "fitted")


@dataclass(frozen=True)
class ResponseDistribution:
    """Linear predictor and variance components from which responses are drawn."""

    predictor: Vector  # (n,) the part that is not drawn, offset included
    random_terms: tuple[RandomTermRows, ...]  # terms whose effects are drawn
    effect_factors: tuple[Matrix, ...]  # (k, k) sigma Lambda of each of them
    around: ResponseAroundPredictor
    level_roots: tuple[LevelBasis | None, ...] = ()  # T of ``A = T T'`` of each; None: identity

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.predictor, *self.effect_factors, *self.level_roots)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Draw one response, of shape (n,)."""
        return self.around.draw(self.draw_predictor(rng), rng)

    def draw_predictor(self, rng: np.random.Generator) -> Vector:
        """Draw the linear predictor of the mean, (n,)."""
        eta, effects = self.predictor.copy(), self.draw_effects(rng)
        for random_term, b in zip(self.random_terms, effects, strict=True):
            random_term.add_to_linear_predictor(eta, b)
        return eta

    def draw_effects(self, rng: np.random.Generator) -> list[Matrix]:
        """Draw the effects of each term, (k, levels)."""
        effects = []
        roots = self.level_roots or (None,) * len(self.random_terms)
        for random_term, factor, root in zip(
            self.random_terms, self.effect_factors, roots, strict=True
        ):
            columns = random_term.n_levels if root is None else root.shape[1]
            z = rng.standard_normal((len(factor), columns))
            effects.append(factor @ (z if root is None else z @ root.T))
        return effects


def stands_for_several(fit: FittedModel) -> bool:
    """Whether a row stands for several equal ones whose responses are not drawn together."""
    return fit.rows.in_memory and fit.rows.weights_are_counts and not fit.spec.family.takes_trials


def response_distribution(
    fit: FittedModel, *, random: RandomName = "new", params: Mapping[str, Any] | None = None
) -> ResponseDistribution:
    """Distribution of the response under the fit, with new effects or the conditional modes."""
    check_choice("random", random, RANDOM)
    rows, values = fit.rows, parameter_values(fit, params)
    around = fit.residual.distribution(
        rows, values.sigma, values.family_params, new_effects=random == "new"
    )
    if random == "fitted":
        predictor = rows.linear_predictor(values.beta, fit.solution.conditional_modes())
        return ResponseDistribution(predictor, (), (), around)
    predictor = rows.fixed_predictor(values.beta)
    roots = tuple(
        None if term.relationship is None else effects_root(term.relationship, term.levels)
        for term in fit.spec.random_terms
    )
    return ResponseDistribution(predictor, rows.random_terms, values.effect_factors, around, roots)


def new_response_distribution(
    fit: FittedModel, data: Any, *, random: RandomName, params: Mapping[str, Any] | None
) -> tuple[ResponseDistribution, pd.Index]:
    """Distribution of the responses of new rows; effects of levels that are unseen are drawn."""
    check_choice("random", random, RANDOM)
    check_plain_levels(fit.spec, "simulate(data=)", " Leave data= out.")
    values, spec = parameter_values(fit, params), fit.spec
    new, _, unseen = evaluate_combinations(spec, data, groups=fit.formula.groups, effects=True)
    for term, elsewhere in zip(spec.random_terms, unseen, strict=True):
        if elsewhere is not None and len(elsewhere.rows):
            raise ArgumentError(
                f"simulate(data=) draws the effects of {term.formula_term} at the positions that "
                f"the fit has, and row {new.frame.index[elsewhere.rows[0]]} is at another: take "
                "predict(interval='prediction'), or leave such rows out."
            )
    eta = new.X @ values.beta + new_offset(fit, new.frame)
    terms, factors = [], []
    for t, (Z, codes, b) in enumerate(
        zip(new.model_matrices, new.codes, fit.solution.conditional_modes(), strict=True)
    ):
        eta = np.where(codes == -2, np.nan, eta)
        levels, n_levels = all_levels(spec, new.frame, t, codes)
        drawn = np.nan_to_num(Z)
        if random == "fitted":
            known = codes >= 0
            eta = eta + np.where(known, np.einsum("nk,kn->n", drawn, b[:, levels * known]), 0.0)
            drawn = np.where(known[:, None], 0.0, drawn)
            if not (codes == -1).any():
                continue
        factors.append(values.effect_factors[t])
        group = spec.random_terms[t].group
        terms.append(RandomTermRows(group, n_levels, np.maximum(levels, 0), drawn))
    around = fit.residual.new_distribution(
        values.family_params,
        sds=lambda: _new_residual_sds(fit, new.frame, values.sigma),
        weights=lambda: new_weights(fit, new.frame),
        data=new.frame,
    )
    distribution = ResponseDistribution(eta, tuple(terms), tuple(factors), around)
    return distribution, new.frame.index


def _new_residual_sds(fit: FittedModel, frame: pd.DataFrame, sigma: float) -> Vector:
    """Residual standard deviation of each new row, (m,)."""
    if fit.spec.residual.has_random_effects:
        raise ArgumentError(
            "simulate(data=) takes no random effects of the residual standard deviation: leave "
            "data= out, or fit without the random term of dispersion=."
        )
    variances = fit.residual.new_variances(frame, fit.solution.sigma)
    variances = np.broadcast_to(variances, len(frame)) * (sigma / fit.solution.sigma) ** 2
    if fit.spec.residual.estimates_sigma and (w := new_weights(fit, frame)) is not None:
        variances = variances / w
    return np.asarray(np.sqrt(variances))


def simulate(
    fit: FittedModel,
    n: int = 1,
    *,
    rng: Any = None,
    random: RandomName = "new",
    data: Any = None,
    params: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Draw ``n`` responses from a fit, a column each."""
    if data is None:
        if stands_for_several(fit):
            raise_without_rows(
                "equal ones were merged when the source was read: fit.simulate(data=rows) draws "
                "responses of rows that it is given."
            )
        distribution, index = response_distribution(fit, random=random, params=params), None
    else:
        distribution, index = new_response_distribution(fit, data, random=random, params=params)
    generators = spawn_generators(rng, n)
    responses = np.empty((len(distribution.predictor), n), order="F")
    for column, generator in enumerate(generators):
        responses[:, column] = distribution.draw(generator)
    return pd.DataFrame(responses, index=fit.rows.index if index is None else index)
