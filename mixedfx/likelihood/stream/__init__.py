"""Cross-products of rows that are read in chunks."""

from mixedfx._late import late

__getattr__ = late(__name__)
