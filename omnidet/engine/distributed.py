"""Several processes, started by `torchrun`: who they are, and what they exchange. With one process all is a no-op."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from omnidet.errors import ConfigError


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0


def gather(value: Any) -> list[Any] | None:
    """The values of all processes by rank, on the main one; None on the others. Any picklable value."""
    if world_size() == 1:
        return [value]
    out: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, out)
    return out


def broadcast(value: Any) -> Any:
    """The main process's value, on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def any_true(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds on at least one process."""
    if world_size() == 1:
        return flag
    box = torch.tensor(float(flag), device=device)
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return bool(box.item())


def share_buffers(model: nn.Module) -> None:
    """Give every process the main one's buffers (batch norm's statistics, which each has of its own batches)."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device of this process.

    Args:
        name: 'cpu', 'cuda', 'cuda:1', 'mps', ...; None is a GPU where there is one, otherwise the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    local = int(os.environ.get('LOCAL_RANK', 0))
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise ConfigError(f"device: {name!r} is not a device; take 'cpu', 'cuda' or 'cuda:0'") from e
    if device.type == 'cuda':
        found = torch.cuda.device_count()
        index = device.index if device.index is not None else local
        if index >= found:
            raise ConfigError(f'device: {name} (number {index}) is not there; torch finds {found or "no"} GPUs')
        device = torch.device('cuda', index)
    elif device.type == 'mps' and not torch.backends.mps.is_available():
        raise ConfigError('device: mps is not available here')
    return device


@contextlib.contextmanager
def processes(device: torch.device, backend: str | None = None) -> Iterator[None]:
    """Join the other processes where `torchrun` started this one, and leave them at the end.

    Args:
        device: of this process.
        backend: 'nccl' or 'gloo'; by default what suits the device.
    """
    started = 'RANK' in os.environ and int(os.environ.get('WORLD_SIZE', 1)) > 1 and not is_distributed()
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    if started:
        suits = 'nccl' if device.type == 'cuda' and dist.is_nccl_available() else 'gloo'
        dist.init_process_group(backend if backend and device.type == 'cuda' else suits)
    try:
        yield
    finally:
        if started and is_distributed():
            gc.collect()    # a DistributedDataParallel that outlived the group could wait for ever for its threads
            dist.destroy_process_group()
