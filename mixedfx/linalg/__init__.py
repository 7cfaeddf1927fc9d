"""Linear algebra and optimisation, independent of statistical models."""
