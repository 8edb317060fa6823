"""Swin, a transformer that looks at windows of a map which halves from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.checkpoints.swin import convert_swin
from omnidet.errors import ConfigError
from omnidet.nn import build_norm, initialize
from omnidet.nn.drop import DropPath, drop_path_rates
from omnidet.nn.ffn import FFN
from omnidet.nn.freeze import freeze
from omnidet.nn.recompute import recompute
from omnidet.nn.window_attention import ShiftWindowMSA
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

DEFAULT_INIT: list[Cfg] = [{'type': 'TruncNormal', 'layer': 'Linear', 'std': 0.02, 'bias': 0},
                           {'type': 'Constant', 'layer': 'LayerNorm', 'val': 1}]


class PatchEmbed(nn.Module):
    """Each patch of the image as one pixel with many channels. Parameters: projection, norm (where `norm_cfg`)."""

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int, norm_cfg: Cfg | None) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(in_channels, embed_dims, patch_size, patch_size)
        self.norm = nn.Identity() if norm_cfg is None else build_norm(norm_cfg, embed_dims)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / patch, W / patch, C), sides rounded up."""
        x = F.pad(x, (0, -x.shape[3] % self.patch_size, 0, -x.shape[2] % self.patch_size))
        return self.norm(self.projection(x).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Four neighbours become one pixel (arXiv:2103.14030, section 3.1). Parameters: norm, reduction.

    Args:
        in_channels, out_channels: before and after.
        stride: pixels between the neighbourhoods of 2 x 2.
        norm_cfg: the kind of norm.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm_cfg: Cfg) -> None:
        super().__init__()
        self.stride = stride
        self.norm = build_norm(norm_cfg, 4 * in_channels)[1]
        self.reduction = nn.Linear(4 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, out_channels), sides rounded up."""
        spans = [(-(-n // self.stride) - 1) * self.stride for n in x.shape[1:3]]    # from the first to the last pixel
        bottom, right = (max(span + 2 - n, 0) for span, n in zip(spans, x.shape[1:3], strict=True))
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        four = [x[:, i:i + spans[0] + 1:self.stride, j:j + spans[1] + 1:self.stride] for i in (0, 1) for j in (0, 1)]
        return self.reduction(self.norm(torch.stack(four, -1).flatten(3)))    # neighbours lie within a channel


class SwinBlock(nn.Module):
    """Attention within windows, then a small network at each pixel; both are added to their input.

    Parameters: norm1, attn, norm2, ffn.

    Args:
        embed_dims: C.
        hidden: the width inside the small network.
        drop_path_rate: the probability of leaving out a branch.
        with_cp: compute the block again in the backward pass, instead of keeping its maps.
        act_cfg, norm_cfg: the kinds of layers.
        attention: arguments of `ShiftWindowMSA`.
    """

    def __init__(self, embed_dims: int, hidden: int, drop_rate: float, drop_path_rate: float, with_cp: bool,
                 act_cfg: Cfg, norm_cfg: Cfg, attention: Cfg) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm1 = build_norm(norm_cfg, embed_dims)[1]
        self.attn = ShiftWindowMSA(embed_dims, proj_drop_rate=drop_rate, **attention)
        self.norm2 = build_norm(norm_cfg, embed_dims)[1]
        self.ffn = FFN(embed_dims, hidden, act_cfg=act_cfg, ffn_drop=drop_rate, add_identity=False)
        self.drop_path = DropPath(drop_path_rate)

    def _block(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.ffn(self.norm2(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return recompute(self._block, x, self) if self.with_cp and self.training else self._block(x)


class SwinStage(nn.Module):
    """Blocks of which every second one has its windows shifted by half. Parameters: blocks, downsample.

    Args:
        blocks: the blocks.
        downsample: leads to the next stage; None after the last.
    """

    def __init__(self, blocks: Sequence[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> the same, and what the next stage begins with."""
        for block in self.blocks:
            x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


@BACKBONES.register
class SwinTransformer(nn.Module):
    """Swin (arXiv:2103.14030): T, S, B and L by `embed_dims`, `depths` and `num_heads`.

    Parameters: patch_embed, absolute_pos_embed (where asked for), stages, and norm0 to norm3 of `out_indices`.

    Args:
        pretrain_img_size: side of the images that position embeddings are for.
        in_channels: channels of an image.
        embed_dims: channels of the first stage; they double from stage to stage.
        patch_size: side of a patch in pixels.
        window_size: side of a window in pixels of a map.
        mlp_ratio: how much wider a block's small network is inside.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        strides: the patches' stride, which is their size, and those between stages.
        out_indices: stages whose maps come out, normalised.
        qkv_bias, qk_scale: see `WindowMSA`.
        patch_norm: normalise the patches.
        drop_rate: the probability that an activation is dropped, after the patches and in every block.
        attn_drop_rate: the probability that an attention weight is dropped.
        drop_path_rate: the probability of leaving out the last block's branches; the first's is 0.
        use_abs_pos_embed: add learned position embeddings to the patches.
        act_cfg, norm_cfg: the kinds of layers.
        with_cp: keep fewer maps for the backward pass, and compute them again.
        pretrained: where the weights lie, as older configs say it; see `init_cfg`.
        convert_weights: accepted as configs carry it: weights with the names of Microsoft's release are known by them.
        frozen_stages: how many stages do not train; 0 freezes the patches alone, -1 nothing.
        init_cfg: initial values, or `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked
            for.

    Raises:
        ConfigError: `depths`, `num_heads` and `strides` differ in length, or another value does not fit.
    """

    def __init__(self, pretrain_img_size: int | Sequence[int] = 224, in_channels: int = 3, embed_dims: int = 96,
                 patch_size: int = 4, window_size: int = 7, mlp_ratio: float = 4,
                 depths: Sequence[int] = (2, 2, 6, 2), num_heads: Sequence[int] = (3, 6, 12, 24),
                 strides: Sequence[int] = (4, 2, 2, 2), out_indices: Sequence[int] = (0, 1, 2, 3),
                 qkv_bias: bool = True, qk_scale: float | None = None, patch_norm: bool = True, drop_rate: float = 0.0,
                 attn_drop_rate: float = 0.0, drop_path_rate: float = 0.1, use_abs_pos_embed: bool = False,
                 act_cfg: Cfg = {'type': 'GELU'}, norm_cfg: Cfg = {'type': 'LN'}, with_cp: bool = False,
                 pretrained: str | None = None, convert_weights: bool = False, frozen_stages: int = -1,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        _check(depths, num_heads, strides, out_indices, patch_size, frozen_stages)
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size, norm_cfg if patch_norm else None)
        self.absolute_pos_embed = None
        if use_abs_pos_embed:
            h, w = (pretrain_img_size,) * 2 if isinstance(pretrain_img_size, int) else pretrain_img_size
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, embed_dims, h // patch_size, w // patch_size))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.drop_after_pos = nn.Dropout(drop_rate)
        rates, C = drop_path_rates(drop_path_rate, list(depths)), embed_dims
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            attention = {'num_heads': num_heads[i], 'window_size': window_size, 'qkv_bias': qkv_bias,
                         'qk_scale': qk_scale, 'attn_drop_rate': attn_drop_rate}
            blocks = [SwinBlock(C, int(mlp_ratio * C), drop_rate, rates[i][j], with_cp, act_cfg, norm_cfg,
                                {**attention, 'shift_size': window_size // 2 if j % 2 else 0}) for j in range(depth)]
            downsample = PatchMerging(C, 2 * C, strides[i + 1], norm_cfg) if i + 1 < len(depths) else None
            self.stages.append(SwinStage(blocks, downsample))
            if i in self.out_indices:
                self.add_module(f'norm{i}', build_norm(norm_cfg, C)[1])
            C *= 2
        initialize(self, init_cfg, default=DEFAULT_INIT)
        freeze(self._frozen())
        if frozen_stages >= 0 and self.absolute_pos_embed is not None:
            self.absolute_pos_embed.requires_grad = False

    def convert_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this class's names and shapes; see `convert_swin`."""
        return convert_swin(state, self.state_dict())

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        norms = [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        return [self.patch_embed, self.drop_after_pos, *self.stages[:self.frozen_stages], *norms]

    def train(self, mode: bool = True) -> SwinTransformer:
        super().train(mode)
        for module in self._frozen():
            module.eval()    # nothing is dropped in them, and norms of a batch keep their statistics
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) for each of `out_indices`, sides rounded up."""
        x = self.patch_embed(x)    # (B, H / 4, W / 4, C)
        if self.absolute_pos_embed is not None:
            position = self.absolute_pos_embed
            if position.shape[2:] != x.shape[1:3]:
                position = F.interpolate(position, x.shape[1:3], mode='bicubic', align_corners=False)
            x = x + position.permute(0, 2, 3, 1)
        x, out = self.drop_after_pos(x), []
        for i, stage in enumerate(self.stages):
            here, x = stage(x)
            if i in self.out_indices:
                out.append(getattr(self, f'norm{i}')(here).permute(0, 3, 1, 2).contiguous())
        return tuple(out)


def _check(depths: Sequence[int], num_heads: Sequence[int], strides: Sequence[int], out_indices: Sequence[int],
           patch_size: int, frozen_stages: int) -> None:
    if not len(depths) == len(num_heads) == len(strides):
        raise ConfigError(f'SwinTransformer: depths, num_heads and strides name {len(depths)}, {len(num_heads)} and '
                          f'{len(strides)} stages; they must be as many')
    if strides[0] != patch_size:
        raise ConfigError(f'SwinTransformer: strides begin with {strides[0]}, patch_size is {patch_size}; patches must '
                          'neither overlap nor leave gaps')
    if not set(out_indices) <= set(range(len(depths))):
        raise ConfigError(f'SwinTransformer: out_indices {tuple(out_indices)} must lie in 0 to {len(depths) - 1}')
    if not -1 <= frozen_stages <= len(depths):
        raise ConfigError(f'SwinTransformer: frozen_stages {frozen_stages} must lie in -1 to {len(depths)}')
