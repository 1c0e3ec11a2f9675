"""Duties that any worker may carry out: sweeping and rescuing."""
