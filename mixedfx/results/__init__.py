"""Results of a fit, under the names of statsmodels and lme4."""
