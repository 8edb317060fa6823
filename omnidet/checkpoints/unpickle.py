"""A pickle reader that makes data and calls nothing: what `torch.load` uses to read a checkpoint that is not trusted.

A pickle names the classes and functions that make its objects. Here only those in `_KNOWN` exist: torch's own ways to
build tensors, containers, and stand-ins for the classes that OpenMMLab's files carry. Everything else is refused.
"""

from __future__ import annotations

import collections
import datetime
import functools
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from omnidet.checkpoints.bounds import Bounds

LONGEST_NAME = 10_000


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

    def __new__(cls, *_: Any) -> _Array:    # of no items until its state is set: `(10 ** 12,)` would take all memory
        return np.ndarray.__new__(cls, (0,), 'b')

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        super().__setstate__((version, shape, dtype.dtype, fortran, raw))    # checks that `raw` fits `shape`


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype.dtype, count=1)[0]


def _from_buffer(raw: bytes, dtype: _DType, shape: tuple[int, ...], order: str = 'C') -> Any:
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)    # type: ignore[call-overload]


def _bytes(text: str | bytes = b'', encoding: str = 'latin1') -> bytes:
    """Bytes of text, as old protocols write them; never `bytes(10 ** 12)`, which takes all memory."""
    return text.encode('latin1') if isinstance(text, str) else bytes(memoryview(text))


def _rebuild_parameter(data: Any, requires_grad: bool, hooks: Any, state: Any = None) -> Any:
    """A parameter without the attributes that someone gave it."""
    return torch._utils._rebuild_parameter(data, requires_grad, hooks)


def _rebuild_from_type(function: Any, kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """A tensor of a subclass, or with attributes, as a plain one."""
    if function not in _TENSORS:
        raise RefusedError(f'a tensor made by {function!r}')
    return function(*arguments)


def _method(owner: Any, name: str) -> str:
    """What is left of a method that an object refers to: its name."""
    return _short(f'{owner if isinstance(owner, str) else getattr(owner, "__name__", type(owner).__name__)}.{name}')


def _path(*parts: str) -> str:
    return _short('/'.join(parts))


def _short(name: str) -> str:
    """`name`, unless it has grown as no name does: a pickle can put names together again and again."""
    if len(name) > LONGEST_NAME:
        raise pickle.UnpicklingError(f'a name has {len(name)} characters')
    return name


_TENSORS = (torch._utils._rebuild_tensor_v2, torch._utils._rebuild_tensor_v3, _rebuild_parameter)

DICTS = ('mmengine.config.config.ConfigDict', 'mmcv.utils.config.ConfigDict', 'addict.addict.Dict')
OBJECTS = (
    'mmengine.config.config.Config', 'mmcv.utils.config.Config', 'mmengine.config.lazy.LazyObject',
    'mmengine.config.lazy.LazyAttr', 'mmengine.logging.history_buffer.HistoryBuffer',
    'mmengine.logging.message_hub.MessageHub', 'mmcv.runner.log_buffer.LogBuffer',
    'mmengine.structures.base_data_element.BaseDataElement', 'mmengine.structures.instance_data.InstanceData',
    'mmengine.structures.pixel_data.PixelData', 'mmengine.structures.label_data.LabelData',
    'mmdet.structures.det_data_sample.DetDataSample', 'argparse.Namespace', 'types.SimpleNamespace', 'builtins.range',
    'builtins.xrange', 'torch._C.Generator', 'torch.Tensor', 'torch._tensor.Tensor', 'numpy.random._pcg64.PCG64',
    'numpy.random._mt19937.MT19937', 'numpy.random._pickle.__randomstate_ctor',
    'numpy.random._pickle.__generator_ctor', 'numpy.random._pickle.__bit_generator_ctor',
)
"""What OpenMMLab's files, and the states of random numbers in them, are known to hold: kept as data."""


@functools.cache
def _stand_in(name: str, base: type) -> type:
    return type(name.rpartition('.')[2], (base,), {})


def _known() -> dict[str, Any]:
    known: dict[str, Any] = {
        'collections.OrderedDict': collections.OrderedDict, 'collections.Counter': collections.Counter,
        'collections.deque': collections.deque, 'collections.defaultdict': InertDict,
        'builtins.getattr': _method, 'builtins.slice': slice,
        '_codecs.encode': _bytes, 'builtins.bytes': _bytes, 'builtins.bytearray': _bytes,
        'numpy.ndarray': _Array, 'numpy.dtype': _DType,
        'torch.Size': torch.Size, 'torch.device': torch.device, 'torch.nn.parameter.Parameter': torch.nn.Parameter,
        'torch.serialization._get_layout': torch.serialization._get_layout,
        'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
        'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
        'torch._utils._rebuild_tensor_v3': torch._utils._rebuild_tensor_v3,
        'torch._utils._rebuild_parameter': _rebuild_parameter,
        'torch._utils._rebuild_parameter_with_state': _rebuild_parameter,
        'torch._tensor._rebuild_from_type_v2': _rebuild_from_type,
    }
    for when in (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone):
        known[f'datetime.{when.__name__}'] = when
    for kind in (list, dict, tuple, set, frozenset, int, float, bool, str, complex):
        known[f'builtins.{kind.__name__}'] = kind
    for core in ('numpy.core', 'numpy._core'):
        known |= {f'{core}.multiarray._reconstruct': _empty_array, f'{core}.multiarray.scalar': _scalar,
                  f'{core}.numeric._frombuffer': _from_buffer}
    for path in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath', 'Path'):
        known |= {f'pathlib.{path}': _path, f'pathlib._local.{path}': _path}
    known |= {name: _stand_in(name, InertDict) for name in DICTS} | {name: _stand_in(name, Inert) for name in OBJECTS}
    known |= {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
    known |= {f'torch.{k}': v for k, v in vars(torch).items() if k.endswith('Storage') and isinstance(v, type)}
    return known


_KNOWN = _known()
_TAKES_STATE = (collections.OrderedDict, Inert, InertDict, _DType, _Array)


def _weighing(code: bytes) -> Callable[[Unpickler], None]:
    """An operation that makes a tuple."""
    load: Callable[[Any], None] = pickle._Unpickler.dispatch[code[0]]

    def weigh(self: Unpickler) -> None:
        load(self)
        self.bounds.weigh(self.stack[-1])    # type: ignore[attr-defined]
    return weigh


def _with_keys(code: bytes, keys: Callable[[list[Any]], Iterable[Any]]) -> Callable[[Unpickler], None]:
    """An operation that makes keys of what is on the stack."""
    load: Callable[[Any], None] = pickle._Unpickler.dispatch[code[0]]

    def check(self: Unpickler) -> None:
        self.bounds.keys(keys(self.stack))    # type: ignore[attr-defined]
        load(self)
    return check


class Unpickler(pickle._Unpickler):    # the reader in Python: it lets operations be overridden
    """`pickle.Unpickler` for `_KNOWN` names alone, within `Bounds`.

    Args:
        file: opened to be read as bytes.
        sizes: {name of a tensor's memory: bytes that the file has for it}, where that is known.
        kwargs: as of `pickle.Unpickler`.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any, *, sizes: Mapping[str, int] | None = None, **kwargs: Any) -> None:
        super().__init__(file, **kwargs)
        self.sizes = sizes
        self.bounds = Bounds()

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
                vars(target).update((k, v) for k, v in values.items() if isinstance(k, str) and not k.startswith('__')
                                    and not hasattr(type(target), k))    # `items` stays the method that it is
            return
        super().load_build()    # type: ignore[misc]

    def load_bytearray8(self) -> None:
        """As pickle does it, but what the file does not hold is not made room for."""
        length = int.from_bytes(self.read(8), 'little')    # type: ignore[attr-defined]
        data = bytearray(self.read(length) if length <= sys.maxsize else b'')    # type: ignore[attr-defined]
        if len(data) != length:
            raise pickle.UnpicklingError(f'{length} bytes are claimed, {len(data)} are there')
        self.append(data)    # type: ignore[attr-defined]

    def load_binpersid(self) -> None:
        """A tensor's memory, which must not be more than the file has for it: older torch reads beyond it."""
        pid = self.stack[-1]    # type: ignore[attr-defined]
        if self.sizes is not None and isinstance(pid, tuple) and len(pid) == 5 and isinstance(pid[4], int):
            claimed = pid[4] * getattr(getattr(pid[1], 'dtype', None), 'itemsize', 1)
            if not 0 <= claimed <= self.sizes.get(str(pid[2]), 0):
                raise pickle.UnpicklingError(f'a tensor claims {claimed} bytes, the file has '
                                             f'{self.sizes.get(str(pid[2]), 0)} for it')
        super().load_binpersid()    # type: ignore[misc]

    def _check_call(self, function: Any, arguments: Any) -> None:
        if isinstance(function, type) and function.__name__.endswith('Storage'):
            raise RefusedError(f'torch.{function.__name__}(...), memory without content')
        self.bounds.call(function, arguments)

    def load_reduce(self) -> None:
        self._check_call(self.stack[-2], self.stack[-1])    # type: ignore[attr-defined]
        super().load_reduce()    # type: ignore[misc]
        self.bounds.weigh(self.stack[-1])    # type: ignore[attr-defined]

    def load_newobj(self) -> None:
        self._check_call(self.stack[-2], self.stack[-1])    # type: ignore[attr-defined]
        super().load_newobj()    # type: ignore[misc]
        self.bounds.weigh(self.stack[-1])    # type: ignore[attr-defined]

    def load_newobj_ex(self) -> None:
        self._check_call(self.stack[-3], self.stack[-2])    # type: ignore[attr-defined]
        super().load_newobj_ex()    # type: ignore[misc]
        self.bounds.weigh(self.stack[-1])    # type: ignore[attr-defined]

    def _instantiate(self, klass: Any, args: Any) -> None:
        self._check_call(klass, args)
        super()._instantiate(klass, args)    # type: ignore[misc]
        self.bounds.weigh(self.stack[-1])    # type: ignore[attr-defined]

    dispatch |= {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8,
                 pickle.BINPERSID[0]: load_binpersid, pickle.REDUCE[0]: load_reduce, pickle.NEWOBJ[0]: load_newobj,
                 pickle.NEWOBJ_EX[0]: load_newobj_ex}
    dispatch |= {code[0]: _weighing(code) for code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)}
    dispatch |= {code[0]: _with_keys(code, keys) for code, keys in (
        (pickle.SETITEM, lambda stack: stack[-2:-1]), (pickle.SETITEMS, lambda stack: stack[::2]),
        (pickle.DICT, lambda stack: stack[::2]), (pickle.ADDITEMS, list), (pickle.FROZENSET, list))}


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
