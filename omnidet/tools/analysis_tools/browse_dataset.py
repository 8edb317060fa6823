"""As `omnidet analyze dataset`: `python -m omnidet.tools.analysis_tools.browse_dataset CONFIG --output-dir DIR`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'dataset')
