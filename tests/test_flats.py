"""Flats: what would bore a reader of app/flats. Each property has its mutant: a plausible flattening that it refuses."""
import json
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import label

from refcolor import flats
from refcolor.app.cli import main
from refcolor.data.datasets import open_dataset
from refcolor.data.pairs import CrossReference, Posed
from refcolor.evaluate import measure, region_error
from refcolor.flats import assign, background, flat_pictures, flatten, paint, palette_of, regions, segment
from refcolor.generator import load_generator
from test_colorize import TINY

RED, WHITE, BLUE = (0xc8, 0x1e, 0x3c), (255, 255, 255), (0x10, 0x40, 0xd0)
PALETTE = np.array([WHITE, RED, BLUE], np.uint8)


def sheet(size, draw=None, width=None):
    lines = Image.new("L", (size, size) if isinstance(size, int) else size, 255)
    if draw: draw(ImageDraw.Draw(lines))
    return lines


def ring(size, gap=0, width=2):
    "A circle about the middle, with a gap at its top."
    a, b, m = size * 15 // 64, size * 49 // 64, size // 2
    lines = sheet(size, lambda d: d.ellipse((a, a, b, b), outline=0, width=width))
    if gap: lines.paste(255, (m - gap // 2, a - 3, m - gap // 2 + gap, a + width + 3))
    return lines


def disc(size, colour=RED, ground=WHITE):
    a, b = size * 15 // 64, size * 49 // 64
    picture = Image.new("RGB", (size, size), ground)
    ImageDraw.Draw(picture).ellipse((a, a, b, b), fill=colour)
    return picture


def noisy(picture, sigma, seed=0):
    x = np.asarray(picture) + np.random.default_rng(seed).normal(0, sigma, (*picture.size[::-1], 3))
    return Image.fromarray(x.clip(0, 255).astype(np.uint8))


def joined(labels):
    "Whether some label is in the middle of a ring, and in the sheet's corner."
    h, w = labels.shape
    middle, corner = labels[h * 7 // 16:h * 9 // 16, w * 7 // 16:w * 9 // 16], labels[:h // 8, :w // 8]
    return bool(set(middle.flat) & set(corner.flat) - {0})


# ---- segments

@pytest.mark.parametrize("size, gap, width", [(96, 3, 1), (256, 8, 2), (256, 3, 2), (1024, 12, 3), (2048, 8, 5)])
def test_a_gap_does_not_leak(size, gap, width):
    lines = ring(size, gap, width)
    components, _ = label(np.asarray(lines) > 153)                                 # mutant
    assert [joined(segment(lines)), joined(components)] == [False, True]
    assert not joined(segment(np.asarray(lines)))


@pytest.mark.parametrize("size", [96, 700, 1600])
def test_all_paper_is_in_a_segment_and_no_ink(size):
    "Specks that the reduced copy does not see, and channels that are too shallow for a basin, included."
    rng = np.random.default_rng(0)
    def strokes(d):
        for x, y in rng.integers(0, size, (60, 2)): d.ellipse((x - 2, y - 2, x + 2, y + 2), outline=0)
        for k in range(0, size // 3, 3): d.line((k, 0, k, size // 3), fill=0)
    lines = sheet(size, strokes)
    labels, paper = segment(lines), np.asarray(lines) > 153
    assert labels.shape == (size, size) and labels.dtype == np.int32
    assert ((labels > 0) == paper).all()
    pieces, _ = label(paper)
    for k in np.unique(labels)[1:]: assert len(np.unique(pieces[labels == k])) == 1     # none crosses a line


def test_nothing_and_everything():
    for lines, n in ((sheet(50), 1), (sheet((1, 1)), 1), (sheet((3000, 1)), 1), (sheet(40).point(lambda v: 0), 0)):
        labels = segment(lines)
        assert labels.max() == n and labels.shape == lines.size[::-1]
        picture = Image.new("RGB", lines.size, RED)
        index = assign(picture, labels, PALETTE)
        assert n == 0 or (index == 1).all()
        assert regions(index, labels).tolist() == np.ones(labels.shape, int).tolist()
        assert palette_of(picture).tolist() == [list(RED)]
        assert flatten(picture, labels).size == lines.size


# ---- the palette

def test_the_palette_is_exact():
    "Whatever the colours and the size, smooth edges included; also colours that are few (0.5 % of it)."
    for seed, (big, small) in enumerate([(800, 200), (2400, 1200), (300, 300)]):
        rng = np.random.default_rng(seed)
        while True:
            colours = rng.integers(0, 256, (6, 3))
            if min(np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]) > 60: break
        picture = Image.new("RGB", (big, big), tuple(colours[0].tolist()))
        for k, c in enumerate(colours[1:]):
            r = big // (7 + 3 * k)
            x, y = big * (1 + k) // 6, big * (1 + k * 2 % 5) // 6
            ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=tuple(c.tolist()))
        found = palette_of(picture.resize((small, small), Image.Resampling.BOX))
        assert sorted(found.tolist()) == sorted(colours.tolist()), seed
        assert found[0].tolist() == colours[0].tolist()                            # the commonest first


def test_near_shades_are_apart_and_equal_ones_are_one():
    def of(a, b):
        picture = Image.new("RGB", (90, 90), a)
        picture.paste(b, (0, 0, 30, 90))
        return len(palette_of(picture))
    assert [of((200, 120, 90), (200, 121, 92)), of((200, 120, 90), (176, 96, 70))] == [1, 2]


def test_a_photograph_has_a_palette_too(monkeypatch):
    x = np.linspace(0, 1, 600)
    ramp = np.stack([x[:, None] * x, x[:, None] * (1 - x), (1 - x[:, None]) * x], -1) * 255
    photo = noisy(Image.fromarray(ramp.astype(np.uint8)), 12)
    palette = palette_of(photo)
    assert 6 <= len(palette) <= 12 and palette.dtype == np.uint8
    assert len(palette_of(photo, 3)) == 3
    def far(palette): return np.median(np.abs(np.asarray(photo, int)[::7, ::7, None] - palette.astype(int)).max(-1).min(-1))
    ours = far(palette)
    monkeypatch.setattr(flats, "APART", 2)                                         # mutant: twelve shades of one corner
    assert ours < 40 < far(palette_of(photo))


def test_mixed_edges_are_no_colours():
    "Many small discs: their smooth edges are a quarter of the picture."
    side = 30 * 16
    picture = Image.new("RGB", (side, side), WHITE)
    for k in range(256):
        x, y = 30 * (k % 16) + 2, 30 * (k // 16) + 2
        ImageDraw.Draw(picture).ellipse((x, y, x + 25, y + 25), fill=(BLUE, RED)[(k + k // 16) % 2])
    small = picture.resize((side // 3, side // 3), Image.Resampling.BOX)
    assert sorted(map(tuple, palette_of(small).tolist())) == sorted([WHITE, RED, BLUE])


def test_a_palette_covers_what_has_more_shades_than_it():
    "All hues: twelve neighbours of the first would leave half the circle without a colour."
    hue = Image.fromarray(np.tile(np.linspace(0, 254, 500).astype(np.uint8), (100, 1)))
    picture = Image.merge("HSV", [hue, Image.new("L", hue.size, 180), Image.new("L", hue.size, 220)]).convert("RGB")
    far = np.abs(np.asarray(picture, int)[0, :, None] - palette_of(picture).astype(int)).max(-1).min(-1)
    assert far.max() < 100                                                         # 155 where it does not widen


# ---- the vote

def one_colour_a_segment(picture, labels, palette):                                # mutant
    index = assign(picture, labels, palette)
    votes = [np.bincount(labels.ravel(), (index == k).ravel()) for k in range(len(palette))]
    return np.argmax(votes, 0)[labels]


@pytest.mark.parametrize("size", [96, 400, 1600])
def test_an_open_drawing_keeps_its_colours(size):
    "A shirt that ends without a line, above it a line through the sheet."
    a, b, top, hem = size * 3 // 10, size * 7 // 10, size // 4, size * 7 // 10
    end, width = size * 6 // 10, max(2, size // 100)
    lines = sheet(size, lambda d: d.line([(a, end), (a, top), (b, top), (b, end)], fill=0, width=width))
    truth = np.zeros((size, size), int)
    truth[top:hem, a:b] = 1
    soft = noisy(Image.fromarray(PALETTE[truth]).resize((96, 96), Image.Resampling.BOX), 25).resize((size, size), Image.Resampling.BICUBIC)
    labels = segment(lines)
    def wrong(index): return float((index != truth)[labels > 0].mean())
    assert wrong(assign(soft, labels, PALETTE)) < 0.02 and wrong(one_colour_a_segment(soft, labels, PALETTE)) > 0.04


def test_specks_go(monkeypatch):
    lines, evidence = ring(256), noisy(disc(256), 90)
    def specks(): return int(regions(assign(evidence, segment(lines), PALETTE), segment(lines)).max())
    ours = specks()
    monkeypatch.setattr(flats, "SURROUNDINGS", 1e-6)                               # mutant: each pixel for itself
    assert ours <= 4 and specks() > 500


def test_the_vote_ends_at_lines():
    "A stripe between two lines of one pixel keeps its colour; a vote that ignores lines drowns it."
    lines = sheet(96, lambda d: (d.line((30, 0, 50, 96), fill=0), d.line((34, 0, 54, 96), fill=0)))
    labels = segment(lines)
    stripe = label(labels > 0)[0] == label(labels > 0)[0][48, 42]
    truth = np.where(stripe, 1, 2)
    evidence = noisy(Image.fromarray(PALETTE[truth]), 80)
    def wrong(labels): return float((assign(evidence, labels, PALETTE) != truth)[stripe].mean())
    assert 0 < stripe.sum() < 400 and wrong(labels) < 0.02
    assert wrong((labels > 0).astype(np.int32)) < 0.02                             # ink is a barrier by itself
    assert wrong(np.ones_like(labels)) > 0.5                                       # mutant: no barrier at all


@pytest.mark.parametrize("turned", [False, True])
def test_the_vote_hears_all_sides(turned):
    "A border without a line stays where it is: one that listened to one side only would shift it."
    truth = np.zeros((200, 200), int)
    truth[:, 100:] = 1
    if turned: truth = truth.T
    index = assign(noisy(Image.fromarray(PALETTE[truth]), 60), np.ones_like(truth, np.int32), PALETTE)
    assert (index != truth).mean() < 0.005                                         # .02 from one side


@pytest.mark.parametrize("size", [800, 1700])
def test_thin_lines_of_large_drawings_part_colours_to_the_pixel(size):
    "A curve of one pixel, which the reduced copy only sees as a broad band."
    lines = sheet(size, lambda d: d.ellipse((size // 8, size // 5, size * 7 // 8, size * 3 // 4), outline=0))
    inside = sheet(size, lambda d: d.ellipse((size // 8, size // 5, size * 7 // 8, size * 3 // 4), fill=0))
    truth = (np.asarray(inside) == 0).astype(int)
    labels, picture = segment(lines), noisy(Image.fromarray(PALETTE[truth]), 90)
    paper = np.asarray(lines) > 153
    assert (assign(picture, labels, PALETTE) != truth)[paper].sum() <= size // 50
    side = -(-size // 8)
    coarse = assign(picture.resize((side, side), 0), segment(lines.resize((side, side), Image.Resampling.BOX)), PALETTE)
    enlarged = coarse.repeat(8, 0).repeat(8, 1)[:size, :size]                      # mutant: the reduced answer, enlarged
    assert (enlarged != truth)[paper].sum() > size


@pytest.mark.parametrize("size", [96, 1024])
def test_ink_takes_the_colour_beside_it(size):
    m = size // 2 + 3
    lines = sheet(size, lambda d: d.line((m, 0, m, size), fill=0, width=9))
    picture = Image.new("RGB", (size, size), RED)
    picture.paste(BLUE, (m, 0, size, size))
    index = assign(picture, segment(lines), PALETTE)
    assert (index[:, :m - 1] == 1).all() and (index[:, m + 2:] == 2).all()
    assert set(np.unique(index)) == {1, 2}                                         # ink has no colour of its own
    assert set(map(tuple, np.asarray(paint(index, PALETTE)).reshape(-1, 3).tolist())) == {RED, BLUE}


def test_large_and_small_drawings_have_the_same_flats():
    small, large = (assign(noisy(disc(s), 20), segment(ring(s, width=s // 64)), PALETTE) for s in (256, 2048))
    assert (large[4::8, 4::8] == small).mean() > 0.99


@pytest.mark.parametrize("draw", ["hatching", "specks"])
def test_ten_thousand_specks_are_sane_in_sane_time(draw):
    size, rng = 1024, np.random.default_rng(0)
    def strokes(d):
        if draw == "specks":
            for x, y in rng.integers(0, size, (10_000, 2)): d.ellipse((x - 4, y - 4, x + 4, y + 4), outline=0)
        else:
            for k in range(-size, size, 6): d.line((k, 0, k + size, size), fill=0, width=2)
    lines, start = sheet(size, strokes), time.process_time()
    labels = segment(lines)
    index = assign(noisy(disc(size), 20), labels, PALETTE)
    found = regions(index, labels)
    assert time.process_time() - start < 8                                         # a second on a quiet machine
    assert labels.max() > (5_000 if draw == "specks" else 100) and found.min() == 1
    truth = (np.asarray(disc(size))[..., 1] < 200).astype(int)
    assert (index == truth).mean() > 0.98


# ---- regions, background

def test_regions_end_at_lines_and_colours():
    lines = sheet(60, lambda d: d.line((30, 0, 30, 60), fill=0))
    index = np.ones((60, 60), np.int16)
    index[40:] = 2
    found = regions(index, segment(lines))
    assert found.dtype == np.int32 and len({found[5, 5], found[5, 55], found[55, 5], found[55, 55]}) == 4
    assert found.min() == 1 and found[5, 30] in (found[5, 5], found[5, 55])        # ink belongs to a neighbour
    assert regions(index).max() == 2                                               # without lines: colours only
    diagonal = np.zeros((4, 4), np.int16); diagonal[:2, :2] = diagonal[2:, 2:] = 1
    assert regions(diagonal).max() == 4                                            # corners do not join


def test_the_background_is_white_and_reaches_the_edge():
    picture = disc(256)
    ImageDraw.Draw(picture).ellipse((110, 110, 140, 140), fill=WHITE)              # an eye
    labels = segment(ring(256))
    index = assign(picture, labels, PALETTE)
    outside = background(index, PALETTE, labels)
    assert outside.dtype == bool and [outside[2, 2], outside[125, 125], outside[90, 90]] == [True, False, False]
    inverse = assign(disc(256, WHITE, BLUE), labels, PALETTE)
    assert not background(inverse, PALETTE, labels).any()                          # a coloured ground is painted
    clear = background(assign(disc(256, WHITE), labels, PALETTE), PALETTE, labels)
    assert clear[2, 2] and not clear[128, 128]                                     # a white figure is no paper around


# ---- the ruler

@pytest.fixture(scope="module")
def generator(): return load_generator(TINY).eval()


@torch.no_grad()
def test_flats_are_judged_by_the_same_ruler(generator):
    dataset = open_dataset("avatars", None, "valid", 64, 16)
    for source in (CrossReference(dataset, 12), Posed(CrossReference(dataset, 12))):
        values, features = measure(generator, source, flat=flat_pictures)
        p, prefix, labels = source.batch(range(12)), source.prefix, list(source.labels.values())
        flat = flat_pictures(generator(p.sketch, p.reference, False).fake, p.sketch, p.reference)
        expected = region_error(flat, p.truth, p.parts, labels, p.reference_parts)
        np.testing.assert_allclose(values[f"flat_{prefix}region_error"], expected.numpy(), atol=1e-5)
        soft, flats = (np.nanmean(values[f"{kind}{prefix}region_error"]) for kind in ("", "flat_"))
        assert flats < 0.67 * soft
        # a flat picture has the palette's colours, but for its lines
        white = p.sketch[0, 0] == 1
        seen = {tuple(c) for c in ((flat[0, :, white].T + 1) * 127.5).round().int().tolist()}
        assert seen <= {tuple(c) for c in palette_of(flats_reference(p.reference[0])).tolist()}
    assert not any(name.startswith("flat") for name in measure(generator, source)[0])


def flats_reference(x): return Image.fromarray(((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def test_evaluate_flat_names_the_column(capsys):
    assert main(["evaluate", "--weights", str(TINY), "--n", "4", "--distance", "none", "--flat", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    head = next(line for line in err.splitlines() if line.startswith("metric")).split()
    assert head[-1] == "flat"
    for key in ("flat_region_error", "flat_posed_region_error", "flat_paper_error", "flat_posed_psnr"):
        low, high = result[f"{key}_ci"]
        assert low <= result[key] <= high
    row = next(line for line in err.splitlines() if line.startswith("posed_psnr ")).split()
    assert row[-1] == f"{result['flat_posed_psnr']:.3f}"
