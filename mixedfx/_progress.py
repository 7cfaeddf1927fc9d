"""Progress bars: of what takes longer than a moment."""

from __future__ import annotations

DELAY = 2.0  # seconds until a bar is shown
