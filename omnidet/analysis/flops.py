"""How large a model is, and how much work one image is: parameters and multiply-adds, by module.

Counted are convolutions, matrix products and attention, as `torch.utils.flop_counter` does. What a model does to each
pixel or box by itself (norms, activations, resizing, pooling of RoIs, suppression) is not. The model is built and run
on the meta device, which computes shapes alone: that takes a second, whatever its size.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from omnidet.errors import ConfigError
from omnidet.models import build_model
from omnidet.structures import ImageMeta

DEFAULT_SHAPE = 1280, 800
"""(h, w) that MMDetection's tables are made with, where a config resizes to (1333, 800) as COCO's do."""

PROPOSALS, MASKS = 1000, 100
"""How many boxes the second stage looks at, and draws masks of, where the config does not say."""


@dataclass(frozen=True)
class Row:
    """A module: its name, parameters (and how many of them are trained), and multiply-adds."""

    name: str
    parameters: int
    trained: int
    macs: float


@dataclass(frozen=True)
class Complexity:
    """A model's size and work.

    Attributes:
        shape: (h, w) of the image.
        total: the whole model.
        rows: its modules, down to the depth that was asked for.
        notes: what the figures depend on.
    """

    shape: tuple[int, int]
    total: Row
    rows: list[Row]
    notes: list[str]


def count_flops(cfg: Mapping[str, Any], shape: tuple[int, int] | None = None, depth: int = 1) -> Complexity:
    """Count the parameters of a config's model, and the multiply-adds of predicting one image.

    Args:
        cfg: a whole config.
        shape: (h, w) of the image; by default what `default_shape` says. It is enlarged to a multiple of what the
            config pads to.
        depth: how far to go into the modules for the rows.
    """
    size = padded(shape or default_shape(cfg), cfg)
    with torch.device('meta'):
        model = build_model(cfg).eval()
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False)    # the counter minds those that want a gradient
    notes = []
    with _watched(model) as ran, _counting() as counter:
        try:
            _Call(model)(torch.empty(1, 3, *size, device='meta'))
        except (NotImplementedError, RuntimeError):    # where it depends on what is found, shapes are not enough
            notes += _second_stage(model, size)
    if not _all_ran(model, ran):
        notes = ['the model was run on random weights: a part of its work depends on what is found']
        model = build_model(cfg).eval().requires_grad_(False)
        with _counting() as counter:
            _Call(model)(torch.zeros(1, 3, *size))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    counts = {str(name).partition('.model.')[2]: sum(ops.values()) / 2
              for name, ops in counter.get_flop_counts().items() if '.model.' in str(name)}
    total = _row('total', model, counter.get_total_flops() / 2)
    rows = list(_rows(model, counts, depth))
    outside = total.macs - sum(r.macs for r in _rows(model, counts, 1))
    if outside > 1e-4 * total.macs:
        rows.append(Row('(outside of modules)', 0, 0, outside))
    return Complexity(size, total, rows, notes)


def default_shape(cfg: Mapping[str, Any]) -> tuple[int, int]:
    """(h, w) of an image as the config tests: a fixed size where its pipeline has one.

    (1333, 800), to which images are fitted in their own proportions, stands for 1280 x 800, as in MMDetection's tables.
    """
    from omnidet.data.load_input import test_pipeline
    try:
        steps = test_pipeline(cfg)
    except ConfigError:
        return DEFAULT_SHAPE
    sizes = [step[key] for step in steps if isinstance(step, Mapping) for key in ('scale', 'size') if step.get(key)]
    size = next((s for s in sizes if isinstance(s, Sequence) and len(s) == 2 and all(isinstance(n, int) for n in s)),
                None)
    if size is None or sorted(size) == [800, 1333]:
        return DEFAULT_SHAPE
    return int(size[1]), int(size[0])


def padded(shape: tuple[int, int], cfg: Mapping[str, Any]) -> tuple[int, int]:
    """`shape` (h, w), enlarged as the config's preprocessor pads."""
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    divisor = int(preprocessor.get('pad_size_divisor') or 1)
    h, w = (math.ceil(n / divisor) * divisor for n in shape)
    return h, w


class _Call(nn.Module):
    """A model whose call predicts an image; its name is what the counter puts before those of the model's modules."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, image: Tensor) -> Any:
        return self.model.predict(image, [_meta(image.shape[-2:])])    # type: ignore[operator]


def _meta(size: Sequence[int]) -> ImageMeta:
    """With proposals, for a model that is handed them."""
    shape = (int(size[0]), int(size[1]))
    box = torch.tensor([0.0, 0.0, shape[1] / 4, shape[0] / 4]).expand(PROPOSALS, 4)
    return ImageMeta(shape, shape, pad_shape=shape, proposals=box)


@contextlib.contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """A counter, with attention in operations that it can look into."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[set[nn.Module]]:
    """Gives the set of modules that have run so far; it grows inside the block."""
    ran: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda module, _, out: ran.add(module)) for m in model.modules()]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def _second_stage(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """Run the RoI heads, if there are any, on as many boxes as the config lets through."""
    if not hasattr(getattr(model, 'roi_head', None), 'stages'):
        return []
    head: Any = model.roi_head
    rpn = getattr(getattr(model, 'rpn_head', None), 'postprocess', None)
    boxes = _positive(getattr(rpn, 'max_per_img', None), PROPOSALS)
    masks = min(_positive(getattr(getattr(head, 'postprocess', None), 'max_per_img', None), MASKS), boxes)
    run = _Stages(model, boxes, masks)
    with torch.no_grad():
        run()
    notes = [f'the second stage looks at {boxes} boxes']
    return [notes[0] + (f' and draws {masks} masks' if run.has_masks else '')]


class _Stages(nn.Module):
    """RoI heads alone, on boxes of which only the number is known."""

    def __init__(self, model: nn.Module, boxes: int, masks: int) -> None:
        super().__init__()
        self.model = model
        self.boxes, self.masks, self.has_masks = boxes, masks, False

    def forward(self) -> None:
        head: Any = self.model.roi_head
        for stage in head.stages():
            stage.bbox_head(self.pooled(head, stage.bbox_extractor, self.boxes))
            if stage.mask_head is not None:
                self.has_masks = True
                stage.mask_head(self.pooled(head, stage.mask_extractor or stage.bbox_extractor, self.masks))

    def pooled(self, head: Any, extractor: Any, count: int) -> Tensor:
        """(count, C, h, w) features of RoIs; where an extractor has parameters of its own, these are not run."""
        size = extractor.roi_layers[0].output_size
        h, w = (size, size) if isinstance(size, int) else size
        x = torch.empty(count, extractor.out_channels, h, w, device='meta')
        return x if head.shared_head is None else head.shared_head(x)


def _positive(value: Any, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default


def _all_ran(model: nn.Module, ran: set[nn.Module]) -> bool:
    """Whether every convolution and every linear layer has run.

    Heads on intermediate decoder layers, which only train, may stay unused where one of their list has run; torch's
    attention has a layer that it does not call, but reads.
    """
    lists = [child for m in model.modules() if isinstance(m, nn.ModuleList) and any(_runs(c, ran) for c in m)
             for child in m]
    spared = {layer for child in lists if not _runs(child, ran) for layer in child.modules()}
    spared |= {m.out_proj for m in model.modules() if isinstance(m, nn.MultiheadAttention) and m in ran}
    return all(m in ran or m in spared for m in model.modules()
               if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear)))


def _runs(module: nn.Module, ran: set[nn.Module]) -> bool:
    return any(m in ran for m in module.modules())


def _rows(model: nn.Module, counts: Mapping[str, float], depth: int, prefix: str = '') -> Iterator[Row]:
    """The modules that have parameters or work, each before those inside it."""
    for name, child in model.named_children():
        row = _row(prefix + name, child, _macs(child, prefix + name, counts))
        if row.parameters or row.macs:
            yield row
            if depth > 1:
                yield from _rows(child, counts, depth - 1, f'{prefix}{name}.')


def _macs(module: nn.Module, name: str, counts: Mapping[str, float]) -> float:
    """A module's multiply-adds; of one that was not called itself, those of its children."""
    if name in counts:
        return counts[name]
    return sum(_macs(child, f'{name}.{key}', counts) for key, child in module.named_children())


def _row(name: str, module: nn.Module, macs: float) -> Row:
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return Row(name, sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained), macs)


def _deform_conv(x: Any, weight: Sequence[int], *_: Any, out_shape: Any = None, **__: Any) -> int:
    """A deformable convolution's products are those of a plain one; its sampling is not counted."""
    B, C, H, W = out_shape
    return 2 * B * C * H * W * math.prod(weight[1:])


assert torchvision.extension    # it is what registers the operation
_MORE = {torch.ops.torchvision.deform_conv2d: _deform_conv}
