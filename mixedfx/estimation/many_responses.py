"""Search of theta for many responses of one design at a time: damped Newton steps, vectorised.

The Hessian is a central difference of the exact gradient. A response is certified if another step
would gain nothing and the Hessian is positive; the others are for
:mod:`mixedfx.estimation.profiled`, which has several starts and reduced ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import EntryCoordinates
from mixedfx.covariance.parametrization import identity_params
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.many_responses import ManyResponses, ResponsePoint

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Relative standard deviations of a first look along the identity, between which minima are apart.
_GRID = np.array([1e-3, 0.1, 0.2, 0.4, 0.7, 1.2, 2.0, 4.0, 10.0, 40.0])
_STEP = 1e-4  # of the differences
_MAX_ITERATIONS, _MAX_HALVINGS = 40, 8
# Gain of another step, in units of the deviance, below which a search ends, and is certified.
_END, _CERTIFIED = 1e-8, 1e-9
# Longest step of a parameter, relative to it and at least to one. Not a half: steps from there
# would end at zero, where the derivative is zero whatever the data.
_LONGEST = 0.43
# Step along a direction in which the deviance falls to both sides.
_OFF_SADDLE = 0.2
# A relative standard deviation below this is tried at zero.
_NEAR_ZERO = 0.05
# Curvature that is not rounding.
_FALLING = 1e-6
# Elements of one array of a chunk of responses.
_CHUNK = 2_000_000


@dataclass(frozen=True)
class _Entries:
    """Where the entries of theta stand in Lambda, (K, K)."""

    K: int
    rows: Codes
    cols: Codes
    alone: Mask  # the only entry of its row and column, so that zero is on the boundary

    @staticmethod
    def of(crossprod: CrossProducts) -> _Entries | None:
        """None where Lambda is not linear in theta."""
        terms = crossprod.parametrization.coordinates.terms
        if not all(isinstance(term, EntryCoordinates) for term in terms):
            return None
        rows, cols = (
            np.concatenate(
                [
                    at.start + getattr(t, which)
                    for t, at in zip(terms, crossprod.term_positions, strict=True)
                ]
            )
            for which in ("rows", "cols")
        )
        K = sum(at.width for at in crossprod.term_positions)
        alone = (rows == cols) & (np.bincount(rows, minlength=K)[rows] == 1)
        alone &= np.bincount(cols, minlength=K)[rows] == 1
        return _Entries(K, rows, cols, alone)

    def factors(self, x: Matrix) -> Array:
        """Lambda (K, K, B) of parameters (m, B)."""
        lam = np.zeros((self.K, self.K, x.shape[1]))
        lam[self.rows, self.cols] = x
        return lam


@dataclass(frozen=True)
class ManyEstimates:
    """Estimates of R responses."""

    x: Matrix  # (m, R) entries of Lambda
    certified: Mask  # (R,) whether the rest is an optimum's
    deviance: Vector  # (R,)
    coefficients: Matrix  # (p, R)
    variances: Matrix  # (r, R) of combinations of the coefficients
    df: Matrix  # (r, R) Satterthwaite's
    sigma2: Vector  # (R,)
    factors: Array = field(repr=False)  # (K, K, R)


def can_be_vectorized(crossprod: CrossProducts) -> bool:
    """Whether there is one grouping factor with unrelated levels, and theta are entries."""
    one = len(crossprod.ZtZ.diagonal) == 1 and not crossprod.ZtZ.within
    plain = not any(basis is not None for basis in crossprod.level_bases)
    return one and plain and crossprod.sigma is None and _Entries.of(crossprod) is not None


def estimate_many(many: ManyResponses, rows: Matrix) -> ManyEstimates:
    """Estimates of all responses, in chunks, and of combinations (r, p) of the coefficients."""
    R, (K, L) = len(many.YtY), many.ZtY.shape[:2]
    size = max(1, _CHUNK // (K * K * L))
    chunks = (np.arange(first, min(first + size, R)) for first in range(0, R, size))
    with np.errstate(all="ignore"):  # responses without residuals, which are not certified
        parts = [_Search.of(many, rows, which).run() for which in chunks]
    together = zip(*map(_values, parts), strict=True)
    return ManyEstimates(*(np.concatenate(values, axis=-1) for values in together))


def _values(part: ManyEstimates) -> tuple[Array, ...]:
    return tuple(vars(part).values())


@dataclass(frozen=True)
class _Search:
    """Search for a chunk of responses."""

    many: ManyResponses
    entries: _Entries
    rows: Matrix
    which: Codes

    @staticmethod
    def of(many: ManyResponses, rows: Matrix, which: Codes) -> _Search:
        entries = _Entries.of(many.crossprod)
        assert entries is not None
        return _Search(many, entries, rows, which)

    def _at(self, x: Matrix, of: Codes) -> tuple[ResponsePoint, Matrix]:
        """Values and gradients (m, B) of some of the chunk's responses."""
        point = self.many.at(self.entries.factors(x), self.which[of])
        return point, point.by_lambda[self.entries.rows, self.entries.cols]

    def run(self) -> ManyEstimates:
        x, several = self._starts()
        self._descend(x)
        return self._estimates(x, several)

    def _starts(self) -> tuple[Matrix, Mask]:
        """Best of the grid, (m, B), and whether that has several minima."""
        identity = identity_params(self.many.crossprod.parametrization)[:, None]
        everyone = np.arange(len(self.which))
        ones = np.ones((1, len(everyone)))
        D = np.array([self._at(t * identity * ones, everyone)[0].deviance for t in _GRID])
        below = np.diff(D, axis=0) < 0.0  # from each point to the next
        rises_then_falls = np.asarray((~below[:-1] & below[1:]).any(axis=0))
        best = np.maximum(_GRID[D.argmin(axis=0)], 0.03)
        return identity * best, rises_then_falls

    def _descend(self, x: Matrix) -> None:
        """Newton steps in place, each response until it ends."""
        active = np.arange(x.shape[1])
        for _ in range(_MAX_ITERATIONS):
            if not len(active):
                break
            point, g = self._at(x[:, active], active)
            H, _ = self._differences(x[:, active], active, with_slopes=False)
            step, gain, saddle = _newton_step(H, g)
            limit = _LONGEST * np.maximum(1.0, np.abs(x[:, active]))
            step = np.clip(step, -limit, limit)
            self._take(x, active, step, point.deviance)
            self._try_zero(x, active[~saddle])
            active = active[(saddle | ~(gain < _END)) & np.isfinite(point.deviance)]

    def _take(self, x: Matrix, active: Codes, step: Matrix, before: Vector) -> None:
        """Add the step, halved where the deviance would rise."""
        left, scale = np.arange(len(active)), np.ones(len(active))
        for _ in range(_MAX_HALVINGS):
            trial = x[:, active[left]] + scale[left] * step[:, left]
            rises = ~(
                self._at(trial, active[left])[0].deviance
                <= before[left] + 1e-12 * np.abs(before[left])
            )
            x[:, active[left[~rises]]] = trial[:, ~rises]
            left = left[rises]
            scale[left] *= 0.5
            if not len(left):
                return

    def _try_zero(self, x: Matrix, active: Codes) -> None:
        """Set a small standard deviation to zero where the deviance does not rise by it."""
        for i in np.flatnonzero(self.entries.alone):
            near = active[(np.abs(x[i, active]) < _NEAR_ZERO) & (x[i, active] != 0.0)]
            if not len(near):
                continue
            zero = x[:, near]
            before = self._at(zero, near)[0].deviance
            zero[i] = 0.0
            lower = self._at(zero, near)[0].deviance <= before
            x[i, near[lower]] = 0.0

    def _differences(
        self, x: Matrix, of: Codes, *, with_slopes: bool = True
    ) -> tuple[Array, Array]:
        """Hessian (B, m, m), and derivatives of the log variances of combinations, (m, r, B)."""
        m, B = x.shape
        H, slopes = np.empty((B, m, m)), np.empty((m, len(self.rows), B))
        for i in range(m):
            h = _STEP * np.maximum(1.0, np.abs(x[i]))
            up, down = x.copy(), x.copy()
            up[i] += h
            down[i] -= h
            (above, g_up), (below, g_down) = self._at(up, of), self._at(down, of)
            H[:, i] = ((g_up - g_down) / (2.0 * h)).T
            if with_slopes:
                ratio = self.many.variances(above, self.rows) / self.many.variances(
                    below, self.rows
                )
                slopes[i] = np.log(ratio) / (2.0 * h)
        return 0.5 * (H + H.transpose(0, 2, 1)), slopes

    def _estimates(self, x: Matrix, several: Mask) -> ManyEstimates:
        """Everything at the ends."""
        everyone = np.arange(x.shape[1])
        flipped = x * np.where(self.entries.alone[:, None], np.sign(x) + (x == 0.0), 1.0)
        point, g = self._at(flipped, everyone)
        H, slopes = self._differences(flipped, everyone)
        at_zero = np.asarray((flipped == 0.0).T & self.entries.alone)  # (B, m)
        slope_off = np.where(at_zero, np.einsum("bii->bi", H), 0.0)
        H = np.where(at_zero[:, :, None] | at_zero[:, None, :], np.eye(len(x)), H)
        slopes = np.where(at_zero.T[:, None], 0.0, slopes)
        finite = np.asarray(np.isfinite(H).all(axis=(1, 2)) & np.isfinite(point.deviance))
        safe = np.where(finite[:, None, None], H, np.eye(len(x)))
        positive = np.linalg.eigvalsh(safe)[:, 0] > _FALLING
        inverse = np.linalg.inv(np.where(positive[:, None, None], safe, np.eye(len(x))))
        gain = np.einsum("ib,bij,jb->b", g, inverse, g)
        certified = (
            finite & positive & ~several & (gain < _CERTIFIED) & (slope_off > -_FALLING).all(axis=1)
        )
        inverse_df = 1.0 / self.many.nu + np.einsum("ipb,bij,jpb->pb", slopes, inverse, slopes)
        return ManyEstimates(
            flipped,
            certified,
            point.deviance,
            self.many.coefficients(point, self.which),
            self.many.variances(point, self.rows),
            1.0 / inverse_df,
            point.variance,
            self.entries.factors(flipped),
        )


def _newton_step(H: Array, g: Matrix) -> tuple[Matrix, Vector, Mask]:
    """
    Steps (m, B) by Hessians made positive, the gain of each, and which are off a saddle.

    A gradient of zero with a negative curvature is a saddle, which is left along the curvature.
    """
    finite = np.asarray(np.isfinite(H).all(axis=(1, 2)) & np.isfinite(g).all(axis=0))
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], H, np.eye(len(g))))
    size = np.maximum(np.abs(values), 1e-3 * np.abs(values).max(axis=1, keepdims=True) + 1e-8)
    along = np.einsum("bij,ib->bj", vectors, np.where(finite, g, 0.0))
    step = -np.einsum("bij,bj->ib", vectors, along / size)
    gain = np.einsum("bj,bj->b", along, along / size)
    saddle = finite & (gain < _END) & (values[:, 0] < -_FALLING)
    off = _OFF_SADDLE * vectors[:, :, 0].T
    return np.where(saddle, off, step), np.where(finite, gain, 0.0), saddle
