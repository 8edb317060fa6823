"""The names that configs give to published weights, the addresses behind them, and the files in the end."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from omnidet.checkpoints.download import AbsentError, UnreachableError, expected_hash, fetch
from omnidet.errors import CheckpointError, did_you_mean

OPENMMLAB_HOST = 'https://download.openmmlab.com/'
OLD_HOSTS = ('download.openmmlab.com/', 's3.ap-northeast-2.amazonaws.com/open-mmlab/',
             'open-mmlab.s3.ap-northeast-2.amazonaws.com/', 'open-mmlab.oss-cn-beijing.aliyuncs.com/')
"""Where OpenMMLab's files were, the last one first; none of these serves them any more."""

OPENMMLAB: dict[str, str] = {name: f'pretrain/third_party/{file}.pth' for name, file in {
    'vgg16_caffe': 'vgg16_caffe-292e1171',
    'detectron/resnet50_caffe': 'resnet50_caffe-788b5fa3',
    'detectron/resnet101_caffe': 'resnet101_caffe-3ad79236',
    'detectron2/resnet50_caffe': 'resnet50_msra-5891d200',
    'detectron2/resnet101_caffe': 'resnet101_msra-6cc46731',
    'detectron2/resnext101_32x8d': 'resnext101_32x8d-1516f1aa',
    'resnet18_v1c': 'resnet18_v1c-b5776b93',
    'resnet50_v1c': 'resnet50_v1c-2cccc1ad',
    'resnet101_v1c': 'resnet101_v1c-e67eebb6',
    'resnext50_32x4d': 'resnext50-32x4d-0ab1a123',
    'resnext101_32x4d': 'resnext101_32x4d-a5af3160',
    'resnext101_64x4d': 'resnext101_64x4d-ee2c6f71',
    'contrib/resnet50_gn': 'resnet50_gn_thangvubk-ad1730dd',
    'detectron/resnet50_gn': 'resnet50_gn-9186a21c',
    'detectron/resnet101_gn': 'resnet101_gn-cac0ab98',
    'jhu/resnet50_gn_ws': 'resnet50_gn_ws-15beedd8',
    'jhu/resnet101_gn_ws': 'resnet101_gn_ws-3e3c308c',
    'jhu/resnext50_32x4d_gn_ws': 'resnext50_32x4d_gn_ws-0d87ac85',
    'jhu/resnext101_32x4d_gn_ws': 'resnext101_32x4d_gn_ws-34ac1a9e',
    'jhu/resnext50_32x4d_gn': 'resnext50_32x4d_gn-c7e8b754',
    'jhu/resnext101_32x4d_gn': 'resnext101_32x4d_gn-ac3bb84e',
    'msra/hrnetv2_w18_small': 'hrnetv2_w18_small-b5a04e21',
    'msra/hrnetv2_w18': 'hrnetv2_w18-00eb2006',
    'msra/hrnetv2_w32': 'hrnetv2_w32-dc9eeb4f',
    'msra/hrnetv2_w40': 'hrnetv2_w40-ed0b031c',
    'msra/hrnetv2_w48': 'hrnetv2_w48-d2186c55',
    'bninception_caffe': 'bn_inception_caffe-ed2e8665',
    'res2net101_v1d_26w_4s': 'res2net101_v1d_26w_4s_mmdetv2-f0a600f9',
    'regnetx_400mf': 'regnetx_400mf-a5b10d96',
    'regnetx_800mf': 'regnetx_800mf-1f4be4c7',
    'regnetx_1.6gf': 'regnetx_1.6gf-5791c176',
    'regnetx_3.2gf': 'regnetx_3.2gf-c2599b0f',
    'regnetx_4.0gf': 'regnetx_4.0gf-a88f671e',
    'regnetx_6.4gf': 'regnetx_6.4gf-006af45d',
    'regnetx_8.0gf': 'regnetx_8.0gf-3c68abe7',
    'regnetx_12gf': 'regnetx_12gf-4c2a3350',
    'resnest50': 'resnest50_d2-7497a55b',
    'resnest101': 'resnest101_d2-f3b931b2',
    'resnest200': 'resnest200_d2-ca88e41f',
    'darknet53': 'darknet53-a628ea1b',
    'contrib/mobilenet_v3_large': 'mobilenet_v3_large-bc2c3fd3',
    'contrib/mobilenet_v3_small': 'mobilenet_v3_small-47085aa1',
}.items()}
OPENMMLAB['mmdet/mobilenet_v2'] = 'mmdetection/v2.0/third_party/mobilenet_v2_batch256_imagenet-ff34753d.pth'
OPENMMLAB |= {old: OPENMMLAB[new] for old, new in {    # as configs of the 1.x series call them
    'resnet50_caffe': 'detectron/resnet50_caffe', 'resnet101_caffe': 'detectron/resnet101_caffe',
    'resnet50_caffe_bgr': 'detectron2/resnet50_caffe', 'resnet101_caffe_bgr': 'detectron2/resnet101_caffe',
    'detectron2/resnet50_caffe_bgr': 'detectron2/resnet50_caffe',
    'detectron2/resnet101_caffe_bgr': 'detectron2/resnet101_caffe',
    'resnet50_gn': 'detectron/resnet50_gn', 'resnet101_gn': 'detectron/resnet101_gn',
    'resnet50_gn_ws': 'jhu/resnet50_gn_ws', 'resnet101_gn_ws': 'jhu/resnet101_gn_ws',
    'resnext50_32x4d_gn_ws': 'jhu/resnext50_32x4d_gn_ws', 'resnext101_32x4d_gn_ws': 'jhu/resnext101_32x4d_gn_ws',
    'resnext50_32x4d_gn': 'jhu/resnext50_32x4d_gn', 'resnext101_32x4d_gn': 'jhu/resnext101_32x4d_gn',
}.items()}
"""`open-mmlab://NAME` -> the file's path on OpenMMLab's server."""

MMCLS: dict[str, str] = {name: f'mmclassification/v0/{file}.pth' for name, file in {
    'vgg16': 'vgg/vgg16_batch256_imagenet_20210208-db26f1a5',
    'resnet18': 'resnet/resnet18_8xb32_in1k_20210831-fbbb1da6',
    'resnet34': 'resnet/resnet34_8xb32_in1k_20210831-f257d4e6',
    'resnet50': 'resnet/resnet50_8xb32_in1k_20210831-ea4938fc',
    'resnet101': 'resnet/resnet101_8xb32_in1k_20210831-539c63f8',
    'resnet152': 'resnet/resnet152_8xb32_in1k_20210901-4d7582fa',
    'resnet50_v1d': 'resnet/resnetv1d50_b32x8_imagenet_20210531-db14775a',
    'resnext50_32x4d': 'resnext/resnext50_32x4d_b32x8_imagenet_20210429-56066e27',
    'mobilenet_v2': 'mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af',
}.items()}
"""`mmcls://NAME` -> the same, of the backbones that are here."""

TABLES = {'open-mmlab': OPENMMLAB, 'mmcls': MMCLS}
SCHEMES = ('https', 'http', 'file', 'torchvision', *TABLES, 'timm')
ALIASES = {'modelzoo': 'torchvision', 'openmmlab': 'open-mmlab', 'mmpretrain': 'mmcls'}
"""Other spellings of a scheme."""


class GoneError(UnreachableError):
    """The file was on a host that is gone; the message says how to supply it."""


def scheme_of(source: str) -> str:
    """`'torchvision'` of `'torchvision://resnet50'`; an empty string where `source` is a path.

    Raises:
        CheckpointError: a scheme that is not one of `SCHEMES`.
    """
    scheme, separator, _ = source.partition('://')
    if not separator:
        return ''
    scheme = ALIASES.get(scheme.lower(), scheme.lower())
    if scheme not in SCHEMES:
        raise CheckpointError(f'{source}: {scheme!r} is no place to read weights from; allowed are a path and '
                              f'{", ".join(f"{s}://" for s in SCHEMES)}')
    return scheme


def locate(source: str | Path) -> Path:
    """The file that `source` names, downloaded where it is not on this machine.

    Args:
        source: a path, an address (https, http, file), `torchvision://NAME`, `open-mmlab://NAME` or `mmcls://NAME`.

    Returns:
        A path; of a path, the same, whether there is a file or not.

    Raises:
        CheckpointError: an unknown scheme or name, or a file that cannot be downloaded; see `fetch`.
    """
    scheme = scheme_of(str(source))
    if not scheme:
        return Path(source).expanduser()
    if scheme == 'file':
        return Path(url2pathname(urlsplit(str(source)).path))
    if scheme == 'timm':
        raise CheckpointError(f'{source}: timm keeps weights for its own models only; they are read where a part of a '
                              'model names them (init_cfg)')
    address = address_of(str(source))
    if not address.startswith(OPENMMLAB_HOST):
        return fetch(address)
    try:
        return fetch(address, patience=1)
    except (UnreachableError, AbsentError) as e:
        raise GoneError(f'{source}: {_how_to_supply(address)}') from e


def _how_to_supply(address: str) -> str:
    below = address.removeprefix(OPENMMLAB_HOST)
    name = below.rpartition('/')[2]
    digits = expected_hash(name)
    check = f' (its SHA-256 begins with {digits})' if digits else ''
    return (f"OpenMMLab's server is gone, and there is no copy here. Bring {name}{check} from elsewhere, and supply it "
            'in one of three ways: put it into a folder and set OMNIDET_MIRROR=FOLDER; set '
            f'OMNIDET_MIRROR=https://SERVER to a server that has {below}; or name the file itself, not its address')


def address_of(source: str) -> str:
    """The address (https, http) of `torchvision://NAME`, `open-mmlab://NAME`, or of an address itself.

    OpenMMLab's files are given the address that they had last.

    Raises:
        CheckpointError: an unknown name.
    """
    scheme, name = scheme_of(source), source.partition('://')[2]
    if scheme in TABLES:
        table = TABLES[scheme]
        if name not in table:
            raise CheckpointError(f'{source}: OpenMMLab published no weights {name!r}'
                                  f'{did_you_mean(name, table) or "; name a file instead"}')
        return OPENMMLAB_HOST + table[name]
    if scheme == 'torchvision':
        return _torchvision(source, name)
    host = next((h for h in OLD_HOSTS if name.lower().startswith(h)), None)
    return source if host is None else OPENMMLAB_HOST + name[len(host):]


def _torchvision(source: str, name: str) -> str:
    """The first version of `resnet50`'s weights, which the zoo was trained from; a version can be named after a dot."""
    import torchvision
    model, _, version = name.partition('.')
    try:
        weights = torchvision.models.get_model_weights(model)
    except ValueError:
        near = did_you_mean(model, torchvision.models.list_models())
        raise CheckpointError(f'{source}: torchvision has no model {model!r}{near}') from None
    versions = {w.name.lower(): w for w in weights}
    version = version.lower() or ('imagenet1k_v1' if 'imagenet1k_v1' in versions else next(iter(versions), ''))
    if version not in versions:
        raise CheckpointError(f'{source}: torchvision has weights {", ".join(versions) or "none"} of {model}, '
                              f'but no {version!r}')
    return versions[version].url
