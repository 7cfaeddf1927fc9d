"""Tracebacks of the package's errors in IPython and notebooks: the caller's lines, the message."""

from __future__ import annotations

import sys
import traceback
from typing import Any

_FULL = "Verbose"  # of IPython's %xmode


def short_traceback(error: BaseException) -> list[str]:
    """Lines that IPython shows: the caller's frames up to the package; all with %xmode Verbose."""
    shell = _shell()
    interactive = getattr(shell, "InteractiveTB", None)
    if interactive is not None and getattr(interactive, "mode", None) == _FULL:
        lines = interactive.structured_traceback(
            type(error), error, error.__traceback__, tb_offset=getattr(interactive, "tb_offset", 0)
        )
        return [str(line) for line in lines]
    lines = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module == "mixedfx" and lines:
            break
        if module in ("IPython", "ipykernel", "mixedfx"):
            continue
        code = frame.f_code
        summary = traceback.FrameSummary(code.co_filename, line, code.co_name)
        lines.append(f"{_place(shell, summary)}\n    {summary.line}")
    notes = getattr(error, "__notes__", ())
    return [*lines, "", f"{type(error).__name__}: {error}", *map(str, notes)]


def _shell() -> Any:
    """Return the running IPython; None outside."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _place(shell: Any, frame: traceback.FrameSummary) -> str:
    """Cell or file, line and function."""
    named = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)
    kind, name = named(frame.filename) or ("File", f'"{frame.filename}"')
    function = "" if frame.name == "<module>" else f", in {frame.name}"
    return f"{kind} {name}, line {frame.lineno}{function}"
