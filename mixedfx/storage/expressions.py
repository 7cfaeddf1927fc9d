"""Expressions of a formula that are read from a file: which of them are harmless.

A formula is Python code, and predictions evaluate it. Without ``trust``, only the columns of the
data, the functions that every formula knows, and the attributes below occur in it; none of them
reads or writes files, or calls what it is given by name.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

import numpy as np
import patsy.builtins

from mixedfx._names import encode
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.design.functions import FORMULA_FUNCTIONS
from mixedfx.design.serialization import environment_values
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import StorageError
from mixedfx.formula.positions import position_codes
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

# Modules whose functions are computed with, not run: of numpy, see _NUMPY; of pandas, see _PANDAS.
KNOWN_MODULES = {"numpy": "np", "pandas": "pd"}

_BUILTINS = {"abs", "bool", "dict", "float", "int", "len", "list", "max", "min", "round", "str"}
_BUILTINS |= {"False", "None", "True", "range", "set", "slice", "sorted", "sum", "tuple", "zip"}
_NUMPY = {"pi", "e", "inf", "nan", "where", "clip", "select", "digitize", "isin", "array"}
_NUMPY |= {"mean", "median", "std", "var", "min", "max", "sum", "round", "asarray", "float64"}
_NUMPY |= {"int64", "int32", "float32", "bool_", "linspace", "arange", "interp", "polyval"}
_NUMPY |= {"quantile", "percentile", "nan_to_num", "piecewise", "heaviside", "cumsum", "unique"}
_PANDAS = {"cut", "qcut", "Categorical", "to_numeric", "to_datetime", "isna", "notna", "factorize"}
_PANDAS |= {"Timestamp", "Timedelta", "Interval", "Series", "NA", "NaT"}
_METHODS = {"abs", "add", "astype", "between", "clip", "codes", "cat", "contains", "day", "days"}
_METHODS |= {"dayofweek", "dayofyear", "diff", "div", "dt", "endswith", "eq", "extract", "fillna"}
_METHODS |= {"floor", "ge", "get", "gt", "hour", "isin", "isna", "is_month_end", "is_month_start"}
_METHODS |= {"le", "left", "len", "lower", "lstrip", "lt", "map", "mask", "max", "mean", "median"}
_METHODS |= {"mid", "min", "minute", "mod", "month", "mul", "ne", "normalize", "notna", "pow"}
_METHODS |= {"quantile", "quarter", "rank", "replace", "right", "round", "rstrip", "second"}
_METHODS |= {"seconds", "size", "slice", "split", "startswith", "std", "str", "strip", "sub"}
_METHODS |= {"sum", "title", "total_seconds", "upper", "values", "var", "weekday", "where", "year"}
_METHODS |= {"rename_categories", "reorder_categories", "set_categories", "T", "shape", "zfill"}
# Names that are no columns, whatever the file says, unless they stand alone.
_DANGEROUS = {"breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals"}
_DANGEROUS |= {"help", "input", "locals", "memoryview", "open", "quit", "setattr", "vars"}


def check_formula(spec: ModelSpec, consented: set[str]) -> None:
    """Raise StorageError for an expression of a model that a file may not bring along."""
    # Values in the environment are plain, or were consented to when they were read.
    names = consented | set(environment_values(spec.env)) | _columns_of(spec)
    infos = [spec.fixed_info, *(term.info for term in spec.random_terms)]
    formulas: list[Formula] = [spec.formula]
    if isinstance(spec.residual, DispersionSpec):
        infos.append(spec.residual.info)
        formulas.append(spec.residual.formula)
        names |= set(environment_values(spec.residual.env))
    codes = [f.name() for info in infos if info is not None for f in info.factor_infos]
    codes += [code for f in formulas for code in response_code(f.response).parts]
    codes += [factor for f in formulas for term in f.random for factor in term.group]
    codes += [
        code
        for term in spec.random_terms
        if term.positions is not None
        for code in position_codes(term.formula_term.effects)
    ]
    check_expressions(codes, names)


def _columns_of(spec: ModelSpec) -> set[str]:
    """Columns of the data; of a dispersion formula the factors that are one."""
    columns = set(map(encode, spec.variables))
    if isinstance(spec.residual, DispersionSpec):
        columns |= {f.name() for f in spec.residual.info.factor_infos}
    return columns


def check_expressions(codes: Iterable[str], columns: set[str]) -> None:
    """Raise StorageError for the first expression with a name or attribute that is not known."""
    names = columns | _BUILTINS | set(FORMULA_FUNCTIONS) | set(patsy.builtins.__all__)
    for code in codes:
        try:
            tree = ast.parse(code, mode="eval").body
        except SyntaxError:  # a column by its name, such as 'reading score': never evaluated
            continue
        for node in ast.walk(tree):
            seen = _refused(node, names)
            if seen is not None and not (node is tree and isinstance(node, ast.Name)):
                raise StorageError(
                    f"its formula has '{code:.80}', and {seen} could run code of the file's "
                    "author. If you trust the file, read it with trust=True"
                )


def _refused(node: ast.AST, names: set[str]) -> str | None:
    """What in a node of an expression is not known to be harmless."""
    if isinstance(node, ast.Name):
        # Other names are columns of new data, or undefined.
        unknown = node.id.startswith("_") or hasattr(builtins, node.id)
        dangerous = node.id in _DANGEROUS or (unknown and node.id not in names)
        return f"'{node.id}'" if dangerous else None
    if isinstance(node, ast.Attribute) and not _is_harmless(node):
        return f"'.{node.attr}'"
    if isinstance(node, ast.Lambda | ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
        return f"a {type(node).__name__.lower()}"
    return None


def _is_harmless(node: ast.Attribute) -> bool:
    owner = node.value.id if isinstance(node.value, ast.Name) else None
    if owner == "np":
        return node.attr in _NUMPY or isinstance(getattr(np, node.attr, None), np.ufunc)
    if owner == "pd":
        return node.attr in _PANDAS
    return node.attr in _METHODS
