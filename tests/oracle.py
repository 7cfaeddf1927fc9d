"""The definition, written down: dense marginal covariance from the textbook.

Shares no code with the criterion: it spreads every term into a dense Z, forms
``V = sigma**2 (W^-1 + Z Lambda Lambda' Z')`` whole, and reads deviance, estimates and
conditional moments off it. Slow and plain, so that it can be checked by eye against
Searle, Casella and McCulloch (1992), chapters 6 and 7.
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
    y, X = design.y, design.X
    n, p = X.shape
    w = np.ones(n) if design.weights is None else design.weights
    D = np.diag(1.0 / w)
    Zs = [dense_z(b) for b in design.blocks]
    covs = [
        np.kron(np.eye(len(b.levels)), lam @ lam.T)
        for b, lam in zip(design.blocks, lambdas(design, theta), strict=True)
    ]
    H = D + sum((Z @ C @ Z.T for Z, C in zip(Zs, covs, strict=True)), np.zeros((n, n)))
    Hi = np.linalg.inv(H)
    information = X.T @ Hi @ X
    beta = np.linalg.solve(information, X.T @ Hi @ y) if p else np.zeros(0)
    rest = y - X @ beta
    nu = n - p if reml else n
    s2 = rest @ Hi @ rest / nu
    deviance = np.linalg.slogdet(H)[1] + nu * (1 + np.log(2 * np.pi * s2))
    if reml and p:
        deviance += np.linalg.slogdet(information)[1]
    effects, cond = [], []
    for b, Z, C in zip(design.blocks, Zs, covs, strict=True):
        k = b.values.shape[1]
        effects.append((C @ Z.T @ Hi @ rest).reshape(-1, k))
        full = s2 * (C - C @ Z.T @ Hi @ Z @ C)
        cond.append(np.stack([full[i : i + k, i : i + k] for i in range(0, len(full), k)]))
    cov_beta = s2 * np.linalg.inv(information) if p else np.zeros((0, 0))
    return Truth(float(deviance), beta, float(np.sqrt(s2)), cov_beta, effects, cond)
