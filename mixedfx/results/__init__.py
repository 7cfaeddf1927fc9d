"""Results of a fit: :class:`~mixedfx.results.results.Results`, composed of mixins by topic."""

from mixedfx._late import late

__getattr__ = late(__name__)
