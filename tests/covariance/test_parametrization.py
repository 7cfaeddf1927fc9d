"""Theta and Lambda: the layout is lme4's, and no rewriting changes Lambda Lambda'.

Source of truth: Bates, Maechler, Bolker and Walker (2015), section 2.3: theta holds the lower
triangle of each term's Lambda column by column, terms in order, and the model depends on it
through ``Lambda Lambda'`` alone.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixedfx.covariance.components import Positions
from mixedfx.covariance.parametrization import (
    Parametrization,
    canonical_signs,
    identity_params,
)
from mixedfx.covariance.unstructured import (
    Unstructured,
    lower_triangular_factor,
    relative_factor,
)

STRUCTURES = ("us", "diag")
numbers = st.floats(-1e3, 1e3).map(lambda v: 0.0 if abs(v) < 1e-6 else v)
# Zeros are the boundary of the parameter space: they come often, and in whole columns.
entries = st.one_of(st.just(0.0), numbers)


@st.composite
def layouts(draw):
    shape = st.tuples(st.sampled_from(STRUCTURES), st.integers(1, 4))
    drawn = draw(st.lists(shape, min_size=0, max_size=4))
    return Parametrization(tuple(s for s, _ in drawn), tuple(k for _, k in drawn))


@st.composite
def layouts_with_theta(draw):
    parametrization = draw(layouts())
    theta = draw(st.lists(entries, min_size=parametrization.size, max_size=parametrization.size))
    return parametrization, np.array(theta, dtype=float)


@st.composite
def semidefinite(draw):
    """Draw a covariance of any rank, also zero, whose scales differ widely."""
    k = draw(st.integers(1, 5))
    rank = draw(st.integers(0, k))
    flat = draw(st.lists(st.floats(-10, 10), min_size=k * rank, max_size=k * rank))
    column_rms = 10.0 ** np.array(draw(st.lists(st.integers(-3, 3), min_size=k, max_size=k)))
    half = np.array(flat).reshape(k, rank) * column_rms[:, None]
    return half @ half.T


def _covariances(parametrization, theta):
    return [lam @ lam.T for lam in parametrization.lambdas(theta)]


# ------------------------------------------------------------------ layout


@pytest.mark.parametrize(
    ("structure", "width", "size"),
    [("us", 1, 1), ("us", 2, 3), ("us", 3, 6), ("us", 4, 10), ("diag", 1, 1), ("diag", 4, 4)],
)
def test_a_term_has_a_triangle_or_a_diagonal_of_parameters(structure, width, size):
    assert Parametrization((structure,), (width,)).size == size


def test_triangle_is_read_column_by_column():
    (lam,) = Parametrization(("us",), (3,)).lambdas(np.arange(1.0, 7.0))
    np.testing.assert_array_equal(lam, [[1, 0, 0], [2, 4, 0], [3, 5, 6]])


def test_diagonal_term_has_no_covariances():
    (lam,) = Parametrization(("diag",), (3,)).lambdas(np.arange(1.0, 4.0))
    np.testing.assert_array_equal(lam, np.diag([1.0, 2.0, 3.0]))


def test_terms_follow_each_other():
    first, second = Parametrization(("diag", "us"), (2, 2)).lambdas(np.arange(1.0, 6.0))
    np.testing.assert_array_equal(first, np.diag([1.0, 2.0]))
    np.testing.assert_array_equal(second, [[3, 0], [4, 5]])


def test_slices_name_each_terms_part():
    assert Parametrization(("us", "diag", "us"), (2, 3, 1)).slices == (
        slice(0, 3),
        slice(3, 6),
        slice(6, 7),
    )


def test_on_diagonal_marks_the_parameters_bounded_by_zero():
    # lme4's getME(fit, "lower") is 0 where this is true, and -Inf elsewhere.
    parametrization = Parametrization(("us", "diag"), (3, 2))
    np.testing.assert_array_equal(parametrization.coordinates.is_sd, [1, 0, 0, 1, 0, 1, 1, 1])


def test_layout_without_terms_is_empty():
    parametrization = Parametrization((), ())
    assert (
        parametrization.size,
        parametrization.lambdas(np.zeros(0)),
        len(parametrization.coordinates.is_sd),
    ) == (0, [], 0)


@pytest.mark.full
@given(layouts())
def test_slices_cover_theta_in_order(parametrization):
    covered = [i for part in parametrization.slices for i in range(part.start, part.stop)]
    assert covered == list(range(parametrization.size))


@pytest.mark.full
@given(layouts_with_theta())
def test_pack_undoes_lambdas(case):
    parametrization, theta = case
    np.testing.assert_array_equal(parametrization.to_params(parametrization.lambdas(theta)), theta)


@given(layouts_with_theta())
def test_lambdas_are_lower_triangular(case):
    parametrization, theta = case
    assert all(np.array_equal(lam, np.tril(lam)) for lam in parametrization.lambdas(theta))


@given(layouts_with_theta())
def test_pack_reads_only_what_is_free(case):
    parametrization, theta = case
    spoiled = [lam + np.triu(np.ones_like(lam), 1) for lam in parametrization.lambdas(theta)]
    np.testing.assert_array_equal(parametrization.coordinates.params(spoiled), theta)


@given(layouts_with_theta(), st.integers(0, 2**16))
def test_theta_of_a_rotated_factor_gives_the_same_covariance(case, seed):
    parametrization, theta = case
    rng, rotated = np.random.default_rng(seed), []
    for (structure, at), lam in zip(
        parametrization.terms, parametrization.lambdas(theta), strict=True
    ):
        Q, _ = np.linalg.qr(rng.normal(size=(at.k, at.k)))
        rotated.append(lam @ Q if structure.invariance == "linear" else lam)
    found = _covariances(parametrization, parametrization.to_params(rotated))
    for before, after in zip(_covariances(parametrization, theta), found, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-12 * max(np.abs(before).max(), 1e-30))


@given(layouts())
def test_identity_is_the_identity(parametrization):
    for lam, k in zip(
        parametrization.lambdas(identity_params(parametrization)),
        parametrization.widths,
        strict=True,
    ):
        np.testing.assert_array_equal(lam, np.eye(k))


# ------------------------------------------------------------------ rectify


@given(layouts_with_theta())
def test_rectify_keeps_every_covariance(case):
    parametrization, theta = case
    rectified = _covariances(parametrization, canonical_signs(parametrization, theta))
    for before, after in zip(_covariances(parametrization, theta), rectified, strict=True):
        np.testing.assert_array_equal(after, before)


@given(layouts_with_theta())
def test_rectify_is_idempotent(case):
    parametrization, theta = case
    once = canonical_signs(parametrization, theta)
    np.testing.assert_array_equal(canonical_signs(parametrization, once), once)


@given(layouts_with_theta())
def test_rectified_diagonal_is_not_negative(case):
    parametrization, theta = case
    assert (canonical_signs(parametrization, theta)[parametrization.coordinates.is_sd] >= 0).all()


@given(layouts_with_theta())
def test_rectify_leaves_no_negative_zero(case):
    parametrization, theta = case
    rectified = canonical_signs(parametrization, theta)
    assert not np.signbit(rectified[rectified == 0.0]).any()


@given(layouts_with_theta())
def test_rectify_changes_signs_only(case):
    parametrization, theta = case
    np.testing.assert_array_equal(np.abs(canonical_signs(parametrization, theta)), np.abs(theta))


@given(layouts_with_theta(), st.data())
def test_rectified_theta_does_not_depend_on_the_signs_of_columns(case, data):
    parametrization, theta = case
    flipped = []
    for lam in parametrization.lambdas(theta):
        signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(lam), max_size=len(lam))
        flipped.append(lam * np.array(data.draw(signs)))
    np.testing.assert_array_equal(
        canonical_signs(parametrization, parametrization.to_params(flipped)),
        canonical_signs(parametrization, theta),
    )


def test_rectify_looks_below_a_zero_on_the_diagonal():
    parametrization = Parametrization(("us",), (2,))
    np.testing.assert_array_equal(
        canonical_signs(parametrization, np.array([0.0, -2.0, 1.0])), [0.0, 2.0, 1.0]
    )


@given(layouts_with_theta())
def test_rectify_leaves_its_argument_alone(case):
    parametrization, theta = case
    before = theta.copy()
    canonical_signs(parametrization, theta)
    np.testing.assert_array_equal(theta, before)


# ------------------------------------------------------------------ relative_factor


@given(semidefinite())
def test_factor_reproduces_any_semidefinite_matrix(cov):
    lam = relative_factor(cov)
    # Backward stable: to rounding of the largest entry.
    np.testing.assert_allclose(lam @ lam.T, cov, rtol=0, atol=1e-13 * max(np.abs(cov).max(), 1e-30))


@given(semidefinite())
def test_factor_is_lower_triangular(cov):
    lam = relative_factor(cov)
    np.testing.assert_array_equal(lam, np.tril(lam))


@given(semidefinite())
def test_factor_has_no_negative_diagonal(cov):
    assert (np.diag(relative_factor(cov)) >= 0).all()


def test_factor_of_a_definite_matrix_is_choleskys():
    cov = np.array([[4.0, 2.0, 0.4], [2.0, 5.0, 1.0], [0.4, 1.0, 2.0]])
    np.testing.assert_allclose(
        relative_factor(cov), np.linalg.cholesky(cov), rtol=1e-13, atol=1e-14
    )


def test_factor_of_a_correlation_of_one_has_a_column_of_zeros():
    cov = np.outer([3.0, 1.0, 2.0], [3.0, 1.0, 2.0])
    np.testing.assert_allclose(
        relative_factor(cov), [[3, 0, 0], [1, 0, 0], [2, 0, 0]], rtol=0, atol=1e-7
    )


def test_factor_of_a_zero_variance_has_a_row_of_zeros():
    cov = np.diag([2.0, 0.0, 3.0])
    np.testing.assert_allclose(relative_factor(cov), np.sqrt(cov), rtol=0, atol=1e-14)


def test_factor_of_zero_is_zero():
    np.testing.assert_array_equal(relative_factor(np.zeros((3, 3))), np.zeros((3, 3)))


@given(semidefinite())
def test_rounding_below_zero_is_no_harm(cov):
    # A covariance that arithmetic has made indefinite by rounding, as engines report them.
    size = max(np.abs(cov).max(), 1e-30)
    lam = relative_factor(cov - 1e-15 * size * np.eye(len(cov)))
    np.testing.assert_allclose(lam @ lam.T, cov, rtol=0, atol=1e-12 * size)


@given(layouts_with_theta())
def test_factor_of_lambda_lambda_gives_the_same_covariance(case):
    parametrization, theta = case
    factors = [relative_factor(cov) for cov in _covariances(parametrization, theta)]
    for cov, lam in zip(_covariances(parametrization, theta), factors, strict=True):
        np.testing.assert_allclose(lam @ lam.T, cov, rtol=0, atol=1e-12 * max(cov.max(), 1e-30))


def two_row_factors():
    rng = np.random.default_rng(5)
    for i in range(200):
        F = rng.normal(size=(2, 2)) * 10.0 ** rng.uniform(-4.0, 4.0, size=(2, 1 + i % 2))
        F[0, 1] *= i % 3 > 0  # some are triangular
        yield F


def test_triangular_factors_of_two_rows_have_the_covariance():
    for F in two_row_factors():
        L = lower_triangular_factor(F)
        assert L[0, 1] == 0.0
        np.testing.assert_allclose(L @ L.T, F @ F.T, rtol=0.0, atol=1e-15 * np.abs(F @ F.T).max())


def test_coordinates_of_two_rows_have_the_longer_first_and_reproduce_their_factor():
    structure, at = Unstructured(), Positions(2)
    for F in two_row_factors():
        coordinates, x = structure.rank_reduced(F, at)
        G = coordinates.factor(x)
        np.testing.assert_allclose(G @ G.T, F @ F.T, rtol=0.0, atol=1e-15 * np.abs(F @ F.T).max())
        assert x[0] == pytest.approx(np.linalg.norm(F, axis=1).max())
        assert (x[[0, 2]] >= 0.0).all()
        again, same = structure.rank_reduced(G, at)
        assert again is coordinates
        np.testing.assert_array_equal(same, x)
