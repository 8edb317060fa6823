"""OmniDet: object detection and segmentation in PyTorch. One config file is one experiment.

Importing this package imports no torch: the names below load what they need when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

if TYPE_CHECKING:
    from omnidet.config import load_config
    from omnidet.errors import OmniDetError
    from omnidet.inference import Detector
    from omnidet.models import build_model

__all__ = ['Detector', 'OmniDetError', '__version__', 'build_model', 'load_config']

_HOME = {
    'load_config': 'omnidet.config',
    'OmniDetError': 'omnidet.errors',
    'build_model': 'omnidet.models',
    'Detector': 'omnidet.inference',
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f'module omnidet has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted(__all__)
