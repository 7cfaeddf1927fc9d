"""Fits of rows that are read in chunks."""
