"""Estimate of ``log|P|`` and of its derivatives from vectors of random signs.

With W of :mod:`~.deflation`, ``V = P^-1 W``, the projection ``Q = I - WW'``, ``z = Q signs``, and
the control variate C of :mod:`~.control`,

    log|P| = log|P_c| - log|W'P^-1 W|,
    log|P_c| = mean of z'(log P_c - P_c + I + C) z - tr(W'(P - I)W) - tr(QCQ),
    tr(P^-1 dP) = tr((W'V)^-1 V'dP V) + mean of (P_c^-1 z - z)'dP z - tr(W'dP W).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.iterative.columns import CHUNK
from mixedfx.linalg.iterative.conjugate_gradients import conjugate_gradients
from mixedfx.linalg.iterative.control import ControlVariate
from mixedfx.linalg.iterative.deflation import Deflation
from mixedfx.linalg.iterative.derivatives import ByLambda, OperatorDerivatives, add_scaled
from mixedfx.linalg.iterative.schur_operator import SchurOperator
from mixedfx.linalg.threads import for_each

# Residuals relative to the right-hand sides: of W, and of the signs, where the quadrature's error
# is the square.
_EXACT, _TOLERANCE = 1e-11, 1e-7
_MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class LogDeterminant:
    """An estimate of ``log|P|``, and the solutions that its derivatives need."""

    deflation: Deflation = field(repr=False)
    exact: float  # what is not random
    by_probe: Array = field(repr=False)  # (probes,)
    signs: tuple[Array, ...] = field(repr=False)  # z, (r, CHUNK) each
    solved: tuple[Array, ...] = field(repr=False)  # P_c^-1 z
    solved_W: Array = field(repr=False)  # (r, d), P^-1 W
    iterations: int  # of conjugate gradients

    @property
    def value(self) -> float:
        """The estimate."""
        return self.exact + float(self.by_probe.mean())

    @property
    def error(self) -> float:
        """Monte Carlo standard error."""
        return float(self.by_probe.std(ddof=1) / np.sqrt(len(self.by_probe)))

    def derivatives(
        self, of: OperatorDerivatives, known: ByLambda | None = None
    ) -> tuple[dict[int, Array], ByLambda]:
        """
        By each Lambda, (K, K), and the random part of each probe, (K, K, probes).

        ``known`` are those of the first probes.
        """
        W, V = self.deflation.columns, self.solved_W
        inverse = np.asarray(np.linalg.inv(full_rank(self.deflation.products(V))), dtype=np.float64)
        exact = of.of_forms(np.hstack([self.deflation.combine(V, inverse), -W]), np.hstack([V, W]))
        before = [] if known is None else [known]
        first = 0 if known is None else next(iter(known.values())).shape[2] // CHUNK
        pairs = [(x - z, z) for x, z in zip(self.solved[first:], self.signs[first:], strict=True)]
        found = before + for_each(lambda pair: of.of_forms(*pair), pairs)
        by_probe = {f: np.concatenate([part[f] for part in found], axis=2) for f in exact}
        total: dict[int, Array] = {f: np.zeros(part.shape[:2]) for f, part in exact.items()}
        add_scaled(total, exact, 1.0)
        add_scaled(total, by_probe, 1.0 / len(self.by_probe))
        return total, by_probe


def estimate_log_det(
    operator: SchurOperator,
    deflation: Deflation,
    *,
    probes: int,
    seed: int,
    fewer: LogDeterminant | None = None,
) -> LogDeterminant:
    """
    Estimate ``log|P|`` by vectors of random signs; more of one seed include the fewer.

    ``fewer`` is an estimate of the same by fewer of them, to which the others are added.
    """
    control = ControlVariate(operator, deflation)

    def solve(chunk: int) -> tuple[Array, Array, Array, int]:
        rng = np.random.default_rng([seed, chunk])
        signs = rng.choice(np.array([-1.0, 1.0]), size=(operator.size, CHUNK))
        z = deflation.complement(signs)
        found = conjugate_gradients(
            lambda v: deflation.complement(operator.multiply(v)),
            z,
            tolerance=_TOLERANCE,
            max_iterations=_MAX_ITERATIONS,
        )
        values = found.quadratic_forms(lambda t: np.log(t) - t + 1.0)
        values += control.forms(z)
        return z, found.X, values, found.iterations

    if fewer is None:
        fewer = _without_probes(control)
    parts = for_each(solve, list(range(len(fewer.signs), -(-probes // CHUNK))))
    return replace(
        fewer,
        by_probe=np.concatenate([fewer.by_probe, *(values for _, _, values, _ in parts)]),
        signs=(*fewer.signs, *(z for z, _, _, _ in parts)),
        solved=(*fewer.solved, *(x for _, x, _, _ in parts)),
        iterations=max([fewer.iterations, *(iterations for _, _, _, iterations in parts)]),
    )


def _without_probes(control: ControlVariate) -> LogDeterminant:
    """What is not random."""
    operator, deflation, trace = control.operator, control.deflation, control.trace
    W = deflation.columns
    solved_W = conjugate_gradients(
        operator.multiply, W, tolerance=_EXACT, max_iterations=_MAX_ITERATIONS
    ).X
    products = full_rank(deflation.products(solved_W))
    exact = -float(np.linalg.slogdet(products)[1].sum())
    exact -= float(np.einsum("rd,rd->", W, operator.multiply(W)) - np.einsum("rd,rd->", W, W))
    return LogDeterminant(deflation, exact - trace, np.zeros(0), (), (), solved_W, 0)


def full_rank(products: Array) -> Array:
    """``W'P^-1 W`` by component, the identity for effects without levels in a component."""
    missing = np.einsum("cdd->cd", products) == 0.0
    if missing.any():
        products = products.copy()
        at = np.nonzero(missing)
        products[at[0], at[1], at[1]] = 1.0
    return products
