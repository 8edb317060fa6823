"""Look into a file of weights, turn other projects' weights into ours and back, and make files to hand on.

  omnidet checkpoint inspect epoch_12.pth                                  what it is, and whether it is harmless
  omnidet checkpoint convert detr-resnet-50/model.safetensors detr.pth     names and classes as our models have them
  omnidet checkpoint convert epoch_12.pth theirs.pth --to-project torchvision    and the other way
  omnidet checkpoint publish epoch_12.pth my_detector.pth                  without optimizer; my_detector-1a2b3c4d.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidet.errors import CheckpointError, printable

if TYPE_CHECKING:
    from omnidet.checkpoints.inspection import Inspection
    from omnidet.checkpoints.peers import Conversion

HELP = 'inspect, convert or publish a file of weights'
PROJECTS = ('auto', 'torchvision', 'transformers', 'megvii-yolox', 'timm')
TO_PROJECTS = ('torchvision', 'megvii-yolox', 'timm')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title='actions', metavar='ACTION', dest='action', required=True)
    inspect_parser = actions.add_parser('inspect', help='tell what a file holds; nothing of it is run',
                                        allow_abbrev=False)
    inspect_parser.add_argument('file', metavar='FILE', help='a checkpoint, an address of one, or torchvision://NAME')

    convert_parser = actions.add_parser('convert', help="write another project's weights under our names, or ours "
                                        'under its names',
                                        allow_abbrev=False)
    convert_parser.add_argument('source', metavar='SRC', help='the weights: .pth, .bin or .safetensors')
    convert_parser.add_argument('out', metavar='OUT', type=Path, help='the file to write')
    convert_parser.add_argument('--from', dest='project', choices=PROJECTS, default='auto',
                                help='whose weights they are (default: seen by their names; a backbone of timm is to '
                                     'be named)')
    convert_parser.add_argument('--to-project', choices=TO_PROJECTS,
                                help='SRC has our names: write it as this project has them (timm: the backbone)')
    convert_parser.add_argument('--config', metavar='NAME',
                                help='a config, or a name of the zoo: hold the result against its model')
    convert_parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                                help='change values of that config')
    convert_parser.add_argument('--classes', choices=('all', 'coco'), default='all',
                                help="'coco' writes COCO's names into the file, and keeps its 80 classes of weights "
                                     'that number them by their ids up to 90 (default: all)')
    convert_parser.add_argument('--to', choices=('pth', 'safetensors'),
                                help="the format to write (default: what OUT's suffix says)")

    publish_parser = actions.add_parser('publish', help='write weights and meta data alone, named by their SHA-256',
                                        allow_abbrev=False)
    publish_parser.add_argument('source', metavar='SRC', help='the checkpoint')
    publish_parser.add_argument('out', metavar='OUT', type=Path, help='NAME.pth becomes NAME-1a2b3c4d.pth')
    for action in (convert_parser, publish_parser):
        action.add_argument('--trust', action='store_true',
                            help='read pickled classes that are not known to be harmless; this may run code')
    for action in (inspect_parser, convert_parser, publish_parser):
        action.set_defaults(parser=action)


def run(args: argparse.Namespace) -> None:
    {'inspect': inspect, 'convert': convert, 'publish': publish}[args.action](args)


def inspect(args: argparse.Namespace) -> None:
    """Print a table of what is known of a file."""
    from rich.console import Console

    from omnidet.checkpoints.inspection import inspect_checkpoint
    Console(highlight=False).print(to_table(inspect_checkpoint(args.file)))


def to_table(found: Inspection) -> Any:
    """An inspection as a rich table."""
    from rich.table import Table
    from rich.text import Text
    kind = found.kind + (f'; `omnidet checkpoint convert` makes it fit {found.config}' if found.config else '')
    dtypes = ', '.join(f'{count} {dtype}' for dtype, count in found.dtypes.items())
    rows = {
        'kind': kind, 'model': found.model, 'classes': _classes(found.classes),
        'versions': ', '.join(f'{k} {v}' for k, v in found.versions.items()),
        'progress': ', '.join(f'{k} {v}' for k, v in found.progress.items()),
        'parameters': f'{found.parameters:,} and {found.buffers:,} in buffers, {found.weights_megabytes:.1f} MB',
        'tensors': dtypes, 'average': found.average, 'optimizer': found.optimizer,
        'names': '\n'.join(f'{name}: {n} tensors, {numbers:,} numbers' for name, (n, numbers) in _largest(found)),
    }
    table = Table(show_header=False, title=f'{found.path} ({found.container}, {found.megabytes:.1f} MB)',
                  title_justify='left')
    for name, text in rows.items():
        if text or name in ('model', 'classes'):
            table.add_row(name, Text(printable(text) or 'not known'))
    if found.refused:
        names = '\n'.join(found.refused[:12]) + (f'\nand {len(found.refused) - 12} more' if len(found.refused) > 12
                                                 else '')
        table.add_row('safe', Text('no: without --trust it is refused, since it may run code by\n' + printable(names),
                                   'bold red'))
    else:
        table.add_row('safe', Text('yes: tensors and plain data', 'green'))
    return table


def _classes(classes: tuple[str, ...]) -> str:
    if not classes:
        return ''
    return f'{len(classes)}: {", ".join(classes[:8])}{", ..." if len(classes) > 8 else ""}'


def _largest(found: Inspection) -> list[tuple[str, tuple[int, int]]]:
    """The prefixes, or the twelve that hold most where there are many, in the file's order."""
    kept = sorted(found.prefixes, key=lambda name: -found.prefixes[name][1])[:12]
    return [(name, counts) for name, counts in found.prefixes.items() if name in kept]


def convert(args: argparse.Namespace) -> None:
    """Write another project's weights under our names, or ours under its names, and say what has no place there.

    Raises:
        CheckpointError: the weights are of no known model, or do not fit the config.
    """
    from omnidet import __version__
    from omnidet.checkpoints import load_checkpoint
    from omnidet.checkpoints.peers import convert_checkpoint, recognise
    from omnidet.checkpoints.publish import check_suffix, write_weights
    from omnidet.checkpoints.torchvision_detection import COCO_CATEGORIES
    from omnidet.data.datasets.coco_classes import COCO_CLASSES
    out = args.out.with_suffix(f'.{args.to}') if args.to and not args.out.suffix else args.out
    if args.to and out.suffix != f'.{args.to}':
        raise CheckpointError(f'{out}: its suffix and --to {args.to} say different things')
    check_suffix(out)
    if args.to_project:
        return convert_out(args, out)
    coco = args.classes == 'coco'
    state = load_checkpoint(args.source, args.trust)['state_dict']
    peer = recognise(state)
    numbered_by_id = peer is not None and peer.coco_ids
    conversion = convert_checkpoint(state, args.project, COCO_CATEGORIES if coco and numbered_by_id else None)
    meta: dict[str, Any] = {'converted_from': f'{conversion.peer.project} {conversion.peer.model}',
                            'omnidet_version': __version__, 'dataset_meta': {'classes': COCO_CLASSES} if coco else {}}
    if args.config:
        hold_against(conversion, args.config, args.cfg_options)
    write_weights(out, conversion.state, meta)
    print(f'{out}: {len(conversion.state)} tensors, {conversion.peer.model} of {conversion.peer.project}')
    _list_unused(conversion.unused, 'our model')
    if args.config is None and conversion.peer.config:
        print(f'its published weights fit the config {conversion.peer.config}; --config CONFIG checks that')


def convert_out(args: argparse.Namespace, out: Path) -> None:
    """Write our weights as another project has them: a plain state dict, which its `load_state_dict` takes.

    Raises:
        CheckpointError: that project has no such model.
    """
    from omnidet.checkpoints import load_checkpoint, save_checkpoint
    from omnidet.checkpoints.outward import convert_outward
    from omnidet.checkpoints.safetensors import write_safetensors
    given = {'--from': args.project != 'auto', '--classes': args.classes != 'all', '--config': bool(args.config)}
    if any(given.values()):
        raise CheckpointError(f'--to-project writes our weights out; {", ".join(k for k, v in given.items() if v)} '
                              'belongs to reading others')
    model, state, unused = convert_outward(load_checkpoint(args.source, args.trust)['state_dict'], args.to_project)
    if out.suffix == '.safetensors':
        write_safetensors(out, state)
    else:
        save_checkpoint(out, state)
    print(f'{out}: {len(state)} tensors, {model} of {args.to_project}')
    _list_unused(unused, f'{args.to_project}\'s model')


def _list_unused(names: list[str], model: str) -> None:
    if names:
        print(f'{len(names)} names of the file have no place in {model} and are left out:')
        print('\n'.join(f'  {name}' for name in names))


def hold_against(conversion: Conversion, config: str, options: list[str]) -> None:
    """Stop where the weights do not fit the model of a config.

    Raises:
        CheckpointError: the message lists what is missing, left over, or of another shape.
    """
    import torch

    import omnidet
    from omnidet.checkpoints.checkpoint import DERIVED
    cfg = omnidet.load_config(config, options)
    with torch.device('meta'):
        own = omnidet.build_model(cfg).state_dict()
    state = conversion.state
    missing = [k for k in own if k not in state and not k.endswith(DERIVED)]
    extra = [k for k in state if k not in own]
    shapes = [f'{k} {tuple(state[k].shape)} for {tuple(v.shape)}' for k, v in own.items()
              if k in state and state[k].shape != v.shape]
    wrong = {'missing': missing, 'without a place': extra, 'of another shape': shapes}
    lines = [f'  {len(names)} {what}: {", ".join(names[:3])}{", ..." if len(names) > 3 else ""}'
             for what, names in wrong.items() if names]
    if lines:
        hint = ''
        if shapes and not missing and not extra:
            hint = ('\nIf these are the layers that predict classes: --classes coco keeps 80 of 90, and --cfg-options '
                    'model.bbox_head.num_classes=K changes the config')
        raise CheckpointError(f'the weights do not fit {config}:\n' + '\n'.join(lines) + hint)


def publish(args: argparse.Namespace) -> None:
    """Write weights and meta data alone, under a name with the beginning of their SHA-256."""
    from omnidet.checkpoints.publish import publish_checkpoint
    path, dropped = publish_checkpoint(args.source, args.out, args.trust)
    left = f'; left out: {", ".join(dropped)}' if dropped else ''
    print(f'{path}: {path.stat().st_size / 1e6:.1f} MB{left}')
