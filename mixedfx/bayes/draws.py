"""Draws of the covariances to draws of everything, as ArviZ reads them.

Given the covariances and sigma, fixed and random effects are jointly normal, and are drawn
exactly: the fixed ones first, then the random ones given them. With several grouping factors
that is done by drawing effects and a response from the model and taking off what the response
would have told of them, which leaves a draw from the conditional distribution.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.bayes.log_posterior import Target
from mixedfx.bayes.sampler import Chains, run
from mixedfx.bayes.unconstrained import Points
from mixedfx.design.build import Design
from mixedfx.errors import ArgumentError, PriorError
from mixedfx.inference.simulation import spawn_generators
from mixedfx.likelihood.accumulate import sparse_Z
from mixedfx.priors.distributions import Flat
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Predicted responses, in numbers: beyond, of every so many draws one is predicted.
_PREDICTED = 5_000_000
# Names of dimensions that ArviZ, or another variable, uses.
_RESERVED = (
    *("sample", "chain", "draw", "row", "term", "effect", "pair", "dispersion_term"),
    *("beta", "sd", "corr", "sigma", "gamma"),
)
# What a set of chains should reach (Vehtari and others 2021, Bayesian Analysis 16:667).
RHAT, ESS = 1.01, 400.0


@dataclass(frozen=True)
class Drawn:
    """
    Draws in natural parameters, chains one after the other.

    Parameters
    ----------
    points : Points
        Standard deviations, correlations and sigma.
    beta : ndarray of shape (draws, p)
        Fixed effects.
    effects : tuple of ndarray of shape (draws, k, levels)
        Random effects, a term each.
    """

    points: Points
    beta: Matrix
    effects: tuple[npt.NDArray[np.float64], ...]


@dataclass(frozen=True)
class Posterior:
    """
    A sampled posterior, before it is named; made by :func:`draw`.

    Parameters
    ----------
    design : Design
        The data as arrays.
    target : Target
        Its density.
    chains : Chains
        Draws of the coordinates.
    drawn : Drawn
        Draws of everything.
    """

    design: Design
    target: Target = field(repr=False)
    chains: Chains = field(repr=False)
    drawn: Drawn = field(repr=False)
    _rng: np.random.Generator = field(repr=False)

    @cached_property
    def tree(self) -> Any:
        """``posterior`` and what ArviZ knows beside it, from ``sample_stats`` to the data."""
        from arviz_base import from_dict

        shape = self.chains.log_density.shape
        values, dims, coords = self._named(shape)
        rows = self.design.index
        labels = np.arange(len(rows)) if rows.nlevels > 1 else rows.to_numpy()
        response = _plain(self.design.formula.response)
        response = f"{response}_response" if response in ("row", "chain", "draw") else response
        predicted, likelihood = self._of_rows(shape)
        stats = {"lp": self.chains.log_density, "acceptance_rate": self.chains.acceptance}
        of_rows: dict[str, Any] = {
            "posterior_predictive": {response: predicted},
            "log_likelihood": {response: likelihood},
            "observed_data": {response: self.design.response},
        }
        tree = from_dict({"posterior": values, "sample_stats": stats}, coords=coords, dims=dims)
        # Apart, because a response may have the name of a parameter.
        axes = {"row": labels, "draw": np.arange(shape[1])[:: self._every]}
        tree.update(from_dict(of_rows, coords=axes, dims={response: ["row"]}).children)
        tree["posterior"].attrs["sampler"] = self.chains.sampler
        tree["posterior"].attrs["efficiency"] = self.chains.efficiency
        tree.attrs["formula"] = str(self.design.formula)
        return tree

    def complaints(self) -> list[str]:
        """Name the parameters whose chains differ, or whose effective draws are too few."""
        import arviz_stats

        stats: Any = arviz_stats
        posterior = self.tree["posterior"].to_dataset()
        small = posterior[[name for name in posterior.data_vars if not _of_levels(str(name))]]
        found, worst = [], ""
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of constants
            if posterior.sizes["chain"] > 1:
                worst = _listed(stats.rhat(small), lambda v: not v < RHAT)
            few = _listed(stats.ess(small, method="bulk"), lambda v: not v > ESS)
        if worst:
            found.append(f"chains differ (R-hat of {RHAT} or more) in {worst}")
        if few:
            found.append(f"effective draws are {ESS:g} or fewer for {few}")
        return found

    def _named(
        self, shape: tuple[int, ...]
    ) -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
        """Values, dimensions and coordinates of the posterior's variables."""
        design, drawn, chart = self.design, self.drawn, self.target.chart
        values: dict[str, Any] = {}
        dims: dict[str, list[str]] = {}
        coords: dict[str, Any] = {}

        def add(name: str, draws: Any, *axes: tuple[str, Any]) -> None:
            values[name] = np.asarray(draws).reshape(*shape, *(len(labels) for _, labels in axes))
            dims[name] = [axis for axis, _ in axes]
            coords.update(axes)

        if design.X_names:
            add("beta", drawn.beta, ("term", list(design.X_names)))
        random_terms = design.random_terms
        if random_terms:
            effects = [f"{e} | {b.group}" for b in random_terms for e in b.effect_names]
            add("sd", np.concatenate(drawn.points.sds).T, ("effect", _distinct(effects)))
        pairs, correlations = _correlations(design, drawn.points)
        if pairs:
            add("corr", np.array(correlations).T, ("pair", _distinct(pairs)))
        if design.sigma is None:
            add("sigma", chart.sigmas(drawn.points))
        if design.dispersion is not None:
            names = [f"dispersion({name})" for name in design.dispersion.D_names]
            add("gamma", chart.gammas(drawn.points), ("dispersion_term", names))
        for group in design.formula.groups:
            mine = [
                (b, e) for b, e in zip(random_terms, drawn.effects, strict=True) if b.group == group
            ]
            together = np.concatenate([e for _, e in mine], axis=1).transpose(0, 2, 1)
            levels = mine[0][0].levels.labels
            names = _distinct([e for b, _ in mine for e in b.effect_names])
            plain = _plain(group)
            axis = f"{plain}_level" if plain in _RESERVED else plain
            add(f"b_{plain}", together, (axis, levels.to_numpy()), (f"{plain}_effect", names))
        return values, dims, coords

    @property
    def _every(self) -> int:
        """Of every so many draws one is predicted."""
        return max(1, -(-len(self.design.y) * self.chains.log_density.size // _PREDICTED))

    def _of_rows(self, shape: tuple[int, ...]) -> tuple[Matrix, Matrix]:
        """New responses at the draws, and log densities of the old ones, (chains, draws, n)."""
        design, drawn = self.design, self.drawn
        at = np.arange(np.prod(shape)).reshape(shape)[:, :: self._every].ravel()
        mean = drawn.beta[at] @ design.X.T
        if design.offset is not None:
            mean = mean + design.offset
        for random_term, effects in zip(design.random_terms, drawn.effects, strict=True):
            for j in range(effects.shape[1]):
                mean += random_term.model_matrix[:, j] * effects[at, j][:, random_term.codes]
        sds, size = self._sds(at), (shape[0], -1, len(design.y))
        scaled = (design.response - mean) / sds
        likelihood = -0.5 * scaled**2 - np.log(sds) - 0.5 * np.log(2.0 * np.pi)
        predicted = mean + self._rng.standard_normal(mean.shape) * sds
        return predicted.reshape(size), likelihood.reshape(size)

    def _sds(self, at: npt.NDArray[np.intp]) -> Matrix:
        """Residual standard deviation of each row at some draws."""
        design, points = self.design, self.drawn.points
        sds = np.repeat(points.sigma[at, None], len(design.y), axis=1)
        if self.target.coordinates is not None:
            logs = points.scale[at] @ self.target.coordinates.by_stratum.T
            sds = sds * np.exp(logs[:, self.target.strata.codes])
        return sds if design.weights is None else sds / np.sqrt(design.weights)


def draw(
    design: Design,
    priors: PriorSpecification,
    *,
    draws: int = 1000,
    chains: int = 4,
    rng: Any = None,
    progress: bool = False,
) -> Posterior:
    """Sample a posterior."""
    for name, value, least in (("draws", draws, 4), ("chains", chains, 1)):
        good = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not good or value < least:
            raise ArgumentError(f"{name}={value!r} must be an integer of at least {least}.")
    source = spawn_generators(rng, 1)[0]
    _expect_proper(design, priors)
    target = Target(design, priors)
    for_chains, for_effects, for_rows = source.spawn(3)
    found = run(target, draws=int(draws), chains=int(chains), rng=for_chains, progress=progress)
    Z = found.z.reshape(draws * chains, target.size)
    points = target.chart.points(Z)
    drawn = _in_batches if target.batch is not None else _one_by_one
    return Posterior(design, target, found, drawn(target, points, for_effects), for_rows)


def _expect_proper(design: Design, priors: PriorSpecification) -> None:
    """Refuse flat priors of standard deviations that few levels leave unbounded."""
    if priors.theta is not None:
        return
    for random_term, of_term in zip(design.random_terms, priors.sd_priors, strict=True):
        flat = [
            e for e, p in zip(random_term.effect_names, of_term, strict=True) if isinstance(p, Flat)
        ]
        L, k = len(random_term.levels), len(random_term.effect_names)
        if flat and k + 2 > L:
            raise PriorError(
                f"with {L} levels of '{random_term.group}' a flat prior of sd({flat[0]} | "
                f"{random_term.group}) gives a posterior that has no finite total; name one in "
                "priors=, such as mfx.priors.HalfNormal(...) of the size that you expect."
            )


def _in_batches(target: Target, points: Points, rng: np.random.Generator) -> Drawn:
    """Draw the effects of a single grouping factor, at many points at once."""
    assert target.batch is not None
    crossprod, B = target.crossprod, len(points.sigma)
    beta = np.empty((B, crossprod.p))
    K, L = (crossprod.ZtZ.width(0), crossprod.ZtZ.levels(0)) if crossprod.term_positions else (0, 0)
    effects = np.empty((B, K, L))
    for at in target.batch.portions(B):
        given = target.batch.given(points, at)
        n = len(given.deviance)
        inner = given.beta + _normal(given.cov, rng)
        beta[at] = inner
        if not crossprod.term_positions:
            continue
        _, W = target.batch.whitened(points, at)
        F = crossprod.ZtXy[0]
        rest = F[:, -1, :, None] - np.einsum("kcl,bc->klb", F[:, : crossprod.p], inner)
        u = np.einsum("cklb,klb->clb", W, rest)
        u += points.sigma[at] * rng.standard_normal((K, L, n))
        effects[at] = np.einsum("cklb,clb->bkl", W, u)
    terms = tuple(effects[:, s.start : s.start + s.width] for s in crossprod.term_positions)
    natural = beta if crossprod.qr_R is None else linalg.solve_triangular(crossprod.qr_R, beta.T).T
    return Drawn(points, _exact(crossprod.ols_coef + natural, target.priors), terms)


def _exact(beta: Matrix, priors: PriorSpecification) -> Matrix:
    """Give constants their value, from which rounding has kept them."""
    constant = priors.coef_sd == 0.0
    beta[:, constant] = priors.coef_mean[constant]
    return beta


def _normal(cov: npt.NDArray[np.float64], rng: np.random.Generator) -> Matrix:
    """Draw from centred normal distributions, one of each covariance (B, p, p)."""
    B, p = cov.shape[:2]
    values, vectors = np.linalg.eigh(cov) if p else (np.zeros((B, 0)), cov)
    scaled = np.sqrt(np.clip(values, 0.0, None)) * rng.standard_normal((B, p))
    return np.asarray(np.einsum("bij,bj->bi", vectors, scaled))


def _one_by_one(target: Target, points: Points, rng: np.random.Generator) -> Drawn:
    """Draw the effects of any model, point by point."""
    B, random_terms = len(points.sigma), target.design.random_terms
    beta = np.empty((B, target.crossprod.p))
    effects = tuple(np.empty((B, len(b.effect_names), len(b.levels))) for b in random_terms)
    Z = sparse_Z(target.design, target.crossprod)
    for i, (coefficients, terms) in enumerate(_draws(target, points, Z, rng)):
        beta[i] = coefficients
        for kept, made in zip(effects, terms, strict=True):
            kept[i] = made
    return Drawn(points, _exact(beta, target.priors), effects)


def _draws(
    target: Target, points: Points, Z: sparse.csr_array, rng: np.random.Generator
) -> Iterator[tuple[Vector, list[Matrix]]]:
    design, symbolic = target.design, target.crossprod.symbolic
    for i, sigma in enumerate(points.sigma):
        solution = target.solution(points, i)
        cov = sigma**2 * solution.vcov_unscaled
        coefficients = solution.beta + _normal(cov[None], rng)[0]
        w = design.combined_weights(np.ones(len(design.y)))
        if target.coordinates is not None:
            logs = target.coordinates.by_stratum @ points.scale[i]
            w = w * np.exp(-2.0 * logs[target.strata.codes])
        prior = np.zeros(symbolic.size)
        for position, root in zip(target.crossprod.term_positions, points.roots, strict=True):
            L = symbolic.block_matrix.levels(position.factor)
            first = symbolic.starts[position.factor] + position.start * L
            own = root[:, :, i] @ rng.standard_normal((position.width, L))
            prior[first : first + own.size] = own.ravel()
        imagined = Z @ prior + sigma / np.sqrt(w) * rng.standard_normal(len(w))
        rest = design.y - design.X @ coefficients - imagined
        flat = prior + solution.schur.numeric.solve((Z.T @ (w * rest))[:, None])[:, 0]
        rows = [
            flat[symbolic.columns(f)].reshape(symbolic.block_matrix.width(f), -1)
            for f in symbolic.block_matrix.factors
        ]
        yield coefficients, target.crossprod.term_rows(rows)


def _correlations(design: Design, points: Points) -> tuple[list[str], list[Vector]]:
    pairs, values = [], []
    for random_term, root, sds in zip(design.random_terms, points.roots, points.sds, strict=True):
        if random_term.formula_term.structure != "us":
            continue
        for i in range(len(sds)):
            for j in range(i + 1, len(sds)):
                one, other = random_term.effect_names[i], random_term.effect_names[j]
                pairs.append(f"{one}, {other} | {random_term.group}")
                product = sds[i] * sds[j]
                covariance = np.einsum("cb,cb->b", root[i], root[j])
                values.append(
                    np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
                )
    return pairs, values


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur again."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def _plain(name: str) -> str:
    """Take the slash out of a name: in a tree it stands for a branch."""
    return name.replace("/", "_")


def _of_levels(name: str) -> bool:
    return name.startswith("b_")


def _listed(values: Any, bad: Any) -> str:
    """Name the entries of a dataset that are bad, with their values."""
    found = []
    dataset = values.to_dataset() if hasattr(values, "to_dataset") else values
    for name, array in dataset.data_vars.items():
        for at in np.ndindex(array.shape):
            value = float(array.values[at])
            if np.isnan(value) or not bad(value):
                continue
            labels = ", ".join(
                str(array.coords[d].values[i]) for d, i in zip(array.dims, at, strict=True)
            )
            found.append(f"{name}[{labels}] ({value:.4g})" if labels else f"{name} ({value:.4g})")
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
