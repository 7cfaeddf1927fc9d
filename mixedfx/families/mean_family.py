"""Families whose log density is a simple function of the mean."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from mixedfx.families.derivatives import Array, MeanDerivatives, RowDerivatives, weighted
from mixedfx.families.family import Family, Vector


@dataclass(frozen=True)
class MeanFamily(Family):
    """A family whose log density, for unit weight and dispersion, is a simple function of mu."""

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        return weighted(self._unit(y, eta, third=third), w)

    def _unit(self, y: Array, eta: Array, *, third: bool) -> RowDerivatives:
        """Derivatives for unit weight and dispersion."""
        if self.link.name == "log":
            return self._unit_log_link(y, eta, third=third)
        mu = self.link.mean(eta)
        return self.link.chain(eta, mu, self._unit_by_mean(y, mu, third=third))

    @abstractmethod
    def _unit_log_link(self, y: Array, eta: Array, *, third: bool) -> RowDerivatives:
        """The same for the log link, from one exponential."""

    @abstractmethod
    def _unit_by_mean(self, y: Array, mu: Array, *, third: bool) -> MeanDerivatives:
        """The same by the mean."""
