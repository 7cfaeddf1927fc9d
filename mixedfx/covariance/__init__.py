"""Parametrised covariance matrices of random effects."""
