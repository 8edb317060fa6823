"""Trains the tiny model in this process, one of several that the environment tells of; run by test_distributed.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_parts import at, tiny_cfg

from omnidet.engine import train


def main(out: Path, rank: int, world_size: int) -> None:
    torch.set_num_threads(1)
    weights = []
    ema = dict(type='EMAHook', momentum=0.1, update_buffers=True)
    cfg = tiny_cfg(custom_hooks=[ema, at('after_train', lambda run: weights.append(run.model.state_dict()))])
    cfg['model'].update(drop_rate=0.0, norm=False)    # what differs between the halves of a batch by design
    cfg['train_dataloader']['batch_size'] = 4 // world_size
    result = train(cfg, work_dir=out, device='cpu', seed=0, quiet=True)
    (out / f'rank{rank}.json').write_text(json.dumps({
        'weights': {k: v.tolist() for k, v in weights[0].items()}, 'metrics': result['metrics']}))


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
