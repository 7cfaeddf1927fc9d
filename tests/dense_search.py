"""Structured covariances by definition, and the lowest deviance that a plain search finds.

Shares no code with the package: matrices are written out from the definition of each structure, the
deviance is that of a dense V, and scipy minimises it from many starts by differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize, special

HETEROGENEOUS = {"diag", "csh", "ar1h", "toeph", "adh"}


def count(name: str, t: np.ndarray) -> tuple[int, int]:
    """Number of standard deviations, and of parameters of the correlation, at positions t."""
    k = len(t)
    sds = k if name in HETEROGENEOUS else 1
    if k == 1 or name in ("homdiag", "diag"):
        return sds, 0
    lags = len(np.unique(np.abs(np.subtract.outer(t, t)))) - 1
    of = {"toep": lags, "toeph": lags, "ad": k - 1, "adh": k - 1, "mat": 2}
    return sds, of.get(name, 1)


def covariance(name: str, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Covariance at positions t of unbounded parameters: sds, then the correlation's."""
    k, d = len(t), np.abs(np.subtract.outer(t, t))
    n, m = count(name, t)
    sds, c = np.abs(np.broadcast_to(x[:n], k)), x[n:]
    R = np.eye(k)
    if m and name in ("cs", "csh"):
        low = -1.0 / (k - 1)
        R = R + (1.0 - R) * (low + (1.0 - low) * special.expit(2.0 * c[0]))
    elif m and name in ("ar1", "ar1h"):
        R = np.tanh(c[0]) ** d
    elif m and name in ("toep", "toeph"):
        R = _toeplitz(np.tanh(c), d)
    elif m and name in ("ad", "adh"):
        for i in range(k):
            for j in range(i + 1, k):
                R[i, j] = R[j, i] = np.prod(np.tanh(c[i:j]))
    elif m and name == "ou":
        R = np.exp(-np.exp(c[0]) * d)
    elif m and name == "exp":
        R = np.exp(-d / np.exp(c[0]))
    elif m and name == "gau":
        R = np.exp(-((d / np.exp(c[0])) ** 2))
    return np.asarray(sds[:, None] * R * sds)


def _toeplitz(partial: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Autocorrelations of partial ones at the lags that occur, those of others being zero."""
    lags = np.unique(d)[1:].astype(int)
    of_lag = dict(zip(lags, partial, strict=True))
    r, phi, v = [1.0], np.zeros(0), 1.0
    for s in range(1, lags[-1] + 1):
        a = of_lag.get(s, 0.0)
        r.append(phi @ np.array(r[s - 1 : 0 : -1]) + a * v if s > 1 else a)
        phi, v = np.append(phi - a * phi[::-1], a), v * (1.0 - a * a)
    return np.array(r)[d.astype(int)]


@dataclass(frozen=True)
class Part:
    """A structure over the positions of a group's rows."""

    name: str
    t: np.ndarray  # (k,) positions
    position: np.ndarray  # (n,) of each row
    group: np.ndarray  # (n,)

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Covariance of the rows, (n, n)."""
        C = covariance(self.name, x, self.t)
        return C[np.ix_(self.position, self.position)] * np.equal.outer(self.group, self.group)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(count(self.name, self.t))


@dataclass(frozen=True)
class Problem:
    """Response, columns, and a structure: of a random term, or of the residuals."""

    y: np.ndarray
    X: np.ndarray
    part: Part
    residual: bool
    reml: bool

    def deviance(self, x: np.ndarray) -> float:
        """-2 log-likelihood, sigma profiled out; of residuals the first sd is sigma."""
        V = self.part.spread(np.append(1.0, x) if self.residual else x)
        return self.deviance_of(V if self.residual else V + np.eye(len(self.y)))

    def deviance_of(self, V: np.ndarray) -> float:
        """The same of a covariance over ``sigma**2``; huge where it is singular to rounding."""
        n, p = self.X.shape
        try:
            L = np.linalg.cholesky(V)
        except np.linalg.LinAlgError:
            return 1e10
        if not np.isfinite(L).all() or np.diag(L).min() ** 2 < 1e-11 * np.diag(V).max():
            return 1e10
        X, y = (linalg.solve_triangular(L, a, lower=True) for a in (self.X, self.y))
        q, r = np.linalg.qr(X)
        e = y - q @ (q.T @ y)
        nu = n - p if self.reml else n
        d = 2.0 * np.log(np.diag(L)).sum() + nu * (1.0 + np.log(2.0 * np.pi * (e @ e) / nu))
        return float(d + 2.0 * np.log(np.abs(np.diag(r))).sum() * self.reml)

    def lowest(self, starts: int = 5, seed: int = 0) -> float:
        """Lowest deviance from several starts."""
        rng, m = np.random.default_rng(seed), self.part.size - self.residual
        best, at = np.inf, np.zeros(m)
        for _ in range(starts if m else 0):
            start = rng.normal(size=m) * rng.choice([0.4, 1.0, 2.0])
            found = optimize.minimize(
                self.deviance, start, method="L-BFGS-B", bounds=[(-15.0, 15.0)] * m
            )
            if found.fun < best:
                best, at = found.fun, found.x
        for method in ("Nelder-Mead", "BFGS"):
            found = optimize.minimize(self.deviance, at, method=method, tol=1e-9)
            if found.fun < best:
                best, at = found.fun, found.x
        return float(best)
