"""Names of covariance structures in other programs, and the nearest of ours."""

from __future__ import annotations

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.errors import did_you_mean

# In SAS, nlme, glmmTMB, mmrm and others, in lower case.
_ELSEWHERE = {
    **dict.fromkeys(("un", "unstructured", "unstr", "corsymm", "symm"), "us"),
    **dict.fromkeys(("corcompsymm", "compsymm", "compound_symmetry", "exchangeable"), "cs"),
    **dict.fromkeys(("homcs", "hcs"), "cs"),
    **dict.fromkeys(("ar", "corar1", "autoregressive", "ar_1"), "ar1"),
    **dict.fromkeys(("arh", "arh1", "hetar1", "har1"), "ar1h"),
    **dict.fromkeys(("car", "car1", "corcar1", "continuous_ar1", "sp_pow"), "ou"),
    **dict.fromkeys(("sp_exp", "spexp", "corexp", "exponential"), "exp"),
    **dict.fromkeys(("sp_gau", "corgaus", "gaussian"), "gau"),
    **dict.fromkeys(("ante", "ante1", "antedependence"), "adh"),
    **dict.fromkeys(("matern", "sp_mat", "cormatern"), "mat"),
    **dict.fromkeys(("toeplitz", "homtoep"), "toep"),
    **dict.fromkeys(("hettoep",), "toeph"),
    **dict.fromkeys(("independent", "iid", "vc", "simple"), "homdiag"),
    **dict.fromkeys(("varident", "hetdiag", "zerocorr"), "diag"),
}


def our_name(name: str) -> str:
    """Our name of a structure of another program; the name itself where there is none."""
    return _ELSEWHERE.get(name.casefold(), name)


def nearest_structure(name: str, side: str | None = None) -> str:
    """``" Did you mean 'ar1'?"``: our name of a structure, or the nearest; empty if none is."""
    known = [n for n, s in STRUCTURES.items() if side is None or side in s.sides]
    ours = our_name(name)
    return f" Did you mean '{ours}'?" if ours in known else did_you_mean(name, known)
