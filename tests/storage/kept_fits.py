"""Fits to be kept, one a feature, and what a reader compares of two fits."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd

import mixedfx as mfx
from mixedfx import priors


def double(x):
    """Function of a module, which a formula may name."""
    return 2 * x


SLEEP = mfx.datasets.load("sleepstudy")
N = len(SLEEP)
knots = [2.5, 5.5]


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return SLEEP.assign(
        w=rng.uniform(0.5, 2, N),
        off=rng.normal(size=N),
        sd=rng.uniform(20, 30, N),
        kind=np.where(SLEEP["Days"] > 4, "late", "early"),
        dose=pd.Categorical(SLEEP["Days"] % 3, categories=[2, 0, 1], ordered=True),
        flag=SLEEP["Days"] % 2 == 0,
        night=pd.array(SLEEP["Days"] % 4, dtype="Int64"),
        lab=rng.integers(0, 5, N),
        calls=rng.poisson(3, N) * (1 + (SLEEP["Reaction"] > 300)),
        slow=pd.Categorical(np.where(SLEEP["Reaction"] > 300, "slow", "fast")),
    )


DATA = _data()

INDEXES = {
    "range": pd.RangeIndex(5, 5 + 2 * N, 2, name="row"),
    "integers": pd.Index(np.arange(N) * 3),
    "numbers": pd.Index(np.arange(N) * 0.5),
    "text": pd.Index([f"r{i}" for i in range(N)], name="id"),
    "objects": pd.Index([i if i % 2 else f"r{i}" for i in range(N)], dtype=object),
    "dates": pd.date_range("2020-01-01", periods=N, freq="D"),
    "zone": pd.date_range("2020-01-01", periods=N, freq="h", tz="Europe/Rome"),
    "utc": pd.date_range("2020-01-01", periods=N, freq="h", tz="UTC"),
    "timedelta": pd.to_timedelta(np.arange(N), unit="s"),
    "periods": pd.period_range("2020-01", periods=N, freq="M"),
    "categories": pd.CategoricalIndex(np.array(["a", "b", "c"])[np.arange(N) % 3]),
    "intervals": pd.interval_range(0, N),
    "multi": pd.MultiIndex.from_arrays(
        [np.arange(N), pd.date_range("2020-01-01", periods=N)], names=["i", None]
    ),
    "nullable": pd.Index(pd.array(np.arange(N), dtype="Int64")),
    "nullable text": pd.Index(pd.array([f"r{i}" for i in range(N)], dtype="string")),
}

MODELS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", {}),
    "ml, profiled": ("Reaction ~ Days + (1 | Subject)", {"reml": False, "engine": "profiled"}),
    "em": ("Reaction ~ Days + (1 | Subject)", {"engine": "em"}),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", {}),
    "splines": ("Reaction ~ bs(Days, 4) + (center(Days) | Subject)", {}),
    "natural splines": ("Reaction ~ ns(Days, 4) + (1 | Subject)", {}),
    "group means": ("Reaction ~ within(w, Subject) + group_mean(w, Subject) + (1 | Subject)", {}),
    "own mean": ("Reaction ~ I(w - w.mean()) + (1 | Subject)", {}),
    "knots": ("Reaction ~ cr(Days, knots=knots) + (1 | Subject)", {}),
    "polynomial": ("Reaction ~ poly(Days, 2) + scale(w) + (1 | Subject)", {}),
    "factors": ("Reaction ~ C(kind, Sum) * dose + flag + (1 | Subject)", {}),
    "cut": ("Reaction ~ pd.cut(Days, [-1, 3, 6, 9]) + (1 | Subject)", {}),
    "function": ("Reaction ~ double(Days) + np.log(w) + (1 | Subject)", {}),
    "response": ("np.log(Reaction) ~ Days + (1 | Subject)", {}),
    "crossed": ("Reaction ~ Days + (1 | Subject) + (1 | lab)", {"engine": "profiled"}),
    "nested": ("Reaction ~ Days + (1 | Subject/kind)", {}),
    "computed group": ("Reaction ~ Days + (1 | I(night % 2)) + (Days | Subject)", {}),
    "weights": ("Reaction ~ Days + (1 | Subject)", {"weights": "w", "offset": "off"}),
    "known sds": ("Reaction ~ Days + (1 | Subject)", {"residual_sd": "sd"}),
    "dispersion": ("Reaction ~ Days + (1 | Subject)", {"dispersion": "~ kind + Days"}),
    "location-scale": ("Reaction ~ Days + (1 | Subject)", {"dispersion": "~ 1 + (1 | Subject)"}),
    "priors": (
        "Reaction ~ Days + (Days | Subject)",
        {"priors": {"sd": priors.HalfNormal(30), "Days": priors.Normal(8, 2)}},
    ),
    "regression": ("Reaction ~ Days + kind", {}),
    "dropped": ("Reaction ~ Days + I(2 * Days) + kind + (1 | Subject)", {}),
    "singular": ("Reaction ~ Days + (1 | Subject) + (1 | lab)", {}),
    "missing": ("Reaction ~ part + (1 | Subject)", {}),
    "binomial": ("cbind(calls, 20 - calls) ~ Days + kind + (1 | Subject)", {"family": "binomial"}),
    "counts": ("calls ~ ns(Days, 2) + (1 | Subject)", {"family": "nbinom2", "offset": "off"}),
    "levels": ("slow ~ Days + (1 | Subject)", {"family": "binomial", "link": "probit", "nagq": 5}),
    "gamma": (
        "Reaction ~ Days + (Days | Subject)",
        {"family": "gamma", "link": "log", "weights": "w"},
    ),
    "zeros": (
        "skipped ~ Days + (1 | Subject)",
        {"family": "nbinom2", "zero_inflation": "~ kind + (1 | lab)", "dispersion": "~ kind"},
    ),
}
OWN = {"function"}  # models whose formula uses a function of a module


@cache
def kept_fit(name: str) -> mfx.Results:
    """Fit of one model; its warnings are kept as notes."""
    formula, options = MODELS[name]
    data = DATA.assign(part=DATA["Days"].where(DATA["Days"] != 3))
    draws = np.random.default_rng(8).negative_binomial(1.5, 0.25, N)
    data["skipped"] = draws * (data.index % 3 > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (mfx.glmer if "family" in options else mfx.lmer)(formula, data, **options)


def _emmeans(fit: mfx.Results) -> str:
    if "Days" in fit.params.index and "kind" in fit.formula.fixed:
        return str(fit.emmeans("kind"))
    return str(fit.emmeans("1"))


# Each gives text or pandas objects; those after the bar need the rows.
WITHOUT_ROWS = {
    "params": lambda f: f.params,
    "bse": lambda f: f.bse,
    "cov_params": lambda f: f.cov_params(),
    "varcorr": lambda f: f.varcorr,
    "theta": lambda f: pd.Series(f.theta),
    "ranef": lambda f: f.ranef(cond_sd=True),
    "summary": lambda f: str(f.summary()),
    "tidy": lambda f: f.tidy(),
    "glance": lambda f: f.glance(),
    "notes": lambda f: "\n".join(f.notes),
    "convergence": lambda f: str(f.convergence),
    "predict": lambda f: f.predict(DATA.assign(part=1.0).head(9), interval="prediction"),
    "new levels": lambda f: f.predict(
        DATA.assign(part=1.0, Subject=1).head(3), new_levels="population", se=True
    ),
    "anova": lambda f: f.anova(),
    "emmeans": _emmeans,
    "conf_int": lambda f: f.conf_int(),
}
OF_ROWS = {
    "fitted": lambda f: f.fittedvalues,
    "resid": lambda f: f.resid,
    "augment": lambda f: f.augment(),
    "residual_sd": lambda f: f.residual_sd,
    "simulate": lambda f: f.simulate(2, rng=3),
}


def asked(ask, fit):
    """What a fit answers, the text of the package's error included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ask(fit)
        except mfx.errors.MixedfxError as error:
            return f"{type(error).__name__}: {error}"


def assert_same(first, second) -> None:
    """Bit by bit, with the types of the labels."""
    assert type(first) is type(second)
    if isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, second, check_exact=True, check_freq=True)
    elif isinstance(first, pd.Series):
        pd.testing.assert_series_equal(first, second, check_exact=True, check_freq=True)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    else:
        assert first == second


def assert_same_fit(fit, again, asks) -> None:
    """Equal answers of two fits."""
    for name, ask in asks.items():
        try:
            assert_same(asked(ask, fit), asked(ask, again))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
