"""Functions of R that have one meaning and act on each row, by their names in R.

A column of the data with such a name goes before the function; before the constant ``pi`` goes a
variable of the caller, too.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

R_CONSTANTS = {"pi": math.pi}


def pmin(*values: Any) -> Any:
    """Smallest of the values in each row."""
    return reduce(np.minimum, values)


def pmax(*values: Any) -> Any:
    """Largest of the values in each row."""
    return reduce(np.maximum, values)


def ifelse(test: Any, yes: Any, no: Any) -> npt.NDArray[Any]:
    """``yes`` in the rows where the test holds, ``no`` in the others."""
    return np.asarray(np.where(test, yes, no))


R_FUNCTIONS = {
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "floor": np.floor,
    "ceiling": np.ceil,
    "expm1": np.expm1,
    "plogis": expit,
    "qlogis": logit,
    "pmin": pmin,
    "pmax": pmax,
    "ifelse": ifelse,
}
