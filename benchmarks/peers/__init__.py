"""Cicely and its peers behind one protocol, and what they all run.

All of it but `catalogue` runs in a peer's own environment: it imports that peer and the standard library.
"""
