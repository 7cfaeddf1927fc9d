"""Tables as DataFrames of Polars and tables of Arrow.

The labels of rows become the first column, unless they are their numbers. Missing values are null,
and factors of text are Enums of Polars, which keep the order of the levels.
"""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from mixedfx._extras import import_extra
from mixedfx.errors import check_choice

FrameName = Literal["pandas", "polars", "pyarrow"]
OtherFrame = Literal["polars", "pyarrow"]
FRAMES: tuple[FrameName, ...] = ("pandas", "polars", "pyarrow")


def converted(table: pd.DataFrame | pd.Series, to: FrameName) -> Any:
    """A table as one of a library; a Series as a table of one column."""
    check_choice("to", to, FRAMES)
    if to == "pandas":
        return table
    library = _library(to)
    frame = table.to_frame() if isinstance(table, pd.Series) else table
    index = frame.index
    if not (isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1):
        frame = frame.reset_index()
    # A plain DataFrame: subclasses have columns that are for display.
    frame = pd.DataFrame({str(name): frame[name].array for name in frame.columns})
    if to == "pyarrow":
        return library.Table.from_pandas(frame, preserve_index=False)
    return _polars(library, frame)


def _polars(pl: Any, frame: pd.DataFrame) -> Any:
    enums = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            levels = list(column.cat.categories)
            if all(isinstance(level, str) for level in levels):
                enums[name] = pl.Enum(levels)
    return pl.from_pandas(frame).with_columns(
        **{str(name): pl.col(str(name)).cast(enum) for name, enum in enums.items()}
    )


def _library(name: str) -> Any:
    import_extra("pyarrow", f"to='{name}' needs")
    return import_extra(name, f"to='{name}' needs")
