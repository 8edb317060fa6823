"""Heads that class a region of interest and refine its box."""
