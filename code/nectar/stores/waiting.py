"""Wait for what others will let go: each pause longer than the one before, up to a bound, and never two in step."""

from __future__ import annotations

import random
from collections.abc import Iterator


def pauses(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield pauses in seconds without end: from half to the whole of a length that doubles up to `longest_s`."""
    length = first_s
    while True:
        yield length * random.uniform(0.5, 1.0)
        length = min(2 * length, longest_s)
