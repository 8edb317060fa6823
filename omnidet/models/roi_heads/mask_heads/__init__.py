"""Heads that draw the mask of the object in a region of interest."""
