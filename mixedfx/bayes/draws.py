"""Posterior draws of all parameters and effects, as an ArviZ data tree.

Given the covariances and sigma, ``(beta, b)`` is normal and drawn exactly: ``beta`` from its
marginal, ``b`` from its conditional distribution. With one grouping factor the latter is

    b = Lambda L^-T (L^-1 Lambda' Z'W(y - X beta) + sigma e),    e ~ N(0, I),    M = L L',

level by level; with several, by conditioning on a simulated response (Matheron's rule):
``b* + G Z'W(y - X beta - Z b* - e*)``, ``b*`` and ``e*`` drawn from the model and ``G`` the
conditional covariance of ``b`` over ``sigma**2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.bayes.convergence import convergence_problems
from mixedfx.bayes.correlations import correlation_draws
from mixedfx.bayes.location_scale import LocationScalePosterior
from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.sampler import Chains, sample_chains
from mixedfx.bayes.unconstrained import ConstrainedParameters
from mixedfx.design.build import Design
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import PriorError, check_count, check_flag
from mixedfx.estimation.dispersion.identified import scale_design
from mixedfx.likelihood.accumulate import sparse_Z
from mixedfx.linalg.random_streams import spawn_generators
from mixedfx.linalg.triangular import solve_upper
from mixedfx.priors.distributions import Flat
from mixedfx.priors.specification import NO_PRIORS, PriorSpecification
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Largest number of predicted responses, rows times draws; with more, draws are thinned.
_MAX_PREDICTED = 5_000_000
# Names of dimensions that ArviZ, or another variable, uses.
_RESERVED = (
    *("sample", "chain", "draw", "row", "term", "effect", "pair", "dispersion_term"),
    *("beta", "sd", "corr", "sigma", "gamma", "dispersion_sd", "dispersion_corr"),
    *("dispersion_effect", "dispersion_pair"),
)


@dataclass(frozen=True)
class ParameterDraws:
    """Draws of the constrained parameters and the effects, chains one after the other."""

    params: ConstrainedParameters
    beta: Matrix  # (draws, p)
    random_effects: tuple[npt.NDArray[np.float64], ...]  # (draws, k, levels) per term


@dataclass(frozen=True)
class PosteriorSamples:
    """Samples of a posterior, with what its data tree is made of."""

    design: Design
    posterior: LogPosterior = field(repr=False)
    chains: Chains = field(repr=False)
    draws: ParameterDraws = field(repr=False)
    _rng: np.random.Generator = field(repr=False)

    @cached_property
    def data_tree(self) -> Any:
        """
        ArviZ's groups: posterior, sample_stats, posterior_predictive, log_likelihood, data.

        The last three have a value for each row, and rows that were read in chunks have none.
        """
        from arviz_base import from_dict

        shape = self.chains.log_density.shape
        values, dims, coords = self._variables(shape)
        stats = {"lp": self.chains.log_density, "acceptance_rate": self.chains.acceptance}
        tree = from_dict({"posterior": values, "sample_stats": stats}, coords=coords, dims=dims)
        if self.design.rows.in_memory:
            # Separate, because a response may have the name of a parameter.
            tree.update(self._by_row(shape).children)
        tree["posterior"].attrs["sampler"] = self.chains.sampler
        tree["posterior"].attrs["efficiency"] = self.chains.efficiency
        tree["posterior"].attrs["pareto_k"] = self.chains.pareto_k
        tree.attrs["formula"] = str(self.design.spec.formula)
        return tree

    def _by_row(self, shape: tuple[int, ...]) -> Any:
        """Groups of what has a value for each row."""
        from arviz_base import from_dict

        rows = self.design.rows.index
        labels = np.arange(len(rows)) if rows.nlevels > 1 else rows.to_numpy()
        response = self.response_name
        predicted, log_likelihood = self._predictive_and_log_likelihood(shape)
        by_row: dict[str, Any] = {
            "posterior_predictive": {response: predicted},
            "log_likelihood": {response: log_likelihood},
            "observed_data": {response: self.design.rows.y},
        }
        axes = {"row": labels, "draw": np.arange(shape[1])[:: self._prediction_thinning]}
        return from_dict(by_row, coords=axes, dims={response: ["row"]})

    @property
    def response_name(self) -> str:
        """Name of the response that is no path, and no dimension's."""
        response = _without_slash(self.design.spec.formula.response_name)
        return f"{response}_response" if response in ("row", "chain", "draw") else response

    def convergence_problems(self) -> list[str]:
        """Name the parameters with a large R-hat or a small bulk effective sample size."""
        posterior = self.data_tree["posterior"].to_dataset()
        return convergence_problems(
            posterior[[name for name in posterior.data_vars if not str(name).startswith("b_")]]
        )

    def _variables(
        self, shape: tuple[int, ...]
    ) -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
        """Values, dimensions and coordinates of the variables of the posterior group."""
        spec, draws, transform = self.design.spec, self.draws, self.posterior.transform
        values, coords = dict[str, Any](), dict[str, Any]()
        dims = dict[str, list[str]]()

        def add(name: str, array: Any, *axes: tuple[str, Any]) -> None:
            values[name] = np.asarray(array).reshape(*shape, *(len(labels) for _, labels in axes))
            dims[name] = [axis for axis, _ in axes]
            coords.update(axes)

        if spec.X_names:
            add("beta", draws.beta, ("term", list(spec.X_names)))
        random_terms = spec.random_terms
        if random_terms:
            effects = [f"{e} | {term.group}" for term in random_terms for e in term.effect_names]
            add("sd", np.concatenate(draws.params.sds).T, ("effect", _number_duplicates(effects)))
        if pairs := correlation_draws(random_terms, draws.params):
            names = _number_duplicates([name for name, _ in pairs])
            add("corr", np.array([values for _, values in pairs]).T, ("pair", names))
        if spec.residual.estimates_sigma:
            add("sigma", transform.baseline_sigma(draws.params))
        if spec.residual.coefficient_names:
            names = [spec.residual.full_name(name) for name in spec.residual.coefficient_names]
            add("gamma", transform.gamma(draws.params), ("dispersion_term", names))
        points = self.chains.z.reshape(self.chains.log_density.size, self.posterior.size)
        for name, (array, axes) in self.posterior.further_variables(points, draws.params).items():
            add(name, array, *axes.items())
        for group in spec.formula.groups:
            own = [
                (random_term, effects)
                for random_term, effects in zip(random_terms, draws.random_effects, strict=True)
                if random_term.group == group
            ]
            joined = np.concatenate([effects for _, effects in own], axis=1).transpose(0, 2, 1)
            levels = own[0][0].levels.labels.to_numpy()
            names = _number_duplicates([e for term, _ in own for e in term.effect_names])
            name = _without_slash(group)
            axis = f"{name}_level" if name in _RESERVED else name
            add(f"b_{name}", joined, (axis, levels), (f"{name}_effect", names))
        return values, dims, coords

    @property
    def _prediction_thinning(self) -> int:
        """Thinning of the draws whose responses are predicted."""
        return max(1, -(-self.design.rows.n * self.chains.log_density.size // _MAX_PREDICTED))

    def _predictive_and_log_likelihood(self, shape: tuple[int, ...]) -> tuple[Matrix, Matrix]:
        """Draws of new responses, and log densities of the observed ones, (chains, draws, n)."""
        at = np.arange(np.prod(shape)).reshape(shape)[:, :: self._prediction_thinning].ravel()
        mean, sds, size = self.mean(at), self.residual_sds(at), (shape[0], -1, self.design.rows.n)
        scaled = (self.design.rows.y - mean) / sds
        log_likelihood = -0.5 * scaled**2 - np.log(sds) - 0.5 * np.log(2.0 * np.pi)
        predicted = mean + self._rng.standard_normal(mean.shape) * sds
        return predicted.reshape(size), log_likelihood.reshape(size)

    def mean(self, at: npt.NDArray[np.intp] | slice) -> Matrix:
        """Means (draws, n) of the rows, given all effects, at some draws."""
        rows, draws = self.design.rows, self.draws
        mean = rows.fixed_predictor(draws.beta[at])
        for random_term, effects in zip(rows.random_terms, draws.random_effects, strict=True):
            for j in range(effects.shape[1]):
                of_codes = effects[at, j]
                if random_term.memberships is not None:
                    of_codes = of_codes @ random_term.memberships.csr.T
                mean += random_term.model_matrix[:, j] * of_codes[:, random_term.codes]
        return mean

    def residual_sds(self, at: npt.NDArray[np.intp] | slice) -> Matrix:
        """Residual standard deviations (draws, n) of the rows at some draws."""
        rows, params, posterior = self.design.rows, self.draws.params, self.posterior
        sds = np.repeat(params.sigma[at, None], rows.n, axis=1)
        sds = sds * np.exp([posterior.model.log_sds(x) for x in params.residual[at]])
        return np.asarray(sds if rows.weights is None else sds / np.sqrt(rows.weights))


def draw_posterior(
    design: Design,
    priors: PriorSpecification,
    *,
    draws: int = 1000,
    chains: int = 4,
    rng: Any = None,
    progress: bool = False,
) -> PosteriorSamples:
    """Sample the covariance parameters by MCMC, then the effects given each draw."""
    for name, value, least in (("draws", draws, 4), ("chains", chains, 1)):
        check_count(name, value, least, what=f"an integer of at least {least}")
    check_flag("progress", progress)
    source = spawn_generators(rng, 1)[0]
    _check_proper(design.spec.random_terms, priors)
    posterior = log_posterior(design, priors)
    chain_rng, effects_rng, rows_rng = source.spawn(3)
    sampled = sample_chains(
        posterior, draws=int(draws), chains=int(chains), rng=chain_rng, progress=progress
    )
    points = sampled.z.reshape(draws * chains, posterior.size)
    params = posterior.drawn(points)
    draw_effects = _draw_effects if posterior.vectorized is None else _draw_effects_vectorized
    effects = draw_effects(posterior, params, effects_rng)
    return PosteriorSamples(design, posterior, sampled, effects, rows_rng)


def log_posterior(design: Design, priors: PriorSpecification) -> LogPosterior:
    """Log posterior density of a design's parameters."""
    model = residual_model(design)
    if isinstance(model, LocationScale):
        flat = NO_PRIORS.for_sampling(scale_design(design, model).spec)
        of_scale = replace(flat, sd_priors=priors.scale_sds, lkj_eta=priors.scale_eta)
        _check_proper(model.spec.random_terms, of_scale)
        return LocationScalePosterior(design, priors, model, of_scale)
    return LogPosterior(design, priors)


def _check_proper(random_terms: Sequence[RandomTermSpec], priors: PriorSpecification) -> None:
    """
    Raise where flat priors of standard deviations give an improper posterior.

    With L levels and k effects a flat prior needs ``L >= k + 2`` (Gelman 2006, Bayesian Analysis
    1:515: three levels for one effect).
    """
    if priors.theta is not None:
        return
    for random_term, sd_priors in zip(random_terms, priors.sd_priors, strict=True):
        flat = [
            e
            for e, p in zip(random_term.effect_names, sd_priors, strict=True)
            if isinstance(p, Flat)
        ]
        L, k = len(random_term.levels), len(random_term.effect_names)
        if flat and k + 2 > L:
            raise PriorError(
                f"with {L} levels of '{random_term.group}' a flat prior of sd({flat[0]} | "
                f"{random_term.group}) gives a posterior that has no finite total; name one in "
                "priors=, such as mfx.priors.HalfNormal(...) of the size that you expect."
            )


def _draw_effects_vectorized(
    posterior: LogPosterior, params: ConstrainedParameters, rng: np.random.Generator
) -> ParameterDraws:
    """Draw the effects at many points at once."""
    vectorized, crossprod, B = posterior.vectorized, posterior.crossprod, len(params.sigma)
    assert vectorized is not None
    beta = np.empty((B, crossprod.p))
    layout = crossprod.ZtZ.layout
    by_group = [np.empty((B, layout.width(f), layout.levels(f))) for f in layout.factors]
    for chunk in vectorized.chunks(B):
        conditional = vectorized.solve(params, chunk)
        in_basis = conditional.mean + _draw_normal(conditional.cov, rng)
        beta[chunk] = in_basis
        coef = np.column_stack([-in_basis, np.ones(len(in_basis))])
        drawn = conditional.eliminated.draw_effects(coef, params.sigma[chunk], rng)
        for f, effects in enumerate(drawn):
            by_group[f][chunk] = effects
    for f in layout.factors:
        if (of_levels := crossprod.level_basis(f)) is not None:
            by_group[f] = by_group[f] @ of_levels.T
    by_term = tuple(
        basis.T @ by_group[s.group][:, s.columns]
        for s, basis in zip(crossprod.term_positions, crossprod.bases, strict=True)
    )
    shift = solve_upper(crossprod.qr_R, beta.T).T
    natural = _restore_constants(crossprod.ols_coef + shift, posterior.priors)
    return ParameterDraws(params, natural, by_term)


def _restore_constants(beta: Matrix, priors: PriorSpecification) -> Matrix:
    """Set constant coefficients, which the change of basis has rounded, to their values."""
    constant = priors.coef_sd == 0.0
    beta[:, constant] = priors.coef_mean[constant]
    return beta


def _draw_normal(cov: npt.NDArray[np.float64], rng: np.random.Generator) -> Matrix:
    """Draws (B, p) from centred normal distributions with covariances (B, p, p)."""
    B, p = cov.shape[:2]
    values, vectors = np.linalg.eigh(cov) if p else (np.zeros((B, 0)), cov)
    scaled = np.sqrt(np.clip(values, 0.0, None)) * rng.standard_normal((B, p))
    return np.asarray(np.einsum("bij,bj->bi", vectors, scaled))


def _draw_effects(
    posterior: LogPosterior, params: ConstrainedParameters, rng: np.random.Generator
) -> ParameterDraws:
    """Draw the effects of any model, point by point."""
    B, random_terms = len(params.sigma), posterior.design.rows.random_terms
    beta = np.empty((B, posterior.crossprod.p))
    by_term = tuple(
        np.empty((B, term.model_matrix.shape[1], term.n_levels)) for term in random_terms
    )
    Z = sparse_Z(posterior.design.rows, posterior.crossprod)
    for i, (coefficients, effects) in enumerate(_effects_by_point(posterior, params, Z, rng)):
        beta[i] = coefficients
        for term_draws, drawn in zip(by_term, effects, strict=True):
            term_draws[i] = drawn
    return ParameterDraws(params, _restore_constants(beta, posterior.priors), by_term)


def _effects_by_point(
    posterior: LogPosterior,
    params: ConstrainedParameters,
    Z: sparse.csr_array,
    rng: np.random.Generator,
) -> Iterator[tuple[Vector, list[Matrix]]]:
    """Yield a draw of ``beta`` and of each term's effects for each point (Matheron's rule)."""
    rows, crossprod, symbolic = (
        posterior.design.rows,
        posterior.crossprod,
        posterior.crossprod.symbolic,
    )
    response = rows.response_less_offset
    for i, sigma in enumerate(params.sigma):
        solution = posterior.solution(params, i)
        cov = sigma**2 * solution.vcov_unscaled
        beta = solution.beta + _draw_normal(cov[None], rng)[0]
        w = rows.combined_weights(np.ones(rows.n))
        w = w * np.exp(-2.0 * posterior.model.log_sds(params.residual[i]))
        simulated_b = np.zeros(symbolic.size)
        terms = zip(crossprod.term_positions, crossprod.bases, params.cov_factors, strict=True)
        for position, basis, factor in terms:
            L = symbolic.layout.levels(position.group)
            first = symbolic.starts[position.group] + position.start * L
            term_b = basis.own_factor(factor[:, :, i]) @ rng.standard_normal((position.width, L))
            simulated_b[first : first + term_b.size] = term_b.ravel()
        simulated = Z @ simulated_b + sigma / np.sqrt(w) * rng.standard_normal(len(w))
        residuals = response - rows.X @ beta - simulated
        ZtWr = (Z.T @ (w * residuals))[:, None]
        b = simulated_b + solution.schur.numeric.solve(ZtWr)[:, 0]
        by_group = [
            b[symbolic.columns(f)].reshape(symbolic.layout.width(f), -1)
            for f in symbolic.layout.factors
        ]
        yield beta, crossprod.effects(crossprod.term_rows(by_group))


def _number_duplicates(names: list[str]) -> list[str]:
    """Append ``(2)``, ``(3)``, ... to names that occur again."""
    counts: dict[str, int] = {}
    out = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        out.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return out


def _without_slash(name: str) -> str:
    """Replace slashes, which separate the nodes of a data tree's path."""
    return name.replace("/", "_")
