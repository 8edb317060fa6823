"""Heads that predict at every cell of a pyramid's grids."""
