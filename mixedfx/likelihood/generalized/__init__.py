"""Marginal likelihood of a generalised linear mixed model.

Row i has the log density ``l_i(eta_i; phi)``, ``eta = offset + X beta + Z Lambda u`` with
``u ~ N(0, I)``. With ``g = dl/deta``, ``w = -dg/deta`` and ``H = Lambda'Z'WZ Lambda + I``, all at
the conditional modes ``u``, Laplace's approximation of -2 log-likelihood is (Breslow and Clayton
1993, J. Am. Stat. Assoc. 88:9, equation 3, with the observed information)

    d = -2 sum l + u'u + log|H|.

Adaptive Gauss-Hermite quadrature (Pinheiro and Bates 1995, J. Comput. Graph. Stat. 4:12) replaces
the integrand's Gaussian approximation at each level by a weighted sum over nodes about the mode.
"""
