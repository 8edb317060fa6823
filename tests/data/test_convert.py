import json

import numpy as np
import pytest
from PIL import Image

from omnidet.data import build_dataset
from omnidet.data.convert import via_to_coco, voc_to_coco, yolo_to_coco
from omnidet.errors import DatasetError


def picture(path, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size).save(path, **options)


def voc(root, objects, splits):
    for stem, items in objects.items():
        picture(root / 'JPEGImages' / f'{stem}.jpg')
        (root / 'Annotations').mkdir(exist_ok=True)
        body = ''.join(f'<object><name>{name}</name><difficult>{int(name == "dog")}</difficult><bndbox>'
                       + ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True))
                       + '</bndbox></object>' for name, box in items)
        (root / 'Annotations' / f'{stem}.xml').write_text(f'<annotation>{body}</annotation>')
    (root / 'ImageSets' / 'Main').mkdir(parents=True)
    for name, stems in splits.items():
        (root / 'ImageSets' / 'Main' / f'{name}.txt').write_text('\n'.join(f'{s}  1' for s in stems))


def test_voc_boxes_keep_their_corners_and_empty_ones_are_counted(tmp_path):
    voc(tmp_path, {'a': [('dog', (1, 2, 11, 22)), ('cat', (5, 5, 5, 5))], 'b': [('cat', (0, 0, 4, 4.5))], 'c': []},
        dict(train=['a', 'c', 'absent'], val=['b']))
    out = tmp_path / 'out' / 'train.json'
    summary = voc_to_coco(tmp_path, 'train', out)
    data = json.loads(out.read_text())
    assert [(c['id'], c['name']) for c in data['categories']] == [(1, 'cat'), (2, 'dog')]
    assert data['images'] == [dict(id=1, file_name='a.jpg', width=40, height=30),
                              dict(id=2, file_name='c.jpg', width=40, height=30)]
    assert data['annotations'] == [dict(id=1, image_id=1, category_id=2, bbox=[1, 2, 10, 20], area=200, iscrowd=0,
                                        segmentation=[], difficult=1)]
    assert (summary['images'], summary['boxes']) == (2, 1)
    assert [v[0] for v in summary['skipped'].values()] == ['1', '1'] and 'absent.xml' in str(summary['skipped'])
    assert build_dataset(dict(type='CocoDataset', ann_file=str(out), metainfo=dict(classes=('dog', 'cat')),
                              data_prefix=dict(img=summary['folder']))).get_cat_ids(0) == [0]


def test_voc_ids_agree_between_splits_and_classes_can_be_chosen(tmp_path):
    voc(tmp_path, {'a': [('dog', (1, 2, 11, 22))], 'b': [('cat', (0, 0, 4, 4))]}, dict(train=['a'], val=['b']))
    voc_to_coco(tmp_path, 'train', tmp_path / 't.json')
    voc_to_coco(tmp_path, 'val', tmp_path / 'v.json')
    a, b = (json.loads((tmp_path / f).read_text())['categories'] for f in ('t.json', 'v.json'))
    assert a == b
    summary = voc_to_coco(tmp_path, 'train', tmp_path / 'c.json', classes=['cat'])
    assert summary['boxes'] == 0 and "class 'dog'" in str(summary['skipped'])


def test_voc_without_the_split_says_which_there_are(tmp_path):
    voc(tmp_path, {'a': []}, dict(train=['a'], test=[]))
    with pytest.raises(DatasetError, match='there are test, train'):
        voc_to_coco(tmp_path, 'val', tmp_path / 'o.json')
    with pytest.raises(DatasetError, match='no image to convert'):
        voc_to_coco(tmp_path, 'test', tmp_path / 'o.json')
    with pytest.raises(DatasetError, match='Annotations'):
        voc_to_coco(tmp_path / 'ImageSets', 'train', tmp_path / 'o.json')


@pytest.mark.parametrize('layout', ['images/train', 'train/images'])
def test_yolo_fractions_become_pixels(tmp_path, layout):
    labels = layout.replace('images', 'labels')
    (tmp_path / labels).mkdir(parents=True)
    for stem in 'abc':
        picture(tmp_path / layout / f'{stem}.png', (40, 20))
    lines = '1 0.5 0.5 0.5 0.5', '0 0.1 0.1 0.4 0.4', '1 0.5 0.5 0 0.1', '', '7 1 1 1 1', 'word'
    (tmp_path / labels / 'a.txt').write_text('\n'.join(lines))
    (tmp_path / labels / 'b.txt').write_text('0 0.25 0.5 0.75 0.5 0.75 1.0\n')
    (tmp_path / 'data.yaml').write_text(f'names: {{0: cat, 1: dog}}\ntrain: ../{layout}\n')
    summary = yolo_to_coco(tmp_path, 'train', tmp_path / 'o.json')
    data = json.loads((tmp_path / 'o.json').read_text())
    assert [a['bbox'] for a in data['annotations']] == [[10, 5, 20, 10], [0, 0, 12, 6], [10, 10, 20, 10]]
    assert [a['category_id'] for a in data['annotations']] == [2, 1, 1] and len(data['images']) == 3
    outlined = data['annotations'][2]
    assert outlined['segmentation'] == [[10, 10, 30, 10, 30, 20]] and outlined['area'] == 100
    assert summary['skipped']['boxes without area'][0] == '1'
    assert summary['skipped']['lines that are no label'][0] == '2'


def test_yolo_names_may_come_from_the_caller_and_must_come_from_somewhere(tmp_path):
    picture(tmp_path / 'images' / 'val' / 'a.jpg')
    (tmp_path / 'labels' / 'val').mkdir(parents=True)
    (tmp_path / 'labels' / 'val' / 'a.txt').write_text('0 0.5 0.5 1 1')
    with pytest.raises(DatasetError, match='nothing names the classes'):
        yolo_to_coco(tmp_path, 'val', tmp_path / 'o.json')
    assert yolo_to_coco(tmp_path, 'val', tmp_path / 'o.json', classes=['cell'])['boxes'] == 1
    with pytest.raises(DatasetError, match="split 'test'"):
        yolo_to_coco(tmp_path, 'test', tmp_path / 'o.json', classes=['cell'])


def via(regions, name='a.jpg'):
    return {f'{name}123': dict(filename=name, size=123, regions=regions, file_attributes={})}


def shape(name, label=None, **numbers):
    attributes = {} if label is None else {'class': label}
    return dict(shape_attributes=dict(name=name, **numbers), region_attributes=attributes)


def test_via_regions_keep_their_outlines(tmp_path):
    picture(tmp_path / 'train' / 'a.jpg')
    regions = [shape('polygon', 'cat', all_points_x=[1, 11, 11, 1], all_points_y=[2, 2, 7, 7]),
               shape('rect', 'dog', x=3, y=4, width=10, height=6), shape('circle', 'cat', cx=20, cy=15, r=5),
               shape('point', 'cat', cx=3, cy=3)]
    (tmp_path / 'train' / 'via.json').write_text(json.dumps({**via(regions), **via([], 'absent.jpg')}))
    summary = via_to_coco(tmp_path, 'train', tmp_path / 'o.json')
    anns = json.loads((tmp_path / 'o.json').read_text())['annotations']
    assert [a['bbox'] for a in anns] == [[1, 2, 10, 5], [3, 4, 10, 6], [15, 10, 10, 10]]
    assert [a['area'] for a in anns[:2]] == [50, 60] and anns[2]['area'] == pytest.approx(np.pi * 25, rel=0.01)
    assert [a['category_id'] for a in anns] == [1, 2, 1] and anns[0]['segmentation'] == [[1, 2, 11, 2, 11, 7, 1, 7]]
    assert 'absent.jpg' in str(summary['skipped']) and "'point'" in str(summary['skipped'])


def test_via_lines_are_closed_and_ellipses_turned(tmp_path):
    picture(tmp_path / 'a.jpg', (100, 80))
    regions = [shape('polyline', 'cat', all_points_x=[1, 11, 11], all_points_y=[2, 2, 7]),
               shape('ellipse', 'cat', cx=50, cy=40, rx=30, ry=10),
               shape('ellipse', 'cat', cx=50, cy=40, rx=30, ry=10, theta=np.pi / 2),
               shape('polyline', 'cat', all_points_x=[1, 11], all_points_y=[2, 2])]
    project = {'_via_settings': {}, '_via_img_metadata': via(regions)}    # as version 2 saves a project
    (tmp_path / 'via.json').write_text(json.dumps(project))
    summary = via_to_coco(tmp_path, 'all', tmp_path / 'o' / 'o.json')
    line, lying, standing = json.loads((tmp_path / 'o' / 'o.json').read_text())['annotations']
    assert line['bbox'] == [1, 2, 10, 5] and line['area'] == 25 and len(line['segmentation'][0]) == 6
    assert lying['bbox'] == pytest.approx([20, 30, 60, 20]) and standing['bbox'] == pytest.approx([40, 10, 20, 60])
    assert lying['area'] == pytest.approx(np.pi * 300, rel=0.01) == standing['area'] and summary['boxes'] == 3


def test_via_regions_without_attributes_are_of_the_only_class(tmp_path):
    picture(tmp_path / 'a.jpg')
    numbered = {'0': shape('polygon', all_points_x=[1, 11, 11], all_points_y=[2, 2, 7])}    # version 1
    (tmp_path / 'via.json').write_text(json.dumps(via(numbered)))
    via_to_coco(tmp_path, 'train', tmp_path / 'sub' / 'o.json', classes=['balloon'])
    assert json.loads((tmp_path / 'sub' / 'o.json').read_text())['categories'][0]['name'] == 'balloon'
    with pytest.raises(DatasetError, match='one json with regions of VIA'):
        via_to_coco(tmp_path / 'sub', 'train', tmp_path / 'p.json')


def test_sizes_follow_the_cameras_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / 'a.jpg', (40, 30), exif=exif)
    (tmp_path / 'via.json').write_text(json.dumps(via([])))
    via_to_coco(tmp_path, 'all', tmp_path / 'o' / 'o.json', classes=['x'])
    image = json.loads((tmp_path / 'o' / 'o.json').read_text())['images'][0]
    assert (image['width'], image['height']) == (30, 40)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    voc(tmp_path, {'a': []}, dict(train=['a']))
    out = tmp_path / 'out' / 'o.json'
    out.parent.mkdir()
    out.write_text('old')

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(json, 'dump', full)
    with pytest.raises(DatasetError, match='No space left'):
        voc_to_coco(tmp_path, 'train', out)
    assert out.read_text() == 'old' and list(out.parent.iterdir()) == [out]
