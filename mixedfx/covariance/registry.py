"""Registry of the covariance structures that are available in formulas."""

from __future__ import annotations

from mixedfx._late import LateMapping
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.errors import ArgumentError, brief

# A formula imports the structures that it names.
STRUCTURES: LateMapping[CovarianceStructure] = LateMapping(
    "mixedfx.covariance",
    {
        "us": "unstructured.Unstructured",
        "diag": "diagonal.Diagonal",
        "homdiag": "compound.HomogeneousDiagonal",
        "cs": "compound.CompoundSymmetry",
        "csh": "compound.HeterogeneousCompoundSymmetry",
        "ar1": "autoregressive.Autoregressive",
        "ar1h": "autoregressive.HeterogeneousAutoregressive",
        "toep": "autoregressive.Toeplitz",
        "toeph": "autoregressive.HeterogeneousToeplitz",
        "ad": "autoregressive.Antedependence",
        "adh": "autoregressive.HeterogeneousAntedependence",
        "ou": "spatial.OrnsteinUhlenbeck",
        "exp": "spatial.Exponential",
        "gau": "spatial.Gaussian",
        "mat": "spatial.Matern",
    },
    make=lambda structure: structure(),
)


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
