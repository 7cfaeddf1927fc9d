"""Coverage of confidence intervals, given as ``alpha`` or as ``conf_level``."""

from __future__ import annotations

from mixedfx.errors import ArgumentError, brief, check_share


class _DefaultAlpha(float):
    """Default of ``alpha``; its type tells it from a 0.05 that is given beside ``conf_level``."""


DEFAULT_ALPHA = _DefaultAlpha(0.05)


def resolve_alpha(alpha: float, conf_level: float | None) -> float:
    """One minus the coverage, of which only one of the two may be given."""
    if conf_level is None:
        check_share("alpha", alpha)
        return alpha
    if not isinstance(alpha, _DefaultAlpha):
        raise ArgumentError(
            f"alpha={brief(alpha)} and conf_level={brief(conf_level)} both say what the coverage "
            "is; give one of them."
        )
    check_share("conf_level", conf_level)
    return 1.0 - conf_level
