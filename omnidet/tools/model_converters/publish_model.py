"""As `omnidet checkpoint publish`: `python -m omnidet.tools.model_converters.publish_model IN OUT`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('checkpoint', 'publish')
