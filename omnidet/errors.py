"""Errors that a user can act on. The command line prints their message alone, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest allowed name, or an empty string where none is near."""
    near = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ''
