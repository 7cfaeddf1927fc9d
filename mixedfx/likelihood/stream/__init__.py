"""Cross-products of rows that are read in chunks."""
