"""Bayesian computation: posterior mode, sampling, and posterior means with known variances.

Given the covariances of the random effects and sigma the model is Gaussian: fixed and random
effects are integrated out in closed form by the REML criterion, and drawn exactly afterwards. Only
standard deviations, correlations and dispersion coefficients are optimised or sampled.
"""

from mixedfx._late import late

__getattr__ = late(__name__)
