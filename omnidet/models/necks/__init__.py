"""Necks: feature maps -> feature maps. One architecture per file."""
