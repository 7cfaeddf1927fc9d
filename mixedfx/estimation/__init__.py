"""A search's end to a fit: what theta implies, and the proof that it is the optimum.

An engine finds theta and claims a log-likelihood. Here the claim is computed again by the
one criterion, whatever the engine, and a disagreement beyond rounding is an error.

Nothing here knows how theta was found, or what the results will be called.
"""
