"""Effects of the animals of a pedigree given those of some of them.

With o animals among these ones' ancestors, and r those whose effects are given, of the inverse
``Q = A^-1`` of both, which is sparse,

    E(b_o | b_r) = -Q_oo^-1 Q_or b_r        Var(b_o | b_r) = sigma_a**2 Q_oo^-1

and animals that are no ancestors have the mean of their parents (Henderson 1976, Biometrics 32:69).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.covariance.known_covariance import PedigreeCovariance
from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.sparse_cholesky.numeric import SparseFactor, sparse_factor

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Numbers in a batch of columns.
_BATCH = 20_000_000


@dataclass(frozen=True)
class PedigreeRegression:
    """Regression of animals on those whose effects are given."""

    nodes: Codes  # (nodes,) rows of the pedigree: both, and their ancestors
    given: Codes  # (given,) among the nodes
    others: Codes  # (others,) among the nodes
    between: sparse.csr_array = field(repr=False)  # (others, given) Q_or
    factor: SparseFactor = field(repr=False)  # of Q_oo

    @staticmethod
    def of(known: PedigreeCovariance, given: Codes, wanted: Codes) -> PedigreeRegression:
        """Regression of wanted rows, and of the ancestors of both, on given ones."""
        nodes = known.with_ancestors(np.concatenate([given, wanted]))
        root = known.root(nodes).csr
        Q = sparse.csr_array(root.T @ root)
        at = np.searchsorted(nodes, given)
        is_given = np.zeros(len(nodes), dtype=bool)
        is_given[at] = True
        others = np.flatnonzero(~is_given)
        rows = Q[others]
        return PedigreeRegression(
            nodes, at, others, rows[:, at], sparse_factor(sparse.csr_array(rows[:, others]))
        )

    def means(self, effects: Matrix) -> Matrix:
        """Conditional means of the nodes, (nodes, m), given effects (given, m)."""
        found = np.empty((len(self.nodes), effects.shape[1]))
        found[self.given] = effects
        found[self.others] = self.factor.solve(-(self.between @ effects))
        return found

    def weights(self, wanted: Codes) -> tuple[sparse.csr_array, Vector]:
        """Weights of the given effects in the means of others, and relative variances left."""
        check_memory(
            f"weights of {len(self.given):,} levels with records for {len(wanted):,} others",
            12.0 * len(wanted) * len(self.given),
            copies=1,
            advice="Ask for fewer animals.",
        )
        columns = np.searchsorted(self.others, np.searchsorted(self.nodes, wanted))
        parts, left = [sparse.csr_array((0, len(self.given)))], np.empty(len(wanted))
        step = max(1, _BATCH // max(len(self.others), 1))
        for first in range(0, len(wanted), step):
            batch = columns[first : first + step]
            units = np.zeros((len(self.others), len(batch)))
            units[batch, np.arange(len(batch))] = 1.0
            solved = self.factor.solve(units)
            left[first : first + step] = solved[batch, np.arange(len(batch))]
            parts.append(sparse.csr_array(-(solved.T @ self.between)))
        return sparse.csr_array(sparse.vstack(parts, format="csr")), left


def conditional_means(known: PedigreeCovariance, given: Codes, effects: Matrix) -> Matrix:
    """Conditional means of all animals, (size, m), given effects (given, m)."""
    regression = PedigreeRegression.of(known, given, given[:0])
    nodes, of_nodes = regression.nodes, regression.means(effects)
    sampled = np.zeros((known.size, effects.shape[1]))
    sampled[nodes] = of_nodes - known.parents.csr[nodes][:, nodes] @ of_nodes
    return known.gene_flow(sampled)
