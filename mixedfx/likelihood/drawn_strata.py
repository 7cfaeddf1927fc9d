"""Sums by stratum of equal residual variance of a response that is drawn, without rows.

Given the random effects the strata are independent: the products of the residuals are drawn in
each (:mod:`~.drawn_response`), with its standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.drawn_response import (
    DrawnResponses,
    NoiseProducts,
    least_squares_of,
    products_about,
    products_of_residuals,
)
from mixedfx.likelihood.stratified import StratifiedSums, StratumSums
from mixedfx.linalg.cholesky.batched import unflatten
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DrawnStrata:
    """Responses with the columns of sums by stratum."""

    sums: StratifiedSums = field(repr=False)
    strata: tuple[DrawnResponses, ...] = field(repr=False)

    @staticmethod
    def of(sums: StratifiedSums) -> DrawnStrata:
        """Of the columns of the sums."""
        each = np.eye(len(sums.counts), dtype=bool)
        return DrawnStrata(sums, tuple(DrawnResponses.of(sums.of_strata(s)) for s in each))

    def draw(
        self, beta: Vector, effects: Sequence[Matrix], sds: Vector, rng: np.random.Generator
    ) -> StratifiedSums:
        """Sums of one response, given the residual standard deviation of each stratum."""
        of_residuals = [
            products_of_residuals(one.crossprod, effects, one.noise(float(sd), rng))
            for one, sd in zip(self.strata, sds, strict=True)
        ]
        return with_residual_products(self.sums, beta, of_residuals)


def with_residual_products(
    sums: StratifiedSums, beta: Vector, of_residuals: Sequence[NoiseProducts]
) -> StratifiedSums:
    """Sums with a response of which those of ``y - X beta`` are known in each stratum."""
    plain, p = sums.plain, sums.plain.p
    symbolic, layout = plain.symbolic, plain.ZtZ.layout
    total = np.sum([one.Xte for one in of_residuals], axis=0)
    coef = least_squares_of(plain.XytXy[:p, :p], total)
    right = []
    for f, own in enumerate(sums.right):
        Ztr = np.stack(
            [
                unflatten(one.Zte[symbolic.columns(f), None], layout.width(f))[:, 0]
                for one in of_residuals
            ]
        )
        values = own.values.copy()
        of_cells = Ztr[own.stratum, :, own.level].T
        values[:, p] = of_cells - np.einsum("kpc,p->kc", values[:, :p], coef)
        right.append(replace(own, values=values))
    by_stratum = np.moveaxis(sums.XytXy_by_stratum, 2, 0)
    products = zip(by_stratum, of_residuals, strict=True)
    XytXy = np.stack([products_about(own, coef, one) for own, one in products], axis=2)
    about = replace(plain, ols_coef=beta + solve_upper(plain.qr_R, coef))
    found = replace(sums, plain=about, right=tuple(right), _XytXy=StratumSums.of_all_rows(XytXy))
    return replace(found, plain=found.reweight(np.ones(len(sums.counts))))
