"""Tuners that learn from a pool of candidates of the base, scored once and reused."""
