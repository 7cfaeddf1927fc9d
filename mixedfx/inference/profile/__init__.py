"""Profile likelihood of one parameter."""

from mixedfx._late import late

__getattr__ = late(__name__)
