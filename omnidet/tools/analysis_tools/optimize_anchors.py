"""As `omnidet analyze anchors`: `python -m omnidet.tools.analysis_tools.optimize_anchors CONFIG --input-shape 608`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'anchors')
