"""B-spline and natural cubic spline bases of a column, with the knots of R's ``bs`` and ``ns``.

The basis functions are the B-splines of the knots ``a, ..., a, t_1, ..., t_m, b, ..., b``, in which
the boundary knots ``a`` and ``b`` (the range of the rows of the fit) stand ``degree + 1`` times and
the interior knots are quantiles (Hyndman and Fan 1996, type 7) of x. Natural splines are the
combinations whose second derivative is zero at ``a`` and at ``b``. Beyond the boundary knots a
B-spline continues the polynomial of its last interval, a natural spline its tangent.

Reference: de Boor (1978), A Practical Guide to Splines; Hastie in Chambers and Hastie (1992),
Statistical Models in S, chapter 7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import stateful_transform
from scipy.linalg import qr

from mixedfx._warnings import warn_caller
from mixedfx.errors import ExtrapolationWarning

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class _Splines:
    """Knots of a spline basis, learned by patsy's protocol from the rows in chunks."""

    name = "bs"
    _chunks: list[Vector]

    def __init__(self) -> None:
        self._chunks = []

    def _memorize(
        self, x: Any, df: int | None, knots: Any, degree: int, intercept: bool, options: Any
    ) -> None:
        intercept |= bool(options.pop("include_intercept", False))  # patsy's word for it
        values = float_column(self.name, x)
        self._df, self._degree, self._drop = df, degree, int(not intercept)
        self._given = None if knots is None else np.sort(np.atleast_1d(knots).astype(float))
        if self.learned_in_chunks and len(values):
            values = np.array([values.min(), values.max()])
        self._chunks.append(values)
        bounds = options.pop("boundary_knots", (None, None))
        lower, upper = options.pop("lower_bound", bounds[0]), options.pop("upper_bound", bounds[1])
        self._bounds = lower, upper
        if options:
            raise ValueError(
                f"{self.name}() has no argument {next(iter(options))}; it has df, knots, degree, "
                "intercept and boundary_knots"
            )

    @property
    def learned_in_chunks(self) -> bool:
        """Whether the range of x is all that is learned: the knots are given."""
        return self._given is not None

    def memorize_finish(self) -> None:
        x = np.concatenate(self._chunks)
        self._chunks = []
        lower, upper = self._bounds
        self._lower = float(x.min() if lower is None else lower)
        self._upper = float(x.max() if upper is None else upper)
        if not self._lower < self._upper:
            raise ValueError(f"{self.name}() needs two different values between its boundary knots")
        if self._degree < 0 or self._degree != int(self._degree):
            raise ValueError(f"degree={self._degree!r} of {self.name}() is no degree of a spline")
        self._set_knots(x)

    def _smallest_df(self) -> int:
        """Columns without an interior knot."""
        return self._degree + 1 - self._drop

    def _set_knots(self, x: Vector) -> None:
        """Find the knots: those given, or as many quantiles as ``df`` asks for."""
        smallest = self._smallest_df()
        n_knots = 0 if self._given is None else len(self._given)
        if self._df is not None:
            wanted = int(self._df) - smallest
            if wanted < 0 or self._df != int(self._df):
                raise ValueError(
                    f"df={self._df!r} of {self.name}() must be a whole number of at least "
                    f"{smallest}"
                )
            if self._given is not None and wanted != n_knots:
                raise ValueError(
                    f"df={self._df} of {self.name}() contradicts its {n_knots} knots, which make "
                    f"{smallest + n_knots} columns: leave df out"
                )
            n_knots = wanted
        interior = self._given
        if interior is None:
            inside = x[(x >= self._lower) & (x <= self._upper)]
            interior = np.quantile(inside, np.linspace(0.0, 1.0, n_knots + 2)[1:-1])
        outside = interior[(interior < self._lower) | (interior > self._upper)]
        if len(outside):
            raise ValueError(
                f"knot {outside[0]:g} of {self.name}() is beyond the boundary knots "
                f"{self._lower:g} and {self._upper:g}"
            )
        # A B-spline whose knots coincide is zero: its column is, and the others lose a knot.
        at_lower, at_upper = interior == self._lower, interior == self._upper
        self._zeros = int(at_lower.sum()), int(at_upper.sum())
        ends = [self._lower] * (self._degree + 1), [self._upper] * (self._degree + 1)
        self._knots = np.concatenate([ends[0], interior[~(at_lower | at_upper)], ends[1]])

    def _splines(self, x: Vector, derivative: int = 0) -> Matrix:
        """B-splines without the first where there is no intercept, or their derivatives."""
        from scipy.interpolate import BSpline

        k = len(self._knots) - self._degree - 1
        spline = BSpline(self._knots, np.eye(k), self._degree)
        values = spline(x, nu=derivative)
        return np.pad(values, ((0, 0), self._zeros))[:, self._drop :]

    def transform(self, x: Any, *args: Any, **options: Any) -> Matrix:
        values = float_column(self.name, x)
        outside = values[(values < self._lower) | (values > self._upper)]
        if len(outside):
            self._warn_outside(outside)
        return self._basis(values)

    def _basis(self, x: Vector) -> Matrix:
        return self._splines(x)

    def _warn_outside(self, outside: Vector) -> None:
        farthest = outside[np.argmax(np.abs(outside - (self._lower + self._upper) / 2))]
        warn_caller(
            f"{self.name}() is evaluated beyond its boundary knots {self._lower:g} and "
            f"{self._upper:g}, at {farthest:g}: there it is {self._continuation}, which no data "
            "support.",
            ExtrapolationWarning,
        )

    @property
    def _continuation(self) -> str:
        return f"the polynomial of degree {self._degree} of the last interval"


class _BSplines(_Splines):
    """B-splines: polynomials beyond the boundary knots."""

    def memorize_chunk(
        self,
        x: Any,
        df: int | None = None,
        knots: Any = None,
        degree: int = 3,
        intercept: bool = False,
        **options: Any,
    ) -> None:
        self._memorize(x, df, knots, degree, intercept, options)


class _NaturalSplines(_Splines):
    """Natural cubic splines: linear beyond the boundary knots."""

    name = "ns"

    def memorize_chunk(
        self,
        x: Any,
        df: int | None = None,
        knots: Any = None,
        intercept: bool = False,
        **options: Any,
    ) -> None:
        if "degree" in options:
            raise ValueError("ns() is cubic, without an argument degree; bs() has one")
        self._memorize(x, df, knots, 3, intercept, options)

    def _smallest_df(self) -> int:
        return super()._smallest_df() - 2

    def memorize_finish(self) -> None:
        super().memorize_finish()
        ends = np.array([self._lower, self._upper])
        # Householder's reflections: the columns are those of R, signs included.
        self._natural = qr(self._splines(ends, derivative=2).T)[0][:, 2:]

    def _basis(self, x: Vector) -> Matrix:
        nearest = np.clip(x, self._lower, self._upper)
        basis, beyond = self._splines(nearest), x != nearest
        slopes = self._splines(nearest[beyond], derivative=1)
        basis[beyond] += (x - nearest)[beyond, None] * slopes
        return np.asarray(basis @ self._natural)

    @property
    def _continuation(self) -> str:
        return "a straight line"


def in_row_order(x: Any) -> Any:
    """A column, or several, in the order of the rows: of pandas by their index."""
    if isinstance(x, pd.Series | pd.DataFrame) and not x.index.is_monotonic_increasing:
        return x.sort_index()
    return x


def float_column(name: str, x: Any) -> Vector:
    """Argument of a formula function as floats, in the order of the rows."""
    values = np.asarray(in_row_order(x), dtype=float)
    if values.ndim > 1 and values.size != len(values):
        raise ValueError(f"{name}() takes one column")
    return values.reshape(-1)


bs = stateful_transform(_BSplines)
ns = stateful_transform(_NaturalSplines)
