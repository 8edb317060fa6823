"""transformers' Mask2Former against ours with the same weights."""

from __future__ import annotations

import copy

import pytest
import torch

import omnidet
from omnidet.checkpoints import load_weights
from omnidet.checkpoints.checkpoint import DERIVED
from omnidet.checkpoints.safetensors import read_safetensors
from omnidet.checkpoints.transformers_mask2former import convert_mask2former
from omnidet.errors import CheckpointError

C, HEADS, FFN, QUERIES, K = 32, 4, 48, 9, 5
UNUSED = {'criterion.empty_weight'}
SWIN_UNUSED = {f'model.pixel_level_module.encoder.swin.layernorm.{kind}' for kind in ('weight', 'bias')} | UNUSED


def _theirs(backbone):
    """A small model of transformers with random weights, whose classes and masks differ."""
    transformers = pytest.importorskip('transformers')
    stages = {'out_features': ['stage1', 'stage2', 'stage3', 'stage4']}
    if backbone == 'Swin':
        config = transformers.SwinConfig(embed_dim=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4,
                                         drop_path_rate=0.0, **stages)
    else:
        config = transformers.ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2],
                                           layer_type='basic', **stages)
    torch.manual_seed(0)
    model = transformers.Mask2FormerForUniversalSegmentation(transformers.Mask2FormerConfig(
        backbone_config=config, num_labels=K, feature_size=C, hidden_dim=C, mask_feature_size=C, encoder_layers=1,
        decoder_layers=3, num_attention_heads=HEADS, encoder_feedforward_dim=FFN, dim_feedforward=FFN,
        num_queries=QUERIES)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if 'module.encoder' not in name and p.ndim > 1:
                table = 'module.quer' in name or 'level_embed' in name
                torch.nn.init.normal_(p, 0, 1 if table else p[0].numel() ** -0.5)
            elif 'bias_table' in name:
                torch.nn.init.normal_(p)
            elif p.ndim == 1 and 'sampling_offsets' not in name:
                torch.nn.init.uniform_(p, 0.5, 1.5) if 'weight' in name else torch.nn.init.normal_(p, 0, 0.1)
    return model


def _ours(backbone):
    name = 'swin-t-p4-w7-224' if backbone == 'Swin' else 'r50'
    cfg = copy.deepcopy(omnidet.load_config(f'mask2former/mask2former_{name}_8xb2-lsj-50e_coco').model)
    if backbone == 'Swin':
        cfg.backbone.update(embed_dims=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4, init_cfg=None,
                            drop_path_rate=0.0)
        widths = [24, 48, 96, 192]
    else:
        cfg.backbone.update(depth=18, init_cfg=None)
        widths = [64, 128, 256, 512]
    head = cfg.panoptic_head
    head.update(in_channels=widths, feat_channels=C, out_channels=C, num_things_classes=K, num_stuff_classes=0,
                num_queries=QUERIES)
    head.loss_cls.class_weight = [1.0] * K + [0.1]
    for part, layers in ((head.pixel_decoder.encoder, 1), (head.transformer_decoder, 2)):
        part.num_layers = layers
        part.layer_cfg.ffn_cfg.update(embed_dims=C, feedforward_channels=FFN)
        for key in ('self_attn_cfg', 'cross_attn_cfg'):
            if key in part.layer_cfg:
                part.layer_cfg[key] = dict(part.layer_cfg[key], embed_dims=C, num_heads=HEADS)
    for part in (head, head.pixel_decoder):
        part.positional_encoding = dict(num_feats=C // 2, normalize=True)
    cfg.panoptic_fusion_head.update(num_things_classes=K, num_stuff_classes=0)
    return omnidet.build_model(cfg).eval()


@pytest.mark.parametrize('backbone', ['Swin', 'ResNet'])
@torch.no_grad()
def test_classes_and_masks_are_those_of_transformers(tmp_path, backbone):
    theirs, ours = _theirs(backbone), _ours(backbone)
    state, unused = convert_mask2former(theirs.state_dict())
    assert set(unused) == (SWIN_UNUSED if backbone == 'Swin' else UNUSED)
    report = load_weights(ours, state, 'converted', strict=True)
    assert report.unexpected == []
    theirs.save_pretrained(tmp_path)
    saved, unused = convert_mask2former(read_safetensors(tmp_path / 'model.safetensors')[0])
    assert set(unused) <= SWIN_UNUSED and all(torch.equal(saved[k], v) for k, v in state.items())

    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    want = theirs(images)
    logits, masks = ours.panoptic_head.predict(ours.extract_feat(images))
    assert want.class_queries_logits.std() > 0.1 and want.masks_queries_logits.std() > 0.1
    assert torch.allclose(logits, want.class_queries_logits, atol=1e-4)
    assert torch.allclose(masks, want.masks_queries_logits, atol=1e-4)


@pytest.mark.parametrize('name', ['r50', 'swin-t-p4-w7-224'])
def test_models_of_the_published_size_have_our_names_and_shapes(name):
    transformers = pytest.importorskip('transformers')
    stages = {'out_features': ['stage1', 'stage2', 'stage3', 'stage4']}
    config = (transformers.ResNetConfig(**stages) if name == 'r50' else
              transformers.SwinConfig(depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], **stages))
    with torch.device('meta'):
        theirs = transformers.Mask2FormerForUniversalSegmentation(
            transformers.Mask2FormerConfig(backbone_config=config, num_labels=80))
        ours = omnidet.build_model(omnidet.load_config(f'mask2former/mask2former_{name}_8xb2-lsj-50e_coco'))
    state, unused = convert_mask2former({k: torch.zeros(v.shape) for k, v in theirs.state_dict().items()})
    assert set(unused) <= SWIN_UNUSED
    own = {k: v.shape for k, v in ours.state_dict().items() if not k.endswith(DERIVED)}
    assert {k: v.shape for k, v in state.items() if not k.endswith(DERIVED)} == own


def test_classes_are_kept_before_nothing():
    state = {'class_predictor.weight': torch.arange(4.)[:, None], 'class_predictor.bias': torch.arange(4.)}
    assert convert_mask2former(state, [2, 0])[0]['panoptic_head.cls_embed.bias'].tolist() == [2, 0, 3]
    with pytest.raises(CheckpointError, match='no whole detector'):
        convert_mask2former({'criterion.empty_weight': torch.zeros(1)})


def test_swin_of_older_files_has_one_matrix_for_queries_keys_and_values():
    prefix = 'model.pixel_level_module.encoder.encoder.layers.1.blocks.0.attention.self.'
    state = {f'{prefix}{n}.weight': torch.full((2, 2), float(i)) for i, n in enumerate(('query', 'key', 'value'))}
    state |= {f'{prefix}relative_position_index': torch.zeros(4, 4), 'class_predictor.weight': torch.zeros(1, 1)}
    out, unused = convert_mask2former(state)
    assert out['backbone.stages.1.blocks.0.attn.w_msa.qkv.weight'][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert out['backbone.stages.1.blocks.0.attn.w_msa.relative_position_index'].shape == (4, 4) and unused == []
