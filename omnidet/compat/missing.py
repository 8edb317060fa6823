"""What stands for a part of MMDetection that OmniDet does not have: it may be imported and named, but not used."""

from __future__ import annotations

from typing import Any

from omnidet.errors import OmniDetError


class CompatError(OmniDetError, ImportError):
    """A name of MMDetection that OmniDet has no counterpart of. An ImportError too, as code that asks `try` expects."""


class _Refusing(type):
    """The class of stand-ins: whatever is read from one of them is refused, but what Python itself asks for."""

    note = ''
    origin = ''

    def __getattr__(cls, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        raise refusal(cls)


def stand_in(module: str, name: str, note: str) -> type:
    """A class called `name` that can be imported, inherited from and used in annotations.

    Calling it, making an object of a subclass, and reading an attribute (`NAME.register_module`) raise CompatError.

    Args:
        module: where the user imports it from.
        name: its name there.
        note: what to use instead.
    """
    return _Refusing(name, (_StandIn,), {'__module__': module, 'note': note, 'origin': f'{module}.{name}'})


def refusal(cls: Any) -> CompatError:
    """What is said when a stand-in, or a subclass of one, is used."""
    derived = cls.__dict__.get('origin') is None
    who = f'{cls.__module__}.{cls.__name__} derives from {cls.origin}, which' if derived else cls.origin
    return CompatError(f'{who} is not part of OmniDet: {cls.note}')


class _StandIn(metaclass=_Refusing):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise refusal(cls)
