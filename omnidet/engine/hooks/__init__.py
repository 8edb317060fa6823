"""Hooks: what happens at certain moments of a training, one file for each."""

from omnidet.engine.hooks.base import Hook, build_hooks

__all__ = ['Hook', 'build_hooks']
