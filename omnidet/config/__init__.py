"""The config language: files are data, read without running them and checked before anything is built."""

from __future__ import annotations

from omnidet.config.check import check
from omnidet.config.dump import dump
from omnidet.config.loader import load_config
from omnidet.config.nodes import Config, ConfigDict, Origin
from omnidet.config.resolve import find_config, zoo_names
from omnidet.config.validate import Problem, validate

__all__ = ['Config', 'ConfigDict', 'Origin', 'Problem', 'check', 'dump', 'find_config', 'load_config', 'validate',
           'zoo_names']
