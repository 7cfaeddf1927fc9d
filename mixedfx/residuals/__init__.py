"""Residual models: variance and correlation of the residuals behind one contract."""
