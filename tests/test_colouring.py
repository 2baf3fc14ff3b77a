"""What a painter does on the page, without the page: it is colorize, undo is exact, a refusal changes nothing."""
import io
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps
from test_files import COLOUR, LINE, figure, on_sheet, with_frame

import refcolor.app.colouring as colouring
from refcolor.app.colouring import MAX_HINTS, MAX_REFERENCES, Colouring, File, State, _Derived
from refcolor.colorize import colorize, flat_colours
from refcolor.generator import load_generator

TINY = load_generator(Path(colouring.__file__).parents[1] / "weights" / "tiny")
OTHER = figure(((20, 120, 60), (120, 80, 60), (230, 200, 40)))
HAIR, SKIN, SHIRT = (0., -.7), (0., .1), (0., .85)      # of the figure, in [-1, 1]


def data(picture, kind="PNG"):
    out = io.BytesIO()
    picture.copy().save(out, kind)
    return out.getvalue()


def opened(given): return Image.open(io.BytesIO(given))


def pixels(picture): return np.asarray(picture.convert("RGB"), int)


WARM = _Derived(TINY)
WARM._once = lambda what, key, make, most=0: _Derived._once(WARM, what, key, make, 10 ** 6)


@pytest.fixture
def mine():
    "A drawing, two references, a hint of each kind; what follows from them is made once for all tests."
    c = Colouring(TINY)
    c._derived = WARM
    c.sketch(data(LINE), "line.png")
    for name, picture in (("a.png", COLOUR), ("b.png", OTHER)): c.reference(data(picture), name)
    c.look(*HAIR, *SHIRT, 1)
    c.paint(*SHIRT, "#102030")
    c.paint(*SKIN)
    return c


# ---- it is what colorize makes

SHEETS = {"tight": LINE, "framed scan": with_frame(on_sheet(LINE, (300, 280), (40, 20), (235, 228, 210)), width=5),
          "dark paper": ImageOps.invert(on_sheet(LINE, (280, 280), (20, 20))), "photograph": OTHER}


@pytest.mark.parametrize("name", SHEETS)
def test_every_picture_is_that_of_colorize(name):
    "With several references and hints of each kind; flat, soft, with a palette of one's own; layers, too."
    sketch, files = SHEETS[name], [on_sheet(COLOUR, paper="lightgrey"), OTHER]
    c, how = Colouring(TINY), dict(weights=TINY, extract=name == "photograph")
    c.sketch(data(sketch), "x.png", how["extract"])
    for f in files: c.reference(data(f))
    same = lambda **more: (pixels(c.picture()) == pixels(colorize(sketch, files, **how, **more))).all()
    assert same()
    look, paint, leave = (.1, -.2, (*SHIRT, 1)), (.05, .3, "#aa00bb"), (-.9, -.9, None)
    c.look(*look[:2], *look[2])
    c.paint(*paint)
    c.paint(*leave)
    hints = [look, paint, leave]
    assert same(hints=hints)
    assert [h["kind"] for h in c.scene()["hints"]] == ["look", "paint", "leave"]
    if name != "tight": return
    alone = flat_colours(sketch, files, hints=hints, **how).alone()
    assert (np.asarray(opened(c.save("flats")[1])) == np.asarray(alone)).all()
    c.palette(["#ff0000", "white", "#000080"])
    assert same(hints=hints, palette=["#ff0000", "#ffffff", "#000080"])
    c.flat(False)
    assert same(hints=[look])                                   # what is painted is flat
    for n in (2, 3): c.remove(n)
    c.palette(None)
    assert same(hints=[look], flat=True)


def composed(page):
    "As the page does it: ink on the colour of a label's region."
    rgb = np.asarray(opened(page["labels"]), int)
    colours = np.array([(255,) * 3 if c is None else c for c in page["regions"]], np.uint8)
    flat = Image.fromarray(colours[rgb @ [65536, 256, 1]])
    return [ImageChops.multiply(p.convert("RGB"), opened(page["ink"]).convert("RGB")) for p in (flat, opened(page["soft"]))]


def test_the_page_shows_what_is_saved(mine):
    mine.sketch(data(LINE.resize((700, 500))), "big.png")       # larger than a strip and a halving
    mine.paint(*SHIRT, "#102030")
    page = mine.scene()
    flat, soft = composed(page)
    paper, shirt = (opened(page["labels"]).getpixel(at)[2] for at in ((3, 3), (350, 460)))
    assert page["regions"][0] is page["regions"][paper] is None and page["regions"][shirt] == [16, 32, 48]
    assert abs(pixels(flat) - pixels(opened(mine.save("png")[1]))).max() <= 1
    mine.flat(False)
    apart = abs(pixels(soft) - pixels(mine.picture()))
    assert apart.mean() < 1 and np.quantile(apart, .999) < 12       # JPEG


def test_layers_are_those_of_the_command(mine, tmp_path, monkeypatch):
    from refcolor.app.cli import main
    monkeypatch.chdir(tmp_path)
    sketch = ImageOps.colorize(LINE.convert("L"), (40, 60, 200), (235, 228, 210))       # a blue pencil on grey paper
    sketch.save("s.png"), COLOUR.save("r.png")
    mine.sketch(data(sketch), "s.png")
    mine.drop(1)
    mine.paint(*SHIRT, "#102030")
    at = [str(int((v + 1) * 120)) for v in SHIRT]
    words = "--sketch s.png --reference r.png --out x.png --layers x.ora --weights".split()
    assert main(["colorize", *words, str(Path(colouring.__file__).parents[1] / "weights/tiny"), "--hint", *at, "#102030"]) == 0
    name, ora = mine.save("ora")
    mine_file, theirs = (zipfile.ZipFile(f) for f in (io.BytesIO(ora), "x.ora"))
    assert name == "s.ora" and mine_file.namelist() == theirs.namelist()
    for n in mine_file.namelist(): assert mine_file.read(n) == theirs.read(n), n


# ---- actions and undo, at random

def random_message(rng):
    "What a page may send, sensible or not."
    point = lambda: round(rng.uniform(-1.1, 1.1), 2)
    kind = rng.choice(["sketch", "reference", "reference", "choose", "drop", "flat", "palette", "paint", "paint", "paint", "look", "look",
                       "remove", "remove", "undo", "undo", "undo", "redo", "redo"])
    return {"kind": kind, "name": "f.png", "extract": rng.random() < .2, "k": rng.choice([None, 0, 1, 2]) if kind in ("reference", "choose") else rng.randrange(3),
            "role": rng.choice(["sketch", "reference"]), "index": rng.randrange(3), "on": rng.random() < .5, "n": rng.randint(1, 6),
            "x": point(), "y": point(), "u": point(), "v": point(),
            "colour": rng.choice([None, "#aa1122", "#aa1122", "#11aa22"]), "colours": rng.choice([None, ["#ff0000", "#ffffff"]])}


FILES = [data(p.resize((60, 50))) for p in (LINE, COLOUR, OTHER, ImageOps.mirror(LINE))] + [b"no picture"]
GALLERY = {"sketch": [File("s", FILES[0]), File("t", FILES[3])], "reference": [File("r", FILES[1]), File("q", FILES[2])]}
START = [({"kind": "choose", "role": role, "index": 0}, []) for role in ("sketch", "reference")]


@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_is_its_replay_and_the_page_follows(seed):
    "State: the actions that are in force, done again from the start. Page: what it keeps of scenes is a whole fresh scene."
    rng, c = random.Random(seed), Colouring(TINY, GALLERY)
    done, undone, page, refused = [], [], {}, 0
    for i in range(30):
        message = START[i] if i < 2 else (random_message(rng), [rng.choice(FILES)])
        before, step, kind = c.state, c.step, message[0]["kind"]
        answer = c.receive(*message)
        if c.step == step:
            refused += answer is not None
            assert c.state is before
        elif kind == "undo": undone.append(done.pop())
        elif kind == "redo": done.append(undone.pop())
        else: done, undone = [*done, message], []
        again = Colouring(TINY, GALLERY)
        again._derived = WARM
        for m in done: again.receive(*m)
        assert again.state == c.state, (i, message)
        assert (len(c.past), len(c.future)) == (len(done), len(undone))
        page |= c.scene(page.get("step", 0), flats=rng.random() < .5)
        if i % 10 == 9:
            if page["pending"]: assert page["labels"] == b"" and page["regions"] == []
            page |= c.scene(page["step"])
            again._derived = _Derived(TINY)
            differ = lambda s: {k: v for k, v in s.items() if k not in ("step", "can")}
            assert differ(page) == differ(again.scene()), (i, message)
    assert refused > 3 and step > 12


def test_undo_and_redo_give_the_same_bytes(mine):
    "All the way back to nothing, and forth; a new action forgets what was undone."
    shots, n = [mine.scene()], len(mine.past)
    for _ in range(n):
        mine.undo()
        shots.append(mine.scene())
    assert mine.state == State() and mine.receive({"kind": "undo"})[0]["text"] == "there is nothing to undo"
    assert (shots[-1]["width"], shots[-1]["soft"], shots[-1]["can"]["flat"]) == (0, b"", False)
    for shot in shots[-2::-1]:
        mine.redo()
        same = lambda s: {k: v for k, v in s.items() if k not in ("step", "can")}
        assert same(mine.scene()) == same(shot)
    mine.undo()
    mine.paint(*HAIR, "#ffffff")
    assert not mine.future and "nothing to do again" in mine.receive({"kind": "redo"})[0]["text"]


# ---- hints

def test_a_hint_into_a_reference_goes_with_it_and_others_stay(mine):
    mine.look(*SKIN, *HAIR, 0)
    said = mine.drop(0)
    assert said == "hint 4 looked into that reference and went with it; undo brings it back"
    assert [(h["n"], h["kind"], h["k"]) for h in mine.scene()["hints"]] == [(1, "look", 0), (2, "paint", None), (3, "leave", None)]
    expected = colorize(LINE, OTHER, TINY, hints=[(*HAIR, SHIRT), (*SHIRT, "#102030"), (*SKIN, None)])
    assert (pixels(mine.picture()) == pixels(expected)).all()
    mine.undo()
    assert [h.n for h in mine.state.hints] == [1, 2, 3, 4]
    mine.look(*SHIRT, *HAIR, 1)
    assert mine.reference(data(COLOUR.resize((90, 90))), "c.png", 1).startswith("hints 1 and 5 looked")
    assert [h.n for h in mine.state.hints] == [2, 3, 4] and mine.state.references[1].name == "c.png"


def test_a_painted_region_has_one_hint(mine):
    mine.paint(SHIRT[0] + .1, SHIRT[1], "#ffee00")
    assert [h.n for h in mine.state.hints] == [1, 3, 4]
    mine.remove(1)
    assert [h["n"] for h in mine.scene()["hints"]] == [3, 4]
    mine.paint(*HAIR, "#ffee00")
    mine.look(*HAIR, *HAIR, 0)
    assert [h.n for h in mine.state.hints] == [3, 4, 5, 6]      # a number is never given twice


def test_a_hint_on_a_line_says_so_where_it_is(mine):
    mine.paint((61.5 / 240) * 2 - 1, (87.5 / 240) * 2 - 1, "#010203")
    assert [bool(h["note"]) for h in mine.scene()["hints"]] == [False, False, False, True]


def test_another_drawing_has_no_hints_but_the_same_one_keeps_them(mine):
    mine.sketch(data(LINE), "line.png", True)
    assert len(mine.state.hints) == 3
    mine.sketch(data(on_sheet(LINE)), "line.png")
    assert mine.state.hints == () and mine.state.flat


# ---- files

def test_notes_stand_with_the_file_they_are_about(mine):
    mine.sketch(data(ImageOps.invert(on_sheet(LINE))), "chalk.png")
    mine.reference(data(LINE), "grey.png")
    mine.reference(data(OTHER), "fine.png")
    scene = mine.scene()
    assert scene["notes"] == ["chalk.png: light ink on dark paper, taken as dark ink on light paper"]
    notes = {r["name"]: r["notes"] for r in scene["references"]}
    assert "black, white and grey only" in notes["grey.png"][0] and notes["fine.png"] == []
    mine.sketch(data(COLOUR), "colour.png")
    assert "extract" in mine.scene()["notes"][0]


def test_each_colour_of_the_palette_names_its_reference(mine):
    mine.paint(*SHIRT, "#123456")
    found = {f["colour"]: f["k"] for f in mine.scene()["palette"]}
    assert [found[c] for c in ("#c83c28", "#14783c", "#123456")] == [0, 1, None]


def test_a_large_file_is_shrunk_and_said(mine):
    wide = Image.new("L", (5000, 100), 255)
    wide.paste(LINE.resize((90, 90)).convert("L"), (2000, 5))
    mine.sketch(data(wide), "wide.png")
    scene = mine.scene(flats=False)
    assert (scene["width"], scene["height"]) == (4096, 82) == opened(scene["ink"]).size
    assert any("5000×100 pixels, shrunk to 4096×82" in note for note in scene["notes"])


# ---- refusals: one sentence, and the state as it was

REFUSED = [
    ({"kind": "sketch", "name": "diary.txt"}, [b"Dear diary"], "sketch", "cannot read diary.txt"),
    ({"kind": "sketch", "name": "x.png"}, [b""], "sketch", "x.png is empty"),
    ({"kind": "sketch", "name": "x.png"}, [data(Image.new("RGB", (90, 90), "white"))], "sketch", "blank"),
    ({"kind": "sketch", "name": "x.png"}, [b"1" * 9_000_000], "sketch", "9.0 MB; at most 8 MB"),
    ({"kind": "sketch", "name": "x.png"}, [data(LINE)] * 2, "sketch", "2 files at once"),
    ({"kind": "reference", "name": "x.png"}, [], "reference", "0 files at once"),
    ({"kind": "reference", "name": "x.png"}, [data(Image.new("1", (70_000, 1_000)))], "reference", "70000 × 1000"),
    ({"kind": "reference", "name": "x.png", "k": 2}, [data(LINE)], "reference", "no such"),
    ({"kind": "drop", "k": -1}, [], "picture", "no such"),
    ({"kind": "choose", "role": "sketch", "index": 0}, [], "sketch", "no such picture"),
    ({"kind": "paint", "x": 0, "y": 1.01, "colour": None}, [], "picture", "outside"),
    ({"kind": "paint", "x": float("nan"), "y": 0, "colour": None}, [], "picture", "outside"),
    ({"kind": "paint", "x": 0, "y": 0, "colour": "mud"}, [], "picture", "'mud' is no colour"),
    ({"kind": "paint", "x": "0", "y": 0}, [], "picture", "its x is missing"),
    ({"kind": "look", "x": 0, "y": 0, "u": 0, "v": -2, "k": 0}, [], "picture", "outside"),
    ({"kind": "look", "x": 0, "y": 0, "u": 0, "v": 0, "k": 2}, [], "picture", "no such"),
    ({"kind": "remove", "n": 7}, [], "picture", "no number 7"),
    ({"kind": "redo"}, [], "picture", "nothing to do again"),
    ({"kind": "palette", "colours": []}, [], "picture", "no colour in it"),
    ({"kind": "save", "as": "exe"}, [], "picture", "png, flats or ora"),
    ({"kind": "format"}, [], "picture", "no such message"), ({}, [], "picture", "no such message"),
]


def whole(c): return c.state, list(c.past), list(c.future), c.step, dict(c.made)


@pytest.mark.parametrize("content, files, role, words", REFUSED)
def test_a_refusal_is_a_sentence_and_changes_nothing(mine, content, files, role, words):
    before = whole(mine)
    answer, none = mine.receive(content, files)
    assert answer["kind"] == "say" and answer["role"] == role and words in answer["text"] and "\n" not in answer["text"] and none == []
    assert whole(mine) == before


def test_without_files_the_page_says_what_it_needs():
    c = Colouring(TINY)
    for content in ({"kind": "paint", "x": 0, "y": 0}, {"kind": "save", "as": "png"}): assert "sketch: there is none yet" in c.receive(content)[0]["text"]
    c.sketch(data(LINE))
    for content in ({"kind": "look", "x": 0, "y": 0, "u": 0, "v": 0, "k": 0}, {"kind": "save", "as": "ora"}):
        assert "reference: there is none yet" in c.receive(content)[0]["text"]
    assert c.scene()["soft"] == b"" and len(c.scene()["ink"]) > 0 and len(c.past) == 1


def test_weights_without_attention_refuse_a_second_reference_and_hints_into_one(mine):
    mine.drop(1)
    mine._derived = _Derived(load_generator(Path(colouring.__file__).parents[1] / "weights" / "tiny"))
    config = mine._derived.generator.config
    mine._derived.generator.config = config.__class__(**{**vars(config), "fusion": "addition"})
    before = whole(mine)
    for message in (({"kind": "reference", "name": "x"}, [data(OTHER)]), ({"kind": "look", "x": 0, "y": 0, "u": 0, "v": 0, "k": 0}, [])):
        assert "fusion" in mine.receive(*message)[0]["text"] and whole(mine) == before
    assert not mine.scene()["can"]["look"] and mine.receive({"kind": "paint", "x": 0, "y": 0, "colour": "#ff0000"}) is None


def test_what_a_visitor_keeps_is_bounded(mine, monkeypatch):
    mine._derived = _Derived(TINY)
    for _ in range(MAX_REFERENCES - 2): mine.reference(data(COLOUR))
    assert "as many as can be" in mine.receive({"kind": "reference", "name": "x"}, [data(OTHER)])[0]["text"]
    monkeypatch.setattr(colouring, "MAX_HINTS", 4)
    mine.look(*SKIN, *SKIN, 1)
    assert "as many as can be" in mine.receive({"kind": "look", "x": 0, "y": 0, "u": 0, "v": 0, "k": 0})[0]["text"]
    mine.paint(*SHIRT, "#445566")                               # in place of another
    assert len(mine.state.hints) == 4 < MAX_HINTS
    for i in range(70): mine.flat(i % 2 == 1)
    assert len(mine.past) == 64
    monkeypatch.setattr(colouring, "MAX_BYTES", 20_000)         # of all files that can be shown: eight times as much
    for i in range(9): mine.sketch(data(LINE) + bytes(15_000 + i), "x.png")
    assert 100_000 < mine._bytes() <= 160_000 and len(mine.past) < 9
    assert all(len(kept) <= 2 * MAX_REFERENCES for kept in mine._derived._kept.values())


# ---- what is fast

def test_a_painted_region_makes_no_picture_again(mine, monkeypatch, capsys):
    "Nothing is read, run, cut or encoded for a colour; a hint into the reference reads and cuts nothing. At 1,024²."
    mine._derived, start = _Derived(TINY), time.perf_counter()
    mine.sketch(data(LINE.resize((1024, 1024))), "x.png")
    step = mine.scene(flats=False)["step"]
    soft = time.perf_counter() - start
    step = mine.scene(step)["step"]
    made = []
    for name in ("read_upload", "painted_square", "page_colours", "segment", "palette_of_all", "encoded"):
        def noted(*a, name=name, real=getattr(colouring, name), **k): return made.append(name) or real(*a, **k)
        monkeypatch.setattr(colouring, name, noted)
    monkeypatch.setattr(colouring.Flats, "of", lambda *a, real=colouring.Flats.of: made.append("of") or real(*a))
    start = time.perf_counter()
    mine.paint(*SHIRT, "#445566")
    scene = mine.scene(step)
    painted = time.perf_counter() - start
    assert made == [] and not {"ink", "soft", "labels", "references", "gallery"} & set(scene)
    mine.flat(False), mine.undo(), mine.redo(), mine.scene(step)
    assert made == []
    mine.look(*SKIN, *SKIN, 0)
    mine.scene(scene["step"])
    assert made == ["painted_square", "page_colours", "of", "encoded", "encoded"]
    with capsys.disabled(): print(f"[1,024²: soft picture {soft:.2f} s, a region {1000 * painted:.1f} ms]", end=" ")
    assert painted < soft / 10
