"""Cholesky factorisation of any sparse symmetric matrix, in an order of small degrees.

Elimination removes, in rounds, columns that are not adjacent to each other and have few neighbours:
each round is a few operations on arrays. What is left is dense, and is factorised by LAPACK. The
entries of the inverse where the matrix has entries follow backwards (Takahashi, Fagan and Chen
1973, 8th PICA Conference Proceedings: 63).
"""
