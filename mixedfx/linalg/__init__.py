"""Linear algebra and optimisation, free of statistics."""
