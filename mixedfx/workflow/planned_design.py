"""Every table and finding of a formula on rows that are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.build import Design, build
from mixedfx.design.cells import cell_text, empty_cells
from mixedfx.design.inspection import effective_size, factors, pairs, slopes
from mixedfx.design.inspection.finding import DesignFinding, with_random, without_fixed
from mixedfx.design.inspection.reading import ReadRows
from mixedfx.design.swapped import swapped_sides
from mixedfx.errors import ArgumentError, MixedfxError
from mixedfx.families.family import Family
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.workflow.design_tables import DesignCheck
from mixedfx.workflow.problem_size import problem_size

_MANY_DROPPED = 0.1
_ORDER = ("error", "warning", "note")
# Responses that stand for one that is not observed yet: of a number, a count, a share.
STAND_INS = ((0.0, 1.0), (1.0, 2.0), (0.3, 0.6))


def with_stand_in(frame: pd.DataFrame, name: str, values: tuple[float, float]) -> pd.DataFrame:
    """Table with made-up responses, which do not follow the rows' order."""
    drawn = np.random.default_rng(0).random(len(frame)) < 0.5
    drawn[:2] = (False, True)[: len(frame)]
    return frame.assign(**{name: np.where(drawn, *values)})


@dataclass(frozen=True)
class PlannedDesign:
    """Rows and arguments of a fit."""

    rows: ReadRows
    frame: pd.DataFrame = field(repr=False)
    family: Family
    residual_sd: Any
    relmat: Any
    observed: bool

    @property
    def formula(self) -> Formula:
        """The formula, with a response."""
        return self.rows.formula

    @property
    def text(self) -> str:
        """The formula as given, without a response that is made up."""
        return self._as_given(str(self.formula))

    def _as_given(self, formula: str) -> str:
        own = f"{self.formula.response} ~"
        is_given = self.observed or not formula.startswith(own)
        return formula if is_given else formula.removeprefix(self.formula.response).lstrip()

    def check(self, icc: Any) -> DesignCheck:
        """Every table and finding."""
        rows = self.rows
        shares = effective_size.Shares.of(rows, icc)
        found_pairs = pairs.pairs_of(rows)
        found_slopes = slopes.slopes_of(rows, found_pairs)
        coefficients = effective_size.coefficients_table(rows, found_pairs, shares)
        size, refusals = self._size()
        findings = [
            *self._of_terms(),
            *pairs.findings_of_pairs(rows, found_pairs),
            *factors.findings_of_factors(rows, one_row_levels=self._one_row_levels),
            *slopes.findings_of_slopes(self.formula, found_slopes),
            *effective_size.findings_of_coefficients(rows, coefficients),
            *self._of_rows(),
        ]
        findings = _without_doubles(findings, rows.refusals, refusals)
        return DesignCheck(
            formula=self.text,
            nobs=rows.n,
            n_dropped=rows.n_dropped,
            factors=factors.factors_table(rows),
            pairs=pairs.pairs_table(found_pairs),
            covariates=factors.covariates_table(rows, found_pairs),
            slopes=slopes.slopes_table(found_slopes),
            coefficients=coefficients,
            size=size,
            findings=tuple(replace(f, formula=self._as_given(f.formula)) for f in findings),
            assumption=effective_size.sentence(shares, coefficients),
        )

    @property
    def _one_row_levels(self) -> bool:
        return self.residual_sd is not None or self.family != NORMAL or bool(self.relmat)

    def _of_terms(self) -> Iterator[DesignFinding]:
        """Empty cells of interactions, and random terms whose sides are swapped."""
        fixed = self.rows.fixed
        if fixed is not None and fixed.info is not None:
            cells = empty_cells(fixed.info, self.rows.variables)
            if cells:
                interactions = [t.name() for t in fixed.info.terms if len(t.factors) > 1]
                listed = "; ".join(map(cell_text, cells[:6]))
                more = f"; and {len(cells) - 6} more" if len(cells) > 6 else ""
                have = "cell has" if len(cells) == 1 else "cells have"
                what = f"{len(cells)} {have} no rows: {listed}{more}."
                to_do = (
                    "Their means, and what compares them, are not estimable. Without interactions:"
                )
                formula = without_fixed(self.formula, interactions)
                where = ", ".join(interactions)
                yield DesignFinding("warning", "empty cells", where, what, to_do, formula)
        for term in self.formula.random:
            columns = self.rows.effects(term)
            swapped = columns and swapped_sides(term, columns.info, self.rows.variables)
            if swapped:
                turned = replace(term, effects=term.group[0], group=(term.effects,))
                change = partial(_exchanged, term, turned)
                formula = with_random(self.formula, change)
                group = term.group_name
                yield DesignFinding("warning", "swapped", group, swapped, "", formula)

    def _of_rows(self) -> Iterator[DesignFinding]:
        n, dropped = self.rows.n, self.rows.n_dropped
        if dropped > _MANY_DROPPED * (n + dropped):
            what = f"{dropped:,} of {n + dropped:,} rows have a missing value and are left out."
            to_do = "Ask why they are missing; mfx.pool() combines fits of imputed data."
            yield DesignFinding("note", "missing", "rows", what, to_do)

    def _size(self) -> tuple[pd.DataFrame, list[str]]:
        """Size, and every reason why a fit would be refused."""
        refusals = list(self.rows.refusals)
        design = self._built(refusals)
        if design is None:
            return pd.DataFrame(columns=["size", "value"]), refusals
        size, more = problem_size(design, linear=self.family == NORMAL)
        return size, refusals + more

    def _built(self, refusals: list[str]) -> Design | None:
        """The design of a fit; None with the reason where it would be refused."""
        name, error = decode(self.formula.response), None
        for values in STAND_INS:
            frame = self.frame if self.observed else with_stand_in(self.frame, name, values)
            try:
                return build(
                    self.formula,
                    frame,
                    env=self.rows.env,
                    family=self.family,
                    relmat=self.relmat,
                    residual_sd=self.residual_sd,
                )
            except ArgumentError:
                raise
            except MixedfxError as found:
                error = error or found
            if self.observed:
                break
        refusals.append(str(error))
        return None


def _exchanged(old: RandomTerm, new: RandomTerm, term: RandomTerm) -> RandomTerm:
    return new if term == old else term


def _without_doubles(
    findings: list[DesignFinding], of_reading: list[str], refusals: list[str]
) -> list[DesignFinding]:
    """Findings in order, without those that follow from another, and reasons not found yet."""
    # Of levels that are meant otherwise, the numbers are not these.
    meant = {f.where.split(" in ")[0] for f in findings if f.kind in ("labels", "swapped")}
    kept = [
        f
        for f in findings
        if f.kind not in ("levels", "slope", "same")
        or f.where.rstrip(")").split("| ")[-1] not in meant
    ]
    known = any(f.severity == "error" for f in kept)
    reasons = dict.fromkeys(of_reading if known else [*of_reading, *refusals])
    where, says = "formula and data", "The fit is refused: "
    kept = [DesignFinding("error", "refused", where, f"{says}{r}", "") for r in reasons] + kept
    return sorted(kept, key=lambda f: _ORDER.index(f.severity))
