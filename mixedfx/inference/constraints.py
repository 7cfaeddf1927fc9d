"""Linear hypotheses on the fixed effects, ``C beta = d``, as statsmodels' ``r_matrix``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from patsy.constraint import linear_constraint

from mixedfx._arrays import set_readonly
from mixedfx.design.cells import list_cells
from mixedfx.errors import ArgumentError, brief, did_you_mean
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.estimability import cells_without_data

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Constraints:
    """Linear hypotheses ``rows @ beta = values``."""

    rows: Matrix  # (r, p), over the columns of X
    values: Vector  # (r,)
    labels: tuple[str, ...]  # each row as an equation

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.rows, self.values)

    def independent(self) -> Constraints:
        """Keep a maximal set of independent rows; raise if the others contradict them."""
        # Equilibrated by columns, then by rows: the units of the coefficients do not matter.
        rows = self.rows / np.where(self.rows.any(axis=0), np.abs(self.rows).max(axis=0), 1.0)
        size = np.abs(rows).max(axis=1)
        rows, values = rows / size[:, None], self.values / size
        kept: list[int] = []
        for i in range(len(rows)):
            if np.linalg.matrix_rank(rows[[*kept, i]]) > len(kept):
                kept.append(i)
        if len(kept) == len(rows):
            return self
        implied = rows @ np.linalg.lstsq(rows[kept], values[kept], rcond=None)[0]
        if not np.allclose(implied, values, rtol=1e-9, atol=1e-9 * np.abs(values).max()):
            raise ArgumentError(f"the constraints {', '.join(self.labels)} contradict each other.")
        return Constraints(self.rows[kept], self.values[kept], tuple(self.labels[i] for i in kept))


def linear_constraints(fit: FittedModel, r_matrix: Any) -> Constraints:
    """Parse equations, or rows of coefficients, with patsy."""
    spec = fit.spec
    if not spec.column_names:
        raise ArgumentError(f"'{fit.formula}' has no fixed effects to test.")
    try:
        parsed = linear_constraint(_without_backticks(r_matrix), list(spec.column_names))
        coefs, values = (
            np.asarray(parsed.coefs, dtype=float),
            np.asarray(parsed.constants, dtype=float),
        )
    except Exception as error:
        raise _parse_error(r_matrix, spec.column_names, error) from None
    values = values.reshape(-1)
    if not (np.isfinite(coefs).all() and np.isfinite(values).all()):
        raise ArgumentError(f"the constraint {brief(r_matrix)} is not finite.")
    if not np.abs(coefs).max(axis=1, initial=0.0).all():
        raise ArgumentError(f"a constraint in {r_matrix!r} involves no coefficient.")
    used = np.asarray(coefs.any(axis=0))
    dropped = [c for c in spec.dropped_names if used[spec.column_names.index(c)]]
    if dropped:
        cells = cells_without_data(fit)
        why = f" No row is in these cells: {list_cells(cells)}." if cells else ""
        raise ArgumentError(
            f"{', '.join(dropped)} was left out because it depends on other columns: it has no "
            f"estimate to test.{why}"
        )
    labels = tuple(
        _label(row, value, spec.column_names) for row, value in zip(coefs, values, strict=True)
    )
    return Constraints(coefs[:, spec.kept_columns], values, labels)


def _without_backticks(given: Any) -> Any:
    """Equations with names as the coefficients have them, which patsy finds as they are."""
    if isinstance(given, str):
        return given.replace("`", "")
    if isinstance(given, list | tuple) and any(isinstance(part, str) for part in given):
        return [_without_backticks(part) for part in given]
    return given


def _parse_error(r_matrix: Any, names: tuple[str, ...], error: Exception) -> ArgumentError:
    """Message of patsy with the names of the coefficients and a suggestion."""
    reason = getattr(error, "message", str(error))
    hint = ""
    parts = [r_matrix] if isinstance(r_matrix, str) else r_matrix
    if isinstance(parts, Iterable):
        text = " ".join(str(part) for part in parts)
        unknown = [w for w in re.split(r"[=\s,*]+|(?<=\s)[-+]", text) if w and w not in names]
        hint = next((h for h in (did_you_mean(w, names) for w in unknown) if h), "")
    return ArgumentError(
        f"the constraint {brief(r_matrix)} cannot be read: {reason}. Write something like "
        f"'{names[-1]} = 0'; coefficients are: {', '.join(names)}.{hint}"
    )


def _label(row: Vector, value: float, names: tuple[str, ...]) -> str:
    """Write a row as an equation."""
    parts: list[str] = []
    for weight, name in zip(row, names, strict=True):
        if weight == 0.0:
            continue
        sign = ("-" if weight < 0 else "") if not parts else (" - " if weight < 0 else " + ")
        size = "" if abs(weight) == 1.0 else f"{abs(weight):g} * "
        parts.append(f"{sign}{size}{name}")
    return f"{''.join(parts)} = {value + 0.0:g}"
