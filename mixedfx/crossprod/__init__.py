"""Design to cross-products: the rows are read once, and never again.

Everything a Gaussian likelihood needs from the data is a set of weighted sums of products.
They are formed about the least-squares fit, so that a response far from zero loses no
digits, and in an orthonormal basis of the fixed columns where those are nearly dependent.

Nothing here knows theta, engines or results; after :func:`cross` the number of rows is only
a number.
"""

from mixedfx.crossprod.products import CrossProducts, Slot
from mixedfx.crossprod.reduce import centred_sides, cross, layout_of, random_columns, with_response
from mixedfx.crossprod.sums import by_group, level_sums, term_columns, times

__all__ = [
    "CrossProducts",
    "Slot",
    "by_group",
    "centred_sides",
    "cross",
    "layout_of",
    "level_sums",
    "random_columns",
    "term_columns",
    "times",
    "with_response",
]
