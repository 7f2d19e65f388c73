"""How long to wait before something that failed is tried again: longer each time, up to a bound, and never in step.

In: how often it has failed, the shortest and the longest wait. Out: seconds. The caller brings the ``random``, and so the
answer can be told beforehand. The jitter ("equal jitter" in Marc Brooker's "Exponential Backoff And Jitter") keeps many
who failed together from coming back together.
"""

from __future__ import annotations

from random import Random

#: For those to whom it does not matter which.
SPREAD = Random()  # noqa: S311 - spreads retries, guards nothing


def backoff(failures: int, first: float, longest: float, random: Random = SPREAD) -> float:
    """The wait after the ``failures``-th failure in a row, the first being 1: between a half and the whole of ``first``,
    doubled with each further failure up to ``longest``."""
    # Past sixty doublings every pace that anybody sets is at its bound, and a float has not overflowed yet.
    return min(first * 2.0 ** min(failures - 1, 60), longest) * random.uniform(0.5, 1.0)
