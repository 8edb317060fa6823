"""As `omnidet analyze evaluate`: `python -m omnidet.tools.analysis_tools.eval_metric CONFIG PKL --eval bbox`."""

from __future__ import annotations

from omnidet.tools import door

if __name__ == '__main__':
    door('analyze', 'evaluate')
