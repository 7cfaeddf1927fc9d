"""Values of expressions that are known before patsy evaluates a formula."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any


def known_values(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values of expressions that are known beside some columns, by their code."""
    return getattr(variables, "evaluated", {})


def with_known_values(code: str, known: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Replace the parts of an expression whose value is known by names, given with their values."""
    if not any(text in code for text in known):
        return code, {}
    taken: dict[str, Any] = {}

    class Replace(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            text = ast.unparse(node)
            if text not in known:
                return self.generic_visit(node)
            name = f"_value{len(taken)}_"
            taken[name] = known[text]
            return ast.Name(name, ast.Load())

    return ast.unparse(Replace().visit(ast.parse(code, mode="eval"))), taken


def is_box(value: Any) -> bool:
    """Whether a value is that of patsy's ``C()``."""
    return type(value).__name__ == "_CategoricalBox"
