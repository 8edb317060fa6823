"""Transforms of an image and its annotations, under MMDetection's names and arguments."""

from omnidet.data.transforms.base import BaseTransform, Compose, build_transform, seeded

__all__ = ['BaseTransform', 'Compose', 'build_transform', 'seeded']
