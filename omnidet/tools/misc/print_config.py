"""As `omnidet config show`: `python -m omnidet.tools.misc.print_config CONFIG`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('config', 'show')
