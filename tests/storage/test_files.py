"""Fits in files.

Source of truth: the fit that was saved, to the last bit; and that a file which is not what was
written is one error of the package, soon and without much memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import tracemalloc
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from storage.kept_fits import (
    DATA,
    INDEXES,
    MODELS,
    OF_ROWS,
    OWN,
    SLEEP,
    WITHOUT_ROWS,
    assert_same,
    assert_same_fit,
    double,
    kept_fit,
)
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, StorageError
from mixedfx.storage import archive
from mixedfx.storage.expressions import check_expressions

NEW = DATA.head(5)


def through_file(fit, folder, **options):
    fit.save(folder / "fit.mfx")
    return mfx.read(folder / "fit.mfx", **options)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name", but_for(MODELS, ["slopes", "factors", "function", "dispersion", "priors", "binomial"])
)
def test_a_saved_fit_gives_what_the_fit_gives(name, tmp_path):
    fit = kept_fit(name)
    functions = {"double": double} if name in OWN else None
    again = through_file(fit, tmp_path, functions=functions)
    assert_same_fit(fit, again, WITHOUT_ROWS | OF_ROWS)
    assert (tmp_path / "fit.mfx").stat().st_size < 100_000


@pytest.mark.parametrize("kind", but_for(INDEXES, ["objects", "zone", "periods", "multi"]))
def test_labels_of_rows_keep_their_type(kind, tmp_path):
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", DATA.set_axis(INDEXES[kind]))
    assert_same(fit.resid, through_file(fit, tmp_path).resid)


@pytest.mark.full
def test_a_saved_fit_draws_and_profiles_as_the_fit(tmp_path):
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", SLEEP)
    again = through_file(fit, tmp_path)
    drawn, drawn_again = (f.bootstrap(5, rng=1, progress=False).draws for f in (fit, again))
    assert_same(drawn, drawn_again)
    assert_same(fit.profile(parm="sigma"), again.profile(parm="sigma"))
    np.testing.assert_allclose(again.statsmodels.params, fit.statsmodels.params, rtol=1e-6)


def test_a_file_is_the_same_each_time(tmp_path):
    fit = kept_fit("splines")
    again = through_file(fit, tmp_path)
    first = (tmp_path / "fit.mfx").read_bytes()
    again.save(tmp_path / "again.mfx")
    assert (tmp_path / "again.mfx").read_bytes() == first


def test_a_file_appears_when_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "fit.mfx"
    kept_fit("slopes").save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        kept_fit("em").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fit.mfx"]


# ---------------------------------------------------------------- functions of the user


def test_a_function_is_given_or_imported_with_consent(tmp_path):
    fit = kept_fit("function")
    with pytest.raises(StorageError, match=r"functions=\{'double': double\}.*trust=True"):
        through_file(fit, tmp_path)
    assert_same(fit.predict(NEW), through_file(fit, tmp_path, trust=True).predict(NEW))


def test_a_function_that_cannot_be_imported_is_not_saved(tmp_path):
    f = lambda x: 2 * x  # noqa: E731
    assert f(1) == 2
    with pytest.raises(StorageError, match=r"'f'.*Define it at the top of a module"):
        mfx.lmer("Reaction ~ f(Days) + (1 | Subject)", SLEEP).save(tmp_path / "fit.mfx")
    assert not list(tmp_path.iterdir())


def test_a_module_is_imported_with_consent_only(tmp_path, monkeypatch):
    module = types.ModuleType("mine")
    module.twice = double
    monkeypatch.setitem(sys.modules, "mine", module)
    mine = module
    fit = mfx.lmer("Reaction ~ mine.twice(Days) + (1 | Subject)", SLEEP)
    assert mine is module
    with pytest.raises(StorageError, match="trust=True"):
        through_file(fit, tmp_path)
    assert_same(fit.predict(NEW), through_file(fit, tmp_path, trust=True).predict(NEW))


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').system('true')",
        "open('x', 'w')",
        "np.load('x')",
        "np.fromfile('x')",
        "pd.read_pickle('x')",
        "pd.eval('1')",
        "x.to_pickle('x')",
        "x.apply('to_pickle')",
        "x.__class__",
        "np.lib.format",
        "np.where.__globals__",
        "eval('1')",
        "(lambda: 1)()",
        "x.pipe(str)",
        "[y for y in x.to_csv('x')]",
        "x.map(eval)",
        "x.map(input)",
        "__builtins__['eval']",
    ],
)
def test_expressions_that_could_run_code_need_trust(code):
    with pytest.raises(StorageError, match="trust=True"):
        check_expressions([code], {"x", "y"})


@pytest.mark.parametrize(
    "code",
    [
        *("np.log(x)", "x", "C(x, Treatment('b'))", "bs(x, df=4)", "x.dt.month", "I(x ** 2)"),
        *("pd.cut(x, [0, 1])", "x.map(dict(a='q'))", "np.where(x > 1, x, 0)", "Q('odd name')"),
        *("x.str.extract('(A|B)')[0]", "x.astype(str)", "{'a': 1}.get(x)", "-x + y / 2"),
    ],
)
def test_usual_expressions_need_none(code):
    check_expressions([code], {"x", "y"})


@pytest.mark.parametrize("column", ["id", "type", "input", "eval", "reading score"])
def test_columns_may_be_called_like_functions(column):
    check_expressions([column], {column})


# ---------------------------------------------------------------- files that are not fits


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archived:
        return {name: archived.read(name) for name in archived.namelist()}


def sealed(path: Path, members: dict[str, bytes], **manifest) -> Path:
    """Write members with right checksums, as a hostile author would."""
    members = {n: data for n, data in members.items() if n != "manifest.json"}
    listed = {n: [len(data), hashlib.sha256(data).hexdigest()] for n, data in members.items()}
    head = {"format": 1, "mixedfx": "0", "members": listed, **manifest}
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("manifest.json", json.dumps(head))
        for name, data in members.items():
            out.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "fit.mfx"
    kept_fit("slopes").save(path)
    return path


def npy(header: bytes, data: bytes = b"") -> bytes:
    padded = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


HOSTILE_ARRAYS = {
    "huge": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"),
    "overflow": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"),
    "negative": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"),
    "objects": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80\x04N."),
    "records": npy(b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (0,), }"),
    "text": npy(b"{'descr': '<U1', 'fortran_order': False, 'shape': (0,), }"),
    "code": npy(b"__import__('os').abort()"),
    "empty": b"",
}


@pytest.mark.parametrize("kind", HOSTILE_ARRAYS)
def test_hostile_arrays_are_an_error(kind, saved, tmp_path):
    for number in (0, 3):
        members = members_of(saved) | {f"arrays/{number}.npy": HOSTILE_ARRAYS[kind]}
        with pytest.raises(StorageError, match="does not hold a fit"):
            mfx.read(sealed(tmp_path / "bad.mfx", members))


def hostile_models(text: bytes) -> dict[str, bytes]:
    return {
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "empty": b"",
        "null": b"null",
        "nan": text.replace(b'"deviance",', b'"deviance",').replace(b"25.59", b"NaN"),
        "class": text.replace(b'"object":["FittedModel"', b'"object":["os.system"'),
        "kind": text.replace(b'"object":["Design"', b'"subprocess":["Design"'),
        "array": text.replace(b'{"array":1}', b'{"array":-1}'),
        "beyond": text.replace(b'{"array":1}', b'{"array":999999}'),
        "code": text.replace(b'"Days"', b"\"__import__('os').abort()\""),
        "digits": b"1" * 10_000,
        "bytes": b"\xff\xfe\x00",
    }


HOSTILE_MODELS = list(hostile_models(b""))


@pytest.mark.parametrize("kind", HOSTILE_MODELS)
def test_hostile_models_are_an_error(kind, saved, tmp_path):
    members = members_of(saved)
    text = hostile_models(members["model.json"])[kind]
    assert text != members["model.json"]
    with pytest.raises(StorageError, match="does not hold a fit"):
        mfx.read(sealed(tmp_path / "bad.mfx", members | {"model.json": text}))


def test_a_newer_format_says_to_upgrade(saved, tmp_path):
    path = sealed(tmp_path / "new.mfx", members_of(saved), format=2, mixedfx="9.0")
    with pytest.raises(StorageError, match=r"mixedfx 9\.0.*pip install --upgrade mixedfx"):
        mfx.read(path)


@pytest.mark.full
def test_a_compressed_member_is_not_unpacked(saved, tmp_path):
    path = tmp_path / "bomb.mfx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members_of(saved).items():
            out.writestr(name, data)
        out.writestr("arrays/99.npy", bytes(10**8))
    tracemalloc.start()
    with pytest.raises(StorageError, match="compressed"):
        mfx.read(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_members_with_other_names_are_an_error(saved, tmp_path):
    members = members_of(saved) | {"../../evil": b"x"}
    with pytest.raises(StorageError, match="does not hold a fit"):
        mfx.read(sealed(tmp_path / "bad.mfx", members))
    assert [p.name for p in tmp_path.iterdir()] == ["bad.mfx"]


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04N.", b"x" * 1000])
def test_other_files_are_an_error(content, tmp_path):
    (tmp_path / "other.mfx").write_bytes(content)
    with pytest.raises(StorageError, match="does not hold a fit"):
        mfx.read(tmp_path / "other.mfx")


def test_paths_are_checked(tmp_path):
    for path in (tmp_path / "none.mfx", tmp_path):
        with pytest.raises(StorageError, match="cannot be read"):
            mfx.read(path)
    for path in (None, 5, [], ""):
        with pytest.raises(ArgumentError, match="name of a file"):
            mfx.read(path)
    with pytest.raises(StorageError, match="cannot be written"):
        kept_fit("slopes").save(tmp_path / "no" / "folder.mfx")
    for options in ({"functions": 3}, {"functions": {1: abs}}, {"trust": "yes"}):
        with pytest.raises(ArgumentError):
            mfx.read(tmp_path, **options)


def altered(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes flipped, cut, inserted or moved."""
    kind = rng.integers(5)
    a, b = np.sort(rng.integers(0, len(data), 2))
    if kind == 0:
        return data[:a]
    if kind == 1:
        return data[:a] + data[b:]
    if kind == 2:
        return data[:a] + rng.bytes(int(rng.integers(1, 50))) + data[a:]
    if kind == 3:
        return data[:a] + data[b : b + 40] + data[a + 40 :]
    changed = bytearray(data)
    for i in rng.integers(0, len(data), int(rng.integers(1, 4))):
        changed[i] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def read_or_error(path: Path, expected: pd.Series) -> bool:
    """Whether a file is an error of the package; else what it holds is what was written."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = mfx.read(path)
    except StorageError:
        return True
    finally:
        assert time.perf_counter() - began < 5
    assert_same(again.params, expected)
    return False


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.full)])
def test_altered_files_are_an_error_or_unaltered_fits(count, saved, tmp_path):
    rng, data, expected = np.random.default_rng(4), saved.read_bytes(), kept_fit("slopes").params
    path = tmp_path / "bad.mfx"
    errors = 0
    for _ in range(count):
        path.write_bytes(altered(data, rng))
        errors += read_or_error(path, expected)
    assert errors > count / 2


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.full)])
def test_altered_members_with_right_checksums_are_a_fit_or_an_error(count, saved, tmp_path):
    # What such an author writes may be a fit of other numbers; it must not be an error of Python.
    rng, members = np.random.default_rng(5), members_of(saved)
    names = [n for n in members if n != "manifest.json"]
    errors = 0
    for _ in range(count):
        name = "model.json" if rng.random() < 0.5 else names[rng.integers(len(names))]
        changed = members | {name: altered(members[name], rng)}
        path = sealed(tmp_path / "bad.mfx", changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                mfx.read(path)
        except StorageError:
            errors += 1
    assert errors > count / 2


def test_an_array_is_stored_as_it_is():
    arrays = [np.arange(6.0).reshape(2, 3).T, np.array(["a", "bc"]), np.array([], "M8[s]")]
    for array in arrays:
        again = archive._array_of(archive._npy_bytes(array))
        np.testing.assert_array_equal(again, array)
        assert (again.dtype, again.strides) == (array.dtype, array.strides)
    with pytest.raises(ValueError, match="Object arrays"):
        archive._npy_bytes(np.array([io], dtype=object))


def test_columns_are_written_as_arrays(saved):
    # One value at a time, InstEval's 73,421 rows took 11 s; as arrays 0.1 s.
    model = members_of(saved)["model.json"].decode()
    assert '"extension"' not in model
    assert len(model) < 20_000
