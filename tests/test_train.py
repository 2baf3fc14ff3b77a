"""Training that survives: killed, interrupted, out of disk, damaged, diverged, cut into processes."""
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refcolor import train
from refcolor.app.cli import main
from refcolor.core import TINY, UserError
from refcolor.data.datasets import open_dataset
import refcolor.engine.checkpoints as checkpoint_files
from refcolor.engine.callbacks import Callback
from refcolor.engine.checkpoints import checkpoints, read_checkpoint
from refcolor.train import Diverged, Learner

FAST = ["--preset", "TINY", "--data", "avatars", "--batch", "2", "--seed", "3"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "REFCOLOR_PROGRESS": "0"}
STEPS = 18
FILES = ("generator", "generator_raw", "discriminator", "optimizer_g", "optimizer_d")

def life(out: Path, end: str, steps: int):
    "One life of a run that saves after every step, and how it ends."
    torch.set_num_threads(1)
    def die(*_): os.kill(os.getpid(), signal.SIGKILL)
    def half_a_file(tensors, path):
        Path(path).write_bytes(b"half a file")
        die()
    if end == "in a file": checkpoint_files.save_file = half_a_file
    if end == "before the checksums": checkpoint_files._digest = die
    if end == "before the rename": Path.rename = die
    if end == "before the link": checkpoint_files.replace_link = die
    if end == "before the old one goes": shutil.rmtree = lambda path, *_, **__: die() if "step-" in str(path) else None
    class Timer(Callback):
        def after_step(self, learner, log):
            if end.startswith("after ") and learner.steps_done == self.first: threading.Timer(float(end.split()[1]), die).start()
        def before_fit(self, learner): self.first = learner.steps_done + 1

    preset = replace(TINY, train=replace(TINY.train, batch=2, steps=steps, lr_decay=0.5, fade_tr=0.8))
    learner = Learner(preset, open_dataset("avatars", split="train", size=64, n=64), out, save_every=1)
    learner.log_every = 1
    learner.callbacks.append(Timer())
    if (out / "last").exists() and end == "before the link":      # --resume itself makes the link: here only the save is to fail
        train.replace_link = lambda *_: None
    learner.fit(resume=(out / "last").exists())


# each life is a process of its own, forked from one that has imported everything and done nothing
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["refcolor.train", "refcolor.data.datasets"])


def live(out, end="", steps=STEPS) -> int:
    "How a life ended: 0, or minus the signal."
    process = processes.Process(target=life, args=(out, end, steps))
    process.start()
    process.join()
    return process.exitcode


def without_times(log: Path):
    return [{k: v for k, v in json.loads(l).items() if "per_" not in k} for l in log.read_text().splitlines()]


def test_killed_at_ten_moments_a_run_ends_with_the_same_bytes(tmp_path):
    "Five kills inside the writing of a checkpoint, five at random moments, all in one run."
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert live(whole) == 0
    # the first life saves once before the second save dies, or there would be nothing to resume from
    moments = ["after 0.3", "in a file", "before the checksums", "before the rename", "before the link", "before the old one goes"]
    moments += [f"after {t:.2f}" for t in torch.rand(4, generator=torch.Generator().manual_seed(0)) * 0.4]
    seen = []
    for moment in moments:
        assert live(killed, moment) == -signal.SIGKILL, moment
        read_checkpoint(killed / "last")                              # whole, whatever happened
        seen.append(int(os.readlink(killed / "last")[5:]))
    assert seen == sorted(seen) and 0 < seen[0] and seen[-1] < STEPS, seen
    assert live(killed) == 0
    for name in FILES:
        a, b = ((run / "last" / f"{name}.safetensors").read_bytes() for run in (whole, killed))
        assert a == b, name
    assert without_times(whole / "metrics.jsonl") == without_times(killed / "metrics.jsonl"), "lines lost or written twice"
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir()), "something half-written was left behind"


def test_killed_before_its_first_checkpoint_a_run_begins_again(tmp_path, capsys):
    "Neither 'use --resume' nor 'no checkpoint' may be the last word on such a folder."
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert main(["train", *FAST, "--steps", "2", "--out", str(whole)]) == 0
    out.mkdir()
    (out / "config.json").write_bytes((whole / "config.json").read_bytes())          # all that a run leaves behind before it saves
    (out / "metrics.jsonl").write_text((whole / "metrics.jsonl").read_text().splitlines()[0] + "\n{half a li")
    assert main(["train", *FAST[:-1], "4", "--steps", "2", "--out", str(out), "--resume"]) == 2     # another seed
    assert "begun with seed 3, now 4" in capsys.readouterr().err and (out / "config.json").exists()
    assert main(["train", *FAST, "--steps", "2", "--out", str(out), "--resume"]) == 0
    assert "from the beginning" in capsys.readouterr().err
    a, b = (load_file(run / "last" / "generator_raw.safetensors") for run in (whole, out))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert without_times(whole / "metrics.jsonl") == without_times(out / "metrics.jsonl")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(number, tmp_path):
    command = [sys.executable, "-m", "refcolor", "train", *FAST, "--steps", "500", "--out", tmp_path / "run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ONE_THREAD)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline: time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert read_checkpoint(tmp_path / "run" / "last")[0]["step"] > 0


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_when_there_is_room(tmp_path):
    "A real failing write: the system refuses files of more than 2 MB once the run is under way."
    out = tmp_path / "run"
    assert main(["train", *FAST, "--steps", "2", "--out", str(out)]) == 0
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    command = [sys.executable, "-m", "refcolor", "train", *FAST, "--steps", "4", "--save-every", "1", "--out", out, "--resume"]
    process = subprocess.run(command, preexec_fn=small, env=ONE_THREAD, capture_output=True, text=True)
    lines = [l for l in process.stderr.splitlines() if l.startswith("refcolor")]
    assert process.returncode == 2 and len(lines) == 1 and "step-2" in lines[0] and "--resume" in lines[0], process.stderr
    assert os.readlink(out / "last") == "step-2" and read_checkpoint(out / "last")[0]["step"] == 2
    assert not list(out.glob(".saving-*"))
    assert main(["train", *FAST, "--steps", "4", "--out", str(out), "--resume"]) == 0


def test_a_log_that_cannot_be_written_is_one_line_too(tmp_path):
    class Full(Callback):
        def after_step(self, learner, log):
            if learner.steps_done == 2: raise OSError(28, "No space left on device")
    learner = small_learner(tmp_path / "run", save_every=1)
    learner.callbacks.append(Full())
    with pytest.raises(UserError, match="No space left on device, after step 2; the last checkpoint, step-2, is intact"):
        learner.fit()


def small_learner(out, steps=4, **options):
    torch.set_num_threads(1)
    preset = replace(TINY, train=replace(TINY.train, batch=2, steps=steps))
    return Learner(preset, open_dataset("avatars", split="train", size=64, n=64), out, **options)


class Poison(Callback):
    "Ruin a network after a step, as an overflow would."
    def __init__(self, network, step): self.network, self.step = network, step
    def after_step(self, learner, log):
        if learner.steps_done == self.step:
            with torch.no_grad(): next(getattr(learner, self.network).parameters()).fill_(float("nan"))


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_run_that_diverges_names_step_and_term_and_leaves_a_good_checkpoint(network, tmp_path):
    learner = small_learner(tmp_path / "run", save_every=2)
    learner.callbacks.append(Poison(network, 2))                     # after the save of step 2
    with pytest.raises(Diverged, match=r"step 2: (loss|D|norm)\S+ is nan; the last checkpoint, step-2, is intact"): learner.fit()
    _, _, tensors = read_checkpoint(tmp_path / "run" / "last")
    assert all(torch.isfinite(v).all() for named in tensors.values() for v in named.values())
    again = small_learner(tmp_path / "run").fit(resume=True)
    assert again.steps_done == 4


def test_pictures_of_one_colour_are_told_at_once():
    "tanh at its end has no gradient: such a run would go on for hours and learn nothing."
    learner = Learner(replace(TINY, train=replace(TINY.train, batch=2)), open_dataset("avatars", split="valid", size=64, n=8))
    assert learner.step(measure=True)["fake/std"] > 0.05
    with torch.no_grad(): learner.generator.decoder.last.bias += 1000
    with pytest.raises(Diverged, match="fake/std"): learner.step(measure=True)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "two"
    assert main(["train", *FAST, "--steps", "2", "--save-every", "1", "--out", str(out)]) == 0
    return out


def truncate(path): path.write_bytes(path.read_bytes()[:-100])
def flip(path): path.write_bytes((data := path.read_bytes())[:-9] + bytes([data[-9] ^ 4]) + data[-8:])


# no flip in state.json: the checksums cannot check themselves, and a flip there shows only where it breaks the JSON
@pytest.mark.parametrize("name, damage", [(name, damage) for name in ("optimizer_d.safetensors", "preset.json", "state.json")
                                          for damage in (truncate, flip, Path.unlink) if (name, damage) != ("state.json", flip)])
def test_a_damaged_checkpoint_is_refused_and_the_older_one_works(name, damage, two_checkpoints, tmp_path, capsys):
    import shutil
    out = shutil.copytree(two_checkpoints, tmp_path / "run", symlinks=True)
    damage(out / "last" / name)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    command = ["train", *FAST, "--steps", "3", "--out", str(out), "--resume"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and ("--resume step-1" in said or "no checkpoint last" in said), said
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}, "something was overwritten"
    assert main([*command, "step-1"]) == 0
    assert read_checkpoint(out / "last")[0]["step"] == 3


def test_workers_prepare_the_same_batches(tmp_path):
    runs = [small_learner(tmp_path / str(workers), workers=workers).fit() for workers in (0, 2)]
    a, b = (load_file(run.out / "last" / "generator_raw.safetensors") for run in runs)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_tensorboard_has_the_losses_under_their_names(tmp_path, capsys):
    assert main(["train", *FAST, "--steps", "2", "--out", str(tmp_path / "run"), "--tensorboard"]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    lines = [json.loads(l) for l in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss/tr", "loss/rec", "loss/adv_g", "loss/perc", "loss/style", "loss/adv_d"):
        curve = [(e.step, e.value) for e in events.Scalars(name)]
        assert curve == [(l["step"], pytest.approx(l[name], abs=1e-5)) for l in lines], name


# Gradients of step 0, and the weights after some steps, by one process or several.
PROCESSES = """
import atexit, sys
from dataclasses import replace
import torch
atexit.register(lambda: print("left", "open" if torch.distributed.is_initialized() else "closed"))     # heard last
torch.set_num_threads(1)
from safetensors.torch import save_file
from refcolor.core import TINY
from refcolor.data.datasets import open_dataset
from refcolor.train import Learner
preset = replace(TINY, train=replace(TINY.train, batch=4))
learner = Learner(preset, open_dataset("avatars", split="train", size=64, n=64))
log = learner.step(measure=True)
if learner.processes.is_main_process:
    named = {f"G.{k}": v.grad for k, v in learner.generator.named_parameters()}
    named["processes"] = torch.tensor(float(learner.processes.num_processes))
    named |= {f"D.{k}": v.grad for k, v in learner.discriminator.named_parameters() if v.grad is not None}
    save_file({k: v.contiguous() for k, v in (named | {f"log.{k}": torch.tensor(v) for k, v in log.items()}).items()}, sys.argv[1])
"""


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(*arguments, processes=2, env={}, **options):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes),
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port()), *map(str, arguments)]
    return subprocess.run(command, env=ONE_THREAD | env, capture_output=True, text=True, timeout=300, **options)


def test_two_processes_with_half_the_batch_compute_the_gradients_of_the_whole(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(PROCESSES)
    subprocess.run([sys.executable, script, tmp_path / "one"], env=ONE_THREAD, check=True)
    process = launch(script, tmp_path / "two")
    assert process.returncode == 0, process.stderr
    # what gloo's threads still hold is let go of while Python lives; later they would abort the process ('terminate called …')
    assert process.stdout.count("left closed") == 2 and "left open" not in process.stdout
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys() and any(k.startswith("D.") for k in one)
    assert (one["processes"], two["processes"]) == (1, 2)
    for group in ("G.", "D."):
        a, b = (torch.cat([v.flatten() for k, v in sorted(x.items()) if k.startswith(group)]) for x in (one, two))
        assert (a - b).norm() <= 1e-5 * a.norm(), (group, float((a - b).norm() / a.norm()))
    for name in ("loss/tr", "loss/rec", "loss/adv_g", "loss/perc", "loss/style", "loss/adv_d", "D(real)"):
        assert one[f"log.{name}"] == pytest.approx(float(two[f"log.{name}"]), rel=1e-4), name     # the whole batch's, not one half's


def test_the_command_runs_on_two_processes_and_a_checkpoint_moves_to_one(tmp_path):
    "Two processes for two steps, then one for two more: the same run as one process for all four."
    train = ["train", *FAST[:-4], "--batch", "4", "--save-every", "1"]
    process = launch("-m", "refcolor", *train, "--steps", "2", "--out", tmp_path / "moved")
    assert process.returncode == 0, process.stderr
    for out, extra in ((tmp_path / "moved", ["--resume"]), (tmp_path / "one", [])):
        assert main([*train, "--steps", "4", "--out", str(out), *extra]) == 0
    assert [l["step"] for l in without_times(tmp_path / "moved" / "metrics.jsonl")] == [1, 2, 4], "two processes wrote the log"
    # and back to two
    process = launch("-m", "refcolor", *train, "--steps", "5", "--out", tmp_path / "moved", "--resume")
    assert process.returncode == 0 and read_checkpoint(tmp_path / "moved" / "last")[0]["step"] == 5, process.stderr
    one, moved = (load_file(tmp_path / run / "step-4" / "generator_raw.safetensors") for run in ("one", "moved"))
    a, b = (torch.cat([v.flatten() for v in x.values()]) for x in (one, moved))
    # Adam's first steps are signs of gradients: where a gradient is nearly zero, rounding decides, and moves a weight by lr = 5e-4
    assert (a - b).norm() < 2e-3 * a.norm(), float((a - b).norm() / a.norm())
    assert (a - b).abs().max() <= 4 * 2 * 5e-4


def test_a_batch_that_cannot_be_shared_is_one_clear_line(tmp_path):
    process = launch("-m", "refcolor", "train", *FAST[:-4], "--batch", "3", "--steps", "2", "--out", tmp_path / "run")
    assert process.returncode != 0 and "batch of 3: cannot be cut into 2 processes" in process.stderr
    assert not (tmp_path / "run").exists()


def test_a_launcher_that_starts_one_process_instead_of_two_is_noticed(tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "-m", "refcolor", "train", *FAST, "--steps", "1", "--out", tmp_path / "run"]
    process = subprocess.run(command, env=ONE_THREAD | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    assert process.returncode != 0 and "needs: accelerate launch --multi_gpu" in process.stderr and not (tmp_path / "run").exists()


def test_bf16_and_pieces_from_the_command_line(tmp_path):
    assert main(["train", *FAST, "--steps", "1", "--precision", "bf16", "--accumulate", "2", "--lr-decay", "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["precision"] == "bf16" and config["preset"]["train"]["lr_decay"] == 0.5
    tensors = read_checkpoint(tmp_path / "run" / "last")[2]
    assert {v.dtype for v in tensors["generator_raw"].values()} == {torch.float32}
    assert len(checkpoints(tmp_path / "run")) == 1


def test_what_is_no_preset_no_data_and_no_seed_is_one_line():
    data = open_dataset("avatars", split="train", size=64, n=16)
    for arguments, said in (("TINY", data), "preset: expected a Preset, .*, got str"), ((data, TINY), "preset: expected a Preset, .*, got Characters"), ((TINY, None), "dataset: expected .*, got NoneType"), \
            ((TINY, ["a.png"] * 99), "dataset: expected .*, got list"), ((TINY, data, None, "3"), "seed: expected a whole number from 0 on, got '3'"), ((TINY, data, None, True), "seed: expected .*, got True"):
        with pytest.raises(UserError, match=f"^{said}$"): Learner(*arguments)
