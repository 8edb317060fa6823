"""Layers that box and mask heads share, run on each region of interest."""
