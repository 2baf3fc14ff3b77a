"""One rule for folders, in every command: what is a picture, what is left out, who belongs to whom, what is never overwritten."""
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import refcolor
from examples import EXAMPLES, write_example
from refcolor.app.cli import main
from refcolor.app.commands import jobs
from refcolor.core import UserError
from refcolor.data.datasets import check_dataset, open_dataset
from refcolor.data.pairs import match_folders, open_sources, partners
from refcolor.data.pictures import check_apart, list_pictures, named_pictures, natural, read_picture, suffixes

TINY = Path(refcolor.__file__).parent / "weights" / "tiny"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path_factory.mktemp("cache")))


def line(path, size=(64, 64), ink=0):
    "A drawing: a ring on paper."
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing = Image.new("RGB" if isinstance(ink, str) else "L", size, "white")
    ImageDraw.Draw(drawing).ellipse((size[0] // 5, size[1] // 5, size[0] * 4 // 5, size[1] * 4 // 5), outline=ink, width=3)
    drawing.save(path)
    return path


def colour(path, size=(64, 64), fill="tomato"):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((size[0] // 5, size[1] // 5, size[0] * 4 // 5, size[1] * 4 // 5), fill=fill, outline="black", width=3)
    picture.save(path)
    return path


@pytest.fixture
def odd(tmp_path):
    "A folder as people have them: three pictures, and much that is none."
    folder = tmp_path / "odd"
    line(folder / "a.png", ink="blue")                                    # a pencil: a sketch, and a picture with a colour
    Image.open(folder / "a.png").save(folder / "b.JFIF", "JPEG")
    line(folder / "sub.png" / "d.Png", ink="blue")                                    # a folder may be called anything
    (folder / "._a.png").write_bytes(b"\0\5\x16\7\0\2\0\0" + b"\0" * 80)   # macOS
    (folder / "__MACOSX").mkdir()
    shutil.copy(folder / "a.png", folder / "__MACOSX" / "f.png")
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "a.png", folder / ".hidden" / "e.png")
    (folder / "empty.png").mkdir()
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "up").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    for name in ("notes.txt", "png", "Thumbs.db"): (folder / name).write_text("no picture")
    return folder


PICTURES = ["a.png", "b.JFIF", "sub.png/d.Png"]
LEFT = ("7 left out (link to a folder above: up; link to nothing: gone.png, itself.png; no file: pipe.png; no picture's suffix: Thumbs.db, notes.txt; "
        "no suffix, such as .png: png)")


def test_only_pictures_are_listed_and_the_rest_is_counted_and_named(odd):
    told = []
    assert list(list_pictures(odd, "--sketch", told.append)) == PICTURES
    assert told == [f"--sketch {odd}: {LEFT}"]
    assert [str(p) for p in named_pictures(odd, tell=told.append).values()] == PICTURES


def test_a_link_that_leads_up_is_not_followed_and_no_folder_is_listed_twice(tmp_path):
    "Not to the folder around, not to what is above that, and not from a folder that is linked."
    root, away = tmp_path / "around" / "root", tmp_path / "away" / "set"
    for folder in (root, root / "deep" / "er", tmp_path, tmp_path / "around", away, tmp_path / "away"): line(folder / "x.png")
    for link, to in (("loop", ".."), ("deep/er/loop", "../../.."), ("deep/all", str(tmp_path)), ("same", "deep"), ("away", str(away)), ("twice", str(away))):
        (root / link).symlink_to(to)
    (away / "up").symlink_to("..")
    (away / "home").symlink_to(root)
    (away / "roof").symlink_to(root.parent)
    (away / "down").symlink_to(root / "deep")
    (tmp_path / "link").symlink_to(root)
    for name in (root, tmp_path / "link", f"{root}/", os.path.relpath(root)):
        told = []
        found = list(list_pictures(name, tell=told.append))
        assert found == ["away/down/er/x.png", "away/x.png", "x.png"]
        assert told == [f"--root {name}: 6 left out (link to a folder above: away/down/all, away/down/er/loop, away/home, …)"]


def test_where_no_picture_is_the_error_says_what_there_is(tmp_path, capsys):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x.png").symlink_to("nothing")
    shutil.copy(line(tmp_path / "a.png"), tmp_path / "f" / "scan")
    for name in ("colorize", "evaluate", "train", "show", "check"):
        words = [w.replace("/a.png", "/../a.png") for w in command(name, tmp_path / "f", tmp_path)]
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert not out and len(err.splitlines()) == 1 and err.endswith(
            "f: no pictures in it, such as .png, .jpg, .webp or .tif files; 2 left out (link to nothing: x.png; no suffix, such as .png: scan)\n"), err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "f"]


def test_a_folder_without_more_is_listed_without_a_word(tmp_path, capsys):
    line(tmp_path / "a.png")
    (tmp_path / ".DS_Store").touch()
    assert list(list_pictures(tmp_path)) == ["a.png"] and capsys.readouterr().err == ""


def test_what_a_single_file_may_be_a_file_in_a_folder_may_be(tmp_path):
    "Each suffix that Pillow writes as well as reads, once alone and once in a folder."
    Image.init()
    picture, read = Image.new("RGB", (32, 32), "tomato"), []
    for suffix in sorted(suffixes()):
        kind = Image.registered_extensions()[suffix]
        if kind not in Image.SAVE: continue
        path = tmp_path / f"{kind}{suffix}"
        try: picture.save(path, kind)
        except (OSError, ValueError, KeyError): continue             # not of this mode, or not in this build
        assert read_picture(path).getpixel((16, 16))[0] > 200, suffix
        read.append(path.name)
    assert sorted(list_pictures(tmp_path)) == sorted(read) and {"PNG.apng", "JPEG.jfif", "JPEG.jpe", "WEBP.webp", "TIFF.tif"} <= set(read)
    assert not suffixes() & {".pdf", ".eps", ".ps", ".svg", ".txt", ".h5", ".mpg", ".db"}


def command(name, folder, tmp_path):
    "Each command that takes a folder of pictures, on that folder."
    out = {"colorize": "out", "evaluate": "", "train": "run", "show": "sheet.png", "check": ""}[name]
    words = {"colorize": f"colorize --sketch {folder} --reference {folder}/a.png --weights {TINY} --out",
             "evaluate": f"evaluate --weights {TINY} --distance none --sketches {folder} --references {folder}",
             "train": f"train --data folder --root {folder} --batch 1 --steps 1 --out",
             "show": f"data show folder --root {folder} --out", "check": f"data check folder --root {folder}"}[name].split()
    return [*words, *[str(tmp_path / out)] * bool(out), "--json"]


@pytest.mark.parametrize("name", ["colorize", "evaluate", "train", "show", "check"])
def test_every_command_lists_by_the_one_rule(name, odd, tmp_path, capsys):
    if name == "train":                                # a set of three is cut into splits: all of it in one
        for k in range(12): shutil.copy(odd / "a.png", odd / f"c{k}.png")
    assert main(command(name, odd, tmp_path)) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert f"{odd}: {LEFT}" in err and "._a" not in err and "hidden" not in err, err
    count = {"colorize": lambda: said["written"], "evaluate": lambda: said["n"], "check": lambda: said["parts"]["all"]["found"]}
    if name in count: assert count[name]() == 3
    if name == "colorize":
        assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*") if p.is_file()) == [
            "a.png", "b.png", "sub.png/d.png"]
    if name == "check": assert any(LEFT in note for note in said["notes"])


@pytest.mark.parametrize("names", [["frame2", "frame10", "frame100"], ["2", "10"], ["a9", "A10"], ["a1b2", "a1b10"], ["a", "a1"],
                                   ["x/9", "x/10"], ["09", "9", "010", "10"]])
def test_the_natural_order_is_that_of_people(names):
    assert sorted(reversed(names), key=natural) == names


def test_a_name_is_the_same_letter_by_letter_however_it_is_stored(tmp_path):
    "macOS stores ü as u and a dot pair; Linux as it was typed."
    line(tmp_path / "s" / "fu\u0308r.png")
    colour(tmp_path / "r" / "f\u00fcr.png")
    (sketch, (reference,), target), = jobs(tmp_path / "s", [tmp_path / "r"], tmp_path / "out")
    assert (sketch.name, reference.name) == ("fu\u0308r.png", "f\u00fcr.png") and target.stem == sketch.stem


# --- two of one name

def test_two_of_one_name_are_refused_on_every_side(tmp_path, capsys):
    for name in ("one", "other"): line(tmp_path / name / "a.png")
    for suffix in ("png", "jpg"): colour(tmp_path / "twice" / f"a.{suffix}")
    one, other, twice = (tmp_path / n for n in ("one", "other", "twice"))
    for arguments in (["colorize", "--sketch", one, "--reference", twice, "--out", tmp_path / "out"],
                      ["colorize", "--sketch", twice, "--reference", one, "--out", tmp_path / "out"],
                      ["evaluate", "--sketches", one, "--references", twice], ["evaluate", "--sketches", twice, "--references", one],
                      ["evaluate", "--sketches", one, "--truths", twice],
                      ["train", "--data", f"folder:{twice}", "--root", one, "--out", tmp_path / "run"],
                      ["train", "--data", f"folder:{one}", "--root", twice, "--out", tmp_path / "run"],
                      ["data", "check", f"folder:{twice}", "--root", one]):
        assert main([str(a) for a in arguments]) == 2, arguments
        last = capsys.readouterr().err.splitlines()[-1]
        assert f"{twice}: two are called a: a.jpg and a.png" in last, last
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other", "twice"]
    for suffix in ("png", "jpg"): line(tmp_path / "deep" / suffix / "a.png")     # in two folders they are two names
    assert list(named_pictures(tmp_path / "deep")) == ["jpg/a", "png/a"]


# --- partners

def test_partners_are_found_by_name_and_what_has_none_is_named(tmp_path, capsys):
    for name in ("b2", "b10", "deep/c"): line(tmp_path / "s" / f"{name}.png")
    for name in ("b10", "b2", "deep/c", "x"): colour(tmp_path / "r" / f"{name}.jpg")
    rows = match_folders(tmp_path / "s", tmp_path / "r", None)
    assert [(s.stem, r.stem) for s, r, _ in rows] == [("b2", "b2"), ("b10", "b10"), ("c", "c")]
    assert capsys.readouterr().err == f"--references {tmp_path / 'r'}: 1 left out, no sketch: x\n"
    line(tmp_path / "s" / "lonely.png")
    for call in (lambda: match_folders(tmp_path / "s", tmp_path / "r", None), lambda: jobs(tmp_path / "s", [tmp_path / "r"], tmp_path / "o")):
        with pytest.raises(UserError, match="no picture called lonely: 1 of 4 sketches"): call()


def test_where_no_names_match_the_natural_order_counts_and_is_said(tmp_path, capsys):
    for k in (1, 2, 10): line(tmp_path / "s" / f"frame{k}.png"), colour(tmp_path / "r" / f"shot {k}.png")
    rows = match_folders(tmp_path / "s", tmp_path / "r", None)
    assert [(s.name, r.name) for s, r, _ in rows] == [(f"frame{k}.png", f"shot {k}.png") for k in (1, 2, 10)]
    assert "no names in common, paired by their order: frame1.png with shot 1.png" in capsys.readouterr().err
    # too many for an order
    colour(tmp_path / "r" / "shot 11.png")
    with pytest.raises(UserError, match="3 of 3 sketches have none of their name; by their order there must be as many"): match_folders(tmp_path / "s", tmp_path / "r", None)
    (tmp_path / "r" / "shot 11.png").unlink()
    # a true answer, and the reference to colour with, are never guessed
    for call in (lambda: match_folders(tmp_path / "s", None, tmp_path / "r"), lambda: jobs(tmp_path / "s", [tmp_path / "r"], tmp_path / "o")):
        with pytest.raises(UserError, match="no picture called frame1, frame2, frame10: 3 of 3"): call()
    # one name in common: an order that ignores it would be wrong
    shutil.copy(tmp_path / "r" / "shot 1.png", tmp_path / "r" / "frame10.png")
    (tmp_path / "r" / "shot 1.png").unlink()
    with pytest.raises(UserError, match="no picture called frame1, frame2: 2 of 3"): partners(named_pictures(tmp_path / "s"), tmp_path / "r", "--references", True)


# --- what is read is not written

def test_out_is_never_what_is_read(tmp_path, capsys):
    for name in ("a.png", "b.png"): line(tmp_path / "in" / name), colour(tmp_path / "colours" / name)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    files, folder, colours = [tmp_path / "in" / n for n in ("a.png", "b.png")], tmp_path / "in", tmp_path / "colours"
    for sketch, reference, out in ((folder, colours, folder), (folder, colours, tmp_path / "link"), (folder, colours, folder / ".." / "in"),
                                   (folder, colours, colours), (folder, colours / "a.png", colours),
                                   (files[0], colours / "a.png", files[0]), (files[0], colours / "a.png", tmp_path / "link" / "a.png"),
                                   (files[0], colours / "a.png", colours / "a.png")):
        for force in ([], ["--force"]):
            arguments = ["colorize", "--weights", TINY, "--sketch", sketch, "--reference", reference, "--out", out, *force]
            assert main([str(a) for a in arguments]) == 2, arguments
            assert "is only read; write elsewhere" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.png")}


def test_out_is_no_other_name_of_what_is_read(tmp_path, capsys):
    "A hard link of the sketch, the reference, or one of a folder's: as picture, and as layers."
    for name in ("a.png", "b.png"): line(tmp_path / "in" / name), colour(tmp_path / "colours" / name)
    one, folder = ["--sketch", "in/a.png", "--reference", "colours/a.png"], ["--sketch", "in", "--reference", "colours"]
    for k, (of, link, arguments) in enumerate((("in/a.png", "out{}/x.png", [*one, "--out", "out{}/x.png"]), ("colours/a.png", "out{}/x.png", [*one, "--out", "out{}/x.png"]),
                                               ("in/a.png", "out{}/x.ora", [*one, "--out", "out{}/x.png", "--layers", "out{}/x.ora"]),
                                               ("in/b.png", "out{}/a.png", [*folder, "--out", "out{}"]), ("colours/b.png", "out{}/b.png", [*folder, "--out", "out{}"]),
                                               ("in/b.png", "out{}/b.ora", [*folder, "--out", "new{}", "--layers", "out{}"]))):
        (tmp_path / f"out{k}").mkdir()
        (tmp_path / link.format(k)).hardlink_to(tmp_path / of)
        before = {p: (p.stat().st_ino, p.read_bytes()) for p in tmp_path.rglob("*.*")}
        words = [w if w[:2] == "--" else f"{tmp_path}/{w.format(k)}" for w in arguments]
        assert main(["colorize", "--weights", str(TINY), *words, "--force"]) == 2, arguments
        assert capsys.readouterr().err == f"refcolor: {'--layers' if '.ora' in link else '--out'} {tmp_path}/{link.format(k)}: {tmp_path}/{of} is only read; write elsewhere\n"
        assert before == {p: (p.stat().st_ino, p.read_bytes()) for p in tmp_path.rglob("*.*")} and not (tmp_path / f"new{k}").exists()
    (tmp_path / "same.png").write_bytes((tmp_path / "in/a.png").read_bytes())                 # a copy is another file
    words = [w if w[:2] == "--" else f"{tmp_path}/{w}" for w in [*one, "--out", "same.png"]]
    assert main(["colorize", "--weights", str(TINY), *words, "--force"]) == 0


def test_what_is_written_is_no_sketch_the_next_time(tmp_path, capsys):
    "Into the folder of sketches, or of references, nothing is written, whatever it is called."
    for name in ("a", "b"): line(tmp_path / "in" / f"{name}.png"), colour(tmp_path / "colours" / f"{name}.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    for out in ("in/done", "link/done", "in/deep/er", "colours/done"):
        arguments = ["colorize", "--weights", TINY, "--sketch", tmp_path / "in", "--reference", tmp_path / "colours", "--out", tmp_path / out]
        assert main([str(a) for a in arguments]) == 2
        assert "is only read; write elsewhere" in (said := capsys.readouterr().err) and len(said.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    arguments = ["colorize", "--weights", TINY, "--sketch", tmp_path / "in/a.png", "--reference", tmp_path / "colours/a.png", "--out", tmp_path / "in/c.png"]
    assert main([str(a) for a in arguments]) == 0, "a file beside a file is what was asked for"


def test_a_folder_of_sketches_is_written_into_a_folder(tmp_path, capsys, monkeypatch):
    "A file's name is refused, one with a dot is none; a folder may be called anything if it is there."
    monkeypatch.chdir(tmp_path)
    line(Path("in/a.png")), colour(Path("c.png")), Path("film.png").mkdir(), Path("there").touch(), Path("gone").symlink_to("nothing")
    words = ["colorize", "--weights", str(TINY), "--sketch", "in", "--reference", "c.png"]
    before = sorted(Path().rglob("*"))
    for more in (["o.png"], ["o.PDF"], ["o.svg"], ["o.json"], ["there"], ["gone"], ["o", "--layers", "o.ora"], ["o", "--layers", "there"]):
        assert main([*words, "--out", *more]) == 2
        assert len((said := capsys.readouterr().err).splitlines()) == 1 and ("name a folder" in said or "is not a folder" in said), said
    assert sorted(Path().rglob("*")) == before
    for out in ("v1.2", "2026.11.26/x", "film.png", "a.b/"): assert main([*words, "--out", out]) == 0 and (Path(out) / "a.png").is_file(), out


def test_json_names_all_that_was_left_out(odd, tmp_path, capsys):
    for name in ("a", "b", "sub.png/d", "spare"): colour(tmp_path / f"colours/{name}.png")
    words = ["colorize", "--weights", TINY, "--sketch", odd, "--reference", tmp_path / "colours", "--out", tmp_path / "out", "--json"]
    (odd / "torn.png").write_text("no picture"), colour(tmp_path / "colours/torn.png")
    assert main([str(w) for w in words]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["left_out"] == {f"{odd}/{n}": why for n, why in (
        ("up", "link to a folder above"), ("gone.png", "link to nothing"), ("itself.png", "link to nothing"), ("pipe.png", "no file"), ("Thumbs.db", "no picture's suffix"),
        ("notes.txt", "no picture's suffix"), ("png", "no suffix, such as .png"))} | {f"{tmp_path}/colours/spare.png": "no sketch"}
    assert list(said["failed"]) == [f"{odd}/torn.png"] and said["written"] == 3


def test_capitals_that_differ_are_named(tmp_path):
    "Systems that see no difference let people write either."
    colour(tmp_path / "ann.png"), colour(tmp_path / "bob.png")
    with pytest.raises(UserError, match="no picture called Ann: 1 of 2 sketches have none of their name; there is ann: write them alike, capitals too$"):
        partners({"Ann": "Ann.png", "bob": "bob.png"}, tmp_path, "--reference")
    with pytest.raises(UserError, match="no picture called carl: 1 of 1 sketches have none of their name$"): partners({"carl": "carl.png"}, tmp_path, "--reference")


def test_a_picture_that_training_would_read_is_not_written(tmp_path, capsys):
    "Into the folder of the pictures: the film of a run, or a contact sheet, would be pictures of the set from then on."
    for k in range(12): colour(tmp_path / "set" / f"{k}.png")
    before = sorted(tmp_path.rglob("*"))
    for arguments in (["train", "--batch", "1", "--steps", "1", "--data", "folder", "--out", "{root}/run"],
                      ["data", "show", "folder", "--out", "{root}/3.png"], ["data", "show", "folder", "--out", "{root}/deep/sheet.png"]):
        words = [a.format(root=tmp_path / "set") for a in arguments]
        assert main([*words, "--root", str(tmp_path / "set")]) == 2, arguments
        assert "is only read; write elsewhere" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_run_learns_from_is_said(tmp_path, capsys):
    for k in range(12): colour(tmp_path / "set" / f"{k}.png")
    assert main(["train", "--preset", "TINY", "--batch", "1", "--steps", "1", "--data", "folder", "--root", str(tmp_path / "set"), "--out", str(tmp_path / "run")]) == 0
    assert f"learning from {len(open_dataset('folder', tmp_path / 'set', 'train', size=64))} pictures" in capsys.readouterr().err


def test_check_apart_lets_neighbours_be(tmp_path):
    (tmp_path / "in").mkdir()
    for out in (tmp_path / "input", tmp_path / "in.png", tmp_path): check_apart(out, [tmp_path / "in"])
    with pytest.raises(UserError): check_apart(tmp_path / "in" / "out", [tmp_path / "in"])


# --- pairs that cannot be judged

def pairs_of(tmp_path, **sizes):
    "Folders of ten pictures each, of those sizes."
    for name, size in sizes.items():
        for k in range(1, 11): (line if name == "sketches" else colour)(tmp_path / name / f"{k}.png", size)
    return [a for name in sizes for a in (f"--{name}", str(tmp_path / name))]


@pytest.mark.parametrize("with_references", [True, False])
def test_truths_of_other_proportions_are_refused(with_references, tmp_path, capsys):
    folders = pairs_of(tmp_path, sketches=(64, 64), truths=(64, 128)) + (pairs_of(tmp_path, references=(50, 90)) if with_references else [])
    assert main(["evaluate", "--weights", str(TINY), "--distance", "none", *folders]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "10 of 10" in lines[0] and "truths/1.png: their proportions differ" in lines[0] and "--strict" not in lines[0]


def test_a_reference_may_have_any_proportions(tmp_path, capsys):
    folders = pairs_of(tmp_path, sketches=(64, 64), truths=(128, 128), references=(50, 90))
    assert main(["evaluate", "--weights", str(TINY), "--distance", "none", *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 10


@pytest.mark.parametrize("with_truths, with_references", [(True, False), (False, True), (True, True)])
def test_blank_sketches_are_refused_and_the_first_is_named(with_truths, with_references, tmp_path, capsys):
    names = ["sketches", *["truths"] * with_truths, *["references"] * with_references]
    folders = pairs_of(tmp_path, **dict.fromkeys(names, (64, 64)))
    Image.new("L", (64, 64), 255).save(tmp_path / "sketches" / "2.png")
    line(tmp_path / "sketches" / "10.png", ink=200)                       # too faint to be seen in the network's square
    arguments = ["evaluate", "--weights", str(TINY), "--distance", "none", *folders, "--json"]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and f"2 of 10 pictures or pairs cannot be used: {tmp_path}/sketches/2.png is blank" in err
    assert main([*arguments, "--skip-bad"]) == 0 and json.loads(capsys.readouterr().out)["n"] == 8


def test_a_truth_is_what_its_sketch_fills(tmp_path):
    "Both are wide: they fill the same box of the square, whatever their sizes."
    line(tmp_path / "s" / "a.png", (90, 45)), colour(tmp_path / "t" / "a.png", (180, 90)), colour(tmp_path / "r" / "a.png", (30, 60))
    pairs = open_sources("", 64, 8, None, tmp_path / "s", tmp_path / "r", tmp_path / "t")[0].batch([0])
    assert pairs.truth.shape == pairs.reference.shape == (1, 3, 64, 64)
    rows = lambda x: np.flatnonzero((x[0] < 0.9).any(0).any(1))[[0, -1]]                                  # noqa: E731
    assert np.abs(rows(pairs.truth) - rows(pairs.sketch)).max() <= 1 and rows(pairs.reference)[0] < 16


# --- data sets in files

def test_sketches_beside_a_root_that_is_relative(tmp_path, monkeypatch, capsys):
    for k in range(12): colour(tmp_path / "pictures" / f"{k}.png"), line(tmp_path / "drawn" / f"{k}.png")
    colour(tmp_path / "pictures" / "alone.png")
    monkeypatch.chdir(tmp_path)
    d = open_dataset("folder:../drawn", Path("pictures"), "train", 32, strict=True)
    assert d.batch([0]).sketch.min() < -0.5 and "1 left out, no sketch: alone.png" in capsys.readouterr().err


def test_hidden_files_of_the_six_sets_are_no_pictures(tmp_path):
    "What macOS leaves beside each file of an archive that is copied."
    for name in EXAMPLES:
        root = tmp_path / name
        write_example(name, root)
        if name == "folder": root /= "pictures"
        before = check_dataset(name, root)
        for path in [p for p in root.rglob("*.*") if p.is_file()]: path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + b"\0" * 90)
        assert check_dataset(name, root) == before, name


@pytest.mark.parametrize("name, words", [("x" * 300, "no such folder"), ("{tmp}/nowhere", "no such folder"), ("{tmp}/a.png", "is not a folder")])
def test_a_root_that_is_none_is_one_line(name, words, tmp_path):
    line(tmp_path / "a.png")
    with pytest.raises(UserError, match=words): open_dataset("folder", name.format(tmp=tmp_path))
    with pytest.raises(UserError, match=f"folder of sketches .*{words}"): open_dataset(f"folder:{name.format(tmp=tmp_path)}", tmp_path)
