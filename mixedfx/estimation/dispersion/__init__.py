"""Models of the residual standard deviation: log-linear, with fixed and random effects."""
