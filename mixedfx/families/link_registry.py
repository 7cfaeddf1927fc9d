"""Links by their names."""

from __future__ import annotations

from types import MappingProxyType

from mixedfx.families.cumulative_links import Cauchit, CLogLog, Log, Logit, Probit
from mixedfx.families.links import Identity, Inverse, Link, Sqrt

_ALL: tuple[Link, ...] = (
    Logit(),
    Probit(),
    CLogLog(),
    Cauchit(),
    Log(),
    Sqrt(),
    Identity(),
    Inverse(),
)
LINKS = MappingProxyType({link.name: link for link in _ALL})
