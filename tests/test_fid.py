"""The pipeline of 13_fid against pytorch-fid's own, file for file, and what would bore a reader."""
import os
import pickle
import subprocess
import sys
import urllib.error
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import refcolor.core  # noqa: F401  (makes torchvision importable, before anything asks for it)
from refcolor import fid
from refcolor.core import UserError
from refcolor.show import to_tensor


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    "A folder with pytorch-fid's architecture, seeded random weights, in the file format of the real ones."
    from pytorch_fid import inception
    folder = tmp_path_factory.mktemp("weights")
    fetch, kept = inception.load_state_dict_from_url, {}
    inner = inception._inception_v3

    def build(*args, **kwargs):
        kept["net"] = inner(*args, **kwargs)
        return kept["net"]

    def seeded(*args, **kwargs):
        generator = torch.Generator().manual_seed(0)
        state = kept["net"].state_dict()
        for name, value in state.items():
            if value.ndim > 1:          # so that the features of two images differ, and do not vanish
                fan_in = value[0].numel()
                state[name] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
        return state

    inception.load_state_dict_from_url, inception._inception_v3 = seeded, build
    try: inception.fid_inception_v3()
    finally: inception.load_state_dict_from_url, inception._inception_v3 = fetch, inner
    # the published file is of 2019 and has torch's old format
    torch.save(kept["net"].state_dict(), folder / fid.INCEPTION_FILE, _use_new_zipfile_serialization=False)
    return folder


@pytest.fixture
def no_download(monkeypatch, tmp_path):
    def refuse(*args, **kwargs): raise urllib.error.URLError("no network")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("REFCOLOR_WEIGHTS", raising=False)


def test_same_files_same_features_same_distance(weights, no_download, monkeypatch, tmp_path):
    from pytorch_fid import fid_score, inception
    rng = np.random.default_rng(0)
    files = []
    for i in range(8):                  # larger and smaller than 299, so that both ways of resizing happen
        coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        side = 400 if i < 4 else 96
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        files.append(tmp_path / f"{i}.png")
        image.save(files[-1])

    monkeypatch.setenv("REFCOLOR_WEIGHTS", str(weights))
    extractor = fid.feature_extractor("inception")
    fetch = inception.load_state_dict_from_url
    assert fetch.__name__ != "<lambda>"             # pytorch-fid is as it was
    ours = [torch.cat([extractor(to_tensor(Image.open(f))) for f in part]) for part in (files[:4], files[4:])]

    state = torch.load(weights / fid.INCEPTION_FILE, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: state)
    reference = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    theirs = [fid_score.get_activations(part, reference, batch_size=4, num_workers=0)
              for part in (files[:4], files[4:])]

    for a, b in zip(ours, theirs):
        assert a.shape == (4, 2048) == (len(a), extractor.dims)
        assert b.std(0).max() > 1e-3                # the comparison is not one of zeros
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-4 * np.abs(b).max())

    # the distance, on the 256 features that vary most: the reference's matrix root of 2,048 takes a minute
    busy = np.argsort(-np.concatenate(theirs).std(0))[:256]
    statistics = [(f[:, busy].mean(0), np.cov(f[:, busy], rowvar=False)) for f in theirs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fid_score.calculate_frechet_distance(*statistics[0], *statistics[1])
    one, two = (fid.Statistics().update(f[:, busy]) for f in ours)
    got = fid.frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
    assert got == pytest.approx(expected, rel=1e-3)
    assert fid.frechet_from_features(ours[0][:, busy], ours[1][:, busy]) == pytest.approx(got, rel=1e-6)

    # random weights are not the FID Inception, whatever their file is called
    assert fid.metric_name(extractor, 4).startswith("fd_inception-")


def test_published_weights_are_called_inception(weights, no_download, monkeypatch):
    class Fake:                         # a file whose digest is right would be the published one: pretend
        def __init__(self, data): pass
        def hexdigest(self): return "6726825d" + "0" * 56
    monkeypatch.setenv("REFCOLOR_WEIGHTS", str(weights))
    monkeypatch.setattr(fid.hashlib, "sha256", Fake)
    monkeypatch.setattr(fid, "_Inception", lambda path: torch.nn.Identity())
    assert fid.metric_name(fid.feature_extractor("inception"), 5000) == "fid_inception_n5000"


def test_missing_weights_are_one_clear_error(no_download):
    with pytest.raises(UserError, match="REFCOLOR_WEIGHTS.*lite0"): fid.feature_extractor("inception")


@pytest.mark.parametrize("content", [b"", b"not weights", "other"])
def test_broken_weights_are_one_clear_error(content, no_download, monkeypatch, tmp_path):
    path = tmp_path / fid.INCEPTION_FILE
    if content == "other": torch.save({"some": torch.zeros(1)}, path)
    else: path.write_bytes(content)
    monkeypatch.setenv("REFCOLOR_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match="does not hold the weights"): fid.feature_extractor("inception")
    from pytorch_fid import inception
    assert inception.load_state_dict_from_url.__name__ != "<lambda>"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_weights_that_are_code_are_never_run(no_download, monkeypatch, tmp_path):
    class Code:
        def __reduce__(self): return (open, (str(tmp_path / "ran"), "w"))
    (tmp_path / fid.INCEPTION_FILE).write_bytes(pickle.dumps(Code()))
    monkeypatch.setenv("REFCOLOR_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError): fid.feature_extractor("inception")
    assert not (tmp_path / "ran").exists()


def test_statistics_travel_between_processes():
    features = np.random.default_rng(0).normal(size=(50, 6))
    parts = [pickle.loads(pickle.dumps(fid.Statistics().update(part))) for part in np.array_split(features, 3)]
    total = fid.Statistics().merge(fid.Statistics())        # a process that saw nothing
    for part in parts: total.merge(part)
    assert total.n == 50
    np.testing.assert_allclose(total.covariance, np.cov(features, rowvar=False), atol=1e-12)


_SPEED = """
import time, warnings
import numpy as np
import refcolor.core, refcolor.fid
from pytorch_fid.fid_score import calculate_frechet_distance
warnings.simplefilter("ignore")

def statistics(n, scale, d=512):
    rng = np.random.default_rng(n)
    f = np.maximum(rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / d ** 0.5, 0) * scale
    return f.mean(0), np.cov(f, rowvar=False)

for n, tolerance in (1500, 1e-6), (150, 1e-3):
    pair = *statistics(n, 1.), *statistics(n + 1, 1.1)
    runs = []
    for function in refcolor.fid.frechet_distance, calculate_frechet_distance:
        start = time.process_time()
        runs.append((function(*pair), time.process_time() - start))
    (ours, fast), (theirs, slow) = runs
    assert abs(ours - theirs) < tolerance * theirs, (n, ours, theirs)
    print(n, slow / fast)
    assert slow > 3 * fast, (n, slow, fast)
"""


def test_as_pytorch_fid_and_faster():
    "On one thread. 6 times and more is what 2,048 dimensions give (`refcolor bench`); this is the quick look."
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    run = subprocess.run([sys.executable, "-c", _SPEED], env=os.environ | one, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("n, tolerance", [(200, 1e-6), (20, 1e-3), (2, 1e-3)])
def test_as_pytorch_fid_for_any_rank(n, tolerance):
    from pytorch_fid.fid_score import calculate_frechet_distance
    rng = np.random.default_rng(n)
    sets = [rng.normal(size=(n + i, 40)) @ rng.normal(size=(40, 40)) for i in range(2)]
    p, q = [(f.mean(0), np.cov(f, rowvar=False)) for f in sets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = calculate_frechet_distance(*p, *q)
    assert fid.frechet_distance(*p, *q) == pytest.approx(expected, rel=tolerance)
    assert fid.frechet_from_features(*sets) == pytest.approx(fid.frechet_distance(*p, *q), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_degenerate_inputs(seed):
    "Zero covariances, equal sets, disjoint supports, one direction only: never NaN, never negative."
    rng = np.random.default_rng(seed)
    d = 30
    zero = np.zeros((d, d))
    v, w = rng.normal(size=(2, d))
    mu = rng.normal(size=d)
    split = np.diag((np.arange(d) < 15) * 1.)
    assert fid.frechet_distance(mu, zero, mu, zero) == 0
    assert fid.frechet_distance(mu, zero, mu, np.eye(d)) == pytest.approx(d)
    assert fid.frechet_distance(mu, split, mu, np.eye(d) - split) == pytest.approx(d)
    # rank one: the root of v vᵀ w wᵀ has the trace |v·w|
    expected = v @ v + w @ w - 2 * abs(v @ w)
    assert fid.frechet_distance(mu, np.outer(v, v), mu, np.outer(w, w)) == pytest.approx(expected, rel=1e-6)
    few = rng.normal(size=(5, d))
    assert 0 <= fid.frechet_from_features(few, few) < 1e-9
    assert fid.frechet_from_features(np.repeat(few[:1], 3, 0), np.repeat(few[1:2], 3, 0)) == pytest.approx(
        ((few[0] - few[1]) ** 2).sum())


def test_no_images_is_an_error():
    colour = fid.FeatureExtractor("colour", 3, lambda x: x.mean((2, 3)))
    with pytest.raises(ValueError, match="at least 2"): fid.frechet_from_images([], [], colour)
    batches = (torch.zeros(2, 3, 4, 4) for _ in range(3))               # a generator has no length
    assert fid.image_statistics(batches, colour).n == 6


def test_memory_does_not_grow_with_the_number_of_images():
    "What was measured is forgotten: never more than two batches are alive, whatever N is."
    import weakref
    colour, alive, most = fid.FeatureExtractor("colour", 3, lambda x: x.mean((2, 3))), [], 0

    def batches():
        nonlocal most
        for seed in range(20):
            batch = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
            alive.append(weakref.ref(batch))
            most = max(most, sum(ref() is not None for ref in alive))
            yield batch
            del batch

    assert fid.image_statistics(batches(), colour).n == 80
    assert most <= 2
