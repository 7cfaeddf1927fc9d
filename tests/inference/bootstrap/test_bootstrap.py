"""The bootstrap: refits of simulated responses, all of them accounted for.

Source of truth: the same refits one by one, the sampling distributions of balanced designs, which
are known exactly, and Davison and Hinkley's formulas worked out by hand.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedfx as mfx
from mixedfx._workers import Workers
from mixedfx.errors import ArgumentError, MixedfxWarning, SearchError
from mixedfx.estimation.profiled import Profiled
from mixedfx.inference.bootstrap import bootstrap as module
from mixedfx.inference.bootstrap import parallel
from mixedfx.inference.bootstrap.bootstrap import Bootstrap, Failure, bootstrap
from mixedfx.inference.simulation import simulate

MODELS = {
    "slope": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "four effects": ("y ~ x + (x + o + w | g)", {}),
    "two terms of a group": ("y ~ x + (1 | g) + (0 + x | g)", {}),
    "maximum likelihood": ("y ~ x + (1 | g/h)", {"reml": False}),
    "weights and offset": ("y ~ x + (x || g)", {"weights": "w", "offset": "o"}),
    "ill-conditioned": ("y ~ year + I(year**2) + (1 | g)", {}),
    "no fixed effects": ("y ~ 0 + (1 | g)", {}),
    "no random terms": ("y ~ x", {"weights": "w"}),
}
# In Monte Carlo standard errors; the seeds are fixed.
FAR = 5.0

pytestmark = [
    pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::mixedfx.errors.DroppedColumnsWarning"),
]
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    n = 120
    g, h = np.repeat(np.arange(12), 10), np.tile(np.arange(5), 24)
    frame = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=n), "w": rng.uniform(1, 2, n)})
    frame = frame.assign(o=rng.normal(size=n), year=rng.integers(1990, 2020, n), x2=2 * frame["x"])
    effects = rng.normal(size=12)[g] + rng.normal(size=5)[h]
    return frame.assign(y=frame["x"] + effects + rng.normal(size=n))


@pytest.fixture(scope="module")
def fits(data):
    return {name: mfx.lmer(formula, data, **options) for name, (formula, options) in MODELS.items()}


@pytest.fixture(scope="module")
def sleep():
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def dyestuff():
    return mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))


@pytest.fixture(scope="module")
def sleep_draws(sleep):
    return bootstrap(sleep.model, 1000, rng=1, progress=False)


def quiet(results, n, **options):
    """A bootstrap without a bar, from one seed."""
    workers = Workers(options.pop("n_jobs", 1))
    return bootstrap(results.model, n, workers=workers, **{"rng": 1, "progress": False, **options})


def named_by_hand(results):
    """Parameters of any results in the order of the draws, from the tables that users see."""
    parts = [results.params.dropna(), results.varcorr["sdcor"], results.theta]
    return np.concatenate(parts)


# ---------------------------------------------------------------- what a draw is


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("kind", ["new", "fitted"])
def test_draws_are_refits_of_the_simulated_responses(fits, name, kind):
    results = fits[name]
    responses = simulate(results.model, 4, rng=1, random=kind)
    one_by_one = [named_by_hand(results.refit(responses[i])) for i in responses]
    drawn = quiet(results, 4, random=kind).draws
    np.testing.assert_allclose(drawn, one_by_one, rtol=1e-7, atol=1e-9)


@every_model
def test_estimates_are_those_of_the_fit(fits, name):
    found = quiet(fits[name], 1).estimates
    np.testing.assert_allclose(found, named_by_hand(fits[name]), rtol=1e-12)


def test_columns_are_named_in_formula_order(sleep):
    assert list(quiet(sleep, 2).draws.columns) == [
        "Intercept",
        "Days",
        "sd(Intercept | Subject)",
        "sd(Days | Subject)",
        "corr(Intercept, Days | Subject)",
        "sigma",
        "theta[0]",
        "theta[1]",
        "theta[2]",
    ]


@pytest.mark.full
def test_rows_are_the_numbers_of_the_draws(sleep):
    expected = pd.RangeIndex(20, name="draw")
    pd.testing.assert_index_equal(quiet(sleep, 20).draws.index, expected, exact=False)


def test_columns_that_were_left_out_of_the_fit_are_left_out(data):
    drawn = quiet(mfx.lmer("y ~ x + x2 + (1 | g)", data), 2)
    assert list(drawn.draws.columns[:2]) == ["Intercept", "x"]
    assert "x2" not in drawn.draws.columns


def test_a_correlation_without_variances_is_missing():
    # Every group has the same mean and the same slope, so the optimum is at zero.
    d = pd.DataFrame({"g": np.repeat(np.arange(5), 4), "x": np.tile([-1.0, -1.0, 1.0, 1.0], 5)})
    fit = mfx.lmer("y ~ x + (x | g)", d.assign(y=np.tile([-1.0, 1.0, 1.0, -1.0], 5)))
    assert np.isnan(quiet(fit, 1).estimates["corr(Intercept, x | g)"])


# ---------------------------------------------------------------- known distributions


@pytest.mark.full
@pytest.mark.parametrize("name", ["Intercept", "Days"])
def test_standard_errors_are_walds_in_a_balanced_design(sleep, sleep_draws, name):
    # There the estimates are those of least squares whatever theta, so Wald's is exact.
    n = len(sleep_draws.draws)
    ratio = sleep_draws.table.loc[name, "std_error"] / sleep.bse[name]
    assert abs(ratio - 1) < FAR / np.sqrt(2 * n)


@pytest.mark.full
@pytest.mark.parametrize("name", ["Intercept", "Days"])
def test_fixed_effects_are_unbiased(sleep, sleep_draws, name):
    n = len(sleep_draws.draws)
    assert abs(sleep_draws.table.loc[name, "bias"]) < FAR * sleep.bse[name] / np.sqrt(n)


@pytest.mark.full
def test_with_the_fitted_effects_only_residuals_vary(sleep):
    # 18 subjects of 10 days: the mean response varies as sigma / sqrt(180), not as subjects do.
    drawn = quiet(sleep, 300, random="fitted").draws
    at_the_mean = drawn["Intercept"] + 4.5 * drawn["Days"]
    ratio = at_the_mean.std() / (sleep.sigma / np.sqrt(180))
    assert abs(ratio - 1) < FAR / np.sqrt(2 * 300)


@pytest.mark.full
def test_residual_variances_are_chi_squared_without_random_terms(fits):
    results = fits["no random terms"]
    drawn = quiet(results, 1000).draws["sigma"]
    df = results.df_resid
    assert stats.kstest(df * (drawn / results.sigma) ** 2, stats.chi2(df).cdf).pvalue > 1e-4


@pytest.mark.full
def test_singular_draws_are_counted_and_kept(dyestuff):
    # In a balanced one-way design the variance is estimated as zero exactly where the mean
    # square between batches is below that within (Searle et al. 1992).
    batches = simulate(dyestuff.model, 400, rng=1).to_numpy().reshape(6, 5, 400)
    between = 5 * batches.mean(axis=1).var(axis=0, ddof=1)
    within = batches.var(axis=1, ddof=1).mean(axis=0)
    found = quiet(dyestuff, 400)
    assert found.singular == (between < within).sum() > 0
    np.testing.assert_array_equal(found.draws["theta[0]"] == 0.0, between < within)


# ---------------------------------------------------------------- the same draws again


def test_a_seed_gives_the_same_draws_again(sleep):
    pd.testing.assert_frame_equal(quiet(sleep, 5).draws, quiet(sleep, 5).draws, check_exact=True)


@pytest.mark.full
def test_a_draw_does_not_depend_on_how_many_follow(sleep):
    few, many = quiet(sleep, 5).draws, quiet(sleep, 20).draws
    pd.testing.assert_frame_equal(few, many[:5], check_exact=True)


@pytest.mark.full
@pytest.mark.parametrize("name", ["slope", "weights and offset", "no random terms"])
def test_two_processes_make_the_same_draws(fits, name):
    alone, together = (quiet(fits[name], 40, n_jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_frame_equal(alone.draws, together.draws, check_exact=True)
    assert alone.singular == together.singular


def test_no_seed_gives_other_draws_each_time(dyestuff):
    first, second = (quiet(dyestuff, 2, rng=None) for _ in range(2))
    assert not first.draws.equals(second.draws)


def test_the_global_random_state_is_not_touched(dyestuff):
    before, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    quiet(dyestuff, 3, rng=None)
    after = np.random.get_state()  # noqa: NPY002
    assert random.getstate() == before
    assert (after[1] == legacy[1]).all()
    assert after[2:] == legacy[2:]


def test_the_fit_is_not_changed(data):
    results = mfx.lmer("y ~ x + (x | g)", data, weights="w", offset="o")
    before = str(results.summary()), results.model.crossprod.XytXy.copy(), results.fittedvalues
    quiet(results, 3)
    assert str(results.summary()) == before[0]
    np.testing.assert_array_equal(results.model.crossprod.XytXy, before[1])
    pd.testing.assert_series_equal(results.fittedvalues, before[2])


# ---------------------------------------------------------------- what goes wrong


def failing(monkeypatch, ways):
    """Let the search of some draws end in another way: by number, from result to result."""
    search, numbers = Profiled.estimate, iter(range(10**6))

    def changed(self, *args, **options):
        way = ways.get(next(numbers), lambda found: found)
        return way(search(self, *args, **options))

    monkeypatch.setattr(Profiled, "estimate", changed)


def raising(error):
    def way(found):
        raise error

    return way


FAILURES = {
    1: raising(SearchError("lost its way")),
    3: raising(np.linalg.LinAlgError("singular matrix")),
    4: lambda found: replace(found, converged=False, message="gave up"),
    6: lambda found: replace(found, deviance=found.deviance + 1.0),
}


def test_failed_draws_are_kept_with_their_reasons(dyestuff, monkeypatch):
    failing(monkeypatch, FAILURES)
    with pytest.warns(MixedfxWarning):
        found = quiet(dyestuff, 8)
    assert found.failures[:3] == (
        Failure(1, "SearchError", "lost its way"),
        Failure(3, "LinAlgError", "singular matrix"),
        Failure(4, "not converged", "gave up"),
    )
    assert (found.failures[3].draw, found.failures[3].kind) == (6, "EngineDisagreement")


def test_failed_draws_are_left_out_of_the_table(dyestuff, monkeypatch):
    whole = quiet(dyestuff, 8).draws
    failing(monkeypatch, FAILURES)
    with pytest.warns(MixedfxWarning):
        found = quiet(dyestuff, 8)
    pd.testing.assert_frame_equal(found.draws, whole.drop([1, 3, 4, 6]), check_exact=True)


def test_failed_draws_are_warned_of_once(dyestuff, monkeypatch):
    failing(monkeypatch, {**FAILURES, 7: FAILURES[4]})
    with pytest.warns(MixedfxWarning) as caught:
        quiet(dyestuff, 8)
    assert len(caught) == 1
    assert "5 of 8 draws failed and are left out: 2 not converged, 1" in str(caught[0].message)


def test_a_bootstrap_of_failures_alone_has_missing_intervals(dyestuff, monkeypatch):
    failing(monkeypatch, dict.fromkeys(range(3), FAILURES[4]))
    with pytest.warns(MixedfxWarning, match="3 of 3 draws failed"):
        found = quiet(dyestuff, 3)
    assert found.conf_int().isna().all(axis=None)
    assert found.table["estimate"].notna().all()


def test_a_mistake_in_the_code_is_not_counted_as_a_failure(dyestuff, monkeypatch):
    failing(monkeypatch, {2: raising(TypeError("a bug"))})
    with pytest.raises(TypeError, match="a bug"):
        quiet(dyestuff, 5)


def test_an_interrupted_bootstrap_returns_the_draws_made(dyestuff, monkeypatch):
    whole = quiet(dyestuff, 3).draws
    failing(monkeypatch, {3: raising(KeyboardInterrupt())})
    with pytest.warns(MixedfxWarning, match="interrupted after 3 of 50 draws"):
        found = quiet(dyestuff, 50)
    pd.testing.assert_frame_equal(found.draws, whole, check_exact=True)


def test_an_interrupted_bootstrap_says_so(dyestuff, monkeypatch):
    failing(monkeypatch, {3: raising(KeyboardInterrupt())})
    with pytest.warns(MixedfxWarning):
        found = quiet(dyestuff, 50)
    assert "3 of 50 draws (interrupted)" in repr(found)


@pytest.mark.full
def test_processes_can_be_interrupted(dyestuff, monkeypatch):
    whole = quiet(dyestuff, 200).draws

    @contextlib.contextmanager
    def impatient(n, progress):
        yield raising(KeyboardInterrupt())

    monkeypatch.setattr(module, "progress_bar", impatient)
    with pytest.warns(MixedfxWarning, match="interrupted after"):
        found = quiet(dyestuff, 200, n_jobs=2)
    assert 0 < len(found.draws) < 200
    pd.testing.assert_frame_equal(found.draws, whole.loc[found.draws.index], check_exact=True)


_KILLED = """
import os, signal, sys, time, warnings
import mixedfx as mfx

def main(path):
    parent = os.getpid()
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))

    def sigma(fit):  # a process that was killed in the middle of the draws
        if os.getpid() != parent:
            with open(path, "ab") as counter:
                counter.write(b"x")
            if os.path.getsize(path) > 60:
                time.sleep(1.0)  # what was made before arrives
                os.kill(os.getpid(), signal.SIGKILL)
        return fit.sigma

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit.bootstrap(200, rng=1, n_jobs=2, progress=False, statistic=sigma)
    again = fit.bootstrap(200, rng=1, progress=False, statistic=sigma)
    assert 0 < len(found.draws) < 200, len(found.draws)
    assert found.draws.equals(again.draws.loc[found.draws.index])
    (warning,) = [w for w in caught if issubclass(w.category, mfx.errors.MixedfxWarning)]
    print(warning.message)

main(sys.argv[1])
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal of POSIX")
def test_a_killed_process_leaves_the_draws_made(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    command = [sys.executable, str(script), str(tmp_path / "counter")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "a worker process was killed" in done.stdout
    assert "of 200 draws, which are returned" in done.stdout


def test_the_end_of_a_process_leaves_the_draws_made(dyestuff, monkeypatch):
    whole = quiet(dyestuff, 3).draws
    failing(monkeypatch, {3: raising(BrokenProcessPool("terminated"))})
    with pytest.warns(MixedfxWarning, match=r"killed.* after 3 of 50 draws"):
        found = quiet(dyestuff, 50)
    pd.testing.assert_frame_equal(found.draws, whole, check_exact=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "n=0 must be a positive integer"),
        ({"n": 10.0}, "n=10.0 must be a positive integer"),
        ({"random": "old"}, "'new', 'fitted'"),
        ({"rng": "seed"}, "rng='seed' must be a seed"),
        ({"n_jobs": 0}, "n_jobs=0 must be a number of processes"),
        ({"n_jobs": 1.5}, "n_jobs=1.5 must be a number of processes"),
        ({"n_jobs": True}, "n_jobs=True must be a number of processes"),
        ({"n_jobs": None}, "n_jobs=None must be a number of processes"),
    ],
)
def test_an_argument_that_cannot_be_understood_is_named(dyestuff, arguments, words):
    with pytest.raises(ArgumentError, match=words):
        dyestuff.bootstrap(**{"n": 2, "progress": False, **arguments})


# ---------------------------------------------------------------- intervals


@pytest.fixture
def known():
    """Draws 0 to 100 about an estimate of 40; one parameter misses half of them."""
    draws = pd.DataFrame({"a": np.arange(101.0), "b": np.arange(101.0)})
    draws.loc[51:, "b"] = np.nan
    return Bootstrap(draws, pd.Series({"a": 40.0, "b": 40.0}), requested=101)


Z, SD = 1.6448536269514722, np.sqrt(101 * 102 / 12)  # of 0 to 100, with divisor 100
INTERVALS = {
    "percentile": (5.0, 95.0),
    "basic": (80.0 - 95.0, 80.0 - 5.0),
    "normal": (30.0 - Z * SD, 30.0 + Z * SD),  # the bias is 50 - 40
}


@pytest.mark.parametrize("method", INTERVALS)
def test_intervals_are_davison_and_hinkleys(known, method):
    # Bootstrap Methods and their Application (1997), chapter 5.
    found = known.conf_int(alpha=0.1, parm="a", method=method).loc["a"]
    np.testing.assert_allclose(found, INTERVALS[method], rtol=1e-12)


def test_missing_draws_are_left_out_of_an_interval(known):
    assert known.conf_int(alpha=0.2).loc["b"].tolist() == [5.0, 45.0]


def test_the_coverage_is_one_minus_alpha(known):
    by_alpha = known.conf_int(alpha=0.2)
    pd.testing.assert_frame_equal(known.conf_int(conf_level=0.8), by_alpha, rtol=1e-12)


def test_one_of_alpha_and_conf_level_is_given(known):
    with pytest.raises(ArgumentError, match="give one of them"):
        known.conf_int(0.05, conf_level=0.95)


def test_intervals_are_of_the_parameters_asked_for_in_their_order(known):
    assert list(known.conf_int(parm=["b", "a"]).index) == ["b", "a"]


def test_intervals_have_columns_0_and_1(known):
    assert list(known.conf_int().columns) == [0, 1]


def test_the_table_shows_bias_and_standard_error(known):
    expected = [40.0, 10.0, SD, 2.5, 97.5]
    found = known.table.loc["a", ["estimate", "bias", "std_error", "conf_low", "conf_high"]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 0.0}, "alpha=0.0 must be a number between 0 and 1"),
        ({"alpha": 95}, "alpha=95 must be a number between 0 and 1"),
        ({"alpha": "5%"}, "alpha='5%' must be a number between 0 and 1"),
        ({"parm": "c"}, "parm='c' is not one of the choices 'a', 'b'"),
        ({"method": "student"}, "'percentile', 'basic', 'normal', 'bca'"),
    ],
)
def test_an_interval_that_cannot_be_understood_is_named(known, arguments, words):
    with pytest.raises(ArgumentError, match=words):
        known.conf_int(**arguments)


def test_it_prints_its_counts(known):
    failed = (Failure(7, "not converged", "gave up"),)
    shown = str(replace(known, requested=102, failures=failed, singular=4))
    assert shown == "<mixedfx.Bootstrap: 102 draws, 1 failed (1 not converged), 4 singular>"


def test_a_notebook_shows_the_table(known):
    assert known.table.to_html(border=0) in known._repr_html_()


# ---------------------------------------------------------------- what the user waits for


def test_a_bar_counts_the_draws(dyestuff, capsys, monkeypatch):
    monkeypatch.setattr(parallel, "DELAY", 0.0)
    quiet(dyestuff, 5, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_what_takes_a_moment_has_no_bar(dyestuff, capsys):
    quiet(dyestuff, 5, progress=True)
    assert capsys.readouterr().err == ""


def test_without_progress_nothing_is_printed(dyestuff, capsys):
    quiet(dyestuff, 5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.full
def test_libraries_that_are_not_needed_are_not_imported():
    script = (
        "import sys, mixedfx as mfx; from mixedfx.inference.bootstrap.bootstrap import bootstrap;"
        "fit = mfx.lmer('Yield ~ 1 + (1 | Batch)', mfx.datasets.load('Dyestuff'),"
        " engine='profiled'); bootstrap(fit.model, 2, progress=False); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"joblib", "tqdm", "statsmodels"} & set(run.stdout.split())
