"""Images per second of RTMDet-tiny and of the data loading, beside a yardstick measured in the same run.

    python benchmarks/rtmdet.py [--device cuda] [--sizes 320 640] [--out benchmarks/results.json]

The yardstick is the forward pass of torchvision's ResNet-50 at the same input size, batch and precision: a figure in
units of it can be compared between machines. Every figure is the median of several repetitions after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'rtmdet/rtmdet_tiny_8xb32-300e_coco'
sys.path.insert(0, str(ROOT))    # works without an installation too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', help='cpu, cuda, ...; the best there is by default')
    parser.add_argument('--sizes', type=int, nargs='+', default=[320, 640], help='input sizes in pixels')
    parser.add_argument('--batch', type=int, default=8, help='images in a training step')
    parser.add_argument('--repeat', type=int, default=7, help='repetitions of every measurement')
    parser.add_argument('--threads', type=int, help="torch's threads on a CPU; all cores by default")
    parser.add_argument('--out', type=Path, help='write the figures to this json too')
    args = parser.parse_args()

    figures: dict[str, Any] = dict(import_seconds=measure_help(args.repeat))    # before torch is in memory
    import torch

    from omnidet.engine import pick_device
    from omnidet.engine.allocator import keep_freed_memory
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    if device.type == 'cpu':
        keep_freed_memory()    # as `train` does; the yardstick gains from it as well
    figures['machine'] = describe_machine(device)
    figures['model'] = [measure_model(size, args.batch, device, args.repeat) for size in args.sizes]
    figures['loading'] = [measure_loading(size, args.repeat) for size in args.sizes]
    print(to_markdown(figures))
    if args.out:
        from omnidet.files import written_whole
        with written_whole(args.out) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + '\n')


def median_seconds(function: Callable[[], Any], repeat: int, synchronize: Callable[[], None] = lambda: None) -> float:
    """The median duration of `function` over `repeat` calls, after two that warm up."""
    seconds = []
    for i in range(repeat + 2):
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        if i >= 2:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_help(repeat: int) -> float:
    """Seconds until `omnidet --help` has answered, the start of Python included."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-m', 'omnidet', '--help']
    return median_seconds(lambda: subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL), repeat)


def measure_model(size: int, batch: int, device: Any, repeat: int) -> dict[str, Any]:
    """Seconds of one prediction (batch 1, as the Detector runs it), one training step, and the yardstick's forward."""
    import torch
    from torchvision.models import resnet50

    import omnidet
    from omnidet.engine import build_optimizer
    from omnidet.structures import ImageMeta, Targets

    def synchronize() -> None:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    torch.manual_seed(0)
    cfg = omnidet.load_config(CONFIG)
    cfg.model.backbone.init_cfg = None    # nothing to download
    model: Any = omnidet.build_model(cfg).to(device).to(memory_format=torch.channels_last)    # as `train` does
    optimizer = build_optimizer(cfg, model)
    image = torch.randn(1, 3, size, size, device=device)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    targets = Targets.collate([dict(boxes=_random_boxes(size), labels=torch.arange(8)) for _ in range(batch)],
                              (size, size)).to(device)
    meta = ImageMeta(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')    # random weights will do
        detector: Any = omnidet.Detector(cfg, device=str(device)).model
    image_last = image.contiguous(memory_format=torch.channels_last)
    yardstick = resnet50().to(device).eval()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(model.loss(images, targets).values())).sum().backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode():
            detector.predict(image_last, [meta])

    def forward() -> None:
        with torch.inference_mode():
            yardstick(image)

    seconds = dict(resnet50_seconds=median_seconds(forward, repeat, synchronize),
                   predict_seconds=median_seconds(predict, repeat, synchronize))
    return dict(size=size, batch=batch, **seconds, step_seconds=median_seconds(step, repeat, synchronize))


def measure_loading(size: int, repeat: int, images: int = 48) -> dict[str, Any]:
    """Images per second of one worker: read and decode alone, and with the whole training pipeline of the config."""
    import cv2
    import numpy as np

    import omnidet
    from omnidet.data import build_dataset
    from omnidet.demo.shapes import CLASSES, write_dataset

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), dict(train=images), size=size)
        cfg = omnidet.load_config(CONFIG)
        described = cfg.train_dataloader.dataset
        described.update(data_root=folder, ann_file='annotations/train.json', data_prefix=dict(img='train/'),
                         metainfo=dict(classes=CLASSES))
        pipeline = _at_size(described['pipeline'], size)

        def rate(transforms: list[dict[str, Any]]) -> float:
            described['pipeline'] = transforms
            dataset = build_dataset(described)
            order = np.random.default_rng(0).permutation(len(dataset)).tolist()
            return len(order) / median_seconds(lambda: [dataset[i] for i in order], repeat)

        load = [t for t in pipeline if t['type'] in ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')]
        return dict(size=size, load_per_second=rate(load), augment_per_second=rate(pipeline))


def _at_size(pipeline: Any, size: int) -> list[dict[str, Any]]:
    """The transforms of a 640-pixel recipe for another size: every 640 and 1280 in them in proportion."""
    text = json.dumps([dict(t) for t in pipeline])
    return json.loads(text.replace('1280', str(2 * size)).replace('640', str(size)))


def _random_boxes(size: int) -> Any:
    import torch
    corners = torch.rand(8, 2, 2).sort(dim=1).values * size
    return torch.cat([corners[:, 0], corners[:, 1] + 8], dim=1)


def describe_machine(device: Any) -> dict[str, Any]:
    import cv2
    import torch

    import omnidet
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else _processor()
    return dict(device=name, cores=os.cpu_count(), threads=torch.get_num_threads(), python=platform.python_version(),
                torch=torch.__version__, opencv=cv2.__version__, omnidet=omnidet.__version__)


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def to_markdown(figures: dict[str, Any]) -> str:
    machine = figures['machine']
    lines = [f'{machine["device"]}, {machine["cores"]} cores, {machine["threads"]} threads; '
             f'Python {machine["python"]}, torch {machine["torch"]}, OpenCV {machine["opencv"]}, '
             f'OmniDet {machine["omnidet"]}', '',
             '| RTMDet-tiny, fp32 | images/s | ms an image | in ResNet-50 forwards of one image |', '|---|---|---|---|']
    for row in figures['model']:
        size, yardstick = row['size'], row['resnet50_seconds']
        for name, seconds in ((f'prediction, {size} px, batch 1', row['predict_seconds']),
                              (f'training step, {size} px, batch {row["batch"]}', row['step_seconds'] / row['batch']),
                              (f'yardstick: ResNet-50 forward, {size} px, batch 1', yardstick)):
            lines.append(f'| {name} | {1 / seconds:.1f} | {1000 * seconds:.0f} | {seconds / yardstick:.2f} |')
    lines += ['', '| one loading worker | images/s |', '|---|---|']
    for row in figures['loading']:
        lines.append(f'| read and decode, {row["size"]} px PNG | {row["load_per_second"]:.0f} |')
        lines.append(f'| with the training pipeline, {row["size"]} px | {row["augment_per_second"]:.0f} |')
    lines += ['', f'`omnidet --help`: {figures["import_seconds"]:.2f} s']
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
