"""The dense textbook definitions: of a linear mixed model, and of a generalised one.

Shares no code with the criterion: it spreads every term into a dense Z, forms
``V = sigma**2 (W^-1 + sum_t Z_t (I (x) S_t) Z_t')`` whole, with ``S_t`` each term's relative
covariance, and reads deviance, estimates and conditional moments off it. Slow and plain, so that
it can be checked by eye against Searle, Casella and McCulloch (1992), chapters 6 and 7. For a
generalised model: Laplace's approximation over all effects at once, and sums over a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats


@dataclass(frozen=True)
class DenseModel:
    deviance: float
    beta: np.ndarray
    sigma: float
    cov_beta: np.ndarray
    effects: list[np.ndarray]  # (levels, k) per term
    cond_cov: list[np.ndarray]  # (levels, k, k) per term
    joint_cov: np.ndarray  # (q, q) over all effects: terms in order, then levels, then effects


def dense_z(random_term) -> np.ndarray:
    """Spread a random term's columns over its levels: level 0's k columns first."""
    n, k = random_term.model_matrix.shape
    levels = random_term.n_levels
    Z = np.zeros((n, levels * k))
    for row in range(n):
        start = random_term.codes[row] * k
        Z[row, start : start + k] = random_term.model_matrix[row]
    return Z


def lambdas(design, theta) -> list[np.ndarray]:
    """Each term's lower triangle, read column by column."""
    result, at = [], 0
    for random_term in design.spec.random_terms:
        k = len(random_term.effect_names)
        lam = np.zeros((k, k))
        for col in range(k):
            rows = [col] if random_term.formula_term.structure == "diag" else range(col, k)
            for row in rows:
                lam[row, col] = theta[at]
                at += 1
        result.append(lam)
    assert at == len(theta)
    return result


def dense_model(design, theta, *, reml: bool) -> DenseModel:
    """Deviance, estimates and conditional moments at theta."""
    return dense_model_of([lam @ lam.T for lam in lambdas(design, theta)], design, reml=reml)


def dense_model_of(relative, design, *, reml: bool, residual=None) -> DenseModel:
    """
    Deviance, estimates and conditional moments at each term's relative covariance.

    ``residual`` (n, n) is the covariance of the residuals of rows of weight one over ``sigma**2``.
    """
    y, X = design.rows.response_less_offset, design.rows.X
    n, p = X.shape
    w = np.ones(n) if design.rows.weights is None else design.rows.weights
    Z = np.concatenate([np.zeros((n, 0)), *map(dense_z, design.rows.random_terms)], axis=1)
    counts = [b.n_levels for b in design.rows.random_terms]
    C = _block_diagonal([np.kron(np.eye(c), S) for c, S in zip(counts, relative, strict=True)])
    R = np.eye(n) if residual is None else residual
    H = R / np.sqrt(np.outer(w, w)) + Z @ C @ Z.T
    Hi = np.linalg.inv(H)
    information = X.T @ Hi @ X
    beta = np.linalg.solve(information, X.T @ Hi @ y) if p else np.zeros(0)
    residuals = y - X @ beta
    nu = n - p if reml else n
    s2 = residuals @ Hi @ residuals / nu
    deviance = np.linalg.slogdet(H)[1] + nu * (1 + np.log(2 * np.pi * s2))
    if reml and p:
        deviance += np.linalg.slogdet(information)[1]
    means = C @ Z.T @ Hi @ residuals
    joint = s2 * (C - C @ Z.T @ Hi @ Z @ C)
    effects, cond, at = [], [], 0
    for random_term, count in zip(design.rows.random_terms, counts, strict=True):
        k = random_term.model_matrix.shape[1]
        effects.append(means[at : at + count * k].reshape(count, k))
        starts = range(at, at + count * k, k)
        cond.append(np.stack([joint[i : i + k, i : i + k] for i in starts]))
        at += count * k
    cov_beta = s2 * np.linalg.inv(information) if p else np.zeros((0, 0))
    return DenseModel(float(deviance), beta, float(np.sqrt(s2)), cov_beta, effects, cond, joint)


def _block_diagonal(parts) -> np.ndarray:
    full = np.zeros((sum(map(len, parts)),) * 2)
    at = 0
    for part in parts:
        full[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return full


@dataclass(frozen=True)
class Marginal:
    deviance: float
    beta: np.ndarray
    cov_beta: np.ndarray
    V: np.ndarray
    X: np.ndarray


def marginal(design, covariances, sds, *, reml: bool, beta=None) -> Marginal:
    """The normal law of the response, nothing profiled but the coefficients that are not given.

    ``covariances`` are the absolute ones of each term's effects, ``sds`` those of the residuals.
    """
    y, X = design.rows.response_less_offset, design.rows.X
    n, p = X.shape
    V = np.diag(np.broadcast_to(np.square(sds), n).astype(float))
    for random_term, S in zip(design.rows.random_terms, covariances, strict=True):
        Z = dense_z(random_term)
        V += Z @ np.kron(np.eye(random_term.n_levels), S) @ Z.T
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    if beta is None:
        beta = np.linalg.solve(information, X.T @ Vi @ y) if p else np.zeros(0)
    residuals = y - X @ beta
    deviance = n * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + residuals @ Vi @ residuals
    if reml and p:
        deviance += np.linalg.slogdet(information)[1] - p * np.log(2 * np.pi)
    cov_beta = np.linalg.inv(information) if p else np.zeros((0, 0))
    return Marginal(float(deviance), np.asarray(beta), cov_beta, V, X)


def covariances(fit) -> list[np.ndarray]:
    """Each term's estimated absolute covariance, from theta and sigma as they are reported."""
    return [fit.sigma**2 * lam @ lam.T for lam in lambdas(fit.model.design, fit.theta)]


def slope(f, x) -> np.ndarray:
    """Gradient by central differences of fourth order."""
    x = np.asarray(x, dtype=float)
    out = []
    for j in range(len(x)):
        e = np.zeros(len(x))
        e[j] = h = 1e-3 * max(1.0, abs(x[j]))
        out.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h))
    return np.array(out)


def curvature(f, x, step: float = 1e-3) -> np.ndarray:
    """Hessian by central differences of two steps, the error of second order taken out."""
    x = np.asarray(x, dtype=float)
    unit = np.diag(step * np.maximum(1.0, np.abs(x)))
    size, here = np.diag(unit), f(x)

    def at(far: float) -> np.ndarray:
        H = np.empty((len(x), len(x)))
        for i, a in enumerate(far * unit):
            H[i, i] = f(x + a) - 2.0 * here + f(x - a)
            for j, b in enumerate(far * unit[:i]):
                mixed = f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)
                H[i, j] = H[j, i] = mixed / 4.0
        return H / far**2 / np.outer(size, size)

    return (4.0 * at(1.0) - at(2.0)) / 3.0


# ---------------------------------------------------------------- generalised models
#
# Everything below starts from SciPy's log densities and textbook link functions. Derivatives by
# the linear predictor are central differences of eighth order, whose error is about 1e-12.

MEANS = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "sqrt": np.square,
    "inverse": lambda eta: 1.0 / eta,
    "logit": lambda eta: 1.0 / (1.0 + np.exp(-eta)),
    "probit": stats.norm.cdf,
    "cloglog": lambda eta: 1.0 - np.exp(-np.exp(np.minimum(eta, 700.0))),
    "cauchit": stats.cauchy.cdf,
}


def log_density(family: str, link: str, y, w, eta, params) -> np.ndarray:
    """Log density of each row; ``y`` a proportion and ``w`` trials where binomial."""
    if family == "cumulative":
        return (1.0 if w is None else w) * log_interval(link, y, eta, params)
    mu, w = MEANS[link](eta), np.ones(len(y)) if w is None else w
    if family == "binomial":
        return stats.binom.logpmf(np.rint(w * y), np.rint(w), mu)
    if family == "poisson":
        return w * stats.poisson.logpmf(y, mu)
    if family == "student":
        return stats.t.logpdf(y, params[1], mu, params[0] / np.sqrt(w))
    if family == "tweedie":
        # The terms of the sum are proportional to one function of the mean: they are summed once.
        phi, p = params[0] / w, params[1]
        at_one = log_poisson_gamma(y, np.ones(len(y)), phi, p)
        by_mean = y * (mu ** (1.0 - p) - 1.0) / (1.0 - p) - (mu ** (2.0 - p) - 1.0) / (2.0 - p)
        return at_one + by_mean / phi
    [phi] = params
    if family == "beta":
        inside = np.minimum(mu, 1.0 - mu) > 1e-290  # else the mean is at an end
        m = np.where(inside, mu, 0.5)
        return np.where(inside, w * stats.beta.logpdf(y, m * phi, (1.0 - m) * phi), -np.inf)
    if family == "betabinomial":
        k, n = np.rint(w * y), np.rint(w)
        of_binomial = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
        inside = np.minimum(mu, 1.0 - mu) > 1e-290
        a, b = (np.where(inside, share, 0.5) * phi for share in (mu, 1.0 - mu))
        mixed = special.betaln(k + a, n - k + b) - special.betaln(a, b)
        at_end = np.where(k == np.where(mu > 0.5, n, 0.0), 0.0, -np.inf)
        return np.where(inside, of_binomial + mixed, at_end)
    if family == "gaussian":
        return stats.norm.logpdf(y, mu, phi / np.sqrt(w))
    if family == "gamma":
        return stats.gamma.logpdf(y, w / phi, scale=mu * phi / w)
    if family == "inverse_gaussian":
        return stats.invgauss.logpdf(y, mu * phi / w, scale=w / phi)
    size = 1.0 / phi if family == "nbinom2" else mu / phi
    return w * stats.nbinom.logpmf(y, size, size / (size + mu))


def log_poisson_gamma(y, mu, phi, power, terms=400) -> np.ndarray:
    """Log density of a Poisson number of gamma amounts, by the sum over that number."""
    rate = mu ** (2.0 - power) / (phi * (2.0 - power))
    scale, nu = phi * (power - 1.0) * mu ** (power - 1.0), (2.0 - power) / (power - 1.0)
    j = np.arange(1, terms + 1).reshape(-1, *(1,) * np.ndim(mu))
    inside = np.where(y > 0.0, y, 1.0)
    with np.errstate(all="ignore"):
        each = stats.poisson.logpmf(j, rate) + stats.gamma.logpdf(inside, j * nu, scale=scale)
    return np.where(y > 0.0, special.logsumexp(each, axis=0), -rate)


LATENT = {
    "logit": stats.logistic,
    "probit": stats.norm,
    "cloglog": stats.gumbel_l,
    "cauchit": stats.cauchy,
}


def log_interval(link: str, y, eta, alpha) -> np.ndarray:
    """``log(F(alpha_y - eta) - F(alpha_(y-1) - eta))``, in the tail that is nearer."""
    ends, k = np.concatenate([[-np.inf], alpha, [np.inf]]), y.astype(int)
    low, high, F = ends[k - 1] - eta, ends[k] - eta, LATENT[link]
    upper = np.where(np.isfinite(low + high), low + high, np.where(np.isinf(low), high, low)) > 0
    with np.errstate(divide="ignore"):
        return np.log(np.where(upper, F.sf(low) - F.sf(high), F.cdf(high) - F.cdf(low)))


_FIRST = np.array([3, -32, 168, -672, 0, 672, -168, 32, -3]) / 840.0
_SECOND = np.array([-9, 128, -1008, 8064, -14350, 8064, -1008, 128, -9]) / 5040.0
_STEP = 0.02


@dataclass(frozen=True)
class GeneralizedDensity:
    """Log densities of the rows of a design at parameters of its family."""

    design: object
    params: np.ndarray

    def __call__(self, eta) -> np.ndarray:
        rows, family = self.design.rows, self.design.spec.family
        return log_density(family.name, family.link.name, rows.y, rows.weights, eta, self.params)

    def differences(self, eta) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative by the linear predictor, (n,)."""
        values = np.array([self(eta + k * _STEP) for k in range(-4, 5)])
        return _FIRST @ values / _STEP, _SECOND @ values / _STEP**2


@dataclass(frozen=True)
class DenseLaplace:
    deviance: float
    effects: list[np.ndarray]  # (levels, k) per term, conditional modes
    cond_cov: np.ndarray  # (q, q) inverse curvature of b, terms in order, then levels, effects


def fixed_predictor(design, beta) -> np.ndarray:
    """``offset + X beta``."""
    eta = design.rows.X @ beta
    return eta if design.rows.offset is None else eta + design.rows.offset


def dense_laplace(design, factors, beta, params) -> DenseLaplace:
    """
    Laplace's approximation of -2 log-likelihood, the second derivatives observed.

    ``factors`` are any square roots of each term's covariance. The modes are found by a damped
    Newton search over all effects at once.
    """
    density, fixed = GeneralizedDensity(design, params), fixed_predictor(design, beta)
    terms = design.rows.random_terms
    Z = np.concatenate([np.zeros((len(fixed), 0)), *map(dense_z, terms)], axis=1)
    parts = [np.kron(np.eye(t.n_levels), F) for t, F in zip(terms, factors, strict=True)]
    Lam = _block_diagonal(parts)
    A = Z @ Lam
    u = np.zeros(A.shape[1])

    def objective(v):
        value = 0.5 * v @ v - density(fixed + A @ v).sum()
        return value if np.isfinite(value) else np.inf

    for _ in range(200):
        g, l2 = density.differences(fixed + A @ u)
        H = np.eye(len(u)) - (A.T * l2) @ A
        values, vectors = np.linalg.eigh(H)
        gradient = u - A.T @ g
        step = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-3))
        share, before = 1.0, objective(u)
        while objective(u + share * step) > before + 1e-10 * (1.0 + abs(before)):
            share /= 2.0
            assert share > 1e-12
        u = u + share * step
        if np.abs(step).max(initial=0.0) < 1e-11:
            break
    g, l2 = density.differences(fixed + A @ u)
    H = np.eye(len(u)) - (A.T * l2) @ A
    deviance = 2.0 * objective(u) + np.linalg.slogdet(H)[1]
    ends = np.cumsum([t.n_levels * len(F) for t, F in zip(terms, factors, strict=True)])
    b = np.split(Lam @ u, ends)[:-1]
    effects = [v.reshape(-1, len(F)) for v, F in zip(b, factors, strict=True)]
    return DenseLaplace(float(deviance), effects, Lam @ np.linalg.inv(H) @ Lam.T)


def brute_force(design, factors, beta, params, *, points: int = 200, reach: float = 9.0) -> float:
    """
    -2 log-likelihood of a model with one term of one or two columns, by a plain grid.

    The integrals over each level's spherical effects are sums over equidistant points, which
    converges faster than any power for a smooth integrand that vanishes at the ends.
    """
    density, fixed = GeneralizedDensity(design, params), fixed_predictor(design, beta)
    [term], [F] = design.rows.random_terms, factors
    axis = np.linspace(-reach, reach, points)
    nodes = np.stack(np.meshgrid(*[axis] * len(F), indexing="ij")).reshape(len(F), -1)
    log_joint = stats.norm.logpdf(nodes).sum(axis=0)[:, None] + len(F) * np.log(axis[1] - axis[0])
    # At every node of every row, (nodes, n); zero times a density of zero is not a number.
    values = np.maximum(density(fixed + nodes.T @ F.T @ term.model_matrix.T), -1e6)
    log_joint = log_joint + values @ np.eye(term.n_levels)[term.codes]
    top = log_joint.max(axis=0)
    return float(-2.0 * (top + np.log(np.exp(log_joint - top).sum(axis=0))).sum())


def probabilities_of_counts(b: Any, y: Any, intercept: float, sd: float) -> Any:
    """Distribution function of each effect at its draw, given a Poisson count, by quadrature."""
    grid = np.linspace(-8.0 * sd, 8.0 * sd, 4001)
    log_density = y[:, None] * (intercept + grid) - np.exp(intercept + grid) - grid**2 / (2 * sd**2)
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    total = np.cumsum(density, axis=1)
    return np.array([np.interp(x, grid, row / row[-1]) for x, row in zip(b, total, strict=True)])
