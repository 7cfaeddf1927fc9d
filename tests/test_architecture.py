"""The architecture: what may import what, how large a piece may be, and what is documented.

Each rule is one test, which lists all offenders. The order of the packages is that of their
subject: a model's formula and design, its likelihood, estimation, inference, results.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

import mixedfx

PACKAGE = Path(mixedfx.__file__).parent

# A module imports from earlier lines only; what stands in one line does not import each other.
ORDER = [
    {"_names", "_tracebacks", "_late", "_progress"},
    {"errors", "_arrays", "_cached", "_escaping", "_keys", "_warnings"},
    {"_extras"},
    {"linalg", "documents"},
    {
        "covariance",
        "families",
        "plots",
        "formatting",
        "datasets",
        "_deprecation",
        "_other_programs",
        "_workers",
    },
    {"formula", "sources"},
    {"diagrams", "design"},
    {"likelihood"},
    {"residuals"},
    {"priors"},
    {"estimation"},
    {"bayes"},
    {"fit"},
    {"refit", "rebuilding"},
    {"inference"},
    {"storage"},
    {"streamed"},
    {"results"},
    {"api", "workflow", "describe"},
    {"each", "generalized", "meta_analysis", "mixedlm", "power_analysis"},
    {"cross_validation", "sklearn"},
    {"mixedfx"},
    {"_commands"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# What these document is read with help(): the functions and classes of mixedfx.__all__, tables,
# and the contract of covariance structures, which users extend.
PUBLIC_ROOMS = {"mixedfx", "api", "datasets", "describe", "errors", "formatting"}
PUBLIC_ROOMS |= {"covariance", "each", "families", "generalized", "meta_analysis", "mixedlm"}
PUBLIC_ROOMS |= {"cross_validation", "power_analysis", "priors", "results", "sklearn", "workflow"}
MOST_LINES, MOST_CODE, MOST_PARAMETERS, MOST_DOCSTRING = 400, 40, 7, 0.25
# Metaphors that an earlier version used where the field has a term.
RETIRED = (
    "held crossing joint believe widen surface framed several shown calm border corner chart slot"
)

Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """A file of the package, read and parsed once."""

    path: Path
    name: str  # "mixedfx.likelihood.pls"
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """First-level module or package that the file belongs to."""
        return self.name.split(".")[1] if "." in self.name else self.name

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def definitions(self) -> list[Definition]:
        return [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]

    @property
    def functions(self) -> list[ast.FunctionDef]:
        return [n for n in self.definitions if isinstance(n, ast.FunctionDef)]

    @cached_property
    def docstring_lines(self) -> set[int]:
        documented = [n for n in (self.tree, *self.definitions) if ast.get_docstring(n)]
        spans = [(n.body[0].lineno, n.body[0].end_lineno) for n in documented]
        return {line for first, last in spans for line in range(first, last + 1)}

    @cached_property
    def imports(self) -> list[tuple[str, str | None]]:
        """Modules imported, wherever in the file, with the names taken from them."""
        return list(_imports(self.tree))

    @cached_property
    def targets(self) -> set[str]:
        """Modules of the package that the file imports."""
        dotted = [(f"{module}.{name}", module) for module, name in self.imports]
        return {full if full in modules() else module for full, module in dotted} & set(modules())


def _imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or ".", alias.name) for alias in node.names)


def _read(path: Path) -> Module:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(path, name, text, ast.parse(text))


def _listed(offenders: Iterable[object]) -> str:
    return "\n" + "\n".join(map(str, offenders))


@cache
def modules() -> dict[str, Module]:
    """All files of the package, by their dotted names."""
    return {module.name: module for module in map(_read, sorted(PACKAGE.rglob("*.py")))}


# ---------------------------------------------------------------- what imports what


def test_every_module_has_a_place_in_the_order():
    homeless = {module.room for module in modules().values()} - set(RANK)
    assert not homeless, _listed(homeless)


def _is_below(room: str, other: str) -> bool:
    return room == other or RANK[room] < RANK[other]


def test_imports_follow_the_order():
    wrong = [
        f"{module.name} imports {target}"
        for module in modules().values()
        for target in sorted(module.targets)
        if modules()[target].room != module.room
        and RANK[modules()[target].room] >= RANK[module.room]
    ]
    assert not wrong, _listed(wrong)


def test_no_import_is_relative():
    relative = [m.name for m in modules().values() if any(name == "." for name, _ in m.imports)]
    assert not relative, _listed(relative)


def test_no_import_leads_back_to_where_it_began():
    # Inside a package, too, imports have an order.
    circular = []
    for name in modules():
        seen, todo = set(), {name}
        while todo:
            reached = modules()[todo.pop()].targets - seen
            seen |= reached
            todo |= reached
        if name in seen:
            circular.append(name)
    assert not circular, _listed(circular)


LATE = {  # libraries that cost seconds or are optional, and who may import them
    "matplotlib": {"mixedfx.plots", "mixedfx.diagrams.drawing"},
    "statsmodels": {"mixedfx.estimation.statsmodels", "mixedfx.families.statsmodels"},
    "emcee": {"mixedfx.bayes"},
    "arviz_base": {"mixedfx.bayes"},
    "arviz_stats": {"mixedfx.bayes"},
    "sklearn": {"mixedfx.sklearn"},
    "pyarrow": {"mixedfx.design.source", "mixedfx.sources.arrow", "mixedfx.streamed.output"},
}


def test_libraries_have_their_own_importers():
    wrong = [
        f"{module.name} imports {library}"
        for module in modules().values()
        for library in {name.split(".")[0] for name, _ in module.imports} & set(LATE)
        if not any(f"{module.name}.".startswith(f"{home}.") for home in LATE[library])
    ]
    assert not wrong, _listed(wrong)


FIRST_FITS = {
    "lmer": "lmer('Reaction ~ Days + (Days | Subject)', load('sleepstudy'), engine='profiled')",
    "glmer": "glmer('cbind(incidence, size - incidence) ~ period + (1 | herd)', load('cbpp'))",
}
# What of ours neither fits nor their summaries use.
UNUSED = "bayes. diagrams. plots. streamed.fit workflow inference.bootstrap. inference.checks."
UNUSED += " inference.emmeans. inference.profile. inference.validation. linalg.sparse_cholesky."
UNUSED += " covariance.relationship covariance.known_covariance covariance.spatial families.tweedie"
UNUSED += " design.stream.streamed_rows estimation.statsmodels refit"
# Libraries that cost a tenth of a second or more, or are optional.
SLOW = {"scipy.stats", "scipy.interpolate", "scipy.optimize", "scipy.sparse.linalg", "scipy.fft"}
SLOW |= {"scipy.spatial", "scipy.ndimage", "formulaic", "joblib", "tqdm", "tabulate"}
# pandas itself imports pyarrow where it is installed.
SLOW |= set(LATE) - {"pyarrow"} | {"pyarrow.dataset", "polars", "duckdb", "dask"}


def _imported_by(script: str) -> set[str]:
    """Modules that a script has imported at its end, in a new process."""
    listed = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
    run = [sys.executable, "-c", listed + script]
    return set(subprocess.run(run, capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.full
@pytest.mark.parametrize("kind", FIRST_FITS)
def test_a_first_fit_and_its_summary_import_what_they_use(kind):
    script = (
        f"import mixedfx as mfx; load = mfx.datasets.load; str(mfx.{FIRST_FITS[kind]}.summary())"
    )
    unused = tuple(f"mixedfx.{part}" for part in UNUSED.split())
    imported = _imported_by(script)
    assert "mixedfx.results.summary" in imported
    early = [name for name in imported if name in SLOW or name.startswith(unused)]
    assert not early, _listed(early)


HELP = "from mixedfx.cli import main; main(['fit', '--help'])"


@pytest.mark.parametrize("script", ["import mixedfx", HELP])
def test_neither_the_package_nor_the_help_imports_what_fits_use(script):
    imported = _imported_by(script)
    assert {"mixedfx", "scipy.special"} <= imported
    used_by_fits = SLOW | {"pandas", "patsy", "pyarrow", "scipy.linalg"}
    used_by_fits |= {f"mixedfx.{part}" for part in ("api", "design", "likelihood", "results")}
    assert not imported & used_by_fits, _listed(imported & used_by_fits)


@pytest.mark.full
def test_the_package_imports_what_a_name_stands_for_when_it_is_used():
    script = (
        "import sys, mixedfx as mfx; print('pandas' in sys.modules, 'patsy' in sys.modules);"
        "mfx.lmer, mfx.families, mfx.linalg; print('pandas' in sys.modules)"
    )
    run = [sys.executable, "-c", script]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "False", "True"]


# ---------------------------------------------------------------- size


def test_modules_are_short():
    lengths = {m.name: len(m.lines) for m in modules().values()}
    long = {name: n for name, n in lengths.items() if n > MOST_LINES}
    assert not long, _listed(long.items())


def _lines_of_code(module: Module, function: ast.FunctionDef) -> int:
    numbers = set(range(function.lineno, function.end_lineno + 1)) - module.docstring_lines
    texts = (module.lines[number - 1].strip() for number in numbers)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def test_functions_are_short():
    lengths = {
        f"{m.name}.{f.name}": _lines_of_code(m, f) for m in modules().values() for f in m.functions
    }
    long = {name: n for name, n in lengths.items() if n > MOST_CODE}
    assert not long, _listed(long.items())


def test_functions_have_few_parameters():
    found = {}
    for module in modules().values():
        for function in module.functions:
            a = function.args
            names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            found[f"{module.name}.{function.name}"] = len(set(names) - {"self", "cls"})
    many = {name: n for name, n in found.items() if n > MOST_PARAMETERS}
    # Options as lme4's lmer and glmer, and emmeans take them, also of plots; what a prediction can
    # be of.
    options = (
        "api.lmer each.lmer_each generalized.glmer power_analysis.power "
        "results.estimates.predict results.hypothesis_tests.emmeans "
        "results.marginal_effects.comparisons results.marginal_effects.predictions "
        "results.marginal_effects.slopes "
        "results.mean_plots.means results.mean_plots.predictions "
        "results.simulation.bootstrap sklearn.regressor.__init__"
    )
    for function in options.split():
        many.pop(f"mixedfx.{function}")
    assert not many, _listed(many.items())


def test_docstrings_are_at_most_a_quarter_of_the_lines():
    sizes: dict[str, list[int]] = {}
    for module in modules().values():
        # Public objects carry the whole of their documentation: their rooms count in the total.
        rooms = ["mixedfx"] if module.room in PUBLIC_ROOMS else ["mixedfx", module.room]
        for room in rooms:
            total = sizes.setdefault(room, [0, 0])
            total[0] += len(module.docstring_lines)
            total[1] += len(module.lines)
    shares = {room: round(documented / lines, 3) for room, (documented, lines) in sizes.items()}
    large = {room: share for room, share in shares.items() if share > MOST_DOCSTRING}
    assert not large, _listed(large.items())


# ---------------------------------------------------------------- names and values


def test_no_retired_word_names_a_module_class_or_function():
    top = (ast.FunctionDef, ast.ClassDef)
    named = [
        f"{module.name}: {name}"
        for module in modules().values()
        for name in (
            module.name.split(".")[-1],
            *(d.name for d in module.tree.body if isinstance(d, top)),
        )
        if name.strip("_").lower() in RETIRED.split()
    ]
    assert not named, _listed(named)


def test_values_are_kept_without_a_lock():
    lock = ("functools", "cached_property")
    found = [m.name for m in modules().values() if lock in m.imports and m.room != "_cached"]
    assert not found, f"take mixedfx._cached.cached_property in:{_listed(found)}"


def test_every_dataclass_is_frozen():
    mutable = []
    for module in modules().values():
        for definition in module.definitions:
            decorators = [ast.unparse(d) for d in definition.decorator_list]
            if any(d.startswith("dataclass") and "frozen=True" not in d for d in decorators):
                mutable.append(f"{module.name}.{definition.name}")
    assert not mutable, _listed(mutable)


def _loaded(name: str) -> types.ModuleType:
    return importlib.import_module(name)


def test_all_is_sorted_and_exists():
    wrong = []
    for name in [name for name, module in modules().items() if "\n__all__ = " in module.text]:
        module = _loaded(name)
        if name == "mixedfx" and module.__all__ != sorted(module.__all__):
            wrong.append(f"{name}: not sorted")
        wrong += [f"{name}.{n} does not exist" for n in module.__all__ if not hasattr(module, n)]
    assert not wrong, _listed(wrong)


def test_all_of_the_package_names_what_is_there():
    here = {
        name
        for name, value in vars(mixedfx).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    missing = here - set(mixedfx.__all__)
    assert not missing, _listed(missing)


def test_the_drawn_tree_of_errors_is_that_of_the_classes():
    drawn = set(re.findall(r"^\W*([A-Z]\w+)\b", mixedfx.errors.__doc__, re.MULTILINE))
    defined = {
        d.name
        for module in modules().values()
        for d in module.definitions
        if isinstance(d, ast.ClassDef) and not d.name.startswith("_") and _is_exception(module, d)
    }
    undrawn = defined - drawn
    assert not undrawn, _listed(undrawn)
    roots = (mixedfx.errors.MixedfxError, mixedfx.errors.MixedfxWarning)
    ends = ("Error", "Warning", "Refusal", "Disagreement")
    names = [name for name in drawn if name.endswith(ends)]
    unknown = [n for n in names if not issubclass(getattr(mixedfx.errors, n, object), roots)]
    assert not unknown, _listed(unknown)


def _is_exception(module: Module, definition: ast.ClassDef) -> bool:
    value = getattr(_loaded(module.name), definition.name, object)
    return isinstance(value, type) and issubclass(value, BaseException)


# ---------------------------------------------------------------- documentation


def _sections(value: object) -> dict[str, str]:
    """A docstring's sections by title."""
    parts = re.split(r"^(\w[\w ]*)\n-+\n", inspect.getdoc(value) or "", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def _documented(section: str) -> list[str]:
    """Names that a Parameters section documents: lines that are not indented, before the colon."""
    heads = re.findall(r"^(\S[^:\n]*?)(?: *:.*)?$", section, flags=re.MULTILINE)
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def _parameters(function: object) -> list[str]:
    return [n for n in inspect.signature(function).parameters if n not in ("self", "cls")]


def _gives_something(function: object) -> bool:
    returned = inspect.signature(function).return_annotation
    return returned not in (None, "None", "NoReturn", inspect.Signature.empty)


def _is_alias(function: object) -> bool:
    """Whether a function refers to another for its documentation."""
    return re.search(r"(another|former) name", inspect.getdoc(function) or "", re.I) is not None


def _is_ours(value: object) -> bool:
    return getattr(value, "__module__", "").split(".")[0] == "mixedfx"


def _methods(cls: type) -> dict[str, object]:
    """Public functions of a class, inherited ones too, by qualified name."""
    names = [name for name in dir(cls) if not name.startswith("_")]
    values = {name: inspect.getattr_static(cls, name) for name in names}
    functions = {n: getattr(v, "__func__", v) for n, v in values.items()}
    return {
        f"{cls.__name__}.{name}": value
        for name, value in functions.items()
        if inspect.isfunction(value) and _is_ours(value)
    }


def _classes_in(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type) and _is_ours(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _classes_in(part)


@cache
def _names_of_annotations(name: str) -> dict[str, object]:
    """What a module imports for type checkers only."""
    guarded = [n for n in modules()[name].tree.body if isinstance(n, ast.If)]
    imported = (pair for node in guarded for pair in _imports(node))
    return {n: getattr(_loaded(module), n) for module, n in imported if n is not None}


def _returned(function: object) -> set[type]:
    hints = typing.get_type_hints(function, localns=_names_of_annotations(function.__module__))
    return {c for c in _classes_in(hints.get("return")) if not c.__name__.startswith("_")}


@cache
def _public() -> tuple[dict[str, object], dict[str, type]]:
    """Functions and classes that users meet: exported, or returned by what is exported."""
    modules = [mixedfx, mixedfx.datasets, mixedfx.priors]
    exported = [getattr(module, name) for module in modules for name in module.__all__]
    functions = {f.__name__: f for f in exported if inspect.isfunction(f)}
    todo = {c for c in exported if inspect.isclass(c)}
    todo |= {c for f in functions.values() for c in _returned(f)}
    todo -= {getattr(mixedfx.priors, name) for name in mixedfx.priors.__all__}  # their arguments
    classes: dict[str, type] = {}
    while todo:
        cls = todo.pop()
        classes[cls.__name__] = cls
        for name, method in _methods(cls).items():
            functions[name] = method
            todo |= {c for c in _returned(method) if c.__name__ not in classes}
    return functions, classes


def test_every_module_and_every_public_object_has_a_docstring():
    functions, classes = _public()
    silent = [m.name for m in modules().values() if not ast.get_docstring(m.tree)]
    silent += [name for name, v in {**functions, **classes}.items() if not inspect.getdoc(v)]
    assert not silent, _listed(silent)


def test_public_functions_document_their_parameters_in_order():
    wrong = [
        f"{name}({', '.join(_parameters(f))})"
        for name, f in _public()[0].items()
        if _documented(_sections(f).get("Parameters", "")) != _parameters(f) and not _is_alias(f)
    ]
    assert not wrong, _listed(wrong)


def test_public_functions_document_what_they_return():
    silent = [
        name
        for name, f in _public()[0].items()
        if _gives_something(f) and "Returns" not in _sections(f) and not _is_alias(f)
    ]
    assert not silent, _listed(silent)


def test_what_is_exported_has_an_example():
    modules = [mixedfx, mixedfx.datasets, mixedfx.priors]
    exported = {f"{m.__name__}.{n}": getattr(m, n) for m in modules for n in m.__all__}
    silent = [
        name
        for name, value in exported.items()
        if inspect.isfunction(value) or inspect.isclass(value)
        if ">>>" not in _sections(value).get("Examples", "")
    ]
    assert not silent, _listed(silent)
