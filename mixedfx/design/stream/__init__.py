"""Design of a formula on rows that are read in chunks: learned in one pass, applied in another."""

from mixedfx._late import late

__getattr__ = late(__name__)
