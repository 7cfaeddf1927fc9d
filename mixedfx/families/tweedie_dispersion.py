"""Tweedie's log density where the dispersion has a predictor: by eta, log phi and the power.

With ``c`` the logit of ``p - 1``, ``log(p - 1) = -softplus(-c)`` and ``log(2 - p) = -softplus(c)``,

    l = log W - w (y exp((1 - p) eta) / (p - 1) + exp((2 - p) eta) / (2 - p)) / phi;

derivatives of ``log W`` are moments of its series (:mod:`mixedfx.families.tweedie_series`).
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np

from mixedfx.families import partials
from mixedfx.families.derivatives import Array
from mixedfx.families.parameters import FamilyParameters, Matrix, Vector
from mixedfx.families.partials import Partials
from mixedfx.families.tweedie_series import Moments, log_series_moments, of_distinct

# Largest size of the logit of the power less one.
_LARGEST_LOGIT = 30.0
# A search is stopped where it has come so near to one.
_LEAST_LOGIT = math.log(1e-6)


class Power(FamilyParameters):
    """The power alone, searched by the logit of the power less one."""

    rises_at_end = (
        "it rises without end as the power goes to one, where the responses are numbers of amounts "
        "that are all alike, as counts are. Those have family='nbinom2' and family='poisson'"
    )

    def coordinates(self, params: Vector) -> Vector:
        """``log((p - 1) / (2 - p))``."""
        return np.asarray(np.log(params - 1.0) - np.log(2.0 - params))

    def natural(self, coordinates: Vector) -> Vector:
        """Back."""
        logits = np.clip(coordinates, -_LARGEST_LOGIT, _LARGEST_LOGIT)
        return np.asarray(1.0 + 1.0 / (1.0 + np.exp(-logits)))

    def distance_to_end(self, coordinates: Vector) -> float:
        """Of the power from one."""
        return float(coordinates[0]) - _LEAST_LOGIT

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Diagonal."""
        power = self.natural(coordinates)
        return np.diag((power - 1.0) * (2.0 - power))


def log_density(
    y: Array, w: Array | None, eta: Partials, log_phi: Partials, logit: Partials
) -> Partials:
    """Log density by eta, the logarithm of phi and the logit of the power less one."""
    log_first, log_second = partials.softplus(-logit), partials.softplus(logit)
    first = partials.exp(log_first - partials.exp(-log_first) * eta - log_phi)
    second = partials.exp(log_second + partials.exp(-log_second) * eta - log_phi)
    part = first * y + second
    return _log_series(y, w, log_phi, logit) - (part if w is None else part * w)


def _log_series(y: Array, w: Array | None, log_phi: Partials, logit: Partials) -> Partials:
    """``log W``, zero where y is."""
    c = float(np.asarray(logit.value))
    power = float(Power().natural(np.array([c]))[0])
    phi = np.broadcast_to(np.exp(log_phi.value), y.shape)
    at = _moments(y, w, phi, power)
    rate = -1.0 / (power - 1.0)  # -(1 + nu)
    found = log_phi.compose(at.value, rate * at.k1, rate**2 * at.k2, rate**3 * at.k3)
    if len(logit.parts) == 1:
        return found
    # By the power, as a function of log phi: its derivatives with ``nu' = -1 / (p - 1)^2``.
    slope = -(rate**2)
    by_power = log_phi.compose(
        at.g,
        rate * at.gj - slope * at.k1,
        rate**2 * at.gjj - 2.0 * rate * slope * at.k2,
        None,
    )
    unit = (power - 1.0) * (2.0 - power)
    return found + by_power * (unit * (logit - logit.value))


# The last moments: modes are searched at a dispersion that mostly stays.
_LAST: list[tuple[weakref.ref[Array], Any, Array, float, Moments]] = []


def _moments(y: Array, w: Array | None, phi: Array, power: float) -> Moments:
    """Moments of the rows."""
    if _LAST:
        of_y, of_w, of_phi, at, last = _LAST[0]
        if of_y() is y and of_w is w and at == power and np.array_equal(of_phi, phi):
            return last
    moments = Moments(*of_distinct(log_series_moments, y, phi if w is None else phi / w, power))
    if not y.flags.writeable:  # else the values may change
        _LAST[:] = [(weakref.ref(y), w, np.array(phi), power, moments)]
    return moments
