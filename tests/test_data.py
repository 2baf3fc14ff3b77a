"""What happens to a data set when things go wrong around it."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from refcolor.app.cli import main
from refcolor.core import UserError
from refcolor.data import characters
from refcolor.data.characters import GENERATED, STYLES, character_svg, line_art, palette_of, part_map, rasterize
from refcolor.data.datasets import data_note, dataset_names, open_dataset
from refcolor.data.emoji import emoji_kind, emoji_palette
from refcolor.data.pairs import PARTS, CrossReference
from refcolor.data.pictures import cache_folder
from refcolor.data.styles import border_lines

DRAW = "from refcolor.data import open_dataset; open_dataset('adventurer', split='valid', size=48, n=60)"


def test_a_killed_render_leaves_nothing_that_breaks_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path / "cache"))
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    hook = "import refcolor.data.characters as d; real = d.np.save; d.np.save = lambda *a: (real(*a), print('saved', flush=True), __import__('time').sleep(30)); "
    process = subprocess.Popen([sys.executable, "-c", hook + DRAW], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "saved\n"                   # in the middle of writing the cache
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not [p for p in cache_folder().iterdir() if not p.name.startswith(".")], "a half-drawn set has its name"
    assert len(open_dataset("adventurer", split="valid", size=48, n=60)) == 60
    whole = [p for p in cache_folder().iterdir() if not p.name.startswith(".")]
    assert len(whole) == 1 and {p.name for p in whole[0].iterdir()} == {"images.npy", "lines.npy", "parts.npy", "seeds.json"}


def test_two_processes_may_draw_the_same_set(tmp_path, monkeypatch):
    monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path))
    both = [subprocess.Popen([sys.executable, "-c", DRAW], env=dict(os.environ)) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert len(open_dataset("adventurer", split="valid", size=48, n=60)) == 60
    assert len(list(cache_folder().iterdir())) == 1, "the slower one left its folder behind"


def test_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set REFCOLOR_CACHE"): open_dataset("avatars", split="valid", size=32, n=2)


@pytest.fixture
def pictures(tmp_path):
    "A folder of pictures of several kinds, below each other."
    rng = np.random.default_rng(0)
    for i in range(40):
        image = Image.fromarray(rng.integers(0, 255, (rng.integers(30, 90), rng.integers(30, 90), 3), np.uint8)).resize((80, 70))
        if i % 4 == 1: image = image.convert("L")
        if i % 4 == 2: image = image.convert("RGBA")
        folder = tmp_path / "pictures" / f"ordner mit ü {i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{i}.png")
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture, and not looked at")
    return tmp_path / "pictures"


def test_a_folder_is_split_without_overlap(pictures):
    parts = [set(open_dataset("folder", pictures, s, 32).source.paths) for s in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 40 == len(set.union(*parts))
    assert open_dataset("folder", pictures, "train", 32).batch([0, 1]).image.shape == (2, 3, 32, 32)


def test_training_on_a_folder_extracts_sketches(pictures, tmp_path):
    code = main(["train", "--data", "folder", "--root", str(pictures), "--batch", "2", "--steps", "2", "--out", str(tmp_path / "run")])
    assert code == 0 and (tmp_path / "run" / "last" / "generator.safetensors").exists()


def test_a_damaged_picture_in_a_folder_is_named(pictures, tmp_path, capsys):
    for p in pictures.rglob("*.png"): p.write_bytes(p.read_bytes()[:200])
    code = main(["train", "--data", "folder", "--root", str(pictures), "--batch", "2", "--steps", "2", "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert code == 2 and "cannot read" in err and ".png" in err


LABELS = {name: characters._labels(name) for name in GENERATED}      # (paint, shade) of the labels 2, 3, …
BARE = [name for name in STYLES if not STYLES[name].outlined]        # styles without outlines
rgb = lambda colour: np.array(list(bytes.fromhex(colour[1:])))                              # noqa: E731


def two_palettes(name, seed, size=64):
    "Part map, and the drawing in two palettes, without anti-aliasing; of a style without outlines at the same points."
    k = 1 if STYLES[name].outlined else 3
    return part_map(name, seed, size), *(rasterize(character_svg(name, seed, palette_of(name, p)), k * size, crisp=True)[k // 2::k, k // 2::k] for p in (1, 2))


def commonest(pixels):
    "The colour that most of the pixels (n, 3) have: that of their inside."
    colours, n = np.unique(np.asarray(pixels), axis=0, return_counts=True)
    return colours[n.argmax()]


@pytest.mark.parametrize("name", STYLES)
def test_a_labelled_pixel_has_exactly_its_colour_and_no_other_pixel_follows_the_palette(name):
    for seed in range(8):
        parts, *pictures = two_palettes(name, seed)
        assert parts.max() < 2 + len(LABELS[name])
        for p, picture in zip((1, 2), pictures):
            palette = palette_of(name, p)
            colours = np.array([rgb(palette[slot]) * shade for slot, shade in LABELS[name]])
            assert np.abs(picture - colours[np.maximum(parts, 2) - 2])[parts >= 2].max() <= 1
        # micah has a collar that lets the shirt shine through
        if name != "avatars": assert not (pictures[0] != pictures[1])[parts < 2].any()


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_that_are_judged_are_seen(name):
    "At 32 pixels, in four of five characters at least 8 pixels of each."
    labels = {characters.PART_NAMES.get(slot, slot): 2 + k for k, slot in enumerate(STYLES[name].slots)}
    parts = np.stack([part_map(name, seed, 32) for seed in range(64)])
    for part in PARTS[name]: assert ((parts == labels[part]).sum((1, 2)) >= 8).mean() >= .8, part


@pytest.mark.parametrize("name", BARE)
def test_lines_that_are_sought_enclose_the_parts_and_are_no_palette(name, monkeypatch):
    enclosed, thick = [], []
    for seed in range(8):
        line, parts = line_art(name, seed, 96), part_map(name, seed, 96)
        inner = np.s_[1:-1, 1:-1]
        near = np.stack([np.roll(line, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]).min(0)[inner] < 128
        border = np.zeros_like(parts, bool)
        for axis in (0, 1):
            other = np.roll(parts, -1, axis)
            border |= (parts != other) & (np.minimum(parts, other) != 1)
        enclosed.append(near[border[inner]])
        thick.append((line[parts == 0] < 128).mean())
        assert line.max() == 255 and .02 < (line < 128).mean() < .2
    assert np.concatenate(enclosed).mean() > .95
    assert np.mean(thick) < .08                      # the paper beside a figure stays paper
    monkeypatch.setattr(characters, "palette_of", lambda *_: 1 / 0)
    assert (line_art(name, 0, 96) == line_art(name, 0, 96)).all()


@pytest.mark.parametrize("name", GENERATED)
def test_slots_and_shades_say_how_to_recolour(name, tmp_path, monkeypatch):
    "The picture from the part map, its palette and the two tables; and the true answer from those of another."
    monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path))
    kinds = ":people,animals" if name == "openmoji" else ""
    data = open_dataset(name + kinds, split="valid", size=96, n=6)
    image, sketch, parts = data.batch(range(6))
    truth = characters.true_answers(data, [0, 1], [1, 0])
    assert data.slots[:2].tolist() == [0, 0] and (data.slots[2:] > 0).all() and set(data.slots.tolist()) == set(range(data.slots.max() + 1))
    assert len(data.slots) == len(data.shades) == 2 + len(LABELS[name]) and parts.max() < len(data.slots)
    of = {part: data.slots[label] for part, label in data.part_labels.items()}
    assert len(set(map(int, of.values()))) == len(of) and all(data.shades[label] == 1 for label in data.part_labels.values())
    for i in range(6):
        picture = ((image[i] + 1) * 127.5).permute(1, 2, 0).numpy()
        for slot in range(1, data.slots.max() + 1):
            shown = [picture[parts[i] == l] / float(data.shades[l]) for l in (data.slots == slot).nonzero()[:, 0] if (parts[i] == l).sum() > 60]
            colours = np.array([commonest(s.round()) for s in shown])
            if len(colours) > 1: assert np.ptp(colours, axis=0).max() <= 3, "a shade is another colour"
    for a, b in ((0, 1), (1, 0)):
        for label in np.flatnonzero(data.shades == 1):
            here, there = parts[a] == label, parts[b] == label
            if min(here.sum(), there.sum()) < 150 or label < 2: continue
            gap = commonest(truth[a][:, here].T) - commonest(image[b][:, there].T)
            assert np.abs(gap).max() < .01, "the true answer has another colour than the reference"


@pytest.mark.parametrize("name", ["avatars", "adventurer", "avataaars"])
def test_spectacles_are_ink(name):
    slots = STYLES[name].slots
    frame = 2 + slots.index(next(s for s in ("glasses", "accessories") if s in slots))
    worn = [(part_map(name, seed, 96) == frame, line_art(name, seed, 96)) for seed in range(40)]
    dark = np.concatenate([line[there] < 160 for there, line in worn])
    assert len(dark) > 200 and dark.mean() > .8


@pytest.mark.parametrize("name", BARE)
def test_teeth_and_the_white_of_an_eye_are_paper(name):
    white = []
    for seed in range(12):
        image, (line,), parts = characters._draw(name, seed, 96)
        white.append(line[(parts == 1) & (image.min(0) > 250)])
    assert (np.concatenate(white) > 200).mean() > .05, "filled with ink"


def test_a_bright_veil_has_a_border():
    "personas: a face is brighter than its neck, which the picture does not show."
    shown = []
    for seed in range(6):
        with_veils, without = (rasterize(character_svg("personas", seed, dict.fromkeys(STYLES["personas"].slots, "#404040"), light), 96, crisp=True)
                               for light in (True, False))
        veil = (with_veils != without).any(-1)
        border = (veil[1:] != veil[:-1]) & (without[1:] == without[:-1]).all(-1) & (without[1:] == 64).all(-1)
        line = line_art("personas", seed, 96)
        shown.append(np.minimum(line[1:], line[:-1])[border] < 160)
    assert len(np.concatenate(shown)) > 100 and np.concatenate(shown).mean() > .8


def test_a_wrinkle_is_one_stroke_and_a_wide_shadow_has_two_borders():
    image, shadow = np.full((90, 90, 3), 200, np.uint8), np.zeros((90, 90), bool)
    shadow[:, 15:18] = shadow[:, 45:75] = True
    image[shadow] = 160
    row = border_lines(image, np.zeros_like(shadow), shadow)[15]
    assert row[5] == 0 and (row[:10] < 255).sum() == 1, "one stroke, as wide as the wrinkle"
    assert (row[17:23] == 255).all() and min(row[14:16]) < 128 and min(row[24:26]) < 128


def test_the_skin_of_an_emoji_is_the_references_and_never_lighter():
    light, dark = "1F468-1F3FB-200D-1F373", "1F468-1F3FF-200D-1F373"           # two versions of a cook
    tones = {shown: [rgb(emoji_palette(3, shown)("skin", tone)) for tone in ("#fadcbc", "#6a462f")] for shown in (light, dark)}
    assert (tones[dark][0] == tones[dark][1]).all(), "lighter than the reference's: as that"
    assert (abs(tones[light][1] - tones[light][0] * (0x6a + 0x46 + 0x2f) / (0xfa + 0xdc + 0xbc)) <= 1).all(), "darker: it keeps its shade"
    palette = emoji_palette(3)
    first, second, third = (rgb(palette("skin", tone)) for tone in ("#debb90", "#6a462f", "#fadcbc"))
    assert (abs(second - first * (0x6a + 0x46 + 0x2f) / (0xde + 0xbb + 0x90)) <= 1).all(), "another's skin keeps its shade"
    assert (third == first).all() and palette("color", "#6a462f") != palette("skin", "#6a462f")
    assert emoji_palette(3, light)("line", "#d0cfce") == "#d0cfce" and palette("hair", "#ffffff") == "#ffffff"


def test_an_emojis_label_is_one_colour_and_what_has_none_stays():
    couples = [k for k, (_, codes) in enumerate(characters.emoji_groups()) if codes[0].startswith("1F469-1F3FB-200D-1F91D")]      # hand in hand, of two tones
    n, shaded = len(characters.emoji_groups()), set()
    for seed in [*range(0, n, 61), *(k + r * n for k in couples for r in range(len(characters.emoji_groups()[k][1])))]:
        code = characters.emoji_code(seed)
        parts = characters._draw("openmoji", seed, 48)[2]
        one, two = (rasterize(characters._layers(code, emoji_palette(p)), 48, crisp=True) for p in (1, 2))
        assert (one == two)[parts < 2].all(), code
        colours = {}
        for label in np.unique(parts[parts >= 2]):
            (colours[label],) = np.unique(one[parts == label], axis=0)
            paint, shade = LABELS["openmoji"][label - 2]
            if shade < 1 and 3 in colours:
                shaded.add(shade)
                assert np.abs(colours[label] - colours[3] * shade).max() <= 1, code
    assert len(shaded) > 3


def test_a_hand_is_nobody():
    assert [emoji_kind(code) for code in ("1F44D", "1F468-200D-1F373", "1F98A", "2764")] == ["", "people", "animals", ""]


def test_splits_of_a_style_share_no_shape():
    for name in BARE:
        train, test = ({characters.shape_key(name, s) for s in characters.split_seeds(name, split, n)} for split, n in (("train", 60), ("test", 8)))
        assert train and test and not train & test


def test_emoji_can_be_narrowed_to_people_and_animals(tmp_path, monkeypatch):
    monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path))
    kinds = lambda data: {characters.emoji_kind(characters.emoji_code(s)) for s in data.seeds}                        # noqa: E731
    both, people = (open_dataset(f"openmoji:{k}", split="valid", size=24, n=30) for k in ("people,animals", "people"))
    assert kinds(both) == {"people", "animals"} and kinds(people) == {"people"} and "" in kinds(open_dataset("openmoji", split="valid", size=24, n=30))
    assert open_dataset("openmoji:animals,people", split="valid", size=24, n=30).seeds == both.seeds and len(list(cache_folder().iterdir())) == 3
    with pytest.raises(UserError, match="openmoji:food: behind the colon stands one or more of people, animals"): open_dataset("openmoji:food")
    with pytest.raises(UserError, match="avatars:hair: behind the colon stands nothing"): open_dataset("avatars:hair")


def test_every_artist_is_named():
    for name, who in dict(avatars="Micah Lanier", adventurer="Lisa Wischofsky", avataaars="Pablo Stanley", personas="Draftbit", miniavs="Webpixels",
                          **{"big-ears": "The Visual Team"}, dylan="Natalia Spivak", openmoji="OpenMoji").items():
        assert who in dataset_names()[name] and who in data_note(name)
    assert all("CC BY 4.0" in data_note(name) for name in ("avatars", "adventurer"))
    assert "OpenMoji" in data_note("openmoji:people") and len(dataset_names()) == 8 + 7


def test_line_art_holds_no_colour():
    for seed in range(4):
        svg = characters.line_art_svg("adventurer", seed)
        line = rasterize(svg, 96)
        assert (line.max(-1) == line.min(-1)).all() and not any(c in svg for c in palette_of("adventurer", seed).values())


def test_a_new_palette_moves_no_line_of_an_emoji():
    seed = next(s for s in range(80) if set(characters._draw("openmoji", s, 24)[2].flat) >= {1, 2, 3})
    one, two = (rasterize(characters._layers(characters.emoji_code(seed), characters.emoji_palette(s)), 96, crisp=True) for s in (1, 2))
    black, hair = (one == 0).all(-1), characters._draw("openmoji", seed, 96)[2] == 2
    assert (black == (two == 0).all(-1)).all() and hair.any() and (one[hair] != two[hair]).any()
    assert len(np.unique(one[hair & ~black], axis=0)) == 1                   # one hair, one colour


def test_the_cache_key_depends_on_what_is_drawn():
    key = characters.cache_key
    assert len({key("avatars", "valid", 64, 32), key("avatars", "valid", 128, 32), key("avatars", "valid", 64, 33),
                key("adventurer", "valid", 64, 32), key("avatars", "test", 64, 32), key("openmoji", "valid", 64, 32)}) == 6


def test_nobody_is_paired_with_himself():
    "And every sketch occurs once before one occurs again."
    valid = open_dataset("avatars", split="valid", size=64, n=32)
    pairs = CrossReference(valid, 32).batch(range(32))
    assert not any(t.equal(r) for t, r in zip(pairs.truth, pairs.reference))
    assert len({s.numpy().tobytes() for s in pairs.sketch}) == len({valid.lines[i].tobytes() for i in range(32)})


def test_a_batch_counts_the_skin_that_its_files_have():
    valid = open_dataset("avatars", split="valid", size=64, n=32)
    label = valid.part_labels["skin"]
    shares = (valid.batch([0, 1, 2]).parts == label).float().mean((1, 2))
    assert shares.tolist() == pytest.approx([(valid.parts[i] == label).mean() for i in range(3)])
