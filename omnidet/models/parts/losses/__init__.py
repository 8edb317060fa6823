"""Losses, as modules under the names that configs know."""
