"""Write docs/zoo.md, a table of the configs that ship with the package, from the configs themselves.

  python docs/make_zoo.py
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import omnidet
from omnidet.config import zoo_names
from omnidet.errors import OmniDetError

HEAD = """# The zoo

What `omnidet train NAME` and `omnidet test NAME CHECKPOINT` know, under MMDetection 3.3's names; an unambiguous
beginning of a name is enough. Each config resolves to the same experiment as MMDetection's, so that its checkpoints fit
(`tests/config/test_zoo.py`, `tests/parity/`). An epoch counts the images that it shows, repetitions included.
Parameters are those of the whole detector, frozen ones included, in millions. Written by `python docs/make_zoo.py`.
"""
COLUMNS = ('config', 'detector', 'backbone', 'neck', 'head', 'schedule', 'parameters')


def main() -> None:
    lines = [HEAD]
    for family, names in groupby(zoo_names(), key=lambda name: name.partition('/')[0]):
        rows = [row for name in names if (row := describe(name)) is not None]
        if rows:
            lines += [f'\n## {family}\n', f'| {" | ".join(COLUMNS)} |', '|---' * (len(COLUMNS) - 1) + '|---:|']
            lines += [f'| {" | ".join(row)} |' for row in rows]
    (Path(__file__).parent / 'zoo.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')


def describe(name: str) -> list[str] | None:
    """The table's row for a config; None where it has no model, or one whose parts are not there yet."""
    cfg = omnidet.load_config(name)
    if 'model' not in cfg:
        return None
    model = cfg.model
    try:
        with torch.device('meta'):
            size = sum(p.numel() for p in omnidet.build_model(cfg).parameters())
    except OmniDetError as e:
        print(f'{name} is left out: {e}')
        return None
    return [f'`{name}`', model.type, backbone(model.get('backbone') or {}), (model.get('neck') or {}).get('type', '-')
            if not isinstance(model.get('neck'), list) else ' + '.join(n.type for n in model.neck),
            ' + '.join(heads(model)), schedule(cfg), f'{size / 1e6:.1f}']


def backbone(cfg: Mapping[str, Any]) -> str:
    """ResNeXt-101 32x4d, DCN, for instance."""
    text = str(cfg.get('model_name') or cfg.get('type', '-'))
    text += f'-{cfg["depth"]}' if 'depth' in cfg else f' {cfg["arch"]}' if isinstance(cfg.get('arch'), str) else ''
    text += f' {cfg["groups"]}x{cfg["base_width"]}d' if 'groups' in cfg else ''
    more = [str((cfg.get('dcn') or {}).get('type', '')), *(p['cfg']['type'] for p in cfg.get('plugins') or ())]
    norm = (cfg.get('norm_cfg') or {}).get('type', 'BN')
    return ', '.join([text, *(m for m in more if m), *([norm] if norm not in ('BN', 'SyncBN') else [])])


def heads(model: Mapping[str, Any]) -> list[str]:
    """The types of the heads: those that find boxes, and those that draw masks."""
    roi = model.get('roi_head') or {}
    found = [model.get('rpn_head'), model.get('bbox_head'), roi.get('bbox_head'), model.get('mask_head'),
             roi.get('mask_head')]
    return [f'{len(h)} x {h[0]["type"]}' if isinstance(h, (list, tuple)) else h['type'] for h in found if h]


def schedule(cfg: Mapping[str, Any]) -> str:
    """How long it trains."""
    train = cfg.get('train_cfg') or {}
    if 'max_iters' in train:
        return f'{train["max_iters"] // 1000}k iterations'
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    times = dataset.get('times', 1) if dataset.get('type') == 'RepeatDataset' else 1
    return f'{train["max_epochs"] * times} epochs' if 'max_epochs' in train else '-'


if __name__ == '__main__':
    main()
