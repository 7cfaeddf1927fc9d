"""Simulated data, and the models that are right or wrong for them, of the tests of checks."""

from __future__ import annotations

import numpy as np
import pandas as pd

import mixedfx as mfx

FORMULA = "y ~ x + f + w + (1 | g)"


def frame(rng, groups=30, rows=8):
    """Covariates: a number, a time, a factor, and a number of the groups."""
    n, g = groups * rows, np.repeat(np.arange(groups), rows)
    data = pd.DataFrame(
        {
            "g": g.astype(str),
            "x": rng.normal(size=n),
            "t": np.tile(np.arange(rows), groups),
            "f": rng.choice(list("abc"), n),
            "w": rng.normal(size=groups)[g],
        }
    )
    return data, g, groups


def predictor(data, g, groups, rng, sd=0.6):
    return 0.5 + 0.3 * data["x"] + 0.4 * data["w"] + (sd * rng.normal(size=groups))[g]


def _logistic(eta):
    return 1.0 / (1.0 + np.exp(-eta))


def _negative_binomial(rng, mu, alpha):
    return rng.poisson(mu * rng.gamma(1.0 / alpha, alpha, len(mu)))


def _ar1(rng, groups, rows, rho):
    e = rng.normal(size=(groups, rows))
    for j in range(1, rows):
        e[:, j] = rho * e[:, j - 1] + np.sqrt(1.0 - rho**2) * e[:, j]
    return e.ravel()


# ---------------------------------------------------------------- models that are right


def random_slopes(rng):
    data, g, groups = frame(rng, 18, 10)
    b = rng.multivariate_normal([0, 0], [[600, 10], [10, 35]], groups)
    noise = 25 * rng.normal(size=len(g))
    data["y"] = 250 + (10 + b[g, 1]) * data["t"] + b[g, 0] + noise
    return mfx.lmer("y ~ t + (t | g)", data)


def linear(rng):
    data, g, groups = frame(rng)
    data["y"] = predictor(data, g, groups, rng) + rng.normal(size=len(g))
    return mfx.lmer(FORMULA, data)


def poisson(rng):
    data, g, groups = frame(rng)
    data["y"] = rng.poisson(np.exp(predictor(data, g, groups, rng)))
    return mfx.glmer(FORMULA, data, "poisson")


def binomial(rng):
    data, g, groups = frame(rng)
    data["y"] = rng.binomial(6, _logistic(predictor(data, g, groups, rng)))
    data["no"] = 6 - data["y"]
    return mfx.glmer("cbind(y, no) ~ x + f + w + (1 | g)", data)


def nbinom2(rng):
    data, g, groups = frame(rng)
    data["y"] = _negative_binomial(rng, np.exp(predictor(data, g, groups, rng)), 0.7)
    return mfx.glmer(FORMULA, data, "nbinom2")


def gamma(rng):
    data, g, groups = frame(rng)
    data["y"] = np.exp(predictor(data, g, groups, rng)) * rng.gamma(2, 0.5, len(g))
    return mfx.glmer(FORMULA, data, "gamma", link="log")


def correlated(rng):
    data, _, _ = frame(rng, 40, 6)
    data["y"] = 1 + 0.3 * data["x"] + 0.2 * data["t"] + _ar1(rng, 40, 6, 0.6)
    return mfx.lmer("y ~ x + t", data, residual="ar1(t | g)")


def zero_part(rng):
    data, g, groups = frame(rng, 40)
    nothing = _logistic(-1 + 1.5 * rng.normal(size=groups)[g])
    counts = rng.poisson(np.exp(1.3 + predictor(data, g, groups, rng)))
    data["y"] = counts * (rng.random(len(g)) > nothing)
    return mfx.glmer(FORMULA, data, "poisson", zero_inflation="~ 1 + (1 | g)")


def effects_of_rows(rng):
    data, g, groups = frame(rng)
    data["row"] = np.arange(len(g)).astype(str)
    noise = 0.7 * rng.normal(size=len(g))
    data["y"] = rng.poisson(np.exp(predictor(data, g, groups, rng) + noise))
    return mfx.glmer(f"{FORMULA} + (1 | row)", data, "poisson")


RIGHT = [
    random_slopes,
    linear,
    poisson,
    binomial,
    nbinom2,
    gamma,
    correlated,
    zero_part,
    effects_of_rows,
]

# ---------------------------------------------------------------- models that are wrong


def poisson_of_nbinom2(rng):
    data, g, groups = frame(rng)
    data["y"] = _negative_binomial(rng, np.exp(predictor(data, g, groups, rng)), 0.5)
    return mfx.glmer(FORMULA, data, "poisson"), data


def zeros_left_out(rng):
    data, g, groups = frame(rng)
    counts = rng.poisson(np.exp(1 + predictor(data, g, groups, rng)))
    data["y"] = counts * (rng.random(len(g)) > 0.15)
    return mfx.glmer(FORMULA, data, "nbinom2"), data


def square_left_out(rng):
    data, g, groups = frame(rng)
    eta = predictor(data, g, groups, rng) + 0.25 * data["x"] ** 2
    data["y"] = eta + rng.normal(size=len(g))
    return mfx.lmer(FORMULA, data), data


def square_between_groups(rng):
    data, g, groups = frame(rng, 40)
    eta = predictor(data, g, groups, rng) + 0.5 * data["w"] ** 2
    data["y"] = eta + rng.normal(size=len(g))
    return mfx.lmer(FORMULA, data), data


def variance_by_factor(rng):
    data, g, groups = frame(rng)
    sd = np.where(data["f"] == "a", 1.7, 1.0)
    data["y"] = predictor(data, g, groups, rng) + sd * rng.normal(size=len(g))
    return mfx.lmer(FORMULA, data), data


def heavy_tails(rng):
    data, g, groups = frame(rng)
    data["y"] = predictor(data, g, groups, rng) + rng.standard_t(3, len(g))
    return mfx.lmer(FORMULA, data), data


def two_kinds_of_groups(rng):
    data, g, groups = frame(rng, 40)
    b = 2 * (rng.choice([-1.0, 1.0], groups) + 0.25 * rng.normal(size=groups))
    data["y"] = 0.5 + 0.3 * data["x"] + b[g] + rng.normal(size=len(g))
    return mfx.lmer(FORMULA, data), data


def serial_correlation(rng):
    data, g, groups = frame(rng)
    data["y"] = predictor(data, g, groups, rng) + _ar1(rng, groups, 8, 0.5)
    return mfx.lmer("y ~ x + t + (1 | g)", data), data


WRONG = {  # and the check that finds it
    poisson_of_nbinom2: ("dispersion", "response"),
    zeros_left_out: ("zero-inflation", "response"),
    square_left_out: ("residuals", "x"),
    square_between_groups: ("conditional modes", "g: Intercept by w"),
    variance_by_factor: ("heteroscedasticity", "f"),
    heavy_tails: ("normality", "residuals"),
    two_kinds_of_groups: ("normality", "g: Intercept"),
    serial_correlation: ("autocorrelation", "t within g"),
}
