"""Hold a model against what MMDetection 3.3 was recorded to compute for the same weights and inputs.

The `.json.gz` files beside this one hold names, shapes and settings of models, and for two images of
256 x 256 values of the feature maps, the best detections, the losses and the L1 norm of each parameter's gradient.
Weights, images, ground truth and proposals are those of `determ.py`; samplers keep everything, so nothing random is
left. How far rounding alone moves a figure was measured with the record and widens its tolerance.
"""

from __future__ import annotations

import collections
import functools
import gzip
import hashlib
import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from determ import (  # noqa: E402
    calibrate_,
    digest,
    fill_,
    images,
    matched,
    proposals,
    spread,
    still_,
    still_config,
    tensors,
    truth,
)

import omnidet  # noqa: E402
from omnidet.structures import ImageMeta, Targets  # noqa: E402

BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm


@functools.cache
def records(name: str) -> dict:
    return json.loads(gzip.decompress((HERE / f'{name}.json.gz').read_bytes()))


def part_hashes(model):
    """For each part of the model (backbone, neck, ...) a hash of its names and shapes, and of what is frozen."""
    trained = {k: 'p' if p.requires_grad else 'f' for k, p in model.named_parameters(remove_duplicate=False)}
    lines = collections.defaultdict(list)
    for name, value in model.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            lines[name.split('.')[0]].append(f'{name} {list(value.shape)} {trained.get(name, "b")}')
    return {k: hashlib.sha1('\n'.join(sorted(v)).encode()).hexdigest()[:12] for k, v in lines.items()}


def structure(model: torch.nn.Module, record: dict) -> list[str]:
    """What a model in training differs in from the record: names, shapes, frozen parameters, settings of norms."""
    norms = [m for m in model.modules() if isinstance(m, (BATCH_NORM, torch.nn.GroupNorm))]
    training = [m.training for m in norms if isinstance(m, BATCH_NORM)]
    settings = collections.Counter((m.eps, getattr(m, 'momentum', None)) for m in norms)
    got = {'parts': part_hashes(model), 'norms': settings, 'train_bn': [sum(training), len(training)],
           'n_params': sum(p.numel() for p in model.parameters())}
    want = {**record, 'norms': {(e, m): n for e, m, n in record['norms']}}
    return [f'{k}: {v} for {want[k]}' for k, v in got.items() if v != want[k]]


class Comparison:
    """One config's model with the recorded weights and inputs. Each method lists what disagrees."""

    def __init__(self, config: str, record: dict) -> None:
        self.record = record
        h, w = record['size']
        cfg = omnidet.load_config(config.removesuffix('.py'))
        still_config(cfg.model)
        self.model = still_(fill_(omnidet.build_model(cfg)))
        self.model.set_progress(10 ** 6, 10 ** 6)    # past every warm-up
        seed, counts = record.get('seed', 0), tuple(record.get('counts', (3, 2)))
        self.images = images(2, h, w, seed)
        masked = any(name in json.dumps(cfg.model) for name in ('mask_head', 'RTMDetIns', 'Mask2Former'))
        keys = ('boxes', 'labels', 'masks') if masked else ('boxes', 'labels')
        given = {'proposals': proposals(h, w)} if cfg.model.type == 'FastRCNN' else {}    # it is handed its proposals
        items = truth(2, h, w, record['num_classes'], seed, counts)
        self.targets = Targets.collate([{k: t[k] for k in keys} | given for t in items], (h, w))
        self.metas = [ImageMeta(img_shape=(h, w), ori_shape=(h, w), pad_shape=(h, w), **given) for _ in items]
        calibrate_(self.model, lambda: self.model.extract_feat(self.images))

    @torch.no_grad()
    def features(self) -> list[str]:
        got = [digest(t) for t in tensors(self.model.extract_feat(self.images))]
        errors = [spread(want, mine) for mine, want in zip(got, self.record['raw'], strict=True)]
        return [f'map {i}: off by {e:.2g} of its scale' for i, (e, noise) in
                enumerate(zip(errors, self.record['tol_raw'], strict=True)) if e > max(5e-3, 3 * noise)]

    @torch.no_grad()
    def detections(self) -> list[str]:
        """Images of which fewer of the best recorded detections are found than rounding alone leaves alike."""
        off, share = [], min(0.9, self.record['agree'] - 0.1)
        for i, (result, want) in enumerate(zip(self.model.predict(self.images, self.metas), self.record['predict'],
                                               strict=True)):
            none = [None] * len(want['scores'])
            top = list(zip(want['scores'], want['labels'], want['bboxes'], want.get('mask_area', none)))[:20]
            k = 2 * len(top)
            masks = result[:k].instance_masks
            areas = [None] * k if masks is None else masks.area().tolist()
            mine = list(zip(result.scores[:k].tolist(), result.labels[:k].tolist(), result.boxes[:k].tolist(), areas))
            found = matched(top, mine)
            if found < share * len(top) or not top:
                off.append(f'image {i}: {found} of the best {len(top)}')
            if 'n' in want and abs(len(result) - want['n']) > max(2, 0.05 * want['n']):
                off.append(f'image {i}: {len(result)} detections for {want["n"]}')
        return off

    def losses(self) -> list[str]:
        got = {k: v.item() for k, v in self._losses().items() if 'loss' in k}
        want = {k: v for k, v in self.record['loss'].items() if 'loss' in k}
        off = [f'{k} is in one of them only' for k in got.keys() ^ want.keys()]
        for k in got.keys() & want.keys():
            rel = max(2e-3, 3 * self.record['tol_loss'].get(k, 0.0))
            if not abs(got[k] - want[k]) <= 2e-4 + rel * max(abs(got[k]), abs(want[k])):
                off.append(f'{k}: {got[k]} for {want[k]}')
        return off

    def gradients(self) -> list[str]:
        """Parameters whose gradients differ, where they are more than one in a hundred."""
        sum(v for k, v in self._losses().items() if 'loss' in k).backward()
        got = {k: 0.0 if p.grad is None else p.grad.abs().sum().item()
               for k, p in self.model.named_parameters(remove_duplicate=False)}
        want = self.record['grad']
        floor, rel = 1e-4 * max(want.values()), max(0.02, 3 * self.record['tol_grad'])
        off = [f'{k}: {got[k]} for {v}' for k, v in want.items()
               if not abs(got[k] - v) <= floor + rel * max(abs(got[k]), abs(v))]
        return off if len(off) > 0.01 * len(want) else []

    def _losses(self) -> dict[str, torch.Tensor]:
        self.model.train()
        for m in self.model.modules():
            if isinstance(m, BATCH_NORM):
                m.eval()
        return self.model.loss(self.images, self.targets)
