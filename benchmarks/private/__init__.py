"""Pulls of private images through the mirror, with and without the right to them."""
