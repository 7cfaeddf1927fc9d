"""Keys of levels, which match as text where they are not equal: ``308`` finds ``"308"``."""

from __future__ import annotations

import datetime
import numbers
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def key_text(key: Any) -> str:
    """
    Text by which the key of a level is compared with another, ``as.character`` of R.

    >>> key_text(308.0), key_text(308), key_text("308"), key_text(2.5), key_text((1, "a"))
    ('308', '308', '308', '2.5', '1:a')
    """
    if isinstance(key, tuple):
        return ":".join(map(key_text, key))
    if isinstance(key, numbers.Real) and not isinstance(key, numbers.Integral):
        number = float(key)
        return str(int(number)) if number.is_integer() else str(number)
    if isinstance(key, datetime.datetime) and key.time() == datetime.time() and key.tzinfo is None:
        return str(key.date())
    return str(key)


def positions_of_keys(keys: pd.Index, values: pd.Index) -> npt.NDArray[np.intp]:
    """Position of each key among distinct values, -1 where it is none of them, not even as text."""
    positions = np.array(values.get_indexer(keys), dtype=np.intp)
    unseen = positions < 0
    if unseen.any():
        codes, distinct = pd.factorize(keys[unseen].to_numpy(), use_na_sentinel=False)
        at = {key_text(value): i for i, value in enumerate(values.tolist())}
        found = [at.get(key_text(key), -1) for key in distinct.tolist()]
        positions[unseen] = np.array(found, dtype=np.intp)[codes]
    return positions
