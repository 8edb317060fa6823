"""As `omnidet analyze results`: `python -m omnidet.tools.analysis_tools.analyze_results CONFIG PKL DIR`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'results')
