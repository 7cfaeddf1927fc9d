"""Profile likelihood of one parameter."""
