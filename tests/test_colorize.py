"""Your own drawing: whatever file it is, the whole command, and what would bore a reader of 14_colorize.

`python tests/test_colorize.py 1000 [SEED]` colours a thousand damaged and odd files and says what became of them.
"""
import contextlib
import dataclasses
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "refcolor" / "weights" / "tiny"


# ---- the fuzz: odd and damaged files, each gives a picture or one line and exit code 2

def drawing(rng, mode="RGB", size=None):
    "A few strokes on paper."
    w, h = size or (rng.randint(1, 200), rng.randint(1, 200))
    image = Image.new("RGB", (w, h), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 6)):
        points = [(rng.randrange(w), rng.randrange(h)) for _ in range(3)]
        pen.line(points, fill=tuple(rng.randrange(256) for _ in range(3)), width=rng.randint(1, 8))
    pen.line([(0, 0), (w, h)], fill="black", width=2)
    return image.convert(mode)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def bomb(w, h):
    "A PNG of a few bytes that claims w × h pixels, and has right checksums."
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")


def sixteen_bit(rng):
    return Image.fromarray((np.asarray(drawing(rng, "L"), np.uint16) * 257))


def with_exif(rng):
    exif = Image.Exif()
    exif[0x0112] = rng.randint(0, 9)                                       # orientation; 0 and 9 do not exist
    data = bytearray(exif.tobytes())
    if rng.random() < 0.7:
        for _ in range(rng.randint(1, 8)): data[rng.randrange(6, len(data))] = rng.randrange(256)
    return encoded(drawing(rng), "JPEG", exif=bytes(data))


def animated(rng, kind):
    frames = [drawing(rng, "RGB", (40, 30)) for _ in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


KINDS = {
    ".png": [lambda r: encoded(drawing(r, r.choice(["RGB", "RGBA", "L", "LA", "1", "P"])), "PNG"),
             lambda r: encoded(sixteen_bit(r), "PNG"),
             lambda r: encoded(drawing(r).quantize(8), "PNG", transparency=r.randrange(8)),
             lambda r: bomb(r.choice([9_000, 50_000, 2 ** 31 - 1]), r.choice([9_000, 60_000])),
             lambda r: encoded(drawing(r, size=r.choice([(1, 1), (1, 300), (20_000, 10), (10, 20_000)])), "PNG")],
    ".jpg": [lambda r: encoded(drawing(r, r.choice(["RGB", "L", "CMYK"])), "JPEG"), with_exif],
    ".webp": [lambda r: encoded(drawing(r, r.choice(["RGB", "RGBA"])), "WEBP", lossless=r.random() < 0.5),
              lambda r: animated(r, "WEBP")],
    ".gif": [lambda r: encoded(drawing(r, "P"), "GIF"), lambda r: animated(r, "GIF")],
    ".tif": [lambda r: encoded(drawing(r, r.choice(["RGB", "CMYK", "L", "F", "I", "LAB"]) if r.random() < 0.8 else "1"), "TIFF")
             if r.random() < 0.9 else encoded(sixteen_bit(r), "TIFF")],
    ".bmp": [lambda r: encoded(drawing(r, r.choice(["RGB", "L"])), "BMP")],
}


def damaged(rng, data):
    "The same file, or cut, or with some bytes changed, or with something in front."
    data = bytearray(data)
    what = rng.random()
    if what < 0.3: return bytes(data)
    if what < 0.5: return bytes(data[:rng.randrange(len(data))])
    if what < 0.9:
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(rng.choice([len(data), min(60, len(data))]))] = rng.randrange(256)
        return bytes(data)
    return rng.choice([b"", b"\0" * 100, bytes(rng.randrange(256) for _ in range(300)), b"\xff" + bytes(data)])


def odd_path(rng, folder):
    "A path that is not an ordinary readable file."
    path, what = folder / "odd.png", rng.randrange(5)
    if what == 0: path.mkdir()
    elif what == 1: os.mkfifo(path)
    elif what == 2: path.symlink_to(path)
    elif what == 3: return folder / ("n" * 300 + ".png")
    else:
        path.write_bytes(encoded(drawing(rng), "PNG"))
        path.chmod(0)                                                      # root may read it all the same
    return path


def fuzzed_file(rng, folder, name):
    if rng.random() < 0.07: return odd_path(rng, folder)
    suffix = rng.choice(list(KINDS))
    data = damaged(rng, rng.choice(KINDS[suffix])(rng))
    path = folder / (name + (rng.choice(list(KINDS)) if rng.random() < 0.2 else suffix))     # a wrong extension
    path.write_bytes(data)
    return path


def fuzz(runs: int, seed: int) -> dict:
    "Colour `runs` pairs of fuzzed files; assert that each gives a picture, or one line and exit code 2."
    from refcolor.app.cli import main
    tally = {"pictures": 0, "refused": 0}
    for run in range(runs):
        rng = random.Random(f"{seed} {run}")
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            good = folder / "good.png"
            drawing(rng, size=(60, 50)).save(good)
            sketch = fuzzed_file(rng, folder, "sketch")
            reference = fuzzed_file(rng, folder, "reference") if rng.random() < 0.3 and not (folder / "odd.png").exists() else good
            if rng.random() < 0.3: sketch, reference = reference, sketch
            out, said, printed = folder / "results" / "out.png", io.StringIO(), io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
                code = main(["colorize", "--sketch", str(sketch), "--reference", str(reference), "--out", str(out), "--weights", str(TINY)]
                            + ["--extract"] * (rng.random() < 0.1) + ["--no-clean"] * (rng.random() < 0.1))
            lines = [l for l in said.getvalue().splitlines() if not l.startswith("note:")]
            where = f"run {run} of seed {seed}: {sketch.name[:20]}, {reference.name[:20]}, code {code}: {lines}"
            assert len(lines) == 1 and not printed.getvalue(), where
            if code == 0:
                Image.open(out).load()
                tally["pictures"] += 1
            else:
                assert code == 2 and lines[0].startswith(("refcolor: ", "refcolor colorize: ")), where
                assert not out.parent.exists() or not list(out.parent.iterdir()), where
                tally["refused"] += 1
    tally["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return tally


def run_as_user(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REFCOLOR_PROGRESS": "0"}
    return subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, **options)


def test_two_hundred_fuzzed_files():
    done = run_as_user(__file__, 200, 0)
    assert done.returncode == 0, done.stderr[-3000:]
    tally = json.loads(done.stdout.splitlines()[-1])
    # both must happen, or the fuzz would show nothing
    assert tally["pictures"] > 50 and tally["refused"] > 50 and tally["peak_gb"] < 2, tally


# ---- the command

class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def colorize(*arguments):
    from refcolor.app.cli import main
    said, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        code = main(["colorize", *map(str, arguments)])
    return Done(code, printed.getvalue(), said.getvalue())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "Two drawings and two references of held-out characters, and the right answer of the first pair."
    from refcolor.data.characters import character_svg, line_art_svg, palette_of, rasterize, split_seeds
    folder, seeds = tmp_path_factory.mktemp("pictures"), split_seeds("avatars", "test", 24)
    def save(path, svg):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rasterize(svg, 300)).save(path)
    for name, i, j in (("ann", 6, 21), ("bob", 3, 9)):
        save(folder / "in" / f"{name}.png", line_art_svg("avatars", seeds[i]))
        save(folder / "colours" / f"{name}.png", character_svg("avatars", seeds[j], palette_of("avatars", seeds[j])))
        save(folder / "truth" / f"{name}.png", character_svg("avatars", seeds[i], palette_of("avatars", seeds[j])))
    return folder


def test_a_folder_is_paired_by_name_and_nothing_is_overwritten(pictures, tmp_path):
    out = tmp_path / "out"
    arguments = ["--sketch", pictures / "in", "--reference", pictures / "colours", "--out", out]
    done = colorize(*arguments, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["written"] == 2, done.stderr
    assert "TINY" in done.stderr or "SMALL" in done.stderr, "the command says which weights it took"
    error = lambda name, truth: np.abs(np.asarray(Image.open(out / name), float) - np.asarray(Image.open(pictures / "truth" / truth), float)).mean()
    for name, other in (("ann.png", "bob.png"), ("bob.png", "ann.png")): assert error(name, name) < 0.5 * error(name, other)
    (out / "ann.png").write_text("mine")
    done = colorize(*arguments)
    assert done.returncode == 0 and "kept 2" in done.stderr and (out / "ann.png").read_text() == "mine"
    done = colorize("--sketch", pictures / "in/ann.png", "--reference", pictures / "colours/ann.png", "--out", out / "ann.png")
    assert done.returncode == 2 and "--force" in done.stderr and (out / "ann.png").read_text() == "mine"
    assert colorize(*arguments, "--force").returncode == 0 and Image.open(out / "ann.png").size == (300, 300)


def test_one_bad_file_in_a_folder_does_not_stop_the_others(pictures, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_text("no picture")
    (folder / "b.png").write_bytes((pictures / "in/bob.png").read_bytes())
    done = colorize("--sketch", folder, "--reference", pictures / "colours/bob.png", "--out", tmp_path / "out")
    assert done.returncode == 2 and "a.png" in done.stderr and "1 of 2 sketches" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.png"]


def test_one_hint_makes_a_better_second_result(pictures, tmp_path):
    "By weights trained on bent copies the paper takes the colour of the reference's hair; one hint sends it to the paper."
    truth = np.asarray(Image.open(pictures / "truth/ann.png"), float)
    errors = []
    for hint in ([], ["--hint", 292, 7, 292, 7]):
        out = tmp_path / f"{len(hint)}.png"
        done = colorize("--sketch", pictures / "in/ann.png", "--reference", pictures / "colours/ann.png", "--out", out, *hint,
                        "--weights", ROOT / "nbs/results/aligned")
        assert done.returncode == 0, done.stderr
        errors.append(np.abs(np.asarray(Image.open(out), float) - truth).mean())
    assert errors[1] < 0.75 * errors[0], errors


@pytest.mark.parametrize("hint, said", [(["1", "2", "3"], "expected X Y X' Y'"), (["1", "2", "3", "4", "1"], "expected X Y X' Y'"),
                                        (["1", "2", "3", "9999"], "outside of its picture")])
def test_a_hint_that_is_none_is_one_line(pictures, tmp_path, capsys, hint, said):
    from refcolor.app.cli import main
    code = main(["colorize", "--sketch", str(pictures / "in/ann.png"), "--reference", str(pictures / "colours/ann.png"),
                 "--out", str(tmp_path / "x.png"), "--hint", *hint])
    assert code == 2 and said in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix, most", [(".jpg", 40), (".JFIF", 40), (".webp", 0), (".tif", 0)])
def test_what_is_written_keeps_its_colours(pictures, tmp_path, suffix, most):
    "As JPEG within a few grey levels (75 and halved colours: over 80), elsewhere as it is."
    done = [colorize("--sketch", pictures / "in/ann.png", "--reference", pictures / "colours/ann.png", "--out", tmp_path / f"x{s}") for s in (".png", suffix)]
    assert [d.returncode for d in done] == [0, 0]
    apart = np.abs(np.asarray(Image.open(tmp_path / f"x{suffix}"), float) - np.asarray(Image.open(tmp_path / "x.png"), float))
    assert apart.max() <= most and apart.mean() < 1, (apart.max(), apart.mean())


@pytest.mark.parametrize("suffix", [".ico", ".ICNS", ".xbm", ".gif", ".doc", ""])
def test_a_format_that_does_not_keep_the_size_is_refused_before_the_work(pictures, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("refcolor.app.commands.read_picture", lambda *a: pytest.fail("worked first"))
    done = colorize("--sketch", pictures / "in/ann.png", "--reference", pictures / "colours/ann.png", "--out", tmp_path / f"new/x{suffix}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "such as .png" in done.stderr and not list(tmp_path.iterdir())


def test_without_weights_it_says_what_to_do(monkeypatch, tmp_path):
    "No packaged weights: those of runs/demo; without them, one line."
    from refcolor import colorize as module
    from refcolor.core import UserError
    packaged = module.default_weights()
    monkeypatch.setattr(module, "files", lambda name: tmp_path / "no weights here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="refcolor demo"): module.default_weights()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(packaged)
    assert module.default_weights() == Path("runs/demo")


# ---- colours and lines

def bleeding(enlarge, seed):
    "The share of pixels near a random closed line that have the colour of its other side."
    import torch
    from refcolor.framing import network_view
    from refcolor.show import to_tensor
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = 150 + 40 * np.sin(3 * angle + rng.uniform(0, 6)) + 10 * np.sin(7 * angle + rng.uniform(0, 6))
    outline = [tuple(p) for p in np.stack([256 + radius * np.cos(angle), 256 + radius * np.sin(angle)], 1)]
    lines, inside = Image.new("L", (512, 512), 255), Image.new("L", (512, 512), 0)
    ImageDraw.Draw(lines).polygon(outline, outline=0, width=3)
    ImageDraw.Draw(inside).polygon(outline, fill=255)
    seen = to_tensor(network_view(lines, 64)[0])[0]
    coarse = to_tensor(inside.resize((64, 64), Image.Resampling.BOX))[0, 0] > 0        # the network's border: half a pixel off
    fake = torch.where(coarse, torch.tensor([1., -1, -1]).view(3, 1, 1), torch.tensor([-1., 1, -1]).view(3, 1, 1))
    painted = np.asarray(enlarge((fake + 1) * (seen + 1) / 2 - 1, seen, lines)).astype(int)
    paper, red = np.asarray(lines) == 255, np.asarray(inside) == 255
    wrong = (painted[..., 0] > painted[..., 1]) != red
    near = np.asarray(lines.resize((64, 64), Image.Resampling.BOX).resize((512, 512), 0)) < 255
    return wrong[paper & near].mean()


@pytest.mark.parametrize("seed", range(5))
def test_colour_stops_at_any_closed_line(seed):
    from refcolor.flats import colour_between_lines
    from refcolor.show import to_image
    mutant = lambda fake, seen, lines: to_image(fake).resize(lines.size, Image.Resampling.BICUBIC)
    assert bleeding(colour_between_lines, seed) < 0.001 < 0.01 < bleeding(mutant, seed)


# ---- ONNX, speed and size

def test_the_onnx_file_is_the_network(tmp_path):
    "Two sizes, one of them not square, against PyTorch; and the file itself leaves height and width free."
    import torch
    from refcolor.core import TINY, ModelConfig
    from refcolor.generator import Generator
    torch.manual_seed(0)
    # each kind of layer once: exporting takes as long as the network has layers
    net = Generator(ModelConfig(size=64, channels=(8, 16, 32), strides=(1, 2, 2), bottleneck=16, blocks=1))
    net.preset = dataclasses.replace(TINY, model=net.config)
    net.save_pretrained(tmp_path / "weights")
    done = run_as_user("-m", "refcolor.app.cli", "export", "--weights", tmp_path / "weights", "--out", tmp_path / "out/model.onnx", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["difference"] < 1e-4 and [p.name for p in (tmp_path / "out").iterdir()] == ["model.onnx"]
    import onnx
    graph = onnx.load(tmp_path / "out/model.onnx").graph
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in (*graph.input, *graph.output)}
    assert shapes["sketch"] == [1, 1, "height", "width"] and shapes["fake"] == [1, 3, "height", "width"], shapes


def test_a_large_drawing_fits(pictures, tmp_path):
    "4,096² pixels in under 1.5 GB, and in less than eight times what it takes to read the file and write it again."
    Image.open(pictures / "in/bob.png").resize((4096, 4096)).save(tmp_path / "large.png")
    script = ("import resource, sys, time; from PIL import Image; import refcolor.colorize; from refcolor.app.cli import main; "
              "start = time.process_time(); Image.open(sys.argv[3]).convert('RGB').save(sys.argv[7] + '.copy.png'); "
              "middle = time.process_time(); code = main(sys.argv[1:]); "
              "print(code, (time.process_time() - middle) / (middle - start), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)")
    done = run_as_user("-c", script, "colorize", "--sketch", tmp_path / "large.png", "--reference", pictures / "colours/bob.png",
                       "--out", tmp_path / "out.png")
    code, ratio, gigabytes = map(float, done.stdout.split())
    assert code == 0 and ratio < 8 and gigabytes < 1.5, (ratio, gigabytes, done.stderr)


def test_colouring_needs_none_of_the_extras(pictures, tmp_path):
    "What draws figures and widgets, trains, measures or talks to the Hub is not loaded."
    script = ("import sys; from PIL import Image; from refcolor.colorize import colorize; "
              "colorize(*map(Image.open, sys.argv[1:3])).save(sys.argv[3]); print(*sys.modules)")
    done = run_as_user("-c", script, pictures / "in/bob.png", pictures / "colours/bob.png", tmp_path / "out.png")
    assert (tmp_path / "out.png").exists(), done.stderr
    extras = {"matplotlib", "ipywidgets", "anywidget", "dicebear", "resvg_py", "torchvision", "accelerate", "torchmetrics",
              "scipy", "skimage", "huggingface_hub", "onnx", "torch._dynamo", "refcolor.data.characters", "refcolor.train"}
    loaded = set(done.stdout.split())
    assert "torch" in loaded and extras & loaded == set()


# ---- 14_colorize beyond the lesson

@pytest.fixture(scope="module")
def drawn():
    "TINY, and functions that draw the line art and the picture of a character that it never saw."
    from functools import lru_cache
    from refcolor.data.characters import character_svg, line_art_svg, palette_of, rasterize, split_seeds
    from refcolor.generator import load_generator
    import torch
    torch.set_num_threads(1)
    seeds = split_seeds("avatars", "test", 24)
    @lru_cache
    def line_art(i, size=512): return Image.fromarray(rasterize(line_art_svg("avatars", seeds[i]), size))
    @lru_cache
    def character(i, size=512): return Image.fromarray(rasterize(character_svg("avatars", seeds[i], palette_of("avatars", seeds[i])), size))
    return load_generator(TINY), line_art, character


def test_transparent_is_paper_and_not_the_black_inside():
    from refcolor.data.decode import read_picture
    clear = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    clear.paste("red", (0, 0, 4, 4))
    assert clear.convert("RGB").getpixel((7, 0)) == (0, 0, 0) and read_picture(clear).getpixel((7, 0)) == (255, 255, 255)


def test_a_page_that_is_all_ink_stays_dark_and_no_clean_leaves_everything_alone(drawn):
    from refcolor.colorize import ink_of
    drawing = drawn[1](3)
    assert np.asarray(ink_of(Image.new("L", (4, 4), 0))).max() == 0
    yellow = Image.fromarray((np.asarray(drawing) * [.9, .8, .6]).astype(np.uint8))
    assert np.array_equal(ink_of(yellow, clean=False), yellow.convert("L")) and not np.array_equal(ink_of(yellow), yellow.convert("L"))


@pytest.mark.parametrize("paper", [248, 250, 252, 254, 255])
def test_paper_that_is_almost_white_is_white(paper):
    "Under faint ink, too, which is stretched: 29 levels of error where paper of 250 was left as it is."
    from refcolor.colorize import ink_of
    sheet = Image.new("RGB", (120, 120), (paper,) * 3)
    ImageDraw.Draw(sheet).ellipse((20, 20, 100, 100), outline=(130,) * 3, width=3)
    ink = np.asarray(ink_of(sheet))
    assert ink[0, 0] == ink[60, 60] == 255 and ink.min() == 0


@pytest.mark.parametrize("w, h", [(1, 1), (3, 500), (640, 480), (64, 64), (300, 100), (20_000, 10)])
def test_letterboxing_keeps_proportions_and_centres(w, h):
    from refcolor.data.pictures import letterbox
    square, (left, top, right, bottom) = letterbox(Image.new("L", (w, h)), 64)
    assert square.size == (64, 64) and [right - left, bottom - top] == [max(1, round(64 * side / max(w, h))) for side in (w, h)]
    assert abs(left - (64 - right)) <= 1 and abs(top - (64 - bottom)) <= 1


@pytest.mark.parametrize("mode, size", [("L", (150, 200)), ("RGB", (8, 8)), ("1", (300, 40)), ("CMYK", (64, 64)), ("RGBA", (500, 9))])
def test_the_result_has_the_sketch_s_size_and_its_ink(drawn, mode, size):
    from refcolor.colorize import colorize
    sketch = Image.new("L", size, 255)
    sketch.paste(0, (0, 0, 1, size[1]))
    drawn = colorize(sketch.convert(mode), drawn[2](9), drawn[0])
    assert (drawn.size, drawn.mode) == (size, "RGB") and drawn.getpixel((0, size[1] // 2)) == (0, 0, 0)


def test_neither_picture_is_changed_and_a_path_gives_the_same(drawn, tmp_path):
    from refcolor.colorize import colorize
    tiny, line_art, character = drawn
    sketch, reference = line_art(3).copy(), character(9).copy()
    first = colorize(sketch, reference, tiny)
    assert np.array_equal(sketch, line_art(3)) and np.array_equal(reference, character(9))
    sketch.save(tmp_path / "a.png")
    assert np.array_equal(colorize(tmp_path / "a.png", reference, tiny), first) and np.array_equal(colorize(sketch, reference, tiny), first)


def test_a_hint_in_a_tall_drawing_lands_where_it_was_put(drawn):
    "The drawing's square has paper on both sides: coordinates that ignore the box point beside the part."
    from refcolor.colorize import colorize
    tiny, line_art, character = drawn
    half = line_art(3).crop((128, 0, 368, 480))                              # both pictures have lines wherever this one has
    wide = Image.new("RGB", (480, 480), "white")
    wide.paste(half, (120, 0))
    def hinted(drawing, x): return colorize(drawing, character(9), tiny, hints=[(x, -0.4, (0, 0.3))])
    ours = np.asarray(hinted(half, 0.2), np.float32)
    right, mutant = (np.asarray(hinted(wide, x).crop((120, 0, 360, 480)), np.float32) for x in (0.1, 0.9))
    assert np.abs(ours - right).mean() < 2 < np.abs(ours - mutant).mean()


def test_one_reference_twice_is_one_reference(drawn):
    from refcolor.colorize import colorize
    tiny, line_art, character = drawn
    one, two = (np.asarray(colorize(line_art(3), r, tiny), np.float32) for r in (character(9), [character(9)] * 2))
    assert np.abs(one - two).max() <= 2


def test_packaged_weights_are_used_when_none_are_named(drawn):
    from refcolor.colorize import colorize, default_weights
    assert (default_weights() / "preset.json").exists()
    assert np.array_equal(colorize(drawn[1](3, 128), drawn[2](9, 128)), colorize(drawn[1](3, 128), drawn[2](9, 128), default_weights()))


@pytest.mark.parametrize("sketch, reference, hints, words", [
    ("blank", None, (), "sketch: it is blank"), ("dark", None, (), "there is no drawing in it"), ("drawn", [], (), "reference: none is given"),
    ("drawn", None, [(0, 0, (0, 3))], "hint 1: a point lies outside"), ("drawn", None, [(0, 0)], "hint 1: expected"),
    ("drawn", None, [(0, 0, (0, 0, 1))], "there is no reference 1")])
def test_what_cannot_be_coloured_is_refused_in_one_line(drawn, sketch, reference, hints, words):
    from refcolor.colorize import colorize
    from refcolor.core import UserError
    page = {"blank": Image.new("RGB", (64, 64), "white"), "dark": Image.new("RGB", (64, 64)), "drawn": drawn[1](3)}[sketch]
    with pytest.raises(UserError, match=words): colorize(page, drawn[2](9) if reference is None else reference, drawn[0], hints=hints)


if __name__ == "__main__":
    print(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)))


def test_grain_is_not_raised_to_ink():
    "Thin lines are raised until the network sees them; what lies far below them is no ink."
    from refcolor.framing import INK, network_view
    page = 255 - np.random.default_rng(0).integers(0, 20, (480, 480))
    for k in (0, 1): page[k::120], page[:, k::120] = 60, 60
    square = np.asarray(network_view(Image.fromarray(page.astype(np.uint8)), 96)[0]) / 255
    assert np.median(1 - square[6:18, 6:18]) < 0.25 * INK < 0.5 * INK < 1 - square[:, 24].max()
