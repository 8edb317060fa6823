"""As `omnidet analyze speed`: `python -m omnidet.tools.analysis_tools.benchmark CONFIG --checkpoint FILE`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'speed')
