"""Model matrices of a formula on data; only this package and the formula parser use patsy."""
