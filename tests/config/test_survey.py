"""Surveys of folders of configs: what is read, checked and built, whatever the configs do to the processes."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

import pytest

from omnidet.config.survey import Finding, configs_below, examine, missing_parts, survey
from omnidet.errors import ConfigError

GOOD = "_base_ = 'omnidet::demo/rtmdet_shapes.py'\n"


def test_configs_are_found_without_parts_and_hidden_folders(write):
    folder = write('zoo/a.py', '').parent
    for name in ('b/c.py', '_base_/d.py', 'b/_base_/e.py', '.git/f.py', '__pycache__/g.py', 'h.json', 'b/__init__.py'):
        write(f'zoo/{name}', '')
    (folder / 'loop').symlink_to(folder)
    assert [p.relative_to(folder).as_posix() for p in configs_below(folder)] == ['a.py', 'b/c.py']
    with pytest.raises(ConfigError, match='no config in it'):
        configs_below(write('empty/x.txt', '').parent)
    with pytest.raises(ConfigError, match='is no folder'):
        configs_below(folder / 'a.py')


@pytest.mark.parametrize(('text', 'expected'), [
    (GOOD, dict(parses=True, builds=True)),
    ('x = 3\n', dict(parses=True, builds=None)),
    ('x = open("y")\n', dict(parses=False, builds=False)),
    (GOOD + "model = dict(neck=dict(type='NoNeck'))\n"
     "train_dataloader = dict(dataset=dict(pipeline=[dict(type='mmdet.NoTransform')]))\n",
     dict(parses=True, builds=False, missing=('NoNeck', 'NoTransform'))),
    (GOOD + 'model = dict(neck=dict(out_channels="x"))\n', dict(parses=True, builds=False)),
    (GOOD + 'model = 3\n', dict(parses=True, builds=False)),
    ("total_epochs = 3\ndata = dict(samples_per_gpu=2)\n", dict(parses=True, builds=None, changed=True)),
])
def test_one_config_is_read_checked_and_built(write, text, expected):
    found = examine(write('a.py', text), 'a.py')
    assert (found.parses, found.builds) == (expected['parses'], expected['builds']), found
    assert found.missing == expected.get('missing', ()) and (found.changes > 0) == expected.get('changed', False)
    assert bool(found.error) == (found.builds is False)
    assert bool(found.problems) == (found.parses and found.builds is False)


def test_missing_parts_are_counted_by_configs_not_by_uses():
    found = [Finding('a', missing=('X', 'Y')), Finding('b', missing=('Y',)), Finding('c')]
    assert missing_parts(found) == [('Y', 2, 'a'), ('X', 1, 'a')]


def _break_some(folder: Path) -> None:
    """In a process of the survey: two configs whose reading never ends, or ends the process."""
    from omnidet.config import survey

    def load(file, trust):    # type: ignore[no-untyped-def]
        if file.stem == 'dies':
            os._exit(3)
        if file.stem == 'hangs':
            time.sleep(100)
        return whole(file, trust=trust)
    whole = survey.load_config
    survey.load_config = load    # type: ignore[assignment]


def test_configs_that_crash_or_hang_do_not_end_a_survey(write):
    folder = write('zoo/good.py', GOOD).parent
    for name in ('dies', 'hangs', 'none', 'last'):
        write(f'zoo/{name}.py', 'x = 1\n' if name != 'none' else 'x = (')
    found = {f.name: f for f in survey(configs_below(folder), folder, jobs=2, limit=7,
                                       prepare=functools.partial(_break_some, folder))}
    assert sorted(found) == ['dies.py', 'good.py', 'hangs.py', 'last.py', 'none.py']
    assert found['good.py'].builds and found['last.py'].parses and 'no Python' in found['none.py'].error
    assert 'status 3' in found['dies.py'].error and 'more than 7 s' in found['hangs.py'].error


def test_processes_that_cannot_start_are_told(write):
    folder = write('zoo/a.py', 'x = 1\n').parent
    with pytest.raises(ConfigError, match='end before their first config'):
        list(survey(configs_below(folder), folder, prepare=functools.partial(os._exit, 1)))
