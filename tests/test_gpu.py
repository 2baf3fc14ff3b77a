"""The same on a GPU as on the processor, nearly: `make test-gpu`. On the processor each test runs as well, at the smallest size."""
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refcolor.app.cli import main
from refcolor.attention import look
from refcolor.colorize import colorize
from refcolor.core import PAPER, SMALL, TINY, UserError
from refcolor.data.datasets import open_dataset
from refcolor.engine.checkpoints import read_checkpoint
from refcolor.engine.devices import precision_for, speed_up
from refcolor.engine.scale import RandomPictures
from refcolor.fid import feature_extractor
from refcolor.generator import load_generator
from refcolor.show import to_image
from refcolor.train import Learner

ROOT = Path(__file__).resolve().parent.parent
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
CUDA = pytest.param("cuda", marks=GPU)
STEPS = [pytest.param("cpu", TINY, precision, False, id=f"cpu-{precision}") for precision in ("fp32", "bf16")]
STEPS += [pytest.param("cuda", preset, precision, compiled, marks=GPU, id=f"cuda-{preset.name}-{precision}{'-compiled' * compiled}")
          for preset in (TINY, SMALL, PAPER) for precision in ("fp32", "bf16") for compiled in (False, True)]


@pytest.fixture(autouse=True)
def rounding():
    "`speed_up` sets how the whole process rounds."
    flags = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "benchmark")]
    before = [getattr(*flag) for flag in flags]
    yield
    for (module, name), value in zip(flags, before): setattr(module, name, value)


def words(preset, device, out, *more):
    return ["train", "--preset", preset, "--batch", "2", "--device", device, "--out", str(out), "--features", "lite0", *map(str, more)]


@pytest.fixture(scope="module", params=["cpu", CUDA])
def trained(request, tmp_path_factory):
    "A device, and a run of two steps that was trained on it."
    out = tmp_path_factory.mktemp("run") / "tiny"
    assert main(words("TINY", request.param, out, "--steps", 2, "--no-compile")) == 0
    return request.param, out


@pytest.fixture(scope="module")
def people(): return open_dataset("avatars", split="valid", size=64, n=8).batch(range(8))


@pytest.mark.parametrize("device, preset, precision, compiled", STEPS)
def test_a_training_step(device, preset, precision, compiled):
    "Finite, and about what the processor finds in float32."
    preset = replace(preset, train=replace(preset.train, batch=2, features="lite0"))
    pictures = RandomPictures(2, preset.model.size)
    learner = speed_up(Learner(preset, pictures, device=device, precision=precision), compiled)
    log = learner.step(measure=True)
    assert all(map(math.isfinite, log.values()))
    plain = Learner(preset, pictures, device="cpu").step()
    room = 0.02 if precision == "fp32" else 0.1
    far = {k: (log[k], v) for k, v in plain.items() if k.startswith("loss/") and abs(log[k] - v) > room * max(1, abs(v))}
    assert not far
    for _ in range(2): learner.step(look=False)
    assert len(learner.unread) == 2 and all(map(math.isfinite, learner.look().values()))


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_step_waits_for_nothing(device):
    learner = Learner(replace(TINY, train=replace(TINY.train, batch=4)), open_dataset("avatars", split="train", size=64, n=4), device=device)
    learner.step()                                          # allocates, and chooses kernels
    parts = [type(part)(*(x if x is None or device == "cpu" else x.pin_memory() for x in part)) for part in learner.batches[1]]
    if device == "cuda": torch.cuda.set_sync_debug_mode("error")
    try: learner.step(parts=parts, look=False)
    finally:
        if device == "cuda": torch.cuda.set_sync_debug_mode("default")
    assert all(map(math.isfinite, learner.look().values()))


def test_a_run_is_resumed_where_it_was_and_elsewhere(trained, tmp_path):
    device, out = trained
    record = json.loads((out / "config.json").read_text())
    assert record["precision"] == precision_for(device)
    for steps, where in ((3, device), (4, "cpu")):
        assert main(words("TINY", where, out, "--steps", steps, "--resume", "--no-compile")) == 0
    state, _, tensors = read_checkpoint(out / "last")
    assert state["step"] == 4 and all(v.isfinite().all() for network in tensors.values() for v in network.values())
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_evaluation(trained, monkeypatch, capsys):
    device, out = trained
    found = []
    for where in ("cpu", device):
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", where)
        assert main(["evaluate", "--weights", str(out), "--n", "4", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    numbers = [{k: v for k, v in f.items() if isinstance(v, float)} for f in found]
    assert numbers[0].keys() == numbers[1].keys() and len(numbers[0]) > 20
    far = {k: (v, numbers[1][k]) for k, v in numbers[0].items() if "corr" not in k and abs(v - numbers[1][k]) > 0.02 * max(1, abs(v))}
    assert not far


def test_a_picture_and_a_look_are_those_of_the_processor(trained, people):
    device, out = trained
    sketch, reference = (to_image(x) for x in (people.sketch[0], people.image[1]))
    generators = load_generator(out), load_generator(out).to(device)
    one, two = (torch.tensor(list(colorize(sketch, reference, weights=g).tobytes())).float() for g in generators)
    assert (one - two).abs().mean() < 1                     # of 255
    for ablation in ("none", "permuted positions"):
        here, there = (look(g, people.sketch[:1], people.image[1:2], ablation=ablation) for g in generators)
        assert (here.logits - there.logits).abs().max() < 0.02 * here.logits.abs().max().clamp(min=1)
        assert (here.fake - there.fake).abs().mean() < 0.01 and there.alpha.device.type == "cpu"


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_features_of_a_crowd(device, people):
    one, two = (feature_extractor("lite0", where)(people.image) for where in ("cpu", device))
    assert two.device.type == "cpu" and (one - two).norm() < 0.01 * one.norm()


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_bench(device, capsys):
    assert main(["bench", "--preset", "TINY", "--what", "warp,infer", "--repeats", "1", "--device", device, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["peak_gflops"] > 1 and all(row["wall_s"] > 0 for row in result["rows"].values())
    if device == "cuda": assert 0 < result["rows"]["inference at 64"]["memory_mb"] < 1000       # not the process's


@pytest.mark.parametrize("device", [CUDA])
def test_a_batch_that_does_not_fit_says_which_does(device):
    "Of 4 GB: PAPER's weights, their average, gradients and Adam's state take 1.7."
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(4e9 / torch.cuda.get_device_properties(device).total_memory)
    try:
        preset = replace(PAPER, train=replace(PAPER.train, batch=64, features="lite0"))
        with pytest.raises(UserError, match=r"batch of 64: too large .* --accumulate \d+ fits"):
            Learner(preset, RandomPictures(64, 256), device=device, workers=0).fit()
    finally: torch.cuda.set_per_process_memory_fraction(1.)


# what a person waits for is a test's for a minute; and no network
SHORT = {"--preset SMALL --steps 3000": "--preset TINY --steps 60", "--preset PAPER --steps 5000": "--preset PAPER --batch 4 --steps 20 --features lite0 --no-compile",
         "--n 2100 --features inception --distance frechet": "--n 64 --features lite0 --distance kernel"}


def shortened():
    "The notebook for GPUs with fewer steps."
    import nbformat
    notebook, left = nbformat.read(ROOT / "nbs" / "engine" / "gpu.ipynb", 4), set(SHORT)
    for cell in notebook.cells:
        for long, short in SHORT.items():
            if cell.cell_type == "code" and long in cell.source:
                cell.source = cell.source.replace(long, short)
                left.discard(long)
    return notebook, left


def test_the_notebook_for_gpus_can_be_shortened():
    assert not shortened()[1]


@pytest.mark.parametrize("device", [CUDA])
def test_the_notebook_for_gpus(device, tmp_path, monkeypatch):
    from nbclient import NotebookClient
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", device)
    NotebookClient(shortened()[0], timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs" / "film.png").exists()
