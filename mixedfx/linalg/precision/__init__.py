"""Equations of effects whose levels have a known sparse inverse of their covariance.

Effects ``b ~ N(0, Lambda Lambda' (x) A)`` of levels, and of others that have no rows, with
``A^-1 = R'R`` sparse, are ``b = R^-1 v`` with independent v: for v, as everywhere,

    M = Lambda'Z'WZ Lambda + I,

where Z is dense. It is factorised as ``R^-T (Lambda'Z'WZ Lambda + A^-1) R^-1``, Z here being that
of the levels: Henderson's mixed model equations (Henderson 1976, Biometrics 32:69).
"""

from typing import TYPE_CHECKING

from mixedfx._late import late

if TYPE_CHECKING:
    from mixedfx.linalg.precision.basis import PrecisionBasis
    from mixedfx.linalg.precision.factor import PrecisionFactor
    from mixedfx.linalg.precision.solver import PrecisionSolver

__all__ = ["PrecisionBasis", "PrecisionFactor", "PrecisionSolver"]

__getattr__ = late(
    __name__, PrecisionBasis="basis", PrecisionFactor="factor", PrecisionSolver="solver"
)
