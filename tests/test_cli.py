"""The command line as a user meets it: what it writes, and one clear line for each mistake."""
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refcolor.app import commands
from refcolor.app.cli import main, make_parser
from refcolor.core import PRESETS

FAST = ["--preset", "TINY", "--data", "avatars", "--batch", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    "A run of three steps, enough to have weights."
    out = tmp_path_factory.mktemp("runs") / "three"
    assert main(["train", *FAST, "--steps", "3", "--save-every", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture
def pictures(tmp_path):
    sketch, reference = tmp_path / "sketch.png", tmp_path / "reference.jpg"
    drawing = Image.new("L", (90, 50), 255)
    drawing.paste(0, (40, 10, 43, 40))
    drawing.save(sketch)
    Image.new("RGB", (40, 30), "tomato").save(reference)
    return sketch, reference


def test_train_writes_what_the_design_names(run_folder):
    for name in ("config.json", "metrics.jsonl", "last/generator.safetensors", "last/preset.json"):
        assert (run_folder / name).exists(), name
    assert (run_folder / "last").is_symlink() and os.readlink(run_folder / "last") == "step-3"
    first = json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[0])
    for name in ("tr", "rec", "adv_g", "perc", "style", "adv_d"): assert f"loss/{name}" in first
    for name in ("rec", "adv", "perc", "style"): assert first[f"grad/{name}"] > 0
    assert first["grad_logits/tr"] > 0
    assert {"D(real)", "D(fake)", "seconds_per_step", "images_per_second"} <= set(first)


def test_colorize_keeps_the_sketchs_size(run_folder, pictures, tmp_path, capsys):
    sketch, reference = pictures
    out = tmp_path / "deep" / "out.png"
    code = main(["colorize", "--sketch", str(sketch), "--reference", str(reference), "--out", str(out),
                 "--weights", str(run_folder), "--json"])
    captured = capsys.readouterr()
    assert code == 0 and Image.open(out).size == (90, 50)
    assert json.loads(captured.out)["size"] == [90, 50]          # standard output holds one JSON object, nothing else
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.png"]


def test_evaluate_gives_the_same_numbers_twice(run_folder, capsys):
    results = []
    for _ in range(2):
        assert main(["evaluate", "--weights", str(run_folder), "--n", "8", "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1] and results[0]["n"] == 8
    assert 0.1 < results[0]["region_error"] < 0.5


def test_resuming_a_finished_run_says_so(run_folder, capsys):
    "And one that has more steps than are asked for: that it has; neither says that it trained."
    before = {p: p.stat().st_mtime_ns for p in run_folder.rglob("*") if p.is_file()}
    for steps, words in (("3", "is finished: it has all 3 steps"), ("2", "has 3 steps already, more than 2: nothing is trained")):
        assert main(["train", *FAST, "--steps", steps, "--out", str(run_folder), "--resume"]) == 0
        assert capsys.readouterr().err.splitlines() == [f"{run_folder} {words}", f"weights: {run_folder}/last; to train on: --resume --steps N, N more than 3"]
    assert before == {p: p.stat().st_mtime_ns for p in run_folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_with_its_own_numbers(name, monkeypatch):
    "All of them, whatever they are; an option changes its own number only."
    of = lambda *more: commands.preset_of(make_parser().parse_args(["train", "--preset", name, "--out", "x", *more]))      # noqa: E731
    odd = replace(PRESETS[name], train=replace(PRESETS[name].train, steps=7, batch=3, lr_decay=0.25, gan_mode="vanilla"))
    for preset in (PRESETS[name], odd):
        monkeypatch.setitem(PRESETS, name, preset)
        assert of() == preset
        for option, value, field, now in (("--steps", "9", "steps", 9), ("--batch", "5", "batch", 5), ("--lr-decay", None, "lr_decay", 0.5),
                                          ("--gan-mode", "lsgan", "gan_mode", "lsgan")):
            assert of(option, *[value] * bool(value)) == replace(preset, train=replace(preset.train, **{field: now})), option


BAD = {
    "no such sketch": (["colorize", "--sketch", "no.png", "--reference", "{picture}", "--out", "o.png", "--weights", "{run}"], "sketch: no such file"),
    "a folder as reference": (["colorize", "--sketch", "{picture}", "--reference", "{tmp}", "--out", "o.png", "--weights", "{run}"], "is a folder"),
    "not an image": (["colorize", "--sketch", "{text}", "--reference", "{picture}", "--out", "o.png", "--weights", "{run}"], "not an image"),
    "half an image": (["colorize", "--sketch", "{half}", "--reference", "{picture}", "--out", "o.png", "--weights", "{run}"], "cannot read"),
    "a blank sketch": (["colorize", "--sketch", "{blank}", "--reference", "{picture}", "--out", "o.png", "--weights", "{run}"], "is blank, there is nothing"),
    "no weights there": (["colorize", "--sketch", "{picture}", "--reference", "{picture}", "--out", "o.png", "--weights", "{tmp}"], "no generator.safetensors"),
    "no format for out": (["colorize", "--sketch", "{picture}", "--reference", "{picture}", "--out", "o.xyz", "--weights", "{run}"], "suffix of an image format"),
    "damaged weights": (["colorize", "--sketch", "{picture}", "--reference", "{picture}", "--out", "o.png", "--weights", "{damaged}"], "damaged"),
    "weights of another preset": (["colorize", "--sketch", "{picture}", "--reference", "{picture}", "--out", "o.png", "--weights", "{other}"], "another preset"),
    "unknown preset": (["train", "--preset", "HUGE", "--out", "{tmp}/r"], "invalid choice"),
    "unknown data set": (["train", "--data", "imagenot", "--out", "{tmp}/r"], "unknown data set 'imagenot'"),
    "empty folder": (["train", "--data", "folder", "--root", "{empty}", "--out", "{tmp}/r"], "no pictures in it"),
    "no such folder": (["train", "--data", "folder", "--root", "{tmp}/nowhere", "--out", "{tmp}/r"], "no such folder"),
    "folder without root": (["train", "--data", "folder", "--out", "{tmp}/r"], "needs --root"),
    "no steps": (["train", "--steps", "0", "--out", "{tmp}/r"], "less than 1"),
    "no such device": (["train", "--device", "abacus", "--steps", "1", "--out", "{tmp}/r"], "--device abacus"),
    "resume from no such checkpoint": (["train", "--resume", "step-7", "--out", "{tmp}/r"], "no checkpoint step-7"),
    "out of another run": (["train", *FAST, "--steps", "3", "--out", "{run}"], "holds another run"),
    "resume with another batch": (["train", *FAST[:4], "--seed", "3", "--steps", "5", "--batch", "4", "--out", "{run}", "--resume"], "batch 2, now 4"),
    "demo into somebody's folder": (["demo", "--out", "{foreign}"], "holds no run of refcolor"),
    "evaluate on a folder": (["evaluate", "--weights", "{run}", "--data", "folder", "--root", "{tmp}"], "no pictures in it"),
    "evaluate damaged weights": (["evaluate", "--weights", "{damaged}", "--n", "2"], "damaged"),
    "compare with damaged weights": (["evaluate", "--weights", "{run}", "--against", "{damaged}", "--n", "2"], "damaged"),
    "no command": ([], "required"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_exit_code_2(case, run_folder, tmp_path, monkeypatch, capsys):
    arguments, expected = BAD[case]
    import shutil
    picture, text, half = tmp_path / "picture.png", tmp_path / "text.png", tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(picture)
    text.write_text("not a picture")
    half.write_bytes(picture.read_bytes()[:2000])
    blank = tmp_path / "blank.png"
    Image.new("RGB", (30, 40), "white").save(blank)
    damaged, other, empty, foreign, tmp = (tmp_path / n for n in ("damaged", "other", "empty", "foreign", "tmp"))
    for folder in (damaged, other): shutil.copytree(run_folder / "last", folder)
    (damaged / "generator.safetensors").write_bytes(b"\0" * 100)
    from refcolor.core import SMALL, preset_to_dict
    (other / "preset.json").write_text(json.dumps(preset_to_dict(SMALL)))
    for folder in (empty, foreign, tmp): folder.mkdir()
    (foreign / "thesis.txt").write_text("do not delete")
    names = dict(blank=blank, picture=picture, text=text, half=half, damaged=damaged, other=other, empty=empty, foreign=foreign, tmp=tmp, run=run_folder)
    monkeypatch.chdir(tmp)
    try: code = main([a.format(**names) for a in arguments])
    except SystemExit as e: code = e.code
    err = capsys.readouterr().err
    lines = err.splitlines()                       # no note on what was read, no data line
    assert code == 2 and len(lines) == 1 and lines[0].startswith("refcolor") and expected in lines[0], err
    assert "Traceback" not in err
    assert not list(tmp.iterdir()), "something half-written was left behind"
    assert (foreign / "thesis.txt").exists()
