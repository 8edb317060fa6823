"""From a proposing head's logits and deltas to the boxes that a second stage looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from omnidet.models.parts.postprocess import GridPostprocess
from omnidet.ops.nms import suppress
from omnidet.structures import Priors, Proposals, Result


@torch.no_grad()
def propose_by_level(logits: Tensor, deltas: Tensor, priors: Priors, coder: Any, sizes: Tensor,
                     options: GridPostprocess) -> Proposals:
    """Each level's best, without those that a better one of the same level overlaps (arXiv:1612.03144, section 4.1).

    The best are chosen by their logits, and nothing else of the N is decoded or brought to a probability.

    Args:
        logits: (B, N), one for each prior.
        deltas: (B, N, 4), what `coder` decodes.
        priors: N priors.
        coder: see `omnidet.models.parts.coders`.
        sizes: (B, 2), the (h, w) that boxes are clipped to.
        options: how many, and which overlap too much.
    """
    best, start = [], 0
    for size, level in zip(priors.level_sizes, logits.split(list(priors.level_sizes), 1), strict=True):
        count = min(options.nms_pre, size) if options.nms_pre > 0 else size
        best.append(level.topk(count, 1).indices + start)
        start += size
    index = torch.cat(best, 1)    # (B, M)
    level_of = torch.cat([torch.full((b.shape[1],), i, device=b.device) for i, b in enumerate(best)])
    scores = logits.gather(1, index).float().sigmoid()
    chosen = Priors(priors.boxes[index], priors.strides[index], ())
    boxes = coder.decode(chosen, deltas.gather(1, index[..., None].expand(-1, -1, deltas.shape[-1])).float(),
                         sizes[:, None])    # (B, M, 4)
    found = []
    for b, s in zip(boxes, scores, strict=True):
        labels = level_of
        if options.min_bbox_size >= 0:
            large = (b[:, 2:] - b[:, :2] > options.min_bbox_size).all(-1)
            b, s, labels = b[large], s[large], labels[large]
        keep, s = suppress(b, s, labels, options.nms, options.max_per_img)
        found.append((b[keep], s))
    return pad_proposals(found)


def as_proposals(results: Sequence[Result]) -> Proposals:
    """The boxes of detections, whatever their class."""
    return pad_proposals([(r.boxes, r.scores) for r in results])


def as_results(proposals: Proposals) -> list[Result]:
    """Proposals as detections of class 0."""
    return [Result(b[v], s[v], torch.zeros_like(s[v], dtype=torch.long))
            for b, v, s in zip(proposals.boxes, proposals.valid, proposals.scores, strict=True)]


def pad_proposals(found: Sequence[tuple[Tensor, Tensor]]) -> Proposals:
    """Boxes (R_i, 4) and scores (R_i,) of each image, padded to the longest; at least one row."""
    device = found[0][0].device
    counts = torch.tensor([len(s) for _, s in found], device=device)
    R = max(1, *(len(s) for _, s in found))
    boxes = torch.stack([torch.nn.functional.pad(b.float(), (0, 0, 0, R - len(b))) for b, _ in found])
    scores = torch.stack([torch.nn.functional.pad(s.float(), (0, R - len(s))) for _, s in found])
    return Proposals(boxes, torch.arange(R, device=device) < counts[:, None], scores)
