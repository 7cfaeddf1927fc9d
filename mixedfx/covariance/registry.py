"""Registry of the covariance structures that are available in formulas."""

from __future__ import annotations

from mixedfx.covariance.autoregressive import (
    Antedependence,
    Autoregressive,
    HeterogeneousAntedependence,
    HeterogeneousAutoregressive,
    HeterogeneousToeplitz,
    Toeplitz,
)
from mixedfx.covariance.compound import (
    CompoundSymmetry,
    HeterogeneousCompoundSymmetry,
    HomogeneousDiagonal,
)
from mixedfx.covariance.diagonal import Diagonal
from mixedfx.covariance.spatial import Exponential, Gaussian, Matern, OrnsteinUhlenbeck
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.covariance.unstructured import Unstructured
from mixedfx.errors import ArgumentError, brief

STRUCTURES: dict[str, CovarianceStructure] = {}


def register_structure(structure: CovarianceStructure) -> None:
    """
    Make ``structure.name(x | g)`` a random term of formulas.

    Parameters
    ----------
    structure : CovarianceStructure
        Takes the place of one of the same name, for the running process.

    See Also
    --------
    CovarianceStructure : What a structure must provide.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.covariance import register_structure
    >>> from mixedfx.covariance.diagonal import Diagonal
    >>> register_structure(Diagonal())
    >>> mfx.parse("y ~ x + diag(x | g)").random[0].structure
    'diag'
    """
    if not isinstance(structure, CovarianceStructure):
        raise ArgumentError(
            f"structure={brief(structure)} must be an object of a CovarianceStructure."
        )
    name = getattr(structure, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ArgumentError(f"the structure's name={brief(name)} must be a name, such as 'ar1'.")
    STRUCTURES[name] = structure


_BUILT_IN: tuple[CovarianceStructure, ...] = (
    *(Unstructured(), Diagonal(), HomogeneousDiagonal()),
    *(CompoundSymmetry(), HeterogeneousCompoundSymmetry()),
    *(Autoregressive(), HeterogeneousAutoregressive()),
    *(Toeplitz(), HeterogeneousToeplitz()),
    *(Antedependence(), HeterogeneousAntedependence()),
    *(OrnsteinUhlenbeck(), Exponential(), Gaussian(), Matern()),
)
for _structure in _BUILT_IN:
    register_structure(_structure)
