"""A pickle reader that makes data and calls nothing: what `torch.load` uses to read a checkpoint that is not trusted.

A pickle names the classes and functions that make its objects. Here only those in `_KNOWN` exist: torch's own ways to
build tensors, containers, and stand-ins for the classes that OpenMMLab's files carry. Everything else is refused.
"""

from __future__ import annotations

import collections
import datetime
import functools
import pickle
from typing import Any, ClassVar

import numpy as np
import torch


class RefusedError(pickle.UnpicklingError):
    """The file names a class or function that is not known to be harmless."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Inert:
    """A stand-in for an object of a class that is not imported: its attributes, without its behaviour."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __repr__(self) -> str:
        return f'{type(self).__name__}({", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k != "args")})'


class InertDict(dict):
    """A stand-in for a class of dicts."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__(items if isinstance(items, (dict, list, tuple)) else ())    # a defaultdict's factory goes

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """The description of a numpy type: a plain number or a string, nothing that holds objects."""

    def __init__(self, name: str, *_: Any) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in 'biufcSU':
            raise RefusedError(f'numpy.dtype({name!r})')

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """A numpy array that takes a `_DType` as its type."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        super().__setstate__((version, shape, dtype.dtype, fortran, raw))    # checks that `raw` fits `shape`


def _empty_array(*_: Any) -> _Array:
    return np.ndarray.__new__(_Array, (0,), 'b')


def _scalar(dtype: _DType, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype.dtype, count=1)[0]


def _bytes(text: str, encoding: str = 'latin1') -> bytes:
    return text.encode('latin1')


def _method(owner: Any, name: str) -> str:
    """What is left of a method that an object refers to: its name."""
    return f'{getattr(owner, "__name__", owner)}.{name}'


def _path(*parts: str) -> str:
    return '/'.join(parts)


@functools.cache
def _stand_in(name: str, base: type) -> type:
    return type(name.rpartition('.')[2], (base,), {})


def _known() -> dict[str, Any]:
    known: dict[str, Any] = {
        'collections.OrderedDict': collections.OrderedDict, 'collections.Counter': collections.Counter,
        'collections.deque': collections.deque, 'collections.defaultdict': InertDict,
        'builtins.getattr': _method, '_codecs.encode': _bytes, 'datetime.datetime': datetime.datetime,
        'numpy.ndarray': _Array, 'numpy.dtype': _DType,
        'torch.Size': torch.Size, 'torch.device': torch.device, 'torch.nn.parameter.Parameter': torch.nn.Parameter,
        'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
        'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
        'torch._utils._rebuild_parameter': torch._utils._rebuild_parameter,
    }
    for kind in (list, dict, tuple, set, frozenset, int, float, bool, str, complex):
        known[f'builtins.{kind.__name__}'] = kind
    for core in ('numpy.core', 'numpy._core'):
        known |= {f'{core}.multiarray._reconstruct': _empty_array, f'{core}.multiarray.scalar': _scalar}
    for path in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath', 'Path'):
        known |= {f'pathlib.{path}': _path, f'pathlib._local.{path}': _path}
    for name in ('mmengine.config.config.ConfigDict', 'mmcv.utils.config.ConfigDict', 'addict.addict.Dict'):
        known[name] = _stand_in(name, InertDict)
    for name in ('mmengine.logging.history_buffer.HistoryBuffer', 'mmengine.config.config.Config',
                 'mmcv.utils.config.Config', 'argparse.Namespace', 'mmengine.structures.instance_data.InstanceData',
                 'mmengine.structures.base_data_element.BaseDataElement'):
        known[name] = _stand_in(name, Inert)
    known |= {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
    known |= {f'torch.{k}': v for k, v in vars(torch).items() if k.endswith('Storage') and isinstance(v, type)}
    return known


_KNOWN = _known()
_TAKES_STATE = (collections.OrderedDict, Inert, InertDict, _DType, _Array)


class Unpickler(pickle._Unpickler):    # the reader in Python: it lets BUILD be overridden
    """`pickle.Unpickler` for `_KNOWN` names alone."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        full = f'{module}.{name}'.replace('__builtin__.', 'builtins.', 1)
        if full in _KNOWN:
            return _KNOWN[full]
        owner = _KNOWN.get(full.rpartition('.')[0])
        if isinstance(owner, type) and issubclass(owner, (Inert, InertDict)):
            return full    # a method of a stand-in's class: its name is left
        raise RefusedError(full)

    def load_build(self) -> None:
        """Set attributes on stand-ins alone; on a function or a class they would outlive the file."""
        stack: list[Any] = self.stack    # type: ignore[attr-defined]
        target, state = stack[-2], stack[-1]
        if not isinstance(target, _TAKES_STATE):
            raise RefusedError(f'attributes for {target!r}')
        if not hasattr(target, '__setstate__') or isinstance(target, (Inert, collections.OrderedDict)):
            stack.pop()
            values = state[0] if isinstance(state, tuple) and state else state
            if isinstance(values, dict):
                vars(target).update((k, v) for k, v in values.items() if isinstance(k, str) and not k.startswith('__'))
            return
        super().load_build()    # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build


def load(file: Any, **kwargs: Any) -> Any:
    """`pickle.load` with this module's reader; torch asks for it."""
    return Unpickler(file, **kwargs).load()


class Survey:
    """A reader that notes what it would refuse, and goes on with stand-ins that do nothing; a `pickle_module`.

    Attributes:
        refused: the names that `Unpickler` refuses, in the order in which they were met.
    """

    def __init__(self) -> None:
        refused: list[str] = []

        class Noting(Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                try:
                    return super().find_class(module, name)
                except RefusedError as e:
                    if e.name not in refused:
                        refused.append(e.name)
                    return _stand_in(e.name, _Refused)

        self.refused, self.Unpickler = refused, Noting
        self.__name__ = __name__    # torch asks for it

    def load(self, file: Any, **kwargs: Any) -> Any:
        """As `pickle.load`."""
        return self.Unpickler(file, **kwargs).load()


class _Refused(Inert):
    """A stand-in for what is refused: whatever a pickle does to it, nothing happens."""

    def __call__(self, *args: Any) -> Any:
        return self

    def _nothing(self, *args: Any) -> None:
        pass

    __setitem__ = append = extend = add = _nothing
