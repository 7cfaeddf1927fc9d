"""Which covariance structures are special cases of which, at the same positions."""

from __future__ import annotations

# The next more general structures; a limit of the parameters is no special case. Coordinates are
# the same: at whole numbers ou has the correlations exp(-rate)**lag of ar1, and any process
# those of toep.
_GENERAL = {
    "homdiag": ("diag", "cs", "ar1", "toep", "ad"),
    "diag": ("csh", "ar1h", "toeph", "adh", "us"),
    "cs": ("csh", "toep"),
    "csh": ("toeph", "us"),
    "ar1": ("ar1h", "toep", "ad"),
    "ar1h": ("toeph", "adh"),
    "toep": ("toeph",),
    "toeph": ("us",),
    "ad": ("adh",),
    "adh": ("us",),
    "ou": ("ar1", "mat"),
    "exp": ("ar1", "mat"),
    "gau": ("toep",),
    "mat": ("toep",),
}

# Structures whose covariances are limits of others', but none of them: the Matern correlation goes
# to ``1 - exp(-2 a)`` at all distances as the smoothness nu goes to 0 and nu log(range) to a.
LIMITS = {"mat": ("cs",)}


def is_special_case(small: str, large: str) -> bool:
    """Whether all covariances of one structure are among those of another."""
    same = small == large or {small, large} == {"ou", "exp"}  # exp(-d rate), exp(-d / range)
    return same or any(is_special_case(s, large) for s in _GENERAL.get(small, ()))
