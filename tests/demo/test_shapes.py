"""The rendered set: repeatable, labelled tightly, and with all that a detector has to tell apart."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from omnidet.demo.shapes import CLASSES, cover_box, paint, render_background, render_cover, render_scene, write_dataset


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    a, b, c = render_scene(rng(1)), render_scene(rng(1)), render_scene(rng(2))
    assert np.array_equal(a.image, b.image) and np.array_equal(a.boxes, b.boxes) and np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize('name', CLASSES)
def test_a_box_is_tight_around_the_pixels_that_painting_changes(name):
    for seed in range(5):
        background = np.full((96, 96, 3), 128, np.uint8)
        cover = render_cover(rng(seed), name, 96)
        # a pixel that is covered by a thirtieth may round back to the background's value; nothing outside may change
        changed = (paint(rng(seed, 1), background, cover) != background).any(axis=2)
        x1, y1, x2, y2 = cover_box(cover).astype(int)
        assert changed.any()
        outside = changed.copy()
        outside[y1:y2, x1:x2] = False
        assert not outside.any()
        tight = cover_box(changed.astype(float))
        assert np.abs(tight - [x1, y1, x2, y2]).max() <= 1


@pytest.mark.parametrize('name', CLASSES)
def test_shapes_have_soft_edges(name):
    cover = render_cover(rng(3), name, 128)
    assert cover.min() == 0 and cover.max() == 1
    assert ((cover > 0.1) & (cover < 0.9)).sum() > 10


def test_only_the_ring_has_a_hole():
    for name in CLASSES:
        cover = render_cover(rng(4), name, 128)
        x1, y1, x2, y2 = cover_box(cover)
        middle = cover[int(y1 + y2) // 2, int(x1 + x2) // 2]
        assert middle == (0 if name == 'ring' else 1), name


def test_shapes_keep_inside_the_picture_and_apart():
    for seed in range(20):
        scene = render_scene(rng(seed), size=128, max_shapes=6)
        assert scene.image.shape == (128, 128, 3) and scene.image.dtype == np.uint8
        assert 1 <= len(scene.boxes) == len(scene.labels) <= 6
        assert scene.boxes.min() >= 0 and scene.boxes.max() <= 128
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2]).min() >= 8
        for i, a in enumerate(scene.boxes):
            for b in scene.boxes[:i]:
                inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
                smaller = min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
                assert inner <= 0.05 * smaller


def test_backgrounds_are_textured():
    for seed in range(5):
        assert render_background(rng(seed), 96).std(axis=(0, 1)).min() > 4


def test_a_written_set_is_coco_and_repeatable(tmp_path):
    for name in ('a', 'b'):
        write_dataset(tmp_path / name, dict(train=30, val=4), seed=5, size=96)
    content = json.loads((tmp_path / 'a/annotations/train.json').read_text())
    assert [c['name'] for c in content['categories']] == list(CLASSES)
    assert {a['category_id'] for a in content['annotations']} == set(range(1, len(CLASSES) + 1))
    assert len({a['id'] for a in content['annotations']}) == len(content['annotations'])
    for image in content['images']:
        pixels = cv2.imread(str(tmp_path / 'a/train' / image['file_name']))
        assert pixels is not None and pixels.shape == (image['height'], image['width'], 3)
    for file in ('annotations/val.json', 'val/00001.png', 'train/00030.png'):
        assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes()
    assert (tmp_path / 'a/train/00001.png').read_bytes() != (tmp_path / 'a/val/00001.png').read_bytes()
