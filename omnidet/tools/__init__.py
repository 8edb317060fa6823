"""MMDetection's tools under their names: `python -m omnidet.tools.train CONFIG` for `python tools/train.py CONFIG`.

Each is a door to a command of `omnidet`, which takes the same arguments and says what it is called.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from omnidet.cli import main


def door(*command: str) -> NoReturn:
    """Run a command of `omnidet` on this process's arguments, and exit with its status."""
    sys.exit(main([*command, *(sys.argv[1:] or ['--help'])]))
