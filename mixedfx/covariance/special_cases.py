"""Which covariance structures are special cases of which, at the same positions."""

from __future__ import annotations

# The next more general structures; a limit of the parameters is no special case.
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
    "exp": ("mat",),
}


def is_special_case(small: str, large: str) -> bool:
    """Whether all covariances of one structure are among those of another."""
    return small == large or any(is_special_case(s, large) for s in _GENERAL.get(small, ()))
