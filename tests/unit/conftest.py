"""Hypothesis for the unit tests: no example fails for how slowly it was made, or how slowly it ran.

Every run tries the same examples, so that a failure is about the change at hand. With SHORTHAUL_EXPLORE=1
each run tries new ones: what they find belongs into the test, as an ``@example``.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("SHORTHAUL_EXPLORE") != "1",
)
settings.load_profile("unit")
