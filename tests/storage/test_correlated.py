"""Keeping fits with correlated residuals."""

import copy
import pickle

import numpy as np
import pytest
from correlated_fits import CALLS, data_of, fit_of

import mixedfx as mfx
from mixedfx.errors import RowsNotInMemory


@pytest.mark.kept("by arm", "weighted")
@pytest.mark.parametrize("name", list(CALLS))
def test_a_kept_fit_answers_as_the_fit_does(name, tmp_path):
    fit, data = fit_of(name), data_of(name)
    fit.save(tmp_path / "fit.mfx")
    for kept in (mfx.read(tmp_path / "fit.mfx"), pickle.loads(pickle.dumps(fit)), copy.copy(fit)):
        assert str(kept.summary()) == str(fit.summary())
        np.testing.assert_array_equal(kept.predict(data.head(9)), fit.predict(data.head(9)))
        np.testing.assert_array_equal(kept.simulate(1, rng=1), fit.simulate(1, rng=1))
        np.testing.assert_allclose(kept.influence(), fit.influence(), rtol=1e-9)


def test_a_fit_without_rows_keeps_the_covariances():
    fit = fit_of("visits")
    slim = fit.slim()
    assert slim.residual_cov().equals(fit.residual_cov())
    assert str(slim.summary()) == str(fit.summary())
    with pytest.raises(RowsNotInMemory):
        slim.residuals("normalized")
    with pytest.raises(RowsNotInMemory):
        slim.predict(data_of("visits").head(2))
    np.testing.assert_allclose(
        slim.predict(data_of("visits").head(2), random="none"), fit.fittedvalues[:2]
    )
