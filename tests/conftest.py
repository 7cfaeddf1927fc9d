"""What must hold before any test module is imported."""

from __future__ import annotations

import os

from hypothesis import settings

# The matrices here are small: more BLAS threads than one cost time, and make the last digits of a
# sum depend on the machine. The libraries read these variables once, when numpy is imported, and
# no import above does that.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# No deadline: a fit takes as long as it takes, and the first one also pays for imports.
settings.register_profile("search", deadline=None)
# The same commit gives the same answer twice; HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("search" if os.environ.get("HYPOTHESIS_PROFILE") == "search" else "same")
