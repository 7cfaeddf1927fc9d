"""Code to names: what a reader calls a term's factors, its effects and their columns.

A formula's terms are Python, as patsy evaluates it: ``C(f, Sum)``, ``Q('odd name')``,
``np.log(x)``. What goes in is such text, what comes out is the names in it; the one idea is
that text alone decides, so that a model without data is told in the same words as a fit.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

INTERCEPT = "Intercept"

# Names before a dot that are modules, not columns.
_MODULES = {"math", "np", "numpy", "pandas", "pd", "scipy", "sp", "special", "stats"}


def plain(code: str) -> str:
    """Spell a column as a reader knows it: without patsy's ``Q()``, ``C()`` and ``I()``."""
    called = code[:2]
    for end in range(len(code), 2, -1) if called in ("Q(", "C(", "I(") else ():
        try:
            call = ast.parse(code[:end].strip(), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if not isinstance(call, ast.Call) or not call.args:
            continue
        inside, rest = call.args[0], code[end:]
        if called == "Q(" and isinstance(inside, ast.Constant):
            return str(inside.value) + rest
        text = plain(ast.unparse(inside))
        return f"({text}){rest}" if called == "I(" else text + rest
    return code


def split(name: str) -> list[str]:
    """Take the name of an interaction apart."""
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


def columns_of(node: ast.AST) -> Iterator[str]:
    """Find the names in an expression that are columns, as far as the text tells."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called == "Q":
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
            return
        if isinstance(node.func, ast.Attribute):
            yield from columns_of(node.func)
        # Further arguments of C() are contrasts, and keywords of any function are settings.
        for part in node.args[:1] if called == "C" else node.args:
            yield from columns_of(part)
    elif isinstance(node, ast.Attribute):
        yield from (n for n in columns_of(node.value) if n not in _MODULES)
    elif isinstance(node, ast.Name):
        yield node.id
    else:
        for child in ast.iter_child_nodes(node):
            yield from columns_of(child)
