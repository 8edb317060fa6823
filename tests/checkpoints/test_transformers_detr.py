"""transformers' DETR and Deformable DETR against ours with the same weights."""

from __future__ import annotations

import copy

import pytest
import torch

import omnidet
from omnidet.checkpoints.safetensors import read_safetensors
from omnidet.checkpoints.torchvision_detection import COCO_CATEGORIES
from omnidet.checkpoints.transformers_detr import convert_deformable_detr, convert_detr
from omnidet.errors import CheckpointError

C, HEADS, FFN, LAYERS, QUERIES, K = 32, 4, 48, 2, 10, 5
SIZE, SMALLER = (96, 128), (80, 100)


def _theirs(kind, **options):
    """A small model of transformers with random weights, whose boxes and scores differ."""
    transformers = pytest.importorskip('transformers')
    last = ['stage4'] if kind == 'Detr' else ['stage2', 'stage3', 'stage4']
    backbone = transformers.ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2],
                                         layer_type='basic', out_features=last)
    config = getattr(transformers, f'{kind}Config')(
        use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone, d_model=C,
        encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=HEADS, decoder_attention_heads=HEADS,
        encoder_ffn_dim=FFN, decoder_ffn_dim=FFN, num_queries=QUERIES, num_labels=K, **options)
    torch.manual_seed(0)
    model = getattr(transformers, f'{kind}ForObjectDetection')(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if 'backbone' not in name and p.ndim > 1:
                torch.nn.init.normal_(p, 0, 1 if 'position' in name or 'level' in name else p.shape[-1] ** -0.5)
            elif 'bias' in name and 'sampling_offsets' not in name:
                torch.nn.init.normal_(p, 0, 0.1)
    return model


def _ours(name, **options):
    cfg = copy.deepcopy(omnidet.load_config(name).model)
    cfg.update(num_queries=QUERIES, **options)
    cfg.backbone.update(depth=18, init_cfg=None)
    cfg.neck.update(in_channels=[512] if cfg.type == 'DETR' else [128, 256, 512], out_channels=C)
    for part in (cfg.encoder, cfg.decoder):
        part.num_layers = LAYERS
        part.layer_cfg.ffn_cfg.update(embed_dims=C, feedforward_channels=FFN)
        for key in ('self_attn_cfg', 'cross_attn_cfg'):
            if key in part.layer_cfg:
                part.layer_cfg[key].update(embed_dims=C, num_heads=HEADS)
    cfg.positional_encoding.num_feats = C // 2
    cfg.bbox_head.update(num_classes=K, embed_dims=C)
    return omnidet.build_model(cfg).eval()


@torch.no_grad()
def _compare(theirs, ours):
    """Logits and boxes of two images, the second of which is smaller and padded."""
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, *SIZE, dtype=torch.int64)
    images[1, :, SMALLER[0]:] = images[1, :, :, SMALLER[1]:] = 0
    mask[1, SMALLER[0]:] = mask[1, :, SMALLER[1]:] = 0
    want = theirs(images, pixel_mask=mask)
    states = ours.transform(ours.extract_feat(images), SIZE, torch.tensor([SIZE, SMALLER]))
    got = ours.bbox_head(states, -1)
    assert want.logits.std() > 0.1 and want.pred_boxes.std() > 0.03
    assert torch.allclose(got.logits, want.logits, atol=1e-4)
    assert torch.allclose(got.boxes, want.pred_boxes, atol=1e-4)


def _check(theirs, ours, convert, tmp_path):
    """The weights in memory and those in a file, whose names differ, are the same ones of ours."""
    state, unused = convert(theirs.state_dict())
    assert unused == []
    report = ours.load_state_dict(state, strict=False)
    assert report.unexpected_keys == [] and all(n.endswith('num_batches_tracked') for n in report.missing_keys)
    theirs.save_pretrained(tmp_path)
    saved, unused = convert(read_safetensors(tmp_path / 'model.safetensors')[0])
    assert unused == [] and saved.keys() == state.keys()
    assert all(torch.equal(saved[k], state[k]) for k in state)
    _compare(theirs, ours)


def test_detr_predicts_what_transformers_does(tmp_path):
    _check(_theirs('Detr'), _ours('detr/detr_r50_8xb2-150e_coco'), convert_detr, tmp_path)


@pytest.mark.parametrize('options', [{}, {'with_box_refine': True}, {'with_box_refine': True, 'two_stage': True}],
                         ids=['plain', 'refining', 'two stages'])
def test_deformable_detr_predicts_what_transformers_does(tmp_path, options):
    own = {'as_two_stage' if k == 'two_stage' else k: v for k, v in options.items()}
    theirs = _theirs('DeformableDetr', two_stage_num_proposals=QUERIES, **options)
    _check(theirs, _ours('transformers/deformable-detr_r50_coco', **own), convert_deformable_detr, tmp_path)


@pytest.mark.parametrize(('kind', 'config', 'convert'), [
    ('Detr', 'detr/detr_r50_8xb2-150e_coco', convert_detr),
    ('DeformableDetr', 'transformers/deformable-detr_r50_coco', convert_deformable_detr),
    ('DeformableDetr', 'transformers/deformable-detr-refine_r50_coco', convert_deformable_detr),
    ('DeformableDetr', 'transformers/deformable-detr-refine-twostage_r50_coco', convert_deformable_detr)])
def test_models_of_the_published_size_have_our_names_and_shapes(kind, config, convert):
    transformers = pytest.importorskip('transformers')
    last = ['stage4'] if kind == 'Detr' else ['stage2', 'stage3', 'stage4']
    options = {'with_box_refine': 'refine' in config, 'two_stage': 'twostage' in config} if kind != 'Detr' else {}
    with torch.device('meta'):
        theirs = getattr(transformers, f'{kind}ForObjectDetection')(getattr(transformers, f'{kind}Config')(
            use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, num_labels=91,
            backbone_config=transformers.ResNetConfig(out_features=last), **options))
        ours = omnidet.build_model(omnidet.load_config(config))
    state = {k: torch.zeros(v.shape) for k, v in theirs.state_dict().items()}
    got, unused = convert(state, COCO_CATEGORIES)
    want = {k: v.shape for k, v in ours.state_dict().items() if not k.endswith('num_batches_tracked')}
    assert unused == [] and {k: v.shape for k, v in got.items()} == want


def _detr(classes=4):
    return {'class_labels_classifier.weight': torch.arange(classes).float()[:, None],
            'class_labels_classifier.bias': torch.arange(classes).float()}


def test_no_object_stays_the_last_class():
    assert convert_detr(_detr(), [2, 0])[0]['bbox_head.fc_cls.bias'].tolist() == [2, 0, 3]


def test_encoder_of_two_stages_keeps_the_class_that_it_finds_objects_by():
    state = {f'class_embed.{i}.{kind}': torch.arange(4.) for i in range(3) for kind in ('weight', 'bias')}
    state |= {'model.enc_output.weight': torch.zeros(1), 'model.decoder.layers.1.fc1.bias': torch.zeros(1)}
    got, _ = convert_deformable_detr(state, [3, 1])
    assert [got[f'bbox_head.cls_branches.{i}.bias'].tolist() for i in range(3)] == [[3, 1], [3, 1], [0, 1]]


def test_names_of_other_versions_and_of_timms_backbone():
    names = {'model.backbone.conv_encoder.model.layer1.0.bn1.weight': 'backbone.layer1.0.bn1.weight',
             'model.backbone.model.conv1.weight': 'backbone.conv1.weight',
             'model.encoder.layers.3.fc1.bias': 'encoder.layers.3.ffn.layers.0.0.bias',
             'model.encoder.layers.3.mlp.fc2.bias': 'encoder.layers.3.ffn.layers.1.bias',
             'detr.model.decoder.layers.0.encoder_attn.out_proj.bias': 'decoder.layers.0.cross_attn.attn.out_proj.bias'}
    got, unused = convert_detr({**_detr(), **{n: torch.zeros(1) for n in names}})
    assert set(got) == {*names.values(), 'bbox_head.fc_cls.weight', 'bbox_head.fc_cls.bias'} and unused == []


def test_what_has_no_place_is_listed():
    assert convert_detr({**_detr(), 'mask_head.conv1.weight': torch.zeros(1)})[1] == ['mask_head.conv1.weight']


def test_weights_that_are_not_whole_are_told():
    with pytest.raises(CheckpointError, match='lack class_labels_classifier'):
        convert_detr({'model.decoder.layernorm.weight': torch.zeros(1)})
    with pytest.raises(CheckpointError, match='k_proj'):
        convert_detr({**_detr(), 'model.encoder.layers.0.self_attn.q_proj.bias': torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r'\[9\]'):
        convert_detr(_detr(), [1, 9])
    with pytest.raises(CheckpointError, match='they differ'):
        convert_deformable_detr({'class_embed.0.bias': torch.zeros(1),
                                 'model.decoder.class_embed.0.bias': torch.ones(1)})
