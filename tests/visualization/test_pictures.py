"""Pictures: what is drawn where, in colours that can be told apart and with labels that can be read."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from omnidet.structures import Result
from omnidet.visualization import color_of, contact_sheet, default_palette, draw, draw_truth
from omnidet.visualization.colors import text_color
from omnidet.visualization.draw import line_width
from omnidet.visualization.labels import Label, draw_labels, place_labels
from omnidet.visualization.paint import segment_places

GREY = 90


def canvas(h=240, w=320):
    return np.full((h, w, 3), GREY, np.uint8)


def found(*rows, masks=None):
    """rows: (x1, y1, x2, y2, score, label)."""
    t = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Result(t[:, :4], t[:, 4], t[:, 5].long(), masks)


def test_a_box_is_drawn_in_its_class_colour_around_its_pixels():
    picture = draw(canvas(), found((100, 100, 200, 180, .9, 3)), list('abcdef'))
    bgr = color_of(3)[::-1]
    assert tuple(picture[180, 150]) == tuple(picture[140, 100]) == tuple(picture[140, 200]) == bgr
    assert tuple(picture[140, 150]) == (GREY,) * 3 and tuple(picture[220, 150]) == (GREY,) * 3


def test_a_label_without_its_score_is_the_class_alone():
    one, other = (found((100, 100, 200, 180, score, 3)) for score in (.9, .5))
    bare = draw(canvas(), one, list('abcdef'), with_scores=False)
    assert (bare == draw(canvas(), other, list('abcdef'), with_scores=False)).all()
    assert (bare != draw(canvas(), one, list('abcdef'))).any()


def test_the_palette_is_rgb_and_pictures_are_bgr():
    picture = draw(canvas(), found((100, 100, 200, 180, .9, 0)), ['a'], palette=[(10, 20, 200)])
    assert tuple(picture[180, 150]) == (200, 20, 10)


def test_scores_below_the_threshold_are_not_drawn_and_the_image_is_left_as_it_is():
    image = canvas()
    result = found((100, 100, 200, 180, .29, 0))
    np.testing.assert_array_equal(draw(image, result, ['a']), image)
    assert (draw(image, result, ['a'], score_thr=.2) != image).any()
    np.testing.assert_array_equal(image, canvas())


def test_a_mask_tints_its_own_pixels_only():
    mask = torch.zeros(1, 240, 320, dtype=torch.bool)
    mask[0, 120:160, 120:180] = True
    picture = draw(canvas(), found((100, 100, 200, 180, .9, 0), masks=mask), ['a'])
    tinted = 0.6 * GREY + 0.4 * np.array(color_of(0)[::-1])
    assert np.abs(picture[140, 150] - tinted).max() <= 1
    assert tuple(picture[140, 110]) == (GREY,) * 3


def test_masks_that_leave_the_picture_are_cut_and_empty_ones_drawn_as_boxes():
    masks = torch.zeros(3, 500, 600, dtype=torch.bool)
    masks[0, 200:500, 250:600] = masks[1, 400:450, 400:500] = True
    rows = (250, 200, 600, 500, .9, 0), (400, 400, 500, 450, .9, 1), (10, 10, 40, 40, .9, 2)
    picture = draw(canvas(), found(*rows, masks=masks), list('abc'))
    tinted = 0.6 * GREY + 0.4 * np.array(color_of(0)[::-1])
    assert np.abs(picture[212, 265] - tinted).max() <= 1 and tuple(picture[25, 25]) == (GREY,) * 3


def test_a_mask_has_its_outline_in_its_full_colour_around_holes_too():
    mask = torch.zeros(1, 240, 320, dtype=torch.bool)
    mask[0, 50:200, 50:250] = True
    mask[0, 100:150, 100:150] = False
    picture = draw(canvas(), found((0, 0, 310, 230, .9, 0), masks=mask), ['a'])
    bgr = np.array(color_of(0)[::-1])
    assert np.abs(picture[120:130, 50] - bgr).max() < 40 and np.abs(picture[120:130, 99] - bgr).max() < 40
    assert tuple(picture[125, 125]) == (GREY,) * 3


def test_segments_are_painted_in_their_class_colours_and_nothing_where_there_is_none():
    segments = torch.full((240, 320), 2)    # the number of classes: nothing is there
    segments[:100, :100], segments[:100, 100:200], segments[:100, 200:300] = 0, 1 + 1000, 1 + 2000
    panoptic = found().replace(panoptic=segments)
    picture = draw(canvas(), panoptic, ['a', 'b']).astype(int)
    mixed = 0.45 * GREY + 0.55 * np.array(color_of(0)[::-1])
    assert np.abs(picture[10, 50] - mixed).max() <= 1
    assert np.abs(picture[10, 150] - picture[10, 250]).max() > 5 and (picture[200] == GREY).all()
    semantic = found().replace(sem_seg=(segments % 1000))
    picture = draw(canvas(), semantic, ['a', 'b'])
    assert tuple(picture[10, 150]) == tuple(picture[10, 250]) and (picture[200] == GREY).all()


def test_segments_bear_their_names_in_the_middle_and_small_ones_none():
    segments = torch.zeros(240, 320, dtype=torch.long)
    segments[100:110, 100:105] = 1
    plain, named = (draw(canvas(), found().replace(sem_seg=segments), names) for names in (['', ''], ['sky', 'sea']))
    y, x = np.nonzero((plain != named).any(axis=-1))
    assert 110 < y.mean() < 130 and 110 < x.mean() < 210    # the middle of what is not in the segment of 50 pixels
    assert len(segment_places(segments.numpy(), 2)) == 1 and len(segment_places(segments.numpy(), 2, least=0)) == 2


def test_the_name_of_a_bent_segment_stands_inside_of_it():
    segments = np.full((60, 60), 7)
    segments[:50, :12] = segments[:12, :50] = 3    # its middle is outside of it
    (label, value, (x, y)), = segment_places(segments, 5)
    assert (label, value) == (3, 3) and segments[y, x] == 3


def test_a_panoptic_map_takes_the_place_of_boxes_and_masks():
    segments = torch.full((240, 320), 1 + 1000)
    boxed = found((100, 100, 200, 180, .9, 0), masks=segments[None] > 0)
    np.testing.assert_array_equal(draw(canvas(), boxed.replace(panoptic=segments), ['a', 'b']),
                                  draw(canvas(), found().replace(panoptic=segments), ['a', 'b']))


def test_what_is_small_is_drawn_over_what_is_large_whatever_their_scores():
    rows = (50, 50, 300, 220, .99, 0), (100, 150, 150, 220, .4, 1)    # they share a piece of the lower edge
    assert tuple(draw(canvas(), found(*rows), ['a', 'b'])[220, 125]) == color_of(1)[::-1]


@pytest.mark.parametrize('image', [canvas()[..., 0], np.dstack([canvas(), canvas()[..., :1]]), canvas()[:, ::-1]])
def test_grey_images_and_views_are_taken_too(image):
    assert draw(image, found((10, 40, 60, 90, .9, 0)), ['a']).shape == (240, 320, 3)


def test_odd_results_do_not_stop_a_picture():
    nan, inf = float('nan'), float('inf')
    rows = (nan, 0, 5, 5, .9, 0), (-inf, -5, inf, 1e9, .9, 0), (50, 50, 20, 20, .9, 0), (7, 7, 7, 7, .9, 99)
    assert draw(canvas(), found(*rows), ['a']).shape == (240, 320, 3)
    np.testing.assert_array_equal(draw(canvas(), found(), []), canvas())
    assert draw(np.zeros((1, 1, 3), np.uint8), found((0, 0, 1, 1, .9, 0)), ['a']).shape == (1, 1, 3)


def test_truth_is_dashed_in_black_and_white_beside_the_detections():
    picture = draw(canvas(), found(), ['a'], truth={'boxes': [[100, 100, 200, 180]], 'labels': [0]})
    edge = {tuple(int(v) for v in p) for p in picture[140:141, 100:201].reshape(-1, 3)} | \
           {tuple(int(v) for v in p) for p in picture[180, 100:201]}
    assert (255, 255, 255) in edge and min(map(max, edge)) < GREY / 2
    named = draw_truth(canvas(), torch.tensor([[100., 100, 200, 180]]), torch.tensor([0]), ['a'])
    assert (named != picture).any()    # the name is written where there are no detections to name


def test_lines_grow_with_the_image():
    sizes = (240, 320), (480, 640), (1080, 1920), (3000, 4000)
    assert [line_width(np.zeros(size)) for size in sizes] == [1, 2, 4, 11]


def test_labels_stay_inside_the_picture_wherever_their_box_is():
    boxes = [(0, 0, 5, 5), (315, 0, 320, 5), (0, 235, 5, 240), (310, 230, 400, 300), (-90, -90, -10, -10),
             (0, 0, 320, 240)]
    for box in boxes:
        (rect, _, _), = place_labels([Label(box, 'motorcycle 0.87', 'motorcycle', (255, 0, 0))], (320, 240), 13)
        assert rect[0] >= 0 and rect[1] >= 0 and rect[2] <= 320.5 and rect[3] <= 240.5, box


def test_labels_of_neighbours_do_not_hide_each_other():
    labels = [Label((x, y, x + 30, y + 30), 'person 0.55', 'person', (255, 0, 0))
              for x, y in itertools.product((60, 90, 120), (60, 90, 120))]
    rects = [p.rect for p in place_labels(labels, (320, 240), 13)]
    for a, b in itertools.combinations(rects, 2):
        assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_the_score_is_left_out_where_only_the_name_has_room():
    # a strip one chip high: beside the first label there is room for 'cat', but not for 'cat 0.55'
    first = Label((0, 0, 60, 18), 'mmmmm', 'mmmmm', (0, 0, 0))
    second = Label((60, 0, 90, 18), 'cat 0.55', 'cat', (0, 0, 0))
    placed = place_labels([first, second], (95, 18), 13)
    assert placed[1].text == 'cat' and placed[1].rect[0] >= placed[0].rect[2]
    assert place_labels([second], (95, 18), 13)[0].text == 'cat 0.55'


def test_text_is_antialiased():
    from PIL import Image, ImageDraw
    picture = Image.new('RGB', (200, 60))
    label = Label((20, 30, 100, 50), 'zebra', 'zebra', (255, 255, 0))
    draw_labels(ImageDraw.Draw(picture, 'RGBA'), [label], (200, 60), 20)
    shades = np.unique(np.asarray(picture)[..., 0])
    assert len(shades) > 8


@pytest.mark.parametrize(('color', 'text'), [
    ((255, 230, 0), 0), ((250, 250, 250), 0), ((0, 0, 160), 255), ((0, 90, 0), 255)])
def test_text_stands_out_from_its_chip(color, text):
    assert text_color(color) == (text,) * 3


def test_every_two_of_eighty_classes_differ_visibly():
    rgb = np.array(default_palette(80), np.float32)[None] / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e3 * np.eye(80)
    assert distance.min() > 10    # about 2 can just be told apart side by side
    assert len(set(default_palette(300))) == 300


def test_a_class_keeps_its_colour_however_many_there_are():
    assert default_palette(500)[:20] == default_palette(20)
    assert color_of(70) == default_palette(71)[70]
    assert len(default_palette(5000)) == 5000
    assert color_of(2, [(1, 2, 3)] * 2) == color_of(2)


def test_a_sheet_shows_every_picture_and_its_caption():
    images = [np.full((100 + 40 * i, 200, 3), 40 * i, np.uint8) for i in range(5)]
    plain, titled = contact_sheet(images, 3, 160), contact_sheet(images, 3, 160, ['a long caption ' * 9, *'bcde'])
    assert plain.shape[1] == titled.shape[1] == 3 * 160 + 4 * 4
    assert titled.shape[0] > plain.shape[0] > 160
    for i in range(5):
        assert (plain == 40 * i).all(axis=-1).sum() > 0.8 * 160 * 80
    assert contact_sheet(images[:1], 4, 160).shape[1] == 160 + 2 * 4
    assert contact_sheet([canvas()[..., 0]], 1, 64).shape[2] == 3
