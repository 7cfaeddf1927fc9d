"""Notes on the data of a fit: rows left out, columns that number the rows, responses of 0 and 1."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode, written
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.design.swapped import swapped_sides
from mixedfx.errors import ColumnWarning, DroppedRowsWarning, MixedfxWarning
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
# A note's text, and the category that it is warned with; None: kept only.
DataNote = tuple[str, type[MixedfxWarning] | None]

# ``.`` by itself, all other columns; and what it is not looked for in.
_DOT, _QUOTED = re.compile(r"(?<![\w.)\]])\.(?![\w.])"), re.compile(r"`[^`]*`|\"[^\"]*\"|'[^']*'")
# A warning is given where more than this share of the rows is left out.
_LARGE_SHARE = 0.1
# A count has zeros, is skewed to the right (by more than this, the mean below this share of the
# maximum), and varies at least about as a Poisson variable does.
_SKEWNESS, _MEAN_OVER_MAXIMUM, _VARIANCE_OVER_MEAN = 0.4, 0.4, 0.7
_FEWEST_ROWS = 10
# Positions of one term beyond which a fit takes a minute or more.
_MANY_POSITIONS = 500
# Known residual sds below the first share of the response's sd lose digits; those of the second
# change variances of random effects by their square, relatively.
_SMALL_RESIDUAL_SD, _ENOUGH_RESIDUAL_SD = 1e-4, 1e-3


def notes_on_data(design: Design) -> list[DataNote]:
    """Notes on a design's rows, in the order in which they are reported."""
    formula, rows = design.spec.formula, design.rows.sample
    found = [_dropped_rows(design.rows), _row_numbers(formula, rows.variables)]
    found.append(_response(design.spec, rows.y))
    # In a sample a level has fewer rows than it has.
    terms = design.spec.random_terms if rows is design.rows else ()
    meant = [swapped_sides(term.formula_term, term.info, rows.variables) for term in terms]
    found += [(text, ColumnWarning) for text in meant if text is not None]
    found.append(_small_residual_sds(design))
    found += [_many_positions(term) for term in design.spec.random_terms]
    return [note for note in found if note is not None]


def _many_positions(term: RandomTermSpec) -> DataNote | None:
    """Cost of a term of so many positions that each evaluation is slow."""
    k = len(term.effect_names)
    if term.positions is None or k <= _MANY_POSITIONS:
        return None
    text = (
        f"{term.formula_term} has {k:,} positions: each of some hundred evaluations factorises a "
        f"matrix of {k:,} x {k:,} for each level. Rounded to a coarser grid there are fewer."
    )
    return text, None


def _dropped_rows(rows: ModelRows) -> DataNote | None:
    if not rows.n_dropped:
        return None
    total = rows.n_dropped + rows.n + rows.n_merged
    columns = ", ".join(f"{decode(name)} ({count})" for name, count in rows.missing.items())
    text = f"{rows.n_dropped} of {total} rows have missing values and were left out"
    text += f": {columns}." if columns else "."
    return text, DroppedRowsWarning if rows.n_dropped > _LARGE_SHARE * total else None


def _row_numbers(formula: Formula, variables: Mapping[str, pd.Series]) -> DataNote | None:
    """Columns that ``.`` stands for and that number the rows."""
    if not variables or "." not in formula.source:
        return None
    if not _DOT.search(_QUOTED.sub("", formula.source)):
        return None
    names = [name for name, column in variables.items() if _numbers_rows(name, formula, column)]
    if not names:
        return None
    listed = " and ".join(repr(decode(name)) for name in names)
    text = (
        f"'.' stands for {listed}, too, a number of its own for each row: leave it out, as in "
        f"'. - {written(names[0])}', unless an order of the rows is meant."
    )
    return text, ColumnWarning


def _numbers_rows(name: str, formula: Formula, column: pd.Series) -> bool:
    """Whether a column that is written nowhere in the formula numbers the rows consecutively."""
    named = re.search(rf"(?<!\w){re.escape(decode(name))}(?!\w)", formula.source)
    if named or column.dtype.kind not in "if" or len(column) < _FEWEST_ROWS:
        return False
    values = np.sort(column.to_numpy())
    return bool((np.diff(values) == 1).all())


def _small_residual_sds(design: Design) -> DataNote | None:
    """Known residual sds beside which the random effects leave too few digits."""
    w = design.rows.sample.weights
    if w is None or design.spec.fixed_sigma is None or not design.spec.random_terms:
        return None
    largest = design.spec.fixed_sigma / float(np.sqrt(w.min()))
    spread = float(design.rows.sample.response_less_offset.std())
    if largest > _SMALL_RESIDUAL_SD * spread:
        return None
    return (
        f"residual_sd is at most {largest:.2g}, and the response's standard deviation "
        f"{spread:.2g}: in double precision little is left of the residuals beside the random "
        f"effects. If the random effects explain the response but for these, residual_sd of "
        f"{_ENOUGH_RESIDUAL_SD * spread:.2g} give the same estimates to about six digits."
    ), None


def _response(spec: ModelSpec, y: Vector) -> DataNote | None:
    """What is modelled: which level, or the mean of what looks like no normal response."""
    if note := spec.response.note(spec.formula.response_name):
        return note, None
    if spec.family != NORMAL:
        return None
    if not spec.residual.linear:
        return (
            f"a {NORMAL.name} response with the identity link is that of a linear mixed model: "
            "mfx.lmer(formula, data) fits it exactly, and has REML and t tests; with reml=False "
            "its likelihood is this one."
        ), None
    return _not_normal(spec.formula, y)


def _not_normal(formula: Formula, y: Vector) -> DataNote | None:
    """What the estimates mean where the response is 0 and 1, or looks like a count."""
    may_be_whole = len(y) >= _FEWEST_ROWS and float(y[0]).is_integer() and y.min() == 0.0
    if not may_be_whole or not (y == np.rint(y)).all():
        return None
    name = decode(formula.response)
    if y.max() == 1.0:
        return (
            f"the response '{name}' is 0 or 1: this is a linear probability model, whose "
            "coefficients are differences of probabilities, whose residual variance depends on "
            "the mean, and whose fitted values may leave 0 to 1. mfx.glmer(formula, data, "
            'family="binomial") models the probability by odds ratios.'
        ), None
    if not _looks_like_a_count(y):
        return None
    return (
        f"the response '{name}' looks like a count: coefficients are differences of mean counts, "
        "the residual variance, taken as constant, grows with the mean, and fitted values may be "
        'negative. mfx.glmer(formula, data, family="poisson") models the mean by rate ratios, '
        'and family="nbinom2" counts that vary more than Poisson\'s.'
    ), None


def _looks_like_a_count(y: Vector) -> bool:
    """Whether whole numbers from zero on are distributed as counts are, not as scores."""
    mean, variance = float(y.mean()), float(y.var())
    skewness = float(((y - mean) ** 3).mean()) / variance**1.5
    return (
        skewness > _SKEWNESS
        and mean < _MEAN_OVER_MAXIMUM * float(y.max())
        and variance > _VARIANCE_OVER_MEAN * mean
    )
