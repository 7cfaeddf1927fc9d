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

from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives


class _Logistic(NamedTuple):
    """Of logits: the probability, what is left to one, and ``log(1 + exp)``, by one exponential."""

    p: Array
    q: Array
    log_sum: Array

    @staticmethod
    def of(logit: Array) -> _Logistic:
        """At finite or infinite logits."""
        t = np.exp(-np.abs(logit))
        near, positive = 1.0 / (1.0 + t), logit > 0.0
        far = t * near
        log_sum = np.log1p(t)
        log_sum += np.maximum(logit, 0.0)
        return _Logistic(np.where(positive, near, far), np.where(positive, far, near), log_sum)


class ZeroPart(NamedTuple):
    """Logit and probability of the zero part, and that of each zero not to be the family's."""

    z: Array
    of_z: _Logistic
    own: Array  # log density but for that of a zero or none
    P: Array  # given the response
    Q: Array
    r: Array  # P Q
    t: Array  # its derivative by logit P

    @staticmethod
    def of(y: Array, z: Array, f: Array, *, truncated: bool) -> ZeroPart:
        """At logits and log densities of the family."""
        zero = y == 0.0
        if truncated:
            P, none = zero.astype(float), np.zeros_like(f)
            return ZeroPart(z, _Logistic.of(z), np.where(zero, z, f), P, 1.0 - P, none, none)
        given = _Logistic.of(np.where(zero, z - f, -np.inf))
        r = given.p * given.q
        return ZeroPart(
            z, _Logistic.of(z), f + given.log_sum, given.p, given.q, r, r * (given.q - given.p)
        )


def inflated(y: Array, rows: RowDerivatives, part: ZeroPart, *, truncated: bool) -> RowDerivatives:
    """Log densities (n,), and derivatives by both predictors: (2, n), (2, 2, n), (2, 2, 2, n)."""
    n, (_, g, w, s) = y.shape, rows
    P, Q, r, t, p = part.P, part.Q, part.r, part.t, part.of_z.p
    v = p * part.of_z.q
    if truncated:
        zero = y == 0.0
        g, w = np.where(zero, 0.0, g), np.where(zero, 0.0, w)
        s = None if s is None else np.where(zero, 0.0, s)
    first, weight = np.empty((2, *n)), np.empty((2, 2, *n))
    first[0], first[1] = g * Q, P - p
    weight[0, 0] = w * Q - g * g * r
    weight[0, 1] = weight[1, 0] = g * r
    weight[1, 1] = v - r
    slope = None
    if s is not None:
        slope = np.empty((2, 2, 2, *n))
        slope[0, 0, 0] = s * Q + 3.0 * g * w * r + g * g * g * t
        mixed = -(w * r + g * g * t)
        slope[0, 0, 1] = slope[0, 1, 0] = slope[1, 0, 0] = mixed
        slope[0, 1, 1] = slope[1, 0, 1] = slope[1, 1, 0] = g * t
        slope[1, 1, 1] = v * (1.0 - 2.0 * p) - t
    return RowDerivatives(part.own - part.of_z.log_sum, first, weight, slope)


def inflated_by_params(
    y: Array, rows: RowDerivatives, by: ParamDerivatives, part: ZeroPart, *, truncated: bool
) -> ParamDerivatives:
    """The same by the coordinates of the family's parameters: (r, n), (r, 2, n), (r, 2, 2, n)."""
    g, w, (f_, g_, w_) = rows.first, rows.weight, by
    Q, r, t = part.Q, part.r, part.t
    if truncated:
        zero = y == 0.0
        g, w, f_, g_, w_ = (np.where(zero, 0.0, x) for x in (g, w, f_, g_, w_))
    first, weight = np.empty((len(f_), 2, *y.shape)), np.empty((len(f_), 2, 2, *y.shape))
    first[:, 0], first[:, 1] = g_ * Q + g * r * f_, -r * f_
    weight[:, 0, 0] = w_ * Q + (w * r + g * g * t) * f_ - 2.0 * g * g_ * r
    weight[:, 0, 1] = weight[:, 1, 0] = g_ * r - g * t * f_
    weight[:, 1, 1] = t * f_
    return ParamDerivatives(f_ * Q, first, weight)
