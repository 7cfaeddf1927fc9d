"""How means are compared: a method over all of them, or a product of methods over variables.

The product of contrasts ``C_a`` of the levels of one variable and ``C_b`` of another is an
interaction contrast, ``C_b (x) C_a`` of the means of all combinations (the first varies fastest):
a difference of differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.inference.emmeans.contrasts import (
    ALL_PAIRS,
    METHODS,
    WITH_REFERENCE,
    contrast_coefficients,
    position_of,
)
from mixedfx.inference.emmeans.display import mean_labels
from mixedfx.inference.emmeans.p_adjust import Adjust
from mixedfx.inference.emmeans.reference_grid import level_text

Matrix = npt.NDArray[np.float64]


class Comparison(Protocol):
    """Contrasts of the means of a group."""

    @property
    def default_adjust(self) -> Adjust:
        """Adjustment unless one is asked for."""
        ...

    @property
    def all_pairs(self) -> bool:
        """Whether the contrasts are all differences of pairs of means."""
        ...

    @property
    def given(self) -> bool:
        """Whether coefficients are given, which may be of one mean."""
        ...

    def coefficients(
        self, levels: pd.DataFrame, names: Sequence[str], *, sign: str = "-"
    ) -> tuple[list[str], Matrix]:
        """Labels and coefficients over means, given their levels and names."""
        ...


@dataclass(frozen=True)
class MethodComparison:
    """One method over all means of a group."""

    method: Any  # a name, or a mapping from labels to coefficients
    ref: Any = None  # the mean that others are compared with, by position or level

    def __post_init__(self) -> None:
        """Refuse unknown methods, and a reference where there is none."""
        if not self.given:
            check_choice("method", self.method, METHODS)
        if self.ref is not None and self.method not in WITH_REFERENCE:
            raise ArgumentError(
                f"ref={self.ref!r} is the mean that others are compared with: add "
                "method='trt.vs.ctrl' or 'dunnett'."
            )

    @property
    def default_adjust(self) -> Adjust:
        """Tukey's for all pairs, Dunnett's own, none for what is planned, else Holm's."""
        if self.all_pairs:
            return "tukey"
        if self.given:
            return "none"
        adjustments: dict[str, Adjust] = {"poly": "none", "dunnett": "mvt"}
        return adjustments.get(self.method, "holm")

    @property
    def all_pairs(self) -> bool:
        """Whether these are all differences of pairs."""
        return isinstance(self.method, str) and self.method in ALL_PAIRS

    @property
    def given(self) -> bool:
        """Whether the method is a mapping."""
        return isinstance(self.method, Mapping)

    def coefficients(
        self, levels: pd.DataFrame, names: Sequence[str], *, sign: str = "-"
    ) -> tuple[list[str], Matrix]:
        """Labels and coefficients of the method."""
        keys = _keys(levels)
        ref = None if self.ref is None else position_of("ref", self.ref, names, keys)
        return contrast_coefficients(self.method, names, sign=sign, ref=ref, keys=keys)


def _keys(levels: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Names of each mean beside its label: its level, as it is and as text, or a tuple of them."""
    rows = list(levels.astype(object).itertuples(index=False, name=None))
    if len(levels.columns) == 1:
        return [(row[0], level_text(row[0])) for row in rows]
    return [(row, tuple(map(level_text, row))) for row in rows]


@dataclass(frozen=True)
class InteractionComparison:
    """A method over the levels of each variable, and all products of their contrasts."""

    methods: tuple[tuple[str, Any], ...]  # variables with their methods

    @property
    def default_adjust(self) -> Adjust:
        """None, as in emmeans."""
        return "none"

    @property
    def all_pairs(self) -> bool:
        """Whether there are differences of pairs of one variable alone."""
        return len(self.methods) == 1 and self.methods[0][1] in ALL_PAIRS

    @property
    def given(self) -> bool:
        """Not so."""
        return False

    def coefficients(
        self, levels: pd.DataFrame, names: Sequence[str], *, sign: str = "-"
    ) -> tuple[list[str], Matrix]:
        """Labels and coefficients of the products; the first variable's vary fastest."""
        labels = [""]
        rows: Matrix = np.ones((1, 1))
        for name, method in self.methods:
            own = levels[[name]].drop_duplicates()
            names_here = mean_labels(own.reset_index(drop=True), [name])
            of_factor, C = contrast_coefficients(method, names_here, sign=sign, keys=_keys(own))
            labels = [f"{a} : {b}" if a else b for b in of_factor for a in labels]
            rows = np.asarray(np.kron(C, rows))
        if rows.shape[1] != len(levels):
            raise ArgumentError(
                "interaction contrasts need the means of all combinations of "
                f"{', '.join(n for n, _ in self.methods)}; some do not occur: write nesting=None, "
                "or restrict the levels with at=."
            )
        return labels, rows


def comparison_of(
    specs: Sequence[str], method: Any, *, ref: Any = None, interaction: Any = None
) -> Comparison:
    """Comparison that the arguments of ``contrasts()`` describe."""
    if interaction is None or interaction is False:
        return MethodComparison(method, ref)
    if ref is not None:
        raise ArgumentError("ref= goes with a method, not with interaction=.")
    if not specs:
        raise ArgumentError("interaction= needs variables in specs, as fit.emmeans(['a', 'b']).")
    given = "pairwise" if interaction is True else interaction
    if isinstance(given, Mapping):
        for name in given:
            check_choice("interaction", name, specs)
        methods = [given.get(name, "pairwise") for name in specs]
    elif isinstance(given, str):
        methods = [given] * len(specs)
    else:
        methods = list(given) if isinstance(given, Sequence) else [given]
        if len(methods) != len(specs):
            raise ArgumentError(
                f"interaction has {len(methods)} methods for {len(specs)} variables: give one for "
                f"each of {', '.join(specs)}, or one for all."
            )
    for one in methods:
        if not isinstance(one, Mapping):
            check_choice("interaction", one, METHODS)
    return InteractionComparison(tuple(zip(specs, methods, strict=True)))
