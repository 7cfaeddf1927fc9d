"""Comparisons of a fit with its reference: how they are run, and those of every kind of model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from reference_models import group_key


class Checks:
    """Comparisons of fits with references, each of which fails on its own."""

    def __init__(self) -> None:
        self._functions: list[Callable] = []

    def __call__(self, function: Callable) -> Callable:
        """Register a comparison of a fit with its reference."""
        self._functions.append(function)
        return function

    def run(self, fit, reference, subtests) -> None:
        for compare in self._functions:
            with subtests.test(compare.__name__):
                compare(fit, reference)


def groups_of(fit, reference) -> list[tuple[str, str]]:
    """Pair each of our grouping factors with lme4's label for it."""
    labels = {group_key(label): label for label in reference["ranef"]}
    return [(group, labels[group_key(group)]) for group in fit.formula.groups]


def by_text(table):
    return table.set_axis(table.index.astype(str))


def compare_conditional_modes(fit, reference, rtol: float) -> None:
    """Within a part of each effect's standard deviation."""
    for group, label in groups_of(fit, reference):
        expected = reference.level_table("ranef", label, group)
        found = by_text(fit.ranef(group)).loc[expected.index]
        for effect in expected:
            sd = reference.deviations[group_key(group), effect]
            np.testing.assert_allclose(
                found[effect], expected[effect], rtol=0, atol=rtol * sd, err_msg=group
            )


def compare_conditional_standard_deviations(fit, reference, rtol: float) -> None:
    for group, label in groups_of(fit, reference):
        expected = reference.level_table("ranef_cond_sd", label, group)
        found = by_text(fit.ranef(group, cond_sd=True)).loc[expected.index]
        np.testing.assert_allclose(
            found[[f"{effect}_sd" for effect in expected]], expected, rtol=rtol, err_msg=group
        )
