"""As `omnidet train`: `python -m omnidet.tools.train CONFIG --work-dir DIR`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('train')
