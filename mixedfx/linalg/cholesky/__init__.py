"""Cholesky factorisation of ``Lambda' A Lambda + I`` for crossed and nested grouping factors.

``A = Z'WZ`` is a :class:`~.block_matrix.BlockMatrix`: each grouping factor, with ``L`` levels and
``K`` columns, has a block-diagonal block of its own, and off-diagonal blocks with the others.
Eliminating one factor with

    G = Lambda (Lambda' A Lambda + I)^-1 Lambda'

leaves the Schur complement ``A <- A - A_r' G A_r``, where ``A_r`` are the factor's entries in the
later columns. Fill-in arises only between columns that share a level. Factors each nested in the
next (the leading factors) keep block-diagonal blocks and are eliminated in turn, all levels at
once; what crosses them is one dense trailing block, which LAPACK factorises. Factors that are
small together form the dense block alone. Updating ``A`` rather than ``Lambda' A Lambda`` makes
the first update linear in ``G`` with constant coefficients: a sparse matrix, built once.

A block matrix is a pattern and values. The symbolic factor (elimination order, positions of
fill-in) is computed once for a pattern, the assembled matrix (the values in that order, and the
coefficients of the first update) once for a block matrix, the numeric factor at each ``Lambda``.

Derivatives are computed in reverse mode (Giles 2008, Collected matrix derivative results for
forward and reverse mode algorithmic differentiation): the derivative of the log-determinant by
``A`` is ``Lambda M^-1 Lambda'`` on the pattern of ``A``, which is also the conditional covariance
of the random effects over ``sigma**2``. One reverse pass (:mod:`~.reverse_mode`) serves the
columns of a Schur complement and, without columns, all blocks of that matrix
(:mod:`~.inverse_blocks`).

Memory, in numbers of 8 bytes, for ``m`` right-hand sides: about ``L K (4 K + 3 m)`` for each
leading factor, ``K + 4`` for each entry, 3 for each pair of entries that share a level as long as
there are at most 10 million (above, sparse products store nothing for them), and ``4 t**2`` for a
dense block of ``t`` columns. Nothing grows with the rows.
"""

from mixedfx._late import late

__getattr__ = late(__name__)
