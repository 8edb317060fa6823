"""What happens to a batch on the device before the model sees it: normalisation and the last padding."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.ops.masks import resize_masks
from omnidet.registry import PREPROCESSORS
from omnidet.structures import IGNORE_LABEL, Batch, ImageMeta, Targets


@PREPROCESSORS.register
class DetDataPreprocessor(nn.Module):
    """Normalise a batch and pad it to a multiple of `pad_size_divisor`.

    It has no entries in a state dict, so that checkpoints hold the model alone.

    Args:
        mean, std: of each channel, in the order of the channels after the swap; None to leave the values as they are.
        pad_size_divisor: H and W become multiples of this.
        pad_value: what padded pixels hold after normalisation.
        pad_mask, mask_pad_value: accepted; masks are padded along in any case, and no object is in the padding.
        pad_seg, seg_pad_value: semantic maps are padded along in any case; with what. 255 is ignored.
        bgr_to_rgb, rgb_to_bgr: swap the first and last channel.
        boxtype2tensor: accepted; boxes are tensors always.
        non_blocking: do not wait for copies to the device.
        batch_augments: augmentations of whole batches, in training only.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                 pad_size_divisor: int = 1, pad_value: float = 0, pad_mask: bool = False, mask_pad_value: int = 0,
                 pad_seg: bool = False, seg_pad_value: int = IGNORE_LABEL, bgr_to_rgb: bool = False,
                 rgb_to_bgr: bool = False, boxtype2tensor: bool = True, non_blocking: bool = False,
                 batch_augments: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ConfigError('DetDataPreprocessor: mean and std go together')
        if bgr_to_rgb and rgb_to_bgr:
            raise ConfigError('DetDataPreprocessor: bgr_to_rgb and rgb_to_bgr exclude each other')
        for name, values in (('mean', mean), ('std', std)):
            if values is not None and len(values) not in (1, 3):
                raise ConfigError(f'DetDataPreprocessor.{name}: one value or three are wanted; found {values!r}')
        for name, values in (('mean', mean), ('std', std)):
            buffer = None if values is None else torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, buffer, persistent=False)
        self.pad_size_divisor = pad_size_divisor
        self.pad_value = pad_value
        self.seg_pad_value = seg_pad_value
        self.swap_channels = bgr_to_rgb or rgb_to_bgr
        self.non_blocking = non_blocking
        self.batch_augments = nn.ModuleList(PREPROCESSORS.build(augment) for augment in batch_augments or ())

    def set_progress(self, epoch: int, iteration: int) -> None:
        """Tell the batch augmentations where the training is; without it they count batches themselves."""
        for augment in self.batch_augments:
            augment.set_progress(epoch, iteration)    # type: ignore[operator]

    @torch.no_grad()
    def forward(self, batch: Batch) -> Batch:
        """A batch as loaded, already on its device, as the model takes it: float and padded."""
        x = batch.images
        H, W = (-(-n // self.pad_size_divisor) * self.pad_size_divisor for n in x.shape[-2:])
        if self.swap_channels and x.shape[1] == 3:
            x = x.flip(1)
        x = self._normalise(x.float())
        images = F.pad(x, (0, W - x.shape[-1], 0, H - x.shape[-2]), value=self.pad_value)
        for image, meta in zip(images, batch.metas, strict=True):
            h, w = meta.img_shape
            image[:, h:] = self.pad_value
            image[:, :, w:] = self.pad_value
        out = Batch(images, [dataclasses.replace(m, pad_shape=(H, W)) for m in batch.metas],
                    pad_targets(batch.targets, (H, W), self.seg_pad_value))
        if self.training:
            for augment in self.batch_augments:
                out = augment(out)
        return out

    def _normalise(self, x: Tensor) -> Tensor:
        return x if self.mean is None or self.std is None else (x - self.mean) / self.std


def pad_targets(targets: Targets | None, shape: tuple[int, int], seg_value: int = IGNORE_LABEL) -> Targets | None:
    """Enlarge the masks and semantic maps of `targets` to `shape` (H, W) of the batch."""
    if targets is None:
        return None
    masks, sem_seg = targets.masks, targets.sem_seg
    masks = None if masks is None else masks.padded(shape)
    if sem_seg is not None and sem_seg.shape[-2:] != shape:
        sem_seg = F.pad(sem_seg, _right_bottom(sem_seg, shape), value=seg_value)
    return dataclasses.replace(targets, masks=masks, sem_seg=sem_seg)


def _right_bottom(x: Tensor, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    return 0, shape[1] - x.shape[-1], 0, shape[0] - x.shape[-2]


@PREPROCESSORS.register
class BatchFixedSizePad(nn.Module):
    """Pad batches that are smaller to one size, so that a compiled step meets one shape.

    Args:
        size: (h, w).
        img_pad_value: what padded pixels hold.
        pad_mask, mask_pad_value: accepted; masks are padded along in any case, and no object is in the padding.
        pad_seg, seg_pad_value: semantic maps are padded along in any case; with what.
    """

    def __init__(self, size: tuple[int, int], img_pad_value: float = 0, pad_mask: bool = False,
                 mask_pad_value: int = 0, pad_seg: bool = False, seg_pad_value: int = IGNORE_LABEL) -> None:
        super().__init__()
        self.size = tuple(size)
        self.img_pad_value = img_pad_value
        self.seg_pad_value = seg_pad_value

    def set_progress(self, epoch: int, iteration: int) -> None:
        """Nothing here depends on it."""

    def forward(self, batch: Batch) -> Batch:
        H, W = (max(a, b) for a, b in zip(self.size, batch.images.shape[-2:], strict=True))
        images = F.pad(batch.images, _right_bottom(batch.images, (H, W)), value=self.img_pad_value)
        return Batch(images, [dataclasses.replace(m, pad_shape=(H, W)) for m in batch.metas],
                     pad_targets(batch.targets, (H, W), self.seg_pad_value))


@PREPROCESSORS.register
class BatchSyncRandomResize(nn.Module):
    """Resize training batches to a random square size that changes every few iterations, equally on all ranks.

    Args:
        random_size_range: the least and the greatest size in pixels.
        interval: iterations between changes.
        size_divisor: sizes are multiples of this.
    """

    def __init__(self, random_size_range: tuple[int, int], interval: int = 10, size_divisor: int = 32) -> None:
        super().__init__()
        self.random_size_range = tuple(round(size / size_divisor) for size in random_size_range)
        self.interval = interval
        self.size_divisor = size_divisor
        self.iteration = 0

    def set_progress(self, epoch: int, iteration: int) -> None:
        self.iteration = iteration

    def forward(self, batch: Batch) -> Batch:
        shape = self._shape(batch.images.shape[-2:])
        self.iteration += 1
        old = batch.images.shape[-2:]
        if shape == tuple(old):
            return batch
        fy, fx = shape[0] / old[0], shape[1] / old[1]
        images = F.interpolate(batch.images, size=shape, mode='bilinear', align_corners=False)
        metas = [_rescaled(m, fy, fx, shape) for m in batch.metas]
        return Batch(images, metas, _rescale_targets(batch.targets, fy, fx, shape))

    def _shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """The (H, W) of this iteration: the first interval keeps the batch's, and W / H stays as it is."""
        H, W = int(shape[0]), int(shape[1])
        draw = self.iteration // self.interval
        if draw == 0:
            return H, W
        height = random.Random(draw).randint(*self.random_size_range) * self.size_divisor
        return height, max(int(self.size_divisor * round(height * W / H / self.size_divisor)), self.size_divisor)


@PREPROCESSORS.register
class BatchResize(nn.Module):
    """Resize training batches so that the shorter side has one length, and the longer one at most another; then pad.

    Args:
        scale: the two lengths in pixels, in either order.
        pad_size_divisor: H and W become multiples of this.
        pad_value: what padded pixels hold.
    """

    def __init__(self, scale: tuple[int, int], pad_size_divisor: int = 32, pad_value: float = 0) -> None:
        super().__init__()
        self.shorter, self.longer = min(scale), max(scale)
        self.pad_size_divisor = pad_size_divisor
        self.pad_value = pad_value

    def set_progress(self, epoch: int, iteration: int) -> None:
        """Nothing here depends on it."""

    def forward(self, batch: Batch) -> Batch:
        h, w = batch.images.shape[-2:]
        factor = min(self.shorter / min(h, w), self.longer / max(h, w))
        shape = round(h * factor), round(w * factor)
        fy, fx = shape[0] / h, shape[1] / w
        images = F.interpolate(batch.images, size=shape, mode='bilinear', align_corners=False)
        H, W = (-(-n // self.pad_size_divisor) * self.pad_size_divisor for n in shape)
        images = F.pad(images, _right_bottom(images, (H, W)), value=self.pad_value)
        targets = pad_targets(_rescale_targets(batch.targets, fy, fx, shape), (H, W))
        return Batch(images, [_rescaled(m, fy, fx, (H, W)) for m in batch.metas], targets)


def _rescaled(meta: ImageMeta, fy: float, fx: float, shape: tuple[int, int]) -> ImageMeta:
    h, w = meta.img_shape
    return dataclasses.replace(meta, img_shape=(int(h * fy), int(w * fx)), pad_shape=shape,
                               scale_factor=(meta.scale_factor[0] * fx, meta.scale_factor[1] * fy))


def _rescale_targets(targets: Targets | None, fy: float, fx: float, shape: tuple[int, int]) -> Targets | None:
    if targets is None:
        return None
    masks, sem_seg = targets.masks, targets.sem_seg
    masks = None if masks is None else resize_masks(masks, shape)
    if sem_seg is not None:
        sem_seg = F.interpolate(sem_seg[:, None].float(), size=shape, mode='nearest')[:, 0].long()
    factor = targets.boxes.new_tensor([fx, fy, fx, fy])
    sizes = (targets.sizes * targets.boxes.new_tensor([fy, fx])).long()
    proposals = None if targets.proposals is None else targets.proposals * factor
    return dataclasses.replace(targets, boxes=targets.boxes * factor, sizes=sizes, masks=masks, sem_seg=sem_seg,
                               proposals=proposals)


def build_preprocessor(cfg: Mapping[str, Any] | None) -> nn.Module:
    """The preprocessor that a config's `data_preprocessor` describes.

    Args:
        cfg: that dict; None for one that only turns images to float. One that wraps another (`data_preprocessor=`
            inside, as semi-supervised training has it) gives the inner one.
    """
    while cfg is not None and isinstance(cfg.get('data_preprocessor'), Mapping):
        cfg = cfg['data_preprocessor']
    return PREPROCESSORS.build({'type': 'DetDataPreprocessor', **(cfg or {})})
