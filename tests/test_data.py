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
from refcolor.data.datasets import open_dataset
from refcolor.data.pictures import cache_folder

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
