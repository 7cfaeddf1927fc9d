"""Every reference model with correlated residuals, number by number.

Source of truth: tests/reference/structured/residual_models, a plain R likelihood (V written out)
searched by Newton steps from several starts, nlme beside it where it has the model; `published`
are values of SAS, as the R package mmrm carries them in its tests.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from reference_checks import Checks
from reference_models import FOLDER, records, typed
from tiers import but_for

import mixedfx as mfx

# The search ends where another step would gain less than 1e-8 of a deviance: a ten-thousandth of
# a standard error.
LOGLIK, HIGHER, FIXED, PARAMETERS, DF = 1e-5, 1e-8, 1e-4, 1e-3, 1e-3
METHODS = {
    "satterthwaite": ("se", "df_satterthwaite"),
    "kenward-roger": ("se_kr_sas", "df_kr_sas"),
    "kenward-roger-linear": ("se_kr_linear", "df_kr_linear"),
}
BY_TERM = {
    "satterthwaite": "satterthwaite",
    "kenward-roger": "kr_sas",
    "kenward-roger-linear": "kr_linear",
}
PUBLISHED = {"kr": "kenward-roger", "kr_linear": "kenward-roger-linear"}
check = Checks()


@dataclass(frozen=True)
class CorrelatedReference:
    record: dict

    def __getitem__(self, field):
        return self.record[field]

    @cached_property
    def data(self) -> pd.DataFrame:
        path = FOLDER / "structured" / "data" / self["data"]
        return typed(pd.read_csv(path), self["factors"])

    @property
    def residual(self) -> str | None:
        """``name(positions | subject)``; None where the files write a term with a nugget."""
        asked = self["residual"]
        if asked["nugget"]:
            return None
        place = asked["by"] or asked["position"]
        place = place if isinstance(place, str) else " + ".join(place)
        return f"{asked['structure']}({place} | {asked['group']})"

    @property
    def dispersion(self) -> str | None:
        """Formula of the standard deviations; None where they are equal."""
        strata = self["residual"]["strata"]
        return None if strata is None else f"~ {strata}"

    @property
    def formula(self) -> str:
        terms = [f"({term['lhs'].removeprefix('~ ')} | {term['group']})" for term in self["random"]]
        if self.residual is None:
            terms.append(f"ou({self['residual']['position']} | {self['residual']['group']})")
        return " + ".join([self["fixed_py"], *terms])

    @property
    def fixed(self) -> pd.DataFrame:
        return pd.DataFrame(self["fixef"]).set_index("name_py")

    @cached_property
    def fit(self) -> mfx.Results:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mfx.lmer(
                self.formula,
                self.data,
                reml=self["REML"],
                residual=self.residual,
                dispersion=self.dispersion,
            )


CORRELATED = {
    name: CorrelatedReference(record)
    for name, record in records("structured/residual_models").items()
}
DEFAULT = [
    "bodyweight_het_exp__reml",
    "fev_us__reml",
    "fev_toeph__ml",
    "fevarm_ar1h__reml",
    "fevarm_us__reml",
    "gaps_ar1__reml",
    "gaps_ri_ar1__reml",
]


@pytest.mark.parametrize("name", but_for(CORRELATED, DEFAULT))
@pytest.mark.cases(None)
def test_correlated_fit_matches_r(name, subtests):
    reference = CORRELATED[name]
    fit = reference.fit
    check.run(fit, reference, subtests)


@check
def the_search_converges(fit, reference):
    assert fit.converged
    assert fit.certificate.ok


@check
def rows_subjects_and_parameters_are_counted_as_by_r(fit, reference):
    assert fit.nobs == reference["nobs"]
    assert fit.df_modelwc == reference["df_model"]


@check
def log_likelihood_matches_r_and_is_never_worse(fit, reference):
    assert fit.llf == pytest.approx(reference["loglik"], abs=LOGLIK)
    assert fit.llf > reference["loglik"] - HIGHER
    assert (fit.deviance, fit.aic) == pytest.approx(
        (reference["criterion"], reference["aic"]), abs=2 * LOGLIK
    )


@check
def fixed_effects_match_r(fit, reference):
    expected = reference.fixed.loc[fit.params.index]
    share = (fit.params - expected["estimate"]) / expected["se"]
    np.testing.assert_allclose(share, 0.0, atol=FIXED)
    np.testing.assert_allclose(fit.bse, expected["se"], rtol=FIXED)
    names = [row["name_py"] for row in reference["fixef"]]
    vcov = pd.DataFrame(reference["vcov"], names, names).loc[fit.params.index, fit.params.index]
    scale = np.outer(expected["se"], expected["se"])
    np.testing.assert_allclose(fit.cov_params() / scale, vcov / scale, rtol=0, atol=2 * FIXED)


@check
def covariance_of_the_residuals_matches_r(fit, reference):
    if reference.residual is None:
        return
    expected, model = reference["residual_structure"], fit.model.residual.model
    assert fit.sigma == pytest.approx(reference["sigma"], rel=PARAMETERS)
    if "covariance" in expected:
        [R] = fit.sigma**2 * model.covariances(fit.model.residual.params)
        assert [str(label) for label in model.spec.labels] == expected["levels"]
        sds = np.array(expected["sd"])
        scale = np.outer(sds, sds)
        np.testing.assert_allclose(R / scale, expected["covariance"] / scale, atol=PARAMETERS)
    else:
        shape = expected["range"] if "range" in expected else expected["decay"]
        kind = "range(" if "range" in expected else "rate("
        [found] = [c for c in fit.model.residual.components if c.name.startswith(kind)]
        assert found.value == pytest.approx(shape, rel=PARAMETERS)
    if reference.dispersion:
        ratios = expected["strata"]["sd_ratio"][1:]
        np.testing.assert_allclose(fit.dispersion["sd"], ratios, rtol=PARAMETERS)


@check
def random_effects_match_r(fit, reference):
    table = fit.varcorr
    rows = table[table["effect"].notna() & (table["group"] != "Residual")]
    if reference.residual is None:
        process = reference["residual_structure"]
        share = 1.0 - process["nugget"]["fraction"]
        expected = [np.sqrt(share) * reference["sigma"], process["decay"]]
        np.testing.assert_allclose(rows["sdcor"], expected, rtol=PARAMETERS)
        return
    # Both list standard deviations first, then correlations.
    expected = [row["sdcor"] for row in reference["varcorr"]]
    np.testing.assert_allclose(rows["sdcor"], expected, rtol=PARAMETERS)
    for group, table in (reference["ranef"] or {}).items():
        found = fit.ranef(group)
        found = found.set_axis(found.index.astype(str)).loc[table["levels"], table["columns_py"]]
        scale = np.array([r["sdcor"] for r in reference["varcorr"] if r["var2"] is None])
        modes = np.array(table["values"], dtype=float)
        np.testing.assert_allclose(found / scale, modes / scale, rtol=0, atol=PARAMETERS)


@check
def fitted_values_match_r(fit, reference):
    rows = reference["head_rows"]
    if reference.residual is None:
        return  # the files have no modes of the process
    expected = reference["fitted_head"]
    np.testing.assert_allclose(fit.fittedvalues.loc[rows], expected, atol=PARAMETERS * fit.sigma)


@check
def errors_and_degrees_of_freedom_match_r(fit, reference):
    for method, (error, df) in METHODS.items():
        expected = reference.fixed.loc[fit.params.index]
        if df not in expected or expected[df].isna().all():
            continue  # none of maximum likelihood, nor of every model
        found = fit.tidy(df_method=method)
        np.testing.assert_allclose(found["std_error"], expected[error], rtol=FIXED, err_msg=method)
        np.testing.assert_allclose(found["df"], expected[df], rtol=DF, err_msg=method)


@check
def terms_are_tested_as_by_r(fit, reference):
    names = list(fit.params.index)
    for row in reference["tests_by_term"] or []:
        columns = [i for i, name in enumerate(names) if _term_of(name) == row["term"]]
        assert len(columns) == row["numdf"]
        for method, field in BY_TERM.items():
            if row.get(field):
                test = fit.wald_test(np.eye(len(names))[columns], df_method=method)
                expected = row[field]["F"], row[field]["dendf"]
                assert test["F"] == pytest.approx(expected[0], rel=DF), (row["term"], method)
                assert test["den_df"] == pytest.approx(expected[1], rel=DF), (row["term"], method)


def _term_of(name: str) -> str:
    """``armcd[T.TRT]:avisit[T.VIS2]`` is of ``armcd:avisit``."""
    return ":".join(part.partition("[")[0] for part in name.split(":"))


@check
def marginal_means_and_their_differences_match_emmeans(fit, reference):
    expected = reference["emmeans"]
    if not expected:
        return
    spec, by = expected["specs"].split(" | ")
    for method, (error, df) in METHODS.items():
        means = pd.DataFrame(expected["means"])
        if df not in means:
            continue
        found = fit.emmeans(spec, by=by, df_method=method)
        _compare(found.table, means, [spec, by], "emmean", error, df)
        pairs = pd.DataFrame(expected["pairs"])
        _compare(found.contrasts("pairwise"), pairs, [by], "estimate", error, df)


def _compare(found, expected, keys, estimate, error, df):
    merged = found.astype(dict.fromkeys(keys, str)).merge(
        expected, on=keys, suffixes=("", "_r"), validate="1:1"
    )
    assert len(merged) == len(expected) == len(found)
    theirs = merged["estimate_r" if estimate == "estimate" else "estimate"]
    share = (merged[estimate] - theirs) / merged[error]
    np.testing.assert_allclose(share, 0.0, atol=FIXED)
    np.testing.assert_allclose(merged["std_error"], merged[error], rtol=FIXED)
    np.testing.assert_allclose(merged["df"], merged[f"{df}_r" if df == "df" else df], rtol=DF)


@check
def predictions_of_the_mean_match_r(fit, reference):
    new = reference["predict_new"]
    found = fit.predict(pd.DataFrame(new["rows"]), random="none")
    np.testing.assert_allclose(found, new["population"], atol=PARAMETERS * fit.sigma)


@check
def published_values_of_sas_are_met(fit, reference):
    for row in reference["published"] or []:
        tidy = fit.tidy(df_method=PUBLISHED[row["kind"]]).set_index("term")
        found = tidy.loc["armcd[T.TRT]"]
        assert row["contrast"] == "armcdTRT"
        assert found["std_error"] == pytest.approx(row["se"], rel=row["se_agreement"])
        assert found["df"] == pytest.approx(row["df"], rel=row["df_agreement"])
