"""Estimation: the covariance parameters theta of a model, and the fitted model at them.

An engine maximises the likelihood over theta and reports the value it reached. beta, sigma, the
conditional modes and the deviance are then computed from theta by one code path for all engines,
and a reported value that differs from the recomputed one beyond rounding is an error.
"""

from mixedfx._late import late

__getattr__ = late(__name__)
