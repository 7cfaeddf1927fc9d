"""The house: what is public is true and documented, and imports point down only.

Source of truth: design section 2 (the levels, and who may import what), and numpydoc's sections.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import types
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import mixedfx
import mixedfx.factor

PACKAGE = Path(mixedfx.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports from lower levels only. Modules of one level know nothing of each other, but
# for crossprod, which reads a design; those of one folder are one thing.
LEVELS = {
    "__init__": 13,
    "cli": 13,
    "several": 12,
    "shown": 12,
    "model": 11,
    "results": 10,
    "inference": 9,
    "predict": 9,
    "refit": 9,
    "fitting": 8,
    "posterior": 7,
    "engines": 6,
    "joint": 5,
    "known": 5,
    "simulate": 5,
    "fit": 4,
    "criterion": 3,
    "beliefs": 3,
    "dispersion": 3,
    "strata": 3,
    "crossprod": 2,
    "design": 2,
    "drawing": 3,
    "equations": 3,
    "dag": 2,
    "priors": 1,
    "formula": 1,
    "covariance": 1,
    "factor": 1,
    "summary": 1,
    "plots": 1,
    "datasets": 1,
    "frozen": 0,
    "threads": 0,
    "errors": 0,
}
SAME_LEVEL = {("crossprod", "design")}
# Each of these costs seconds, or ties the code to its ways: one place for each.
IMPORTERS = {
    "patsy": {"design", "formula", "model", "several", "shown"},
    "statsmodels": {"engines/statsmodels"},
    "matplotlib": {"plots", "drawing"},
}


def name_of(file):
    """A file's path inside the package: ``engines/profiled``."""
    return file.relative_to(PACKAGE).with_suffix("").as_posix()


def home_of(name):
    """Module of the first floor that a path or a dotted name belongs to."""
    return re.split(r"[/.]", name)[0]


def imports_of(file):
    """Dotted names that a file imports, wherever in it, with the names taken from them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from ((node.module, alias.name) for alias in node.names)


def inner_imports_of(file):
    """First-floor modules of mixedfx that a file imports."""
    for module, taken in imports_of(file):
        if module == "mixedfx":
            yield taken if taken in LEVELS else "__init__"
        elif module.startswith("mixedfx."):
            yield home_of(module.removeprefix("mixedfx."))


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


# ---------------------------------------------------------------- who imports whom


@every_file
def test_every_module_has_a_level(file):
    assert home_of(name_of(file)) in LEVELS


@every_file
def test_imports_point_down(file):
    mine = home_of(name_of(file))
    wrong = [
        other
        for other in inner_imports_of(file)
        if other != mine and (mine, other) not in SAME_LEVEL and LEVELS[other] >= LEVELS[mine]
    ]
    assert wrong == []


def file_of(dotted_name):
    """File of a module of mixedfx; None for what is no module."""
    path = PACKAGE.parent / Path(*dotted_name.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found in FILES else None


@every_file
def test_no_import_leads_back_to_where_it_began(file):
    # Inside a folder, too, imports have an order.
    seen, todo = set(), [file]
    while todo:
        for module, taken in imports_of(todo.pop()):
            found = file_of(f"{module}.{taken}") or file_of(module)
            if found is not None and found not in seen:
                seen.add(found)
                todo.append(found)
    assert file not in seen


@pytest.mark.parametrize("library", IMPORTERS)
def test_only_its_own_files_import_a_library(library):
    importers = {
        name_of(file)
        for file in FILES
        if any(module.split(".")[0] == library for module, _ in imports_of(file))
    }
    allowed = IMPORTERS[library]
    assert {name for name in importers if not {name, home_of(name)} & allowed} == set()


def test_the_model_takes_only_the_callers_environment_from_patsy():
    taken = {name for module, name in imports_of(PACKAGE / "model.py") if module == "patsy"}
    assert taken == {"EvalEnvironment"}


@every_file
def test_no_module_is_called_like_a_public_function(file):
    functions = {n for n in mixedfx.__all__ if inspect.isfunction(getattr(mixedfx, n))}
    assert file.stem not in functions


@every_file
def test_no_module_is_called_by_nothing(file):
    assert file.stem not in {"utils", "util", "base", "common", "helpers", "misc"}


def loaded_after(script):
    run = [sys.executable, "-c", f"{script}; import sys; print(*sys.modules)"]
    return set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def loaded_by_import():
    return loaded_after("import mixedfx")


@pytest.mark.parametrize("library", ["statsmodels", "matplotlib"])
def test_importing_mixedfx_does_not_import(loaded_by_import, library):
    assert library not in loaded_by_import


def test_a_profiled_fit_does_not_import_statsmodels():
    script = (
        "import mixedfx as mfx; data = mfx.datasets.load('sleepstudy');"
        "mfx.lmer('Reaction ~ Days + (Days | Subject)', data, engine='profiled').summary()"
    )
    assert "statsmodels" not in loaded_after(script)


# ---------------------------------------------------------------- public names


def test_all_is_sorted():
    assert mixedfx.__all__ == sorted(mixedfx.__all__)


@pytest.mark.parametrize("name", mixedfx.__all__)
def test_all_names_exist(name):
    assert hasattr(mixedfx, name)


def test_all_names_what_is_there():
    here = {
        name
        for name, value in vars(mixedfx).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert here <= set(mixedfx.__all__)


def test_a_star_import_gives_the_public_names():
    space = {}
    exec("from mixedfx import *", space)
    assert {n for n in space if n != "__builtins__"} == set(mixedfx.__all__)


# ---------------------------------------------------------------- docstrings


def dotted(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public_members(owner):
    """Functions and classes that a module defines and does not hide, by qualified name."""
    for name, value in vars(owner).items():
        own = getattr(value, "__module__", None) == owner.__name__
        if (
            own
            and not name.startswith("_")
            and (inspect.isfunction(value) or inspect.isclass(value))
        ):
            yield f"{owner.__name__}.{name}", value


def methods_of(name, cls):
    """Public methods and properties that a class defines itself."""
    for attribute, value in vars(cls).items():
        if attribute.startswith("_"):
            continue
        inner = getattr(value, "func", value)  # a cached property holds its function
        if isinstance(value, property) or inspect.isfunction(inner):
            yield f"{name}.{attribute}", value


MODULES = [importlib.import_module(dotted(file)) for file in FILES]
MEMBERS = dict(member for module in MODULES for member in public_members(module))
FUNCTIONS = {name: f for name, f in MEMBERS.items() if inspect.isfunction(f)}
# What other modules use. The kernels inside a folder say their shapes in one line.
OPEN = {
    name: f
    for name, f in FUNCTIONS.items()
    if not f.__module__.startswith("mixedfx.factor.") or f.__name__ in mixedfx.factor.__all__
}
CLASSES = {name: c for name, c in MEMBERS.items() if inspect.isclass(c)}
METHODS = dict(m for name, cls in CLASSES.items() for m in methods_of(name, cls))
EXPORTED = {
    f"mixedfx.{name}": getattr(mixedfx, name)
    for name in mixedfx.__all__
    if not isinstance(getattr(mixedfx, name), types.ModuleType)
}
EXPORTED_METHODS = dict(
    m for name, v in EXPORTED.items() if inspect.isclass(v) for m in methods_of(name, v)
)
# What a user can call: everything that is exported, and the methods of its classes.
CALLED = {n: v for n, v in {**EXPORTED, **EXPORTED_METHODS}.items() if inspect.isfunction(v)}


def sections_of(value):
    """A docstring's sections by title, each as text."""
    lines = (inspect.getdoc(value) or "").splitlines()
    found, title = {}, ""
    for i, line in enumerate(lines):
        under = lines[i + 1] if i + 1 < len(lines) else ""
        if line.strip() and under and set(under) == {"-"}:
            title = line.strip()
        elif not (line and set(line) == {"-"}):
            found[title] = found.get(title, "") + line + "\n"
    return found


def documented_in(section):
    """Names that a Parameters section documents: lines that are not indented, before the colon."""
    heads = re.findall(r"^(\S[^:\n]*?)(?: *:.*)?$", section, flags=re.MULTILINE)
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def parameters_of(function):
    names = list(inspect.signature(function).parameters)
    return [n for n in names if n not in ("self", "cls")]


def gives_something(function):
    returned = inspect.signature(function).return_annotation
    return returned not in (None, "None", "NoReturn", inspect.Signature.empty)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_every_module_says_what_it_is(module):
    assert (module.__doc__ or "").strip()


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *METHODS])
def test_everything_public_says_what_it_is(name):
    value = {**FUNCTIONS, **CLASSES, **METHODS}[name]
    assert (getattr(value, "__doc__", None) or "").strip()


@pytest.mark.parametrize("name", [n for n, f in OPEN.items() if parameters_of(f)])
def test_functions_document_their_parameters_in_order(name):
    found = documented_in(sections_of(OPEN[name]).get("Parameters", ""))
    assert found == parameters_of(OPEN[name])


@pytest.mark.parametrize("name", [n for n, f in OPEN.items() if gives_something(f)])
def test_functions_document_what_they_return(name):
    assert {"Returns", "Yields"} & set(sections_of(OPEN[name]))


@pytest.mark.parametrize("name", [n for n, f in CALLED.items() if parameters_of(f)])
def test_what_a_user_calls_documents_its_parameters_in_order(name):
    found = documented_in(sections_of(CALLED[name]).get("Parameters", ""))
    assert found == parameters_of(CALLED[name])


@pytest.mark.parametrize("name", [n for n, f in CALLED.items() if gives_something(f)])
def test_what_a_user_calls_documents_what_it_returns(name):
    assert "Returns" in sections_of(CALLED[name])


@pytest.mark.parametrize("name", [n for n, c in CLASSES.items() if is_dataclass(c)])
def test_dataclasses_document_their_fields(name):
    shown = [f.name for f in fields(CLASSES[name]) if not f.name.startswith("_")]
    found = documented_in(sections_of(CLASSES[name]).get("Parameters", ""))
    assert [n for n in shown if n not in found] == []


@pytest.mark.parametrize("name", [n for n, c in CLASSES.items() if is_dataclass(c)])
def test_dataclasses_are_frozen(name):
    assert CLASSES[name].__dataclass_params__.frozen


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_exported_has_an_example(name):
    assert ">>>" in sections_of(EXPORTED[name]).get("Examples", "")


@pytest.mark.parametrize("name", mixedfx.datasets.__all__)
def test_what_an_exported_module_exports_has_an_example(name):
    function = getattr(mixedfx.datasets, name)
    assert ">>>" in sections_of(function).get("Examples", "")


@pytest.mark.parametrize("cls", [c for c in CLASSES.values() if issubclass(c, BaseException)])
def test_every_error_and_warning_is_in_the_drawn_tree(cls):
    # The docstring of errors.py draws it, one name a line.
    assert re.search(rf"\b{cls.__name__}\b", mixedfx.errors.__doc__)


@pytest.mark.parametrize(
    "name",
    re.findall(r"^\W*(\w+(?:Error|Warning|Refusal|Disagreement))\b", mixedfx.errors.__doc__, re.M),
)
def test_every_name_in_the_drawn_tree_exists(name):
    assert issubclass(
        getattr(mixedfx.errors, name), mixedfx.errors.MixedfxError | mixedfx.errors.MixedfxWarning
    )
