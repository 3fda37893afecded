"""The run of a tuning: its annealing stages, what distils the result, and what watches it."""
