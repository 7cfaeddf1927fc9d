"""Mixed models as estimators of scikit-learn, which this module needs: ``mixedfx[sklearn]``."""

try:
    import sklearn as _sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "mixedfx.sklearn needs scikit-learn, which is not installed: python -m pip install "
        "'mixedfx[sklearn]', or scikit-learn itself.",
        name="sklearn",
    ) from error

from mixedfx.sklearn.classifier import MixedModelClassifier
from mixedfx.sklearn.regressor import MixedModelRegressor

__all__ = ["MixedModelClassifier", "MixedModelRegressor"]
