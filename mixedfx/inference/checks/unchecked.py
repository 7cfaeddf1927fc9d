"""What checks of a fit without all of its rows are of, and what they leave out, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.residuals import has_levels_to_compare

_TO_DO = "fit the rows of some levels, read as a DataFrame, for it."


def notes_on_rows(drawn: DrawnFit) -> tuple[str, ...]:
    """Sentences on a sample of rows; none where residuals are of all rows."""
    return tuple(_of_sample(drawn)) if drawn.is_sample else ()


def _of_sample(drawn: DrawnFit) -> Iterator[str]:
    n = drawn.fit.rows.n
    yield (
        f"Residuals are those of {n:,} of {drawn.n_all:,} rows, drawn at random; effects are "
        "drawn given all rows."
    )
    few = [factor.name for factor in drawn.factors if not has_levels_to_compare(factor)]
    if few:
        names = " and ".join(few)
        yield (
            f"Not checked: residuals and their spread by {names}, of whose levels the sample has "
            f"fewer than two rows each; {_TO_DO}"
        )
    if drawn.factors:
        yield (
            "Not checked: autocorrelation, as the neighbours of a row are not in the sample; "
            f"{_TO_DO}"
        )
    without = [f.name for f in drawn.factors if len(f.present) < f.n_levels]
    if without:
        names = " and ".join(without)
        yield f"Effects of {names} by covariates are those of the levels in the sample."
