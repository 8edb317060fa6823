"""`python -m omnidet` is the same as the command `omnidet`."""

from __future__ import annotations

import sys

from omnidet.cli import main

if __name__ == '__main__':
    sys.exit(main())
