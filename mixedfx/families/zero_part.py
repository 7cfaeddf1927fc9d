"""Zero-inflated log densities from the derivatives of a family's, in closed form.

With a row's log density f by eta, its derivatives g, -w and -s, the logit z of the probability p of
a zero, and for y = 0 the probability P that the zero is not the family's, ``logit P = z - f``,

    dl/deta = g (1 - P)          dl/dz = P - p
    W_ee = w (1 - P) - g^2 r     W_ez = g r     W_zz = p (1 - p) - r

with ``r = P (1 - P)``; P is 0 for y > 0, and 1 for a zero of a truncated family.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives


class ZeroPart(NamedTuple):
    """Logit and probability of the zero part, and that of each zero not to be the family's."""

    z: Array
    p: Array  # of a zero beside those of the family
    P: Array  # given the response
    r: Array  # P (1 - P)
    t: Array  # its derivative by logit P

    @staticmethod
    def of(y: Array, z: Array, f: Array, *, truncated: bool) -> ZeroPart:
        """At logits and log densities of the family."""
        zero = y == 0.0
        P = zero.astype(float) if truncated else np.where(zero, special.expit(z - f), 0.0)
        Q = 1.0 - P
        if not truncated:
            Q = np.where(zero, special.expit(f - z), 1.0)
        r = P * Q
        return ZeroPart(z, special.expit(z), P, r, r * (Q - P))


def inflated(y: Array, rows: RowDerivatives, part: ZeroPart, *, truncated: bool) -> RowDerivatives:
    """Log densities (n,), and derivatives by both predictors: (2, n), (2, 2, n), (2, 2, 2, n)."""
    n, (f, g, w, s) = y.shape, rows
    z, p, P, r, t = part
    zero = y == 0.0
    v, Q = p * special.expit(-z), 1.0 - P
    if truncated:
        f, g, w = (np.where(zero, 0.0, x) for x in (f, g, w))
        own = np.where(zero, z, f)
    else:
        own = np.where(zero, np.logaddexp(z, f), f)
    first, weight = np.empty((2, *n)), np.empty((2, 2, *n))
    first[0], first[1] = g * Q, P - p
    weight[0, 0] = w * Q - g * g * r
    weight[0, 1] = weight[1, 0] = g * r
    weight[1, 1] = v - r
    slope = None
    if s is not None:
        s = np.where(zero, 0.0, s) if truncated else s
        slope = np.empty((2, 2, 2, *n))
        slope[0, 0, 0] = s * Q + 3.0 * g * w * r + g * g * g * t
        mixed = -(w * r + g * g * t)
        slope[0, 0, 1] = slope[0, 1, 0] = slope[1, 0, 0] = mixed
        slope[0, 1, 1] = slope[1, 0, 1] = slope[1, 1, 0] = g * t
        slope[1, 1, 1] = v * (1.0 - 2.0 * p) - t
    return RowDerivatives(own - np.logaddexp(0.0, z), first, weight, slope)


def inflated_by_params(
    y: Array, rows: RowDerivatives, by: ParamDerivatives, part: ZeroPart, *, truncated: bool
) -> ParamDerivatives:
    """The same by the coordinates of the family's parameters: (r, n), (r, 2, n), (r, 2, 2, n)."""
    g, w, (f_, g_, w_) = rows.first, rows.weight, by
    _, _, P, r, t = part
    if truncated:
        zero = y == 0.0
        g, w, f_, g_, w_ = (np.where(zero, 0.0, x) for x in (g, w, f_, g_, w_))
    Q = 1.0 - P
    first, weight = np.empty((len(f_), 2, *y.shape)), np.empty((len(f_), 2, 2, *y.shape))
    first[:, 0], first[:, 1] = g_ * Q + g * r * f_, -r * f_
    weight[:, 0, 0] = w_ * Q + (w * r + g * g * t) * f_ - 2.0 * g * g_ * r
    weight[:, 0, 1] = weight[:, 1, 0] = g_ * r - g * t * f_
    weight[:, 1, 1] = t * f_
    return ParamDerivatives(f_ * Q, first, weight)
