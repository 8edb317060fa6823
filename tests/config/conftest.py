"""`write`: config files in a folder of the test's own; `load`: one file's text, resolved."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnidet.config import load_config


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding='utf-8')
        return path
    return write


@pytest.fixture
def load(write: Callable[[str, str], Path]) -> Callable[..., Any]:
    def load(text: str, name: str = 'cfg.py', **kwargs: Any) -> Any:
        return load_config(write(name, text), **kwargs)
    return load
