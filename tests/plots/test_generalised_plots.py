"""Pictures of generalised models: what is drawn is on the scale that the label says.

Source of truth: the tables of the results, read back from the artists; and the normal distribution
of quantile residuals of simulated responses.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from generalized_models import generalized_fit
from scipy import special, stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.results.plot_inputs import quantile_residuals

FITS = {
    "trials": "cbpp_prop__laplace",
    "crossed": "verbagg_probit__laplace",
    "slopes": "epil2_slope__laplace",
    "offset": "owls_pois__laplace",
    "overdispersed": "salam_nb2__laplace",
    "continuous": "chick_gamma__laplace",
}


def group_of(fit):
    return fit.formula.groups[0]


PLOTS = {
    "residuals": lambda fit: fit.plot.residuals(),
    "by level": lambda fit: fit.plot.residuals("group"),
    "scale": lambda fit: fit.plot.residuals("scale-location"),
    "quantiles": lambda fit: fit.plot.qq(),
    "effects": lambda fit: fit.plot.qq(group_of(fit)),
    "fitted": lambda fit: fit.plot.fitted(),
    "caterpillar": lambda fit: fit.plot.caterpillar(),
    "coefficients": lambda fit: fit.plot.coefficients(),
    "shrinkage": lambda fit: fit.plot.shrinkage(),
    "variance": lambda fit: fit.plot.variance(fixed=True),
    "graph": lambda fit: fit.plot.graph(),
}


@pytest.mark.full
@pytest.mark.parametrize("draw", PLOTS)
@pytest.mark.parametrize("name", FITS)
def test_every_plot_is_drawn(name, draw):
    axes = np.atleast_1d(PLOTS[draw](generalized_fit(FITS[name]))).ravel()
    axes[0].figure.canvas.draw()


@pytest.fixture(scope="module")
def trials():
    return generalized_fit(FITS["trials"])


def points_of(ax, label):
    return next(line for line in ax.get_lines() if line.get_label() == label)


def test_fitted_means_are_probabilities_beside_proportions(trials):
    (ax,) = trials.plot.fitted()
    assert ax.get_xlabel() == "prop (probability)"
    partial = points_of(ax, "partially pooled").get_xdata()
    modes = trials.ranef("herd")["Intercept"]
    np.testing.assert_allclose(
        np.sort(partial), np.sort(special.expit(trials.params["Intercept"] + modes))
    )
    assert set(points_of(ax, "prop").get_xdata()) == set(trials.model.rows.y)


@pytest.mark.full
def test_fitted_lines_are_curves_on_the_scale_of_the_response():
    fit = generalized_fit(FITS["continuous"])
    (ax,) = fit.plot.fitted()
    assert ax.get_ylabel() == "weight (mean)"
    x, y = points_of(ax, "population").get_data()
    slopes = np.diff(np.log(y)) / np.diff(x)
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)


@pytest.mark.full
def test_labels_name_the_scale(trials):
    assert (
        trials.plot.caterpillar()[0].get_xlabel() == "deviation from the fixed effect\n(log odds)"
    )
    assert trials.plot.coefficients().get_xlabel() == "log odds, with 95% interval"
    assert trials.plot.residuals().get_xlabel() == "fitted probability"
    counts = generalized_fit(FITS["offset"])
    assert counts.plot.coefficients().get_xlabel() == "log expected count, with 95% interval"
    assert counts.plot.residuals().get_xlabel() == "fitted expected count"
    (ax,) = counts.plot.fitted()
    assert ax.get_xlabel() == "SiblingNegotiation (expected count)"


def test_odds_ratios_are_on_a_logarithmic_axis(trials):
    ax = trials.plot.coefficients(exponentiate=True)
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "odds ratio, with 95% interval")
    drawn = ax.containers[0].lines[0].get_xdata()
    np.testing.assert_allclose(drawn, np.exp(trials.params.iloc[1:]))
    with pytest.raises(ArgumentError, match="probit"):
        generalized_fit(FITS["crossed"]).plot.coefficients(exponentiate=True)


def test_quantile_residuals_of_the_right_model_are_normal():
    rng = np.random.default_rng(3)
    n, groups = 2000, 400
    g, x = rng.integers(groups, size=n), rng.normal(size=n)
    eta = 0.5 + 0.4 * x + 0.3 * rng.normal(size=groups)[g]
    data = pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g})
    fit = mfx.glmer("y ~ x + (1 | g)", data, family="poisson")
    values = quantile_residuals(fit.model, 1)
    # Given modes that were drawn to the data they are a little less than standard normal.
    assert stats.kstest(values / values.std(), "norm").pvalue > 0.01
    assert 0.85 < values.std() < 1.02


def test_quantile_residuals_are_the_same_for_the_same_seed(trials):
    a, b, c = (quantile_residuals(trials.model, seed) for seed in (0, 0, 1))
    assert a.equals(b)
    assert not a.equals(c)


def test_the_variance_of_observations_is_named(trials):
    labels = [tick.get_text() for tick in trials.plot.variance().get_yticklabels()]
    assert labels == ["herd", "Observation (theoretical)"]
