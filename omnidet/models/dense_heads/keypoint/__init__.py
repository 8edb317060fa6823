"""Heads that find objects as points on a map of scores."""
