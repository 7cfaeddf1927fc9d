"""Blocked elimination of a penalised block matrix: analyse once, factor often.

A :class:`BlockMatrix` holds the cross-products of factors, each with ``L`` levels and ``K``
columns.
With Lambda block-diagonal over levels, eliminating a factor with

    G = Lambda (Lambda' A Lambda + I)^-1 Lambda'

turns what is left into a matrix of the same kind: ``A <- A - A_r G A_r'`` for the pairs of
columns that share a level. So the whole factorisation is one small step, repeated: first a
chain of factors each nested in the next, whose blocks all stay block-diagonal and which are
eliminated level by level, all levels at once; then one dense block for what crosses them.
Several factors that are small together are that block alone.
Working with ``A`` rather than with ``Lambda' A Lambda`` makes the first update linear in
``G`` with constant coefficients: one sparse matrix, made once, does it.

The gradient is the same recursion backwards (reverse-mode differentiation by hand): the
derivative of the log-determinant by ``A`` is ``Lambda M^-1 Lambda'`` on the pattern of
``A``, which is also the conditional covariance of the effects.

Memory, in numbers of 8 bytes, with ``m`` dense columns: about ``L K (4 K + 3 m)`` for each
factor of the chain, 1.5 for each pair of entries that share a level of the first, 3 for each
such pair of a later one, and ``4 t**2`` for a tail of ``t`` columns. Nothing grows with the
rows.

Nothing here knows formulas, likelihoods, parameters or names.
"""
