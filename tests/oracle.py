"""The definition, written down: dense marginal covariance from the textbook.

Shares no code with the criterion: it spreads every term into a dense Z, forms
``V = sigma**2 (W^-1 + sum_t Z_t (I (x) S_t) Z_t')`` whole, with ``S_t`` each term's relative
covariance, and reads deviance, estimates and conditional moments off it. Slow and plain, so that
it can be checked by eye against Searle, Casella and McCulloch (1992), chapters 6 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Truth:
    deviance: float
    beta: np.ndarray
    sigma: float
    cov_beta: np.ndarray
    effects: list[np.ndarray]  # (levels, k) per term
    cond_cov: list[np.ndarray]  # (levels, k, k) per term
    joint_cov: np.ndarray  # (q, q) over all effects: terms in order, then levels, then effects


def dense_z(block) -> np.ndarray:
    """Spread a block's columns over its levels: level 0's k columns first."""
    n, k = block.values.shape
    levels = len(block.levels)
    Z = np.zeros((n, levels * k))
    for row in range(n):
        start = block.codes[row] * k
        Z[row, start : start + k] = block.values[row]
    return Z


def lambdas(design, theta) -> list[np.ndarray]:
    """Each term's lower triangle, read column by column."""
    result, at = [], 0
    for block in design.blocks:
        k = block.values.shape[1]
        lam = np.zeros((k, k))
        for col in range(k):
            rows = [col] if block.term.structure == "diag" else range(col, k)
            for row in rows:
                lam[row, col] = theta[at]
                at += 1
        result.append(lam)
    assert at == len(theta)
    return result


def truth(design, theta, *, reml: bool) -> Truth:
    """Everything that a theta implies."""
    return truth_of([lam @ lam.T for lam in lambdas(design, theta)], design, reml=reml)


def truth_of(relative, design, *, reml: bool) -> Truth:
    """Everything that the relative covariance of each term implies."""
    y, X = design.y, design.X
    n, p = X.shape
    w = np.ones(n) if design.weights is None else design.weights
    Z = np.concatenate([np.zeros((n, 0)), *map(dense_z, design.blocks)], axis=1)
    counts = [len(b.levels) for b in design.blocks]
    C = _block_diagonal([np.kron(np.eye(c), S) for c, S in zip(counts, relative, strict=True)])
    H = np.diag(1.0 / w) + Z @ C @ Z.T
    Hi = np.linalg.inv(H)
    information = X.T @ Hi @ X
    beta = np.linalg.solve(information, X.T @ Hi @ y) if p else np.zeros(0)
    rest = y - X @ beta
    nu = n - p if reml else n
    s2 = rest @ Hi @ rest / nu
    deviance = np.linalg.slogdet(H)[1] + nu * (1 + np.log(2 * np.pi * s2))
    if reml and p:
        deviance += np.linalg.slogdet(information)[1]
    means = C @ Z.T @ Hi @ rest
    joint = s2 * (C - C @ Z.T @ Hi @ Z @ C)
    effects, cond, at = [], [], 0
    for block, count in zip(design.blocks, counts, strict=True):
        k = block.values.shape[1]
        effects.append(means[at : at + count * k].reshape(count, k))
        starts = range(at, at + count * k, k)
        cond.append(np.stack([joint[i : i + k, i : i + k] for i in starts]))
        at += count * k
    cov_beta = s2 * np.linalg.inv(information) if p else np.zeros((0, 0))
    return Truth(float(deviance), beta, float(np.sqrt(s2)), cov_beta, effects, cond, joint)


def _block_diagonal(parts) -> np.ndarray:
    full = np.zeros((sum(map(len, parts)),) * 2)
    at = 0
    for part in parts:
        full[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return full
