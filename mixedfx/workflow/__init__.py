"""What an analyst does before and after a fit; above :mod:`mixedfx.results`."""
