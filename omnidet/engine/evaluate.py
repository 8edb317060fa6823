"""Measuring a model: predictions of every image, gathered over the processes, and what the metrics make of them."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from omnidet.checkpoints import load_checkpoint, load_weights
from omnidet.data import build_loader, build_preprocessor, collate_versions
from omnidet.data.load_input import test_pipeline
from omnidet.engine import distributed
from omnidet.engine.distributed import pick_device, processes
from omnidet.engine.hooks.checks import check_num_classes
from omnidet.engine.logging import progress_bar
from omnidet.errors import ConfigError
from omnidet.evaluation import build_metrics
from omnidet.models import build_model
from omnidet.registry import DETECTORS, LOOPS, METRICS
from omnidet.structures import Batch, Result


@dataclass
class Evaluation:
    """What it takes to measure a model: its images, the metrics, and whether in half precision."""

    loader: Any
    metrics: list[Any]
    fp16: bool = False


def build_evaluation(cfg: Mapping[str, Any], split: str, device: torch.device,
                     tta_pipeline: Sequence[Any] | None = None) -> Evaluation | None:
    """The images and metrics of a config's 'val' or 'test'; None where it has none.

    Args:
        cfg: the whole config.
        split: 'val' or 'test'.
        device: where the batches go.
        tta_pipeline: in place of the data set's; its last transform is TestTimeAug.

    Raises:
        ConfigError: there is a loader and no evaluator, or the other way round.
    """
    dataloader, evaluator = cfg.get(f'{split}_dataloader'), cfg.get(f'{split}_evaluator')
    if not dataloader and not evaluator:
        return None
    if not dataloader or not evaluator:
        there, lacking = ('dataloader', 'evaluator') if dataloader else ('evaluator', 'dataloader')
        raise ConfigError(f'{split}_{there} is given, but no {split}_{lacking}; give both, or set both to None')
    loop = LOOPS.build({'type': f'{split.title()}Loop', **(cfg.get(f'{split}_cfg') or {})})
    if tta_pipeline is not None:
        dataloader = {**dataloader, 'collate_fn': collate_versions}
    loader = build_loader(dataloader, train=False, rank=distributed.rank(), world_size=distributed.world_size(),
                          device_type=device.type)
    if tta_pipeline is not None:
        loader.set_pipeline(tta_pipeline)
    return Evaluation(loader, build_metrics(evaluator, loader.dataset), loop.fp16)


@torch.no_grad()
def evaluate(model: nn.Module, loader: Any, metrics: Sequence[Any], preprocessor: nn.Module, device: torch.device,
             progress: bool = True, fp16: bool = False) -> dict[str, float]:
    """Measure a model on a loader's images.

    Each process predicts its share; the figures are those of all images, and every process gets them.

    Args:
        model: on `device`; it is left in the mode it came in. A DetTTAModel where the loader yields lists of batches.
        loader: yields batches, or lists of a batch for each version; each image at exactly one process.
        metrics: take in results and compute figures.
        preprocessor: from loaded to normalised batches.
        device: where to predict.
        progress: show a bar.
        fp16: predict in half precision (bfloat16 on a CPU).
    """
    training = model.training, preprocessor.training
    model.eval()
    preprocessor.eval()
    half = torch.bfloat16 if device.type == 'cpu' else torch.float16
    try:
        for metric in metrics:
            metric.reset()
        with progress_bar('evaluate', len(loader), progress and distributed.is_main()) as advance:
            for batch in loader:
                versions = batch if isinstance(batch, list) else [batch]
                versions = [preprocessor(b.to(device, non_blocking=True)) for b in versions]
                with torch.autocast(device.type, half) if fp16 else contextlib.nullcontext():
                    results = _predict(model, versions, merge=isinstance(batch, list))
                results = [r.cpu() for r in results]
                for metric in metrics:
                    metric.update(results, versions[0].metas)
                advance()
        return compute(metrics)
    finally:
        model.train(training[0])
        preprocessor.train(training[1])


def _predict(model: nn.Module, versions: Sequence[Batch], merge: bool) -> list[Result]:
    """The results of a batch, or of several versions of one."""
    images, metas = [b.images for b in versions], [b.metas for b in versions]
    if merge:
        return model.predict(images, metas, rescale=True)    # type: ignore[operator]
    return model.predict(images[0], metas[0], rescale=True)    # type: ignore[operator]


def compute(metrics: Sequence[Any]) -> dict[str, float]:
    """The figures over the records of all processes, on every process."""
    figures: dict[str, float] = {}
    for metric in metrics:
        shares = distributed.gather(metric.records)
        if shares is not None:
            figures.update(metric.compute([record for share in shares for record in share]))
    return distributed.broadcast(figures)


def test(cfg: Mapping[str, Any], checkpoint: str | Path, work_dir: str | Path | None = None, device: str | None = None,
         trust: bool = False, out: str | Path | None = None, quiet: bool = False, tta: bool = False,
         prepare: Callable[[nn.Module], nn.Module] | None = None) -> dict[str, Any]:
    """Measure a checkpoint on the config's test set.

    Args:
        cfg: the whole config; `test_dataloader` and `test_evaluator` are read (`val_*` where they are absent).
        checkpoint: the weights; of an averaged model the average.
        work_dir: where `test.json` with the figures goes; nowhere where it is None.
        device: None is a GPU where there is one.
        trust: read a checkpoint that may run code.
        out: write the detections as COCO's results: `results.json` gives `results.bbox.json`.
        quiet: print nothing.
        tta: look at several versions of each image (`tta_pipeline`) and merge what is found in them (`tta_model`);
            `tta_settings` says what happens where the config has none.
        prepare: what becomes of the loaded model before it predicts, such as `inference.fuse.fuse_conv_bn`.

    Returns:
        `metrics` {name: figure}, `report` (tables as text), `images`, `seconds`, `images_per_second`.
    """
    place = pick_device(device)
    with processes(place):
        split = 'test' if cfg.get('test_dataloader') else 'val'
        merging, tta_pipeline = tta_settings(cfg) if tta else (None, None)
        evaluation = build_evaluation(_with_results(cfg, split, out), split, place, tta_pipeline)
        if evaluation is None:
            raise ConfigError('the config has neither test_dataloader nor val_dataloader')
        content = load_checkpoint(checkpoint, trust=trust)
        model = build_model(cfg)
        report = load_weights(model, content['state_dict'], str(checkpoint))
        check_num_classes(model, evaluation.loader.dataset.classes, f'{split}_dataloader.dataset')
        talks = distributed.is_main() and not quiet
        if talks:
            print(report)
        if prepare is not None:
            model = prepare(model)
        if merging is not None:
            model = DETECTORS.build(merging, module=model)
        model.to(place).eval()
        preprocessor = build_preprocessor(cfg['model'].get('data_preprocessor')).to(place)
        start = time.perf_counter()
        metrics = evaluate(model, evaluation.loader, evaluation.metrics, preprocessor, place, not quiet,
                           evaluation.fp16)
        seconds = time.perf_counter() - start
        reports = [m.report() for m in evaluation.metrics] if distributed.is_main() else []
        tables = '\n\n'.join(r for r in reports if r)
        images = len(evaluation.loader.dataset)
        result = {'metrics': metrics, 'report': tables, 'images': images, 'seconds': seconds,
                  'images_per_second': images / seconds}
        if talks:
            print(tables)
            print(f'{images} images in {seconds:.1f} s ({images / seconds:.1f} images/s, evaluation included)')
        if work_dir is not None and distributed.is_main():
            _write_figures(Path(work_dir) / 'test.json', {**result, 'checkpoint': str(checkpoint)})
        return result


test.__test__ = False    # type: ignore[attr-defined]    # its name looks like a test to pytest


def tta_settings(cfg: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """A config's `tta_model` and `tta_pipeline`.

    Where the config has none: its test pipeline with the image as it is and mirrored, and suppression at an IoU of 0.5.

    Raises:
        ConfigError: there is no pipeline, or its last transform is not the one that packs.
    """
    model = cfg.get('tta_model') or {'type': 'DetTTAModel', 'tta_cfg': {'nms': {'type': 'nms', 'iou_threshold': 0.5},
                                                                       'max_per_img': 100}}
    if cfg.get('tta_pipeline'):
        return model, cfg['tta_pipeline']
    *steps, last = test_pipeline(cfg)
    if last.get('type') != 'PackDetInputs':
        raise ConfigError(f'test-time augmentation without a tta_pipeline needs a test pipeline that ends with '
                          f'PackDetInputs; this one ends with {last.get("type")!r}')
    flips = [{'type': 'RandomFlip', 'prob': 1.0}, {'type': 'RandomFlip', 'prob': 0.0}]
    return model, [*steps, {'type': 'TestTimeAug', 'transforms': [flips, [last]]}]


def _with_results(cfg: Mapping[str, Any], split: str, out: str | Path | None) -> Mapping[str, Any]:
    """The config with its metrics told to write the detections to `out`."""
    evaluator = cfg.get(f'{split}_evaluator')
    if out is None or not evaluator:
        return cfg
    told = []
    for one in [evaluator] if isinstance(evaluator, Mapping) else evaluator:
        cls = METRICS.get(one['type']) if isinstance(one['type'], str) else one['type']
        takes = 'outfile_prefix' in inspect.signature(cls).parameters
        told.append({**one, 'outfile_prefix': str(Path(out).with_suffix(''))} if takes else one)
    return {**cfg, f'{split}_evaluator': told}


def _write_figures(path: Path, result: dict[str, Any]) -> None:
    import json

    from omnidet.files import written_whole
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1))
