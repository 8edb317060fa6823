"""Configs of MMDetection 2.x in the form of 3.x: the same experiment under today's names."""

from __future__ import annotations

from omnidet.config.upgrade.changes import Change, Changes
from omnidet.config.upgrade.recognize import KEYS, is_legacy
from omnidet.config.upgrade.upgrade import upgrade

__all__ = ['KEYS', 'Change', 'Changes', 'is_legacy', 'upgrade']
