"""Formulas of mixed models, parsed to fixed and random terms without looking at data."""
