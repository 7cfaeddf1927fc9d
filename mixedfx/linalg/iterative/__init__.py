"""Solves, log-determinant and its derivatives without a dense block, for crossed factors.

``M = Lambda' A Lambda + I`` of :mod:`mixedfx.linalg.cholesky` is eliminated in its first factor
alone, level by level; the Schur complement of all others,

    S = I + Lambda_2' (A_22 - A_21 G_1 A_12) Lambda_2,    G_1 = Lambda_1 M_11^-1 Lambda_1',

is only multiplied by. With ``D = L L'`` its diagonal blocks, one for each level, and
``P = L^-1 S L^-T``, whose diagonal blocks are identities,

- systems are solved by conjugate gradients (:mod:`~.conjugate_gradients`), to rounding;
- ``log|S| = sum log|D| + log|P|``. On the span of W, the constants of each factor, P is nearly
  singular: there ``log|P| = log|P_c| - log|W'P^-1 W|`` is exact, with ``P_c`` the matrix on the
  orthogonal complement (:mod:`~.deflation`). ``log|P_c|`` is the mean over random signs z of
  ``z'(log P_c - P_c + I) z`` by Lanczos quadrature, plus ``tr(P_c - I) = -tr(W'(P - I)W)``: to
  first order in ``P - I`` nothing random is left;
- derivatives by Lambda take ``tr(P_c^-1 dP)`` likewise, ``(P_c^-1 z - z)' dP z`` being averaged
  (:mod:`~.derivatives`).

The signs are those of one seed, so that the log-determinant is a smooth function of Lambda; their
number and the spread over them give its Monte Carlo error. Memory is that of the pairs of levels
and of some vectors.

References: Hutchinson (1990), Commun. Stat. Simul. Comput. 19:433; Ubaru, Chen and Saad (2017),
SIAM J. Matrix Anal. Appl. 38:1075 (stochastic Lanczos quadrature); Golub and Van Loan (2013),
Matrix Computations, section 11.3 (conjugate gradients and the Lanczos process).
"""

from mixedfx._late import late

__getattr__ = late(__name__)
