"""Errors that a user can act on. The command line prints their message alone, without a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CONTROLS = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


class OmniDetError(Exception):
    """Something outside the program is wrong: a config, a data set, a checkpoint, an image, an argument.

    The message says where (file and field), what was found, and what is allowed.
    """


class ConfigError(OmniDetError):
    """A config file, or a value in a config."""


class DatasetError(OmniDetError):
    """An annotation file or a data set's folder."""


class ImageError(OmniDetError):
    """An image that is missing or cannot be decoded."""


class CheckpointError(OmniDetError):
    """A checkpoint that is missing, damaged, unsafe, or made for another model."""


class TrainingError(OmniDetError):
    """A training run that cannot go on: a loss that is not finite, a full disk."""


def printable(text: str) -> str:
    """`text` with what would control a terminal, and what none can show, written out: `\\x1b`.

    Names in a config or a checkpoint that someone else made may hold anything.
    """
    return _CONTROLS.sub(lambda m: m[0].encode('unicode_escape').decode(), text)


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest allowed name, or an empty string where none is near."""
    near = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ''
