"""Look into models, data sets, logs and results: what MMDetection's users know as tools/analysis_tools.

  omnidet analyze flops rtmdet/rtmdet_tiny                          parameters and multiply-adds, by module
  omnidet analyze dataset my_config.py                              training samples drawn, objects counted by class
  omnidet analyze logs work_dirs/my_config --keys loss coco/bbox_mAP
  omnidet test my_config.py epoch_12.pth --out results.pkl          the results that the next three look at:
  omnidet analyze evaluate my_config.py results.pkl                 figures anew, without the model
  omnidet analyze confusion my_config.py results.pkl confusion      which class is taken for which
  omnidet analyze results my_config.py results.pkl ranked           the best and the worst images, drawn
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnidet.cli.arguments import add_config, add_data_root, add_device, read_config
from omnidet.errors import OmniDetError

HELP = 'look into models, data sets, logs and results'

SPLITS = ('train', 'val', 'test')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title='actions', metavar='ACTION', dest='action', required=True)
    for name, (add, function, text) in ACTIONS.items():
        child = actions.add_parser(name, help=text, description=inspect.cleandoc(function.__doc__ or ''),
                                   allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        add(child)
        child.set_defaults(parser=child, action_run=function)


def run(args: argparse.Namespace) -> Any:
    return args.action_run(args)


def _flops_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('--shape', type=int, nargs='+', metavar='N',
                        help='height and width of the image, or one number for both; by default what the config tests '
                             'with, and 1280 800 where it fits images into (1333, 800)')
    parser.add_argument('--depth', type=int, default=1, metavar='N', help='how deep the table goes (default: 1)')
    parser.add_argument('--size-divisor', type=int, metavar='N', help='enlarge the image to a multiple of this')
    parser.add_argument('--num-images', type=int, metavar='N', help='accepted; one image of that shape is counted')


def flops(args: argparse.Namespace) -> None:
    """Count a model's parameters, and the multiply-adds of predicting one image.

    Counted are convolutions, matrix products and attention. MMDetection calls multiply-adds FLOPs; others count a
    multiplication and an addition as two FLOPs. Both are printed.
    """
    cfg = read_config(args)
    shape = None if args.shape is None else _pair(args.shape, '--shape')
    from omnidet.analysis.flops import count_flops, default_shape
    if args.size_divisor:
        h, w = (-(-n // args.size_divisor) * args.size_divisor for n in shape or default_shape(cfg))
        shape = h, w
    found = count_flops(cfg, shape, max(args.depth, 1))
    rows = [('  ' * r.name.count('.') + r.name.rpartition('.')[2], f'{r.parameters / 1e6:.2f}', f'{r.macs / 1e9:.2f}',
             f'{r.macs / max(found.total.macs, 1):.1%}') for r in found.rows]
    total = found.total
    rows.append(('total', f'{total.parameters / 1e6:.2f}', f'{total.macs / 1e9:.2f}', '100.0%'))
    _print_table(('module', 'parameters, M', 'GMACs', 'share'), rows, last_apart=True)
    h, w = found.shape
    frozen = total.parameters - total.trained
    print(f'image:       {h} x {w} (height x width)')
    frozen_text = f', of which {frozen / 1e6:.2f} M are frozen' if frozen else ''
    print(f'parameters:  {total.parameters / 1e6:.2f} M{frozen_text}')
    print(f'work:        {total.macs / 1e9:.2f} GMACs (FLOPs, as MMDetection says), {2 * total.macs / 1e9:.2f} GFLOPs')
    for note in found.notes:
        print(f'note:        {note}')


def _dataset_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data_root(parser)
    parser.add_argument('--out', '--output-dir', '-o', type=Path, metavar='DIR', dest='out',
                        help='where the pictures go (default: browse/<name of the config>)')
    parser.add_argument('--split', '--phase', '-p', choices=SPLITS, default='train', dest='split',
                        help='which part of the data (default: train)')
    parser.add_argument('--mode', '-m', choices=('transformed', 'original'), default='transformed',
                        help='as the pipeline gives the images, or as they are in their files')
    parser.add_argument('--show-number', '--number', '-n', type=int, default=64, metavar='N', dest='number',
                        help='how many pictures, spread over the data; 0 draws all (default: 64)')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='of the augmentations')
    parser.add_argument('--not-show', action='store_true', help='accepted; no window is opened in any case')
    parser.add_argument('--show-interval', '-i', type=float, metavar='SECONDS', help='accepted')


def dataset(args: argparse.Namespace) -> None:
    """Draw samples of a data set as a training sees them, and count its objects."""
    cfg = read_config(args)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=(args.split,))
    from omnidet.analysis.browse import browse, census
    from omnidet.cli.classes import check_classes
    check_classes(cfg, (args.split,))
    folder = args.out or Path('browse', Path(getattr(cfg, 'filename', '') or 'config').stem)
    data, paths = browse(cfg, args.split, folder, args.number, args.mode == 'transformed', args.seed)
    if hasattr(data, 'get_cat_ids'):
        found = census(data)
        _print_table(('class', 'objects', 'images'), [(n, str(o), str(i)) for n, o, i in found.rows])
        size = '' if found.sizes is None else f', {found.sizes[0]} x {found.sizes[1]} (median width x height)'
        print(f'{found.images} images{size}, {sum(o for _, o, _ in found.rows)} objects, '
              f'{found.empty} images without any')
    print(f'{len(paths)} pictures: {folder}\nthe first of them on a sheet: {folder / "sheet.jpg"}')


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('logs', nargs='+', metavar='LOG', type=Path,
                        help='log.jsonl, or *.log.json and vis_data/scalars.json of MMDetection; or a work folder')
    parser.add_argument('--keys', nargs='+', default=[], metavar='KEY',
                        help='what to draw: loss loss_cls lr coco/bbox_mAP ... (default: the loss and the first score)')
    parser.add_argument('--out', type=Path, default=Path('curves.png'), metavar='FILE',
                        help='the picture; its suffix says the format: png, pdf, svg (default: curves.png)')
    parser.add_argument('--legend', nargs='+', default=[], metavar='NAME', help='a name for each curve')
    parser.add_argument('--title', default='', metavar='TEXT')
    parser.add_argument('--style', metavar='NAME', help="a style of seaborn's or matplotlib's: darkgrid, ggplot, ...")
    parser.add_argument('--start-epoch', type=int, default=1, metavar='N', help='leave out what is before')
    parser.add_argument('--eval-interval', type=int, metavar='N', help='accepted; a log says when it measured')
    parser.add_argument('--backend', metavar='NAME', help='accepted; no window is opened')


def logs(args: argparse.Namespace) -> None:
    """Draw the curves of trainings, and print where each ended."""
    from omnidet.analysis.logs import draw_logs, read_training_log
    read = [read_training_log(path) for path in args.logs]
    keys = draw_logs(args.out, read, args.keys, args.legend, args.title, args.style, args.start_epoch)
    rows = []
    for log in read:
        for key in keys:
            values = log.curve(key).values
            if values:
                best = min(values) if log.curve(key).training else max(values)
                rows.append((log.name, key, str(len(values)), f'{values[0]:.4g}', f'{best:.4g}', f'{values[-1]:.4g}'))
    _print_table(('log', 'key', 'records', 'first', 'best', 'last'), rows)
    print(f'curves: {args.out}')


def _time_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('logs', nargs='+', metavar='LOG', type=Path, help='as for `omnidet analyze logs`')
    parser.add_argument('--include-outliers', action='store_true',
                        help="count each epoch's first record too, which has the start of the epoch in it")


def times(args: argparse.Namespace) -> None:
    """Tell how long iterations took: on the whole, and in the slowest and the fastest epoch."""
    from omnidet.analysis.logs import read_training_log, train_time
    for path in args.logs:
        log = read_training_log(path)
        found = train_time(log, args.include_outliers)
        print(f'{log.path}')
        for what, epoch in (('slowest', found.slowest), ('fastest', found.fastest)):
            print(f'  {what} epoch {epoch}, average time is {found.epochs[epoch]:.4f} s/iter')
        print(f'  time std over epochs is {found.std:.4f}')
        print(f'  average iter time: {found.mean:.4f} s/iter')


def _results_of(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data_root(parser)
    parser.add_argument('results', metavar='RESULTS', type=Path,
                        help='what `omnidet test --out results.pkl` writes; a pickle of MMDetection; or '
                             "COCO's results json")


def _confusion_arguments(parser: argparse.ArgumentParser) -> None:
    _results_of(parser)
    parser.add_argument('out', metavar='DIR', type=Path, help='where confusion_matrix.png and .csv go')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='X',
                        help='the lowest score of a detection that counts (default: 0.3)')
    parser.add_argument('--tp-iou-thr', type=float, default=0.5, metavar='X',
                        help='the least IoU of an object and a detection of it (default: 0.5)')
    parser.add_argument('--nms-iou-thr', type=float, metavar='X', help='suppress detections within classes first')
    parser.add_argument('--color-theme', default='plasma', metavar='NAME', help="one of matplotlib's colour maps")
    parser.add_argument('--every-overlap', action='store_true',
                        help='count as MMDetection does: a detection with every object that it overlaps; by default '
                             'objects and detections are matched one to one')
    parser.add_argument('--show', action='store_true', help='accepted; no window is opened')


def confusion(args: argparse.Namespace) -> None:
    """Count which class is taken for which, and draw the matrix.

    A row is the class of an object, a column what it is found as; the last of them are background: objects that are
    missed, and detections where nothing is.
    """
    from omnidet.analysis.confusion import class_rows, confusion_matrix, draw_matrix, write_csv
    from omnidet.analysis.results import read_found
    data, found = read_found(_measured_config(args), args.results)
    matrix = confusion_matrix(found, len(data.classes), args.score_thr, args.tp_iou_thr, args.nms_iou_thr,
                              args.every_overlap)
    picture, table = args.out / 'confusion_matrix.png', args.out / 'confusion_matrix.csv'
    draw_matrix(picture, matrix, data.classes, args.color_theme,
                f'{len(found)} images, score >= {args.score_thr:g}, IoU >= {args.tp_iou_thr:g}')
    write_csv(table, matrix, data.classes)
    rows = [(name, str(objects), str(detections), _percent(recall), _percent(precision), taken)
            for name, objects, detections, recall, precision, taken in class_rows(matrix, data.classes)]
    _print_table(('class', 'objects', 'detections', 'found', 'right', 'most often taken for'), rows)
    print(f'picture: {picture}\ncounts:  {table}')


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _results_of(parser)
    parser.add_argument('--eval', nargs='+', default=[], metavar='METRIC', dest='metrics', help='as for `omnidet test`')
    parser.add_argument('--eval-options', '--options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        dest='eval_options', help='as for `omnidet test`')
    parser.add_argument('--format-only', action='store_true', help='as for `omnidet test`; results.*.json are written')


def evaluate(args: argparse.Namespace) -> None:
    """Compute figures of results in a file, without running the model."""
    from omnidet.analysis.results import evaluate_results, measured_split
    from omnidet.cli.test import apply_evaluation
    cfg = _measured_config(args)
    args.out = args.results.with_suffix('.json')
    apply_evaluation(cfg, measured_split(cfg), args, args.results.parent)
    print(evaluate_results(cfg, args.results)[1])


def _ranking_arguments(parser: argparse.ArgumentParser) -> None:
    _results_of(parser)
    parser.add_argument('out', metavar='DIR', type=Path, help='where good/ and bad/ go')
    parser.add_argument('--topk', type=int, default=20, metavar='N', help='how many of each (default: 20)')
    parser.add_argument('--show-score-thr', '--score-thr', type=float, default=0.3, metavar='X', dest='score_thr',
                        help='the lowest score that is drawn (default: 0.3)')
    parser.add_argument('--show', action='store_true', help='accepted; no window is opened')
    parser.add_argument('--wait-time', type=float, metavar='SECONDS', help='accepted')


def results(args: argparse.Namespace) -> None:
    """Draw the images in which a model does best and worst, by the average precision in each alone.

    On the left is what was found, on the right what is there.
    """
    from omnidet.analysis.ranking import draw_ranked, rank
    from omnidet.analysis.results import read_found
    data, found = read_found(_measured_config(args), args.results)
    ranked = rank(found)
    good, bad = draw_ranked(args.out, ranked, data.classes, max(args.topk, 1), args.score_thr)
    scores = [score for score, _ in ranked]
    print(f'{len(scores)} images: average precision {sum(scores) / len(scores):.3f} on average, best {scores[0]:.3f}, '
          f'worst {scores[-1]:.3f}')
    print(f'{len(good)} best: {args.out / "good"}, sheet {args.out / "good.jpg"}')
    print(f'{len(bad)} worst: {args.out / "bad"}, sheet {args.out / "bad.jpg"}')


def _speed_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data_root(parser)
    add_device(parser)
    parser.add_argument('weights', metavar='CHECKPOINT', nargs='?', help='random weights without one')
    parser.add_argument('--checkpoint', metavar='CHECKPOINT', help='the same')
    parser.add_argument('--task', choices=('inference', 'dataloader', 'dataset'), default='inference',
                        help='what to time: the model, batches of a loader, or single samples (default: inference)')
    parser.add_argument('--split', '--dataset-type', choices=SPLITS, default='train', dest='split',
                        help='whose loader or samples (default: train); the model is timed on the test set')
    parser.add_argument('--shape', type=int, nargs='+', metavar='N',
                        help='time the model on random images of this height and width: no data is needed')
    parser.add_argument('--batch-size', type=int, metavar='N',
                        help="images at once; by default the config's, 1 with --shape")
    parser.add_argument('--max-iter', type=int, default=200, metavar='N', help='steps to measure (default: 200)')
    parser.add_argument('--num-warmup', type=int, default=5, metavar='N', help='steps before those (default: 5)')
    parser.add_argument('--repeat-num', type=int, default=1, metavar='N', help='measure so often (default: 1)')
    parser.add_argument('--log-interval', type=int, default=50, metavar='N',
                        help='tell every so many steps (default: 50)')
    parser.add_argument('--fuse-conv-bn', action='store_true', help='fold batch norms into convolutions first')
    parser.add_argument('--amp', action='store_true', help='in half precision')
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help='accepted; nothing is written')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='accepted')
    parser.add_argument('--local_rank', '--local-rank', type=int, dest='local_rank', metavar='N', help='accepted')


def speed(args: argparse.Namespace) -> None:
    """Time a model, a loader or a data set, in images per second."""
    cfg = read_config(args)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=())
    from omnidet.analysis.speed import dataset_speed, loader_speed, model_speed
    steps, warmup = max(args.max_iter, 1), max(args.num_warmup, 0)

    def tell(done: int, rate: float) -> None:
        if args.log_interval > 0 and done % args.log_interval == 0:
            print(f'  {done:>5} steps: {rate:.1f} images/s', flush=True)
    rates = []
    for _ in range(max(args.repeat_num, 1)):
        if args.task == 'inference':
            found = model_speed(cfg, args.weights or args.checkpoint, args.device, steps, warmup, args.fuse_conv_bn,
                                args.amp, None if args.shape is None else _pair(args.shape, '--shape'),
                                args.batch_size, args.trust, tell)
        else:
            measure = loader_speed if args.task == 'dataloader' else dataset_speed
            found = measure(cfg, args.split, steps, warmup, tell)
        rates.append(found.rate)
        median, late = found.latency
        shape = '' if found.shape is None else f' of {found.shape[0]} x {found.shape[1]}'
        print(f'{args.task}: {found.rate:.1f} images/s, {len(found.seconds)} steps of {found.images[0]} image'
              f'{"s" * (found.images[0] > 1)}{shape}; a step takes {1000 * median:.1f} ms (95%: {1000 * late:.1f} ms)')
    if len(rates) > 1:
        mean = sum(rates) / len(rates)
        print(f'{len(rates)} times: {mean:.1f} images/s on average, {min(rates):.1f} to {max(rates):.1f}')


def _anchors_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data_root(parser)
    parser.add_argument('--input-shape', '--shape', type=int, nargs='+', default=[608, 608], metavar='N',
                        dest='shape', help='height and width that images are fitted into (default: 608 608)')
    parser.add_argument('--num-anchors', type=int, default=9, metavar='N', help='how many (default: 9)')
    parser.add_argument('--levels', type=int, default=3, metavar='N', help='over how many levels (default: 3)')
    parser.add_argument('--split', choices=SPLITS, default='train', help='whose boxes (default: train)')
    parser.add_argument('--iters', type=int, default=1000, metavar='N', help='the most rounds (default: 1000)')
    parser.add_argument('--seed', type=int, default=0, metavar='N')
    parser.add_argument('--algorithm', choices=('k-means', 'differential_evolution', 'v5-k-means'), default='k-means',
                        help='accepted; it is k-means in any case')
    parser.add_argument('--device', metavar='NAME', help='accepted; this takes a moment on any')
    parser.add_argument('--output-dir', type=Path, metavar='DIR', help='write anchor_optimize_result.json there too')


def anchors(args: argparse.Namespace) -> None:
    """Find sizes of anchors that fit a data set's boxes, for an anchor generator's base_sizes."""
    cfg = read_config(args)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=(args.split,))
    if not cfg.get(f'{args.split}_dataloader'):
        raise OmniDetError(f'the config has no {args.split}_dataloader, so there are no boxes')
    from omnidet.analysis.anchors import box_sizes, fit_anchors
    from omnidet.data import build_dataset
    data = build_dataset(cfg[f'{args.split}_dataloader']['dataset'])
    found = fit_anchors(box_sizes(data, _pair(args.shape, '--input-shape')), args.num_anchors, args.iters, args.seed)
    sizes = [(round(float(w)), round(float(h))) for w, h in found.anchors]
    per_level = -(-len(sizes) // max(args.levels, 1))
    groups = [sizes[i:i + per_level] for i in range(0, len(sizes), per_level)]
    print(f'{found.boxes} boxes; the best anchor of each overlaps it by {found.mean_iou:.3f} on average, and '
          f'{found.recall:.1%} of them by at least 0.5')
    print('in a config, coarsest level first, as YOLO\'s anchor generator has them:\n  base_sizes=[')
    print('\n'.join(f'    {group},' for group in reversed(groups)) + '\n  ]')
    if args.output_dir is not None:
        import json

        from omnidet.files import written_whole
        path = args.output_dir / 'anchor_optimize_result.json'
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(sizes))
        print(f'written: {path}')


def _measured_config(args: argparse.Namespace) -> Any:
    """The config, with its data where `--data-root` says."""
    cfg = read_config(args)
    if args.data_root is not None:
        from omnidet.analysis.results import measured_split
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=(measured_split(cfg),))
    return cfg


def _pair(values: list[int], name: str) -> tuple[int, int]:
    if len(values) > 2 or min(values) < 1:
        raise OmniDetError(f'{name} takes a height and a width, or one number for both; found {values}')
    return values[0], values[-1]


def _percent(share: float) -> str:
    return '-' if share < 0 else f'{share:.1%}'


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], last_apart: bool = False) -> None:
    """Rows of text, the first column to the left and the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(name, justify='right' if i and not name.startswith(('key', 'most')) else 'left')
    for i, row in enumerate(rows):
        table.add_row(*row, end_section=last_apart and i == len(rows) - 2)
    Console(highlight=False).print(table)


ACTIONS: dict[str, tuple[Any, Any, str]] = {
    'flops': (_flops_arguments, flops, 'count parameters and multiply-adds of a model, by module'),
    'dataset': (_dataset_arguments, dataset, 'draw samples as a training sees them, count objects by class'),
    'logs': (_logs_arguments, logs, 'draw curves of trainings'),
    'time': (_time_arguments, times, 'tell how long iterations took'),
    'evaluate': (_evaluate_arguments, evaluate, 'compute figures of results in a file'),
    'confusion': (_confusion_arguments, confusion, 'count and draw which class is taken for which'),
    'results': (_ranking_arguments, results, 'draw the best and the worst images'),
    'speed': (_speed_arguments, speed, 'time a model, a loader or a data set'),
    'anchors': (_anchors_arguments, anchors, 'find sizes of anchors that fit the boxes'),
}
"""Each action's arguments, its function, and a line of help."""
