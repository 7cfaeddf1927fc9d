"""What a structure of correlated residuals is called, its positions and its subjects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.components import Positions
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.design.levels import Levels
from mixedfx.design.position_numbers import is_time, position_numbers
from mixedfx.design.residual import WrittenResidual
from mixedfx.errors import ArgumentError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CorrelatedSpec(WrittenResidual):
    """Structure of correlated residuals, and the positions of a subject's rows."""

    structure: str  # name in the registry
    position: str  # what the positions are of: visit
    subject: str  # grouping factor of a subject's rows
    labels: tuple[Any, ...]  # (k,) of the positions
    coordinates: Matrix | None = field(repr=False)  # (k, d)
    columns: tuple[str, ...]  # of the data: positions
    factors: tuple[str, ...]  # of the data: subjects
    levels: Levels = field(repr=False)  # the subjects
    strata: tuple[Any, ...] = ()  # values of the factor with a covariance for each; () for one
    stratum: str | None = None  # that factor

    residual_sd = "modelled"
    params_title = "Residual covariance"
    reports_sigma = False  # it is the standard deviation at the first position

    def check_priors(self) -> None:
        """There are none on covariances of residuals."""
        raise ArgumentError(
            f"priors= beside {self.argument} are not fitted: leave one of them out, or write the "
            "correlation as a random term, such as (1 | patient) or 'ar1(visit | patient)'."
        )

    def check_one_variance(self, what: str, instead: str) -> None:
        """Refuse what takes independent residuals."""
        raise ArgumentError(
            f"{what} takes independent residuals of one variance, and this fit has "
            f"{self.argument}: {instead}."
        )

    def check_kenward_roger(self) -> None:
        """It takes covariances of residuals."""

    def check_covariance_intervals(self, what: str, instead: str) -> None:
        """None is refused: the criterion has all derivatives."""

    def with_structure(self, name: str) -> str:
        """The same positions and subjects."""
        return name + self.text[self.text.index("(") :]

    def is_log_sd(self, full_name: str) -> bool:
        """None is: they are standard deviations and correlations themselves."""
        return False

    def check_modelled(self) -> None:
        """There is no formula of the residual standard deviation."""
        raise ArgumentError(
            f"this fit has {self.argument} and no dispersion=: the residuals' standard deviations "
            "and correlations are in fit.residual_cov()."
        )

    @property
    def sampling_refusal(self) -> str:
        """The sampler takes independent residuals."""
        return (
            f"sample() takes independent residuals, and this fit has {self.argument}: "
            "fit.bootstrap() gives the distribution of the estimates."
        )

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.coordinates)

    @property
    def explanation(self) -> str | None:
        """Note of the equations."""
        structure, at = self.covariance, self.at
        variances = np.diag(structure.covariance(structure.generic_params(at), at))
        sds = f"that at its {self.position}" if np.ptp(variances) > 0.01 else "one of all"
        return (
            f"{sds}; the residuals of one {self.subject} are correlated over {self.position}, with "
            f"the structure '{self.text}'"
        )

    def covariance_structure(self) -> str | None:
        """That of the residuals of one subject."""
        return self.structure

    @property
    def dependence(self) -> str:
        """Rows of a subject."""
        return f"Residuals of one {self.subject} are correlated over {self.position}: {self.text}."

    @cached_property
    def at(self) -> Positions:
        """Positions of the structure."""
        return Positions(len(self.labels), self.coordinates)

    @property
    def covariance(self) -> CovarianceStructure:
        """The structure."""
        return STRUCTURES[self.structure]

    @property
    def goes_on(self) -> bool:
        """Whether there is a covariance at positions that the rows do not have."""
        return self.covariance.goes_on

    @property
    def has_points(self) -> bool:
        """Whether positions are numbers, their coordinates."""
        if self.coordinates is None:
            return False
        if self.covariance.design == "coordinates":
            return True
        numbers = position_numbers(list(self.labels))
        return numbers is not None and bool((numbers == self.coordinates[:, 0]).all())

    @property
    def points_by_column(self) -> list[Any]:
        """Values (k,) of each column at the positions; labels in their order, if no numbers."""
        labels = list(self.labels)
        if len(self.columns) == 1 and is_time(labels):
            return [pd.Index(labels)]
        if self.has_points and self.coordinates is not None:
            return list(self.coordinates.T)
        if all(isinstance(label, int | float | np.number) for label in labels):
            return [np.array(labels)]
        return [pd.Categorical(labels, categories=labels, ordered=True)]

    def refuses(self, points: Matrix) -> bool:
        """Whether points are no positions of the structure: levels are whole numbers."""
        return self.covariance.design == "levels" and bool((points != np.round(points)).any())

    @property
    def n_strata(self) -> int:
        """Number of covariances."""
        return max(len(self.strata), 1)

    @property
    def n_params(self) -> int:
        """Parameters of all covariances but the scale."""
        return self.n_strata * self.covariance.size(self.at) - 1

    def full_name(self, name: str) -> str:
        """The name itself: it says what it is of."""
        return name
