"""Texts of Arrow's tables as codes of their distinct values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedfx._extras import import_extra
from mixedfx.sources.source import TEXTS


def texts_of(schema: Any, coded: Collection[str]) -> list[str]:
    """Columns that are text, among those that may be coded."""
    types = import_extra("pyarrow.types", "tables of Arrow are read by")
    is_text = (types.is_string, types.is_large_string)
    return [f.name for f in schema if f.name in coded and any(is_(f.type) for is_ in is_text)]


def with_dictionaries(schema: Any, texts: Collection[str]) -> Any:
    """Schema in which some columns have a dictionary."""
    pyarrow = import_extra("pyarrow", "tables of Arrow are read by")
    for name in texts:
        i = schema.get_field_index(name)
        coded = pyarrow.dictionary(pyarrow.int32(), schema.field(i).type)
        schema = schema.set(i, schema.field(i).with_type(coded))
    return schema


def to_frame(table: Any, texts: Sequence[str]) -> pd.DataFrame:
    """DataFrame of a table of Arrow, columns of text that are named as categories in any order."""
    plain = table.select([name for name in table.column_names if name not in texts])
    frame: pd.DataFrame = plain.unify_dictionaries().to_pandas(
        split_blocks=True, ignore_metadata=True
    )
    for i, name in enumerate(table.column_names):
        if name in texts:
            frame.insert(i, name, pd.Series(_categories(table.column(name)), copy=False))
    frame.attrs[TEXTS] = tuple(texts)
    return frame


def _categories(column: Any) -> pd.Categorical:
    """Column of text, with a dictionary or without."""
    array = column.combine_chunks()
    if not hasattr(array, "dictionary"):
        array = array.dictionary_encode()
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    texts = array.dictionary.to_numpy(zero_copy_only=False)
    dtype = pd.CategoricalDtype(pd.Index(np.asarray(texts, dtype=object), dtype=object))
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)
