"""What a number was measured on: which of many files, what lies outside of a bent reference, which device."""
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from examples import write_example
from refcolor import core, evaluate
from refcolor.app import report
from refcolor.app.cli import main
from refcolor.core import TINY
from refcolor.data.datasets import open_dataset
from refcolor.data.pairs import BentReference, CrossReference, SelfReference, drawn_from, open_sources, sources_of
from refcolor.data.pictures import Samples
from refcolor.engine import scale
from refcolor.generator import Generator, save_generator
from refcolor.study import rows
from refcolor.train import Learner


# --- which of many files ---

def test_some_of_many_are_drawn_all_over_them_once_the_same_each_time_and_said(capsys):
    found = drawn_from(1000, 100)
    assert found == drawn_from(1000, 100) == sorted(set(found)) and len(found) == 100
    assert all(8 < sum(a <= i < a + 250 for i in found) < 45 for a in range(0, 1000, 250))      # 25 of each quarter, five deviations
    assert capsys.readouterr().err.splitlines() == ["100 of 1000 pictures, drawn with seed 0"] * 2
    assert drawn_from(7, 7) == drawn_from(7, 9) == list(range(7)) and not capsys.readouterr().err


def draw(path, colour, k):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (40, 40), colour)
    ImageDraw.Draw(picture).line((5, 5, 30, 8 + k), "black", 3)
    picture.save(path)


def is_red(pictures): return [bool(p[0, -1, -1] > p[2, -1, -1]) for p in pictures]


def test_folders_and_classes_are_sampled_not_cut_off(tmp_path, capsys):
    "All red ones come first by name."
    for k in range(40):
        colour = "red" if k < 20 else "blue"
        draw(tmp_path / "truths" / f"{k:02}.png", colour, k % 20)
        draw(tmp_path / "sketches" / f"{k:02}.png", "white", k % 20)
        draw(tmp_path / "imagenet" / "val" / f"n0000000{k // 20}" / f"{k:02}.png", colour, k % 20)
    own, = open_sources("", 32, 10, None, tmp_path / "sketches", None, tmp_path / "truths")
    assert "10 of 40 sketches" in capsys.readouterr().err and own.n == 10 and own.sample == dict(n=10, of=40, seed=0)
    assert open_sources("", 32, 40, None, tmp_path / "sketches", None, tmp_path / "truths")[0].sample is None
    batch = own.batch(range(10))
    red = is_red(own.dataset.batch(range(10)).image)
    assert 0 < sum(red) < 10 and len(batch.truth) == 10
    cross, own = open_sources("imagenet", 32, 10, tmp_path / "imagenet")
    assert "10 of 40 pictures" in capsys.readouterr().err and cross.n == own.n == 10 and cross.sample == dict(n=10, of=40, seed=0)
    for pictures in (cross.batch(range(10)).real, own.dataset.batch(range(10)).image): assert 0 < sum(is_red(pictures)) < 10
    again = open_sources("imagenet", 32, 10, tmp_path / "imagenet")[0]
    assert torch.equal(again.batch(range(10)).real, cross.batch(range(10)).real)


def test_an_evaluation_notes_its_sample(tmp_path, capsys):
    "In what a program reads and in the report; a set that is judged whole, or drawn, has none."
    tmp_path /= os.fsdecode(b"caf\xe9")                              # of an old disk, and no UTF-8
    for k in range(12):
        for name, paper in (("sketches", "white"), ("truths", "tomato")): draw(tmp_path / name / f"{k}.png", paper, k)
    words = ["evaluate", "--weights", str(Path(core.__file__).parent / "weights" / "tiny"), "--distance", "none", "--json", "--report", str(tmp_path / "r.html"), "--force"]
    files = ["--sketches", str(tmp_path / "sketches"), "--truths", str(tmp_path / "truths")]
    for more, sample in (([*files, "--n", "3"], dict(n=3, of=12, seed=0)), ([*files, "--n", "12"], None), (["--n", "2"], None)):
        assert main([*words, *more]) == 0
        assert json.loads(capsys.readouterr().out).get("sample") == sample
        assert ("3 of 12, drawn with seed 0" in (tmp_path / "r.html").read_text()) == bool(sample)


def test_pairs_of_keypoints_are_sampled_too(tmp_path, capsys):
    write_example("spair71k", tmp_path)
    everything = open_dataset("spair71k", tmp_path, "test", 32).pairs()
    n = len([p for p in everything if p.category == everything[0].category])          # the first n by name are of one category
    source = open_sources("spair71k", 32, n, tmp_path)[0]
    assert {p.category for p in source.pairs} > {everything[0].category}
    assert source.sample == dict(n=n, of=len(everything), seed=0)
    assert f"{n} of {len(everything)} pairs" in capsys.readouterr().err


class Files:
    "A set of files by what it answers: each picture is its own number."
    name = "celeba"
    def __len__(self): return 100
    def batch(self, index, noise=None):
        value = torch.tensor([i / 50 - 1 for i in index])[:, None, None, None]
        return Samples(value.expand(-1, 3, 8, 8), value.expand(-1, 1, 8, 8), None)


def test_in_python_and_for_rows_files_are_sampled_and_what_is_drawn_is_not():
    for of in (sources_of, rows.judged_sources):
        cross, own = of(Files(), 20)
        numbers = [x.dataset.batch(range(20)).image[:, 0, 0, 0] for x in (cross, own)]
        assert all(x.max() > 0.5 and x.min() < -0.5 for x in numbers) and torch.equal(*numbers)
    drawn = open_dataset("avatars", split="valid", size=64, n=16)
    assert all(s.dataset is drawn for s in (sources_of(drawn, 4)[0], sources_of(drawn, 4)[-1]))    # alike in distribution, and stored results stand


# --- what lies outside of a bent reference ---

def test_bent_references_have_the_presets_own_padding():
    data, index = open_dataset("avatars", split="valid", size=64, n=16), range(8)
    black, border = (SelfReference(data, 8, padding=p).batch(index) for p in ("black", "border"))
    far = ((black.grid.abs() > 1.1).any(-1))
    assert far.sum() > 20 and (black.reference.movedim(1, -1)[far] == -1).all() and (border.reference.movedim(1, -1)[far] != -1).all()
    assert torch.equal(SelfReference(data, 8).batch(index).reference, border.reference)
    straight, black, border = CrossReference(data, 8).batch(index), *(BentReference(data, 8, padding=p).batch(index) for p in ("black", "border"))
    outside = (black.reference == -1).all(1) & (border.reference != -1).any(1)
    unknown = [(p.reference_parts[outside] == 0).float().mean() for p in (black, border)]           # a shirt goes on over the border
    assert outside.sum() > 1000 and unknown[0] > 0.99 and unknown[1] < 0.9, unknown
    assert torch.equal(black.truth, straight.truth) and torch.equal(BentReference(data, 8).batch(index).reference, border.reference)
    skin = data.part_labels["skin"]
    assert ((border.reference_parts == skin) == (black.reference_parts == skin))[~outside].float().mean() > 0.99


def paddings(sources): return {s.config.padding for s in sources if isinstance(s, (SelfReference, BentReference))}


def small(padding): return replace(TINY, name="small", data=replace(TINY.data, padding=padding))


@pytest.mark.parametrize("padding", ["black", "border"])
def test_every_judge_takes_the_padding_of_the_preset(padding, tmp_path, monkeypatch, capsys):
    data, seen = open_dataset("avatars", split="valid", size=64, n=16), []
    generator = Generator(TINY.model)
    generator.preset = small(padding)
    def stop(generator, sources, *args, **kwargs):
        seen.append(paddings(sources))
        raise KeyboardInterrupt
    for module in (evaluate, report, rows): monkeypatch.setattr(module, "measure_all", stop)
    with pytest.raises(KeyboardInterrupt): evaluate.evaluate(generator, data, 4)
    study = rows.Study(small(padding), n=4)
    with pytest.raises(KeyboardInterrupt): rows.judge_row(study, generator, {"test": data})
    save_generator(generator, tmp_path)
    assert main(["evaluate", "--weights", str(tmp_path), "--n", "4", "--distance", "none"]) == 130
    for folder, paper in (("sketches", "white"), ("truths", "red")):
        for k in range(3): draw(tmp_path / folder / f"{k}.png", paper, k)
    assert main(["evaluate", "--weights", str(tmp_path), "--sketches", str(tmp_path / "sketches"),
                 "--truths", str(tmp_path / "truths"), "--distance", "none"]) == 130
    assert seen == [{padding}] * 4


def test_a_generator_that_knows_no_preset_is_judged_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate, "measure_all", lambda generator, sources, *a, **k: seen.append(paddings(sources)) or evaluate.Evaluation({}))
    evaluate.evaluate(Generator(TINY.model), open_dataset("avatars", split="valid", size=64, n=16), 4)
    assert seen == [{"border"}]


# --- which device ---

def test_a_mac_has_a_name(monkeypatch):
    def nothing(*args, **kwargs): raise FileNotFoundError
    monkeypatch.setattr(Path, "read_text", nothing)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(core.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(subprocess, "run", lambda command, **kwargs: subprocess.CompletedProcess(command, 0, "Apple M2 Pro\n"))
    assert core.processor() == "Apple M2 Pro arm64"
    assert core.device_name(torch.device("mps")) == core.device_name("mps:0") == "Apple M2 Pro arm64 GPU (MPS)"
    assert core.device_name("cpu").startswith("Apple M2 Pro arm64 CPU")


@pytest.mark.parametrize("about, name", [
    ("processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n", "AMD EPYC 25.17 x86_64"),
    ("processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n", "AMD EPYC 26.2 x86_64"),
    ("processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd0c\n", "x86_64")])
def test_two_processors_of_one_name_are_told_apart(about, name, monkeypatch):
    "They round differently: a row that was probed on one is not stale on the other, but of another processor."
    monkeypatch.setattr(Path, "read_text", lambda self, *args, **kwargs: about)
    monkeypatch.setattr(core.platform, "machine", lambda: "x86_64")
    assert core.processor() == name


def test_the_demo_records_the_device_that_it_trained_on(tmp_path, monkeypatch):
    def elsewhere(self, *args, real=Learner.fit, **kwargs):
        real(self, *args, **kwargs)
        self.device = torch.device("cpu:0")
        return self
    monkeypatch.setattr(Learner, "fit", elsewhere)
    assert main(["demo", "--out", str(tmp_path / "run"), "--steps", "1", "--n", "2"]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["device"] == "cpu:0"


def test_bench_measures_the_processor_that_it_names_whatever_else_there_is(monkeypatch):
    devices = []
    def look(*args, real=scale.Learner, device=None, **kwargs):
        devices.append(device)
        return real(*args, device="cpu", **kwargs)
    monkeypatch.setattr(scale, "Learner", look)
    scale.step_cases(TINY)
    scale.step_cases(TINY, "cuda:1")
    assert devices == ["cpu"] * 3 + ["cuda:1"] * 3
