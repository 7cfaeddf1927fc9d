"""Formula and data to arrays; the only importers of patsy but for the formula's parser."""

from mixedfx.design.build import Block, Design, Recipe, build, rebuild
from mixedfx.design.checks import independent_columns
from mixedfx.design.levels import Levels
from mixedfx.design.table import as_frame, numbers

__all__ = [
    "Block",
    "Design",
    "Levels",
    "Recipe",
    "as_frame",
    "build",
    "independent_columns",
    "numbers",
    "rebuild",
]
