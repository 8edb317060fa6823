"""How much work and memory the evaluation of a config may take; a file that asks for more is refused."""

from __future__ import annotations

from typing import Any

from omnidet.config.nodes import children

MAX_STEPS = 400_000        # a literal, a name, a call is one; the largest config of MMDetection's zoo takes 12,300
MAX_TEXT = 1_000_000       # characters in one string
MAX_BITS = 4096            # of an integer
MAX_DEPTH = 100            # of expressions in a file, and of dicts and lists in a value
MAX_BYTES = 1_000_000      # of a file
MAX_YAML_BYTES = 200_000   # of a YAML file, which takes far longer to read


class Refusal(Exception):
    """The reason why something in a config is refused; whoever knows file and line makes a ConfigError of it.

    Attributes:
        line: where it stands, if that is not where the evaluation has come to; else 0.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


class Meter:
    """Counts what is left of the work that one config, with all that it inherits, may take."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def charge(self, steps: int = 1) -> None:
        """Take `steps` from what is left.

        Raises:
            Refusal: there is not enough left.
        """
        self.left -= steps
        if self.left < 0:
            raise Refusal(f'this takes more than the {MAX_STEPS} steps that a config may')

    def text(self, length: int) -> None:
        """Ask for a string of `length` characters before it is made."""
        if length > MAX_TEXT:
            raise Refusal(f'this makes a text of {length} characters; {MAX_TEXT} are allowed')
        self.charge(1 + length // 16)

    def walk(self, value: Any, depth: int = 0) -> None:
        """Charge what it takes to copy, compare or print `value`: what it contains twice counts twice."""
        self.charge()
        if depth > MAX_DEPTH:
            raise Refusal(f'dicts and lists are nested more than {MAX_DEPTH} deep, or contain themselves')
        if isinstance(value, (dict, list, tuple)):
            for _, item in children(value):
                self.walk(item, depth + 1)
        elif isinstance(value, (set, frozenset)):
            self.charge(len(value))
        elif isinstance(value, str):
            self.charge(len(value) // 16)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:    # JSON and YAML hold any
            raise Refusal(f'there is a number of {value.bit_length()} bits; {MAX_BITS} are allowed')
