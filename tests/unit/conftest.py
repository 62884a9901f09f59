"""Hypothesis for the unit tests: no example fails for how slowly it was made, or how slowly it ran."""

from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
