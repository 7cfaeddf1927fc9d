"""Dispersion: whether the response varies about its mean as much as the model says.

The statistic is the mean square of the Pearson residuals given the effects, 1 if the model is
right; its distribution is that of responses simulated at the same draws (Hartig 2022, DHARMa, with
conditional simulations: with new effects their variance would hide the residuals').
Where the variance has a parameter of its own it is near 1 by construction.
"""

from __future__ import annotations

from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.families import advice_on_spread, has_single_trials
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.statistics import compare_with_simulated


def dispersion(drawn: DrawnFit) -> list[Finding]:
    """One row, but of single trials, which cannot vary otherwise given their mean."""
    if has_single_trials(drawn.fit):
        return []
    tested = compare_with_simulated(drawn.dispersion, drawn.simulated[0])
    ratio = float(tested.statistic.mean())

    def advice() -> str:
        name = drawn.fit.spec.formula.response_name
        if drawn.fit.spec.residual.linear:
            return f"The variance of {name} is {ratio:.2f} times that of the known residual_sd."
        if ratio > 1.0:
            return advice_on_spread(
                drawn.fit,
                f"The variance of {name} is {ratio:.2f} times what the model says: standard "
                "errors are too small.",
            )
        return (
            f"The variance of {name} is {ratio:.2f} times what the model says: standard errors "
            "are too large, and tests err on the safe side."
        )

    return [Finding.of("dispersion", "response", tested, advice)]
