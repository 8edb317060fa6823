import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import omnidet
from omnidet.data import build_dataset, build_loader
from omnidet.data.samplers import AspectRatioBatchSampler, BatchSampler, DefaultSampler, InfiniteSampler
from omnidet.errors import ConfigError, DatasetError, ImageError
from omnidet.registry import TRANSFORMS

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
RANDOM = [*LOAD, dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
          dict(type='RandomCrop', crop_size=(32, 32), allow_negative_crop=True), dict(type='YOLOXHSVRandomAug'),
          dict(type='RandomFlip', prob=0.5), dict(type='Pad', size=(32, 32)), dict(type='PackDetInputs')]
MOSAIC = [*LOAD, dict(type='CachedMosaic', img_scale=(32, 32), max_cached_images=6),
          dict(type='CachedMixUp', img_scale=(64, 64), max_cached_images=3), *RANDOM[2:]]
PLAIN = [*LOAD, dict(type='PackDetInputs')]


@pytest.fixture
def loader_cfg(make_coco):
    def make(n=12, pipeline=RANDOM, batch_size=4, dataset=None, **cfg):
        coco = make_coco([[(8, 8, 40, 30, 10)] for _ in range(n)], sizes=[(64, 48), (48, 64)] * n)
        return dict(dict(batch_size=batch_size, dataset=dict(coco, pipeline=pipeline, **(dataset or {}))), **cfg)
    return make


def epoch_of(loader, epoch, start=0):
    loader.set_epoch(epoch)
    loader.set_start(start)
    return list(loader)


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.targets.boxes, y.targets.boxes)
        and [m.img_id for m in x.metas] == [m.img_id for m in y.metas] for x, y in zip(a, b, strict=True))


def ids(batches):
    return [m.img_id for b in batches for m in b.metas]


def test_workers_make_the_same_samples_as_the_main_process(loader_cfg):
    alone = build_loader(loader_cfg(), train=True, seed=5)
    two = build_loader(loader_cfg(num_workers=2, persistent_workers=True), train=True, seed=5)
    first = epoch_of(alone, 0)
    assert same(first, epoch_of(two, 0)) and same(epoch_of(alone, 1), epoch_of(two, 1))
    assert not same(first, epoch_of(build_loader(loader_cfg(), train=True, seed=6), 0))


def test_epochs_differ_in_order_and_augmentation(loader_cfg):
    loader = build_loader(loader_cfg(sampler=dict(type='DefaultSampler', shuffle=False)), train=True)
    a, b = epoch_of(loader, 0), epoch_of(loader, 1)
    assert ids(a) == ids(b) and not same(a, b)
    shuffled = build_loader(loader_cfg(), train=True)
    assert ids(epoch_of(shuffled, 0)) != ids(epoch_of(shuffled, 1))


def test_a_run_resumed_in_mid_epoch_sees_the_rest_of_it(loader_cfg):
    whole = epoch_of(build_loader(loader_cfg(), train=True, seed=2), 3)
    resumed = build_loader(loader_cfg(), train=True, seed=2)
    assert same(whole[1:], epoch_of(resumed, 3, start=1)) and len(resumed) == len(whole) == 3
    assert len(epoch_of(resumed, 4)) == 3    # the start holds for one iteration only


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_a_run_resumed_between_epochs_sees_the_same_mosaics(loader_cfg, workers):
    cfg = loader_cfg(pipeline=MOSAIC, num_workers=workers, persistent_workers=True)
    straight = build_loader(cfg, train=True, seed=1)
    first, second = epoch_of(straight, 0), epoch_of(straight, 1)
    resumed = build_loader(cfg, train=True, seed=1)
    assert same(second, epoch_of(resumed, 1)) and not same(first, second)
    assert first[0].metas[0].img_shape == (32, 32)


def test_seeding_samples_leaves_the_callers_random_numbers_alone(loader_cfg):
    loader = build_loader(loader_cfg(), train=True)
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    list(loader)
    assert np.random.rand() == expected


def test_a_transform_of_ones_own_runs_and_its_random_numbers_are_seeded(loader_cfg):
    @TRANSFORMS.register_module(force=True)
    class BrightnessOfMyOwn:
        def transform(self, results):
            results['img'] = np.full_like(results['img'], np.random.randint(256))
            return results
    cfg = loader_cfg(pipeline=[*LOAD, dict(type='BrightnessOfMyOwn'), dict(type='PackDetInputs')], batch_size=1)
    a, b = (epoch_of(build_loader(cfg, train=True, seed=4), 0) for _ in range(2))
    assert same(a, b) and len({int(x.images[0, 0, 0, 0]) for x in a}) > 4


@pytest.mark.parametrize('world_size', [1, 2, 3, 5])
def test_evaluation_shards_cover_every_image_once(loader_cfg, world_size):
    cfg = loader_cfg(pipeline=PLAIN, n=7, batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
    seen = [i for rank in range(world_size)
            for i in ids(build_loader(cfg, train=False, rank=rank, world_size=world_size))]
    assert sorted(seen) == list(range(7))


def test_training_shards_have_equal_length_and_cover_all():
    shards = [list(DefaultSampler(range(10), seed=3, rank=r, world_size=4)) for r in range(4)]
    assert {len(s) for s in shards} == {3} and {i for s in shards for i in s} == set(range(10))
    assert all(len(DefaultSampler(range(10), round_up=False, rank=r, world_size=4)) ==
               len(list(DefaultSampler(range(10), round_up=False, rank=r, world_size=4))) for r in range(4))


def test_infinite_sampler_runs_through_all_images_in_each_pass():
    streams = [iter(InfiniteSampler(range(5), seed=1, rank=r, world_size=2)) for r in range(2)]
    keys = [next(s) for _ in range(10) for s in streams]
    assert Counter(keys) == Counter({(p, i): 1 for p in range(4) for i in range(5)})
    assert [p for p, _ in keys] == sorted(p for p, _ in keys)


def test_infinite_loading_resumes_where_it_stopped(loader_cfg):
    cfg = loader_cfg(n=5, batch_size=2, sampler=dict(type='InfiniteSampler'))
    stream = iter(build_loader(cfg, train=True))
    whole = [next(stream) for _ in range(6)]
    resumed = build_loader(cfg, train=True)
    resumed.set_start(3)
    stream = iter(resumed)
    assert same(whole[3:], [next(stream) for _ in range(3)])


class Shapes:
    def __init__(self, sizes):
        self.sizes = np.array(sizes)

    def __len__(self):
        return len(self.sizes)


@pytest.mark.parametrize('drop_last', [True, False])
def test_aspect_ratio_batches_do_not_mix_until_the_end(drop_last):
    data = Shapes([(64, 48), (48, 64), (30, 30)] * 5)
    sampler = AspectRatioBatchSampler(DefaultSampler(data, seed=0), 4, drop_last)
    batches = list(sampler)
    assert len(batches) == len(sampler) == (3 if drop_last else 4)
    kinds = [{bool(data.sizes[i][0] >= data.sizes[i][1]) for i in b} for b in batches]
    assert all(len(k) == 1 for k in kinds[:3]) and all(len(b) == 4 for b in batches[:3])
    if not drop_last:
        assert sorted(i for b in batches for i in b) == list(range(15))


def test_batches_drop_an_incomplete_last():
    assert [len(b) for b in BatchSampler(range(7), 3)] == [3, 3, 1]
    assert [len(b) for b in BatchSampler(range(7), 3, drop_last=True)] == [3, 3]


def test_batches_are_padded_to_the_largest(loader_cfg):
    batch = next(iter(build_loader(loader_cfg(pipeline=PLAIN, batch_size=2), train=False)))
    assert batch.images.shape == (2, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert [m.img_shape for m in batch.metas] == [(48, 64), (64, 48)] and batch.metas[0].pad_shape == (64, 64)
    assert batch.targets.sizes.tolist() == [[48, 64], [64, 48]]
    assert batch.images[0, :, 48:].max() == 0 and batch.images[1, :, :, 48:].max() == 0


def break_images(cfg, numbers, folder):
    for n in numbers:
        (folder / 'img' / f'{n}.png').write_bytes(b'broken')
    return cfg


def test_a_broken_training_image_is_replaced_and_named_once(loader_cfg, tmp_path, caplog):
    cfg = break_images(loader_cfg(batch_size=1), [4], tmp_path)
    loader = build_loader(cfg, train=True)
    with caplog.at_level(logging.WARNING, 'omnidet'):
        batches = epoch_of(loader, 0) + epoch_of(loader, 1)
    assert len(batches) == 24 and 4 not in ids(batches)
    assert caplog.text.count('4.png') == 1


def test_a_broken_test_image_is_an_error_even_in_a_worker(loader_cfg, tmp_path):
    cfg = break_images(loader_cfg(pipeline=PLAIN), [4], tmp_path)
    with pytest.raises(ImageError, match=r'4\.png'):
        list(build_loader(cfg, train=False))
    with pytest.raises(ImageError, match=r'4\.png'):
        list(build_loader(dict(cfg, num_workers=1), train=False))


def test_images_that_a_transform_drops_are_replaced_without_end_only_so_often(loader_cfg):
    narrow = [*LOAD, dict(type='FilterAnnotations', min_gt_bbox_wh=(60, 60)), dict(type='PackDetInputs')]
    dataset = build_dataset(dict(loader_cfg(pipeline=narrow)['dataset'], max_refetch=5))
    with pytest.raises(DatasetError, match='6 images in a row'):
        dataset[0]
    with pytest.raises(DatasetError, match='drops it'):
        build_dataset(dict(loader_cfg(pipeline=narrow)['dataset']), test_mode=True)[0]


def test_replaced_pipelines_reach_running_workers(loader_cfg):
    loader = build_loader(loader_cfg(num_workers=1, persistent_workers=True), train=True)
    assert epoch_of(loader, 0)[0].images.shape[2:] == (32, 32)
    loader.set_pipeline([*LOAD, dict(type='Resize', scale=(20, 20)), dict(type='PackDetInputs')])
    assert epoch_of(loader, 1)[0].images.shape[2:] == (20, 20)


def test_repetitions_of_an_image_are_augmented_differently(loader_cfg):
    inner = loader_cfg(n=2, batch_size=1)['dataset']
    loader = build_loader(dict(batch_size=1, dataset=dict(type='RepeatDataset', times=3, dataset=inner)), train=True)
    first = [b.images for b in epoch_of(loader, 0) if b.metas[0].img_id == 0]
    assert len(first) == 3 and not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])


@pytest.mark.parametrize('cfg', [dict(num_worker=2), dict(collate_fn=dict(type='my_collate')),
                                 dict(sampler=dict(type='DefaultSampler', shufle=True)),
                                 dict(batch_sampler=dict(type='NoSampler'))])
def test_options_that_mean_nothing_are_refused(loader_cfg, cfg):
    with pytest.raises(ConfigError):
        build_loader(loader_cfg(**cfg), train=True)


def test_usual_options_of_configs_are_taken(loader_cfg):
    cfg = loader_cfg(num_workers=0, persistent_workers=False, pin_memory=True, drop_last=True, batch_size=5,
                     collate_fn=dict(type='pseudo_collate'), batch_sampler=dict(type='AspectRatioBatchSampler'),
                     sampler=dict(type='DefaultSampler', shuffle=True, seed=None, round_up=True))
    loader = build_loader(cfg, train=True)
    assert [len(b) for b in loader] == [5, 5] and len(loader) == 2
    assert len(build_loader(dict(cfg, num_batch_per_epoch=1), train=True)) == 1


def test_an_error_in_mid_epoch_does_not_leave_the_program_waiting_for_workers(loader_cfg, tmp_path):
    cfg = loader_cfg(num_workers=1, persistent_workers=True)
    script = tmp_path / 'script.py'
    script.write_text(f"""
from omnidet.data import build_loader
keep = iter(build_loader({cfg!r}, train=True))
next(keep)
raise RuntimeError('the training broke off')
""")
    root = str(Path(omnidet.__file__).parents[1])
    done = subprocess.run([sys.executable, str(script)], env={**os.environ, 'PYTHONPATH': root}, timeout=60,
                          capture_output=True, text=True)
    assert 'the training broke off' in done.stderr and done.returncode == 1
