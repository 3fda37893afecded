"""Tuners that differentiate the reward at the end of rollouts."""
