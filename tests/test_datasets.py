"""The data sets: the files are the ones published, and load as their README says."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from mixedfx import datasets
from mixedfx.errors import DatasetError

TESTS = Path(__file__).parent
FOLDER = TESTS.parent / "datasets"
MODELS = TESTS / "reference" / "models"

ROWS = {
    "Dyestuff": 30,
    "Dyestuff2": 30,
    "Pastes": 60,
    "Penicillin": 144,
    "answers": 2880,
    "appcrash": 2390,
    "cake": 270,
    "cbpp": 56,
    "romcom": 389,
    "schools": 1940,
    "sleepstudy": 180,
    "trial": 832,
}
FACTORS = {
    "Dyestuff": {"Batch"},
    "Dyestuff2": {"Batch"},
    "Pastes": {"batch", "cask", "sample"},
    "Penicillin": {"plate", "sample"},
    "answers": {"student", "grade", "item", "kind"},
    "appcrash": {"publisher", "app", "device", "version"},
    "cake": {"replicate", "recipe", "temperature"},
    "cbpp": {"herd", "period"},
    "romcom": {"friend", "movie", "kind"},
    "schools": {"state", "district", "school", "classroom", "ses"},
    "sleepstudy": {"Subject"},
    "trial": {"patient", "arm", "visit"},
}
SUMS = {
    name: digest
    for digest, name in (line.split() for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
}
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def _reference_levels() -> dict[tuple[str, str], list[str]]:
    """Collect the level order of each factor that a reference fit to one of our sets used."""
    fits = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(MODELS.glob("*.json")))
    return {
        (name, factor): levels
        for fit in fits
        if (name := Path(fit["data"]).stem) in ROWS
        for factor, levels in fit["factors"].items()
    }


REFERENCE_LEVELS = _reference_levels()


def _cells(name: str) -> dict[str, list[str]]:
    """Read a file as text, column by column, without pandas."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def _section(name: str) -> str:
    """Cut the part of the README that is about one data set."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@pytest.mark.parametrize("file", sorted(SUMS))
def test_file_has_the_recorded_sha256(file):
    assert hashlib.sha256((FOLDER / file).read_bytes()).hexdigest() == SUMS[file]


def test_every_file_has_a_recorded_sha256():
    assert set(SUMS) == {path.name for path in FOLDER.glob("*.csv")}


def test_names_are_the_files():
    assert {f"{name}.csv" for name in datasets.names()} == set(SUMS)


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_all_there(name):
    assert len(datasets.load(name)) == ROWS[name]


@pytest.mark.parametrize("name", ROWS)
def test_columns_keep_the_order_of_the_file(name):
    assert list(datasets.load(name)) == list(_cells(name))


@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_categoricals(name):
    table = datasets.load(name)
    assert set(table.select_dtypes("category")) == FACTORS[name]


@pytest.mark.parametrize("name", FACTORS)
def test_all_other_columns_are_floats(name):
    table = datasets.load(name)
    assert set(table.select_dtypes("float64")) == set(table) - FACTORS[name]


@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_unordered(name):
    table = datasets.load(name)
    assert not any(table[factor].cat.ordered for factor in FACTORS[name])


@pytest.mark.parametrize("name", FACTORS)
def test_levels_are_strings(name):
    table = datasets.load(name)
    levels = [level for factor in FACTORS[name] for level in table[factor].cat.categories]
    assert {type(level) for level in levels} == {str}


@pytest.mark.parametrize("name", ROWS)
def test_values_are_those_of_the_file(name):
    # float() rounds a decimal to the nearest double, so equality is exact.
    loaded = datasets.load(name)
    expected = {
        column: cells if column in FACTORS[name] else [float(cell) for cell in cells]
        for column, cells in _cells(name).items()
    }
    assert {column: loaded[column].tolist() for column in loaded} == expected


@pytest.mark.parametrize(("name", "factor"), REFERENCE_LEVELS)
def test_levels_are_ordered_as_in_the_reference_fits(name, factor):
    # Reference: field `factors` of tests/reference/models.
    loaded = datasets.load(name)[factor].cat.categories
    assert list(loaded) == REFERENCE_LEVELS[name, factor]


def test_levels_that_end_in_numbers_sort_by_number():
    assert datasets._natural_order(["ses10", "ses2", "ses1", "ses10"]) == ["ses1", "ses2", "ses10"]


def test_levels_that_are_numbers_sort_by_number():
    assert datasets._natural_order(["15", "9", "100"]) == ["9", "15", "100"]


@pytest.mark.parametrize(
    ("name", "column", "zero"),
    [
        ("appcrash", "crashes", True),
        ("cbpp", "incidence", True),
        ("cbpp", "size", False),
    ],
)
def test_counts_are_whole_numbers(name, column, zero):
    counts = datasets.load(name)[column]
    assert (counts == counts.round()).all()
    assert (counts.min() == 0) if zero else (counts.min() > 0)


def test_answers_are_wrong_or_correct():
    assert set(datasets.load("answers")["correct"]) == {0.0, 1.0}


def test_every_student_answers_every_item_once():
    answers = datasets.load("answers")
    assert (pd.crosstab(answers["student"], answers["item"]) == 1).all(axis=None)


def test_whoever_leaves_the_trial_does_not_come_back():
    trial = datasets.load("trial")
    visits = trial.groupby("patient", observed=True)["visit"]
    codes = visits.agg(lambda visit: list(visit.cat.codes))
    assert codes.map(lambda seen: seen == list(range(len(seen)))).all()


def test_exposure_is_positive():
    # Its logarithm is an offset.
    assert datasets.load("appcrash")["exposure"].min() > 0


def test_no_herd_has_more_cases_than_animals():
    # Reference: lme4::cbpp of lme4 1.1-31, 99 new cases among 842 animals.
    herds = datasets.load("cbpp")
    assert (herds["incidence"] <= herds["size"]).all()
    assert herds[["incidence", "size"]].sum().tolist() == [99.0, 842.0]


def test_reference_fits_were_made_on_the_shipped_files():
    ours = {name for name, _ in REFERENCE_LEVELS}
    differing = {
        name
        for name in ours
        if (FOLDER / f"{name}.csv").read_bytes()
        != (TESTS / "reference" / "data" / f"{name}.csv").read_bytes()
    }
    assert not differing


def test_loading_returns_a_fresh_copy_each_time():
    changed = datasets.load("Dyestuff")
    changed["Yield"] = 0.0
    pd.testing.assert_series_equal(
        datasets.load("Dyestuff")["Yield"],
        pd.Series(map(float, _cells("Dyestuff")["Yield"])),
        check_names=False,
    )


def test_unknown_name_lists_every_data_set():
    with pytest.raises(DatasetError) as error:
        datasets.load("iris")
    assert all(name in str(error.value) for name in datasets.names())


def test_unknown_name_offers_the_nearest():
    with pytest.raises(DatasetError, match="Did you mean 'sleepstudy'"):
        datasets.load("sleep_study")


def test_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "mixedfx" / "datasets.py"))
    with pytest.raises(DatasetError, match="'cake' is missing from this installation"):
        datasets.load("cake")


def test_installed_package_reads_its_own_files(monkeypatch, tmp_path):
    # A wheel has no datasets folder beside the package, or that of another project.
    data = tmp_path / "mixedfx" / "_data"
    data.mkdir(parents=True)
    (data / "Dyestuff.csv").write_text("Batch,Yield\nA,1\n")
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "mixedfx" / "datasets.py"))
    assert datasets.load("Dyestuff")["Yield"].tolist() == [1.0]


@pytest.mark.parametrize("name", ROWS)
def test_readme_documents_every_column(name):
    documented = re.findall(r"^\| `(\w+)` \|", _section(name), flags=re.MULTILINE)
    assert documented == list(_cells(name))


@pytest.mark.parametrize("name", ROWS)
def test_readme_states_the_rows(name):
    assert f"{ROWS[name]} rows" in _section(name)


@pytest.mark.parametrize("name", ROWS)
def test_readme_states_a_source(name):
    assert "**Source.**" in _section(name)


@pytest.mark.parametrize("name", ROWS)
def test_readme_states_the_terms(name):
    assert "**Terms.**" in _section(name)
