"""Pulls by real containerds: from the registry, through a caching nginx, and through shorthaul."""
