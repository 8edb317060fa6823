"""As `omnidet analyze confusion`: `python -m omnidet.tools.analysis_tools.confusion_matrix CONFIG PKL DIR`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'confusion')
