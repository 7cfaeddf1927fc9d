"""How the components of correlated residuals depend on sigma and the parameters searched.

Sigma is the standard deviation at the first position of the first stratum, so that every other one
is sigma times a function of the parameters; correlations, ranges and rates are functions of the
parameters alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.residuals.correlated_rows import products_of_positions
from mixedfx.residuals.model import VarcorrRow
from mixedfx.residuals.moments import regular_covariance
from mixedfx.residuals.reported import OfLogSigma, OfStructure, Reported

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def reported_component(model: Any, index: int) -> Reported:
    """How one of the components of all strata depends on log sigma and the parameters."""
    found = model.structure_components(np.zeros(1 + model.n_params))
    stratum, number = [(s, i) for s, of in enumerate(found) for i in range(len(of))][index]
    c, free = found[stratum][number], model.is_free
    every = np.where(free, np.cumsum(free) - 1, -1)
    searched = every.reshape(model.spec.n_strata, -1)[stratum]
    if c.kind != "sd":
        spec = model.spec
        return OfStructure(spec.covariance, spec.at, stratum, c, number, searched)
    if c.parameter is None:
        position = c.effects[0]
        return OfLogSigma(lambda params: _log_sd(model, params, (stratum, position), searched))
    row = np.append(1.0, np.zeros(model.n_params))
    if (own := int(searched[c.parameter])) >= 0:
        row[1 + own] = 1.0
    return OfLogSigma.linear(row, exponential=True)


def _log_sd(
    model: Any, params: Vector, place: tuple[int, int], searched: Codes
) -> tuple[float, Vector]:
    """Log standard deviation over sigma at a position of a stratum, and its gradient."""
    structure, at, (stratum, i) = model.spec.covariance, model.spec.at, place
    x = model.structure_params(params)[stratum]
    variance = float(structure.covariance(x, at)[i, i])
    by_x = structure.covariance_jacobian(x, at)[:, i, i]
    by_x = by_x * np.where(model.is_positive, x, 1.0) / (2.0 * variance)
    gradient, free = np.zeros(model.n_params), searched >= 0
    gradient[searched[free]] = by_x[free]
    return 0.5 * float(np.log(variance)), gradient


class Reordered(NamedTuple):
    """The same residuals with their positions in another order."""

    model: Any
    params: Vector
    sigma_ratio: float  # of sigma, the first standard deviation, to that in the order before


def reordered(model: Any, params: Vector, stratum: int, first: tuple[int, ...]) -> Reordered:
    """
    Put some positions, and one stratum, before the others.

    Of a structure that has the same covariances in any order of positions.
    """
    spec, k = model.spec, model.spec.at.k
    order = np.array([*first, *(i for i in range(k) if i not in first)])
    strata = np.array([stratum, *(s for s in range(spec.n_strata) if s != stratum)])
    labels = tuple(spec.labels[i] for i in order)
    points = None if spec.coordinates is None else spec.coordinates[order]
    named = tuple(spec.strata[s] for s in strata) if spec.strata else ()
    moved = replace(
        model,
        spec=replace(spec, labels=labels, coordinates=points, strata=named),
        positions=np.argsort(order)[model.positions],
        strata=np.argsort(strata)[model.strata],
    )
    R = model.covariances(params)[strata][:, order[:, None], order]
    return Reordered(moved, params_of(moved, list(R)), float(np.sqrt(R[0, 0, 0])))


def params_near(model: Any, residuals: Vector, weights: Vector | None) -> Vector:
    """Parameters of the structure nearest to the mean products of residuals of two positions."""
    root = residuals if weights is None else np.sqrt(weights) * residuals
    shape = model.spec.n_strata, len(model.spec.labels)
    total, count = products_of_positions(model.patterns, root, shape)
    scale = float(np.einsum("skk->s", total)[0] / max(np.einsum("skk->s", count)[0], 1.0))
    by_stratum = zip(total, count, strict=True)
    return params_of(model, [regular_covariance(*sums, scale) for sums in by_stratum])


def params_of(model: Any, covariances: Sequence[Matrix]) -> Vector:
    """Parameters of the structures nearest to covariances (k, k), one of each stratum."""
    structure, at = model.spec.covariance, model.spec.at
    return searched_params(model, np.array([structure.nearest(C, at) for C in covariances]))


def searched_params(model: Any, by_stratum: Matrix) -> Vector:
    """Parameters of the search from those of each stratum's structure, (strata, m)."""
    is_sd = model.is_positive
    full = np.where(is_sd, np.log(np.abs(by_stratum) + 1e-300), by_stratum).ravel()
    repeated, log_sigma = np.tile(is_sd, len(by_stratum)), full[np.argmax(is_sd)]
    full[repeated] -= log_sigma
    if model.spec.covariance.coordinates(model.spec.at).is_linear:
        full[~repeated] /= np.exp(log_sigma)  # entries of the factor, which scale together
    return np.asarray(full[model.is_free])


def component_names(model: Any) -> tuple[str, ...]:
    """``sd(v1 | patient)``, ``corr(v1, v2 | patient)``, with the stratum's value."""
    spec, names = model.spec, []
    zero = np.zeros(1 + model.n_params)
    for s, components in enumerate(model.structure_components(zero)):
        of = f", {spec.strata[s]}" if spec.strata else ""
        for c in components:
            effects = [str(spec.labels[i]) for i in c.effects] or [spec.position]
            effects += [c.label] if c.label else []
            names.append(f"{c.kind}({', '.join(effects)} | {spec.subject}{of})")
    return tuple(names)


def varcorr_rows(model: Any, params: Vector, sigma: float) -> list[VarcorrRow]:
    """Rows of the table of variances, as those of a random term of the structure."""
    spec, rows = model.spec, []
    components = model.structure_components(np.append(0.0, params))
    for s, R in enumerate(model.first_covariances(params)):
        of = f"{spec.strata[s]}: " if spec.strata else ""
        cov = sigma**2 * R
        for c in components[s]:
            names = [of + str(spec.labels[i]) for i in c.effects]
            if not names:
                names = [of + spec.position, c.label or spec.structure]
            i, j = (c.effects or (0, 0))[0], (c.effects or (0, 0))[-1]
            if c.kind == "sd":
                rows.append(VarcorrRow(names[0], None, float(cov[i, i]), sigma * c.value))
            elif c.kind == "corr":
                equal = not spec.covariance.sds(spec.at)[1:]
                shared = float(cov[0, 0]) * c.value if equal else np.nan
                of_pair = float(cov[j, i]) if c.effects else shared
                rows.append(VarcorrRow(names[0], names[1], of_pair, c.value))
            else:
                rows.append(VarcorrRow(names[0], c.kind, np.nan, c.value))
    return rows
