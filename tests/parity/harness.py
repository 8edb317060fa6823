"""Hold a model against what MMDetection 3.3 was recorded to compute for the same weights and inputs.

`rtmdet.json.gz` holds, by config: every parameter's name and shape, the settings of the norms, and, for two images of
256 x 256, values of the feature maps, the best detections, the losses and the L1 norm of each parameter's gradient.
Weights, images and ground truth are those of `determ.py`.
"""

from __future__ import annotations

import functools
import gzip
import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from determ import calibrate_, digest, fill_, images, matched, spread, still_, still_config, tensors, truth  # noqa: E402

import omnidet  # noqa: E402
from omnidet.structures import ImageMeta, Targets  # noqa: E402


@functools.cache
def records(name: str) -> dict:
    return json.loads(gzip.decompress((HERE / f'{name}.json.gz').read_bytes()))


class Comparison:
    """One config's model with the recorded weights and inputs."""

    def __init__(self, config: str, record: dict) -> None:
        self.record = record
        h, w = record['size']
        cfg = omnidet.load_config(config.removesuffix('.py'))
        still_config(cfg.model)
        self.model = still_(fill_(omnidet.build_model(cfg)))
        seed, counts = record.get('seed', 0), tuple(record.get('counts', (3, 2)))
        self.images = images(2, h, w, seed)
        items = truth(2, h, w, record['num_classes'], seed, counts)
        self.targets = Targets.collate([{'boxes': t['boxes'], 'labels': t['labels']} for t in items], (h, w))
        self.metas = [ImageMeta(img_shape=(h, w), ori_shape=(h, w), pad_shape=(h, w)) for _ in items]
        calibrate_(self.model, lambda: self.model.extract_feat(self.images))

    @torch.no_grad()
    def feature_errors(self) -> list[float]:
        """Each map's largest difference, as a part of the map's scale."""
        got = [digest(t) for t in tensors(self.model.extract_feat(self.images))]
        return [spread(want, mine) for mine, want in zip(got, self.record['raw'], strict=True)]

    @torch.no_grad()
    def matched_detections(self) -> list[tuple[int, int]]:
        """For each image, how many of the best recorded detections are found, and how many were looked for."""
        out = []
        for result, want in zip(self.model.predict(self.images, self.metas), self.record['predict'], strict=True):
            top = list(zip(want['scores'], want['labels'], want['bboxes'], [None] * len(want['scores'])))[:20]
            k = 2 * len(top)
            mine = list(zip(result.scores[:k].tolist(), result.labels[:k].tolist(), result.boxes[:k].tolist(),
                            [None] * k))
            out.append((matched(top, mine), len(top)))
        return out

    def losses(self) -> dict[str, torch.Tensor]:
        self.model.train()
        for m in self.model.modules():
            if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
                m.eval()
        return self.model.loss(self.images, self.targets)

    def gradients(self) -> dict[str, float]:
        sum(self.losses().values()).backward()
        return {k: 0.0 if p.grad is None else p.grad.abs().sum().item()
                for k, p in self.model.named_parameters(remove_duplicate=False)}
