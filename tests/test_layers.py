"""Flats as a painter takes them away: layers, palettes, corrections, a film; and what cannot be is one line."""
import contextlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps
from test_files import COLOUR, HAIR, LINE, SHIRT, SKIN, figure, on_sheet, with_frame

from refcolor.app.cli import main
from refcolor.app.layers import Flats, hex_of, paint_regions, palette_from, palette_of_all
from refcolor.colorize import colorize, default_weights, flat_colours
from refcolor.core import UserError
from refcolor.framing import View
from refcolor.generator import load_generator

HAIR, SKIN, SHIRT, WHITE = map(hex_of, (HAIR, SKIN, SHIRT, (255, 255, 255)))
POINTS = {HAIR: (120, 40), SKIN: (120, 130), SHIRT: (120, 220)}      # of the figure, 240 pixels


class Done(NamedTuple):
    code: int
    result: dict
    said: list      # lines


def run(*words):
    said, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        code = main(["colorize", *map(str, words), "--json"])
    return Done(code, json.loads(printed.getvalue() or "null"), said.getvalue().splitlines())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LINE.save("line.png")
    COLOUR.save("colour.png")
    return tmp_path


GIVEN = "--sketch line.png --reference colour.png".split()


@pytest.fixture(scope="module")
def flats(): return flat_colours(LINE, COLOUR)


def colours_in(layer):
    "Of its solid pixels; none is half solid."
    found = {(a, hex_of(rgb)) for _, (*rgb, a) in layer.getcolors(99)}
    assert {a for a, _ in found} <= {0, 255}
    return {colour for a, colour in found if a}


# ---- OpenRaster

def test_layers_are_read_by_a_library_that_others_wrote(place):
    import pyora
    assert run(*GIVEN, "--out", "flat.png", "--layers", "a/flat.ora").code == 0
    project = pyora.Project.load("a/flat.ora")
    names = [layer.name for layer in reversed(list(project))]                   # from the top
    assert project.dimensions == (240, 240) and names[0] == "lines" and {HAIR, SKIN, SHIRT} <= set(names[1:])
    for layer in project:
        if layer.name != "lines": assert colours_in(layer.get_image_data(raw=False)) == {layer.name}
    paper = Image.new("RGBA", (240, 240), "white")
    whole = Image.alpha_composite(paper, project.get_image_data(use_original=False)).convert("RGB")
    merged = Image.alpha_composite(paper, project.get_image_data(use_original=True)).convert("RGB")
    flat = Image.open("flat.png")
    for made in (whole, merged): assert np.abs(np.asarray(made, int) - np.asarray(flat, int)).max() <= 2
    assert project.get_image_data(use_original=True).getpixel((5, 5))[3] == 0          # the background


def test_the_file_is_as_the_format_has_it(place):
    "Type first and stored, each layer named once, a thumbnail of at most 256 pixels, sources that are there."
    LINE.resize((600, 500)).save("line.png")
    assert run(*GIVEN, "--out", "x.png", "--layers", "x.ora").code == 0
    with open("x.ora", "rb") as f: head = f.read(58)
    assert head[30:] == b"mimetypeimage/openraster" + head[54:]           # as `file` knows it
    with zipfile.ZipFile("x.ora") as file:
        assert file.testzip() is None and file.infolist()[0].compress_type == zipfile.ZIP_STORED
        root = ElementTree.fromstring(file.read("stack.xml"))
        assert (root.tag, root.get("w"), root.get("h")) == ("image", "600", "500")
        layers = root.find("stack").findall("layer")
        sources = [layer.get("src") for layer in layers]
        assert {*sources, "mergedimage.png", "Thumbnails/thumbnail.png", "stack.xml", "mimetype"} == set(file.namelist())
        for source in sources: assert Image.open(file.open(source)).mode == "RGBA"
        assert Image.open(file.open("Thumbnails/thumbnail.png")).size == (256, 213)
    assert [p.name for p in place.iterdir() if p.name.startswith(".")] == []


def test_lines_keep_their_own_pixels_and_colour(place):
    "A red pen on white paper: over white its layer is the drawing; the paper of a scan is not in it."
    drawing = figure(ink=(180, 20, 30)).resize((300, 300), Image.Resampling.BICUBIC)
    scan = ImageChops.multiply(drawing, Image.new("RGB", drawing.size, (225, 220, 190)))
    alone = {}
    for name, sketch in (("drawing", drawing), ("scan", scan)):
        sketch.save("line.png")
        assert run(*GIVEN, "--out", f"{name}.png", "--layers", f"{name}.ora").code == 0
        with zipfile.ZipFile(f"{name}.ora") as file: layer = Image.open(file.open("data/000.png"))
        alone[name] = np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"), int)
        assert layer.getpixel((60, 290))[3] == 0
    apart = np.abs(alone["drawing"] - np.asarray(drawing, int))
    assert apart.max() <= 3, apart.max()
    assert np.abs(alone["scan"] - alone["drawing"]).mean() < 1


# ---- palettes

def test_a_palette_comes_back_to_the_last_digit(place, flats):
    done = run(*GIVEN, "--out", "x.png", "--transparent")
    palette = {f["colour"]: f for f in done.result["palette"]}
    assert {HAIR, SKIN, SHIRT} <= set(palette) and done.result["palette"] == flats.facts()
    layer = Image.open("x.png")
    assert layer.mode == "RGBA" and {colour: hex_of(layer.getpixel(p)[:3]) for colour, p in POINTS.items()} == {c: c for c in POINTS}
    assert colours_in(layer) <= set(palette) and layer.getpixel((5, 5))[3] == 0
    solid = np.asarray(layer)[..., 3] > 0
    assert abs(sum(f["share"] for f in palette.values()) - solid.mean()) < 1e-3
    for colour, fact in palette.items():
        assert abs((solid & (np.asarray(layer)[..., :3] == palette_from([colour])[0]).all(-1)).mean() - fact["share"]) < 1e-3
    assert palette[HAIR]["regions"] >= 1 and "palette: " in done.said[0] and HAIR in done.said[0]


def test_a_palette_that_is_given_is_all_that_is_used(place):
    given = ["#aa3322", "#ffccaa", "#334499"]
    done = run(*GIVEN, "--out", "x.png", "--transparent", "--palette", ", ".join(given).upper())
    layer = Image.open("x.png")
    assert [f["colour"] for f in done.result["palette"]] == given and colours_in(layer) <= set(given)
    assert [hex_of(layer.getpixel(p)[:3]) for p in POINTS.values()] == given
    assert layer.getpixel((5, 5))[3] == 0                        # paper is none of them, and stays


def test_more_colours_than_regions_is_no_mistake(place):
    many = [f"#{v:02x}{255 - v:02x}80" for v in range(0, 256, 8)]
    done = run(*GIVEN, "--out", "x.png", "--palette", ",".join(many))
    assert done.code == 0 and [f["colour"] for f in done.result["palette"]] == many
    assert 0 < sum(f["regions"] > 0 for f in done.result["palette"]) < 24


def test_several_references_share_one_palette():
    "No colour is lost, none is mixed, whatever the pictures' sizes."
    other = figure(((10, 120, 60), (120, 80, 60), (220, 200, 20)), size=240).resize((480, 480), Image.Resampling.NEAREST)
    palette = {hex_of(c) for c in palette_of_all([COLOUR, other])}
    assert {HAIR, SKIN, SHIRT, "#0a783c", "#78503c", "#dcc814"} <= palette
    assert palette == {hex_of(c) for c in palette_of_all([COLOUR])} | {hex_of(c) for c in palette_of_all([other])}
    two = flat_colours(LINE, [COLOUR, other])
    assert {f["colour"] for f in two.facts()} == palette
    hinted = flat_colours(LINE, [COLOUR, other], hints=[(0, -.7, (0, -.7, 1))]).alone()
    assert hex_of(hinted.getpixel(POINTS[HAIR])[:3]) == "#0a783c"


def test_flat_is_off_and_each_of_its_options_implies_it(place):
    assert run(*GIVEN, "--out", "soft.png").code == 0
    assert run(*GIVEN, "--out", "flat.png", "--flat").code == 0
    soft, flat = Image.open("soft.png").tobytes(), Image.open("flat.png").tobytes()
    assert soft == colorize(LINE, COLOUR).tobytes() != flat == colorize(LINE, COLOUR, flat=True).tobytes()
    for k, words in enumerate((["--layers", "x.ora"], ["--hint", 2, 2, "none"])):
        assert run(*GIVEN, "--out", f"{k}.png", *words).code == 0
        assert Image.open(f"{k}.png").tobytes() == flat


# ---- corrections

def test_hints_paint_and_clear_regions_beside_hints_into_the_reference(place):
    words = ["--hint", *POINTS[HAIR], "#123456", "--hint", *POINTS[SKIN], "none", "--hint", *POINTS[SHIRT], *POINTS[HAIR]]
    done = run(*GIVEN, "--out", "x.png", "--transparent", *words)
    layer = Image.open("x.png")
    assert hex_of(layer.getpixel(POINTS[HAIR])[:3]) == "#123456" and layer.getpixel(POINTS[SKIN])[3] == 0
    assert hex_of(layer.getpixel(POINTS[SHIRT])[:3]) == HAIR                # it looks there
    assert {f["colour"]: f["regions"] > 0 for f in done.result["palette"]}["#123456"]
    assert not any("on a line" in line for line in done.said)


def test_a_region_is_painted_whole_and_alone(flats):
    x, y = POINTS[SHIRT]
    painted, on_line = paint_regions(flats, [(x, y, "#010203")])
    changed = painted.index != flats.index
    shirt = hex_of(flats.palette[flats.index[y, x]])
    count = {f["colour"]: f["regions"] for f in flats.facts()}[shirt]
    assert not on_line and set(flats.index[changed]) == {flats.index[y, x]}
    paper = np.asarray(flats.lines) > 153
    inside = changed & paper
    reached = np.zeros_like(inside)
    reached[y, x] = True
    for _ in range(240):                                    # as a bucket fills it, by hand
        grown = reached.copy()
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
            grown[a] |= reached[b]
            grown[:, a] |= reached[:, b]
        grown &= paper & (flats.index == flats.index[y, x])
        if (grown == reached).all(): break
        reached = grown
    assert (inside == reached).all() and count >= 1


def test_later_hints_count_and_the_paper_may_be_painted(flats):
    painted, _ = paint_regions(flats, [(*POINTS[HAIR], None), (*POINTS[HAIR], "#aa0000"), (3, 3, "#eeeedd"), (3, 3, None), (200, 20, "#eeeedd")])
    layer = painted.alone()
    assert hex_of(layer.getpixel(POINTS[HAIR])[:3]) == "#aa0000" and layer.getpixel((3, 3)) == (0xee, 0xee, 0xdd, 255)


@pytest.mark.parametrize("at", [(61, 87), (120, 26), (120, 180)])       # hair, above it, shirt
def test_a_hint_on_a_line_takes_the_nearest_region_and_says_so(place, at):
    assert LINE.getpixel(at) == (0, 0, 0)
    done = run(*GIVEN, "--out", "x.png", "--transparent", "--hint", *POINTS[SKIN], *POINTS[SKIN], "--hint", *at, "#010203")
    assert "note: hint 2 lies on a line; the region beside it counts" in done.said
    assert "#010203" in colours_in(Image.open("x.png"))


def test_weights_without_attention_paint_too():
    "A hint into the reference needs attention; a colour does not."
    generator = load_generator(default_weights())
    generator.config = generator.config.__class__(**{**vars(generator.config), "fusion": "addition"})
    with pytest.raises(UserError, match="fusion"): colorize(LINE, COLOUR, generator, hints=[(0, 0, (0, 0))])


# ---- how a drawing stands on its sheet

@pytest.mark.parametrize("sketch", [on_sheet(LINE), with_frame(on_sheet(LINE), width=8), ImageOps.invert(on_sheet(LINE))], ids=["sheet", "frame", "chalk"])
def test_flats_find_the_figure_as_the_soft_picture_does(sketch, flats):
    framed = flat_colours(sketch, on_sheet(COLOUR, paper="lightgrey"))
    for colour, (x, y) in POINTS.items(): assert hex_of(framed.alone().getpixel((x + 120, y + 120))[:3]) == colour
    tight, there = flats.index, framed.index.copy()
    shown = lambda f, index: np.where(index[..., None] < 0, 255, f.palette[index])
    same = (shown(flats, tight) == shown(framed, there)[120:360, 120:360]).all(-1)
    assert same.mean() > 0.97, same.mean()
    there[100:380, 100:380] = -1
    assert (there == -1).all()


def test_clear_paper_is_paper(flats):
    clear = LINE.convert("RGBA")
    clear.putalpha(ImageOps.invert(LINE.convert("L")))
    assert np.abs(np.asarray(colorize(clear, COLOUR, flat=True), int) - np.asarray(flats.picture(), int)).mean() < 1


# ---- a film

def frame(picture, dx=0., dy=0., zoom=1., turn=0., nearest=False):
    "A rendering moved (in sides), zoomed, turned (degrees); half as large."
    n, (c, s) = picture.width, (f(np.radians(turn)) / zoom for f in (np.cos, np.sin))
    x, y = n / 2 + dx * n, n / 2 + dy * n
    how = (Image.Resampling.NEAREST,) * 2 if nearest else (Image.Resampling.BICUBIC, Image.Resampling.BOX)
    moved = picture.transform(picture.size, Image.Transform.AFFINE, (c, s, n / 2 - c * x - s * y, -s, c, n / 2 + s * x - c * y),
                              how[0], fillcolor=0 if nearest else 255)
    return moved.resize((n // 2, n // 2), how[1])


POSES = [{}, dict(dx=.06), dict(dx=.12, dy=.04), dict(zoom=.8), dict(zoom=1.2, dy=.1), dict(turn=10), dict(turn=-12)]


def test_a_region_keeps_its_colour_through_a_film(tmp_path):
    "Hair, skin and shirt of a rendered character: one hex each, over a pan, a zoom, a turn."
    from refcolor.data.characters import character_svg, line_art_svg, palette_of, part_map, rasterize, split_seeds
    a, b = np.array(split_seeds("avatars", "test", 24))[[3, 9]].tolist()
    line = Image.fromarray(rasterize(line_art_svg("avatars", a), 768)).convert("L")
    parts = Image.fromarray(part_map("avatars", a, 768).astype(np.uint8))
    Image.fromarray(rasterize(character_svg("avatars", b, palette_of("avatars", b)), 300)).save(tmp_path / "reference.png")
    (tmp_path / "frames").mkdir()
    for k, pose in enumerate(POSES): frame(line, **pose).save(tmp_path / f"frames/{k}.png")
    done = run("--sketch", tmp_path / "frames", "--reference", tmp_path / "reference.png", "--out", tmp_path / "flat", "--transparent",
               "--layers", tmp_path / "layers")
    assert done.code == 0 and done.result["written"] == len(POSES)
    assert sorted(p.name for p in (tmp_path / "layers").iterdir()) == [f"{k}.ora" for k in range(len(POSES))]
    used, palette = set(), {f["colour"] for f in done.result["palette"]}
    seen = {part: set() for part in (2, 3, 4)}                  # hair, skin, shirt
    for k, pose in enumerate(POSES):
        layer, part_of = np.asarray(Image.open(tmp_path / f"flat/{k}.png")), np.asarray(frame(parts, nearest=True, **pose))
        calm = np.asarray(frame(line, **pose)) > 200
        used |= colours_in(Image.fromarray(layer))
        for part in seen:
            pixels = layer[(part_of == part) & calm]
            if len(pixels) < 300: continue
            colours, counts = np.unique(pixels, axis=0, return_counts=True)
            # zoomed in, the sheet cuts the neck off, and its end is taken for the shirt: .81
            assert counts.max() > (0.8 if k == 4 else 0.9) * len(pixels), (k, part)
            seen[part].add(hex_of(colours[counts.argmax()][:3]))
    assert all(len(colours) == 1 for colours in seen.values()) and len(set.union(*seen.values())) == 3, seen
    assert used <= palette and abs(sum(f["share"] for f in done.result["palette"]) - 0.45) < 0.3


def test_a_folder_keeps_what_is_there(place):
    (place / "in").mkdir()
    for name in "ab": LINE.save(f"in/{name}.png")
    (place / "layers").mkdir()
    (place / "layers/b.ora").write_text("painted over")
    words = ["--sketch", "in", "--reference", "colour.png", "--out", "out", "--layers", "layers"]
    done = run(*words)
    assert done.code == 0 and (done.result["written"], done.result["kept"]) == (2, 1)
    assert (place / "layers/b.ora").read_text() == "painted over" and (place / "out/b.png").exists()
    (place / "layers/a.ora").unlink(), (place / "out/a.png").write_text("mine")       # layers for what is there
    done = run(*words)
    assert done.code == 0 and (done.result["written"], done.result["kept"]) == (0, 3), done
    assert (place / "out/a.png").read_text() == "mine" and zipfile.is_zipfile("layers/a.ora") and (place / "layers/b.ora").read_text() == "painted over"
    assert run(*words, "--force").code == 0 and zipfile.is_zipfile("layers/b.ora")


# ---- what cannot be

BAD = {"--palette #ffcc99,rad": "argument --palette: 'rad' is no colour; give \"#rrggbb\"", "--palette #ffcc9": "'#ffcc9' is no colour",
       "--palette #ffcc9980": "is no colour", "--palette ,": "'' is no colour", f"--palette {','.join(65 * ['red'])}": "has 65 colours, more than 64", "--hint 3 4 #12": "argument --hint: '#12' is no colour",
       "--hint 3 4 rad": "'rad' is no colour", "--hint 3 4": "expected X Y X' Y'", "--hint 3 4 5 none": "or X Y \"#rrggbb\", or X Y none",
       "--hint none 3 4": "expected X Y X' Y'", "--hint 240 4 none": "(240, 4) lies outside of its picture",
       "--layers x.psd": "argument --layers: x.psd: give it the suffix .ora", "--layers line.png/x.ora": "line.png is not a folder",
       "--layers x": "--layers x: give it the suffix .ora", "--layers folder": "--layers folder is a folder", "--layers there.ora": "there.ora exists; --force overwrites it",
       "--layers /proc/no/x.ora": "cannot write in /proc", "--transparent --out x.jpg": "--out x.jpg: .jpg has no transparency",
       "--transparent --out x.bmp": "no transparency", "--sketch folder --layers x.ora": "name a folder", "--sketch folder --hint 1 2 none": "give it with one sketch"}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_is_one_line_before_the_work(words, place, monkeypatch):
    (place / "folder").mkdir()
    LINE.save("folder/a.png")
    (place / "there.ora").touch()
    before, words = sorted(place.rglob("*")), words.split()
    given = [w for k in (0, 2) for w in GIVEN[k:k + 2] if GIVEN[k] not in words]
    if "--out" not in words: given += ["--out", "x.png" if "--sketch" not in words else "out"]
    monkeypatch.setattr("refcolor.app.commands.load_generator", lambda *a: pytest.fail("worked first"))
    done = run(*given, *words)
    assert done.code == 2 and len(done.said) == 1 and BAD[" ".join(words)] in done.said[0], done
    assert sorted(place.rglob("*")) == before and not done.result


def test_a_palette_may_be_written_in_any_way(place):
    done = run(*GIVEN, "--out", "x.png", "--palette", "rgb(1, 2, 3), RED,#0f0,hsl(240,100%,50%),#ff0000")
    assert [f["colour"] for f in done.result["palette"]] == ["#010203", "#ff0000", "#00ff00", "#0000ff"] == [*map(hex_of, palette_from("rgb(1, 2, 3), RED,#0f0,hsl(240,100%,50%),#ff0000"))]


def test_python_takes_the_same_and_one_clear_error():
    for palette, said in ((["red", "rad"], "palette: 'rad' is no colour"), ([], "no colour in it"), ([(1, 2)], r"\(1, 2\) is no colour"), ([(1, 2, 256)], "is no colour")):
        with pytest.raises(UserError, match=said): colorize(LINE, COLOUR, palette=palette)
    for hint, said in (((0, 0, "rad"), "hint 2: 'rad'"), ((0, 3, None), "hint 2: a point lies outside"), ((0, None), "hint 2: expected"), ((0, 0, 7), "hint 2: expected")):
        with pytest.raises(UserError, match=said): colorize(LINE, COLOUR, hints=[(0, 0, (0, 0)), hint])
    for palette in ([(1., 0, 0)], np.array([[0, 0, 0], [.5, .2, .1]]), np.eye(3, dtype=np.float32)):
        with pytest.raises(UserError, match="goes from 0 to 1; give 0 to 255"): palette_from(palette)
    assert palette_from([(0., 0., 0.), (255., 0., 1.), (1, 0, 0)]).tolist() == [[0, 0, 0], [255, 0, 1], [1, 0, 0]]
    given = np.array([[170, 51, 34], [255, 204, 170]], np.uint8)
    assert (flat_colours(LINE, COLOUR, palette=given).palette == given).all()


@pytest.mark.parametrize("which", ["picture", "layers"])
def test_where_layers_cannot_be_written_no_picture_is_left_that_blocks_the_next_try(place, monkeypatch, which):
    def full(*_, **__): raise OSError(28, "No space left on device")
    before = sorted(Path().rglob("*"))
    with monkeypatch.context() as m:
        if which == "picture": m.setattr("refcolor.app.commands.picture_writer", lambda *_: full)
        else: m.setattr("refcolor.app.layers.write_ora", full)
        done = run(*GIVEN, "--out", "new/x.png", "--layers", "other/x.ora")
    assert done.code == 2 and done.said[-1] == f"refcolor: cannot write {'new/x.png' if which == 'picture' else 'other/x.ora'}: No space left on device"
    assert sorted(Path().rglob("*")) == before
    assert run(*GIVEN, "--out", "new/x.png", "--layers", "other/x.ora").code == 0


# ---- odd drawings

def specks():
    page, rng = Image.new("L", (700, 700), 255), np.random.default_rng(0)
    pen = ImageDraw.Draw(page)
    for x, y in rng.integers(0, 700, (10_000, 2)).tolist(): pen.point((x, y), 0)
    pen.ellipse((150, 150, 550, 550), outline=0, width=4)
    return page


def one_region():
    page = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(page).line((20, 180, 180, 20), fill=0, width=3)
    return page


@pytest.mark.parametrize("drawing", [specks(), one_region(), LINE.resize((1, 40)), Image.new("L", (1, 1), 0), Image.new("L", (9, 2), 0)], ids=["specks", "one region", "strip", "dot", "ink"])
def test_odd_drawings_give_sane_layers(drawing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawing.save("line.png")
    COLOUR.save("colour.png")
    done = run(*GIVEN, "--out", "x.png", "--layers", "x.ora")
    if done.code == 2: assert len(done.said) == 1 and "sketch" in done.said[0]            # nothing is drawn
    else:
        assert done.code == 0 and Image.open("x.png").size == drawing.size
        with zipfile.ZipFile("x.ora") as file: assert len(file.namelist()) <= 13 + 6
        assert sum(f["regions"] for f in done.result["palette"]) <= 20_000


def test_layers_of_a_large_drawing_fit(place):
    "4,096² pixels in under 1.5 GB."
    LINE.resize((4096, 4096)).save("line.png")
    # ru_maxrss would begin with what pytest holds by now
    script = ("import re, sys; from refcolor.app.cli import main; "
              "print(main(sys.argv[1:]), int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) / 1e6)")
    done = subprocess.run([sys.executable, "-c", script, "colorize", *GIVEN, "--out", "x.png", "--layers", "x.ora"], capture_output=True, text=True)
    code, gigabytes = map(float, done.stdout.split())
    assert code == 0 and gigabytes < 1.5, (done.stdout, done.stderr)


@pytest.mark.parametrize("at", [0, 12])
def test_hatching_to_the_edge_is_flat_too(at):
    "Lines that reach two edges: what the network sees goes beyond the sheet, and there is nothing to paint there."
    from importlib.resources import files
    from PIL import ImageDraw
    from refcolor.colorize import colorize
    sketch = Image.new("L", (400, 400), 255)
    for k in range(at, 400, 12): ImageDraw.Draw(sketch).line((k, 0, k, 399), 0), ImageDraw.Draw(sketch).line((0, k, 399, k), 0)
    reference = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(reference).ellipse((40, 40, 160, 160), "teal", "black", 4)
    assert colorize(sketch, reference, files("refcolor") / "weights" / "tiny", flat=True).size == (400, 400)


@pytest.mark.parametrize("width", [3, 8])
def test_a_scan_s_frame_close_around_the_figure_is_flat_too(width):
    "What the network sees goes on under the frame, and the figure's box with it: nothing is painted beyond the sheet."
    from importlib.resources import files
    sketch = LINE.copy()
    ImageDraw.Draw(sketch).rectangle((0, 0, sketch.width - 1, sketch.height - 1), outline=0, width=width)
    flat = colorize(sketch, COLOUR, files("refcolor") / "weights" / "small", flat=True)
    near = [int(np.abs(np.subtract(flat.getpixel(at), tuple(bytes.fromhex(colour[1:])))).max()) for colour, at in POINTS.items()]
    assert flat.size == sketch.size and max(near) <= 12, near
