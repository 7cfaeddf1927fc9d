"""Tables that are read in chunks: files, lazy queries, partitions, generators of DataFrames."""

from mixedfx._late import late

__getattr__ = late(__name__)
