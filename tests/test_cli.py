"""The command line: prints what the API gives, and complains in one line with status 2.

Source of truth: :func:`mixedfx.lmer` on the same data, which other tests hold against lme4.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.cli import main

MODELS = Path(__file__).parent / "reference" / "models"
SLOPES = "Reaction ~ Days + (Days | Subject)"


def _cbpp():
    file = MODELS.parent / "generalized" / "data" / "cbpp.csv"
    return pd.read_csv(file).assign(x=lambda d: 0.1 * (d["herd"] % 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files to fit, and files that cannot be read."""
    path = tmp_path_factory.mktemp("data")
    sleep = mfx.datasets.load("sleepstudy")
    sleep.to_csv(path / "sleep.csv", index=False)
    pytest.importorskip("pyarrow")
    sleep.to_parquet(path / "sleep.parquet")
    sleep.to_parquet(path / "sleep.pq")
    mfx.datasets.load("Dyestuff2").to_csv(path / "dyestuff2.csv", index=False)
    sleep.assign(Reaction=sleep["Reaction"].where(sleep.index != 3)).to_csv(
        path / "gaps.csv", index=False
    )
    sleep.assign(twice=2 * sleep["Days"]).to_csv(path / "twice.csv", index=False)
    _cbpp().to_csv(path / "cbpp.csv", index=False)
    (path / "empty.csv").write_text("")
    (path / "header.csv").write_text("Reaction,Days,Subject\n")
    (path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    (path / "latin.csv").write_bytes("größe\n1\n".encode("latin-1"))
    (path / "broken.parquet").write_text("no parquet")
    (path / "folder.csv").mkdir()
    return path


@pytest.fixture
def run(folder, capsys):
    """Run a command; give its status, output and complaints."""

    def run(*arguments):
        words = [a.replace("FOLDER", str(folder)) for a in arguments]
        try:
            status = main(words)
        except SystemExit as end:  # argparse's way out
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def _sleep(**options):
    return mfx.lmer(SLOPES, mfx.datasets.load("sleepstudy"), **options)


# ------------------------------------------------------------------ fit


@pytest.mark.parametrize("file", ["sleep.csv", "sleep.parquet", "sleep.pq"])
def test_fit_prints_the_summary(run, file):
    assert run("fit", SLOPES, f"FOLDER/{file}") == (0, f"{_sleep().summary()}\n", "")


def test_ml_fits_by_maximum_likelihood(run):
    _, out, _ = run("fit", SLOPES, "FOLDER/sleep.csv", "--ml")
    assert out == f"{_sleep(reml=False).summary()}\n"


@pytest.mark.full
@pytest.mark.parametrize("engine", ["auto", "statsmodels", "profiled"])
def test_engine_is_the_one_asked_for(run, engine):
    _, out, _ = run("fit", SLOPES, "FOLDER/sleep.csv", "--engine", engine)
    assert out == f"{_sleep(engine=engine).summary()}\n"


def test_options_may_come_first(run):
    status, out, _ = run("fit", "--ml", "--engine", "profiled", SLOPES, "FOLDER/sleep.csv")
    assert (status, out) == (0, f"{_sleep(reml=False, engine='profiled').summary()}\n")


def test_formula_may_be_broken_over_lines(run):
    status, _, _ = run("fit", SLOPES.replace("+", "+\n"), "FOLDER/sleep.csv")
    assert status == 0


def test_regression_without_random_terms_is_fitted(run):
    status, out, _ = run("fit", "Reaction ~ Days", "FOLDER/sleep.csv")
    assert (status, "linear regression" in out) == (0, True)


HERDS = "prop ~ C(period) + (1 | herd)"


@pytest.mark.parametrize(
    "options",
    [{}, {"link": "probit"}, {"nagq": 9}, {"offset": "x", "link": "cloglog"}],
    ids=["logit", "probit", "quadrature", "offset"],
)
def test_family_fits_a_generalised_model(run, options):
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    trials = ["--family", "binomial", "--weights", "size", *words]
    status, out, _ = run("fit", HERDS, "FOLDER/cbpp.csv", *trials)
    fit = mfx.glmer(HERDS, _cbpp(), family="binomial", weights="size", **options)
    assert (status, out) == (0, f"{fit.summary()}\n")


def test_weights_and_offset_are_of_linear_models_too(run):
    _, out, _ = run("fit", HERDS, "FOLDER/cbpp.csv", "--weights", "size", "--offset", "x")
    fit = mfx.lmer(HERDS, _cbpp(), weights="size", offset="x")
    assert out == f"{fit.summary()}\n"


@pytest.mark.full
def test_json_of_a_generalised_model_has_its_family(run):
    _, out, _ = run(
        "fit", "incidence ~ size + (1 | herd)", "FOLDER/cbpp.csv", "--json", "--family", "nbinom2"
    )
    fit = mfx.glmer("incidence ~ size + (1 | herd)", _cbpp(), family="nbinom2")
    found = json.loads(out)
    assert (found["family"], found["link"], found["sigma"]) == ("nbinom2", "log", None)
    assert found["family_params"]["alpha"] == pytest.approx(fit.family_params["alpha"])
    assert found["fixed"][1]["z"] == pytest.approx(fit.zvalues["size"])


WARNED = {
    "singular fit": ("Yield ~ 1 + (1 | Batch)", "dyestuff2.csv", "singular fit"),
    "dropped column": ("Reaction ~ Days + twice + (1 | Subject)", "twice.csv", "twice"),
    "dropped rows": (SLOPES, "gaps.csv", "1 of 180 rows"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_to_know_is_among_the_notes(run, case):
    formula, file, words = WARNED[case]
    _, out, _ = run("fit", formula, f"FOLDER/{file}")
    assert words in out.partition("Notes:")[2]


@pytest.mark.parametrize("case", WARNED)
def test_warnings_are_not_said_twice(run, case):
    formula, file, _ = WARNED[case]
    assert run("fit", formula, f"FOLDER/{file}")[::2] == (0, "")


# ------------------------------------------------------------------ JSON


@pytest.fixture
def read(run):
    def read(formula, file, *options):
        status, out, err = run("fit", formula, f"FOLDER/{file}", "--json", *options)
        assert (status, err) == (0, "")
        return json.loads(out)

    return read


# What the JSON says, and what the API says.
SAME = {
    "formula": lambda fit: str(fit.formula),
    "method": lambda fit: "REML" if fit.reml else "ML",
    "engine": lambda fit: fit.engine,
    "converged": lambda fit: fit.converged,
    "singular": lambda fit: fit.is_singular,
    "nobs": lambda fit: fit.nobs,
    "ngroups": lambda fit: fit.ngroups,
    "deviance": lambda fit: fit.deviance,
    "llf": lambda fit: fit.llf,
    "aic": lambda fit: fit.aic,
    "bic": lambda fit: fit.bic,
    "sigma": lambda fit: fit.sigma,
    "theta": lambda fit: fit.theta.tolist(),
    "notes": lambda fit: list(fit.notes),
}


@pytest.mark.parametrize("options", [(), ("--ml",), ("--engine", "profiled")], ids=" ".join)
def test_json_says_what_the_api_says(read, options, subtests):
    engine = "profiled" if "profiled" in options else "auto"
    fit = _sleep(reml="--ml" not in options, engine=engine)
    found = read(SLOPES, "sleep.csv", *options)
    for key, expected in SAME.items():
        with subtests.test(key):
            # Digits are not lost on the way: equal, not close.
            assert found[key] == expected(fit)


def test_json_has_the_fixed_effects(read):
    fit = _sleep()
    fixed = pd.DataFrame(read(SLOPES, "sleep.csv")["fixed"]).set_index("term")
    expected = {"estimate": fit.params, "std_error": fit.bse, "t": fit.tvalues}
    expected |= {"df": fit.tidy()["df"].to_numpy(), "p_value": fit.pvalues}
    pd.testing.assert_frame_equal(fixed, pd.DataFrame(expected), check_names=False)


def test_json_has_the_variance_components(read):
    found = pd.DataFrame(read(SLOPES, "sleep.csv")["varcorr"])
    np.testing.assert_array_equal(found[["vcov", "sdcor"]], _sleep().varcorr[["vcov", "sdcor"]])


def test_json_names_the_variance_components(read):
    rows = read(SLOPES, "sleep.csv")["varcorr"]
    assert [(r["group"], r["effect"], r["effect2"]) for r in rows] == [
        ("Subject", "Intercept", None),
        ("Subject", "Days", None),
        ("Subject", "Intercept", "Days"),
        ("Residual", None, None),
    ]


def test_json_has_the_random_effects(read):
    found = pd.DataFrame(read(SLOPES, "sleep.csv")["ranef"]["Subject"]).T
    np.testing.assert_array_equal(found, _sleep().ranef("Subject"))


def test_json_names_levels_by_text(read):
    assert list(read(SLOPES, "sleep.csv")["ranef"]["Subject"])[:2] == ["308", "309"]


def test_json_says_null_where_there_is_no_number(read):
    fixed = read("Reaction ~ Days + twice + (1 | Subject)", "twice.csv")["fixed"]
    numbers = dict.fromkeys(["estimate", "std_error", "t", "df", "p_value"])
    assert fixed[2] == {"term": "twice", **numbers}


def test_json_of_a_singular_fit_has_a_zero(read):
    found = read("Yield ~ 1 + (1 | Batch)", "dyestuff2.csv")
    assert (found["singular"], found["theta"]) == (True, [0.0])


def test_json_of_a_regression_has_no_random_effects(read):
    found = read("Reaction ~ Days", "sleep.csv")
    assert (found["ranef"], found["theta"], found["ngroups"]) == ({}, [], {})


# ------------------------------------------------------------------ demo


@pytest.mark.parametrize(
    "part", ["Random effects", "Fixed effects", "fit.varcorr", "fit.ranef", "optimum certified"]
)
def test_demo_shows_what_comes_out(run, part):
    assert part in run("demo")[1]


def test_demo_prints_the_summary(run):
    assert str(_sleep().summary()) in run("demo")[1]


def test_demo_prints_the_first_random_effects(run):
    reference = json.loads((MODELS / "sleep_rs__reml.json").read_text(encoding="utf-8"))
    expected = [f"{effect:.3f}" for effect in reference["ranef"]["Subject"]["values"][0]]
    row = next(line for line in run("demo")[1].splitlines() if line.startswith("308"))
    assert row.split()[1:3] == expected


def test_demo_succeeds(run):
    assert run("demo")[::2] == (0, "")


# ------------------------------------------------------------------ errors

# Arguments, and words of the complaint.
ERRORS = {
    "no such file": (("fit", SLOPES, "FOLDER/none.csv"), "none.csv"),
    "a folder": (("fit", SLOPES, "FOLDER/folder.csv"), "folder.csv"),
    "an empty file": (("fit", SLOPES, "FOLDER/empty.csv"), "empty.csv"),
    "a header alone": (("fit", SLOPES, "FOLDER/header.csv"), "no rows"),
    "lines of two lengths": (("fit", SLOPES, "FOLDER/ragged.csv"), "line 3"),
    "another encoding": (("fit", SLOPES, "FOLDER/latin.csv"), "utf-8"),
    "no Parquet": (("fit", SLOPES, "FOLDER/broken.parquet"), "broken.parquet"),
    "no such column": (("fit", "Reaction ~ days", "FOLDER/sleep.csv"), "Did you mean 'Days'?"),
    "open bracket": (("fit", "Reaction ~ (1 | Subject", "FOLDER/sleep.csv"), "never closed"),
    "no parentheses": (("fit", "Reaction ~ Days | Subject", "FOLDER/sleep.csv"), "character 12"),
    "empty formula": (("fit", "", "FOLDER/sleep.csv"), "no response"),
    "formula over lines": (("fit", "Reaction ~\nDays | Subject", "FOLDER/sleep.csv"), "Days |"),
    "formula that fails": (("fit", "Reaction ~ bs(Days, 1)", "FOLDER/sleep.csv"), "bs(Days, 1)"),
    "response exactly linear": (("fit", "twice ~ Days", "FOLDER/twice.csv"), "twice"),
    "refused": (
        (
            "fit",
            "Reaction ~ Days + (Days | Subject) + (Subject | Days)",
            "FOLDER/sleep.csv",
            "--engine",
            "statsmodels",
        ),
        "",
    ),
    "unknown engine": (("fit", SLOPES, "FOLDER/sleep.csv", "--engine", "lme4"), "'profiled'"),
    "unknown family": (("fit", HERDS, "FOLDER/cbpp.csv", "--family", "binom"), "'binomial'"),
    "link alone": (("fit", HERDS, "FOLDER/cbpp.csv", "--link", "probit"), "--family"),
    "engine of a family": (
        ("fit", HERDS, "FOLDER/cbpp.csv", "--family", "poisson", "--engine", "profiled"),
        "--engine",
    ),
    "unknown option": (("fit", SLOPES, "FOLDER/sleep.csv", "--reml"), "--reml"),
    "no file": (("fit", SLOPES), "file"),
    "unknown command": (("plot",), "'plot'"),
    "demo with a file": (("demo", "FOLDER/sleep.csv"), "sleep.csv"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_ends_with_status_2(run, case):
    assert run(*ERRORS[case][0])[0] == 2


@pytest.mark.parametrize("case", ERRORS)
def test_error_is_one_line(run, case):
    _, _, err = run(*ERRORS[case][0])
    assert (err.count("\n"), err[-1:], len(err) > 1) == (1, "\n", True)


@pytest.mark.parametrize("case", ERRORS)
def test_error_says_who_complains(run, case):
    assert run(*ERRORS[case][0])[2].startswith("mixedfx")


@pytest.mark.parametrize("case", ERRORS)
def test_error_names_the_culprit(run, case):
    arguments, words = ERRORS[case]
    assert words in run(*arguments)[2]


@pytest.mark.parametrize("case", ERRORS)
def test_error_prints_nothing_on_standard_output(run, case):
    assert run(*ERRORS[case][0])[1] == ""


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "--help"), ("demo", "--help")])
def test_help_is_no_error(run, arguments):
    status, out, err = run(*arguments)
    assert (status, err, "usage" in out) == (0, "", True)


# ------------------------------------------------------------------ a process of its own


def _process(folder, *arguments):
    code = "import sys; from mixedfx.cli import main; sys.exit(main())"
    words = [a.replace("FOLDER", str(folder)) for a in arguments]
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )


@pytest.mark.full
def test_process_reads_its_own_arguments(folder):
    done = _process(folder, "fit", SLOPES, "FOLDER/sleep.csv", "--json")
    assert json.loads(done.stdout)["nobs"] == 180


@pytest.mark.full
def test_process_complains_in_one_line_though_numpy_warns(folder):
    # numpy's warning of the logarithm goes to the same stream unless it is held back.
    done = _process(folder, "fit", "Reaction ~ log(Days)", "FOLDER/sleep.csv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# ------------------------------------------------------------------ conventions of command lines


def test_without_a_command_the_help_is_printed(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert out.startswith("usage: mixedfx")


def test_version_is_the_packages(run):
    assert run("--version")[:2] == (0, f"mixedfx {mfx.__version__}\n")


@pytest.mark.kept("s.txt-;-options1", "s.dat-\\t-options2")
@pytest.mark.parametrize(
    ("file", "sep", "options"),
    [("s.tsv", "\t", ()), ("s.txt", ";", ("--sep", ";")), ("s.dat", "\t", ("--sep", "tab"))],
)
def test_separators_are_read(run, folder, file, sep, options):
    mfx.datasets.load("sleepstudy").to_csv(folder / file, index=False, sep=sep)
    assert run("fit", SLOPES, f"FOLDER/{file}", *options) == (0, f"{_sleep().summary()}\n", "")


def test_another_separator_is_named(run, folder):
    mfx.datasets.load("sleepstudy").to_csv(folder / "semicolons.csv", index=False, sep=";")
    status, _, err = run("fit", SLOPES, "FOLDER/semicolons.csv")
    assert (status, "--sep ';'" in err) == (2, True)


def test_a_compressed_file_is_read(run, folder):
    mfx.datasets.load("sleepstudy").to_csv(folder / "s.csv.gz", index=False)
    assert run("fit", SLOPES, "FOLDER/s.csv.gz")[0] == 0


def _python(*arguments, **options):
    command = [sys.executable, "-m", "mixedfx", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.full
def test_standard_input_is_read_by_python_m(folder):
    text = (folder / "sleep.csv").read_text()
    done = _python("fit", SLOPES, "-", input=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{_sleep().summary()}\n", "")


@pytest.mark.full
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_output_that_cannot_be_written_is_one_line(folder):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mixedfx", "fit", SLOPES, str(folder / "sleep.csv")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("mixedfx: cannot write the results")
    assert done.stderr.count("\n") == 1
