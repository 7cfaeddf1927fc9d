"""Theta to deviance: the one number a search looks at, and the estimates it implies.

Hold theta and everything else in the model has a closed form: eliminating the random effects
leaves a small matrix of the fixed columns and the response, one Cholesky factor of it gives
the coefficients, and what the two leave unexplained gives sigma. So a fit, a profile, a
bootstrap and a degree of freedom are all the same call to :func:`solve_pls` at different thetas
or responses.

With ``W`` the weights, ``M = Lambda' Z'WZ Lambda + I``, ``C`` the cross-products of ``[X, y]``
after elimination (``C_XX = X'V^-1 X sigma**2``), ``r2`` what is left of ``y'Wy``:

    ML    d = log|M| - sum log w + n (1 + log(2 pi r2 / n))                   sigma^2 = r2/n
    REML  d = log|M| + log|C_XX| - sum log w + (n-p)(1 + log(2 pi r2/(n-p)))  sigma^2 = r2/(n-p)

Where sigma is known, ``r2 / sigma^2 + nu log(2 pi sigma^2)`` takes the place of the last term,
with ``nu`` the ``n`` or ``n-p`` in it.

Nothing here knows formulas, tables, names, engines, or how theta was chosen.
"""
