"""What people's files carry beyond their first array of pixels, and where the drawing is in them."""
import contextlib
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageDraw, ImageFilter, ImageOps, features

import refcolor
from refcolor.app.cli import main
from refcolor.app.layers import palette_from
from refcolor.colorize import colorize, default_weights, lines_of, reference_of
from refcolor.core import UserError
from refcolor.data.datasets import open_dataset
from refcolor.data.decode import colourless, drawn_in, is_line_art, notes_of, on_dark_paper, read_picture, read_reference, read_sketch
from refcolor.data.pairs import FolderPairs
from refcolor.framing import View
from refcolor.flats import flatten, palette_of, segment
from refcolor.generator import load_generator

HAIR, SKIN, SHIRT = (200, 60, 40), (240, 200, 170), (40, 90, 200)


def figure(colours=("white",) * 3, paper="white", ink="black", size=240):
    "A head with hair and a shirt."
    k, image = size / 240, Image.new("RGB", (size, size), paper)
    pen, hair, skin, shirt = dict(outline=ink, width=max(1, round(3 * k))), *colours
    d = ImageDraw.Draw(image)
    d.ellipse([v * k for v in (60, 25, 180, 150)], fill=hair, **pen)
    d.ellipse([v * k for v in (78, 60, 162, 165)], fill=skin, **pen)
    d.polygon([v * k for v in (30, 238, 60, 180, 180, 180, 210, 238)], fill=shirt, **pen)
    for x in (104, 136): d.ellipse([v * k for v in (x - 5, 100, x + 5, 110)], fill=ink)
    return image


LINE, COLOUR = figure(), figure((HAIR, SKIN, SHIRT))


def on_sheet(picture, size=(480, 480), at=(120, 120), paper="white"):
    sheet = Image.new("RGB", size, paper)
    sheet.paste(picture, at)
    return sheet


def with_frame(picture, sides="ltrb", width=3, ink="black"):
    w, h = picture.size
    boxes = dict(l=(0, 0, width, h), t=(0, 0, w, width), r=(w - width, 0, w, h), b=(0, h - width, w, h))
    picture = picture.copy()
    for side in sides: picture.paste(ink, boxes[side])
    return picture


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    if "append_images" in options: options["append_images"] = [p.copy() for p in options["append_images"]]
    image.copy().save(out, kind, **options)             # Pillow leaves traces in what it saved
    return out.getvalue()


def pixels(image): return np.asarray(image.convert("RGB"), int)


def apart(a, b): return np.abs(pixels(a) - pixels(b))


# ---- kind 1: what is drawn

def error(result):
    "Mean over the paper, in grey levels; the outermost pixels may be a scan's frame."
    return apart(result, COLOUR)[4:-4, 4:-4][pixels(LINE).min(2)[4:-4, 4:-4] > 200].mean()


def crop_of(result, at=(120, 120)): return result.crop((*at, at[0] + 240, at[1] + 240))


@pytest.fixture(scope="module")
def tight(): return error(colorize(LINE, COLOUR))


def test_a_large_sheet_and_margins_cost_little(tight):
    "Each within a third of the tight crop (and of what rounding does to a good one); whole sheets are several times as bad."
    large = on_sheet(LINE)
    corner = on_sheet(LINE, (2000, 1500), (1700, 30))
    errors = {
        "a large sheet": error(crop_of(colorize(large, COLOUR))),
        "a reference with margins": error(colorize(LINE, on_sheet(COLOUR, (340, 340), (50, 50)))),
        "a grey margin": error(colorize(LINE, on_sheet(COLOUR, (600, 400), (300, 90), "grey"))),
        "a coloured margin": error(colorize(LINE, on_sheet(COLOUR, (340, 500), (60, 200), (90, 20, 140)))),
        "both": error(crop_of(colorize(large, on_sheet(COLOUR)))),
        "in the corner": error(crop_of(colorize(corner, COLOUR), (1700, 30))),
        "a scan's frame": error(colorize(with_frame(LINE), COLOUR)),
        "a frame around a large sheet": error(crop_of(colorize(with_frame(large, "lb", 11), COLOUR)))}
    assert max(errors.values()) < 1.33 * tight + 2, (tight, errors)
    from refcolor.generator import load_generator
    from refcolor.colorize import default_weights, full_size, lines_of
    from refcolor.data.pictures import letterbox
    from refcolor.framing import View, network_view
    from refcolor.show import to_tensor
    net, lines, whole = load_generator(default_weights()), lines_of(large), (0, 0, 480, 480)
    size = net.config.size
    view = View(network_view(lines, size)[0], whole, whole, (0, 0, size, size), (480, 480))
    blind = full_size(net(to_tensor(view.square), to_tensor(letterbox(COLOUR, size)[0])).fake[0].detach(), lines, view)
    # 2 with the weights before, which had seen fewer small figures' lines whole
    assert error(crop_of(blind)) > 1.5 * max(errors.values()), "the whole sheet is good enough: framing is not needed"


def test_gutters_and_double_frames_cost_little(tight):
    "As good as the page alone; a network that sees the gutter errs four times as much."
    errors = {
        "a gutter": error(crop_of(colorize(on_sheet(LINE, (280, 240), (40, 0), "black"), COLOUR), (40, 0))),
        "a shade": error(crop_of(colorize(shaded(60, 0), COLOUR), (60, 0))),
        "a reference with a gutter": error(colorize(LINE, on_sheet(COLOUR, (320, 240), (80, 0), "black"))),
        "a double frame": error(crop_of(colorize(twice_framed(LINE, 4, 30, 4), COLOUR), (38, 38)))}
    assert max(errors.values()) < 1.33 * tight + 2, (tight, errors)


def test_a_figure_that_the_border_cuts_is_seen_to_go_on(monkeypatch):
    "At the left, at the right, above; as high as its sheet, a head that touches it and a horizon stay as they are."
    from refcolor.framing import View
    places = [(-100, 120), (340, 120), (120, -90)]
    def errors():
        for at in places:
            page, truth = on_sheet(LINE, at=at), on_sheet(COLOUR, at=at)
            painted = (pixels(page).min(2) > 200) & (pixels(truth).min(2) < 240)
            yield apart(colorize(page, COLOUR), truth)[painted].mean()
    good = list(errors())
    monkeypatch.setattr("refcolor.framing.BORDER", 0)
    assert all(2 * ours < blind for ours, blind in zip(good, errors(), strict=True)), good
    monkeypatch.undo()
    scene, hair = Image.new("L", (300, 300), 255), LINE.convert("L")
    ImageDraw.Draw(scene).polygon([(-9, 100), (150, 20), (320, 90), (320, 250), (-9, 240)], outline=0, width=3)
    ImageDraw.Draw(hair).line((0, 90, 80, 60), 0, 3)
    for whole in (scene, hair, LINE.convert("L")): assert View.of(whole, 64).figure == (0, 0, *whole.size)


def test_colours_go_on_to_a_frame():
    "To the last row above it, at any size; the frame stays as it is."
    for size in (240, 1100):
        width = round(3 * size / 240)
        framed = with_frame(figure(size=size), width=width)
        result = pixels(colorize(framed, COLOUR))[size // 2 + size * 2 // 5:, size // 3:size * 2 // 3]
        paper = pixels(framed)[-len(result):, size // 3:size * 2 // 3].min(2) > 250
        assert paper.any() and not (result[paper].min(1) > 200).any()


def test_the_sheet_keeps_its_size_its_ink_and_its_white():
    sheet = with_frame(on_sheet(LINE, (700, 500), (300, 200)), "ltr", 8)
    sheet.putpixel((100, 100), (0, 0, 0))
    result = colorize(sheet, COLOUR)
    assert result.size == (700, 500)
    assert pixels(result)[:8].max() == 0 and pixels(result)[:, -8:].max() == 0 and result.getpixel((100, 100)) == (0, 0, 0)
    white = pixels(result)[20:190, 20:690][pixels(sheet)[20:190, 20:690].min(2) == 255]
    assert white.min() == 255


def test_a_coloured_background_goes_on_over_the_sheet():
    "A network that paints all blue: no rectangle is seen on the sheet, and a frame's paper beyond stays white."
    import torch
    from refcolor.colorize import full_size, lines_of
    from refcolor.framing import View
    lines = lines_of(on_sheet(LINE, (700, 500), (300, 200)))
    blue = torch.tensor([-1., -1, 1]).view(3, 1, 1).expand(3, 96, 96)
    result = pixels(full_size(blue, lines, View.of(lines, 96)))
    assert (result[np.asarray(lines) == 255] == (0, 0, 255)).all()
    panel = with_frame(on_sheet(LINE, (480, 480), (120, 120)), width=6)
    lines = lines_of(on_sheet(panel, (600, 600), (60, 60)))
    result = pixels(full_size(blue, lines, View.of(lines, 96)))
    assert (result[:55] == 255).all() and (result[80, 80] == (0, 0, 255)).all()


def test_no_colour_runs_out_of_a_drawing_and_none_is_missing_at_a_frame(monkeypatch, tight):
    "Below a shirt on a sheet there is paper, to the last pixel; beside a frame the shirt is blue, to the last row."
    for picture in (LINE, LINE.crop((0, 0, 240, 232))):              # closed, and open as if cut out
        below = pixels(colorize(on_sheet(picture), COLOUR))[120 + picture.height + 1:]
        assert (below == 255).all()
    def at_the_frame():
        result = apart(colorize(with_frame(LINE, width=5), COLOUR), COLOUR)[:234]
        return np.quantile(result[222:, 50:190].mean(-1), 0.95)
    assert (good := at_the_frame()) < 60
    monkeypatch.setattr("refcolor.framing.BEYOND", 0)
    assert at_the_frame() > 2 * good, "the network knows where a shirt ends"


def test_colours_reach_the_edge_where_a_line_parts_the_sheet():
    "Below a horizon there is ground, not paper, however low the last line is."
    import torch
    from refcolor.colorize import full_size, lines_of
    from refcolor.framing import View
    scene = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(scene).line((0, 200, 300, 190), "black", 3)
    lines, ground = lines_of(scene), torch.ones(3, 96, 96)
    ground[:2, 66:] = -1
    assert (pixels(full_size(ground, lines, View.of(lines, 96)))[230:] == (0, 0, 255)).all()


def torn(picture, width=5):
    "A frame with gaps."
    picture = with_frame(picture, width=width)
    w, h = picture.size
    for box in ((w // 5, 0, w // 3, width), (0, h // 2, width, h // 2 + h // 5), (w - width, 20, w, 50), (w // 2, h - width, w - w // 4, h)):
        picture.paste("white", box)
    return picture


def askew(picture):
    return with_frame(on_sheet(picture, (560, 560), (40, 40)), width=16).rotate(1, Image.Resampling.BICUBIC, fillcolor="black").crop((40, 40, 520, 520))


def test_a_hint_means_the_picture_as_drawn():
    "On a large sheet, beside a reference with margins, a hint does what it does in the tight crops."
    def moved(hint, at, size): return [((v + 1) * 120 + a) / size * 2 - 1 for v, a in zip(hint, at)]
    here, there, sheet = (0, -.7), (0, .9), on_sheet(LINE, at=(200, 40))
    hint = (*moved(here, (200, 40), 480), (*moved(there, (100, 220), 480),))
    plain, hinted = (crop_of(colorize(sheet, on_sheet(COLOUR, at=(100, 220)), hints=h), (200, 40)) for h in ([], [hint]))
    right = colorize(LINE, COLOUR, hints=[(*here, there)])
    hair = (slice(35, 50), slice(110, 130))
    to_right = lambda x: apart(x, right)[hair].mean()
    assert to_right(hinted) < 0.5 * to_right(plain), (to_right(hinted), to_right(plain))


FIGURE = (150, 145, 331, 359)      # of LINE at (120, 120)


def shaded(width, least):
    "A page that bends down into the gutter of its book."
    light = np.clip(least + (1 - least) * np.arange(240 + width) / width, 0, 1)[None, :, None]
    return Image.fromarray(np.uint8(pixels(on_sheet(LINE, (240 + width, 240), (width, 0))) * light))


def twice_framed(picture, outer, gap, inner):
    (w, h), n = picture.size, outer + gap
    framed = with_frame(on_sheet(picture, (w + 2 * inner, h + 2 * inner), (inner, inner)), width=inner)
    return with_frame(on_sheet(framed, (framed.width + 2 * n, framed.height + 2 * n), (n, n)), width=outer)


@pytest.mark.parametrize("picture, figure, sheet", [
    (on_sheet(LINE), FIGURE, (0, 0, 480, 480)),
    (on_sheet(COLOUR), FIGURE, (0, 0, 480, 480)),
    (with_frame(on_sheet(LINE), width=9), FIGURE, (9, 9, 471, 471)),
    (with_frame(on_sheet(LINE), "lb", 9), FIGURE, (9, 0, 480, 471)),
    (with_frame(on_sheet(LINE), "r", 9), FIGURE, (0, 0, 471, 480)),
    (with_frame(with_frame(on_sheet(LINE), width=40, ink="white"), "", 0), FIGURE, (0, 0, 480, 480)),
    (on_sheet(with_frame(on_sheet(LINE, (400, 400), (80, 80)), width=5), at=(40, 40)), FIGURE, (45, 45, 435, 435)),   # a panel
    (ImageOps.invert(on_sheet(LINE)), FIGURE, (0, 0, 480, 480)),
    (on_sheet(COLOUR, paper="grey"), (120, 120, 360, 360), (120, 120, 360, 360)),
    (on_sheet(COLOUR, (800, 240), (300, 0), "black"), (300, 0, 540, 240), (300, 0, 540, 240)),                       # bars
    (LINE, (0, 0, 240, 240), (0, 0, 240, 240)),
    (with_frame(LINE), (3, 3, 237, 237), (3, 3, 237, 237)),
    (with_frame(LINE, ink=(128,) * 3), (3, 3, 237, 237), (3, 3, 237, 237)),
    (torn(on_sheet(LINE)), FIGURE, (5, 5, 475, 475)),
    (torn(LINE), (5, 5, 235, 235), (5, 5, 235, 235)),
    (with_frame(on_sheet(with_frame(on_sheet(LINE), width=5), (500, 500), (10, 10)), width=5), (160, 155, 341, 369), (15, 15, 485, 485)),
    (askew(on_sheet(LINE)), FIGURE, (0, 0, 480, 480)),
    (with_frame(on_sheet(LINE, at=(300, 260)), "lt", 9), (339, 285, 480, 480), (9, 9, 480, 480)),
    (on_sheet(LINE, at=(-100, 265)), (0, 290, 111, 480), (0, 0, 480, 480)),
    (on_sheet(with_frame(COLOUR, ink="grey", width=9), (340, 340), (70, 30)), (79, 39, 301, 261), (79, 39, 301, 261)),
    (with_frame(LINE, "b", 3, "grey").crop((0, 0, 240, 240)), (0, 0, 240, 237), (0, 0, 240, 237)),
    (Image.new("RGB", (50, 70), "red"), (0, 0, 50, 70), (0, 0, 50, 70)),
    (Image.linear_gradient("L").convert("RGB"), (0, 0, 256, 256), (0, 0, 256, 256)),
    (on_sheet(LINE, (320, 240), (80, 0), "black"), (80, 0, 320, 240), (80, 0, 320, 240)),                            # a gutter
    (on_sheet(COLOUR, (264, 240), (0, 0), "black"), (0, 0, 240, 240), (0, 0, 240, 240)),
    (on_sheet(on_sheet(LINE), (480, 560), (0, 80), "black"), tuple(np.add(FIGURE, (0, 80, 0, 80))), (0, 80, 480, 560)),
    (shaded(60, 0), (60, 0, 300, 240), (60, 0, 300, 240)), (shaded(60, .3), (60, 0, 300, 240), (60, 0, 300, 240)),
    (twice_framed(LINE, 4, 30, 4), (38, 38, 278, 278), (38, 38, 278, 278)),
    (twice_framed(LINE, 25, 6, 2), (33, 33, 273, 273), (33, 33, 273, 273)),
    (read_picture(encoded(twice_framed(COLOUR, 8, 12, 4), "JPEG", quality=60)), (24, 24, 264, 264), (24, 24, 264, 264)),
    (on_sheet(twice_framed(LINE, 4, 30, 4), (396, 376), (40, 30)), (78, 68, 318, 308), (78, 68, 318, 308)),
    (twice_framed(on_sheet(LINE), 4, 30, 4).rotate(.7, Image.Resampling.BICUBIC, fillcolor="white"), tuple(np.add(FIGURE, 38)), (41, 41, 515, 515)),
], ids=range(33))
def test_what_is_drawn_is_found(picture, figure, sheet):
    found, paper = drawn_in(picture)
    size = max(figure[2] - figure[0], figure[3] - figure[1])
    outward = np.array([figure[0] - found[0], figure[1] - found[1], found[2] - figure[2], found[3] - figure[3]])
    assert outward.min() >= -2 and outward.max() <= 0.08 * size, found      # never into the figure, little paper around it
    assert np.abs(np.subtract(paper, sheet)).max() <= 3, paper


def test_specks_and_the_colours_of_a_picture_are_no_paper():
    rng, sheet = np.random.default_rng(0), on_sheet(LINE.resize((500, 500)), (4000, 3000), (3000, 200))
    for x, y in rng.integers(10, 2900, (60, 2)): ImageDraw.Draw(sheet).ellipse((x, y, x + 6, y + 6), fill="black")
    left, top, right, bottom = drawn_in(sheet)[0]
    assert 2950 < left < 3070 and 200 <= top < 260 and right < 3500 and bottom < 760
    stripes = np.repeat(np.array([HAIR, SKIN, SHIRT], np.uint8), 50, 0)[:, None].repeat(150, 1)
    palette = np.array([[(i * 9, 255 - i * 9, i * 37 % 256) for i in range(28)]], np.uint8).repeat(10, 1).repeat(60, 0)
    for whole in (stripes, stripes.swapaxes(0, 1), palette):
        image = Image.fromarray(whole)
        assert drawn_in(image)[0] == (0, 0, *image.size)


# ---- kind 1: what lies on, around and beside the page

def ruled_paper(picture, colour, squared=False, askew=0., step=16):
    "Lines across the whole sheet, under the ink, and a margin's."
    x, (w, h) = pixels(picture) / 255, picture.size
    down, across = np.mgrid[:h, :w]
    slant = np.tan(np.radians(askew))
    near = lambda v: np.abs((v + step / 2) % step - step / 2) < 1
    ruling = near(down + slant * across) | squared & near(across - slant * down) | (np.abs(across - slant * down - 50) < 1)
    return Image.fromarray(np.uint8(x * np.where(ruling[..., None], colour, 255)))


def in_shade(picture, shape):
    "A sharp shadow: light falls to 60 % beyond an edge, or under a hand."
    (w, h), (down, across) = picture.size, np.mgrid[:picture.height, :picture.width]
    away = {"edge": across + down / 2 - w * 0.7, "hand": np.hypot(across - w * 0.6, down - h * 0.5) - w * 0.22}[shape]
    return Image.fromarray(np.uint8(pixels(picture) * (0.6 + 0.4 / (1 + np.exp(-away)))[..., None]))


def on_desk(picture, turn, desk=(200, 178, 140), room=50):
    "A page on a light desk, with its shadow at two sides."
    (w, h), full = picture.size, tuple(v + 2 * room for v in picture.size)
    def placed(what, around, by=0):
        sheet = Image.new("RGB", full, around)
        sheet.paste(what, (room + by, room + by))
        return sheet.rotate(turn, Image.Resampling.BICUBIC, fillcolor=around)
    page = placed(Image.new("RGB", (w, h), "white"), "black").convert("L")
    below = placed(Image.new("RGB", (w, h), "grey"), "white", 6).filter(ImageFilter.GaussianBlur(4))
    grain = np.random.default_rng(0).normal(0, 4, (full[1], 1, 1))
    wood = Image.fromarray(np.uint8((pixels(below) / 255 * (desk + grain)).clip(0, 255)))
    return Image.composite(placed(picture, "white"), wood, page), lambda p: placed(p, "white")


def beyond_a_gutter(picture, dark, soft, wide=24, strip=50):
    "A strip of the neighbouring page, with some of its drawing."
    w, h = picture.size
    both = on_sheet(picture, (w + wide + strip, h), (wide + strip, 0))
    both.paste(LINE.crop((180, 0, 230, 240)), (0, 90))
    away = np.abs(np.arange(both.width) - strip - wide / 2) / (wide / 2)
    light = np.clip(dark + (1 - dark) * (away - 0.3) / 0.7, dark, 1) if soft else np.where(away <= 1, dark, 1)
    return Image.fromarray(np.uint8(pixels(both) * light[:, None])), lambda p: on_sheet(p, both.size, (wide + strip, 0))


def hard_double_frame(picture):
    "Text and dirt between two frames, a scratch from one to the other."
    page, at = twice_framed(picture, 8, 30, 3), (41, 41)
    pen, (w, h) = ImageDraw.Draw(page), page.size
    for x in (60, 200, 330): pen.rectangle((x, 8, x + 25, 41), fill="black")
    for y in (90, 150): pen.rectangle((8, y, 41, y + 14), fill="black")
    pen.text((120, 12), "page 12 of a book of drawings", fill="black", font_size=14)
    pen.line((w // 2, h - 42, w // 2 + 8, h), "black", 3)
    return page, lambda p: on_sheet(p, page.size, at)


SHEET = on_sheet(LINE, (440, 420), (110, 90))
STAYS = lambda p: p


@pytest.mark.parametrize("page, placed, said", [
    (ruled_paper(SHEET, (190,) * 3), STAYS, "ruled"), (ruled_paper(SHEET, (160, 195, 240), True), STAYS, "ruled"),
    (ruled_paper(SHEET, (175, 205, 240), askew=1.1), STAYS, "ruled"), (ruled_paper(SHEET, (200, 200, 215), True, -0.7), STAYS, "ruled"),
    (in_shade(SHEET, "edge"), STAYS, ""), (in_shade(SHEET, "hand"), STAYS, ""),
    (*on_desk(SHEET, 0), "around the page"), (*on_desk(SHEET, 3), "around the page"), (*on_desk(SHEET, -2, (235, 235, 235)), "around the page"),
    (*beyond_a_gutter(SHEET, .1, False), "beyond a gutter"), (*beyond_a_gutter(SHEET, .6, True), "beyond a gutter"),
    (*hard_double_frame(SHEET), "around the page")],
    ids=["ruled", "squared", "ruled askew", "squared askew", "shadow", "hand", "desk", "desk turned", "white desk", "strip", "strip, soft", "double frame"])
def test_how_a_page_arrives_costs_little(page, placed, said):
    "Coloured as the clean sheet is, and what was left out is said."
    right, result = placed(colorize(SHEET, COLOUR)), colorize(page, COLOUR)
    inside = pixels(placed(Image.new("RGB", SHEET.size)).filter(ImageFilter.MaxFilter(9))).max(2) == 0
    white = inside & (pixels(placed(SHEET)).min(2) > 250)
    paint = white & (pixels(right).min(2) < 235)
    assert apart(result, right)[paint].mean() < 12 and apart(result, right)[white & ~paint].mean() < 3
    assert bool(said) == bool(result.info["notes"]) and said in str(result.info["notes"])
    if said: assert "--no-clean" in result.info["notes"][-1]
    assert len(result.info["notes"]) == bool(said)


def test_floor_walls_and_frames_are_seen_without_and_stay():
    "The ink beyond straight lines stays in the result; the figure is coloured as without them."
    plain = on_sheet(LINE, (400, 400), (80, 90))
    room, phone = plain.copy(), on_sheet(LINE, (400, 680), (80, 210))
    pen = ImageDraw.Draw(room)
    for line in ((0, 365, 399, 365), (30, 0, 30, 365), (370, 0, 370, 365)): pen.line(line, "black", 3)
    pen.ellipse((180, 372, 220, 392), None, "black", 3)
    pen = ImageDraw.Draw(phone)
    pen.rounded_rectangle((24, 16, 376, 664), 36, None, "black", 5)
    pen.rectangle((40, 72, 360, 592), None, "black", 3)
    pen.ellipse((184, 604, 216, 636), None, "black", 3)
    right = crop_of(colorize(plain, COLOUR), (80, 90))
    for drawn, at in ((room, (80, 90)), (phone, (80, 210))):
        result = colorize(drawn, COLOUR)
        assert apart(crop_of(result, at), right).mean() < 3
        assert (pixels(result)[pixels(drawn).max(2) == 0] < 60).all()          # no line is erased
        assert ["stays without colour" in note for note in result.info["notes"]] == [True]


def straight_drawings():
    "Straight lines that belong to what is drawn."
    def drawn(*shapes):
        image = Image.new("L", (400, 400), 255)
        for kind, *where in shapes: getattr(ImageDraw.Draw(image), kind)(*where)
        return image
    box = lambda *v: ("rectangle", v, None, 0, 4)
    line = lambda *v: ("line", v, 0, 4)
    face = "ellipse", (120, 60, 280, 360), None, 0, 4
    yield "phone", drawn(box(110, 20, 290, 380), box(125, 60, 275, 330), box(180, 345, 220, 365))
    yield "house", drawn(box(90, 190, 310, 360), line(60, 200, 200, 60, 340, 200), box(180, 280, 220, 360), line(0, 360, 400, 360))
    yield "horizon", drawn(line(0, 250, 400, 245), ("ellipse", (150, 100, 250, 330), None, 0, 4))
    yield "striped shirt", drawn(("ellipse", (140, 20, 260, 160), None, 0, 4), box(90, 160, 310, 400), *(line(90, y, 310, y) for y in range(185, 400, 25)))
    yield "window", drawn(box(80, 80, 320, 320), line(80, 200, 320, 200), line(200, 80, 200, 320))
    yield "black hair", drawn(("ellipse", (-40, 20, 440, 700), 0), ("ellipse", (100, 150, 300, 420), 255, 0, 4))
    yield "fence", drawn(face, *(line(0, y, 400, y) for y in (80, 160, 240, 320)))
    yield "shelves", drawn(face, *(line(0, y, 400, y) for y in (75, 100, 150, 165, 250, 262, 330)))
    yield "blinds", drawn(face, *(line(0, y, 220, y) for y in range(40, 400, 40)))
    yield "wall", drawn(face, line(20, 0, 20, 400))
    for name, *posts in (("door post", 40, 46, 60, 66), ("tree", 40, 110), ("black edge", 2, 17)):
        yield name, drawn(face, *(("rectangle", (*at, 400), 0) for at in zip(posts[::2], (0, 0), posts[1::2])))
    yield "black band", drawn(("rectangle", (0, 0, 400, 90), 0), ("ellipse", (100, 150, 300, 380), 255, 0, 4))


def test_what_is_drawn_is_neither_ruling_nor_a_page():
    from refcolor.surroundings import page_alone
    from refcolor.show import to_image
    for name, image in straight_drawings():
        result, note = page_alone(image)
        assert (name, note) == (name, "") and not apart(result, image).any()
    for name in ("avatars", "openmoji"):                  # emoji have straight lines and frames
        sketches = open_dataset(name, split="test", size=128, n=16).batch(range(16)).sketch
        assert not any(page_alone(to_image(s))[1] for s in sketches), name


def over_pencil(page, colour, width=2):
    "The page's ink over a circle, a cross and guides."
    pencil = Image.new("RGB", page.size, "white")
    pen, (w, h) = ImageDraw.Draw(pencil), page.size
    pen.ellipse((w // 5, h // 12, w * 4 // 5, h * 2 // 3), None, colour, width)
    for k in (2, 3, 4): pen.line((0, h * k // 6, w, h * k // 6 + 9), colour, width), pen.line((w * k // 6, 0, w * k // 6 - 9, h), colour, width)
    return ImageChops.multiply(pencil, page)


@pytest.mark.parametrize("colour", [(140, 190, 255), (255, 150, 150), (150, 230, 160)], ids=["blue", "red", "green"])
@pytest.mark.parametrize("size", [240, 1200])
def test_construction_lines_are_no_ink(colour, size):
    page = figure(size=size)
    lines = lines_of(over_pencil(page, colour, size // 120))
    assert [n.split(": ", 1)[1] for n in notes_of(lines)] == ["pale coloured lines under the ink are taken away; --no-clean keeps them"]
    assert apart(lines, page).mean() < 0.5
    large, smooth = figure(size=2 * size), lambda picture: picture.resize((size, size), Image.Resampling.LANCZOS)
    lines = np.asarray(lines_of(smooth(over_pencil(large, colour, size // 60))))
    assert (lines[pixels(smooth(large)).min(2) == 255] > 240).mean() > 0.998, "no soft edge of them is left"
    kept = lines_of(over_pencil(page, colour, size // 120), clean=False)
    assert apart(kept, page).mean() > 0.9 and not any("pale" in n for n in notes_of(kept))


def test_coloured_ink_pastel_areas_and_cream_paper_are_no_construction():
    "Blue lines alone are the drawing, as strong colours and a few pale strokes are."
    from refcolor.surroundings import without_pencil
    blush = LINE.copy()
    for x in (90, 96): ImageDraw.Draw(blush).line((x, 120, x - 4, 126), (255, 150, 150), 2)
    pastel = figure(("white", (255, 190, 200), "white"))
    cream = Image.composite(Image.new("RGB", LINE.size, (255, 245, 200)), LINE, LINE.convert("1"))
    cheeks = LINE.copy()
    for x in (86, 130): ImageDraw.Draw(cheeks).ellipse((x, 115, x + 24, 139), (255, 190, 200))
    eyes = figure(ink=(140, 190, 255))
    for x in (104, 136): ImageDraw.Draw(eyes).ellipse((x - 5, 100, x + 5, 110), "black")
    for picture in (cheeks, eyes, figure(ink=(140, 190, 255)), over_pencil(LINE, (220, 40, 40)), over_pencil(LINE, (170, 170, 170)), blush, over_pencil(pastel, (140, 190, 255)), cream, LINE, COLOUR):
        assert without_pencil(picture) is None


def test_a_margin_is_ruled_across_the_lines_of_a_large_page():
    page = Image.new("L", (1500, 1500), 255)
    for y in range(60, 1500, 70): ImageDraw.Draw(page).line((0, y - 30, 1500, y + 30), 180, 3)
    ImageDraw.Draw(page).line((230, 0, 170, 1500), 180, 3)
    ImageDraw.Draw(page).ellipse((500, 300, 1000, 1200), None, 0, 9)
    from refcolor.surroundings import page_alone
    result, note = page_alone(page)
    assert "ruled" in note and np.asarray(result)[:, :450].min() == 255 and np.asarray(result).min() == 0


@pytest.mark.parametrize("broken, desk_ends, said", [(0.35, 378, "around the page is left out"), (0, 400, "left out; what is drawn beyond"), (0.35, 0, "stays without colour")], ids=["page", "page with a floor", "frame"])
def test_edges_may_be_broken_and_be_of_two_kinds(broken, desk_ends, said):
    "Four lines askew, one of them with a gap; on a desk, on one that ends at the sheet's lower border, on one sheet of paper."
    from refcolor.surroundings import page_alone
    desk, lines = Image.new("L", (400, 400), 180 if desk_ends else 255), Image.new("L", (400, 400), 255)
    ImageDraw.Draw(desk).polygon((20, 14, 384, 24, 376, max(desk_ends, 386), 12, desk_ends), 255)
    pen = ImageDraw.Draw(lines)
    pen.ellipse((120, 60, 280, 360), None, 0, 4)
    alone = lines.copy()
    pen.line((20, 14, 384, 24, 376, 386, 12, 378), 90, 2)
    pen.line((12, 378, 20 - 8 * broken, 14 + 364 * broken), 90, 2)
    result, note = page_alone(lines, desk)
    assert said in note and np.abs(np.subtract(result.info.get("seen", result), alone, dtype=float)).mean() < 0.1
    floor = np.abs(np.subtract(result, alone, dtype=float))[370:].mean()       # what is drawn stays
    assert (floor > 1) == ("drawn" in note)
    if "left out" in note: assert not np.abs(np.subtract(result, alone, dtype=float))[:370].any()


def on_ground(ground, reference=COLOUR):
    "A reference whose paper is another picture, or a colour."
    outside = LINE.convert("L").point([255 * (v > 200) for v in range(256)]).copy()
    for corner in ((0, 0), (239, 0)): ImageDraw.floodfill(outside, corner, 128)
    ground = ground if isinstance(ground, Image.Image) else Image.new("RGB", (240, 240), ground)
    return Image.composite(ground.convert("RGB").resize((240, 240)), reference, outside.point([255 * (v == 128) for v in range(256)]))


def grain(level, spread): return Image.fromarray(np.random.default_rng(0).normal(level, spread, (240, 240, 3)).clip(0, 255).astype(np.uint8))


RAMP = Image.linear_gradient("L").point([60 + v // 2 for v in range(256)])
STRIPES = Image.fromarray(np.where(np.add.outer(np.arange(240), np.arange(240))[..., None] % 40 < 20, (250, 220, 120), (200, 90, 120)).astype(np.uint8))
WHITE_PAPER = "its background is taken for white paper; --no-clean keeps it"


@pytest.mark.parametrize("ground", ["grey", "red", (150, 200, 250), (16, 14, 18), (236, 232, 225), (240, 200, 170), RAMP, RAMP.rotate(90), grain(60, 8)],
                         ids=["grey", "red", "sky", "near black", "yellowed", "as skin", "shade", "sideways", "grain"])
def test_a_reference_s_background_is_no_colour_of_its_figure(ground, tight):
    "As good as on white, however it lies on its sheet; with the background the error is some times as large."
    whole = on_ground(ground)
    around = np.median(pixels(whole)[:9].reshape(-1, 3), 0).astype(np.uint8).tolist()
    large, margin = on_sheet(whole, (900, 700), (500, 300), tuple(around)), on_sheet(whole, (340, 340), (50, 50))
    for reference in (whole, margin, *[large] * (not isinstance(ground, Image.Image))):
        result = colorize(LINE, reference)
        assert error(result) < 1.33 * tight + 2 and [n.split(": ", 1)[1] for n in result.info["notes"]] == [WHITE_PAPER]
        assert (pixels(result)[pixels(LINE).min(2) == 255][:300] == 255).all()


def test_without_clean_the_background_stays(tight):
    reference = on_ground("grey")
    assert not notes(LINE, reference, clean=False) and error(colorize(LINE, reference, clean=False)) > 2 * tight
    flat = pixels(colorize(LINE, reference, flat=True)).reshape(-1, 3)
    assert not (flat == 128).all(1).any(), "the palette is that of the figure"


def test_what_the_border_cuts_and_what_is_white_is_no_background():
    "Hair at the upper border, a shirt at the lower one; on white nothing changes, to the byte."
    from refcolor.surroundings import on_white
    from refcolor.show import to_image
    for name in ("avatars", "adventurer", "personas", "dylan"):
        for picture in map(to_image, open_dataset(name, split="test", size=128, n=24).batch(range(24)).image):
            assert on_white(picture) == (picture, ""), name
    white, red = (on_ground(c).crop((20, 40, 220, 230)) for c in ("white", "red"))      # hair reaches the border
    assert on_white(white) == (white, "")
    kept = on_white(red)[0]
    assert apart(kept, white).mean() < 1 and (pixels(kept)[0] == HAIR).all(1).sum() > 60
    close = Image.new("RGB", (240, 240), HAIR)                        # close up, white paper is seen below
    for shape, colour in (((50, 70, 190, 300), SKIN), ((-60, 190, 30, 300), "white"), ((210, 190, 300, 300), "white")): ImageDraw.Draw(close).ellipse(shape, colour, "black", 3)
    assert on_white(close) == (close, "")
    twice = on_white(kept)
    assert twice == (kept, ""), "what was done is not done again"


def on_card(picture, radius, colour, scale=1.):
    "Its figure, perhaps smaller, on a card with round corners, or a disc; white around."
    light = picture.convert("L").point([255 * (v > 250) for v in range(256)]).copy()
    ImageDraw.floodfill(light, (0, 0), 128)
    cut, size = light.point([255 * (v != 128) for v in range(256)]), round(scale * picture.width)
    card, shape = Image.new("RGB", picture.size, colour), Image.new("L", picture.size)
    card.paste(picture.resize((size, size)), ((picture.width - size) // 2, (picture.height - size) // 2), cut.resize((size, size)))
    ImageDraw.Draw(shape).rounded_rectangle((9, 9, 230, 230), radius, 255)
    return Image.composite(card, Image.new("RGB", picture.size, "white"), shape)


@pytest.mark.parametrize("radius, colour", [(18, (150, 200, 250)), (60, (40, 40, 60)), (111, (225, 235, 245)), (111, (200, 60, 60))], ids=["card", "night", "pale disc", "red disc"])
def test_a_disc_or_card_behind_a_figure_is_no_colour_of_it(radius, colour, tight):
    for scale in (1., 0.6):
        card = on_card(COLOUR, radius, colour, scale)
        on_grey = Image.composite(card, Image.new("RGB", card.size, "grey"), on_card(Image.new("RGB", card.size, "white"), radius, "black").convert("L").point([255 * (v < 128) for v in range(256)]))
        for reference in (card, on_sheet(card, (700, 500), (300, 100)), on_grey):
            result = colorize(LINE, reference)
            said = "its background is taken for white paper; " * (reference is on_grey) + "what its figure stands on is taken for white paper; --no-clean keeps it"
            assert [n.split(": ", 1)[1] for n in result.info["notes"]] == [said] and error(result) < 1.5 * tight + 2


def test_of_a_card_nothing_is_left_however_small_it_is_and_wide_the_figure():
    "No rim of its colour; on a sheet of 3,000 pixels; behind a coat that covers its lower half."
    from refcolor.surroundings import on_white
    disc = on_card(COLOUR, 111, (150, 200, 250))
    for picture in (disc, on_sheet(disc, (3000, 3000), (1400, 200)), on_card(coat(100), 111, (150, 200, 250))):
        white, note = on_white(picture)
        left, was = ((apart(p, Image.new("RGB", picture.size, (150, 200, 250))).max(2) < 40).sum() for p in (white, picture))
        assert "stands on" in note and left < 0.01 * was


def with_header(picture):
    screen = Image.new("RGB", (240, 400), "white")
    screen.paste("navy", (0, 0, 240, 50))
    ImageDraw.Draw(screen).text((9, 12), "Profile   Edit", "white", font_size=22)
    screen.paste(picture, (0, 90))
    return screen


@pytest.mark.parametrize("reference", [ImageOps.expand(COLOUR, (0, 50), "black"), ImageOps.expand(COLOUR, (40, 0), (30, 30, 30)), with_header(COLOUR),
                                       ImageOps.expand(COLOUR, (0, 0, 0, 40), "hotpink")], ids=["letterbox", "pillars", "screen", "below"])
def test_bars_beside_a_reference_are_no_colour_of_its_figure(reference, tight):
    result = colorize(LINE, reference)
    assert [n.split(": ", 1)[1] for n in result.info["notes"]] == ["bars along its border are taken for white paper; --no-clean keeps it"]
    assert error(result) < 1.33 * tight + 2


def test_stripes_of_a_flag_and_a_wide_shirt_are_no_bars():
    from refcolor.surroundings import on_white
    flag = Image.new("RGB", (240, 150), "red")
    flag.paste("white", (0, 50, 240, 100))
    german, sign, band = flag.copy(), COLOUR.copy(), COLOUR.copy()
    for k, c in enumerate(("black", "red", "gold")): german.paste(c, (0, 50 * k, 240, 50 * k + 50))
    sign.paste("teal", (20, 0, 220, 24)), band.paste("teal", (0, 40, 240, 60))           # not from side to side; something is above
    for picture in (flag, german, sign, band, COLOUR.crop((60, 0, 180, 240)), coat(50), on_sheet(flag, (400, 400), (80, 120))): assert "bars" not in on_white(picture)[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 3), (9, 9), (9, 300), (33, 33)])
def test_small_and_narrow_references_are_looked_at_too(size):
    "Three stripes either way, which in nine pixels met each other."
    from refcolor.surroundings import on_white
    stripes = np.full((size[1], size[0], 3), 255, np.uint8)
    for cut in (np.s_[:size[1] // 3], np.s_[-(size[1] // 3 or 1):], np.s_[:, :size[0] // 3], np.s_[:, -(size[0] // 3 or 1):]):
        striped = stripes.copy()
        striped[cut] = 0, 0, 200
        assert on_white(Image.fromarray(striped))[0].size == size
    stripes[:size[1] // 3], stripes[-(size[1] // 3 or 1):] = (0, 0, 200), (0, 0, 200)
    assert on_white(Image.fromarray(stripes))[0].size == size


def test_a_round_face_a_badge_and_a_ring_are_no_card():
    "Nor is what has an outline, or no figure on it."
    from refcolor.surroundings import on_white
    disc = "ellipse", (20, 20, 220, 220)
    eyes = [("ellipse", (x, 80, x + 24, 116), "black") for x in (70, 146)] + [("arc", (60, 90, 180, 190), 20, 160, "black", 8)]
    outlined = shapes((240, 240), (*disc, (150, 200, 250), "black", 10), ("ellipse", (70, 60, 170, 180), SKIN, "black", 3), mode="RGB")
    star = [(120 + r * np.cos(a), 120 + r * np.sin(a)) for a, r in zip(np.arange(10) * np.pi / 5, (110, 75) * 5)]
    star = shapes((240, 240), ("polygon", star, "gold"), ("ellipse", (80, 80, 160, 160), SKIN), mode="RGB")
    for picture in (star, shapes((240, 240), (*disc, "gold"), *eyes, mode="RGB"), shapes((240, 240), (*disc, "gold"), mode="RGB"), outlined,
                    shapes((240, 240), (*disc, None, "black", 24), ("rectangle", (100, 100, 140, 140), "black"), mode="RGB"), COLOUR):
        assert on_white(picture) == (picture, "")


def test_a_background_of_many_colours_is_said():
    patches = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)).resize((240, 240), 0)
    squares = np.add.outer(np.arange(240) // 8, np.arange(240) // 8) % 2
    squares = Image.fromarray(np.uint8(60 + 35 * squares)).convert("RGB")       # an editor's clear ground
    for ground in (STRIPES, patches, squares):
        said = notes(LINE, on_ground(ground))
        assert len(said) == 1 and "many colours around the figure" in said[0] and "cut it out" in said[0]
    assert not notes(LINE, COLOUR.crop((50, 20, 190, 240)))


def lower_strip(width):
    page = on_ground("grey")
    page.paste("white", (0, 240 - width, 240, 240))
    return page


def with_line(picture, line):
    picture = picture.copy()
    ImageDraw.Draw(picture).line(line, "black", 4)
    return picture


def with_sun(picture):
    picture = picture.copy()
    ImageDraw.Draw(picture).ellipse((-10, -10, 10, 10), "gold")
    return picture


@pytest.mark.parametrize("reference, at, colour", [
    (lower_strip(3), (5, 5), (255, 255, 255)), (with_line(on_ground("grey"), (0, 150, 60, 190)), (8, 200), (255, 255, 255)),
    (on_ground("red").crop((66, 34, 174, 170)), (1, 1), (255, 255, 255)), (with_sun(on_ground("grey")), (3, 3), (255, 215, 0))],
    ids=["scan's edge", "below an arm", "corners of a close-up", "a sun"])
def test_what_is_background_becomes_white(reference, at, colour):
    "White along the lower border is no paper, what an arm parts from the rest is background; a little in a corner is neither."
    from refcolor.surroundings import on_white
    kept = on_white(reference)[0]
    assert kept.getpixel(at) == colour and apart(kept, reference).mean() > 20


def coat(top):
    "A figure whose clothes fill the sheet from side to side."
    image = Image.new("RGB", (240, 240), "white")
    ImageDraw.Draw(image).polygon((-9, 260, -9, top, 70, top - 10, 170, top - 10, 250, top, 250, 260), SHIRT, "black", 3)
    ImageDraw.Draw(image).ellipse((90, 8, 150, 80), SKIN, "black", 3)
    return image


def test_clothes_up_to_the_border_and_a_sunset_stay():
    "Paper is judged by what is above; where all is background, nothing is."
    from refcolor.surroundings import on_white
    shade = Image.linear_gradient("L").resize((240, 240)).point([60 + v // 2 for v in range(256)])
    sunset = Image.merge("RGB", [shade, shade.rotate(90), Image.new("L", (240, 240), 200)])
    assert on_white(coat(50)) == (coat(50), "") and on_white(sunset)[0] == sunset


def test_paper_is_white_for_the_most_part():
    "Hair may reach the border; a ground that is white at one side alone is another colour."
    from refcolor.surroundings import is_on_white
    half = on_ground("grey")
    half.paste(COLOUR.crop((0, 0, 90, 240)), (0, 0))
    assert [is_on_white(p) for p in (COLOUR, COLOUR.crop((20, 40, 220, 230)), half, on_ground("grey"))] == [True, True, False, False]


def watermarked(page, level=190):
    text = Image.new("L", (900, 900), 255)
    for y in range(0, 900, 60): ImageDraw.Draw(text).text((10, y), "SAMPLE  stock  SAMPLE  stock  SAMPLE", fill=level, font_size=30)
    return ImageChops.multiply(page, text.rotate(30, fillcolor=255).crop((200, 200, 200 + page.width, 200 + page.height)).convert("RGB"))


def around_figure(page, pattern):
    "A drawn pattern up to the outlines, the figure is left out of it."
    outside = page.convert("L").point([255 * (v > 200) for v in range(256)]).copy()
    ImageDraw.floodfill(outside, (0, 0), 128)
    return Image.composite(ImageChops.multiply(page, pattern.convert("RGB")), page, outside.point([255 * (v == 128) for v in range(256)]))


def patterns(size=440):
    hatch, folds = (Image.new("L", (size, size), 255) for _ in range(2))
    for k in range(-size, size, 12): ImageDraw.Draw(hatch).line((k, 0, k + size, size), 0, 2)
    for v in (140, 300): ImageDraw.Draw(folds).line((0, v, size, v), 150, 3), ImageDraw.Draw(folds).line((v, 0, v, size), 150, 3)
    return hatch, folds


def test_colours_on_the_paper_are_said():
    "By the function, in flats, and on the page; whatever led the network astray."
    from refcolor.app.colouring import Colouring
    sheet = on_sheet(LINE, (440, 440), (100, 100))
    hatch, folds = patterns()
    pages = watermarked(sheet), around_figure(sheet, hatch), ImageChops.multiply(sheet, folds.convert("RGB"))
    for page in pages:
        for options in ({}, dict(flat=True)): assert sum("through the paper" in note for note in notes(page, **options)) == 1
    assert "through the paper" not in str(notes(pages[0], on_ground(STRIPES))), "the reference has them, too"
    seen = Colouring(load_generator(default_weights()))
    for role, picture in (("sketch", pages[0]), ("reference", COLOUR)): seen.receive({"kind": role, "name": f"{role}.png"}, [encoded(picture)])
    assert [note for note in seen.scene()["notes"] if "through the paper" in note][0].startswith("sketch.png: ")


def test_colours_on_the_paper_are_said_only_where_they_are():
    "Not of drawings as they should be, on a sheet or cut close, with gaps in their lines, cut off by the border, on a coloured background."
    from refcolor.show import to_image
    for name, n in (("avatars", 6), ("adventurer", 6), ("dylan", 6), ("miniavs", 6)):
        samples = open_dataset(name, split="test", size=256, n=24).batch(range(2 * n))
        for k in range(n):
            sketch, reference = to_image(samples.sketch[k]), to_image(samples.image[k + n])
            gaps = sketch.convert("RGB")
            at = np.argwhere(pixels(sketch).min(2) < 99)
            for y, x in at[np.random.default_rng(k).integers(0, len(at), 12)].tolist(): ImageDraw.Draw(gaps).ellipse((x - 4, y - 4, x + 4, y + 4), "white")
            for page in (sketch, gaps, on_sheet(sketch.convert("RGB"), (400, 400), (70, 60)), sketch.crop((0, 0, 180, 256))):
                assert "through the paper" not in str(notes(page, reference)), (name, k)


@pytest.mark.parametrize("name", ["avatars", "personas"])
def test_what_is_not_upright_is_said(name):
    "Of drawings in seven sets two thirds to all, of references a twelfth to all (upside down, 12 of each); of 224 clean pairs of seven artists it was said of two, of 60 of openmoji of 6."
    from refcolor.show import to_image
    samples = open_dataset(name, split="test", size=256, n=24).batch(range(8))
    pairs = [(to_image(samples.sketch[k]), to_image(samples.image[k + 4])) for k in range(4)]
    def said(turn_sketch, turn_reference): return [note for s, r in pairs for note in notes(s.rotate(turn_sketch), r.rotate(turn_reference)) if "fits" in note]
    assert not said(0, 0)
    for turn, how in ((180, "upside down"), (90, "turned a quarter to the right"), (-90, "turned a quarter to the left")):
        assert said(turn, 0) == [f"the drawing fits the reference better {how}; turn the one that is not upright"] * 4
    assert len(said(0, 180)) > 1 and set(said(0, 180)) == {"the reference fits the drawing better upside down; turn the one that is not upright"}


def test_black_areas_stay_black_in_a_shadow():
    from refcolor.colorize import ink_of
    dark = figure(("black", "white", "black"), size=480)
    for page in (dark, in_shade(dark, "edge"), in_shade(dark, "hand")):
        ink, black = np.asarray(ink_of(page)), pixels(dark).max(2) == 0
        assert (ink[black] < 20).mean() > .99 and (ink[pixels(dark).min(2) == 255] > 240).mean() > .99
    assert not apart(ink_of(dark), dark).any()


# ---- kind 2: light ink

CHALK = ImageOps.invert(LINE)
BOARD = Image.composite(Image.new("RGB", LINE.size, (225, 225, 210)), Image.new("RGB", LINE.size, (40, 85, 60)), CHALK.convert("L"))
ALPHA = CHALK.convert("L")


@pytest.mark.parametrize("light", [
    CHALK, CHALK.convert("1"), BOARD, on_sheet(CHALK, (900, 900), (600, 30), "black"),
    Image.merge("LA", [Image.new("L", LINE.size, 255), ALPHA]), Image.merge("RGBA", [*Image.new("RGB", LINE.size, (255, 250, 225)).split(), ALPHA]),
    figure(((90,) * 3, (40,) * 3, (150,) * 3), "black", "white"), CHALK.filter(ImageFilter.MaxFilter(9))],
    ids=["black", "1 bit", "blackboard", "small", "clear", "cream on clear", "grey tones", "thick chalk"])
def test_light_ink_is_dark_ink(light):
    read = read_sketch(light)
    said, grey = notes_of(read), np.asarray(read.convert("L"), int)
    assert len(said) == 1 and "light ink" in said[0]
    assert np.median(np.concatenate([grey[0], grey[-1]])) > 160 and grey.min() < 60
    assert notes_of(read_sketch(read)) == said and not apart(read_sketch(read), read).any()     # once, not back again


@pytest.mark.parametrize("dark", [
    LINE, COLOUR, with_frame(LINE, width=20), figure((HAIR, SKIN, SHIRT), "black"), figure(paper="black"),
    on_sheet(figure(paper="black"), (900, 900), (30, 500), "black"), Image.fromarray(np.uint8(30 + 60 * (pixels(LINE) > 99))),
    figure(("black", "white", "black"))],
    ids=["lines", "colours", "wide frame", "colours on black", "white figure on black", "the same, small", "underexposed", "black areas"])
def test_dark_ink_stays(dark):
    assert not on_dark_paper(dark) and not apart(read_sketch(dark), dark).any() and "light ink" not in str(notes_of(read_sketch(dark)))


@pytest.mark.parametrize("paper, ink", [((255,) * 3, (225,) * 3), ((250, 245, 235), (225, 220, 210)), ((200,) * 3, (180,) * 3), ((255, 255, 255), (255, 255, 215)), ((40,) * 3, (60,) * 3)],
                         ids=["pencil", "on cream", "on grey", "yellow", "grey on dark"])
def test_faint_lines_are_lines(paper, ink):
    "Stretched, said so, and coloured as strong ones; grain and a single fleck are no drawing."
    faint, rng = figure((paper,) * 3, paper, ink), np.random.default_rng(0)
    read = read_sketch(faint)
    assert len(notes_of(read)) == 1 and "faint" in notes_of(read)[0]
    assert apart(colorize(faint, COLOUR), colorize(LINE, COLOUR)).mean() < 8
    blank = Image.new("RGB", (240, 240), paper)
    blank.paste(ink, (50, 50, 52, 52))
    grainy = np.uint8((pixels(blank) + rng.integers(-6, 7, (240, 240, 1))).clip(0, 255))
    with pytest.raises(UserError, match="no drawing|nothing to colour"): read_sketch(Image.fromarray(grainy))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_scanner_leaves_some_of_16_bits_empty(bits, kind):
    data = encoded(Image.fromarray(np.uint16(pixels(LINE)[..., 0] * ((2 ** bits - 1) / 255))), kind)
    read = read_sketch(data)
    assert apart(read, LINE).max() <= 1 and f"of {bits} bits" in notes_of(read)[0]
    night = np.random.default_rng(0).integers(0, 2 ** bits // 4, (90, 90)).astype(np.uint16)
    night[0, 0] = 2 ** bits - 1                        # one hot pixel
    with pytest.raises(UserError, match="all dark"): read_sketch(encoded(Image.fromarray(night), kind))


def test_white_on_black_is_coloured_like_black_on_white():
    assert not apart(colorize(CHALK, COLOUR), colorize(LINE, COLOUR)).any()
    assert apart(colorize(CHALK, COLOUR, clean=False), colorize(LINE, COLOUR)).mean() > 50, "--no-clean takes it as it is"


@pytest.mark.parametrize("empty, why", [
    (Image.new("L", (90, 60), 0), "all dark, there is no drawing"), (Image.new("RGB", (90, 60), (20, 0, 30)), "all dark, there is no drawing"),
    (Image.fromarray(np.random.default_rng(0).integers(0, 12, (60, 90), np.uint8)), "all dark, there is no drawing"),
    (Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90), np.uint8)), "is noise"),
    (Image.new("L", (90, 60), 255), "blank, there is nothing"), (Image.new("RGBA", (90, 60), (9, 9, 9, 0)), "blank, there is nothing")])
@pytest.mark.parametrize("clean", [True, False])
def test_a_page_without_a_drawing_is_refused_for_the_true_reason(empty, why, clean):
    with pytest.raises(UserError, match=why): colorize(empty, COLOUR, clean=clean)


# ---- kind 3: what a file carries

def chunk(name, data): return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks, image=LINE, **options):
    "A PNG file with chunks before its pixels."
    data = encoded(image, **options)
    at = data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


def raw_png(depth, kind, rows, *chunks):
    "A PNG file of a bit depth that Pillow does not write."
    header = struct.pack(">IIBBBBB", 8 * len(rows[0]) // depth // {0: 1, 2: 3, 4: 2, 6: 4}[kind], len(rows), depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def grey(data): return np.asarray(read_picture(data).convert("L"))[0].tolist()


@pytest.mark.parametrize("depth, kind, row, clear", [
    (1, 0, b"\xf0", b"\0\1"), (2, 0, b"\xf0", b"\0\3"), (4, 0, b"\xf0", b"\0\x0f"), (8, 0, b"\xff\0", b"\0\xff"), (16, 0, b"\xff\xff\0\0", b"\xff\xff"),
    (8, 2, b"\xff" * 3 + b"\0" * 3, b"\0\xff" * 3), (16, 2, b"\xff" * 6 + b"\0" * 6, b"\xff" * 6), (8, 4, b"\x80\0\0\xff", b""),
    (16, 4, b"\x80\0\0\0\0\0\xff\xff", b""), (16, 6, b"\x80\0" * 3 + b"\0\0" + b"\0\0" * 3 + b"\xff\xff", b"")])
def test_transparency_of_any_depth_is_paper(depth, kind, row, clear):
    "The left half is clear, the right half black; as a sketch, with ink where the first is solid."
    n = 8 * len(row) // depth // {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    data = raw_png(depth, kind, [row], *([chunk(b"tRNS", clear)] if clear else []))
    assert grey(data) == [255] * (n // 2) + [0] * (n // 2)
    if clear and kind == 0:                        # and what is clear is found by its value: the black half
        assert grey(raw_png(depth, kind, [row], chunk(b"tRNS", b"\0\0"))) == [255] * n


def test_palettes_with_transparency():
    image = LINE.quantize(4)
    white = image.getpixel((0, 0))
    for clear in (white, bytes(0 if k == white else 255 for k in range(4))):
        assert not apart(read_picture(encoded(image, transparency=clear)), image).any()
    black = image.getpixel((104, 105))
    assert pixels(read_picture(encoded(image, transparency=black))).min() > 100


def test_a_png_file_says_how_bright_its_numbers_are():
    "Linear light (gAMA 1) as a viewer shows it; the usual number, none, a wild one, and that of a file that says sRGB change nothing."
    gamma = lambda v: chunk(b"gAMA", struct.pack(">I", v))
    linear = np.round((pixels(COLOUR) / 255) ** 2.2 * 255).astype(np.uint8)
    assert apart(read_picture(png(gamma(100000), image=Image.fromarray(linear))), COLOUR).max() <= 8
    for chunks in ([gamma(45455)], [gamma(1)], [gamma(0)], [chunk(b"sRGB", b"\0"), gamma(100000)]):
        assert not apart(read_picture(png(*chunks, image=COLOUR)), COLOUR).any()


def tiff(image, **tags): return encoded(image, "TIFF", tiffinfo={int(k[1:]): v for k, v in tags.items()})


RAMP = np.linspace(0, 1, 64)[None].repeat(4, 0)


@pytest.mark.parametrize("values", [
    np.uint16(RAMP * 65535), np.float32(RAMP), np.float32(RAMP * 255), np.float32(RAMP * 65535), np.int32(RAMP * 65535), np.int32(RAMP * 255),
    np.float32(RAMP * 1.02), np.float32(np.where(RAMP == 1, np.nan, RAMP)), np.float32(np.where(RAMP == 0, -np.inf, RAMP))],
    ids=["16 bit", "0..1", "0..255", "0..65535", "int", "int 0..255", "overshoot", "nan is paper", "-inf"])
@pytest.mark.parametrize("kind", ["TIFF", None])
def test_numbers_keep_their_range(values, kind):
    image = Image.fromarray(values)
    read = read_picture(encoded(image, kind) if kind else image)
    assert np.abs(pixels(read)[..., 0] - np.round(RAMP * 255)).max() <= (6 if values.max() == np.float32(1.02) else 1)


@pytest.mark.parametrize("values, said", [
    (RAMP * 2 - 1, "from -1 to 1, -1 is taken as black, 1 as white"), (RAMP * 255 - 128, "from -128 to 127, -128 is"), (RAMP * 4095, "from 0 to 4.1e+03, 0 is"),
    (RAMP * 2600 - 600, "from -600 to 2e+03, -600 is"), (RAMP * .01 - 40, ""), (RAMP * 60, "from 0 to 60, 0 is taken as black, 255 as white"),
    (RAMP * 1.6, "from 0 to 1.6, 0 is taken as black, 1.6 as white")],
    ids=["-1..1", "-128..127", "12 bit", "heights", "almost even", "dark", "more light than white"])
def test_other_ranges_are_taken_as_they_are_and_said(values, said):
    image = Image.fromarray(np.float32(values).repeat(20, 0).repeat(20, 1))
    for read in (read_picture(image), read_picture(encoded(image, "TIFF"))):
        dark = 60 / 255 if values.max() == 60 else 1
        assert np.abs(pixels(read)[0, ::20, 0] - RAMP[0] * 255 * dark).max() <= 1 if said else np.ptp(pixels(read)) < 4
        assert len(notes_of(read)) == 1 and "its values go " + said in notes_of(read)[0], notes_of(read)
    spoilt = np.float32(pixels(LINE)[..., 0] / 255)
    spoilt[5, 5:9], spoilt[7, 7] = 40, -30                            # hot pixels
    assert apart(read_sketch(Image.fromarray(spoilt)), LINE).mean() < .1 and not notes_of(read_sketch(Image.fromarray(spoilt)))
    lines = Image.fromarray(np.float32(pixels(LINE)[..., 0] / 127.5 - 1))
    assert not apart(colorize(lines, COLOUR), colorize(LINE, COLOUR)).any() and "from -1 to 1" in notes_of(read_sketch(lines))[0]


def test_a_dark_16_bit_picture_stays_dark():
    "Its range is 16 bits, whatever it holds."
    for data in (encoded(Image.fromarray(np.uint16(RAMP * 255))), encoded(Image.fromarray(np.uint16(RAMP * 255)), "TIFF")):
        assert max(grey(data)) == 1


def test_tiff_says_how_many_bits_and_which_is_white():
    sixteen = encoded(Image.fromarray(np.uint16(RAMP * 65535)), "TIFF")
    at = sixteen.index(struct.pack("<HHI", 262, 3, 1)) + 8
    turned = sixteen[:at] + struct.pack("<H", 0) + sixteen[at + 2:]
    assert grey(turned) == grey(sixteen)[::-1]
    values = np.uint16(RAMP * 4095)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in values.reshape(-1, 2).tolist())
    tags = [(256, 4, 64), (257, 4, 4), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 4), (279, 4, len(packed))]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags) + b"\0" * 4
    twelve = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + table
    assert np.abs(np.subtract(grey(twelve), grey(sixteen))).max() <= 1


def wide_profile():
    "An ICC profile whose primaries are much wider than sRGB's: those of the case files."
    xyz = lambda *v: b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(x * 65536)) for x in v)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
    tags = {b"rXYZ": xyz(.60974, .31111, .01947), b"gXYZ": xyz(.20528, .62567, .06087), b"bXYZ": xyz(.14919, .06322, .74457),
            b"wtpt": xyz(.9642, 1, .8249), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"cprt": b"text\0\0\0\0none\0\0\0\0",
            b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + b"\0" * 79}
    return profile_of(b"RGB ", b"mntr", tags)


def profile_of(space, device, tags):
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    table = struct.pack(">I", len(tags)) + table
    return (struct.pack(">I4s4s4s4s4s12s4s", 128 + len(table) + len(body), b"lcms", b"\x02\x10\0\0", device, space, b"XYZ ",
                        b"\x07\xe8\0\1\0\1\0\0\0\0\0\0", b"acsp") + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061) + b"\0" * 48 + table + body)


WIDE = wide_profile()


def in_space(image, profile, mode="RGB"):
    return ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), outputMode=mode)


@pytest.mark.parametrize("kind, options, most", [("PNG", {}, 2), ("JPEG", dict(quality=100, subsampling=0), 8), ("TIFF", {}, 2),
                                                 ("WEBP", dict(lossless=True), 2)])
def test_a_colour_profile_is_obeyed(kind, options, most, tmp_path):
    wide = in_space(COLOUR, WIDE)
    data = encoded(wide, kind, icc_profile=WIDE, **options)
    assert apart(wide, COLOUR).max() > 25
    assert apart(read_picture(data), COLOUR).max() <= most
    (tmp_path / "x").write_bytes(data)
    for source in (tmp_path / "x", Image.open(tmp_path / "x")): assert apart(read_picture(source), COLOUR).max() <= most
    if kind == "JPEG":                                   # as training reads it, at a half: the same space
        half = read_picture(data, enough=(120, 120))
        assert half.size == (120, 120) and apart(half, COLOUR.resize((120, 120), Image.Resampling.BOX)).mean() < 4


def test_a_profile_beside_transparency_palette_and_grey():
    wide = in_space(COLOUR, WIDE)
    clear = wide.copy(); clear.putalpha(Image.new("L", wide.size, 255)); clear.paste((0, 0, 0, 0), (0, 0, 240, 20))
    assert apart(read_picture(encoded(clear, icc_profile=WIDE)), COLOUR).max() <= 2
    palette = wide.quantize(16, dither=0)
    assert apart(read_picture(encoded(palette, icc_profile=WIDE)), COLOUR).max() <= 3
    # grey of gamma 1.0: its middle is bright
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + b"\0\0"
    grey_profile = profile_of(b"GRAY", b"mntr", {b"kTRC": curve, b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)})
    middle = Image.new("L", (4, 4), 128)
    for image in (middle, Image.merge("LA", [middle, Image.new("L", (4, 4), 255)])):
        assert 180 < grey(encoded(image, icc_profile=grey_profile))[0] < 195
    for wrong in (WIDE, b"", b"rubbish", WIDE[:200]):            # of another mode, or none: the pixels as they are
        assert grey(encoded(middle, icc_profile=wrong)) == [128] * 4


# published matrices: from sRGB in linear light
TO_P3 = [[.8224621, .1775380, 0], [.0331941, .9668058, 0], [.0170827, .0723974, .9105199]]
TO_2020 = [[.6274039, .3292830, .0433131], [.0690973, .9195404, .0113623], [.0163914, .0880133, .8955953]]
TO_ADOBE = [[.7151256, .2848744, 0], [0, 1, 0], [0, .0411619, .9588381]]


def encoded_in(matrix, curve, image=COLOUR):
    v = pixels(image) / 255
    light = np.where(v > .04045, ((v + .055) / 1.055) ** 2.4, v / 12.92) @ np.transpose(matrix)
    return Image.fromarray(np.uint8(np.round(curve(light.clip(0, 1)) * 255)))


def srgb_curve(v): return np.where(v > .0031308, 1.055 * v ** (1 / 2.4) - .055, 12.92 * v)
def bt709_curve(v): return np.where(v > .018, 1.099 * v ** .45 - .099, 4.5 * v)
def power(g): return lambda v: v ** (1 / g)
def cicp(*code): return chunk(b"cICP", bytes(code))
def chrm(*xy): return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100000) for v in xy)))
def gama(v): return chunk(b"gAMA", struct.pack(">I", v))
P3_CHRM, ADOBE_CHRM = (chrm(.3127, .329, *xy) for xy in ((.68, .32, .265, .69, .15, .06), (.64, .33, .21, .71, .15, .06)))


@pytest.mark.parametrize("chunks, matrix, curve", [
    ([cicp(12, 13, 0, 1)], TO_P3, srgb_curve), ([cicp(9, 13, 0, 1)], TO_2020, srgb_curve), ([cicp(9, 1, 0, 1)], TO_2020, bt709_curve),
    ([P3_CHRM], TO_P3, srgb_curve), ([ADOBE_CHRM, gama(45455)], TO_ADOBE, power(2.2)), ([P3_CHRM, gama(55556)], TO_P3, power(1.8)),
    ([cicp(12, 13, 0, 1), chunk(b"sRGB", b"\0")], TO_P3, srgb_curve), ([cicp(12, 13, 0, 1), ADOBE_CHRM, gama(100000)], TO_P3, srgb_curve)],
    ids=["P3", "2020", "2020 video", "cHRM", "Adobe", "gamma 1.8", "before sRGB", "before cHRM"])
def test_a_png_file_names_its_primaries(chunks, matrix, curve, tmp_path):
    "From bytes, a path, an open image; what is clear stays clear."
    wide, path = encoded_in(matrix, curve), tmp_path / "wide.png"
    path.write_bytes(data := png(*chunks, image=wide))
    assert apart(wide, COLOUR).max() > 9
    for source in (data, path, Image.open(path)):
        assert apart(read_picture(source), COLOUR).max() <= 3 and not notes_of(read_picture(source))
    wide.putalpha(Image.new("L", wide.size)), path.write_bytes(png(*chunks, image=wide))
    assert pixels(read_picture(path)).min() == 255


def test_what_a_tiff_or_avif_file_says_of_its_colours(tmp_path):
    "TIFF's own tags; AVIF's code points, unless a profile says more."
    p3 = encoded_in(TO_P3, srgb_curve)
    p3.save(tmp_path / "p3.tif", tiffinfo={318: (.3127, .329), 319: (.68, .32, .265, .69, .15, .06)})
    assert apart(p3, COLOUR).max() > 9 and apart(read_picture(tmp_path / "p3.tif"), COLOUR).max() <= 3
    p3.save(tmp_path / "of.tif", tiffinfo={319: (0., 0.)})                       # too few
    assert not apart(read_picture(tmp_path / "of.tif"), p3).any()
    if not features.check("avif"): return
    for profile, most in ((None, 6), (WIDE, 255)):
        p3.save(tmp_path / "p3.avif", quality=100, subsampling="4:4:4", icc_profile=profile)
        data = (tmp_path / "p3.avif").read_bytes()
        assert b"colrnclx" in data
        at = data.index(b"colrnclx") + 8
        for path, code in ((tmp_path / "named.avif", (12, 13)), (tmp_path / "hdr.avif", (9, 16))):
            path.write_bytes(data[:at] + struct.pack(">HH", *code) + data[at + 4:])
        named, hdr = read_picture(tmp_path / "named.avif"), read_picture(tmp_path / "hdr.avif")
        assert apart(named, COLOUR).max() <= most and bool(notes_of(hdr)) == (profile is None) and not notes_of(named)
        if profile: assert not apart(named, read_picture(tmp_path / "p3.avif")).any()


@pytest.mark.parametrize("more, said", [((), ["picture: its colour profile is damaged; its colours are taken as sRGB's"]), ([P3_CHRM], []), ([cicp(12, 13, 0, 1)], [])])
def test_a_damaged_profile_is_said_unless_something_else_names_the_colours(more, said):
    image = COLOUR if not more else encoded_in(TO_P3, srgb_curve)
    read = read_picture(png(*more, image=image, icc_profile=b"no profile at all"))
    assert notes_of(read) == said and apart(read, COLOUR).max() <= 3


def test_colours_are_named_by_a_png_file_whose_other_metadata_is_too_much(tmp_path):
    "Pillow reads no text of more than a megabyte; broken names of colours cost no pixel."
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 ** 21)))
    read = read_picture(png(text, cicp(12, 13, 0, 1), image=encoded_in(TO_P3, srgb_curve)))
    assert apart(read, COLOUR).max() <= 3 and len(notes_of(read)) == 1 and "or too much" in notes_of(read)[0]
    assert not apart(read_picture(png(text, chunk(b"gAMA", b"a"), image=COLOUR)), COLOUR).any()


@pytest.mark.parametrize("key", [(0x1234, 0xABCD, 0x8001), (0x1200, 0xAB00, 0x8000)])
def test_what_is_clear_in_sixteen_bits_is_clear(key):
    "A colour that stands for nothing."
    rows = np.full((40, 40, 3), 0x1111, ">u2")
    rows[:, :20] = key
    read = pixels(read_picture(raw_png(16, 2, [row.tobytes() for row in rows], chunk(b"tRNS", struct.pack(">3H", *key)))))
    assert (read[:, :20] == 255).all() and (read[:, 20:] == 0x11).all()


@pytest.mark.parametrize("code, said", [((9, 16, 0, 1), ["high dynamic range (PQ)"]), ((2, 18, 0, 1), ["high dynamic range (HLG)"]), ((22, 13, 0, 1), ["cICP 22 13 0 1"]),
                                        ((12, 13, 0, 0), ["cICP 12 13 0 0"]), ((1, 13, 0, 1), []), ((2, 2, 0, 1), [])])
def test_colours_that_are_not_converted_are_said(code, said):
    read = read_picture(png(cicp(*code), image=COLOUR))
    assert not apart(read, COLOUR).any() and len(notes_of(read)) == len(said)
    for words, note in zip(said, notes_of(read)): assert words in note and "taken as sRGB" in note
    beside = read_picture(png(cicp(*code), image=in_space(COLOUR, WIDE), icc_profile=WIDE))        # a profile knows more than a number that we do not
    assert not notes_of(beside) and (code[:2] == (1, 13) or apart(beside, COLOUR).max() <= 2)


@pytest.mark.parametrize("space, rule, kind", [(65535, "R03", "Adobe"), (None, "R03", "Adobe"), (2, None, "Adobe"), (65535, None, "said"), (65535, "R98", "as it is"),
                                               (1, "R03", "as it is"), (1, None, "as it is"), (None, None, "as it is")])
def test_a_camera_s_exif_names_adobe_s_colours(space, rule, kind):
    exif, adobe, good = Image.Exif(), in_space(COLOUR, WIDE), dict(quality=100, subsampling=0)
    own = exif.get_ifd(ExifTags.IFD.Exif)
    if space: own[ExifTags.Base.ColorSpace] = space
    if rule: own[ExifTags.IFD.Interop] = {ExifTags.Interop.InteropIndex: rule}
    read = read_picture(encoded(adobe, "JPEG", exif=exif, **good))
    assert (apart(read, COLOUR).max() <= 8) == (kind == "Adobe") and (apart(read, adobe).max() <= 8) == (kind != "Adobe")
    assert len(notes_of(read)) == (kind == "said") and all("nothing in it says whose" in note for note in notes_of(read))
    assert not notes_of(read_sketch(encoded(LINE, "JPEG", exif=exif, **good)))                 # its colours do not count
    with_profile = read_picture(encoded(adobe, "JPEG", exif=exif, icc_profile=WIDE, **good))
    assert apart(with_profile, COLOUR).max() <= 8 and not notes_of(with_profile)


def test_cmyk_as_photographers_send_it():
    "Without a profile as Pillow converts it; with one of another mode, too; and never inverted."
    cmyk = COLOUR.convert("CMYK")
    for options in ({}, {"icc_profile": WIDE}):
        assert apart(read_picture(encoded(cmyk, "JPEG", quality=100, subsampling=0, **options)), COLOUR).mean() < 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_a_turned_tiff_is_upright_however_it_comes(mode, tmp_path):
    "Pillow maps uncompressed ones from disk, with the sides of the upright picture."
    picture, path = COLOUR.crop((0, 0, 240, 150)).convert(mode), tmp_path / "turned.tif"
    for orientation, stored in ((6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)):
        picture.transpose(stored).save(path, tiffinfo={274: orientation})
        with Image.open(path) as opened:
            for source in (path, opened, path.read_bytes()):
                found = read_picture(source, "sketch")
                assert found.size == (240, 150)
                assert np.abs(np.asarray(found, int) - np.asarray(picture.convert("RGB"), int)).max() <= 2


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_is_upright(turn, kind, tmp_path):
    "Written as a camera held so writes it; read upright, at full size, by training, and if the EXIF is damaged elsewhere."
    backwards = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    upright = COLOUR.crop((0, 0, 240, 160))
    stored = upright.transpose(getattr(Image.Transpose, backwards[turn])) if turn > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    options = dict(quality=100, subsampling=0) if kind == "JPEG" else dict(lossless=True) if kind == "WEBP" else {}
    data = encoded(stored, kind, exif=exif, **options)
    assert read_picture(data).size == (240, 160) and apart(read_picture(data), upright).mean() < 2
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / f"a.{kind.lower()}").write_bytes(data)
    for split in ("train", "valid", "test"):
        with contextlib.suppress(UserError): image = open_dataset("folder", tmp_path / "set", split, 60, cache=False).batch([0]).image
    seen = Image.fromarray(np.uint8((image[0].permute(1, 2, 0).numpy() + 1) * 127.5)).crop((0, 10, 60, 50))
    assert apart(seen, upright.resize((60, 40), Image.Resampling.LANCZOS)).mean() < 6
    if kind == "JPEG":
        exif[ExifTags.Base.Artist] = "x" * 40
        whole = exif.tobytes()
        assert apart(read_picture(encoded(stored, kind, exif=whole[:-30], **options)), upright).mean() < 2      # cut in the name


@pytest.mark.parametrize("broken", [
    [chunk(b"eXIf", b"\0\x08\0\x02\x01\x12")], [chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")], [chunk(b"iCCP", b"a\0\0rubbish")], [chunk(b"iCCP", b"a")],
    [chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x" * 5_000_000))], [chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 3_000_000))],
    [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" * 1_000_000))], [chunk(b"tEXt", b"a\0b")[:-1] + b"!"], [chunk(b"pHYs", b"a")],
    [chunk(b"gAMA", b"a")], [chunk(b"sRGB", b"")], [chunk(b"cHRM", b"abc")], [chunk(b"cHRM", bytes(32))], [chunk(b"cHRM", struct.pack(">8I", *[31270, 32900] * 4))], [chunk(b"cHRM", b"\xff" * 32)],
    [chunk(b"cICP", b"\x0c\x0d")], [chunk(b"cICP", b"\x0c\x0d\0\1")[:-1] + b"!"], [chunk(b"acTL", b"ab")], [chunk(b"tIME", b""), chunk(b"xxXx", b"1")]],
    ids=lambda c: c[0][4:8].decode())
def test_broken_metadata_never_costs_good_pixels(broken, tmp_path):
    data = png(*broken)
    (tmp_path / "x.png").write_bytes(data)
    for source in (data, tmp_path / "x.png"): assert not apart(read_sketch(source), LINE).any()


def test_broken_pixels_are_not_good_ones():
    data = png(chunk(b"iCCP", b"a"))
    for bad in (data[:-400], data.replace(b"IDAT", b"IDAX"), b"\x89PNG\r\n\x1a\n" + data[8:40]):
        with pytest.raises(UserError, match="cannot read"): read_picture(bad)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_any_byte_of_the_metadata_may_be_wrong(kind):
    "Profile and EXIF, fifty times six bytes of either: a picture of the right size each time, and mostly the right one."
    exif, good = Image.Exif(), dict(JPEG=dict(quality=95), WEBP=dict(lossless=True)).get(kind, {})
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 1, "somebody"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data, rng, same = encoded(COLOUR, kind, exif=exif, icc_profile=profile, **good), np.random.default_rng(0), 0
    blocks = {"JPEG": [profile, exif.tobytes()], "PNG": [exif.tobytes()[6:]], "WEBP": [profile, exif.tobytes()[6:]], "TIFF": [profile]}[kind]
    for _ in range(50):
        broken = bytearray(data)
        for block in blocks:
            at = data.index(block)
            for k in rng.integers(0, len(block), 6): broken[at + k] = rng.integers(256)
        read = read_picture(bytes(broken))
        assert read.size in ((240, 240),)
        same += apart(read, COLOUR).mean() < 3
    assert same > 25


def test_frames_are_counted(tmp_path):
    frames = [LINE, LINE.transpose(Image.Transpose.FLIP_LEFT_RIGHT), LINE.rotate(9, fillcolor="white")]
    for kind, options in (("GIF", {}), ("WEBP", dict(lossless=True)), ("PNG", {}), ("TIFF", {})):
        path = tmp_path / f"film.{kind.lower()}"
        path.write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        for source in (path, path.read_bytes(), Image.open(path)):
            read = read_sketch(source)
            assert not apart(read, LINE).any() and [n for n in notes_of(read) if "1 of 3 is taken" in n], kind
        opened = Image.open(path)
        opened.seek(1)                                     # who opens it may choose
        assert not apart(read_sketch(opened), frames[1]).any() and not notes_of(read_sketch(opened)) and opened.tell() == 1
        cut = path.read_bytes()[:-60]                      # the last frame is damaged: the first is not
        with contextlib.suppress(UserError): assert not apart(read_sketch(cut), LINE).any()
    assert not notes_of(read_sketch(encoded(LINE))) and not notes_of(read_sketch(encoded(LINE, "GIF")))


def test_a_blank_page_is_not_the_drawing(tmp_path, capsys):
    "The first that is not empty, and said so; where all are empty, the error says how many there were."
    white, dark = (Image.new("RGB", LINE.size, shade) for shade in ("white", "black"))
    for kind, options in (("GIF", {}), ("WEBP", dict(lossless=True)), ("PNG", {}), ("TIFF", {})):
        frame = "page" if kind == "TIFF" else "frame"
        def film(*frames): return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        for frames, k in (((white, LINE, COLOUR), 2), ((white, dark, LINE), 3)):
            read = read_sketch(film(*frames))
            assert not apart(read, LINE).any() and notes_of(read) == [f"sketch: {frame} {k} of 3 is taken, what is before it is blank"], kind
        if kind in ("GIF", "TIFF"):
            assert not apart(read_reference(film(white, COLOUR)), COLOUR.quantize(255) if kind == "GIF" else COLOUR).any()
        speck = white.copy(); speck.putpixel((3, 3), (250, 250, 250))               # or equal frames become one
        with pytest.raises(UserError, match=rf"is blank, .* \({frame} 1 of 2 is taken\)$"): read_sketch(film(white, speck))
        with contextlib.suppress(UserError): assert not apart(read_sketch(film(white, LINE)[:-60]), LINE).any()       # the second is cut


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_that_is_cut_is_said_to_be_so(kind, tmp_path):
    data = encoded(COLOUR, kind)
    for share in (0.2, 0.5, 0.9):
        (tmp_path / "cut.x").write_bytes(data[:int(len(data) * share)])
        for source in (tmp_path / "cut.x", (tmp_path / "cut.x").read_bytes()):
            with pytest.raises(UserError, match="ends too early.*; get it again$"): read_picture(source)
    (tmp_path / "cut.x").write_bytes(b"")
    with pytest.raises(UserError, match="cut.x: it is empty; get it again$"): read_picture(tmp_path / "cut.x")


def test_a_preview_is_not_the_picture(tmp_path):
    small = COLOUR.resize((60, 60))
    for kind in ("TIFF", "MPO"):
        options = dict(quality=95) if kind == "MPO" else {}
        first = encoded(small, kind, save_all=True, append_images=[COLOUR], **options)
        last = encoded(COLOUR, kind, save_all=True, append_images=[small], **options)
        both = encoded(COLOUR, kind, save_all=True, append_images=[LINE], **options)
        for data in (first, last, both):
            assert read_picture(data).size == (240, 240) and apart(read_picture(data), COLOUR).mean() < 3
        assert [n[-18:] for n in notes_of(read_picture(first))] == ["page 2 of 2 is taken"[-18:]]
        assert not notes_of(read_picture(last)) and "page 1 of 2" in notes_of(read_picture(both))[0]
    opened = Image.open(io.BytesIO(encoded(small, "TIFF", save_all=True, append_images=[COLOUR])))
    assert read_picture(opened).size == (240, 240) and opened.tell() == 0                # left as it was


def test_what_is_not_read_is_named():
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200
    for brand, why in ((b"heic", "HEIC is"), (b"mif1", "HEIC is"), (b"avif", "AVIF is"), (b"isom", "a film"), (b"qt  ", "a film"), (b"crx ", "a raw photograph")):
        with pytest.raises(UserError, match=f"a.heic: .*{why}.* not read here; give"): read_picture(heic.replace(b"heic", brand), name="a.heic")


@pytest.mark.parametrize("name, way", [("https://example.org/a.png", "save the picture, and name its file"), ("*.png", "a pattern is none, name a file, or the files' folder"),
                                       ("a[0-9].png", "a pattern is none, name a file, or the files' folder"), ("a.png", ""), ("c:/a.png", "")])
def test_a_file_that_is_not_there_is_told_what_was_meant(tmp_path, name, way):
    for read in (read_sketch, read_reference, read_picture):
        for source in (name, Path(name)):
            with pytest.raises(UserError) as e: read(source)
            assert "no such file: " in str(e.value) and str(e.value).endswith(way or ".png"), e.value


# ---- the same everywhere: the command, training, evaluation

def run(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()): code = main([*map(str, arguments)])
    return code, said.getvalue()


@pytest.mark.parametrize("name, image, options, words", [
    ("white_on_black.png", CHALK, {}, "light ink on dark paper"),
    ("white_on_clear.png", Image.merge("LA", [Image.new("L", LINE.size, 255), ALPHA]), {}, "light ink on transparency"),
    ("three_frames.gif", LINE, dict(save_all=True, append_images=[CHALK, COLOUR]), "frame 1 of 3 is taken"),
    ("colours.png", COLOUR, {}, "--extract")])
def test_the_command_says_what_it_made_of_a_file(tmp_path, name, image, options, words):
    (tmp_path / name).write_bytes(encoded(image, name[-3:], **options))
    COLOUR.save(tmp_path / "reference.png")
    code, said = run("colorize", "--sketch", tmp_path / name, "--reference", tmp_path / "reference.png", "--out", tmp_path / "out.png")
    notes = [line for line in said.splitlines() if line.startswith("note: ")]
    assert code == 0 and len(notes) == 1 and name in notes[0] and words in notes[0], said
    if "colour" not in name: assert not apart(Image.open(tmp_path / "out.png"), colorize(LINE, COLOUR)).any()
    if "clear" in name: return                                   # as a picture it is blank
    code, said = run("colorize", "--sketch", tmp_path / name, "--reference", tmp_path / "reference.png", "--out", tmp_path / "more.png", "--extract")
    assert code == 0 and "light" not in said and "--extract" not in said

def test_a_name_is_shown_on_one_line_wherever_it_is(tmp_path, monkeypatch):
    "Line ends, colours of a terminal and what is no text are written as Python writes them; other letters stay."
    from refcolor.core import shown
    odd, written = "a\nb\r\x1b[31m\u2028\udcff é漢.png", "a\\nb\\r\\x1b[31m\\u2028\\udcff é漢.png"
    assert shown(odd) == written and shown(written) == written
    monkeypatch.chdir(tmp_path)
    bad, ok = "bad\nname.png", "two\nlines.png"
    Path("in").mkdir(), CHALK.save(f"in/{ok}"), Path(f"in/{bad}").write_text("x"), Path("in/no\npicture").touch(), COLOUR.save("colour.png")
    for words in (("--sketch", f"in/{ok}", "--out", "x\ny.png"), ("--sketch", f"in/{ok}", "--out", "x\ny.png"), ("--sketch", f"in/{bad}", "--out", "z.png"), ("--sketch", "no\nwhere.png", "--out", "z.png"),
                  ("--sketch", "in", "--out", "o\nut"), ("--sketch", f"in/{ok}", "--out", "z\n"), ("--sketch", f"in/{ok}", "--out", "z.png", "--weights", "no\nthing"), ("--sketch", f"in/{ok}/", "--out", "z.png")):
        code, said = run("colorize", "--reference", "colour.png", *words)
        assert all(line.startswith(("refcolor", "note: in/two\\nlines.png: ", "--sketch in: 1 left out", "wrote ")) for line in said.split("\n")[:-1]) and "\\n" in said, said
        assert (code == 0) == ("wrote x" in said) and "Traceback" not in said


def test_an_error_of_a_worker_process_is_its_last_line():
    text = "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\nrefcolor.core.UserError: picture: a\\nb is bad\n"
    assert str(UserError(text)) == "picture: a\\nb is bad" and str(UserError("a\nb")) == "a\\nb"


def test_a_folder_says_it_of_each_sketch_and_once_of_a_reference(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(3): (CHALK if k else LINE).save(tmp_path / f"in/{k}.png")
    (tmp_path / "film.gif").write_bytes(encoded(COLOUR, "GIF", save_all=True, append_images=[LINE]))
    code, said = run("colorize", "--sketch", tmp_path / "in", "--reference", tmp_path / "film.gif", "--out", tmp_path / "out")
    notes = [line.rpartition("/")[2] for line in said.splitlines() if line.startswith("note: ")]
    assert code == 0 and sorted(n.split(":")[0] for n in notes) == ["1.png", "2.png", "film.gif"], said
    many = Image.new("RGB", (480, 240), "white")
    for k, ground in enumerate((STRIPES, STRIPES)): many.paste(on_ground(ground), (240 * k, 0))
    many.save(tmp_path / "many.png")                                 # what changes nothing is said once, too
    code, said = run("colorize", "--sketch", tmp_path / "in", "--reference", tmp_path / "many.png", "--out", tmp_path / "out", "--force")
    assert code == 0 and said.count("many colours") == 1, said


def test_what_a_picture_cannot_be_is_refused_and_one_of_many_is_named(tmp_path):
    "Colour pictures as sketches, line art as truths, references or a training set: a note for one, an error for all."
    def folder(name, *pictures):
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures): picture.save(tmp_path / name / f"{k}.png")
        return tmp_path / name
    lines, colours, blanks = folder("l", *[LINE] * 12), folder("c", *[COLOUR] * 12), folder("b", *[Image.new("RGB", (64, 64), "white")] * 12)
    mixed, most = folder("m", COLOUR, *[LINE] * 11), folder("n", LINE, *[COLOUR] * 11)
    (lines / "colours").mkdir()
    judge = ["evaluate", "--distance", "none", "--weights", Path(refcolor.__file__).parent / "weights" / "tiny"]
    for option, words in {"--sketches": [*judge, "--sketches", colours, "--references", most], "--truths": [*judge, "--sketches", lines, "--truths", lines],
                          "--references": [*judge, "--sketches", lines, "--references", lines], f"--root {lines}": ["train", "--data", "folder", "--root", lines, "--out", tmp_path / "run"],
                          f"--root {blanks}": ["train", "--data", "folder", "--root", blanks, "--out", tmp_path / "run"]}.items():
        code, said = run(*words)
        assert code == 2 and len(said.splitlines()) == 1 and f"refcolor: {option}: none of " in said and "0.png: " in said, said
    assert not (tmp_path / "run").exists()
    for option, notes in (("--truths", ["m/0.png: dark or coloured areas", "n/0.png: black, white"]), ("--references", ["n/0.png: black, white"])):
        code, said = run(*judge, "--sketches", mixed, option, most)
        assert code == 0 and [said.count(note) for note in notes] == [1] * len(notes), said
    code, said = run("data", "show", "folder", "--root", blanks, "--out", tmp_path / "sheet.png")          # to be looked at
    assert code == 0 and "one colour only" in said and (tmp_path / "sheet.png").exists()


def test_training_and_evaluation_read_drawings_alike(tmp_path, capsys):
    "Light ink, clear or on black, and dark ink give one training set, and one table."
    kinds = {"dark": LINE, "black": CHALK, "clear": Image.merge("LA", [Image.new("L", LINE.size, 255), ALPHA])}
    sketches = []
    for kind, image in kinds.items():
        root = tmp_path / kind
        (root / "drawn").mkdir(parents=True)
        for k in range(3): COLOUR.save(root / f"{k}.png"); image.save(root / f"drawn/{k}.png")
        for split in ("train", "test", "valid"):
            with contextlib.suppress(UserError): trained = open_dataset("folder:drawn", root, split, 64, cache=False).batch([0]).sketch
        judged = FolderPairs([(root / "drawn/0.png", root / "0.png", None)], 64).batch([0]).sketch
        sketches.append((trained, judged))
    for trained, judged in sketches[1:]:
        assert (trained - sketches[0][0]).abs().max() < 0.02 and (judged - sketches[0][1]).abs().max() < 0.02
    said = capsys.readouterr().err
    assert said.count("light ink on dark paper") and said.count("light ink on transparency") and "dark/drawn" not in said


def test_a_dark_page_is_named_in_evaluation(tmp_path):
    for folder, image in (("s", LINE), ("r", COLOUR)):
        (tmp_path / folder).mkdir()
        for k in range(2): image.save(tmp_path / folder / f"{k}.png")
    for shade, why in ((0, "all dark"), (255, "blank")):
        Image.new("L", (240, 240), shade).save(tmp_path / "s/1.png")
        code, said = run("evaluate", "--sketches", tmp_path / "s", "--references", tmp_path / "r")
        assert code == 2 and "1.png" in said and why in said and "1 of 2" in said, said


def test_the_page_reads_as_the_command_does(tmp_path):
    "Uploads: light ink, frames, a small figure; the download is what the command writes."
    pytest.importorskip("anywidget")
    from refcolor.app.colouring import File, read_upload
    from refcolor.app.explorer import app, upload_choice
    page = app()
    sheet = on_sheet(CHALK, (500, 400), (200, 120), "black")
    for role, name, data in (("sketch", "chalk.png", encoded(sheet)), ("reference", "film.gif", encoded(COLOUR, "GIF", save_all=True, append_images=[LINE]))):
        page._on_upload(page.galleries[role], {"name": name}, [data])
        assert {"sketch": "chalk.png: light ink on dark paper", "reference": "film.gif: frame 1 of 2"}[role] in page.galleries[role].message
    right = colorize(ImageOps.invert(sheet), read_picture(encoded(COLOUR, "GIF")))
    assert page.result().size == (500, 400) and apart(page.result(), right).mean() < 0.5
    clear = encoded(Image.merge("LA", [Image.new("L", LINE.size, 255), ALPHA]))
    ours, theirs = (upload_choice(read_upload(File("a", d), "sketch"), "a", "sketch", 64).pixels for d in (clear, encoded(LINE)))
    assert (ours - theirs).abs().max() < 0.02


# ---- what the network can make nothing of: one note each, or one line

def notes(sketch, reference=COLOUR, **options):
    "What is said, without its subject."
    return [note.split(": ", 1)[1] for note in colorize(sketch, reference, **options).info["notes"]]


def test_a_strip_is_said():
    strip = LINE.resize((2400, 240)).crop((0, 60, 2400, 100))
    assert len(said := notes(strip)) == 1 and "a strip of" in said[0] and "×40 pixels" in said[0]
    assert "strip" in notes(LINE, strip.convert("RGB").crop((0, 0, 2400, 30)).transpose(Image.Transpose.ROTATE_90))[-1]
    assert not notes(on_sheet(LINE, (2400, 240), (1000, 0))) and not notes(LINE.crop((60, 0, 180, 240)))       # a wide sheet is no strip


def test_several_figures_are_said():
    two = on_sheet(LINE, (520, 240), (0, 0))
    two.paste(LINE, (270, 0))
    assert ["several figures" in n for n in notes(two) if "fits" not in n] == [True]
    mark = on_sheet(LINE, (420, 240), (0, 0))                            # a speech mark beside the head
    ImageDraw.Draw(mark).ellipse((260, 20, 400, 90), outline="black", width=3)
    above = on_sheet(LINE, (240, 520), (0, 280))
    above.paste(LINE, (0, 0))
    row, square = on_sheet(LINE, (1080, 240), (0, 0)), on_sheet(LINE, (520, 520), (0, 0))
    for k in range(4): row.paste(LINE, (270 * k, 0)), square.paste(LINE, (270 * (k % 2), 270 * (k // 2)))
    for many in (above, row, square, row.crop((0, 0, 810, 240))): assert ["several figures" in n for n in notes(many) if "fits" not in n] == [True]
    assert not notes(mark) and not notes(LINE) and not notes(with_frame(on_sheet(LINE), width=5))
    assert not notes(on_sheet(LINE, (140, 240), (-100, 0))), "a head above shoulders is one figure"


def test_panels_of_a_page_are_several_figures():
    page = Image.new("RGB", (1000, 1000), "white")
    for x, y in ((20, 20), (510, 20), (20, 510), (510, 510)): page.paste(with_frame(LINE.resize((470, 470)), width=5), (x, y))
    assert "several figures" in str(notes(page))


def test_a_reference_with_several_figures_or_none_is_said():
    sheet, row = Image.new("RGB", (780, 240), "white"), Image.new("RGB", (600, 400), "white")
    for k in range(3): sheet.paste(COLOUR, (260 * k, 0))
    assert ["several figures" in note for note in notes(LINE, sheet)] == [True]
    bars = Image.new("RGB", (500, 100))
    for k, colour in enumerate(("red", "gold", "teal", "navy", "plum")):
        bars.paste(colour, (100 * k, 0, 100 * k + 100, 100))
        ImageDraw.Draw(row).ellipse((20 + 180 * (k % 3), 40 + 180 * (k // 3), 160 + 180 * (k % 3), 180 + 180 * (k // 3)), colour)
    for fields in (bars, row): assert ["fields of colour" in note and "--palette" in note for note in notes(LINE, fields)] == [True]
    flags = COLOUR, figure((HAIR, HAIR, HAIR)), COLOUR.crop((60, 25, 180, 165)), bars.crop((0, 0, 200, 100))
    assert not any("fields" in str(notes(LINE, reference)) for reference in flags)


@pytest.mark.parametrize("size, at, art", [((520, 240), (270, 0), [(0, 0)]), ((520, 240), (0, 0), [(270, 0)]), ((240, 520), (0, 0), [(0, 270)]), ((790, 240), (270, 0), [(0, 0), (540, 0)])])
def test_line_art_beside_the_coloured_figure_is_no_reference(size, at, art, tight):
    sheet = on_sheet(COLOUR, size, at)
    for place in art: sheet.paste(LINE, place)
    yellow = Image.composite(sheet, Image.new("RGB", size, (250, 246, 232)), sheet.convert("L").point([255 * (v < 250) for v in range(256)], "1"))
    soft = Image.open(io.BytesIO(encoded(sheet.resize((2 * size[0], 2 * size[1])), "JPEG", quality=70)))
    for reference in (sheet, soft, yellow):
        result = colorize(LINE, reference)
        assert error(result) < 1.33 * tight + 2 and [n.split(": ", 1)[1] for n in result.info["notes"] if "white paper" not in n] == ["line art beside its figure is left out (--no-clean keeps it)"]
    assert reference_of(sheet, clean=False).tobytes() == sheet.tobytes()


def test_what_is_grey_or_one_of_three_is_no_line_art():
    for colours in (("black", "white", "black"), ((90,) * 3, "white", (150,) * 3), ("white", "white", "black")):
        two = on_sheet(COLOUR, (520, 240), (270, 0))
        two.paste(figure(colours), (0, 0))
        found = reference_of(two)
        assert found.tobytes() == two.tobytes() and ["several figures" in n for n in notes_of(found)] == [True]
    three = on_sheet(COLOUR, (790, 240), (0, 0))
    three.paste(COLOUR, (270, 0)), three.paste(LINE, (540, 0))
    assert ["line art" in n and "several figures" in n for n in notes_of(reference_of(three))] == [True]


MARK_OF = {"signature": ((300, 380), "A. Nob"), "number": ((40, 370), "- 12 -"), "far": ((560, 20), "p. 7")}


def marked(picture, kind, size=(420, 400)):
    at, text = MARK_OF[kind]
    size = tuple(max(side, a + 60) for side, a in zip(size, at))
    sheet = on_sheet(picture, size, (20, 30))
    ImageDraw.Draw(sheet).text(at, text, "black", font_size=14)
    return sheet


@pytest.mark.parametrize("kind", MARK_OF)
def test_a_signature_far_away_does_not_make_the_figure_small(kind, tight):
    "With it in view the error is up to three times as large."
    sketch, reference = marked(LINE, kind), marked(COLOUR, kind)
    place = (20, 30, 260, 270)
    for result, said in ((colorize(sketch, COLOUR), "stay without colour; --no-clean takes all"), (colorize(LINE, reference), "beside its figure are left out (--no-clean")):
        mended = result.crop(place) if result.size != LINE.size else result
        assert error(mended) < 1.2 * tight + 1 and [said in n for n in result.info["notes"]] == [True], (error(mended), result.info["notes"])
    result = colorize(sketch, COLOUR)
    left = pixels(result).copy(), pixels(sketch).copy()
    for x in left: x[30:270, 20:260] = 0
    assert abs(left[0] - left[1]).mean() < 0.5, "the mark keeps its ink, and gets no colour"
    assert not any("marks" in n for n in notes(sketch, reference, clean=False))


@pytest.mark.parametrize("lines", [1, 3])
def test_captions_of_a_reference_are_left_out(lines):
    for above in (False, True):
        sheet = on_sheet(COLOUR, (240, 320), (0, 80 * above))
        bare = sheet.copy()
        for k in range(lines): ImageDraw.Draw(sheet).text((50, (2 if above else 250) + 18 * k), "Fig. 3  Portrait of Ann", "black", font_size=14)
        left, said = reference_of(sheet), notes(LINE, sheet)
        assert apart(left, bare).max() < 25 and ["text and small marks" in n for n in said] == [True], said      # soft edges


def test_low_parts_with_a_colour_are_no_caption():
    from refcolor.surroundings import captions_in
    mat = on_sheet(COLOUR, (240, 270), (0, 0))
    ImageDraw.Draw(mat).rectangle((20, 250, 220, 262), HAIR)
    shoes = on_sheet(COLOUR, (240, 320), (0, 0))
    ImageDraw.Draw(shoes).rectangle((60, 260, 180, 300), "black")
    for reference in (COLOUR, mat, shoes): assert captions_in(reference) == []


@pytest.mark.parametrize("kind, box", [("ellipse", (10, 10, 390, 390)), ("ellipse", (0, 0, 399, 399)), ("rounded_rectangle", (40, 40, 360, 380))], ids=["ring", "to the border", "rounded"])
def test_a_ring_around_the_figure_is_no_part_of_it(kind, box):
    "With it the error is some times as large."
    joined = LINE.copy()
    ImageDraw.Draw(joined).line((120, 160, 120, 185), "black", 3)                        # a neck
    bare, ringed = on_sheet(joined, (400, 400), (80, 80)), on_sheet(joined, (400, 400), (80, 80))
    getattr(ImageDraw.Draw(ringed), kind)(box, *[40] * (kind[0] == "r"), outline="black", width=4)
    one, other = colorize(bare, COLOUR), colorize(ringed, COLOUR)
    place = (80, 80, 320, 320)
    assert apart(one.crop(place), other.crop(place)).mean() < 2 and len(said := other.info["notes"]) == 1
    assert ("a ring around the figure stays" if kind == "ellipse" else "without colour") in said[0]      # of a frame, the corners are marks
    assert pixels(other).min(2)[200, :80].min() < 60 or kind != "ellipse", "the ring keeps its ink"


def test_a_round_face_a_button_and_a_sign_keep_their_rings():
    from refcolor.surroundings import without_ring
    face = [("ellipse", (20, 20, 280, 280), None, "black", 5)]
    smiley = [*face, *[("ellipse", (x, 90, x + 40, 140), "black") for x in (80, 180)], ("rounded_rectangle", (70, 190, 230, 240), 20, None, "black", 5)]
    clock, eye = [*face, ("line", (150, 50, 150, 150, 220, 190), "black", 5)], [*face, ("ellipse", (100, 100, 200, 200), None, "black", 5)]
    star = [("polygon", [(150 + r * np.cos(a), 150 + r * np.sin(a)) for a, r in zip(np.arange(10) * np.pi / 5, (140, 110) * 5)], None, "black"), ("ellipse", (80, 80, 220, 220), None, "black", 5)]
    for parts in (face, smiley, clock, eye, star): assert without_ring(shapes((300, 300), *parts)) is None
    assert without_ring(LINE.convert("L")) is None


def test_marks_beside_a_figure_and_pieces_of_it_stay_in_view():
    from refcolor.surroundings import marks_in
    near = on_sheet(LINE, (320, 240), (0, 0))
    ImageDraw.Draw(near).text((215, 225), "A. N.", "black", font_size=12)
    apart = on_sheet(LINE.crop((0, 0, 240, 168)), (240, 400), (0, 0))                    # a head, and shoulders further down
    apart.paste(LINE.crop((0, 170, 240, 240)), (0, 320))
    balloon = on_sheet(LINE, (700, 240), (0, 0))
    ImageDraw.Draw(balloon).ellipse((500, 20, 690, 200), outline="black", width=3)
    dots = shapes((300, 300), *[("ellipse", (x, y, x + 30, y + 30), None, "black", 3) for x in (20, 240) for y in (20, 240)])
    for lines in (LINE, near, apart, balloon, dots): assert not marks_in(lines.convert("L"))


def test_two_hints_in_one_region_are_said():
    hints = [(0, 0.8, "#102030"), (0.1, 0.85, "#405060"), (0, -0.6, "#405060"), (0.05, -0.62, "#405060")]
    result = colorize(LINE, COLOUR, hints=hints)
    assert [n for n in result.info["notes"] if "hint" in n] == ["hints 1 and 2 lie in one region; the later one counts"]
    assert result.getpixel((120, 216)) == (0x40, 0x50, 0x60)


def test_two_hints_of_one_place_that_look_elsewhere_are_said(tmp_path, capsys):
    "Counted among all hints; of one colour, of two places, and with a third that looks there again nothing is said."
    hair, shirt, again = (0, -.6, (0, -.6)), (.05, -.62, (0, .8)), (.05, -.62, (.1, -.62))
    def said(*hints): return [n for n in colorize(LINE, COLOUR, hints=hints).info["notes"] if "hint" in n]
    assert said((0, .8, "#102030"), hair, shirt) == ["hints 2 and 3 are for one place; the later one counts"]
    assert not said(hair, again) and not said(hair, (0, .8, (0, .8)))
    assert said(hair, shirt, again) == ["hints 2 and 3 are for one place; the later one counts"]
    LINE.save(tmp_path / "a.png"), COLOUR.save(tmp_path / "b.png")
    command = ["colorize", "--sketch", f"{tmp_path}/a.png", "--reference", f"{tmp_path}/b.png", "--out", f"{tmp_path}/c.png"]
    assert not main([*command, *"--hint 120 45 120 45 --hint 120 45 120 220".split()])
    assert "note: hints 1 and 2 are for one place; the later one counts" in capsys.readouterr().err


def test_drawings_of_one_figure_are_none_of_two():
    from refcolor.surroundings import several_figures
    from refcolor.show import to_image
    drawings = open_dataset("avatars", split="test", size=64, n=256).batch(range(64)).sketch
    assert not any(several_figures(to_image(d)) for d in drawings)


def shapes(size, *drawn, mode="L"):
    "Kinds of Pillow's `ImageDraw`, and what they take."
    image = Image.new(mode, size, "white")
    for kind, *what in drawn: getattr(ImageDraw.Draw(image), kind)(*what)
    return image


def ellipse(x, y, w, h): return "ellipse", (x, y, x + w, y + h), None, 0, 4


@pytest.mark.parametrize("parts, several", [
    ([ellipse(10, 10, 170, 380), ellipse(210, 10, 170, 380)], True),
    ([ellipse(10, 10, 200, 380), ("rectangle", (300, 10, 306, 390), 0)], False), ([ellipse(10, 10, 170, 380), ellipse(210, 270, 170, 120)], False),
    ([ellipse(30, 10, 340, 250), ("polygon", (10, 390, 60, 290, 340, 290, 390, 390), None, 0, 4)], False),
    ([ellipse(10, 10, 380, 180), ellipse(10, 210, 380, 180)], True)], ids=["two", "a staff", "a cup", "head and shoulders", "above"])
def test_what_stands_beside_a_figure_is_no_second_one(parts, several):
    from refcolor.surroundings import several_figures
    assert several_figures(shapes((400, 400), *parts)) == several


@pytest.mark.parametrize("radius, level, grey", [(30, 128, True), (8, 128, False), (30, 40, False)])
def test_a_grey_area_counts_from_some_size_on(radius, level, grey):
    "Where it is nearly black it is ink."
    from refcolor.surroundings import toned
    lines = shapes((400, 400), ellipse(10, 10, 380, 380), ("ellipse", (200 - radius, 200 - radius, 200 + radius, 200 + radius), level))
    assert toned(lines) == grey


FIELDS = [("rectangle", (100 * k + 10, 10, 100 * k + 90, 90), c) for k, c in enumerate(("red", "gold", "teal"))]
GRAIN = Image.fromarray(np.random.default_rng(0).integers(60, 200, (100, 100, 3), np.uint8)).resize((300, 300), 0)


@pytest.mark.parametrize("picture, palette", [
    (shapes((300, 100), *FIELDS, mode="RGB"), True), (shapes((300, 100), *FIELDS, *[("rectangle", (x, 93, x + 12, 98), "black") for x in (20, 120, 220)], mode="RGB"), True),
    (shapes((300, 100), *FIELDS[:2], ("rectangle", (210, 10, 240, 90), "teal"), mode="RGB"), False),
    (shapes((300, 100), *[("polygon", (100 * k + 10, 90, 100 * k + 50, 10, 100 * k + 90, 90), c) for k, (*_, c) in enumerate(FIELDS)], mode="RGB"), False),
    (on_sheet(GRAIN, GRAIN.size, (0, 0)), False), (shapes((300, 100), *FIELDS[:2], mode="RGB"), False)], ids=["fields", "labelled", "one smaller", "triangles", "on a pattern", "two"])
def test_fields_of_one_size_alone_are_a_palette(picture, palette):
    from refcolor.surroundings import is_palette
    if picture.size == GRAIN.size:
        for x in (20, 120, 220): picture.paste("red", (x, 100, x + 70, 170))
    assert is_palette(picture) == palette


def test_a_dark_figure_beside_a_light_one_is_a_second_one():
    two = on_sheet(LINE, (520, 240), (270, 0))
    two.paste(figure(("black", "white", "black")), (0, 0))
    assert "several figures" in str(notes(two))


def test_a_painted_page_on_a_desk_is_said_as_without_it():
    page = on_sheet(COLOUR, (440, 420), (110, 90))
    for picture in (page, on_desk(page, 3)[0]): assert "dark or coloured areas" in str(notes_of(lines_of(picture)))


def test_no_way_back_is_named_where_nothing_was_changed():
    from refcolor.colorize import reference_of
    said, = notes_of(reference_of(on_ground(GRAIN)))
    assert "many colours" in said and "--no-clean" not in said


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))


@pytest.mark.parametrize("reference, words", [
    (LINE, "black, white and grey"), (LINE.convert("1"), "black, white and grey"), (COLOUR.convert("L"), "black, white and grey"),
    (Image.fromarray(np.uint8(pixels(LINE) * [.98, .95, .85])), "black, white and grey"),
    (Image.new("RGB", (64, 64), "white"), "one colour"), (Image.new("RGBA", (64, 64)), "one colour"), (Image.new("L", (64, 64), 99), "one colour"),
    (Image.new("RGB", (64, 64), "red"), "one colour"), (NOISE, "noise only"), (on_sheet(LINE, (2000, 2000), (1500, 100)), "black, white and grey")],
    ids=["lines", "1 bit", "grey picture", "yellow paper", "white", "clear", "grey", "red", "noise", "small"])
def test_a_reference_without_colours_is_said(reference, words):
    said = notes(LINE, reference)
    assert len(said) == 1 and words in said[0], said


def test_a_little_skin_is_colour(): assert not notes(LINE, figure(("white", (240, 220, 210), "white")))


@pytest.mark.parametrize("ramp", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").resize((900, 300))])
def test_shades_without_lines_are_refused(ramp):
    for options in ({}, dict(clean=False)):
        with pytest.raises(UserError, match="soft shades|nothing to colour|no drawing"): colorize(ramp, COLOUR, **options)
    soft = LINE.resize((960, 960)).filter(ImageFilter.GaussianBlur(4))
    assert not notes(soft), "a blurred scan has lines"


UNDEREXPOSED, FAINT, CLEAR = (Image.fromarray(np.uint8(a + b * (pixels(LINE) > 99))) for a, b in ((30, 60), (225, 30), (0, 0)))
CLEAR = Image.merge("LA", [Image.new("L", LINE.size, 255), ALPHA])


@pytest.mark.parametrize("sketch, options, why, way", [
    (Image.linear_gradient("L"), dict(extract=True), "no lines, only soft shades", ""), (COLOUR.filter(ImageFilter.GaussianBlur(25)), {}, "only soft shades", ""),
    (NOISE.convert("L"), dict(extract=True), "is noise", ""), (Image.new("RGBA", (99, 99)), {}, "blank, there is nothing to colour", ""),
    (LINE.resize((16, 16)), {}, "has 16 × 16 pixels, too few for a drawing", ""), (LINE.resize((3, 3)), dict(extract=True), "too few for a drawing", ""), (LINE.resize((2, 2)), dict(clean=False), "too few", ""),
    (Image.new("RGBA", (99, 99), (0, 0, 0, 100)), {}, "blank, there is nothing to colour", ""),
    (CLEAR, dict(clean=False), "blank", "without clean=False (--no-clean) there are lines in it; light ink on transparency"),
    (CLEAR, dict(extract=True), "blank", "without extract (--extract) there are lines in it; light ink on transparency"),
    (UNDEREXPOSED, dict(clean=False), "is too dark", "without clean=False (--no-clean) there are lines"),
    (FAINT, dict(clean=False), "is too faint", "without clean=False (--no-clean) there are lines in it; faint"), (FAINT, dict(extract=True), "soft shades", "without extract (--extract)")],
    ids=["shade", "blurred", "noise", "clear", "tiny", "tinier", "tiniest", "half clear", "light on clear as it is", "light on clear", "dark as it is", "faint as it is", "faint"])
def test_the_reason_is_the_true_one_and_there_is_a_way_out(sketch, options, why, way):
    with pytest.raises(UserError) as e: colorize(sketch, COLOUR, **options)
    said = str(e.value)
    assert why in said and way in said and (way or not any(w in said for w in ("without", "light ink", "all dark"))), said


def test_what_is_left_as_it_is_is_named():
    assert notes(CHALK, clean=False) == notes(BOARD, clean=False) == [
        "light ink on dark paper, left as it is; without clean=False (--no-clean) it is taken as dark ink on light paper"]
    assert not notes(LINE, clean=False) and "--extract" in notes(COLOUR, clean=False)[0]


def test_grey_areas_are_no_lines():
    "They darken what is painted; shades of the paper, hatching, dots and black areas are none."
    tones, hatch, dots = figure(((90,) * 3, (240,) * 3, (150,) * 3)), LINE.copy(), LINE.copy()
    for k in range(0, 240, 6): ImageDraw.Draw(hatch).line((30, k, 200, k + 40), "black", 1)
    for x in range(60, 180, 5): ImageDraw.Draw(dots).ellipse((x, 200, x + 2, 202), fill="black")
    for toned in (COLOUR.convert("L"), tones, on_sheet(tones, (900, 900), (600, 30)), tones.resize((960, 960))):
        for options in ({}, dict(clean=False)): assert len(said := notes(toned, **options)) == 1 and said[0].startswith("grey areas") and "--extract" in said[0], said
        assert not notes(toned, extract=True)
    uneven = Image.fromarray(np.uint8(pixels(LINE) * np.linspace(1, .5, 240)[:, None, None]))
    for lines in (hatch, dots, uneven, figure(("black", "white", "black")), CHALK, LINE.filter(ImageFilter.MinFilter(7))): assert "grey" not in str(notes(lines))


def filled(step, wide, dots=False, box=(70, 110, 170, 230), picture=LINE):
    "A drawing, part of it filled with strokes or dots."
    picture, (x, y) = pixels(picture).copy(), np.indices((240, 240))[::-1]
    ink = (x % step - step / 2) ** 2 + (y % step - step / 2) ** 2 < wide ** 2 if dots else (x + y) % step < wide
    picture[ink & (x >= box[0]) & (y >= box[1]) & (x < box[2]) & (y < box[3])] = 0
    return Image.fromarray(np.uint8(picture))


HATCHED = "hatching or tones of dots, their strokes are taken for borders of colours; take the outlines alone"


@pytest.mark.parametrize("step, wide, dots", [(3, 1, False), (5, 1, False), (7, 2, False), (10, 2, False), (13, 2, False), (3, 1, True), (4, 1.3, True), (6, 2, True), (8, 2.5, True)])
def test_hatching_and_tones_of_dots_are_said(step, wide, dots):
    drawing = filled(step, wide, dots)
    large = drawing.resize((960, 960), Image.Resampling.NEAREST)
    for picture in (drawing, large, on_sheet(large, (2000, 2400), (300, 900))):
        said = notes(picture)
        assert len(said) == 1 and (said[0] == HATCHED or said[0].startswith("grey areas")), said
        assert step < 5 or said == [HATCHED]                             # finer ones are grey, from afar


def test_fine_drawing_and_black_areas_are_no_hatching():
    from refcolor.surroundings import hatched
    small = filled(5, 1, box=(100, 100, 130, 130))
    for lines in (LINE, small, figure(("black", "white", "black")), LINE.filter(ImageFilter.MinFilter(7)), filled(24, 2), filled(24, 2, box=(0, 0, 240, 240))):
        assert not hatched(lines.convert("L"))
    assert not any("hatching" in n for n in notes(filled(5, 1), extract=True))


def test_a_hint_that_looks_where_another_paints_is_said():
    "In either order; the colour counts. In two regions nothing is said."
    hair, shirt = (0, -.6, (0, .8)), (0, .8, (0, -.6))
    def said(*hints): return [n for n in colorize(LINE, COLOUR, hints=hints).info["notes"] if "hint" in n]
    for paint in ("#ff0000", None):
        assert said(hair, (.05, -.62, paint)) == ["hints 1 and 2 lie in one region; the one with a colour counts, or with none"]
        assert said((.05, -.62, paint), hair) == ["hints 2 and 1 lie in one region; the one with a colour counts, or with none"]
        assert not said(shirt, (.05, -.62, paint))


def box(x, y, w, h): return "rectangle", (x, y, x + w - 1, y + h - 1), "black"
def ringed(side): return shapes((500, 500), ("ellipse", (100, 100, 399, 399), None, "black", 3), ("rectangle", (250 - side // 2,) * 2 + (250 + side // 2,) * 2, None, "black", 3))
def captioned(high): return shapes((500, 500), ("rectangle", (100, 100, 299, 299), "tomato"), box(120, 320, 150, high), mode="RGB")
def partly_hatched(side): return shapes((500, 500), ("ellipse", (100, 100, 399, 399), None, "black", 3), *(box(250 - side // 2 + k, 250 - side // 2, 2, side) for k in range(0, side, 8)))
def beside(*mark): return shapes((600, 600), ("ellipse", (100, 100, 299, 299), None, "black", 4), box(*mark))


@pytest.mark.parametrize("name, below, above, first", [
    ("marks_in", beside(150, 360, 94, 20), beside(150, 360, 106, 20), True), ("marks_in", beside(190, 317, 20, 40), beside(190, 323, 20, 40), False),
    ("marks_in", beside(180, 323, 40, 4), beside(180, 323, 40, 9), False), ("without_ring", ringed(113), ringed(125), False),
    ("captions_in", captioned(17), captioned(21), True), ("hatched", partly_hatched(98), partly_hatched(104), False)],
    ids=["half as long", "a tenth away", "a seventh more", "0.4 of the ring", "8 % high", "4 % hatched"])
def test_each_threshold_of_the_surroundings_has_two_sides(name, below, above, first):
    "A shape a little below it, one a little above; which of them is found."
    from refcolor import surroundings
    assert [bool(getattr(surroundings, name)(page)) for page in (below, above)] == [first, not first]


@pytest.mark.parametrize("size", [24, 40, 47])
def test_a_drawing_of_few_pixels_is_said(size):
    small = LINE.resize((size, size), Image.Resampling.BOX)
    for picture in (small, on_sheet(small, (300, 300), (20, 150))):
        assert any("lines run into each other; draw or scan it larger" in n for n in notes(picture))
    assert not any("run into" in n for n in notes(LINE.resize((64, 64), Image.Resampling.BOX)))


def test_two_figures_are_not_told_to_be_turned():
    from refcolor.colorize import turn_note
    turned = COLOUR.rotate(180)
    upright = View.of(lines_of(LINE), 128)
    both = Image.new("RGB", (500, 240), "white")
    for x in (0, 260): both.paste(LINE, (x, 0))
    weights = load_generator(default_weights())
    assert turn_note(weights, View.of(lines_of(both), 128), View.of(reference_of(turned), 128)) == ""


def test_blank_pictures_are_named_in_training(tmp_path, capsys):
    for k in range(6): (COLOUR if k else Image.new("RGB", (240, 240), "white")).save(tmp_path / f"{k}.png")
    for split in ("train", "test", "valid"):
        with contextlib.suppress(UserError):
            data = open_dataset("folder", tmp_path, split, 64, cache=False)
            data.batch(range(len(data)))
    assert "0.png: one colour only, there are no colours to learn from" in capsys.readouterr().err


def test_notes_are_in_the_json(tmp_path):
    import json
    (tmp_path / "in").mkdir()
    for k in range(2): CHALK.save(tmp_path / f"in/{k}.png")
    LINE.save(tmp_path / "grey.png")
    for sketch, out, n in (("in/0.png", "out.png", 2), ("in", "out", 3)):
        printed, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            code = main(["colorize", "--sketch", f"{tmp_path}/{sketch}", "--reference", f"{tmp_path}/grey.png", "--out", f"{tmp_path}/{out}", "--json"])
        found = json.loads(printed.getvalue())["notes"]
        assert code == 0 and len(found) == n == said.getvalue().count("note: ")
        assert sum("grey.png: black, white" in f for f in found) == 1 and all("light ink" in f for f in found if "grey.png" not in f)


def test_keypoints_stay_on_a_picture_that_its_metadata_turns(tmp_path):
    import torch
    from refcolor.data.pairs import letterboxed
    exif, image = Image.Exif(), Image.new("RGB", (120, 60), "white")
    image.paste("red", (90, 10, 110, 30))
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    picture, ((x, y),), _ = letterboxed(tmp_path / "a.jpg", [(99.5, 19.5)], 64)
    r, g, b = picture[:, int((y + 1) * 32), int((x + 1) * 32)]
    assert r > .5 > 0 > g


def test_python_takes_paths_and_one_clear_error(tmp_path):
    LINE.save(tmp_path / "line.png"), COLOUR.save(tmp_path / "colour.png")
    expected = colorize(LINE, COLOUR)
    for paths in ((tmp_path / "line.png", tmp_path / "colour.png"), (str(tmp_path / "line.png"), [str(tmp_path / "colour.png")])):
        assert not apart(colorize(*paths), expected).any()
    for none in ([], ()):
        with pytest.raises(UserError, match="reference: none is given"): colorize(LINE, none)
    for none in (None, [None], ""):
        with pytest.raises(UserError, match="^reference: none is given"): colorize(LINE, none)
        if none != [None]:
            with pytest.raises(UserError, match="^sketch: none is given"): colorize(none, COLOUR)
    for wrong in (5, pixels(COLOUR), {}):
        with pytest.raises(UserError, match="^reference: (int|ndarray|dict) is no picture; give a path, bytes"): colorize(LINE, wrong)


@pytest.mark.parametrize("give, said", [
    (lambda f, d: f.close() or f, "it is closed; open it again"), (lambda f, d: f.read() and f, r"it was read to its end; give it after seek\(0\)"), (lambda f, d: open(f.name), 'it is open as text; open it with mode "rb"'),
    (lambda f, d: io.StringIO("x"), 'it is open as text; open it with mode "rb"'), (lambda f, d: io.BytesIO(), "cannot read the file: it is empty; get it again"), (lambda f, d: open(f"{f.name}.out", "wb"), "it is not open to be read"),
    (lambda f, d: (i := Image.open(f.name)).close() or i, "cannot read .*line.png: it is closed; open it again"), (lambda f, d: Image.new("RGB", (0, 9)), "it has no pixels"), (lambda f, d: Image.new("L", (9, 0)), "it has no pixels"),
    (lambda f, d: f.name.encode(), "cannot read the file: not an image, or damaged; if these bytes are a path, give it as text"),
    (lambda f, d: bytearray(d), ""), (lambda f, d: memoryview(d), ""), (lambda f, d: f, ""), (lambda f, d: (f.read(), f.seek(0))[1] or f, "")],
    ids=["closed", "read", "text", "StringIO", "empty", "to write", "closed image", "no columns", "no rows", "path", "bytearray", "memoryview", "open", "rewound"])
@pytest.mark.parametrize("role", ["sketch", "reference"])
def test_open_files_and_bytes_are_read_or_refused_for_the_true_reason(give, said, role, tmp_path):
    LINE.save(tmp_path / "line.png")
    read = {"sketch": lines_of, "reference": reference_of}[role]
    with open(tmp_path / "line.png", "rb") as file:
        source = give(file, (tmp_path / "line.png").read_bytes())
        if not said: assert not apart(read(source).convert("RGB"), read(LINE).convert("RGB")).any()
        else:
            with pytest.raises(UserError, match=f"^{role}: {said}$"): read(source)


@pytest.mark.parametrize("kind", ["half", "double", "bfloat16"])
def test_a_generator_in_other_numbers_is_named(kind):
    net = getattr(load_generator(default_weights()), kind)()
    name = {"half": "float16", "double": "float64"}.get(kind, kind)
    with pytest.raises(UserError, match=rf"^weights: expected float32, got {name}; give generator\.float\(\)$"): colorize(LINE, COLOUR, net)
    assert colorize(LINE, COLOUR, net.float()).size == LINE.size


ODD = {"None": None, "5": 5, "-1": -1, "nan": float("nan"), "[]": [], "{}": {}, "tensor": torch.zeros(2, 3), "0-d": torch.tensor(1.), "array": np.zeros((2, 2)), "path": Path("x"), "text": "x", "bytes": b"x",
       "True": True, "[None]": [None], "[[]]": [[]], "[tensor]": [torch.zeros(2, 3)], "function": len, "nul": "\0", "iterator": iter([5]), "points": [(0, 0, (0, 0, torch.zeros(2)))], "inf": [(float("inf"), 0, None)], "0..1": [(.5, .2, .1)]}
MAY = {"weights": ["None"], "hints": ["[]", "{}"], "palette": ["None", "tensor"], "flat": ["True"], "clean": ["True"], "extract": ["True"]}      # the rest is an error


@pytest.mark.parametrize("argument", ["sketch", "reference", *MAY])
def test_no_argument_of_any_type_ends_in_a_traceback(argument, monkeypatch):
    from copy import copy
    from refcolor import colorize as lesson
    monkeypatch.setattr(lesson, "painted_square", lambda generator, here, *more, **how: torch.zeros(3, *here.square.size))      # not what is looked at
    given = dict(sketch=LINE.resize((48, 48)), reference=COLOUR.resize((48, 48)), weights=load_generator(default_weights()))
    for name, value in ODD.items():
        if argument == "weights" and name in ("None",): continue                    # loads the default ones
        for paint in (lesson.colorize, lesson.flat_colours) if argument not in ("flat",) else (lesson.colorize,):
            if name in MAY.get(argument, ()): paint(**given | {argument: copy(value)})
            else:
                with pytest.raises(UserError) as e: paint(**given | {argument: copy(value)})
                assert "\n" not in str(e.value) and re.match("weights|hint|palette|flat|clean|extract|sketch|reference", str(e.value)), (name, e.value)


@pytest.mark.parametrize("call", [lambda v: load_generator(v), lambda v: open_dataset(v), lambda v: open_dataset("folder", v), lambda v: open_dataset("avatars", split=v), lambda v: segment(v), lambda v: palette_of(v),
                                  lambda v: flatten(v, np.ones((2, 2), int)), lambda v: flatten(COLOUR, v), lambda v: flatten(COLOUR, np.ones((240, 240), int), v), lambda v: lines_of(v), lambda v: palette_from(v)],
                         ids=["load_generator", "name", "root", "split", "segment", "palette_of", "picture", "labels", "palette", "lines_of", "palette_from"])
def test_the_library_s_doors_give_one_clear_error(call):
    fine = 0
    for name, value in ODD.items():
        try: call(value)
        except UserError as e: assert "\n" not in str(e)
        else: fine += 1
    assert fine <= 2
    for size, n in ((-1, None), (0, None), (64, -5), (64, 0), ("64", None), (64, 2.5), (None, None), (True, None), (64, True)):
        with pytest.raises(UserError, match="^n: expected" if size == 64 else "^size: expected"): open_dataset("avatars", size=size, n=n)


def test_a_palette_in_one_text_and_a_reference_s_number_as_a_float():
    assert palette_from("#ff0000, blue").tolist() == [[255, 0, 0], [0, 0, 255]]
    from refcolor.hints import parse_hints
    for point, number in (((0, 0, 1.0), 1), ((0, 0), 0), ((0, 0, 0), 0)):
        (*_, k), = parse_hints([(0, 0, point)], 2)
        assert type(k) is int and k == number


def test_colour_is_seen_by_its_areas():
    pencil = Image.composite(LINE, Image.new("RGB", LINE.size, (60, 90, 200)), LINE.convert("L"))        # blue lines
    yellow = Image.fromarray(np.uint8(pixels(LINE) * [.95, .9, .7] * np.linspace(1, .6, 240)[:, None]))
    pastel = figure(((250, 190, 190), (250, 230, 200), (190, 210, 250)))
    small = on_sheet(COLOUR, (2000, 2000), (1500, 100))
    assert all(map(is_line_art, (LINE, pencil, yellow, on_sheet(LINE), with_frame(LINE), read_sketch(BOARD))))
    assert not any(map(is_line_art, (COLOUR, pastel, small, figure((HAIR, SKIN, SHIRT), "black"))))


def test_lab_colours_need_no_profile(tmp_path):
    "The mode says which colours they are."
    space = ImageCms.createProfile("LAB")
    for name, picture, read in (("line", LINE, read_sketch), ("colour", COLOUR, read_reference)):
        lab = ImageCms.profileToProfile(picture, ImageCms.createProfile("sRGB"), space, outputMode="LAB")
        lab.info.clear()
        lab.save(tmp_path / f"{name}.tif")
        assert Image.open(tmp_path / f"{name}.tif").mode == "LAB" and "icc_profile" not in Image.open(tmp_path / f"{name}.tif").info
        found = read(tmp_path / f"{name}.tif", name)
        assert np.abs(np.asarray(found.convert("RGB"), int) - np.asarray(picture, int)).max() <= 4


def test_a_picture_of_too_many_pixels_is_named_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    LINE.save(tmp_path / "large.png")
    with pytest.raises(UserError, match="large.png: it has more than 67 million pixels; make it smaller$"): read_picture(tmp_path / "large.png", "sketch")


def test_pixels_that_were_changed_on_the_way_are_damage(tmp_path):
    "Pillow checks no sum of a PNG file's pixels; a byte that changed gives other colours, or an error with another name."
    rng, file = np.random.default_rng(0), tmp_path / "a.png"
    COLOUR.save(file)
    whole, silent = file.read_bytes(), 0
    at, size = whole.index(b"IDAT") + 4, struct.unpack(">I", whole[whole.index(b"IDAT") - 4:][:4])[0]
    for k in rng.integers(at, at + size + 4, 40):                           # the sum itself, too
        torn = bytearray(whole)
        torn[k] ^= 1 << rng.integers(8)
        file.write_bytes(torn)
        with pytest.raises(UserError, match="cannot read .*a.png: it is damaged, its checksum is another; get it again$"): read_picture(file, "sketch")
        with pytest.raises(UserError, match="its checksum is another"): read_picture(bytes(torn), "sketch")
        try: silent += np.abs(np.asarray(Image.open(file), int) - np.asarray(COLOUR, int)).max() > 0
        except Exception: pass
    assert silent, "where Pillow finds all of it, this has nothing to do"
    file.write_bytes(whole + b"rest")
    assert np.array_equal(np.asarray(read_picture(file, "sketch")), np.asarray(COLOUR))
