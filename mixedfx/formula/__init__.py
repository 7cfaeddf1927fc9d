"""Formulas: text to terms, without data."""
