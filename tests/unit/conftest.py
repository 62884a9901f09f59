"""Hypothesis for the unit tests: a busy machine must not fail an example for its duration."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
