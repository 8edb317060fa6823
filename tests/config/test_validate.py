"""A config against signatures: what is reported, and what must not be."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from omnidet.config import Config, check, load_config, validate
from omnidet.config.kinds import fits
from omnidet.errors import ConfigError


class Net:
    def __init__(self, backbone: Mapping[str, Any], neck: Mapping[str, Any] | None = None, num: int = 1,
                 train_cfg: dict | None = None) -> None:
        raise AssertionError('nothing may be built')


class FPN:
    def __init__(self, in_channels: Sequence[int], out_channels: int, scale: float = 1.0, mode: Literal['a', 'b'] = 'a',
                 norm_cfg: Mapping[str, Any] | None = None, size: tuple[int, int] = (1, 1), flag: bool = False,
                 name: str | None = None, anything: Any = None, later: NotImported = None) -> None:    # type: ignore[name-defined]  # noqa: F821
        raise AssertionError('nothing may be built')


class Typed:
    def __init__(self, in_channels: Sequence[int], out_channels: int, size: tuple[int, int] | int = 1) -> None:
        raise AssertionError('nothing may be built')


class Open:
    def __init__(self, a: int = 1, **kwargs: Any) -> None:
        raise AssertionError('nothing may be built')


@dataclass
class Step:
    end: int | None = None
    gamma: float = 0.1


def bn(num_features: int, eps: float = 1e-5) -> None:
    raise AssertionError('nothing may be built')


PARTS: dict[str, Callable[..., Any]] = {'Net': Net, 'FPN': FPN, 'Typed': Typed, 'Open': Open, 'Step': Step, 'BN': bn}


def problems(cfg: Mapping[str, Any]) -> list[str]:
    found = validate(cfg, lambda name, path: PARTS.get(name.rpartition('.')[2]), lambda path: PARTS)
    return [f'{p.path}: {p.message}' for p in found]


@pytest.mark.parametrize(('model', 'expected'), [
    (dict(type='Nett'), "model.type: there is no 'Nett'; did you mean 'Net'?"),
    (dict(type=3), 'model.type: a type is the name of a part, not 3 (int)'),
    (dict(type='Net', neck=dict(type='FPN', out_chanels=3)),
     "model.neck.out_chanels: FPN has no such argument; did you mean 'out_channels'?"),
    (dict(type='Net', xyzzy=3), 'model.xyzzy: Net has no such argument; it takes backbone, neck, num, train_cfg'),
    (dict(type='Net', num='3'), "model.num: Net takes int here, not '3' (str)"),
    (dict(type='Net', num=[1]), 'model.num: Net takes int here, not [1] (list)'),
    (dict(type='Net', neck=[dict(type='Typed', out_channels=3, in_channels=64)]),
     'model.neck.0.in_channels: Typed takes Sequence[int] here, not 64 (int)'),
    (dict(type='Typed', size=(1, 2, 3)), 'model.size: Typed takes tuple[int, int] | int here, not (1, 2, 3) (tuple)'),
    (dict(type='Step', gama=1), "model.gama: Step has no such argument; did you mean 'gamma'?"),
])
def test_mistakes_are_reported_with_path_and_nearest_match(model, expected):
    assert expected in problems(dict(model=model))


@pytest.mark.parametrize('model', [
    dict(type='Net'),    # those around a part may give it what it lacks
    dict(type='mmdet.Net', neck=None, num=True),
    dict(type=Net, train_cfg=None, _scope_='mmdet', _delete_=True),
    dict(type='Typed', in_channels=(1, 2), out_channels=3.0, size=[1, 2]),
    dict(type='Open', b='anything'),
    dict(type='FPN', in_channels='what an annotation that cannot be read asks for'),
    dict(type='Net', train_cfg=dict(nms=dict(type='soft_nms'), init_cfg=dict(type='Xavier'))),
])
def test_what_may_be_right_is_not_reported(model):
    assert problems(dict(model=model)) == []


def test_norms_may_be_frozen_by_the_part_that_builds_them():
    part = dict(type='Open', norm_cfg=dict(type='BN', requires_grad=False, eps=1, momentum=2))
    assert problems(dict(model=part)) == [
        "model.norm_cfg.momentum: bn has no such argument; it takes num_features, eps"]


def test_values_that_a_file_only_names_are_not_held_against_anything_and_mistakes_count_once(load):
    cfg = load("""
        pipeline = [dict(type='Stepp')]
        train_dataloader = dict(dataset=dict(pipeline=pipeline))
        val_dataloader = dict(dataset=dict(pipeline=pipeline))
    """)
    found = validate(cfg, lambda name, path: PARTS.get(name), lambda path: PARTS)
    assert [p.path for p in found] == ['train_dataloader.dataset.pipeline.0.type']
    assert found[0].origin == (cfg.filename, 2)
    assert str(found[0]).startswith(f'{cfg.filename}:2: train_dataloader.dataset.pipeline.0.type: there is no')


@pytest.mark.parametrize(('key', 'near'), [('train_dataloder', 'train_dataloader'), ('optim_wraper', 'optim_wrapper')])
def test_a_misspelt_top_level_key_is_reported(key, near):
    assert problems({key: dict(a=1)}) == [f"{key}: no run reads this; did you mean '{near}'?"]


@pytest.mark.parametrize('key', [
    'train_dataloader2', 'train_pipeline', 'model_cfg', 'val_dataset', 'tta_model', 'test_evaluators'])
def test_other_top_level_keys_are_the_files_own(key):
    assert problems({key: dict(a=1)}) == []


@pytest.mark.parametrize(('value', 'hint', 'expected'), [
    (1, int, True), (True, int, True), (1.0, int, True), (1.5, int, False), ('1', int, False), (None, int, False),
    (1, float, True), ('1', float, False), ([1], float, False), (1, str, False), ('a', str, True), (0, bool, True),
    (2, bool, False), ('yes', bool, False), (None, None, True), (None, int | None, True), ('a', int | None, False),
    ([1, 2], tuple[int, int], True), ((1, 2, 3), tuple[int, int], False), ([1, 2, 3], tuple[int, ...], True),
    ((1, 'a'), list[int], False), ([[1, 2]], Sequence[tuple[int, int]], True), ([3], Sequence[tuple[int, int]], False),
    (3, Sequence[int], False), ('ab', Sequence[int], False), ('ab', Sequence[str], True),
    (3, int | Sequence[int], True),
    ({'a': 1}, Mapping[str, Any], True), ([1], Mapping[str, Any], False), (3, dict, False), (None, dict | None, True),
    ('a', Literal['a', 'b'], True), ('c', Literal['a', 'b'], False), ([1], Literal[1], False),
    ({'type': 'X'}, types.ModuleType, True), ('relu', Callable[[int], int], True), (3, Any, True),
    (3, 'unresolved', True),
    ({'type': 'X'}, int, False), ({1, 2}, Sequence[int], True), ([None], list[int | None], True),
])
def test_kinds_are_judged_by_annotations(value, hint, expected):
    assert fits(value, hint) is expected


@pytest.mark.parametrize('name', ['rtmdet/rtmdet_tiny', 'rtmdet/rtmdet_nano', 'rtmdet/rtmdet_x_p6'])
def test_our_configs_are_in_order(name):
    check(load_config(name))


def test_check_lists_every_problem_of_a_config():
    cfg = load_config('rtmdet/rtmdet_tiny', [
        'model.neck.out_chanels=3', 'model.backbone.type=CSPNeXtt', 'train_dataloader.dataset.type=CocoDatset',
        'param_scheduler.0.star_factor=1', 'val_evaluator.metric=[bbox,3]', 'model.test_cfg.nms.typo=1'])
    with pytest.raises(ConfigError) as e:
        check(cfg)
    assert str(e.value).splitlines() == [
        'the config has 5 problems',
        "  --cfg-options: model.backbone.type: there is no 'CSPNeXtt'; did you mean 'CSPNeXt'?",
        "  --cfg-options: model.neck.out_chanels: CSPNeXtPAFPN has no such argument; did you mean 'out_channels'?",
        "  --cfg-options: train_dataloader.dataset.type: there is no 'CocoDatset'; did you mean 'CocoDataset'?",
        "  --cfg-options: val_evaluator.metric: CocoMetric takes str | Sequence[str] here, not ['bbox', 3] (list)",
        "  --cfg-options: param_scheduler.0.star_factor: LinearLR has no such argument; did you mean 'start_factor'?"]


def test_a_plain_dict_is_checked_too():
    with pytest.raises(ConfigError, match=r"^the config has a problem\n  model\.type: there is no 'RTMDett'"):
        check(Config({'model': {'type': 'RTMDett'}}))


def test_what_another_library_names_is_left_to_it():
    class Wrapper:
        FOREIGN_PARTS = ('transforms',)

        def __init__(self, transforms: Sequence[Mapping[str, Any]], inner: Mapping[str, Any] | None = None) -> None:
            raise AssertionError('nothing may be built')

    cfg = dict(model=dict(type='Wrapper', transforms=[dict(type='Blur', p=1)], inner=dict(type='Blur')))
    found = validate(cfg, lambda name, path: Wrapper if name == 'Wrapper' else None)
    assert [p.path for p in found] == ['model.inner.type']
