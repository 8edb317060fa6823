"""The safetensors format: a header in json, and the tensors' bytes one after another. Nothing in it can run.

8 bytes: N, the header's length, little-endian; N bytes: {name: {dtype, shape, data_offsets: [begin, end]}} with
offsets from the header's end, and `__metadata__`, a dict of strings; then the data, row by row, little-endian, without
gaps. (https://github.com/huggingface/safetensors, "Format")
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnidet.errors import CheckpointError
from omnidet.files import written_whole

DTYPES = {'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16,
          'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2, 'C64': torch.complex64,
          'I64': torch.int64, 'I32': torch.int32, 'I16': torch.int16, 'I8': torch.int8, 'U64': torch.uint64,
          'U32': torch.uint32, 'U16': torch.uint16, 'U8': torch.uint8, 'BOOL': torch.bool}
"""The format's names of the types."""

MOST_DIMENSIONS = 64    # torch's own bound
LONGEST_HEADER = 100_000_000
"""Bytes: the format's own bound."""


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its `__metadata__`.

    Raises:
        CheckpointError: the file is damaged, not complete, or not of this format.
    """
    path = Path(path)
    with path.open('rb') as f:
        length = int.from_bytes(f.read(8), 'little')
        available = path.stat().st_size - 8
        if not 2 <= length <= min(available, LONGEST_HEADER):
            raise CheckpointError(f'{path}: it is no safetensors file, or not complete: its header would have {length} '
                                  'bytes; download or copy it again')
        try:
            header = json.loads(f.read(length))
            metadata = {str(k): str(v) for k, v in (header.pop('__metadata__', None) or {}).items()}
            entries = {str(name): _Entry(**entry) for name, entry in header.items()}
            _check_apart(entries)
        except (ValueError, TypeError, AttributeError, RecursionError) as e:
            raise CheckpointError(f'{path}: its header is damaged ({e}); download or copy it again') from e
        try:
            data = bytearray(available - length)
        except MemoryError:
            raise CheckpointError(f'{path}: there is no memory for its {available - length} bytes') from None
        if f.readinto(data) != len(data):
            raise CheckpointError(f'{path}: it is not complete; download or copy it again')
    try:
        return {name: entry.tensor(data) for name, entry in entries.items()}, metadata
    except (ValueError, RuntimeError, OverflowError) as e:    # torch has bounds of its own
        raise CheckpointError(f'{path}: {e}; it is damaged, download or copy it again') from e


def write_safetensors(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors; those that share memory are written apart.

    Args:
        path: the file; one of that name is replaced at once when all is written.
        state: names and tensors, on any device.
        metadata: what else the file tells.
    """
    names = {v: k for k, v in DTYPES.items()}
    header: dict[str, Any] = {'__metadata__': {'format': 'pt', **(metadata or {})}}
    begin = 0
    for name, value in state.items():
        end = begin + value.numel() * value.element_size()
        header[name] = {'dtype': names[value.dtype], 'shape': list(value.shape), 'data_offsets': [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)    # data begins at a multiple of 8
    with written_whole(path) as temporary, temporary.open('wb') as f:
        f.write(len(text).to_bytes(8, 'little') + text)
        for value in state.values():
            f.write(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def _check_apart(entries: Mapping[str, _Entry]) -> None:
    """Refuse tensors that lie on one another: a small file would be many large ones.

    Raises:
        ValueError: two do.
    """
    end, before = 0, ''
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < end:
            raise ValueError(f'{name!r} begins at byte {entry.begin}, within {before!r}')
        end, before = entry.end, name


class _Entry:
    """A tensor's description in the header.

    Raises:
        ValueError: it says what cannot be.
    """

    def __init__(self, dtype: str, shape: list[int], data_offsets: list[int]) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'a tensor has the type {dtype!r}')
        whole = [n for n in (*shape, *data_offsets) if type(n) is int and 0 <= n < 2 ** 63]
        if len(whole) != len(shape) + 2 or len(shape) > MOST_DIMENSIONS:
            raise ValueError(f'a tensor has the shape {str(shape)[:60]} at {str(data_offsets)[:60]}')
        self.dtype, self.shape = DTYPES[dtype], shape
        self.begin, self.end = data_offsets
        if math.prod(shape) * self.dtype.itemsize != self.end - self.begin:
            raise ValueError(f'a tensor of shape {shape} and type {dtype} has {self.end - self.begin} bytes')

    def tensor(self, data: bytearray) -> Tensor:
        """The tensor, in `data`'s memory."""
        if self.end > len(data):
            raise ValueError(f'a tensor ends at byte {self.end} of {len(data)}')
        if self.begin == self.end:
            return torch.empty(self.shape, dtype=self.dtype)
        raw = torch.from_numpy(np.frombuffer(data, np.uint8, self.end - self.begin, self.begin))
        if self.begin % self.dtype.itemsize:
            raw = raw.clone()    # torch reads no type at an odd place
        return raw.view(self.dtype).view(self.shape)
