"""Score a checkpoint on the test set of a config.

  omnidet test my_config.py work_dirs/my_config/epoch_300.pth
  omnidet test rtmdet/rtmdet_tiny rtmdet_tiny.pth --data-root my/coco --out results.json --show-dir pictures
  omnidet test my_config.py epoch_12.pth --out results.pkl --eval bbox --eval-options classwise=True
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidet.cli.arguments import add_config, add_data_root, add_device, read_config
from omnidet.cli.evaluators import add_dump, set_format_only, set_metrics, set_options
from omnidet.cli.legacy import add_testing, apply_launch
from omnidet.errors import OmniDetError

HELP = 'score a checkpoint on a test set'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file, or the address of one')
    add_data_root(parser)
    add_device(parser)
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help='where the log goes')
    parser.add_argument('--out', type=Path, metavar='FILE',
                        help='results.pkl: write the results of every image, for `omnidet analyze`. results.json: '
                             "write the detections as COCO's results; it gives results.bbox.json, and "
                             'results.segm.json where masks are measured')
    parser.add_argument('--eval', nargs='+', default=[], metavar='METRIC', dest='metrics',
                        help='compute these in place of what the config says: bbox, segm, proposal (COCO), mAP, recall '
                             '(VOC), PQ (panoptic)')
    parser.add_argument('--eval-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help="change the evaluator's options: classwise=True proposal_nums=[1,10,100]")
    parser.add_argument('--format-only', action='store_true',
                        help='write the detections as --out says and measure nothing: for a server that keeps the '
                             'truth')
    parser.add_argument('--show-dir', type=Path, metavar='DIR',
                        help='write the test images with their detections drawn')
    parser.add_argument('--score-thr', '--show-score-thr', type=float, default=0.3, metavar='X',
                        help='the lowest score that is drawn (default: 0.3)')
    parser.add_argument('--tta', action='store_true',
                        help='test-time augmentation: predict several versions of each image, as tta_pipeline says '
                             '(otherwise as it is and mirrored), and merge the detections')
    parser.add_argument('--fuse-conv-bn', action='store_true',
                        help='fold batch norms into convolutions first: faster, equal up to rounding')
    add_testing(parser)


def run(args: argparse.Namespace) -> None:
    from omnidet.analysis.results import measured_split
    apply_launch(args, 'test')
    cfg = read_config(args)
    split = measured_split(cfg)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=(split,))
    from omnidet.cli.classes import check_classes
    from omnidet.engine import test
    from omnidet.inference.fuse import fuse_conv_bn
    check_classes(cfg, (split,))
    name = Path(getattr(cfg, 'filename', '') or 'run').stem
    work_dir = args.work_dir or Path(cfg.get('work_dir') or Path('work_dirs', name))
    show_dir = args.show_dir or (work_dir / 'show' if args.show else None)
    pickled = args.out is not None and is_pickle(args.out)
    apply_evaluation(cfg, split, args, work_dir)
    with tempfile.TemporaryDirectory() if show_dir is not None else contextlib.nullcontext('') as folder:
        dump = args.out if pickled else Path(folder, 'results.pkl') if show_dir is not None else None
        if dump is not None:
            add_dump(cfg, split, dump, tell=pickled)
        test(cfg, args.checkpoint, work_dir=args.work_dir, device=args.device, trust=args.trust,
             out=None if pickled else args.out, tta=args.tta, prepare=fuse_conv_bn if args.fuse_conv_bn else None)
        if show_dir is not None and dump is not None and int(os.environ.get('RANK', 0)) == 0:
            count = draw_results(cfg, dump, show_dir, args.score_thr)
            print(f'{count} pictures: {show_dir}')


def is_pickle(out: Path) -> bool:
    """Whether `--out` names a pickle, and not COCO's json.

    Raises:
        OmniDetError: its suffix says neither.
    """
    if out.suffix not in ('', '.json', '.pkl', '.pickle'):
        raise OmniDetError(f'--out {out}: its suffix says the format; take .pkl for the results of every image, or '
                           ".json for COCO's results")
    return out.suffix not in ('', '.json')


def apply_evaluation(cfg: Any, split: str, args: argparse.Namespace, work_dir: Path) -> None:
    """Write `--eval`, `--eval-options` and `--format-only` into the config, in place."""
    if args.metrics and args.format_only:
        raise OmniDetError('--eval measures and --format-only does not; give one of them')
    if args.metrics:
        set_metrics(cfg, split, args.metrics)
    if args.eval_options:
        set_options(cfg, split, args.eval_options)
    if args.format_only:
        set_format_only(cfg, split, (args.out or work_dir / 'results').with_suffix(''))


def draw_results(cfg: Mapping[str, Any], results: Path, folder: Path, score_thr: float) -> int:
    """Draw the detections in a file, and the annotated boxes dashed beneath them, on every test image.

    Args:
        cfg: a whole config, whose test set the results are of.
        results: see `omnidet.analysis.results.read_results`.
        folder: where the pictures go, under the images' own names.
        score_thr: the lowest score that is drawn.

    Returns:
        how many pictures were written.
    """
    from omnidet.analysis.results import read_found
    from omnidet.data.transforms.loading import read_image
    from omnidet.visualization import draw, write_jpg
    dataset, found = read_found(cfg, results)
    common = os.path.commonpath([Path(f.record['img_path']).parent for f in found])
    for record, result in found:
        objects = record['instances']
        truth = dict(boxes=[o['bbox'] for o in objects], labels=[o['bbox_label'] for o in objects])
        picture = draw(read_image(record['img_path']), result, dataset.classes, score_thr, truth=truth)
        write_jpg(folder / Path(record['img_path']).relative_to(common).with_suffix('.jpg'), picture)
    return len(found)
