"""Backbones: image -> tuple of feature maps, one per level. One architecture per file."""
