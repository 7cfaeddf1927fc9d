"""Names of variables and effects, parsed from the Python code of a formula's terms.

Code such as ``C(f, Sum)`` or ``np.log(x)`` is parsed without data, so a formula
and its fit show the same names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mixedfx._names import decode

INTERCEPT = "Intercept"

# Names before a dot that are modules, not columns.
_MODULES = {"math", "np", "numpy", "pandas", "pd", "scipy", "sp", "special", "stats"}


def display_name(code: str) -> str:
    """Strip patsy's ``C()`` and ``I()`` from the name of a factor or column."""
    wrapper = code[:2]
    for end in range(len(code), 2, -1) if wrapper in ("C(", "I(") else ():
        try:
            call = ast.parse(code[:end].strip(), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if not isinstance(call, ast.Call) or not call.args:
            continue
        argument, suffix = call.args[0], code[end:]
        name = display_name(ast.unparse(argument))
        return f"({name}){suffix}" if wrapper == "I(" else name + suffix
    return decode(code)


def split_interaction(name: str) -> list[str]:
    """Split the name of an interaction at the colons outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in name:
        if quote or (c in "'\"" and depth):
            quote = "" if c == quote else quote or c
        else:
            depth += (c in "([{") - (c in ")]}")
        if c == ":" and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts if all(parts) else [name]


def column_names_in(node: ast.AST) -> Iterator[str]:
    """Find the names in an expression that denote columns."""
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if isinstance(node.func, ast.Attribute):
            yield from column_names_in(node.func)
        # Further arguments of C() are contrasts, and keywords of any function are settings.
        for argument in node.args[:1] if function == "C" else node.args:
            yield from column_names_in(argument)
    elif isinstance(node, ast.Attribute):
        yield from (n for n in column_names_in(node.value) if n not in _MODULES)
    elif isinstance(node, ast.Name):
        yield decode(node.id)
    else:
        for child in ast.iter_child_nodes(node):
            yield from column_names_in(child)
