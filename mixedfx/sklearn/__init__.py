"""Mixed models as estimators of scikit-learn, which this module needs: ``mixedfx[sklearn]``."""

from mixedfx._extras import import_extra

import_extra("sklearn", "mixedfx.sklearn needs")

from mixedfx.sklearn.classifier import MixedModelClassifier  # noqa: E402 (they import sklearn)
from mixedfx.sklearn.regressor import MixedModelRegressor  # noqa: E402

__all__ = ["MixedModelClassifier", "MixedModelRegressor"]
