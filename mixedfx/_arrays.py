"""Read-only arrays, for the fields of frozen dataclasses."""

from __future__ import annotations

from typing import Any

import numpy as np


def set_readonly(*values: Any) -> None:
    """Make the arrays among the values read-only."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
