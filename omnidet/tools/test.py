"""As `omnidet test`: `python -m omnidet.tools.test CONFIG CHECKPOINT --eval bbox`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('test')
