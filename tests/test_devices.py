"""What a GPU changes, without one: on the device `meta` two devices do not mix, and a look at a value raises."""
import contextlib
import copy
import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import refcolor
from refcolor import train
from refcolor.app.cli import main
from refcolor.attention import look
from refcolor.core import PAPER, TINY, UserError, best_device
from refcolor.data.datasets import open_dataset
from refcolor.data.pairs import CrossReference
from refcolor.data.pictures import PixelCache
from refcolor.discriminator import PatchGAN
from refcolor.engine import devices, scale
from refcolor.engine.callbacks import Callback, Snapshots
from refcolor.engine.checkpoints import checkpoints, last_good, read_checkpoint, remove_link, replace_link
from refcolor.engine.features import FeatureNetwork, Lite0Features
from refcolor.engine.scale import RandomPictures
from refcolor.evaluate import measure
from refcolor.fid import feature_extractor
from refcolor.generator import Generator, load_generator
from refcolor.study.rows import ValidationCurve, branch_conflict
from refcolor.train import Diverged, Learner


def changed(preset, **train): return replace(preset, train=replace(preset.train, **train))


@pytest.fixture
def meta(monkeypatch):
    "A device that queues for ever: what is fetched from it to the processor is 0, a value that is looked at raises."
    autocast, cpu = torch.autocast, torch.Tensor.cpu
    monkeypatch.setattr(torch, "autocast", lambda kind, *a, **k: contextlib.nullcontext() if kind == "meta" else autocast(kind, *a, **k))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: torch.zeros(x.shape, dtype=x.dtype) if x.is_meta else cpu(x))
    return torch.device("meta")


@pytest.fixture(scope="module")
def people(): return open_dataset("avatars", split="train", size=64, n=16)


@pytest.mark.parametrize("preset, accumulate", [(PAPER, 1), (TINY, 2)], ids=lambda x: getattr(x, "name", x))
def test_a_step_keeps_to_its_device_and_never_waits(preset, accumulate, meta):
    preset = replace(preset, train=replace(preset.train, batch=2, features="lite0"))
    learner = Learner(preset, RandomPictures(2, preset.model.size), device="meta", accumulate=accumulate)
    assert learner.step(look=False) == {}
    assert [step for step, *_ in learner.unread] == [0] and learner.steps_done == 1
    with pytest.raises(NotImplementedError): learner.look()


def test_a_step_with_cross_pairs_keeps_to_its_device(meta, people):
    learner = Learner(replace(TINY, train=replace(TINY.train, batch=8)), people, device="meta")
    assert learner.batches[0][0].parts.any()                # some references are other pictures
    learner.step(look=False)


class NothingCrosses(TorchDispatchMode):
    "A copy from the processor makes it wait, unless it is of pinned memory."
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        copied = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if copied and args[-1].device.type == "cpu" and (kwargs or {}).get("device", args[0].device).type == "meta": raise InterruptedError
        return func(*args, **kwargs or {})


def test_nothing_comes_from_the_processor_in_a_step_but_its_batch(meta, people):
    with NothingCrosses(), pytest.raises(InterruptedError): torch.zeros(2).to(meta)
    learner = Learner(changed(TINY, batch=4), people, device="meta")
    parts = [part.to(meta) for part in learner.batches[0]]
    with NothingCrosses(): learner.step(parts=parts, look=False)
    # a tensor that is made of Python's numbers comes from the processor, too, and no mode sees it
    for module in ("tps", "triplet", "losses", "generator", "scft", "encoder", "discriminator"):
        text = (Path(refcolor.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert not re.search(r"new_tensor\(|(torch\.|as_)tensor\(", text), module


@pytest.mark.parametrize("ablation", ["none", "permuted positions", "blank reference"])
def test_a_look_through_a_generator_that_lies_elsewhere(ablation, meta):
    page = torch.ones(1, 1, 64, 64)
    page[..., 20:40, 20:22] = -1
    hints = [(0., 0., (0.2, 0.2))]
    seen = look(Generator(TINY.model).to("meta"), page, page.expand(-1, 3, -1, -1), ablation=ablation, hints=hints)
    assert {x.device.type for x in seen} == {"cpu"}         # where it is drawn


def test_pairs_are_measured_through_a_generator_that_lies_elsewhere(meta, people):
    values, crowds = measure(Generator(TINY.model).to("meta"), CrossReference(people, 2), feature_extractor("lite0", "meta"))
    assert "region_error" in values and crowds[""].shape == (2, 1280)


def test_features_of_the_processor_are_made_four_pictures_at_a_time_however_it_is_called(monkeypatch):
    pictures = torch.zeros(9, 3, 32, 32)
    for device in ("cpu", torch.device("cpu"), "cpu:0"):
        extractor, sizes = feature_extractor("lite0", "cpu"), []
        extractor = replace(extractor, device=device, network=lambda x: sizes.append(len(x)) or torch.zeros(len(x), 1280))
        extractor(pictures)
        assert sizes == [4, 4, 1], device


def test_rows_are_judged_where_their_generator_is(monkeypatch, people):
    from refcolor.study import rows
    asked = []
    def extractor(name, device):
        asked.append(torch.device(device).type)
        raise LookupError
    monkeypatch.setattr(rows, "feature_extractor", extractor)
    for device in ("cpu", "meta"):
        with pytest.raises(LookupError): rows.judge_row(rows.Study(TINY), Generator(TINY.model).to(device), {"test": people})
    assert asked == ["cpu", "meta"]


def test_a_learner_on_the_processor_does_not_decide_for_the_next_one(monkeypatch, people):
    "accelerate's state is one for the whole process, and keeps what it was first asked for."
    from accelerate import PartialState
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE", raising=False)
    Learner(TINY, people, device="cpu")
    monkeypatch.setattr(PartialState, "default_device", property(lambda self: torch.device("meta")))
    assert best_device() == torch.device("meta")
    assert Learner(TINY, people).device == torch.device("meta")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")     # as `make test` has it
    assert best_device() == torch.device("cpu")


# --- who looks, and when ---

class Poison(Callback):
    "A weight that is no number any more, after a known step."
    def __init__(self, step): self.step = step
    def after_step(self, learner, log):
        if learner.steps_done == self.step:
            with torch.no_grad(): learner.generator.decoder.last.bias.fill_(float("nan"))


@pytest.fixture
def queued(monkeypatch, people):
    "A learner on the processor that looks as if it were elsewhere."
    def make(out=None, steps=7, **how):
        learner = Learner(changed(TINY, batch=2, steps=steps), people, out, device="cpu", **how)
        learner.looks_always, looked = False, []
        def look(look=learner.look):
            if learner.unread: looked.append(len(learner.unread))
            return look()
        monkeypatch.setattr(learner, "look", look)
        return learner, looked
    return make


def test_off_the_processor_a_run_looks_seldom_and_ends_with_the_same_bytes(tmp_path, queued, people):
    learner, looked = queued(tmp_path / "queued", save_every=3)
    learner.fit()
    assert looked == [1, 2, 3, 1]           # the first step, two checkpoints, the last step
    Learner(learner.preset, people, tmp_path / "plain", device="cpu", save_every=3).fit()
    for name in ("generator", "generator_raw", "discriminator", "optimizer_g"):
        one, two = ((tmp_path / run / "last" / f"{name}.safetensors").read_bytes() for run in ("queued", "plain"))
        assert one == two, name
    one, two = ([{k: v for k, v in json.loads(l).items() if "per_" not in k} for l in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
                for run in ("queued", "plain"))
    assert one == two and [line["step"] for line in one] == [1, 7]


@pytest.mark.parametrize("film", [False, True])
def test_what_diverged_between_two_looks_is_found_before_anything_is_written(film, tmp_path, queued, people):
    held_out = CrossReference(people, 2).batch(range(2))[:3]
    learner, _ = queued(tmp_path / "run", save_every=3, held_out=held_out)
    learner.callbacks.append(Poison(3))      # after the checkpoint
    if film: learner.callbacks.insert(1, Snapshots(every=5, early=()))
    with pytest.raises(Diverged, match=r"^step 3: .* the last checkpoint, step-3, is intact"): learner.fit()
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step-3"] and learner.steps_done == (5 if film else 6)
    assert all(v.isfinite().all() for v in read_checkpoint(tmp_path / "run" / "last")[2]["generator_raw"].values())
    assert [p.name for p in (tmp_path / "run" / "samples").iterdir()] == ["step-000000.png"]


def test_a_curve_of_a_run_that_diverged_ends_before_it(tmp_path, queued, people):
    learner, _ = queued(tmp_path / "run", steps=3)
    learner.callbacks = [Poison(1), ValidationCurve(people, 2, 2)]
    with pytest.raises(Diverged, match="^step 1: "): learner.fit()
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()] == [0]


def test_a_run_that_keeps_nothing_is_looked_at_when_it_is_stopped(queued):
    class Stop(Callback):
        def after_step(self, learner, log): signal.raise_signal(signal.SIGINT)
    learner, _ = queued(steps=9)
    learner.callbacks = [Poison(1), SkipFirst(Stop())]
    with pytest.raises(Diverged, match="^step 1: "): learner.fit()


class SkipFirst(Callback):
    def __init__(self, callback): self.callback = callback
    def after_step(self, learner, log):
        if learner.steps_done > 1: self.callback.after_step(learner, log)


# --- defaults, and what does not fit ---

def test_an_epoch_is_shuffled_once(monkeypatch):
    drawn, draw = [], np.random.default_rng
    monkeypatch.setattr(train.np.random, "default_rng", lambda seed: drawn.append(seed) or draw(seed))
    train._order.cache_clear()
    found = [train.batch_index(10, 4, step, seed=7) for step in range(10)]
    assert drawn == [[7, e] for e in range(4)]
    orders = [draw([7, e]).permutation(10).tolist() for e in range(4)]
    assert [i for batch in found for i in batch] == [i for order in orders for i in order]
    assert train.batch_index(10, 4, 0, seed=8) != found[0] and sorted(train.batch_index(9, 9, 0, seed=7)) == list(range(9))     # another key


def test_beside_a_gpu_up_to_eight_processes_prepare_batches(monkeypatch, people):
    for cores, wanted in ((64, 8), (3, 3)):
        monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: range(cores), raising=False)      # noqa: B023
        assert [devices.workers_for(d) for d in ("cuda", torch.device("cuda:1"), "cpu", "mps")] == [wanted, wanted, 0, 0]
    monkeypatch.delattr(devices.os, "sched_getaffinity")                 # macOS, Windows
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 5)
    assert devices.workers_for("cuda") == 5
    monkeypatch.setattr(train, "workers_for", lambda device: 3)
    from refcolor.study.runs import Study, row_learner
    learners = Learner(TINY, people, device="cpu"), row_learner(Study(TINY, device="cpu"), "full", 0, people), Learner(TINY, people, device="cpu", workers=0)
    assert [learner.workers for learner in learners] == [3, 3, 0]


@pytest.mark.parametrize("capability, precision", [((7, 5), "fp32"), ((8, 0), "bf16"), ((12, 0), "bf16")])
def test_a_card_computes_in_what_it_has(capability, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    assert devices.precision_for("cuda") == precision
    if precision == "bf16": return devices.check_precision("bf16", "cuda")
    devices.check_precision("fp32", "cuda")
    with pytest.raises(UserError, match="^--precision bf16: Old Card has no bfloat16; use fp32$"): devices.check_precision("bf16", "cuda:0")


def refused(capsys, *words):
    assert main([*map(str, words)]) == 2
    line, = [l for l in capsys.readouterr().err.splitlines() if l.startswith("refcolor")]
    return line


@pytest.mark.parametrize("words", ["train --out run", "reproduce triplet --rows full --results results --runs runs"])
def test_bfloat16_on_a_card_without_it_is_one_line_before_anything_is_made(words, tmp_path, monkeypatch, capsys):
    from refcolor.app import commands
    from refcolor.study import ship
    monkeypatch.chdir(tmp_path)
    for module in (commands, ship): monkeypatch.setattr(module, "check_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    assert "Old Card has no bfloat16" in refused(capsys, *words.split(), "--device", "cuda", "--precision", "bf16")
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_in_the_precision_that_it_was_begun_with(tmp_path, monkeypatch, capsys):
    from refcolor.app import commands
    words = ["train", "--preset", "TINY", "--batch", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(commands, "precision_for", lambda device: "bf16")
    assert main([*words, "--steps", "1"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "bf16"
    monkeypatch.setattr(commands, "precision_for", lambda device: "fp32")
    assert main([*words, "--steps", "2", "--resume"]) == 0
    assert "precision bf16, now fp32" in refused(capsys, *words, "--steps", "3", "--resume", "--precision", "fp32")


def test_a_batch_that_does_not_fit_is_one_line_that_says_which_does(tmp_path, monkeypatch, capsys):
    room, paint = [4], Learner.paint
    def little_room(self, part):
        if len(part.sketch) > room[0]: raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return paint(self, part)
    monkeypatch.setattr(Learner, "paint", little_room)
    words = ["train", "--preset", "TINY", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert "batch of 6: too large" in (line := refused(capsys, *words, "--batch", "6")) and "--accumulate 2 fits" in line and "or --batch 3" in line
    assert not (tmp_path / "run" / "step-1").exists()
    assert "--accumulate 3 fits" in refused(capsys, *words, "--batch", "12", "--accumulate", "2")   # pieces of 6 do not, of 4 do
    assert main([*words, "--batch", "6", "--accumulate", "2"]) == 0                     # in the same folder
    room[0] = 0
    assert "not even a single picture fits" in refused(capsys, *words[:-1], tmp_path / "other")


def test_memory_that_ends_outside_of_a_step_is_one_line_too(monkeypatch, capsys):
    from refcolor.app import commands
    def fail(args): raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has …")
    monkeypatch.setattr(commands, "run_list", fail)
    assert refused(capsys, "data", "list") == "refcolor: the device's memory does not do: CUDA out of memory; free some"


# --- compiled ---

class Gradients(FeatureNetwork):
    "A Φ that is quickly compiled."
    name, taps = "lite0", (1,)
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()]).requires_grad_(False)

    def normalise(self, x): return x


def test_compiled_networks_take_the_same_step_and_keep_their_names(people):
    "With the gradient norms, which ask one graph twice: some versions of PyTorch then raise, unless told not to give buffers away."
    preset = changed(replace(TINY, model=replace(TINY.model, size=32, positions=4, channels=(8, 16), strides=(1, 2), blocks=1)), batch=2)
    small = open_dataset("avatars", split="train", size=32, n=4)
    plain, fast = (Learner(preset, small, device="cpu") for _ in range(2))
    plain.phi = Gradients()
    fast.phi = copy.deepcopy(plain.phi)
    names = list(fast.generator.state_dict())
    assert devices.speed_up(fast, backend="aot_eager") is fast
    assert all(net._compiled_call_impl for net in (fast.generator, fast.discriminator, fast.phi))
    for _ in range(2):
        one, two = plain.step(measure=True), fast.step(measure=True)
        assert one.keys() == two.keys() and all(abs(one[k] - two[k]) < 1e-3 * max(1, abs(one[k])) for k in one)
    assert list(fast.generator.state_dict()) == names and not torch._functorch.config.donated_buffer
    torch._dynamo.reset()


@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_products_are_rounded_faster(compiled, monkeypatch):
    "All of it runs where the rest of a GPU is missing: an `import torch.…` inside once hid `torch` from the lines before."
    flags = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "benchmark")]
    before = [getattr(*flag) for flag in flags]
    networks = {name: torch.nn.Linear(2, 2) for name in ("generator", "discriminator", "phi")}
    learner = SimpleNamespace(device=torch.device("cuda"), **networks)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    try: assert devices.speed_up(learner, compiled) is learner and all(getattr(*flag) for flag in flags)
    finally:
        for (module, name), value in zip(flags, before): setattr(module, name, value)
    assert all(bool(network._compiled_call_impl) == compiled for network in networks.values())


def test_a_curve_is_measured_uncompiled(people):
    "Each shape and each hook would be compiled anew: a minute in the middle of a run, then a warning that it was too often."
    graphs = []
    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward
    learner = devices.speed_up(Learner(changed(TINY, batch=2), people, device="cpu"), backend=count)
    found = branch_conflict(learner, learner.batches[0][0])
    assert len(found) == 2 and not graphs
    torch._dynamo.reset()


def test_off_the_processor_each_network_is_one_graph(meta):
    "A look at a value, or what the compiler does not know, would cut it: for each piece a launch, and a wait."
    with meta: G, D = Generator(TINY.model), PatchGAN(TINY.model.disc_channels)
    sketch, picture = (torch.zeros(2, c, 64, 64, device=meta) for c in (1, 3))
    for network, inputs in ((G, (sketch, picture)), (D, (picture, sketch)), (Lite0Features().to(meta), (picture,))):
        found = torch._dynamo.explain(network)(*inputs)
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
    torch._dynamo.reset()


def test_on_the_processor_nothing_is_compiled_and_no_rounding_changed(people):
    learner = devices.speed_up(Learner(TINY, people, device="cpu"))
    assert learner.generator._compiled_call_impl is None and torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("words, compiled", [([], True), (["--no-compile"], False)])
def test_train_compiles_unless_told_not_to(words, compiled, tmp_path, monkeypatch):
    from refcolor.app import commands
    asked = []
    monkeypatch.setattr(commands, "speed_up", lambda learner, compile: asked.append(compile))
    assert main(["train", "--preset", "TINY", "--batch", "2", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "run"), *words]) == 0
    assert asked == [compiled]


# --- the stopwatch ---

def test_on_a_gpu_the_clock_waits_until_it_is_done_and_the_memory_is_its_own(monkeypatch):
    "It is told what to do at once, and does it later."
    gpu = SimpleNamespace(due=0., held=500_000_000, peak=0)
    def work():
        gpu.due, gpu.peak = max(gpu.due, time.perf_counter()) + 0.05, gpu.held + 120_000_000
    fakes = dict(synchronize=lambda: time.sleep(max(0, gpu.due - time.perf_counter())), memory_allocated=lambda: gpu.held,
                 max_memory_allocated=lambda: gpu.peak, reset_peak_memory_stats=lambda: vars(gpu).update(peak=gpu.held))
    for name, fake in fakes.items(): monkeypatch.setattr(torch.cuda, name, lambda device, fake=fake: fake() if device == "cuda:1" else 1 / 0)
    measured = scale.time_of(work, repeats=3, device="cuda:1")
    assert 0.045 < measured.wall < 0.2 and measured.memory == 120


@pytest.mark.parametrize("group", ["step", "infer", "warp", "sketch", "attention"])
def test_each_case_computes_on_the_device_that_is_measured(group, meta, monkeypatch):
    import torchvision
    def nothing(real=torchvision.models.vgg19):             # 140 million numbers would be drawn
        with meta: return real()
    monkeypatch.setattr(torchvision.models, "vgg19", nothing)
    monkeypatch.setattr(Learner, "look", lambda self: {})           # a value of a device that queues for ever
    for name, f in scale.GROUPS[group](TINY, "meta").items():
        result = f()
        found = [x for x in (result if isinstance(result, tuple) else [result]) if isinstance(x, torch.Tensor)]
        assert all(x.is_meta for x in found), name


@pytest.mark.parametrize("device, made", [("cpu", 1), ("meta", 0)])
def test_a_timed_step_makes_its_batch_only_where_no_other_process_does(device, made, meta, monkeypatch):
    "Beside a GPU the workers make it: drawing 16 pictures takes longer than a step there."
    monkeypatch.setattr(Learner, "look", lambda self: {})
    learner = scale.step_learner(TINY, device=device)
    step, asked = scale.stepping(learner), []
    monkeypatch.setattr(type(learner.batches), "__getitem__", lambda self, k, real=type(learner.batches).__getitem__: asked.append(k) or real(self, k))
    before = learner.steps_done
    step()
    assert learner.steps_done == before + 1 and len(asked) == made


def test_bench_measures_each_group_where_it_computes(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(scale, "time_of", lambda f, repeats=3, device="cpu": seen.append((f, device)) or scale.Measured(1., 1., 1.))
    monkeypatch.setattr(scale, "flops", lambda f: 0)
    monkeypatch.setattr(scale, "GROUPS", {name: lambda preset, device="cpu", name=name: {f"{name} at {device}": name} for name in scale.GROUPS})
    monkeypatch.setattr(scale, "choice_cases", lambda preset, device: {"advice": ("without", "with")})
    scale.bench([*scale.GROUPS, "choices"], TINY, device="meta")
    there = {f: device for f, device in seen if isinstance(f, str)}
    assert {f for f, device in there.items() if device == "cpu"} == {"load", "fid", "flat"} and len(there) == 10
    monkeypatch.setattr(scale, "best_device", lambda: torch.device("meta"))
    monkeypatch.setattr(scale, "bench", lambda *args: seen.append(args[-1]) or {"preset": "", "threads": 1, "peak_gflops": 1, "peak_gflops_bf16": 1, "rows": {}, "choices": {}})
    assert main(["bench", "--device", "cpu"]) == main(["bench"]) == 0
    assert seen[-2:] == ["cpu", "meta"]


# --- other systems ---

def test_where_there_are_no_links_no_pwrite_and_no_folders_to_sync_a_run_is_the_same(tmp_path, monkeypatch):
    "Windows, as far as it can be played."
    def run(out, *words): return main(["train", "--preset", "TINY", "--batch", "2", "--save-every", "1", "--device", "cpu", "--out", str(out), *words])
    assert run(tmp_path / "here", "--steps", "3") == 0
    def no_link(*args, **kwargs): raise OSError(1314, "A required privilege is not held by the client")
    opened = os.open
    def no_folder(path, *args, **kwargs):
        if os.path.isdir(path): raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)
    with monkeypatch.context() as m:
        m.setattr(Path, "symlink_to", no_link)
        m.setattr(os, "open", no_folder)
        m.setattr(shutil, "_use_fd_functions", False)
        m.setattr(sys, "platform", "win32")
        m.setattr(signal, "pthread_sigmask", None)
        m.delattr(signal, "pthread_sigmask")
        assert run(tmp_path / "there", "--steps", "2") == 0
        assert run(tmp_path / "there", "--steps", "3", "--resume") == 0
        last = tmp_path / "there" / "last"
        assert last.is_dir() and not last.is_symlink() and last_good(tmp_path / "there") == "the last checkpoint, step-3, is intact"
        load_generator(tmp_path / "there")
    for name in ("generator.safetensors", "optimizer_g.safetensors"):
        one, two = (tmp_path / run / "last" / name for run in ("here", "there"))
        assert one.read_bytes() == two.read_bytes()
    assert os.path.samefile(last / "generator.safetensors", tmp_path / "there" / "step-3" / "generator.safetensors")      # no room lost
    monkeypatch.setattr(os, "link", no_link)                # nor hard links, on some sticks
    replace_link(last, "step-2")
    assert read_checkpoint(last)[0]["step"] == 2
    monkeypatch.undo()
    replace_link(last, "step-3")
    assert read_checkpoint(last)[0]["step"] == 3
    remove_link(last)
    assert not last.exists() and (tmp_path / "there" / "step-3").exists()


def test_the_cache_is_the_same_without_pwrite(tmp_path, monkeypatch):
    squares = np.random.default_rng(0).integers(256, size=(3, 1, 4, 4), dtype=np.uint8)
    for name in ("with", "without"):
        cache = PixelCache(tmp_path / name, 3, (1, 4, 4))
        for i in (2, 0): cache.put(i, 7, squares[i])
        assert (cache.get(2, 7) == squares[2]).all() and cache.get(1, 7) is None
        monkeypatch.delattr(os, "pwrite", raising=False)
    one, two = ((tmp_path / name / "slots").read_bytes() for name in ("with", "without"))
    assert one == two


def test_without_resource_the_demo_says_nothing_of_memory(monkeypatch):
    from refcolor.app.commands import peak_memory
    assert 0.05 < peak_memory() < 100
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None


def test_the_package_opens_nothing_of_one_system_alone():
    "Modules that are not everywhere are imported in a `try`; functions of `os` that are not everywhere are asked for first."
    lines = [(path.name, line.strip()) for path in (Path(refcolor.__file__).parent).rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    bare = [(name, line) for name, line in lines if re.match(r"(import|from) (resource|fcntl|pwd|grp|termios|imp|distutils|pkg_resources|asyncore|telnetlib|cgi)\b", line)]
    assert not bare, bare
    posix = [(name, line) for name, line in lines if re.search(r"os\.(pwrite|pread|fork|getuid|mkfifo|sched_getaffinity|statvfs)\(", line) and "hasattr" not in line]
    assert not posix, posix


@pytest.mark.parametrize("cuda, about, needed", [(None, "__version__ = '0.28.0+cu130'", True), ("13.0", "__version__ = '0.28.0+cu130'", False),
                                                 (None, "__version__ = '0.28.0+cpu'", False), (None, "__version__ = '0.28.0'", False),      # macOS, Windows
                                                 (None, None, False), (None, "no torchvision", False)])
def test_operators_are_stubbed_only_where_they_would_be_missing(cuda, about, needed, tmp_path, monkeypatch):
    from refcolor import core
    spec = None if about == "no torchvision" else SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    if about: (tmp_path / "version.py").write_text(about)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(core.importlib.util, "find_spec", lambda name: spec)
    assert core.needs_operator_stubs() is needed
