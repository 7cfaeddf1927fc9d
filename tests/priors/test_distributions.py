"""Prior distributions, and the coordinates in which they are drawn from.

Source of truth: scipy.stats; for correlations the Beta law that LKJ (2009) give for each one;
and numerical integration of the density in the coordinates.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracle import slope
from scipy import integrate, stats
from tiers import but_for

from mixedfx.bayes.unconstrained import correlation_cholesky, parameter_transform
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.errors import ArgumentError, PriorError
from mixedfx.priors import LKJ, Constant, Exponential, Flat, Gamma, HalfNormal, HalfStudentT, Normal
from mixedfx.priors.specification import PriorSpecification

SAME = {
    "normal": (Normal(1.5, 2.0), stats.norm(1.5, 2.0)),
    "half-normal": (HalfNormal(3.0), stats.halfnorm(scale=3.0)),
    "exponential": (Exponential(0.4), stats.expon(scale=2.5)),
    "gamma": (Gamma(2.5, 0.4), stats.gamma(2.5, scale=2.5)),
    "half-Cauchy": (HalfStudentT(1, 2.0), stats.halfcauchy(scale=2.0)),
}
PRIORS = [*(prior for prior, _ in SAME.values()), HalfStudentT(4, 0.5), Flat()]
POINTS = np.array([0.01, 0.7, 2.0, 9.0])


@pytest.mark.parametrize("name", SAME)
def test_a_density_is_that_of_scipy(name):
    ours, scipys = SAME[name]
    np.testing.assert_allclose(ours.log_density(POINTS), scipys.logpdf(POINTS), rtol=1e-12)


def test_a_half_t_is_twice_the_t_above_zero():
    expected = np.log(2.0) + stats.t(4.0, scale=0.5).logpdf(POINTS)
    np.testing.assert_allclose(HalfStudentT(4, 0.5).log_density(POINTS), expected, rtol=1e-12)


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_a_slope_is_the_derivative_of_the_log_density(prior):
    found = [prior.slope(float(x)) for x in POINTS]
    expected = [slope(lambda v: prior.log_density(v[0]), [x])[0] for x in POINTS[1:]]
    np.testing.assert_allclose(found[1:], expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0, -1), r"Normal\(sd=-1\): sd must be a number that is not negative"),
        (lambda: Normal(np.nan, 1), "mean must be a finite number"),
        (lambda: Normal(0, np.inf), "sd must be a number"),
        (lambda: Normal([1], 1), "mean must be a finite number"),
        (lambda: HalfNormal(0), r"HalfNormal\(sd=0\): sd must be a positive number"),
        (lambda: HalfNormal("1"), "sd must be a positive number"),
        (lambda: HalfNormal(True), "sd must be a positive number"),
        (lambda: HalfStudentT(0, 1), "df must be a positive number"),
        (lambda: HalfStudentT(3, np.inf), "scale must be a positive number"),
        (lambda: Exponential(-2), "rate must be a positive number"),
        (lambda: Gamma(0.5, 1), "shape must be a number of 1 or more"),
        (lambda: Gamma(2, 0), "rate must be a positive number"),
        (lambda: LKJ(0), "eta must be a positive number"),
        (lambda: LKJ(None), "eta must be a positive number"),
        (lambda: LKJ(0.5), "eta must be 1 or more"),
        (lambda: Constant("a"), "value must be finite numbers"),
        (lambda: Constant(np.nan), "value must be finite numbers"),
        (lambda: Constant(None), "value must be finite numbers"),
    ],
)
def test_what_is_no_distribution_is_refused_by_name(make, message):
    with pytest.raises(PriorError, match=message):
        make()


def test_a_prior_error_is_an_argument_error():
    assert issubclass(PriorError, ArgumentError)
    assert issubclass(PriorError, ValueError)


# ------------------------------------------------------------------ coordinates


def model_of(k, eta=1.0, sd=None, sigma=None, structure="us"):
    """A model of one term of ``k`` effects, with its transform."""
    sds = tuple(Flat() if sd is None else sd for _ in range(k))
    none = np.zeros(0)
    priors = PriorSpecification(none, none, (sds,), (eta,), sigma or Flat(), (), None, False)
    no_coefficients = {"to_gamma": np.zeros((0, 1)), "to_log_sigma": np.ones(1)}
    parametrization = Parametrization((structure,), (k,))
    return priors, parameter_transform(parametrization, priors, sigma=None, **no_coefficients)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_root_makes_a_correlation_matrix(k):
    pairs = k * (k - 1) // 2
    partials = np.tanh(np.random.default_rng(k).normal(size=(pairs, 50)))
    factor = correlation_cholesky(partials, k)
    R = np.einsum("icb,jcb->ijb", factor, factor)
    np.testing.assert_allclose(np.einsum("iib->ib", R), 1.0, rtol=1e-13)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_determinant_is_the_product_that_the_lkj_density_uses(k):
    partials = np.tanh(np.random.default_rng(k).normal(size=(k * (k - 1) // 2, 20)))
    factor = correlation_cholesky(partials, k)
    R = np.einsum("icb,jcb->bij", factor, factor)
    np.testing.assert_allclose(np.linalg.det(R), np.prod(1.0 - partials**2, axis=0), rtol=1e-9)


def test_points_have_the_covariance_of_their_standard_deviations_and_correlation():
    _, transform = model_of(2)
    params = transform.constrain(
        np.array([[np.log(2.0), np.log(3.0), np.arctanh(0.4), np.log(5.0)]])
    )
    factor = params.cov_factors[0][:, :, 0]
    np.testing.assert_allclose(factor @ factor.T, [[4.0, 2.4], [2.4, 9.0]], rtol=1e-13)
    assert params.sigma[0] == pytest.approx(5.0, rel=1e-14)


def test_uncorrelated_effects_have_no_coordinates_of_correlations():
    _, transform = model_of(3, structure="diag")
    assert transform.size == 4


def test_what_is_constant_has_no_coordinate():
    _, transform = model_of(2, sd=Constant(7.0), sigma=Constant(3.0))
    params = transform.constrain(np.array([[0.0]]))
    assert transform.size == 1
    np.testing.assert_array_equal(params.sds[0], [[7.0], [7.0]])
    np.testing.assert_array_equal(params.sigma, [3.0])


@pytest.mark.full
def test_the_density_of_log_standard_deviations_integrates_to_one():
    # The correlation is integrated out in closed form below; here there is none.
    priors, transform = model_of(1, sd=HalfNormal(2.0), sigma=Exponential(0.5))

    def density(b, a):
        params = transform.constrain(np.array([[a, b]]))
        return float(np.exp(transform.log_prior(params, priors, jacobian=True)[0]))

    total, _ = integrate.dblquad(density, -18.0, 4.0, -18.0, 5.0, epsabs=1e-6)
    assert total == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("k", "eta"), but_for([(2, 1.0), (2, 2.0), (3, 1.0), (3, 2.5)], [(2, 1.0)])
)
def test_correlations_of_an_lkj_prior_have_its_beta_law(k, eta):
    # Lewandowski, Kurowicka and Joe (2009), section 3: (r + 1) / 2 ~ Beta(a, a), with
    # a = eta - 1 + k / 2, for every pair. Moments by quadrature in the coordinates.
    priors, transform = model_of(k, eta, sd=Constant(1.0), sigma=Constant(1.0))
    grid = np.linspace(-9.0, 9.0, 401 if k == 2 else 101)
    Z = np.array(list(itertools.product(*[grid] * transform.size)))
    params = transform.constrain(Z)
    shares = np.exp(transform.log_prior(params, priors, jacobian=True))
    shares /= shares.sum()
    R = np.einsum("icb,jcb->ijb", params.cov_factors[0], params.cov_factors[0])
    a = eta - 1.0 + 0.5 * k
    law = stats.beta(a, a, loc=-1.0, scale=2.0)
    for i, j in itertools.combinations(range(k), 2):
        for power in (1, 2, 4):
            assert shares @ R[i, j] ** power == pytest.approx(law.moment(power), abs=2e-6)


def test_the_density_of_a_matrix_is_a_power_of_its_determinant():
    priors, transform = model_of(3, 3.0, sd=Constant(1.0), sigma=Constant(1.0))
    params = transform.constrain(np.random.default_rng(1).normal(size=(10, 3)))
    R = np.einsum("icb,jcb->bij", params.cov_factors[0], params.cov_factors[0])
    found = transform.log_prior(params, priors, jacobian=False)
    np.testing.assert_allclose(found, 2.0 * np.linalg.slogdet(R)[1], rtol=1e-10)


@pytest.mark.parametrize("jacobian", [True, False])
def test_the_prior_has_its_gradient(jacobian):
    priors, transform = model_of(3, 2.0, sd=HalfStudentT(3, 1.5), sigma=HalfNormal(2.0))
    z = np.random.default_rng(2).normal(size=transform.size)

    def value(z):
        return float(
            transform.log_prior(transform.constrain(z[None]), priors, jacobian=jacobian)[0]
        )

    found = transform.log_prior_gradient(z, priors, jacobian=jacobian)
    np.testing.assert_allclose(found, slope(value, z), rtol=1e-7, atol=1e-8)
