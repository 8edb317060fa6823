"""As `omnidet analyze flops`: `python -m omnidet.tools.analysis_tools.get_flops CONFIG --shape 1280 800`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'flops')
