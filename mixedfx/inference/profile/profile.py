"""Profile likelihood of each parameter, and confidence intervals from its roots.

With ``D(v)`` the deviance minimised over all other parameters, the profile is

    zeta(v) = sign(v - v_hat) sqrt(D(v) - D_hat)

which is close to standard normal whatever the shape of the likelihood, so the limits of a 95%
interval are the roots of ``zeta = -1.96`` and ``zeta = 1.96`` (Bates et al. 2015, section 5.1).
Of a linear model only cross-products are read. The deviance is that of maximum likelihood for
REML fits too, as in lme4: REML criteria with different constraints on the fixed effects are not
comparable. That of a generalised model is the fit's, by Laplace's approximation or quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx._workers import THIS_PROCESS, Workers
from mixedfx.errors import ArgumentError, brief, check_share
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.inference.blocked_responses import check_own_process
from mixedfx.inference.parameters import Parameter, select_parameters
from mixedfx.inference.profile.dispatch import optimum_of, profile_parameter
from mixedfx.inference.profile.profiled_parameter import ProfiledParameter
from mixedfx.inference.profile.root import ProfileBranch
from mixedfx.inference.profile.several_optimum import fit_of_predictor
from mixedfx.inference.profile.unidentified import UnidentifiedDeviance
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]
Result = TypeVar("Result")

ZETAS = tuple(0.5 * k for k in range(-6, 7))
# Distance of zeta from its highest value at the point from which it is called constant.
_CORNER = 1e-4


def profile(
    fit: FittedModel,
    parm: Sequence[str] | str | None = None,
    *,
    zetas: Sequence[float] | None = None,
    conf_level: float = 0.95,
    workers: Workers = THIS_PROCESS,
    predictor: str = "",
) -> pd.DataFrame:
    """
    Profile each parameter: rows ``parameter value zeta`` at the roots of ``zeta``.

    They are those of the mean, or of the ``predictor`` whose formula an argument gives. Without
    ``zetas`` they are from -3 to 3, with the limits of the ``conf_level`` interval.

    References
    ----------
    .. [1] Bates and Watts (1988), Nonlinear Regression Analysis and its Applications, section
       6.1.2.
    .. [2] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1.
    """
    check_no_priors(fit, "a profile")
    check_share("conf_level", conf_level)
    limit = float(special.ndtri(0.5 + 0.5 * conf_level))
    targets = np.unique(_read_zetas((*ZETAS, -limit, limit) if zetas is None else zetas))
    selected = _Selected.of(fit, parm, predictor)
    points_of = partial(_points, targets=targets, corner=zetas is None)
    found = _of_each(selected, points_of, workers)
    profiles = zip(selected.parameters, found, strict=True)
    rows = [(parameter.name, *point) for parameter, points in profiles for point in points]
    return pd.DataFrame(rows, columns=["parameter", "value", "zeta"])


def profile_intervals(
    fit: FittedModel,
    conf_level: float,
    parm: Sequence[str] | str | None = None,
    workers: Workers = THIS_PROCESS,
    predictor: str = "",
) -> pd.DataFrame:
    """Confidence limits ``zeta(v) = -z`` and ``zeta(v) = z``, in columns 0 and 1."""
    check_no_priors(fit, "a profile")
    check_share("conf_level", conf_level)
    zeta = float(special.ndtri(0.5 + 0.5 * conf_level))
    selected = _Selected.of(fit, parm, predictor)
    limits = _of_each(selected, partial(_limits, zeta=zeta), workers)
    index = pd.Index([p.name for p in selected.parameters], name="parameter", dtype=object)
    return pd.DataFrame(limits, index=index, columns=[0, 1], dtype=float)


@dataclass(frozen=True)
class _Selected:
    """Parameters of one linear predictor of a fit."""

    fit: FittedModel
    predictor: str
    parameters: tuple[Parameter, ...]

    @staticmethod
    def of(fit: FittedModel, parm: Sequence[str] | str | None, predictor: str) -> _Selected:
        """Those of these names."""
        own = select_parameters(fit_of_predictor(fit, predictor), parm)
        return _Selected(fit, predictor, own)

    def profiled(self, portion: Sequence[int]) -> Iterator[ProfiledParameter | None]:
        """Parametrise the deviance for some of them, one after the other."""
        optimum = optimum_of(self.fit, self.predictor)
        own = fit_of_predictor(self.fit, self.predictor)
        unidentified = UnidentifiedDeviance(own, optimum)
        for parameter in (self.parameters[at] for at in portion):
            profiled = profile_parameter(own, optimum, parameter)
            if profiled is not None:
                profiled = replace(profiled, unidentified_deviance=unidentified.of(parameter))
            yield profiled


def _of_each(
    selected: _Selected, compute: Callable[[ProfiledParameter | None], Result], workers: Workers
) -> list[Result]:
    """Compute something of the profile of each parameter; each worker finds the optimum once."""
    check_own_process(selected.fit, workers)
    count = len(selected.parameters)
    n = min(workers.count, max(count, 1))
    portions = [range(first, count, n) for first in range(n)]
    found: dict[int, Result] = {}
    with single_threaded_blas(selected.fit.crossprod.symbolic.dense_size):
        for portion in workers.run(_of_some, (selected, compute), portions):
            found |= portion
    return [found[at] for at in range(count)]


def _of_some(
    shared: tuple[_Selected, Callable[[ProfiledParameter | None], Result]], portion: range
) -> dict[int, Result]:
    """Compute something of the profile of some parameters, by their numbers."""
    selected, compute = shared
    profiled = selected.profiled(portion)
    return {at: compute(one) for at, one in zip(portion, profiled, strict=True)}


def _read_zetas(zetas: Sequence[float]) -> Vector:
    try:
        targets = np.atleast_1d(np.asarray(zetas, dtype=float))
    except (TypeError, ValueError):
        raise ArgumentError(f"zetas={brief(zetas)} must be numbers.") from None
    if targets.ndim != 1 or not np.isfinite(targets).all():
        raise ArgumentError(f"zetas={brief(zetas)} must be finite numbers.")
    return targets


def _points(
    profiled: ProfiledParameter | None, *, targets: Vector, corner: bool
) -> list[tuple[float, float]]:
    """Value and zeta at the targets and at the estimate; none of a parameter without estimate."""
    if profiled is None:
        return []
    below = _branch_points(profiled, targets[targets < 0.0][::-1], corner=corner)
    above = _branch_points(profiled, targets[targets > 0.0], corner=corner)
    return [*below[::-1], (profiled.value(profiled.u_hat), 0.0), *above]


def _branch_points(
    profiled: ProfiledParameter, targets: Vector, *, corner: bool
) -> list[tuple[float, float]]:
    """
    Value and zeta at each target of one side, in order, up to the end of the parameter space.

    With ``corner``, the point is among them from which zeta is constant up to the end.
    """
    points: list[tuple[float, float]] = []
    if not len(targets):
        return points
    branch = ProfileBranch(profiled, math.copysign(1.0, targets[0]))
    start = branch.highest_zeta - _CORNER
    at = int(np.searchsorted(np.abs(targets), start))
    if corner and 0.0 < start < abs(targets[-1]):
        targets = np.insert(targets, at, math.copysign(start, targets[0]))
    for target in targets:
        u, zeta = branch.solve(abs(float(target)))
        if math.isfinite(u) and zeta > 0.0:
            points.append((profiled.value(u), math.copysign(zeta, target)))
        if zeta < abs(target):
            break
    return points


def _limits(profiled: ProfiledParameter | None, zeta: float) -> list[float]:
    """Values at ``-zeta`` and ``zeta``; NaN for a parameter without estimate."""
    if profiled is None:
        return [np.nan, np.nan]
    return [profiled.value(ProfileBranch(profiled, sign).solve(zeta)[0]) for sign in (-1.0, 1.0)]
