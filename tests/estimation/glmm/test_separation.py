"""Separation of generalised models: what runs off to infinity is named, with a prior that mends it.

Sources of truth: data made with an empty cell or a covariate that tells the responses apart; in
two dimensions the extreme rays of the cone of directions, which are orthogonal to a row; the
advice of each note, evaluated as it is written.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import but_for, examples

import mixedfx as mfx
from mixedfx.errors import ConvergenceWarning
from mixedfx.estimation.glmm import separation
from mixedfx.estimation.glmm.separation import find_separation

GROUPS, ROWS = 20, 10


@pytest.fixture(scope="module")
def base():
    rng = np.random.default_rng(0)
    g, n = np.repeat(np.arange(GROUPS), ROWS), GROUPS * ROWS
    effects = 0.7 * rng.normal(size=GROUPS)
    p = 1.0 / (1.0 + np.exp(-effects[g] - 0.3))
    return pd.DataFrame(
        {
            "g": g,
            "h": np.tile(np.arange(10), GROUPS),
            "x": rng.normal(size=n),
            "arm": np.where(np.arange(n) % 2, "new", "ctl"),
            "kind": np.tile(list("abcde"), n // 5),
            "y": (rng.uniform(size=n) < p).astype(int),
            "count": rng.poisson(np.exp(1.0 + effects[g])),
            "pure": (effects[g] > 0.0).astype(int),
        }
    )


def herds(data):
    cows = mfx.datasets.load("cbpp").astype({"period": str})
    return cows.assign(incidence=cows["incidence"].where(cows["period"] != "4", 0))


SPLIT = "y ~ arm + (1 | g)"
CELL = {
    "successes": lambda d: d.assign(y=d["y"].where(d["arm"] == "ctl", 1)),
    "failures": lambda d: d.assign(y=d["y"].where(d["arm"] == "ctl", 0)),
    "first level": lambda d: d.assign(y=d["y"].where(d["arm"] == "new", 0)),
    "threshold": lambda d: d.assign(y=(d["x"] > 0.1).astype(int)),
    "kind c": lambda d: d.assign(count=d["count"].where(d["kind"] != "c", 0)),
    "kind b, new": lambda d: d.assign(
        count=d["count"].where((d["kind"] != "b") | (d["arm"] == "ctl"), 0)
    ),
    "as it is": lambda d: d,
    "no trials": lambda d: d.assign(
        n=np.where(d["h"] == 3, 0, 2),
        k=np.where(d["arm"] == "new", 0, d["y"]) * (d["h"] != 3),
    ),
    "herds": herds,
}
# formula, data, arguments, what the note names
SEPARATED = {
    "ones": (SPLIT, "successes", {}, ["arm[T.new] goes to +infinity", "100 rows (arm = new;"]),
    "zeros": (SPLIT, "failures", {}, ["arm[T.new] goes to -infinity", "are all 0"]),
    "probit": (SPLIT, "failures", {"link": "probit"}, ["arm[T.new] goes to -infinity"]),
    "cloglog": (SPLIT, "failures", {"link": "cloglog"}, ["arm[T.new] goes to -infinity"]),
    "cauchit": (SPLIT, "failures", {"link": "cauchit"}, ["arm[T.new] goes to -infinity"]),
    "baseline": (
        SPLIT,
        "first level",
        {},
        ["Intercept goes to -", "that of arm[T.new] to +", "arm = ctl"],
    ),
    "covariate": ("y ~ x + (1 | g)", "threshold", {}, ["that of x to +infinity", "all 200 rows"]),
    "of several": (
        "y ~ x + kind + (1 | g)",
        "threshold",
        {},
        ["coefficient of Intercept goes to -infinity and that of x to +infinity, by all 200"],
    ),
    "crossed": ("y ~ arm + (1 | g) + (1 | h)", "successes", {}, ["arm[T.new] goes to"]),
    "trials": (
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        "herds",
        {"nagq": 5},
        ["period[T.4] goes to -infinity", "13 rows (period = 4; rows 3,"],
    ),
    "rows of no trials": (
        "cbind(k, n - k) ~ arm + (1 | g)",
        "no trials",
        {},
        ["arm[T.new] goes to -infinity", "80 rows (arm = new; rows 1,"],
    ),
    "joint mode": (SPLIT, "failures", {"nagq": 0}, ["arm[T.new] goes to -infinity"]),
    "no random effects": ("y ~ arm", "failures", {}, ["arm[T.new] goes to -infinity"]),
    "poisson": (
        "count ~ kind + (1 | g)",
        "kind c",
        {"family": "poisson"},
        ["kind[T.c] goes to -infinity", "40 rows (kind = c; rows 2, 7,"],
    ),
    "nbinom2": (
        "count ~ kind + (1 | g)",
        "kind c",
        {"family": "nbinom2"},
        ["kind[T.c] goes to -infinity"],
    ),
    "cell": (
        "count ~ kind * arm + (1 | g)",
        "kind b, new",
        {"family": "poisson"},
        ["kind[T.b]:arm[T.new] goes to -infinity", "20 rows (kind = b and arm = new;"],
    ),
    "groups": (
        "pure ~ 1 + (1 | g)",
        "as it is",
        {},
        ["sd(Intercept | g) grows", "11 levels of zeros alone, 9 of successes alone"],
    ),
    "groups by quadrature": ("pure ~ x + (1 | g)", "as it is", {"nagq": 7}, ["sd(Intercept | g)"]),
}


@pytest.fixture(scope="module")
def fits(base):
    def of(formula, data, options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mfx.glmer(formula, CELL[data](base), **options)

    return {name: of(*case[:3]) for name, case in SEPARATED.items()}


def note_of(fit):
    return next(str(note) for note in fit.notes if "no maximum" in str(note))


@pytest.mark.parametrize("name", SEPARATED)
def test_what_runs_off_is_named(fits, name):
    note = note_of(fits[name])
    for text in SEPARATED[name][3]:
        assert text in note


@pytest.mark.parametrize("name", SEPARATED)
def test_a_separated_fit_has_not_converged_and_did_not_run_away(fits, name):
    assert not fits[name].converged
    assert fits[name].convergence.unidentified
    assert fits[name].model.optimizer_result.evaluations < 60


@pytest.mark.kept(
    "ones",
    "cauchit",
    "baseline",
    "covariate",
    "crossed",
    "trials",
    "joint mode",
    "poisson",
    "nbinom2",
    "groups by quadrature",
)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.parametrize("name", SEPARATED)
def test_the_advice_as_it_is_written_gives_a_fit(base, fits, name):
    formula, data, options, _ = SEPARATED[name]
    written = re.search(r"priors=(\{.*\})\. The", note_of(fits[name])).group(1)
    priors = eval(written, {"mfx": mfx})
    options = {**options, "nagq": options.get("nagq", 1) or 1}  # nagq=0 knows no priors
    fit = mfx.glmer(formula, CELL[data](base), priors=priors, **options)
    assert fit.converged
    assert np.abs(fit.params).max() < 12.0


def test_separation_is_warned_of_once(base):
    with pytest.warns(ConvergenceWarning, match="the likelihood has no maximum") as caught:
        mfx.glmer(SPLIT, CELL["successes"](base))
    assert sum("no maximum" in str(w.message) for w in caught) == 1


NOT_SEPARATED = {
    "levels of the random factor": (
        "y ~ x + (1 | g)",
        lambda d: d.assign(y=d["y"].where(d["g"] > 2, 0)),
        {},
    ),
    "rare": ("y ~ 1 + (1 | g)", lambda d: d.assign(y=(np.arange(len(d)) == 7).astype(int)), {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", lambda d: d, {}),
    "zeros of counts": (
        "count ~ x + (1 | g)",
        lambda d: d.assign(count=d["count"].where(d["g"] > 2, 0)),
        {"family": "poisson"},
    ),
}


@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("name", NOT_SEPARATED)
def test_data_without_separation_are_not_called_so(base, name):
    formula, change, options = NOT_SEPARATED[name]
    fit = mfx.glmer(formula, change(base), **options)
    assert not any("no maximum" in str(note) for note in fit.notes)


@pytest.mark.parametrize(
    "formula",
    ["correct ~ kind + (1 | student) + (1 | item)", "correct ~ hours + (1 | student)"],
)
def test_answers_are_not_separated(formula):
    fit = mfx.glmer(formula, mfx.datasets.load("answers"))
    assert fit.converged


def separates(d, A, fixed):
    """Whether a direction satisfies the definition, to rounding."""
    return (A @ d > -1e-9).all() and (np.abs(fixed @ d) < 1e-9).all() and (A @ d > 1e-9).any()


@examples(200)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([-1.0, 0.0, 1.0])),
        min_size=2,
        max_size=9,
    )
)
def test_separation_in_two_dimensions_is_found_where_an_extreme_ray_separates(rows):
    data = np.array(rows, dtype=float)
    X, signs = data[:, :2], data[:, 2]
    if np.linalg.matrix_rank(X) < 2:
        return
    A, fixed = signs[signs != 0.0, None] * X[signs != 0.0], X[signs == 0.0]
    rays = [s * np.array([-x[1], x[0]]) for x in X if x.any() for s in (-1.0, 1.0)]
    rays.append(A.sum(axis=0))
    expected = any(separates(d, A, fixed) for d in rays)
    found = find_separation(X, signs)
    assert (found is not None) == expected
    if found is not None:
        assert separates(found.direction / np.abs(found.direction).max(), A, fixed)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("n", "part"), but_for([(30_000, 4000), (3000, 400)], [(3000, 400)]))
def test_many_rows_are_looked_at_in_part(monkeypatch, overlap, n, part):
    monkeypatch.setattr(separation, "_MOST_ROWS", part)
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    eta = X @ [0.3, 1.0, -2.0]
    signs = np.where(eta > 0.0, 1.0, -1.0)
    if overlap:
        signs[np.argsort(np.abs(eta))[:30]] *= -1.0
    found = find_separation(X, signs)
    assert (found is None) == overlap


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_a_separated_level_is_named_by_any_link(link):
    # By the heavy tails of the cauchit link the search ends at a probability of 1 - 2e-4.
    rng = np.random.default_rng(3)
    g, x, f = np.repeat(np.arange(24), 10), rng.normal(size=240), rng.choice(list("abcd"), 240)
    p = 1.0 / (1.0 + np.exp(-(x + rng.normal(size=24)[g])))
    y = np.where(f == "c", True, rng.random(240) < p)
    data = pd.DataFrame({"y": y, "x": x, "f": f, "g": g})
    with pytest.warns(ConvergenceWarning, match=r"coefficient of f\[T.c\] goes to \+infinity"):
        mfx.glmer("y ~ x + f + (1 | g)", data, link=link)
