"""Priors and data to a posterior: its mode, and draws from it.

Given the covariances of the random effects and sigma, everything else is Gaussian: fixed and
random effects are integrated out exactly by the criterion, and drawn exactly afterwards. What is
left has as many dimensions as there are standard deviations and correlations.
"""
