"""What a run is asked twice: to lie safely on the disk, to be the same run, to stop when told, to start its workers on any system."""
import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import nn

from refcolor.app import commands
from refcolor.app.cli import main
from refcolor.core import PAPER, TINY, UserError, write_atomically, write_together
from refcolor.data import pictures
from refcolor.data.datasets import OPENERS, open_dataset, record_of
from refcolor.data.pictures import Listing, PictureReader, Source
from refcolor.engine import callbacks
from refcolor.engine.checkpoints import checkpoints, read_checkpoint, resumes_from, save_checkpoint
from refcolor.engine.features import VGG19_FILE
from refcolor.train import Diverged, Learner
from examples import write_example
from test_train import FAST, ONE_THREAD, launch



# --- safely on the disk ---

@pytest.fixture
def happened(monkeypatch):
    "What reaches the disk and what gets another name, in order: ('sync', path with its bytes) and ('name', new path)."
    events = []
    def content(path): return sorted(p.name for p in path.iterdir()) if path.is_dir() else path.read_bytes()
    def sync(handle, real=os.fsync):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        events.append(("sync", path, content(path)))
        real(handle)
    def named(real):
        def rename(source, target):
            events.append(("name", Path(source), Path(target)))
            return real(source, target)
        return rename
    monkeypatch.setattr(os, "fsync", sync)
    for owner, name in ((os, "rename"), (os, "replace")): monkeypatch.setattr(owner, name, named(getattr(owner, name)))
    return events


def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name_and_before_the_older_ones_go(tmp_path, happened, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda path, *a, real=shutil.rmtree, **k: (happened.append(("gone", Path(path), None)), real(path, *a, **k))[1])
    for step in (1, 2, 3):
        happened.clear()
        save_checkpoint(tmp_path, step, {"generator": nn.Linear(2, 2)}, {}, TINY, {"seed": 0})
    (_, written, final), (_, _, link) = names = [e for e in happened if e[0] == "name"]
    assert (final, link) == (tmp_path / "step-3", tmp_path / "last")
    before = happened[:happened.index(names[0])]
    there = {p.name: p.read_bytes() for p in final.iterdir()}
    assert {e[1].name: e[2] for e in before if e[1] != written} == there and len(there) == 3      # with all that is in them now
    assert ("sync", written, sorted(there)) in before                                             # and the list of their names
    for name in names:                                            # each new name, before what relies on it
        after = happened[happened.index(name) + 1]
        assert after[:2] == ("sync", tmp_path), after
    assert [e[1].name for e in happened[happened.index(names[1]) + 2:] if e[0] == "gone" and e[1] != written] == ["step-1"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, happened):
    write_atomically(tmp_path / "new.txt", lambda p: Path(p).write_text("all of it"))
    (first, temporary, content), (second, source, target), last = happened
    assert (first, content, second, source, target) == ("sync", b"all of it", "name", temporary, tmp_path / "new.txt")
    assert last == ("sync", tmp_path, ["new.txt"])


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_files_that_belong_together_are_written_all_or_none(tmp_path, fails):
    "Whichever fails, what was there before stays, and no folder is left that was made for them."
    old = tmp_path / "old.txt"
    old.write_text("before")
    def write(name, fail):
        Path(name).write_text("half")
        if fail: raise OSError(28, "No space left on device")
    paths = [old, tmp_path / "new/deep/er.txt", tmp_path / "new/b.txt"]
    with pytest.raises(UserError, match=f"^cannot write {paths[fails]}: No space left on device$"):
        write_together({path: lambda name, k=k: write(name, k == fails) for k, path in enumerate(paths)})
    assert list(tmp_path.rglob("*")) == [old] and old.read_text() == "before"
    write_together({path: lambda name: write(name, False) for path in paths})
    assert {path.read_text() for path in paths} == {"half"} and len(list(tmp_path.rglob("*"))) == 5


def test_a_disk_that_fails_is_said_and_a_folder_that_cannot_be_synced_is_not(tmp_path, monkeypatch):
    "Some network file systems know no sync of folders; a file's must work."
    def failing(handle): raise OSError(5, "Input/output error")
    def only_files(handle, real=os.fsync):
        if os.path.isdir(f"/proc/self/fd/{handle}"): raise OSError(22, "Invalid argument")
        real(handle)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(UserError, match="cannot write .*Input/output error"): write_atomically(tmp_path / "a", lambda p: Path(p).write_text("a"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", only_files)
    write_atomically(tmp_path / "a", lambda p: Path(p).write_text("a"))
    assert (tmp_path / "a").read_text() == "a"


# --- no silent change of method ---

@pytest.fixture
def without_vgg19(tmp_path, monkeypatch):
    "No weights in any folder, and no network."
    monkeypatch.setenv("REFCOLOR_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    def offline(*args, **kwargs): raise OSError("no network")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)


def test_a_run_that_asks_for_vgg19_and_cannot_have_it_fails_and_says_the_way_on(without_vgg19, tmp_path, capsys):
    out = tmp_path / "run"
    vgg = ["train", *FAST, "--steps", "1", "--out", str(out), "--features", "vgg19"]
    assert main(vgg) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("refcolor")]
    assert len(said) == 1 and VGG19_FILE in said[0] and "REFCOLOR_WEIGHTS" in said[0] and "--features lite0" in said[0]
    assert not out.exists()                                              # nothing blocks the corrected command
    assert main([w.replace("vgg19", "lite0") for w in vgg]) == 0
    data = open_dataset("avatars", split="train", size=64, n=16)
    for _ in range(2):                                                   # not only the first time
        with pytest.raises(UserError, match="--features lite0"): Learner(replace(TINY, train=replace(TINY.train, features="vgg19")), data)
    assert PAPER.train.features == "vgg19"


ALIKE = """
import os, sys, torch
if os.environ.get("RANK") == "1":
    def offline(*args, **kwargs): raise OSError("no network")
    torch.hub.load_state_dict_from_url = offline
else:
    import refcolor.engine.features as f
    from refcolor.engine.features import Lite0Features
    f._download_vgg19, f.VGG19Features = dict, lambda state: Lite0Features()
from refcolor.app.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_if_one_process_cannot_have_vgg19_no_process_trains(tmp_path):
    script = tmp_path / "alike.py"
    script.write_text(ALIKE)
    out = tmp_path / "run"
    process = launch(script, "train", *FAST, "--steps", "1", "--out", out, "--features", "vgg19",
                     env={"REFCOLOR_WEIGHTS": str(tmp_path), "TORCH_HOME": str(tmp_path)})
    assert process.returncode != 0 and "--features lite0" in process.stderr and not out.exists()


# --- the same run ---

@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    "Two folders of other pictures under the same names."
    base = tmp_path_factory.mktemp("roots")
    for k, name in enumerate(("small", "other")):
        (base / name).mkdir()
        for i in range(9):
            pixels = np.random.default_rng([k, i]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((70, 70), 0).save(base / name / f"{i}.png")
    return base


def train_folder(out, root, *more, batch=2, steps=1):
    return main(["train", "--preset", "TINY", "--data", "folder", "--root", str(root), "--batch", str(batch), "--steps", str(steps), "--out", str(out), *more])


@pytest.fixture(scope="module")
def begun(roots, tmp_path_factory):
    out = tmp_path_factory.mktemp("begun") / "run"
    assert train_folder(out, roots / "small") == 0
    return out


OTHER = {"root": [], "precision": ["--precision", "bf16"], "seed": ["--seed", "1"], "batch": [],
         "recipe": ["--recipe", "paper"], "gan_mode": ["--gan-mode", "vanilla"], "data": []}


@pytest.mark.parametrize("name, unsaved", [*((name, False) for name in OTHER), ("root", True), ("precision", True)])
def test_a_resume_compares_what_a_run_records_and_names_what_differs(name, unsaved, begun, roots, tmp_path, capsys):
    out = shutil.copytree(begun, tmp_path / "run", symlinks=True)
    if unsaved: shutil.rmtree(out / "step-1"), (out / "last").unlink()
    record = json.loads((out / "config.json").read_text())
    if name == "data": (out / "config.json").write_text(json.dumps(record | {"data": "yumi"}))      # one folder can be two sets
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    root = roots / ("other" if name == "root" else "small")
    assert train_folder(out, root, "--resume", *OTHER[name], batch=1 if name == "batch" else 2) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("refcolor")]
    assert len(said) == 1 and re.search(rf"begun with (.*; )?{name} .*, now ", said[0]) and "use another --out" in said[0], said
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_a_resume_compares_the_list_of_files(begun, roots, tmp_path, capsys):
    "One picture more, in the same folder."
    out, root = shutil.copytree(begun, tmp_path / "run", symlinks=True), shutil.copytree(roots / "small", tmp_path / "small")
    record = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(record | {"root": str(root)}))
    assert train_folder(out, root, "--resume") == 0                    # as before, and finished
    for i in range(9, 15): shutil.copy(root / "0.png", root / f"{i}.png")
    assert train_folder(out, root, "--resume", steps=2) == 2
    assert re.search(r"begun with files \d \(digest \w+\), now \d+ \(digest", capsys.readouterr().err)


def test_a_run_may_get_longer_and_notes_that_and_a_folder_may_be_named_in_another_way(begun, roots, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(begun, tmp_path / "run", symlinks=True)
    monkeypatch.chdir(roots)
    assert train_folder(out, "./small", "--resume", steps=2) == 0 and "trained 2 steps in" in capsys.readouterr().err
    record = json.loads((out / "config.json").read_text())
    assert record["preset"]["train"]["steps"] == 2 and record["root"] == str((roots / "small").resolve())
    assert record == json.loads((begun / "config.json").read_text()) | {"preset": record["preset"]}


def test_a_run_whose_rates_fall_notes_that_it_gets_longer(begun, roots, tmp_path, capsys):
    out = shutil.copytree(begun, tmp_path / "run", symlinks=True)
    assert train_folder(out, roots / "small", "--resume") == 0 and "one long run" not in capsys.readouterr().err       # finished
    assert train_folder(out, roots / "small", "--resume", steps=3) == 0
    assert "note: the learning rates now fall to 0 at step 3, not at 1: one long run would give other weights" in capsys.readouterr().err


def test_a_run_in_use_is_left_alone_and_a_checkpoint_is_no_place_for_one(begun, roots, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "WAIT", 0)
    out = shutil.copytree(begun, tmp_path / "run", symlinks=True)
    (tmp_path / "link").symlink_to(out)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with commands.alone_in(out):
        for name in (out, tmp_path / "link"): assert train_folder(name, roots / "small", "--resume", steps=2) == 2
        assert capsys.readouterr().err.count("is in use by another process: wait for it, or use another --out") == 2
        assert train_folder(tmp_path / "other", roots / "small") == 0                     # nobody is in its way
        shutil.rmtree(tmp_path / "other")
    for inside in (out / "last", out / "last" / "new", out / "step-1" / "a" / "b"):
        assert train_folder(inside, roots / "small") == 2 and "lies in a checkpoint" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert train_folder(out, roots / "small", "--resume", steps=2) == 0                   # it is free again


def test_in_python_too_a_resume_compares(tmp_path):
    data = open_dataset("avatars", split="train", size=64, n=16)
    preset = replace(TINY, train=replace(TINY.train, batch=2, steps=1))
    Learner(preset, data, tmp_path / "run", source={"data": "a"}).fit()
    longer = replace(preset, train=replace(preset.train, steps=2))
    with pytest.raises(UserError, match="data a, now b"): Learner(longer, data, tmp_path / "run", source={"data": "b"}).fit(resume=True)
    with pytest.raises(UserError, match="holds another run"): Learner(longer, data, tmp_path / "run", source={"data": "a"}).fit()
    assert Learner(longer, data, tmp_path / "run", source={"data": "a"}).fit(resume=True).steps_done == 2


def test_resume_where_no_run_exists_begins_it_and_says_so(begun, roots, tmp_path, capsys):
    "Schedulers always pass it. A named checkpoint must be there."
    assert train_folder(tmp_path / "named", roots / "small", "--resume", "step-1") == 2 and not (tmp_path / "named").exists()
    assert "no checkpoint step-1" in capsys.readouterr().err
    assert train_folder(tmp_path / "run", roots / "small", "--resume") == 0
    assert "from the beginning" in capsys.readouterr().err
    for name in ("generator", "generator_raw", "optimizer_d"):
        assert (tmp_path / "run" / "last" / f"{name}.safetensors").read_bytes() == (begun / "last" / f"{name}.safetensors").read_bytes()
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == json.loads((begun / "config.json").read_text())


@pytest.fixture
def copied(begun, roots, tmp_path):
    "A run of one step on a copy of the pictures, which may be changed."
    root, out = shutil.copytree(roots / "small", tmp_path / "pictures"), shutil.copytree(begun, tmp_path / "run", symlinks=True)
    record = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(record | {"root": str(root)}, indent=1))
    return out, root


def test_a_resume_compares_what_is_in_the_files(copied, roots, capsys):
    "Other pictures of the same names, and of nearly the same sizes: noise does not compress."
    out, root = copied
    for path in root.iterdir(): os.utime(path, (1, 1))                 # a copy, or another time, is no other picture
    assert train_folder(out, root, "--resume") == 0
    for i in range(9): shutil.copy(roots / "other" / f"{i}.png", root)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert train_folder(out, root, "--resume", steps=2) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"begun with contents \w{12}, now \w{12}; use another --out; or, if you mended", said) and f'delete the line "contents" of {out}/config.json' in said
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    lines = (out / "config.json").read_text().splitlines(keepends=True)
    (out / "config.json").write_text("".join(l for l in lines if '"contents"' not in l))       # as told; JSON's comma does not matter
    assert train_folder(out, root, "--resume", steps=2) == 0
    assert "contents" in json.loads((out / "config.json").read_text())


def test_a_run_from_before_contents_were_recorded_goes_on(copied):
    out, root = copied
    record = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({k: v for k, v in record.items() if k != "contents"}))
    assert train_folder(out, root, "--resume", steps=2) == 0
    assert json.loads((out / "config.json").read_text())["contents"] == record["contents"]


def source_of(root, n, drawing=None):
    "`n` files that hold what they are called."
    root.mkdir()
    for i in range(n): (root / f"{i:03}.png").write_bytes(b"%03d" % i)
    return PictureReader("some", Source(root, Listing(f"{i:03}.png" for i in range(n)), drawing=drawing), 8)


@pytest.mark.parametrize("name, data", [("000.png", b"xxx"), ("129.png", b"longer")])
def test_contents_are_all_sizes_and_some_bytes(name, data, tmp_path):
    reader = source_of(tmp_path / "a", 130)
    before = reader.contents()
    assert before == source_of(tmp_path / "b", 130).contents()
    (tmp_path / "a" / name).write_bytes(data)
    assert reader.contents() != before
    (tmp_path / "a" / name).unlink()
    assert reader.contents() != before                                 # and no traceback


def test_a_drawing_is_part_of_the_contents(tmp_path):
    reader = source_of(tmp_path / "a", 4, drawing={f"{i:03}.png": f"{i:03}.line" for i in range(4)}.get)
    for i in range(4): (tmp_path / "a" / f"{i:03}.line").write_bytes(b"abc")
    before = reader.contents()
    (tmp_path / "a" / "002.line").write_bytes(b"abd")
    assert reader.contents() != before


def test_of_a_million_files_a_few_are_looked_at(tmp_path, monkeypatch):
    "What a resumed job of a cluster pays: some thousand sizes, some megabytes."
    looked, read = [], []
    class Much:
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def read(self, n): read.append(n); return b"beginning"
    monkeypatch.setattr(pictures.os.path, "getsize", lambda path: looked.append(path) or 10 ** 6)
    monkeypatch.setattr(pictures, "open", lambda path, mode: Much(), raising=False)
    reader = PictureReader("some", Source(tmp_path, Listing(f"{i}.png" for i in range(200_000))), 8)
    reader.contents()
    assert 5_000 <= len(set(looked)) == len(looked) <= 10_000 and looked[-1].name > "190000.png"
    assert 32 <= len(read) <= 64 and sum(read) <= 2 ** 26


def test_drawings_of_another_version_are_others():
    data = open_dataset("avatars", split="train", size=64, n=16)
    record = record_of(data)
    assert list(record) == ["contents"] and record == record_of(open_dataset("avatars", split="train", size=64, n=16))
    data.images = data.images.copy()
    data.images[5, 0, 0, 0] ^= 1
    assert record_of(data) != record


# --- what fails before it has saved anything ---

def no_run(out, seed=0):
    data = open_dataset("avatars", split="train", size=64, n=16)
    return Learner(replace(TINY, train=replace(TINY.train, batch=2, steps=2)), data, out, seed)


class Failing(callbacks.Callback):
    def __init__(self, error, at): self.error, self.at = error, at
    def before_fit(self, learner):
        if self.at == 0: raise self.error
    def after_step(self, learner, log):
        if learner.steps_done == self.at: raise self.error


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("error", [UserError("a torn file"), Diverged("step 0"), KeyboardInterrupt(), OSError(28, "No space left"), RuntimeError("?")])
def test_what_fails_before_its_first_checkpoint_is_in_nobodys_way(error, at, tmp_path):
    out = tmp_path / "run"
    failed = no_run(out)
    failed.callbacks.insert(0, Failing(error, at))
    if at: failed.step = lambda *_: setattr(failed, "steps_done", failed.steps_done + 1) or {}
    with pytest.raises(UserError if isinstance(error, OSError) else type(error)): failed.fit()
    for resume in (False, True): no_run(out, seed=1).begin(resume)
    assert json.loads((out / "config.json").read_text())["seed"] == 1


def test_what_fails_after_a_checkpoint_stays_what_it_is(tmp_path):
    out = tmp_path / "run"
    failed = no_run(out)
    failed.callbacks = [callbacks.Checkpoints(1), Failing(UserError("later"), 1)]
    with pytest.raises(UserError, match="later"): failed.fit()
    for resume, said in ((False, "use --resume, or another --out$"), (True, "seed 0, now 1; use another --out$")):
        with pytest.raises(UserError, match=said): no_run(out, seed=1).fit(resume)
    assert no_run(out).fit(True).steps_done == 2


def test_a_refusal_leaves_another_run_alone(tmp_path):
    "It may be in its first steps, and going on."
    out = tmp_path / "run"
    no_run(out).begin(False)
    for resume, said in ((False, "another run: use --resume, or another --out; or delete it, if it does not train: it holds no checkpoint$"),
                         (True, "seed 0, now 1; use another --out; or delete it")):
        with pytest.raises(UserError, match=said): no_run(out, seed=1).fit(resume)
    assert json.loads((out / "config.json").read_text())["seed"] == 0


def test_strict_that_stops_at_the_first_steps_does_not_block_the_command_without_it(roots, tmp_path, capsys):
    root, out = shutil.copytree(roots / "small", tmp_path / "pictures"), tmp_path / "run"
    data = open_dataset("folder", root, size=64)
    for i in range(1, len(data)): data.path(i).write_bytes(b"torn")
    assert train_folder(out, root, "--strict", batch=len(data)) == 2 and "(--strict)" in capsys.readouterr().err
    for i in range(1, len(data)): shutil.copy(roots / "small" / "0.png", data.path(i))
    assert train_folder(out, root, batch=len(data)) == 0


@pytest.mark.parametrize("named, found", [("{out}/step-1", "step-1"), ("step-1/", "step-1"), ("{out}/last/", "last"), ("last", "last"), (True, "last"), ("", ""), (False, "")])
def test_a_checkpoint_may_be_named_by_its_path(named, found, begun, tmp_path):
    out = shutil.copytree(begun, tmp_path / "run", symlinks=True)
    if not found: (out / "config.json").unlink()
    assert resumes_from(out, named.format(out=out) if isinstance(named, str) else named) == found


@pytest.mark.parametrize("named", ["{other}/step-1", "../other/step-1", "step-1/../../other/step-1", ".", ".."])
def test_a_checkpoint_of_another_run_is_none(named, begun, tmp_path):
    "Else `last` would point to what is not there."
    out, other = (shutil.copytree(begun, tmp_path / name, symlinks=True) for name in ("run", "other"))
    with pytest.raises(UserError, match="no checkpoint .* in .*run; go on from an older one: --resume step-1"): resumes_from(out, named.format(other=other))


# --- signals and start methods ---

def started(method, out, *more, steps="500"):
    "A run with a worker, in a process group of its own, whose workers start by `method`."
    code = f"import multiprocessing, sys; multiprocessing.set_start_method({method!r}); from refcolor.app.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "train", *FAST, "--steps", steps, "--workers", "1", "--out", out, *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ONE_THREAD, start_new_session=True)


def living(group):
    "The processes of a group that have not ended."
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(p.pid) == group and p.status() != psutil.STATUS_ZOMBIE: found.append(p)
    return found


@pytest.mark.parametrize("method, number", [("fork", signal.SIGTERM), ("fork", signal.SIGINT), ("forkserver", signal.SIGTERM), ("spawn", signal.SIGTERM)])
def test_a_signal_to_the_whole_group_saves_whatever_way_the_workers_start(method, number, tmp_path):
    "Twice, as `timeout` and launchers send it."
    process = started(method, tmp_path / "run")
    deadline = time.monotonic() + 240                                # 5 s on a quiet machine
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline: time.sleep(0.05)
    for _ in range(2): os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err, err
    assert read_checkpoint(tmp_path / "run" / "last")[0]["step"] > 0
    deadline = time.monotonic() + 30                                 # whoever started workers notices by itself that it is alone
    while (left := living(process.pid)) and time.monotonic() < deadline: time.sleep(0.05)
    assert not left


LEFT = """
import sys
from refcolor.core import TINY
from refcolor.data.datasets import open_dataset
from refcolor.train import Diverged, Learner
from dataclasses import replace
class Torn:                                                          # a worker's own error
    def __getitem__(self, step): return [][step]
learner = Learner(replace(TINY, train=replace(TINY.train, batch=2)), open_dataset("avatars", split="train", size=64, n=64), workers=1)
if sys.argv[1] == "step": learner.check = lambda *_: 1 / 0
else: learner.batches = Torn()
learner.fit()
"""


@pytest.mark.parametrize("where, error", [("step", "ZeroDivisionError"), ("worker", "IndexError")])
def test_an_error_in_a_script_ends_it_and_its_workers(where, error):
    "The traceback keeps the loader alive, and deaf workers would be waited for for ever."
    process = subprocess.Popen([sys.executable, "-c", LEFT, where], env=ONE_THREAD, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try: _, err = process.communicate(timeout=180)                   # 4 s on a quiet machine
    finally:
        for left in (lefts := living(process.pid)): left.kill()
    assert process.returncode == 1 and error in err and not lefts


def test_ctrl_c_again_after_a_second_stops_at_once_and_sigterm_never(monkeypatch):
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    with callbacks.stop_signals() as heard:
        for _ in range(3): signal.raise_signal(signal.SIGTERM)
        assert len(heard) == 3
        with pytest.raises(KeyboardInterrupt): signal.raise_signal(signal.SIGINT)
    with callbacks.stop_signals(), pytest.raises(KeyboardInterrupt):
        for _ in range(2): signal.raise_signal(signal.SIGINT)


def reopened(dataset):
    blob = pickle.dumps(dataset)
    return pickle.loads(blob), len(blob)


def test_a_drawn_set_goes_to_a_worker_by_the_path_of_its_files():
    for name in ("avatars", "openmoji:people"):
        data = open_dataset(name, split="train", size=64, n=64)
        again, size = reopened(data)
        assert size < 2_000 and isinstance(again.images, np.memmap)                  # the pictures alone are 786,432 bytes
        for a, b in zip(data.batch([5, 63]), again.batch([5, 63])): assert torch.equal(a, b)
        assert (again.name, again.seeds, again.part_labels) == (data.name, data.seeds, data.part_labels)


@pytest.mark.parametrize("name", [*OPENERS, "folder:../sketches"])
def test_every_set_of_files_can_be_given_to_a_worker(name, tmp_path):
    write_example(name.partition(":")[0], tmp_path)
    root = tmp_path / "pictures" if name.startswith("folder:") else tmp_path
    data, noise = open_dataset(name, root, size=32), torch.rand(2, 4) * 2 - 1
    again, _ = reopened(data)
    for a, b in zip(data.batch([0, 1], noise)[:2], again.batch([0, 1], noise)[:2]): assert torch.equal(a, b)


def test_the_batches_of_a_run_are_the_same_wherever_they_are_made(tmp_path):
    learner = Learner(replace(TINY, train=replace(TINY.train, batch=2)), open_dataset("avatars", split="train", size=64, n=64), workers=1)
    batches, size = reopened(learner.batches)
    assert size < 5_000
    for a, b in zip(learner.batches[7], batches[7]): assert all(torch.equal(x, y) for x, y in zip(a, b) if x is not None)


def test_a_copy_beside_the_checkpoints_is_nobody_s(begun, tmp_path):
    out = shutil.copytree(begun, tmp_path / "run", symlinks=True)
    newest = checkpoints(out)
    for name in (f"{newest[-1].name}-backup", "step-", "step-x"): shutil.copytree(newest[-1], out / name)
    assert checkpoints(out) == newest
