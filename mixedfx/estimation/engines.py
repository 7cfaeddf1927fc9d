"""Names of the engines that estimate theta."""

from __future__ import annotations

from typing import Literal

EngineName = Literal["auto", "statsmodels", "profiled", "em", "iterative"]
ENGINES: tuple[EngineName, ...] = ("auto", "statsmodels", "profiled", "em", "iterative")
