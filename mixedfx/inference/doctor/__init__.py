"""What is weak in a fit and what to do about it, by fitting it again with something changed."""

from mixedfx._late import late

__getattr__ = late(__name__)
