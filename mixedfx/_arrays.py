"""Values that cannot be written to: dataclasses freeze their names, this their arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def set_readonly(*values: Any) -> None:
    """Make arrays read-only; whatever is no array is left alone."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
