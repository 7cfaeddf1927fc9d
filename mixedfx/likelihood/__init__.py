"""Likelihood of a Gaussian mixed model on cross-products.

Given theta, everything else has a closed form (Bates, Maechler, Bolker and Walker 2015,
section 3): eliminating the random effects leaves a (p + 1) x (p + 1) matrix of the fixed columns
and the response, its Cholesky factor gives the coefficients, and the penalised weighted residual
sum of squares gives sigma. A fit, a profile, a bootstrap and degrees of freedom evaluate
:func:`mixedfx.likelihood.pls.solve_pls` at different thetas or responses.

With ``W`` the weights, ``M = Lambda' Z'WZ Lambda + I``, ``R'R = X'V^-1 X sigma**2`` and ``r2`` the
penalised weighted residual sum of squares (``pwrss``):

    ML    d = log|M| - sum log w + n (1 + log(2 pi r2 / n))                  sigma^2 = r2/n
    REML  d = log|M| + log|R'R| - sum log w + (n-p)(1 + log(2 pi r2/(n-p)))  sigma^2 = r2/(n-p)

Where sigma is known, ``r2 / sigma^2 + nu log(2 pi sigma^2)`` takes the place of the last term,
``nu`` being n (ML) or n - p (REML).
"""

from mixedfx._late import late

__getattr__ = late(__name__)
