"""The detector a user calls: what may go in, and what comes out."""

from __future__ import annotations

import copy
import json
import threading
import time

import cv2
import numpy as np
import pytest
import torch

from omnidet import Detector, build_model, load_config
from omnidet.cli import main
from omnidet.errors import CheckpointError, ImageError, OmniDetError
from omnidet.inference import predict_to
from omnidet.inference.classes import find_classes
from omnidet.inference.detector import clip
from omnidet.inference.sources import iter_sources, list_images, load_ahead, to_bgr
from omnidet.structures import Result

CLASSES = ('cat', 'dog', 'owl')


@pytest.fixture(scope='module')
def cfg():
    """RTMDet for three classes, as small as its parts allow."""
    cfg = load_config('rtmdet/rtmdet_nano')
    cfg.model.backbone.update(widen_factor=0.125, deepen_factor=0.167)
    cfg.model.neck.update(in_channels=[32, 64, 128], out_channels=16)
    cfg.model.bbox_head.update(num_classes=3, in_channels=16, feat_channels=16)
    cfg.model.test_cfg.update(score_thr=0.0, max_per_img=20)
    for transform in cfg.test_dataloader.dataset.pipeline:
        if transform['type'] in ('Resize', 'Pad'):
            transform['scale' if transform['type'] == 'Resize' else 'size'] = (64, 64)
    return cfg


@pytest.fixture(scope='module')
def checkpoint(cfg, tmp_path_factory):
    torch.manual_seed(1)
    model = build_model(cfg)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.2, 0.2)
    for cls, reg in zip(model.bbox_head.rtm_cls, model.bbox_head.rtm_reg, strict=True):
        torch.nn.init.normal_(cls.weight, std=0.3)
        torch.nn.init.constant_(reg.bias, 1.5)    # boxes of a few strides' size
    path = tmp_path_factory.mktemp('weights') / 'model.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': CLASSES}}}, path)
    return path


@pytest.fixture(scope='module')
def detector(cfg, checkpoint):
    return Detector(cfg, checkpoint, device='cpu')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """img_1, img_2 and img_10 of several sizes, beside something that is no image."""
    path = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for name, size in (('img_10.png', (120, 90)), ('img_2.png', (60, 150)), ('img_1.PNG', (100, 100))):
        small = rng.integers(0, 255, (8, 8, 3), np.uint8)
        data = cv2.imencode('.png', cv2.resize(small, size[::-1]))[1]
        (path / name).write_bytes(data.tobytes())
    (path / 'notes.txt').write_text('no image')
    return path


def same(a, b):
    return torch.allclose(a.boxes, b.boxes, atol=1e-2) and torch.allclose(a.scores, b.scores, atol=1e-4) \
        and torch.equal(a.labels, b.labels)


def test_one_image_gives_one_result_in_pixels_of_its_file(detector, folder):
    result = detector(folder / 'img_2.png')
    assert isinstance(result, Result) and 10 < len(result) <= 20
    x, y = result.boxes[:, 0::2], result.boxes[:, 1::2]
    assert x.min() >= 0 and 64 < x.max() <= 150.01 and y.min() >= 0 and y.max() <= 60.01
    assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()    # what was found in the padding is gone
    result.boxes *= 2    # the caller may work on it


def test_an_array_and_its_file_give_the_same(detector, folder):
    image = cv2.imread(str(folder / 'img_2.png'))
    expected = detector(str(folder / 'img_2.png'))
    assert same(detector(image), expected)
    assert same(detector(np.dstack([image, image[..., :1]])), expected)
    grey = image[..., 1]
    assert same(detector(grey), detector(np.dstack([grey] * 3)))
    assert same(detector(np.asfortranarray(image)), expected)


def test_a_folder_a_list_and_a_generator_give_results_in_order(detector, folder):
    names = 'img_1.PNG', 'img_2.png', 'img_10.png'
    alone = [detector(folder / name) for name in names]
    for images in (folder, [folder], [folder / n for n in names], (str(folder / n) for n in names)):
        results = detector(images)
        assert len(results) == 3 and all(map(same, results, alone))
    assert len(detector([folder / 'img_1.PNG'])) == 1    # a list of one is a list
    assert detector([]) == []


def test_a_batch_gives_what_its_images_give_alone(detector, folder):
    assert all(map(same, detector(folder, batch_size=2), detector(folder)))


def test_folding_the_norms_changes_no_detection(detector, cfg, checkpoint, folder):
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    from omnidet.data import TestPipeline, build_preprocessor, collate
    batch = build_preprocessor(cfg.model.data_preprocessor)(collate([TestPipeline(cfg)(folder / 'img_2.png')]))
    with torch.no_grad():
        plain, = model.predict(batch.images, batch.metas)
    assert same(clip(plain, (60, 150)), detector(folder / 'img_2.png'))


def test_boxes_are_cut_at_the_edge_of_the_image_and_what_lies_outside_is_dropped():
    boxes = torch.tensor([[-5., 10, 20, 30], [90, 40, 120, 60], [0, 50, 10, 64], [20, 20, 20, 30]])
    result = clip(Result(boxes, torch.arange(4) / 4, torch.arange(4)), (50, 100))
    assert result.boxes.tolist() == [[0, 10, 20, 30], [90, 40, 100, 50]]
    assert result.labels.tolist() == [0, 1] and boxes[0, 0] == -5


@pytest.mark.parametrize('skip', [False, True])
def test_a_broken_image_is_named_or_skipped(detector, folder, tmp_path, skip):
    whole = (folder / 'img_1.PNG').read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[:len(whole) // 2])
    images = [folder / 'img_1.PNG', tmp_path / 'cut.png', tmp_path / 'gone.jpg', np.zeros((4, 4), np.float32)]
    if skip:
        assert [r is None for r in detector(images, batch_size=4, skip_broken=True)] == [False, True, True, True]
        return
    for image, name in zip(images[1:], ('cut.png', 'gone.jpg', 'image_0000: .*float32'), strict=True):
        with pytest.raises(ImageError, match=name):
            detector([image])
        with pytest.raises(ImageError, match=name):
            detector(image)


def test_what_is_no_image_is_refused(detector, tmp_path):
    with pytest.raises(ImageError, match=r'no images.*jpg'):
        detector(tmp_path)
    with pytest.raises(ImageError, match='found int'):
        detector([3])
    with pytest.raises(ImageError, match=r'shape \(2, 3, 4, 5\)'):
        detector(np.zeros((2, 3, 4, 5), np.uint8))


def test_a_score_threshold_drops_what_is_below_it(detector, cfg, checkpoint, folder):
    everything = detector(folder / 'img_1.PNG')
    threshold = float(everything.scores[9])
    fewer = Detector(cfg, checkpoint, device='cpu', score_thr=threshold)(folder / 'img_1.PNG')
    assert 9 <= len(fewer) < len(everything) and (fewer.scores >= threshold).all()


def test_the_config_is_left_as_it_is(cfg, checkpoint):
    before = copy.deepcopy(cfg)
    Detector(cfg, checkpoint, device='cpu')
    assert cfg == before


def test_weights_that_do_not_fit_are_refused(cfg, checkpoint, tmp_path):
    other = copy.deepcopy(cfg)
    other.model.bbox_head.num_classes = 5
    with pytest.raises(CheckpointError, match='made for 3 classes, the model has 5'):
        Detector(other, checkpoint, device='cpu')
    with pytest.warns(UserWarning, match='weights are random'):
        Detector(cfg, device='cpu')


def test_classes_come_from_the_checkpoint_then_the_config_then_coco(cfg, detector):
    assert detector.classes == CLASSES
    assert find_classes({'CLASSES': ('a', 'b', 'c')}, cfg) == ('a', 'b', 'c')
    assert find_classes({'CLASSES': 'person'}, {'model': {'bbox_head': {'num_classes': 1}}}) == ('person',)
    three = {'model': {'backbone': {'num_classes': 7}, 'roi_head': {'bbox_head': [{'num_classes': 3}]}}}
    named = {**three, 'test_dataloader': {'dataset': {'dataset': {'metainfo': {'CLASSES': ['x', 'y', 'z']}}}}}
    assert find_classes({}, named) == ('x', 'y', 'z')
    assert find_classes({'dataset_meta': {'classes': ('of', 'another')}}, named) == ('x', 'y', 'z')
    assert find_classes({}, three) == ('0', '1', '2')
    assert find_classes({}, {'model': {'bbox_head': {'num_classes': 80}}})[79] == 'toothbrush'


def test_folders_are_listed_in_natural_order_and_without_other_files(folder):
    assert [p.name for p in list_images(folder)] == ['img_1.PNG', 'img_2.png', 'img_10.png']
    assert len(list(iter_sources([folder, [folder / 'a.jpg'], np.zeros((2, 2, 3), np.uint8)]))) == 5


def test_channels_are_brought_to_three():
    assert to_bgr(np.zeros((2, 5), np.uint8)).shape == to_bgr(np.zeros((2, 5, 1), np.uint8)).shape == (2, 5, 3)
    np.testing.assert_array_equal(to_bgr(np.arange(8, dtype=np.uint8).reshape(1, 2, 4)), [[[0, 1, 2], [4, 5, 6]]])


def test_loading_ahead_keeps_the_order_and_takes_no_more_than_it_may():
    taken = []

    def numbers():
        for i in range(50):
            taken.append(i)
            yield i

    def load(i):
        time.sleep(0.002 * (i % 3))
        return i, threading.current_thread() is not threading.main_thread()

    stream = load_ahead(numbers(), load, workers=3, ahead=4)
    assert next(stream) == (0, True) and len(taken) == 5
    assert [i for i, _ in stream] == list(range(1, 50))


def test_pictures_and_a_coco_json_are_written(detector, folder, tmp_path):
    (tmp_path / 'more').mkdir()
    (tmp_path / 'more' / 'img_2.png').write_bytes((folder / 'img_2.png').read_bytes())
    (tmp_path / 'more' / 'img_3.jpg').write_bytes(b'nothing')
    scores = torch.cat([r.scores for r in detector(folder)]).sort().values
    widest = int(scores.diff().argmax())
    threshold = float(scores[widest:widest + 2].mean())    # far from every score, so that rounding decides nothing
    summary = predict_to(tmp_path / 'out', detector, [folder, tmp_path / 'more'], score_thr=threshold, batch_size=3)
    assert summary.images == 4 and len(summary.broken) == 1 and 'img_3.jpg' in summary.broken[0]
    assert sorted(p.name for p in (tmp_path / 'out').rglob('*')) == [
        'detections.json', 'img_1.jpg', 'img_10.jpg', 'img_2.jpg', 'img_2_2.jpg', 'pictures']
    assert cv2.imread(str(tmp_path / 'out' / 'pictures' / 'img_2.jpg')).shape == (60, 150, 3)
    coco = json.loads((tmp_path / 'out' / 'detections.json').read_text())
    assert [c['name'] for c in coco['categories']] == list(CLASSES)
    assert [(i['width'], i['height']) for i in coco['images']] == [(100, 100), (150, 60), (90, 120), (150, 60)]
    assert len(coco['annotations']) == sum(map(len, detector([folder, tmp_path / 'more' / 'img_2.png'])))
    assert 0 < sum(summary.counts.values()) == sum(a['score'] >= threshold for a in coco['annotations'])
    second = [a for a in coco['annotations'] if a['image_id'] == 2]
    expected = detector(folder / 'img_2.png')
    np.testing.assert_allclose([a['score'] for a in second], expected.scores, atol=1e-5)
    np.testing.assert_allclose([a['bbox'][:2] for a in second], expected.boxes[:, :2], atol=1e-2)
    assert [a['category_id'] for a in second] == (expected.labels + 1).tolist()


def test_where_nothing_can_be_read_nothing_is_written(detector, tmp_path):
    with pytest.raises(OmniDetError, match=r'not one image could be read\n.*gone.jpg'):
        predict_to(tmp_path / 'out', detector, [tmp_path / 'gone.jpg'])
    assert not (tmp_path / 'out').exists()


def test_the_command_predicts_and_says_what_it_found(cfg, checkpoint, folder, tmp_path, capsys):
    arguments = [str(cfg_file(cfg, tmp_path)), str(checkpoint), str(folder), '--out', str(tmp_path / 'out'), '--device',
                 'cpu', '--score-thr', '0', '--batch-size', '2', '--no-pictures']
    assert main(['predict', *arguments]) == 0
    printed = capsys.readouterr().out
    assert '3 images in' in printed and 'images/s' in printed and any(c in printed for c in CLASSES)
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['detections.json']


def test_the_command_answers_a_missing_image_without_a_traceback(cfg, checkpoint, tmp_path, capsys):
    assert main(['predict', str(cfg_file(cfg, tmp_path)), str(checkpoint), str(tmp_path / 'gone.jpg')]) == 2
    printed = capsys.readouterr().err
    assert 'error: not one image could be read' in printed and 'gone.jpg' in printed and 'Traceback' not in printed


def cfg_file(cfg, folder):
    path = folder / 'small.json'
    path.write_text(json.dumps(cfg))
    return path
