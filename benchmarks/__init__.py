"""Benchmarks: what Cicely does in a second, beside the bare statements that it cannot beat."""
