"""Estimation of generalised linear mixed models: search over covariances, coefficients, family."""
