"""Detectors: they compose backbone, neck and heads through the registries, and nothing else."""
