"""Model matrices of a formula on data; only this package and the formula parser use patsy."""

from mixedfx._late import late

__getattr__ = late(__name__)
