"""Tuners that compare paths: rewards at their ends with their log-ratios to the base's."""
