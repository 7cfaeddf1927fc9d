"""Tables that are read in chunks: files, lazy queries, partitions, generators of DataFrames."""
