"""Heads that predict a set: one object, or none, for each query."""
