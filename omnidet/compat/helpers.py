"""Small functions that code for MMDetection imports from `mmdet.core`, `mmdet.utils`, `mmengine.utils` and others."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from omnidet.config.nodes import ConfigDict
from omnidet.engine import distributed

ConfigType = Union[ConfigDict, dict]    # noqa: UP007
OptConfigType = Optional[ConfigType]    # noqa: UP045
MultiConfig = Union[ConfigType, list[ConfigType]]    # noqa: UP007
OptMultiConfig = Optional[MultiConfig]    # noqa: UP045
RangeType = Sequence[tuple[int, int]]
INF = 1e8
IS_CUDA_AVAILABLE = torch.cuda.is_available()
TORCH_VERSION = torch.__version__
INSTANCE_OFFSET = 1000


# -------------------------------------------------------------------------------------------------- of heads

def multi_apply(func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[list[Any], ...]:
    """`func` over several lists at once: a list of each of its results."""
    made = [func(*items, **kwargs) for items in zip(*args, strict=False)]
    return tuple(list(column) for column in zip(*made, strict=True))


def unmap(data: Tensor, count: int, inds: Tensor, fill: float = 0) -> Tensor:
    """`data` in the places `inds` (a mask or indices) of `count`, and `fill` elsewhere."""
    out = data.new_full((count, *data.shape[1:]), fill)
    out[inds.bool() if inds.dtype in (torch.bool, torch.uint8) else inds] = data
    return out


def images_to_levels(target: Sequence[Tensor], num_levels: Sequence[int]) -> list[Tensor]:
    """Targets of each image (N, ...) as (B, n, ...) of each level."""
    return list(torch.stack(list(target)).split(list(num_levels), 1))


def select_single_mlvl(mlvl_tensors: Sequence[Tensor], batch_id: int, detach: bool = True) -> list[Tensor]:
    """Each level's tensor of one image."""
    return [t[batch_id].detach() if detach else t[batch_id] for t in mlvl_tensors]


def filter_scores_and_topk(scores: Tensor, score_thr: float, topk: int, results: Any = None) -> tuple[Any, ...]:
    """The `topk` best scores above a threshold of (N, K): scores, labels, rows, and the same rows of `results`."""
    valid = (scores > score_thr).nonzero()
    best, order = scores[scores > score_thr].sort(descending=True)
    best, picked = best[:topk], valid[order[:topk]]
    rows, labels = picked.unbind(1)
    if isinstance(results, dict):
        results = {k: v[rows] for k, v in results.items()}
    elif isinstance(results, (list, tuple)):
        results = [v[rows] for v in results]
    elif results is not None:
        results = results[rows]
    return best, labels, rows, results


def sigmoid_geometric_mean(x: Tensor, y: Tensor) -> Tensor:
    """The square root of the product of two sigmoids."""
    return (x.sigmoid() * y.sigmoid()).sqrt()


def interpolate_as(source: Tensor, target: Tensor, mode: str = 'bilinear', align_corners: bool = False) -> Tensor:
    """`source` (..., h, w) in the size of `target`."""
    size = tuple(target.shape[-2:])
    planes = source if source.ndim == 4 else source[:, None]
    out = nn.functional.interpolate(planes, size, mode=mode, align_corners=align_corners)
    return out if source.ndim == 4 else out[:, 0]


def make_divisible(value: float, divisor: int, min_value: int | None = None, min_ratio: float = 0.9) -> int:
    """The nearest multiple of `divisor` that is not below `min_ratio` of `value`."""
    new = max(min_value or divisor, int(value + divisor / 2) // divisor * divisor)
    return new + divisor if new < min_ratio * value else new


# ---------------------------------------------------------------------------------------- of names and versions

def is_str(x: Any) -> bool:
    return isinstance(x, str)


def is_seq_of(seq: Any, expected_type: Any, seq_type: Any = None) -> bool:
    """Whether `seq` is a sequence whose items are all of a type."""
    return isinstance(seq, seq_type or Sequence) and all(isinstance(x, expected_type) for x in seq)


def is_list_of(seq: Any, expected_type: Any) -> bool:
    return is_seq_of(seq, expected_type, list)


def is_tuple_of(seq: Any, expected_type: Any) -> bool:
    return is_seq_of(seq, expected_type, tuple)


def ntuple(n: int) -> Callable[[Any], Any]:
    """A function that repeats what is no sequence `n` times."""
    def repeated(x: Any) -> Any:
        return x if isinstance(x, Iterable) and not isinstance(x, str) else (x,) * n
    return repeated


to_1tuple, to_2tuple, to_3tuple, to_4tuple, to_ntuple = ntuple(1), ntuple(2), ntuple(3), ntuple(4), ntuple


def digit_version(version: str, length: int = 4) -> tuple[int, ...]:
    """The numbers of a version; those of a release candidate sort before the release's."""
    plain, _, candidate = version.partition('+')[0].partition('rc')
    numbers = [int(''.join(c for c in part if c.isdigit()) or 0) for part in plain.split('.') if part]
    numbers = (numbers + [0] * length)[:length]
    return (*numbers, *((-1, int(candidate)) if candidate.isdigit() else (0, 0)))


def import_modules_from_strings(imports: str | Sequence[str], allow_failed_imports: bool = False) -> Any:
    """Import modules by their names."""
    found = []
    for name in [imports] if isinstance(imports, str) else imports:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            if not allow_failed_imports:
                raise
            found.append(None)    # type: ignore[arg-type]
    return found[0] if isinstance(imports, str) else found


def track_iter_progress(tasks: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """The items of `tasks`, or of the first of (tasks, number)."""
    yield from tasks[0] if isinstance(tasks, tuple) else tasks


def deprecated_api_warning(name_dict: dict[str, str], cls_name: str | None = None) -> Callable[[Any], Any]:
    """A decorator: arguments may have their old names."""
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{name_dict.get(k, k): v for k, v in kwargs.items()})
        return renamed
    return decorate


def register_all_modules(init_default_scope: bool = True) -> None:
    """Nothing: registries import their parts when a name is first looked up, and there are no scopes."""


# -------------------------------------------------------------------------------------------------- of logs

def get_logger(name: str = 'omnidet', log_file: Any = None, log_level: Any = logging.INFO, **kwargs: Any
               ) -> logging.Logger:
    """OmniDet's logger."""
    return logging.getLogger('omnidet')


get_root_logger = get_logger


class MMLogger:
    """Where code for MMEngine finds the logger."""

    @staticmethod
    def get_instance(name: str = 'omnidet', **kwargs: Any) -> logging.Logger:
        return get_logger()

    @staticmethod
    def get_current_instance() -> logging.Logger:
        return get_logger()


def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
    """Print a message, or hand it to a logger; 'silent' swallows it."""
    if logger is None:
        print(msg)
    elif logger != 'silent':
        (logger if isinstance(logger, logging.Logger) else get_logger()).log(level, msg)


# ------------------------------------------------------------------------------------------- of processes

def get_rank(group: Any = None) -> int:
    return distributed.rank()


def get_world_size(group: Any = None) -> int:
    return distributed.world_size()


def get_dist_info(group: Any = None) -> tuple[int, int]:
    """This process's number, and how many there are."""
    return distributed.rank(), distributed.world_size()


def is_main_process(group: Any = None) -> bool:
    return distributed.is_main()


def is_distributed() -> bool:
    return distributed.is_distributed()


def master_only(function: Any) -> Any:
    """A decorator: the main process alone runs the function."""
    @functools.wraps(function)
    def on_main(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if distributed.is_main() else None
    return on_main


def all_reduce(data: Tensor, op: str = 'sum', group: Any = None) -> None:
    """Sum a tensor over the processes, in place; 'mean' divides."""
    if distributed.world_size() > 1:
        torch.distributed.all_reduce(data)
        if op == 'mean':
            data /= distributed.world_size()


def set_random_seed(seed: int, deterministic: bool = False, diff_rank_seed: bool = False) -> int:
    """Seed Python, numpy and torch."""
    from omnidet.engine.run import set_seed
    set_seed(seed, deterministic)
    return seed


def is_module_wrapper(module: Any) -> bool:
    """Whether a module wraps another for several processes."""
    return isinstance(module, (nn.parallel.DistributedDataParallel, nn.DataParallel))


def get_device() -> str:
    """The kind of the best device there is."""
    return distributed.pick_device().type


def tensor2imgs(tensor: Tensor, mean: Any = (0, 0, 0), std: Any = (1, 1, 1), to_rgb: bool = True) -> list[np.ndarray]:
    """Normalised images (B, 3, H, W) as arrays (H, W, 3) of uint8, with the channels turned where `to_rgb`."""
    images = tensor.detach().cpu().numpy().transpose(0, 2, 3, 1) * np.asarray(std) + np.asarray(mean)
    images = images[..., ::-1] if to_rgb else images
    return [np.ascontiguousarray(i.clip(0, 255).astype(np.uint8)) for i in images]
