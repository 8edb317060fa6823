import cv2
import numpy as np
import pytest
import torch

from omnidet.data import TestPipeline, load_input
from omnidet.errors import ConfigError, ImageError

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'scale_factor'))]
CFG = dict(test_dataloader=dict(dataset=dict(type='CocoDataset', pipeline=PIPELINE)),
           model=dict(data_preprocessor=dict(type='DetDataPreprocessor', mean=[114, 114, 114], std=[2, 2, 2])))


@pytest.fixture
def image(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((20, 40, 3), 118, np.uint8))
    return tmp_path / 'a.png'


def test_input_is_resized_padded_and_normalised(image):
    x, meta = load_input(CFG, image)
    assert x.shape == (3, 64, 64) and (x[:, :32] == 2).all() and (x[:, 32:] == 0).all()
    assert meta.img_shape == (64, 64) and meta.ori_shape == (20, 40) and meta.scale_factor == (1.6, 1.6)
    assert meta.img_path == str(image)


def test_an_array_gives_what_its_file_gives(image):
    pipeline = TestPipeline(CFG)
    a, b = pipeline(image), pipeline(cv2.imread(str(image)))
    assert torch.equal(a.image, b.image) and a.meta.scale_factor == b.meta.scale_factor
    assert a.target is None and b.meta.img_path is None


@pytest.mark.parametrize('cfg', [
    dict(test_pipeline=PIPELINE), dict(val_dataloader=dict(dataset=dict(type='CocoDataset', pipeline=PIPELINE))),
    dict(test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(pipeline=PIPELINE)))),
    dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[dict(pipeline=PIPELINE)])))])
def test_the_pipeline_is_found_wherever_a_config_has_it(image, cfg):
    assert TestPipeline(cfg)(image).image.shape == (3, 64, 64)


def test_what_is_no_image_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r'absent\.png'):
        TestPipeline(CFG)(tmp_path / 'absent.png')
    with pytest.raises(ImageError, match='shape'):
        TestPipeline(CFG)(np.zeros((3, 5, 7, 1), np.uint8))
    with pytest.raises(ConfigError, match='no test pipeline'):
        TestPipeline(dict(model={}))


def test_the_config_stays_as_it_is(image):
    import copy
    cfg = copy.deepcopy(CFG)
    load_input(cfg, image)
    assert cfg == CFG
