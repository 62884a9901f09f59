"""Scenarios that measure and show the product, and the lab they run in."""
