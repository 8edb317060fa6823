"""Transformers of 2.x configs (`transformerlayers`, `attn_cfgs`, `operation_order`) in the form of 3.x (`layer_cfg`).

In 2.x the head of a DETR held the transformer; in 3.x the detector holds its encoder and its decoder.
"""

from __future__ import annotations

from typing import Any

from omnidet.config.nodes import ConfigDict, Path, dotted
from omnidet.config.upgrade.changes import Changes
from omnidet.errors import ConfigError

ORDERS = {'encoder': ('self_attn', 'norm', 'ffn', 'norm'),
          'decoder': ('self_attn', 'norm', 'cross_attn', 'norm', 'ffn', 'norm'),
          'masked decoder': ('cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm')}
"""The one order of operations that a layer of 3.x has."""

FEED_FORWARD = {'feedforward_channels': 'feedforward_channels', 'ffn_dropout': 'ffn_drop', 'ffn_num_fcs': 'num_fcs',
                'act_cfg': 'act_cfg'}
"""Arguments of a layer that are its feed-forward part's."""

NEEDLESS = {'dropout_layer': None, 'add_identity': True, 'batch_first': False, 'init_cfg': None, 'norm_cfg': None,
            'im2col_step': 64}
"""Arguments of attentions and feed-forward parts that mean what 3.x does anyway."""

DETECTORS = {'DETR': 'DETRHead', 'DeformableDETR': 'DeformableDETRHead'}


def upgrade_transformers(model: ConfigDict, changes: Changes) -> None:
    """Upgrade the transformers in a model, in place.

    Raises:
        ConfigError: layers in an order that those of 3.x do not have, or an encoding that 3.x has not.
    """
    head, masks = model.get('bbox_head'), model.get('panoptic_head')
    if model.get('type') in DETECTORS and isinstance(head, ConfigDict):
        _detr(model, head, changes)
    if isinstance(masks, ConfigDict):
        masked = masks.get('type') == 'Mask2FormerHead'
        _mask_head(masks, 'masked decoder' if masked else 'decoder', changes)


def _detr(model: ConfigDict, head: ConfigDict, changes: Changes) -> None:
    """The head's transformer, queries and encoding -> the detector's."""
    path = ('model', 'bbox_head')
    if 'num_query' in head:
        model['num_queries'] = head.pop('num_query')
        changes.note('model.bbox_head.num_query', 'model.num_queries')
    for key in ('with_box_refine', 'as_two_stage'):
        if key in head:
            model[key] = head.pop(key)
            changes.note(f'model.bbox_head.{key}', f'model.{key}')
    if 'positional_encoding' in head:
        model['positional_encoding'] = _encoding(head.pop('positional_encoding'), (*path, 'positional_encoding'))
        changes.note('model.bbox_head.positional_encoding', 'model.positional_encoding')
    if 'transformer' not in head:
        return
    transformer = head.pop('transformer')
    place = (*path, 'transformer')
    model['encoder'] = _layers(transformer.encoder, 'encoder', (*place, 'encoder'))
    model['decoder'] = _layers(transformer.decoder, 'decoder', (*place, 'decoder'))
    changes.note('model.bbox_head.transformer', 'model: encoder, decoder')
    width = model.encoder.layer_cfg.ffn_cfg.embed_dims
    head['embed_dims'] = width
    model.setdefault('num_queries', 100)
    inputs = head.pop('in_channels', 2048)
    if model.type == 'DeformableDETR':
        model.decoder['post_norm_cfg'] = None
        _from_transformer(model, transformer, place)
    else:
        mapper = ConfigDict(type='ChannelMapper', in_channels=[inputs], kernel_size=1, out_channels=width,
                            norm_cfg=None, act_cfg=None, num_outs=1)
        neck = model.get('neck')
        model['neck'] = [*(neck if isinstance(neck, list) else [neck]), mapper] if neck else mapper
        changes.note('model.bbox_head.in_channels', 'model.neck')


def _from_transformer(model: ConfigDict, transformer: ConfigDict, path: Path) -> None:
    model['num_feature_levels'] = transformer.get('num_feature_levels', 4)
    proposals = transformer.get('two_stage_num_proposals', model.num_queries)
    if model.get('as_two_stage') and proposals != model.num_queries:
        raise ConfigError(f'{dotted(path)}.two_stage_num_proposals: {proposals} proposals for {model.num_queries} '
                          'queries (num_query); a query starts from each proposal, so both must be one number')


def _mask_head(head: ConfigDict, decoder: str, changes: Changes) -> None:
    """MaskFormer and Mask2Former: the transformers in the head, and in its pixel decoder."""
    pixels = head.get('pixel_decoder')
    for part, key, kind, path in ((head, 'transformer_decoder', decoder, ('model', 'panoptic_head')),
                                  (pixels, 'encoder', 'encoder', ('model', 'panoptic_head', 'pixel_decoder'))):
        if not isinstance(part, ConfigDict):
            continue
        if isinstance(part.get(key), ConfigDict) and 'transformerlayers' in part[key]:
            part[key] = _layers(part[key], kind, (*path, key))
            changes.note(f'{dotted(path)}.{key}.transformerlayers', f'{dotted(path)}.{key}.layer_cfg')
        if isinstance(part.get('positional_encoding'), ConfigDict):
            part['positional_encoding'] = _encoding(part.positional_encoding, (*path, 'positional_encoding'))


def _encoding(cfg: ConfigDict, path: Path) -> ConfigDict:
    """The arguments of the one encoding that 3.x has here."""
    name = cfg.get('type', 'SinePositionalEncoding')
    if name != 'SinePositionalEncoding':
        raise ConfigError(f'{dotted(path)}: {name!r} has no equal in 3.x, where the encoding of a transformer is '
                          "'SinePositionalEncoding'")
    return ConfigDict({k: v for k, v in cfg.items() if k != 'type'})


def _layers(cfg: ConfigDict, kind: str, path: Path) -> ConfigDict:
    """`dict(type=..., num_layers=6, transformerlayers=dict(...))` -> `dict(num_layers=6, layer_cfg=dict(...))`."""
    layer = cfg.transformerlayers
    if isinstance(layer, (list, tuple)):
        if any(other != layer[0] for other in layer):
            raise ConfigError(f'{dotted(path)}.transformerlayers: the layers differ; in 3.x all are alike')
        layer = layer[0]
    out = {k: v for k, v in cfg.items() if k not in ('type', 'transformerlayers') and not _needless(k, v)}
    out['layer_cfg'] = _layer(layer, kind, (*path, 'transformerlayers'))
    return ConfigDict(out)


def _layer(cfg: ConfigDict, kind: str, path: Path) -> dict[str, Any]:
    order = tuple(cfg.get('operation_order') or ORDERS[kind])
    if order != ORDERS[kind]:
        raise ConfigError(f'{dotted(path)}.operation_order: {order} has no equal in 3.x, where a {kind} has layers of '
                          f'{ORDERS[kind]}')
    attentions = [name for name in ORDERS[kind] if name.endswith('attn')]
    given = cfg.get('attn_cfgs') or {}
    if not isinstance(given, (list, tuple)):
        given = [given] * len(attentions)
    if len(given) != len(attentions):
        raise ConfigError(f'{dotted(path)}.attn_cfgs: {len(given)} attentions for {", ".join(attentions)}')
    out: dict[str, Any] = {f'{name}_cfg': _attention(a) for name, a in zip(attentions, given, strict=True)}
    ffn = {k: v for k, v in (cfg.get('ffn_cfgs') or {}).items() if k != 'type' and not _needless(k, v)}
    ffn.update({new: cfg[old] for old, new in FEED_FORWARD.items() if old in cfg})
    ffn.setdefault('embed_dims', given[0].get('embed_dims', 256))
    out['ffn_cfg'] = ffn
    if cfg.get('norm_cfg') not in (None, {'type': 'LN'}):
        out['norm_cfg'] = cfg.norm_cfg
    return out


def _attention(cfg: ConfigDict) -> dict[str, Any]:
    """The arguments of an attention; one dropout acts on its weights and on what it gives."""
    out = {k: v for k, v in cfg.items() if k not in ('type', 'attn_drop', 'proj_drop') and not _needless(k, v)}
    if 'attn_drop' in cfg or 'proj_drop' in cfg:
        rates = {k: cfg.get(k, 0.0) for k in ('attn_drop', 'proj_drop')}
        out.update({'dropout': rates['attn_drop']} if len(set(rates.values())) == 1 else rates)
    return {**out, 'batch_first': True}


def _needless(key: str, value: Any) -> bool:
    return key in NEEDLESS and value == NEEDLESS[key]
