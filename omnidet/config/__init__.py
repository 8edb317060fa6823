"""The config language: files that are data, read without running them, and held against the code before anything is built."""

from __future__ import annotations

from omnidet.config.loader import load_config
from omnidet.config.nodes import Config, ConfigDict, Origin
from omnidet.config.resolve import find_config, zoo_names

__all__ = ['Config', 'ConfigDict', 'Origin', 'find_config', 'load_config', 'zoo_names']
