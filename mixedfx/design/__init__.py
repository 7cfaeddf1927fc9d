"""Formula and data to arrays; the only importers of patsy but for the formula's parser."""

from mixedfx.design.blocks import Block
from mixedfx.design.build import (
    Design,
    Recipe,
    build,
    fixed_matrix,
    rebuild,
    some_rows,
)
from mixedfx.design.checks import check_positive, independent_columns
from mixedfx.design.coding import FixedTerm, fixed_terms, kept_columns, recoding
from mixedfx.design.columns import as_frame, numbers, per_row
from mixedfx.design.levels import Levels, factorize
from mixedfx.design.scale import Scale

__all__ = [
    "Block",
    "Design",
    "FixedTerm",
    "Levels",
    "Recipe",
    "Scale",
    "as_frame",
    "build",
    "check_positive",
    "factorize",
    "fixed_matrix",
    "fixed_terms",
    "independent_columns",
    "kept_columns",
    "numbers",
    "per_row",
    "rebuild",
    "recoding",
    "some_rows",
]
