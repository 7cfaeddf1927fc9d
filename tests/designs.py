"""Random small designs, and random thetas for them, for tests against the oracle.

Hypothesis draws the structure (which factors, how they lie in each other, which terms, weights
and offset) and the seed of the numbers, so a failing example shrinks to the simplest structure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from hypothesis import assume
from hypothesis import strategies as st

import mixedfx as mfx
from mixedfx.design.build import Design, build
from mixedfx.errors import DataError
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.crossproducts import CrossProducts

# What may vary by level: one or two terms, each written before its bar, and the bar.
TERMS = [
    ["1 |"],
    ["x |"],
    ["0 + x |"],
    ["x ||"],
    ["x + z |"],
    ["x + z ||"],
    ["0 + c |"],
    ["c |"],
    ["1 |", "0 + x |"],
    ["x |", "0 + z |"],
    ["x |", "0 + z + c ||"],
]
FIXED = ["1", "x", "0 + x", "x + z + c", "0"]
THETAS = ["ordinary", "some zero", "all zero", "singular", "tiny", "large"]
MOST_ROWS = 40


@dataclass(frozen=True)
class Factor:
    """A grouping factor with at most so many levels, nested in an earlier factor or crossed."""

    levels: int
    nested_in: int | None  # an earlier factor
    terms: list[str]


@dataclass(frozen=True)
class Case:
    """A model, its data, and a theta at which to evaluate it."""

    rows: int
    factors: list[Factor]
    fixed: str
    weighted: bool
    has_offset: bool
    reml: bool
    theta_kind: str
    seed: int

    @property
    def formula(self) -> str:
        random = [f"({t} g{i})" for i, f in enumerate(self.factors) for t in f.terms]
        return " + ".join([f"y ~ {self.fixed}", *random])

    @cached_property
    def data(self) -> pd.DataFrame:
        rng = np.random.default_rng(self.seed)
        n = self.rows
        codes: list[np.ndarray] = []
        for factor in self.factors:
            own = rng.integers(factor.levels, size=n)
            own[: factor.levels] = np.arange(factor.levels)  # every level occurs
            outer = 0 * own if factor.nested_in is None else codes[factor.nested_in]
            codes.append(own * (1 + outer.max()) + outer)
        return pd.DataFrame(
            {
                "y": 3.0 + rng.normal(size=n) + sum(np.sin(1.0 + code) for code in codes),
                "x": rng.normal(size=n),
                "z": rng.uniform(1.0, 5.0, size=n),
                "c": rng.permutation(np.resize(["p", "q", "r"], n)),
                "w": np.exp(rng.normal(size=n)),
                "o": rng.normal(size=n),
                **{f"g{i}": code for i, code in enumerate(codes)},
            }
        )

    @property
    def can_be_fitted(self) -> bool:
        """Whether the design is one that a fit accepts: enough rows, and all terms identifiable."""
        try:
            return self.crossprod.n > 0
        except DataError:
            return False

    @cached_property
    def design(self) -> Design:
        return build(
            mfx.parse(self.formula),
            self.data,
            weights="w" if self.weighted else None,
            offset="o" if self.has_offset else None,
        )

    @cached_property
    def crossprod(self) -> CrossProducts:
        """In the formula's own columns, those of the dense definition."""
        widths = [len(term.effect_names) for term in self.design.spec.random_terms]
        bases = tuple(ColumnBasis.scaling(np.ones(k)) for k in widths)
        return compute_crossproducts(self.design, bases=bases)

    @cached_property
    def theta(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed + 1)
        parametrization = self.crossprod.parametrization
        theta = rng.normal(size=parametrization.size)
        diagonal = parametrization.coordinates.is_sd
        theta[diagonal] = np.abs(theta[diagonal]) + 0.1
        if self.theta_kind == "some zero":
            theta[rng.random(parametrization.size) < 0.4] = 0.0
        if self.theta_kind == "singular":  # a column of each Lambda vanishes
            lambdas = parametrization.lambdas(theta)
            for lam in lambdas:
                lam[:, rng.integers(len(lam))] = 0.0
            theta = parametrization.to_params(lambdas)
        factor = {"all zero": 0.0, "tiny": 1e-3, "large": 10.0}.get(self.theta_kind, 1.0)
        return theta * factor


@st.composite
def cases(draw, kinds=tuple(THETAS), fixed=tuple(FIXED), most_factors=3) -> Case:
    """Draw a model with one to three grouping factors."""
    rows = draw(st.integers(12, MOST_ROWS))
    factors: list[Factor] = []
    for i in range(draw(st.integers(1, most_factors))):
        terms = draw(st.sampled_from(TERMS))
        # An intercept may have nearly a level per row; wider terms need more rows than effects.
        most = rows - 1 if terms == ["1 |"] else (rows - 1) // 4
        nested_in = draw(st.sampled_from([None, *range(i)]))
        if nested_in is not None:  # so many in each level of the outer factor
            most = min(most, rows // 8)
        factors.append(Factor(draw(st.integers(2, max(2, most))), nested_in, terms))
    case = Case(
        rows=rows,
        factors=factors,
        fixed=draw(st.sampled_from(fixed)),
        weighted=draw(st.booleans()),
        has_offset=draw(st.booleans()),
        reml=draw(st.booleans()),
        theta_kind=draw(st.sampled_from(kinds)),
        seed=draw(st.integers(0, 2**16)),
    )
    assume(case.can_be_fitted)
    return case


def drawn_strata(seed: int) -> tuple[str, pd.DataFrame, bool]:
    """A random model of a few levels and strata, its rows, and whether the criterion is REML."""
    rng = np.random.default_rng(seed)
    m, K = int(rng.integers(2, 7)), int(rng.integers(2, 5))
    n = int(rng.integers(max(4 * K, 12), 45))
    g = np.r_[np.arange(m), rng.integers(m, size=n - m)]
    k = rng.permutation(np.r_[np.repeat(np.arange(K), 3), rng.integers(K, size=n - 3 * K)])
    x, sd = rng.normal(size=n), np.exp(rng.choice([0.3, 1, 1.5]) * rng.normal(size=K))
    tau, h = rng.choice([0, 0.3, 1, 3]), rng.integers(3, size=n)
    two, fixed = rng.random() < 0.4, str(rng.choice(["1", "x", "0 + x"]))
    y = tau * rng.normal(size=m)[g] + sd[k] * rng.normal(size=n)
    y = y + (fixed != "1") * x * rng.normal() + two * 0.5 * rng.normal(size=3)[h]
    y = y + rng.choice([0, 2])
    data = pd.DataFrame(
        {"y": y, "x": x, "g": g.astype(str), "h": h.astype(str), "k": k.astype(str)}
    )
    formula = f"y ~ {fixed} + (1 | g)" + (" + (1 | h)" if two else "")
    return formula, data, bool(rng.random() < 0.5)
