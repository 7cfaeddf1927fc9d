"""Results of a fit: :class:`~mixedfx.results.results.Results`, composed of mixins by topic."""
