"""What a fit without rows keeps of them: their number, and summaries of the size of the model.

A function of a fit that reads rows, and whose value is small, is decorated with
:func:`summary_of_rows`; a fit without rows has the value. Everything else that reads rows raises
:class:`~mixedfx.errors.RowsNotInMemory`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, TypeVar

from mixedfx.design.residual import ResidualRows
from mixedfx.design.rows import RandomTermRows
from mixedfx.errors import RowsNotInMemory

T = TypeVar("T")


def summary_of_rows(name: str) -> Callable[[Callable[[Any], T]], Callable[[Any], T]]:
    """Decorate a function of a fit whose value a fit without rows keeps, under a name."""

    def decorate(function: Callable[[Any], T]) -> Callable[[Any], T]:
        @functools.wraps(function)
        def summary(fit: Any) -> T:
            value: T = fit.rows.summarized(name, lambda: function(fit))
            return value

        return summary

    return decorate


_SLIM = (
    "this fit has none: fit.slim() left them out. Keep the full fit for it, in memory or by "
    "fit.save()."
)


@dataclass(frozen=True)
class SlimRows:
    """Stands for the rows of a fit without them."""

    in_memory: ClassVar[bool] = False
    reason: ClassVar[str] = _SLIM  # why there are no rows, and what to do

    n: int
    n_dropped: int
    has_weights: bool
    has_offset: bool
    residual: ResidualRows
    summaries: Mapping[str, Any]
    n_merged: int = field(default=0, kw_only=True)  # rows of the data beyond n, equal to others

    def summarized(self, name: str, compute: Callable[[], Any]) -> Any:
        """Summary that was kept."""
        if name not in self.summaries:
            raise_without_rows(self.reason)
        return self.summaries[name]

    def as_given(self, prior_weights: Callable[[], Any]) -> SlimRows:
        """The same, where there were no weights."""
        prior_weights()
        return self

    @property
    def has_file(self) -> bool:
        """Whether all rows are in a file."""
        return False

    def without_file(self) -> SlimRows:
        """The same without a file of rows: there is none."""
        return self

    @property
    def weights(self) -> None:
        """None where there were no weights."""
        if self.has_weights:
            raise_without_rows(self.reason)

    @property
    def offset(self) -> None:
        """None where there was no offset."""
        if self.has_offset:
            raise_without_rows(self.reason)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what needs rows."""
        _refuse(self, name, type(self).reason)


@dataclass(frozen=True)
class SlimResidualRows(ResidualRows):
    """Stands for the rows of a residual model."""

    random_terms: tuple[RandomTermRows, ...]  # their factors, without rows
    summaries: Mapping[str, Any]

    def summarized(self, name: str, compute: Callable[[], Any]) -> Any:
        """Summary that was kept."""
        if name not in self.summaries:
            raise_without_rows()
        return self.summaries[name]

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what needs rows."""
        _refuse(self, name, _SLIM)


def _refuse(rows: SlimRows | SlimResidualRows, name: str, reason: str) -> NoReturn:
    if name.startswith("__") or name in type(rows).__dataclass_fields__:
        raise AttributeError(name)  # asked for by copy and pickle
    raise_without_rows(reason)


def raise_without_rows(reason: str = _SLIM) -> NoReturn:
    """Raise RowsNotInMemory, which names what the caller asked for."""
    raise RowsNotInMemory(f"{_asked_for()} needs the rows, and {reason}")


def _asked_for() -> str:
    """Name of the outermost function of the package that is being called."""
    frame, name = sys._getframe(), "this"
    while frame.f_back is not None:
        frame = frame.f_back
        module = str(frame.f_globals.get("__name__"))
        # Decorators are in modules with an underscore.
        if module.startswith("mixedfx.") and not module.startswith("mixedfx._"):
            owner, _, function = frame.f_code.co_qualname.rpartition(".")
            name = f"fit.{function}" if owner.endswith("Mixin") or owner == "Results" else function
            if owner in ("PlotAccessor", "DiagnosticPlots"):
                name = f"fit.plot.{function}"
    return name
