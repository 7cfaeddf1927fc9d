"""Classes of which a kept fit consists, by the name that a file gives them.

A name stays what it is when a class is renamed: files of earlier versions have it.
"""

from __future__ import annotations

from types import MappingProxyType

from mixedfx.covariance.known_covariance import (
    DenseCovariance,
    PedigreeCovariance,
    SparseCovariance,
    SparseInverse,
)
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.covariance.relationship import Relationship
from mixedfx.design.build import Design
from mixedfx.design.combinations import Combinations
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.levels import FoundLevels, Levels
from mixedfx.design.ordered_response import OrderedLevels
from mixedfx.design.positions import EffectPositions
from mixedfx.design.predictors import PredictorRows, SeveralFormulas
from mixedfx.design.residual import (
    EqualVariances,
    KnownStandardDeviations,
    NamedResidual,
    ResidualRows,
)
from mixedfx.design.response import ResponseSpec, Successes, TwoLevels
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.slim import SlimResidualRows, SlimRows
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.request import ColumnRequest
from mixedfx.design.stream.strata import Strata, StratumRows
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.estimation.correlated import CorrelatedEstimate
from mixedfx.estimation.em import EMIterates
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.several_estimate import PredictorEstimate, SeveralEstimate
from mixedfx.estimation.joint_estimate import JointEstimate
from mixedfx.estimation.location_scale import LocationScaleEstimate, ScaleEffects, ScaleTerm
from mixedfx.estimation.monte_carlo import MonteCarloError
from mixedfx.estimation.notes import Note
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.estimation.residual_ends import EndsOfResiduals
from mixedfx.families import FAMILIES, LINKS
from mixedfx.families.several_predictors import SeveralPredictors
from mixedfx.families.thresholds import Equidistant, Flexible
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.inference.emmeans.reference_grid import Variable
from mixedfx.inference.variance_explained import VarianceShares
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.crossproducts import CrossProducts, TermPosition
from mixedfx.likelihood.generalized.all_effects import AllEffects, EffectsOfOne
from mixedfx.likelihood.level_basis import RelatedLevels
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.stratified import StratifiedSums, StratumSums
from mixedfx.likelihood.stream.moments import RowMoments
from mixedfx.likelihood.stream.reduced import ReducedBlocks, ReducedSums
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern, LevelPairs
from mixedfx.linalg.cholesky.solver import CholeskySolver
from mixedfx.linalg.iterative.solver import IterativeSolver
from mixedfx.linalg.precision import PrecisionBasis, PrecisionSolver
from mixedfx.linalg.sparse_matrix import SparseMatrix
from mixedfx.priors.distributions import (
    LKJ,
    Constant,
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfStudentT,
    Normal,
)
from mixedfx.priors.specification import FamilyPriors, Priors, PriorSpecification
from mixedfx.residuals.coordinates import DispersionCoordinates
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.correlated_dispersion import CorrelatedDispersion, CorrelatedDispersionSpec
from mixedfx.residuals.correlated_spec import CorrelatedSpec
from mixedfx.residuals.irregular import Irregular
from mixedfx.residuals.log_linear import LocationScale, LogLinear
from mixedfx.residuals.model import FamilyModel, Homoscedastic, KnownVariances, SeveralModel
from mixedfx.residuals.streamed import StreamedLogLinear

_STORED: tuple[type, ...] = (
    *(Formula, RandomTerm, Levels, ModelSpec, RandomTermSpec, Design, ModelRows, RandomTermRows),
    *(EffectPositions, ResponseSpec, TwoLevels, Successes, OrderedLevels),
    *(Flexible, Equidistant),
    *(EqualVariances, KnownStandardDeviations, NamedResidual, DispersionSpec, FamilyResidual),
    *(ResidualRows, DispersionRows, Homoscedastic, KnownVariances, LogLinear, LocationScale),
    *(FamilyModel, FamilyEstimate),
    *(SeveralFormulas, PredictorRows, SeveralModel, PredictorEstimate, SeveralEstimate),
    *(SeveralPredictors, AllEffects, EffectsOfOne),
    *(CorrelatedSpec, Correlated, Irregular, CorrelatedEstimate),
    *(CorrelatedDispersionSpec, CorrelatedDispersion),
    *(Parametrization, TermPosition, ColumnBasis, CrossProducts, GaussianLikelihood),
    CoefficientCovariance,
    *(Relationship, DenseCovariance, SparseCovariance, SparseInverse, PedigreeCovariance),
    SparseMatrix,
    *(BlockLayout, LevelPairs, BlockPattern, BlockMatrix),
    *(OptimizerResult, EMIterates, MonteCarloError, Note, FittedModel),
    *(CholeskySolver, IterativeSolver, PrecisionSolver, PrecisionBasis),
    *(
        ResidualEstimate,
        JointEstimate,
        EndsOfResiduals,
        LocationScaleEstimate,
        ScaleEffects,
        ScaleTerm,
    ),
    *(Priors, PriorSpecification, Normal, HalfNormal, HalfStudentT, Exponential, Gamma, LKJ),
    *(Constant, Flat, FamilyPriors),
    *(StreamedRows, ChunkDesign, ColumnRequest, Strata, StratumRows, StreamedLogLinear),
    *(Combinations, ReducedBlocks, ReducedSums, RowMoments),
    *(StratifiedSums, StratumSums, RelatedLevels),
    *(SlimRows, SlimResidualRows, Variable, VarianceShares, DispersionCoordinates),
)

# Families and links, whose names others have too: a prior, a transform.
_SUFFIXED: dict[str, type] = {
    **{f"{family.__name__}Family": family for family in FAMILIES.values()},
    **{f"{type(link).__name__}Link": type(link) for link in LINKS.values()},
}

CLASSES = MappingProxyType({cls.__name__: cls for cls in _STORED} | _SUFFIXED)
NAMES = MappingProxyType({cls: name for name, cls in CLASSES.items()} | {FoundLevels: "Levels"})
