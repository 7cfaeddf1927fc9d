"""Formula and data to arrays; the only importers of patsy but for the formula's parser."""
