"""Hold MMDetection's 2.x zoo, upgraded, against its 3.x zoo, and write upgrades.md: where the two differ, and why.

    python docs/upgrades.py --old configs_of_2.28.2 --new configs_of_3.3.0 [--write] [FAMILY or CONFIG ...]

Every experiment of the 2.x zoo is paired with its namesake in the 3.x zoo. Both are loaded, and what remains between
them is printed by kind, with the number of configs. `--write` also writes the names under which our zoo knows them
(omnidet/config/names_2x.txt). Without folders, the public wheels are downloaded; only their
config files are kept, in the cache folder, and nothing of them is installed or imported.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import torch
from upgrade_reasons import REASONS, Reason, reason

import omnidet
from omnidet.config.resolve import NAMES_2X, key
from omnidet.engine import lr_curve
from omnidet.errors import OmniDetError
from omnidet.registry import find_anywhere

PAGE = Path(__file__).with_name('upgrades.md')
VERSIONS = {'old': '2.28.2', 'new': '3.3.0'}

RESPELLED = (('mstrain', 'ms'), ('fp16', 'amp'), ('crpn', 'cascade-rpn'), ('wider_face', 'widerface'),
             ('r2_101', 'res2net101'), ('res2net-101', 'res2net101'), ('r2_50', 'res2net50'), ('pretrain', 'pre'))
"""What a name of the 2.x zoo is called in the 3.x zoo, or what both are read as."""
ALIKE = ('equal', 'no model', 'builds')
"""What is said of a config that is built as it should be."""
BATCH = re.compile(r'(?:bs)?(\d+)xb?(\d+)')


class Row(NamedTuple):
    """What was found for one config of the 2.x zoo.

    Attributes:
        config: its name.
        namesake: the config of the 3.x zoo that it is held against; None where there is none.
        built: 'equal' where names and shapes are; or why not.
        differences: (kind, where and what), one for each difference.
    """

    config: str
    namesake: str | None
    built: str
    differences: list[tuple[str, str]]


# ---- the two zoos, and who is whose namesake ----

def zoo(folder: Path | None, version: str) -> Path:
    """The folder of MMDetection's configs of a version; downloaded once where none is given."""
    if folder is not None:
        return folder
    home = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'omnidet' / f'configs-{version}'
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as tmp:
            subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', tmp, f'mmdet=={version}'],
                           check=True)
            with zipfile.ZipFile(next(Path(tmp).glob('*.whl'))) as wheel:
                wheel.extractall(tmp, [n for n in wheel.namelist() if n.startswith('mmdet/.mim/configs/')])
            (Path(tmp) / 'mmdet/.mim/configs').replace(home)
    return home


def experiments(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob('*.py') if '_base_' not in p.parts)


def weights(root: Path) -> dict[str, str]:
    """{config: the weights that its metafile links to}."""
    out: dict[str, str] = {}
    for file in sorted(root.rglob('metafile.yml')):
        config = None
        for line in file.read_text(encoding='utf-8').splitlines():
            key, _, value = line.strip().removeprefix('- ').partition(':')
            if key == 'Name':
                config = None
            elif key == 'Config':
                config = unquote(value.strip().removeprefix('configs/'))
            elif key == 'Weights' and config and value.strip():
                out.setdefault(config, value.strip())
    return out


def pairs(old: Path, new: Path) -> dict[str, str | None]:
    """{config of the 2.x zoo: its namesake}: it has the same weights, or the same words in its name but for one."""
    by_weights = defaultdict(list)
    for config, url in weights(new).items():
        by_weights[url].append(config)
    by_family = defaultdict(list)
    for config in experiments(new):
        by_family[family(config)].append(config)
    urls = weights(old)
    out: dict[str, str | None] = {}
    for config in experiments(old):
        same_weights = [c for c in by_weights.get(urls.get(config, ''), []) if (new / c).is_file()]
        ranked = sorted((distance(config, c), c) for c in same_weights or by_family[family(config)])
        out[config] = ranked[0][1] if ranked and (same_weights or ranked[0][0][0] <= 1) else None
    return out


def renamed(names: Mapping[str, str | None]) -> list[str]:
    """Lines of the old and the new name of each config that is more than spelled otherwise now."""
    same = {old: new for old, new in names.items() if new is not None and 'ascend' not in old
            and ('fp16' in old) == ('amp' in new)}    # the others have a namesake that is only near
    return [f'{old.removesuffix(".py")} {new.removesuffix(".py")}' for old, new in same.items() if key(old) != key(new)]


def family(config: str) -> str:
    return config.partition('/')[0]


def distance(a: str, b: str) -> tuple[int, bool]:
    """How many words two names do not share, and whether their batches differ."""
    (words_a, batch_a), (words_b, batch_b) = words(a), words(b)
    return len(words_a ^ words_b), batch_a != batch_b


@cache
def words(config: str) -> tuple[frozenset[str], frozenset[Any]]:
    """The words of a name, and its batch: GPUs and images on each."""
    name = Path(config).stem.lower() if config.endswith('.py') else config
    for old, new in RESPELLED:
        name = name.replace(old, new)
    found = re.split(r'[-_+]', name)
    batches = {w: m.groups() for w in found if (m := BATCH.fullmatch(w))}
    return frozenset(found) - set(batches), frozenset(batches.values())


# ---- two experiments held against each other ----

def compare(config: str, namesake: str | None, old: Path, new: Path) -> Row:
    try:
        mine = omnidet.load_config(old / config)
    except OmniDetError as e:
        return Row(config, namesake, 'not loaded', [('does not load', one_line(e))])
    if namesake is None:
        built = layout_of(mine)
        return Row(config, None, built if isinstance(built, str) else 'builds', [])
    theirs = omnidet.load_config(new / namesake)
    differences = [(kind, text) for (kind, a), (_, b) in zip(parts(mine), parts(theirs), strict=True)
                   for text in differing(without_defaults(a), without_defaults(b))]
    if (text := schedules(mine, theirs)):
        differences.append(('schedule', text))
    return Row(config, namesake, built_alike(mine, theirs), differences)


def parts(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(kind, what of the experiment is compared under it)."""
    model = dict(cfg.get('model') or {})
    yield 'preprocessor', model.pop('data_preprocessor', None)
    yield 'model', model
    yield 'optimizer', cfg.get('optim_wrapper')
    loop = dict(cfg.get('train_cfg') or {})
    yield 'length', {k: loop.get(k) for k in ('max_epochs', 'max_iters')}
    yield 'batch size', (cfg.get('train_dataloader') or {}).get('batch_size')
    for phase in ('train', 'test'):
        pipelines: list[Any] = []
        data = split(cfg.get(f'{phase}_dataloader') or {}, pipelines)
        yield f'{phase} pipeline', pipelines
        yield f'{phase} data', {k: v for k, v in data.items() if k != 'batch_size'}
    yield 'evaluation', {'interval': loop.get('val_interval'), 'begin': loop.get('val_begin'),
                         **{k: cfg.get(k) for k in ('val_evaluator', 'test_evaluator')}}


def split(value: Any, pipelines: list[Any]) -> Any:
    """`value` without the pipelines in it, which are put into `pipelines`."""
    if isinstance(value, Mapping):
        pipelines.extend(v for k, v in value.items() if k == 'pipeline')
        return {k: split(v, pipelines) for k, v in value.items() if k != 'pipeline'}
    return [split(v, pipelines) for v in value] if isinstance(value, (list, tuple)) else value


def without_defaults(value: Any) -> Any:
    """`value` with lists for tuples, without what is None or what a part has for a default anyway."""
    if isinstance(value, Mapping):
        defaults = defaults_of(value.get('type'))
        plain = {k: without_defaults(v) for k, v in value.items()}
        return {k: v for k, v in plain.items() if (v != defaults[k] if k in defaults else v is not None)}
    return [without_defaults(v) for v in value] if isinstance(value, (list, tuple)) else value


@cache
def defaults_of(name: Any) -> dict[str, Any]:
    part = find_anywhere(name) if isinstance(name, str) else None
    if part is None:
        return {}
    return {k: without_defaults(p.default) for k, p in inspect.signature(part).parameters.items()
            if p.default is not p.empty}


def differing(a: Any, b: Any, path: str = '') -> Iterator[str]:
    """Where two nests differ: `roi_head.bbox_head.num_classes: 80, in 3.x 20`."""
    if isinstance(a, dict) and isinstance(b, dict) and a.get('type') == b.get('type'):
        for key in dict.fromkeys([*a, *b]):
            yield from differing(a.get(key), b.get(key), f'{path}.{key}'.lstrip('.'))
    elif isinstance(a, list) and isinstance(b, list) and kinds(a) == kinds(b) and holds_parts(a):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differing(x, y, f'{path}.{x["type"] if isinstance(x, dict) and "type" in x else i}'.lstrip('.'))
    elif a != b:
        yield f'{path}: {shown(a)}, in 3.x {shown(b)}'.lstrip(': ')


def holds_parts(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(holds_parts, value)))


def kinds(items: list[Any]) -> list[Any]:
    return [v.get('type') if isinstance(v, dict) else None for v in items]


def shown(value: Any) -> str:
    if isinstance(value, list) and any(kinds(value)):
        return ' '.join(str(k) for k in kinds(value))
    if isinstance(value, dict):
        inner = ', '.join(f'{k}={shown(v)}' for k, v in value.items() if k != 'type')
        return f'{value.get("type", "dict")}({inner})'
    return 'nothing' if value is None else str(value)


def schedules(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """How the learning rates over a whole run of 100 iterations an epoch differ, if they do."""
    try:
        a, b = (np.asarray(lr_curve(cfg, 100)) for cfg in (mine, theirs))
    except (OmniDetError, KeyError, TypeError) as e:
        return None if 'train_cfg' not in theirs else f'not computed: {one_line(e)}'
    if len(a) != len(b):
        return f'{len(a)} iterations, in 3.x {len(b)}'
    off = np.flatnonzero(~np.isclose(a, b, rtol=1e-4, atol=1e-9))
    return f'from iteration {off[0]}: {a[off[0]]:.5g}, in 3.x {b[off[0]]:.5g}' if len(off) else None


def built_alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    if 'model' not in theirs and 'model' not in mine:
        return 'no model'
    a, b = layout_of(mine), layout_of(theirs)
    if isinstance(b, str):    # its parts are not there yet
        return b
    if isinstance(a, str):
        return f'the namesake is built, it is {a}'
    off = [k for k in dict.fromkeys([*b, *a]) if a.get(k) != b.get(k)]
    if off:
        return f'{len(off)} names or shapes differ, first {off[0]}: {a.get(off[0])}, in 3.x {b.get(off[0])}'
    return 'equal'


_LAYOUTS: dict[str, dict[str, tuple[int, ...]] | str] = {}


def layout_of(cfg: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | str:
    """{parameter: shape} of the model, which takes no memory; or why it is not built."""
    key = hashlib.sha1(json.dumps(cfg.get('model'), default=str).encode()).hexdigest()
    if key not in _LAYOUTS:
        try:
            with torch.device('meta'):
                state = omnidet.build_model(cfg).state_dict()
            _LAYOUTS[key] = {k: tuple(v.shape) for k, v in state.items()}
        except Exception as e:    # one config of hundreds; what is wrong with it is what this page is for
            _LAYOUTS[key] = f'not built: {one_line(e)}'
    return _LAYOUTS[key]


def one_line(e: Exception) -> str:
    """A message without folders and proposals, so that equal ones count as one."""
    name = '' if isinstance(e, OmniDetError) else f'{type(e).__name__}: '
    return name + re.sub(r'\S*/', '', str(e).partition('; did you')[0].replace('\n', ' '))[:160]


# ---- what is said of it ----

def totals(rows: Iterable[Row]) -> list[str]:
    rows = list(rows)
    paired = [r for r in rows if r.namesake]
    whole = [r for r in paired if not r.built.startswith('not ')]
    equal = sum(r.built in ALIKE for r in whole)
    out = [f'{len(rows)} configs, {sum(r.built != "not loaded" for r in rows)} load, {len(paired)} have a namesake',
           f'{len(whole)} of these have all their parts here; {equal} build to equal names and shapes; '
           f'{len(paired) - len(whole)} wait for parts that are not here yet']
    for kind in dict.fromkeys(k for r in paired for k, _ in r.differences):
        of_kind = [{t for k, t in r.differences if k == kind} for r in paired]
        known = sum(all(reason(kind, r.config, t) for t in texts) for r, texts in zip(paired, of_kind, strict=True)
                    if texts)
        out.append(f'{kind}: {sum(not t for t in of_kind)} equal, {known} differ for a known reason, '
                   f'{sum(map(bool, of_kind)) - known} otherwise')
    return out


def listing(rows: Iterable[Row], most: int) -> Iterator[str]:
    """Unexplained differences, the most frequent first, with some of their configs."""
    found = defaultdict(list)
    for row in rows:
        if row.built not in (*ALIKE, 'not loaded'):
            found['build', row.built].append(row.config)
        for kind, text in row.differences:
            if reason(kind, row.config, text) is None:
                found[kind, text].append(row.config)
    for (kind, text), configs in sorted(found.items(), key=lambda item: (item[0][0], -len(item[1])))[:most]:
        yield f'{len(configs):4d}  {kind}: {text[:230]}   [{", ".join(configs[:2])}]'


def page(rows: list[Row]) -> str:
    counts: Counter[Reason] = Counter()
    for row in rows:
        counts.update({r for kind, text in row.differences if (r := reason(kind, row.config, text))})
    lines = [INTRODUCTION, *(f'- {line}' for line in totals(rows)), '']
    lines += ['| what differs | configs | why |', '|---|---:|---|']
    lines += [f'| {r.kind}: {r.what} | {counts[r]} | {r.why} |' for r in sorted(REASONS, key=in_order) if counts[r]]
    alone = sorted(r.config for r in rows if r.namesake is None)
    lines += ['', f'Without a namesake ({len(alone)}): {", ".join(f"`{c}`" for c in alone)}.']
    return '\n'.join(lines) + '\n'


def in_order(of: Reason) -> int:
    """Where the rows of its kind stand: as `parts` has the kinds, with the schedule behind."""
    return [*(kind for kind, _ in parts({})), 'schedule'].index(of.kind)


INTRODUCTION = f'''# Upgraded configs against MMDetection 3.x's own

`load_config` reads a config of MMDetection 2.x as an experiment in 3.x form. This page is written by
`python docs/upgrades.py --write`, which upgrades every config of the 2.x zoo ({VERSIONS['old']}) and holds it against
its namesake in the 3.x zoo ({VERSIONS['new']}): the one with the same weights in both zoos' `metafile.yml`, or else
with the same words in its name. What an argument's default says anyway counts as equal.
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('only', nargs='*', help='families (folders) or configs of the 2.x zoo; all where none is named')
    parser.add_argument('--old', type=Path, help=f'configs of MMDetection {VERSIONS["old"]}')
    parser.add_argument('--new', type=Path, help=f'configs of MMDetection {VERSIONS["new"]}')
    parser.add_argument('--most', type=int, default=100, help='lines of differences to print')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write what was found for each config there')
    parser.add_argument('--write', action='store_true', help=f'write {PAGE.name} and {NAMES_2X.name}')
    args = parser.parse_args()
    old, new = zoo(args.old, VERSIONS['old']), zoo(args.new, VERSIONS['new'])
    wanted = {c: n for c, n in pairs(old, new).items() if not args.only or {c, family(c)} & set(args.only)}
    rows = []
    torch.set_num_threads(1)
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(compare, wanted, wanted.values(), *([x] * len(wanted) for x in (old, new)), chunksize=8):
            rows.append(row)
            if sys.stderr.isatty():
                print(f'\r{len(rows)} of {len(wanted)}', end='', file=sys.stderr, flush=True)
    print(*listing(rows, args.most), '', *totals(rows), sep='\n')
    if args.json:
        args.json.write_text(json.dumps([row._asdict() for row in rows], indent=1), encoding='utf-8')
    if args.write:
        PAGE.write_text(page(rows), encoding='utf-8')
        NAMES_2X.write_text('\n'.join(renamed(pairs(old, new))) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
