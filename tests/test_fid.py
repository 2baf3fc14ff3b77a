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


# What a distance must satisfy, as functions of the distance, so that wrong versions are put to the same questions.

RNG = np.random.default_rng(0)
TURN = np.linalg.qr(RNG.normal(size=(12, 12)))[0]


def gaussian(d=12, n=48):
    features = RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d)) / np.sqrt(d) + RNG.normal(size=d)
    return features.mean(0), np.cov(features, rowvar=False)


P, Q = gaussian(), gaussian()


def is_zero_for_itself(distance): return abs(distance(*P, *P)) < 1e-9


def is_symmetric(distance): return abs(distance(*P, *Q) - distance(*Q, *P)) < 1e-9


def charges_a_shift(distance):
    shift = np.linspace(-1, 1, 12)
    return abs(distance(P[0], P[1], P[0] + shift, P[1]) - shift @ shift) < 1e-9


def adds_the_axes(distance, turn=np.eye(12)):
    "Commuting covariances: Σ (aᵢ − bᵢ)² over the standard deviations."
    a, b = np.linspace(0.5, 2, 12), np.linspace(3, 1, 12)
    zero, spread = np.zeros(12), lambda s: turn @ np.diag(s ** 2) @ turn.T
    return abs(distance(zero, spread(a), zero, spread(b)) - ((a - b) ** 2).sum()) < 1e-9


def adds_turned_axes(distance): return adds_the_axes(distance, TURN)


def ignores_a_rotation(distance):
    turned = [(TURN @ mu, TURN @ sigma @ TURN.T) for mu, sigma in (P, Q)]
    return abs(distance(*P, *Q) - distance(*turned[0], *turned[1])) < 1e-9


def no_mean(mu1, sigma1, mu2, sigma2): return fid.frechet_distance(mu1, sigma1, mu1, sigma2)


def entrywise(mu1, sigma1, mu2, sigma2):
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * np.sqrt(np.abs(sigma1 @ sigma2))))


@pytest.mark.parametrize("distance, passes", [
    (fid.frechet_distance, {is_zero_for_itself, is_symmetric, charges_a_shift, adds_the_axes, adds_turned_axes, ignores_a_rotation}),
    (no_mean, {is_zero_for_itself, is_symmetric, adds_the_axes, adds_turned_axes, ignores_a_rotation}),
    (entrywise, {is_symmetric, adds_the_axes})], ids=["ours", "no mean", "entrywise"])
def test_what_a_distance_must_satisfy(distance, passes):
    claims = (is_zero_for_itself, is_symmetric, charges_a_shift, adds_the_axes, adds_turned_axes, ignores_a_rotation)
    assert {claim for claim in claims if claim(distance)} == passes


def test_torch_and_single_precision():
    as_torch = [torch.from_numpy(part) for part in (*P, *Q)]
    assert fid.frechet_distance(*as_torch) == fid.frechet_distance(*P, *Q)
    single = [part.float() for part in as_torch]
    assert fid.frechet_distance(*single) == pytest.approx(fid.frechet_distance(*P, *Q), abs=1e-3)


def test_what_is_no_covariance_is_refused_on_either_side():
    "E[x²] − E[x]² in float32, far from zero: eigenvalues turn negative, and `.real` of a root would hide it."
    far = (RNG.normal(size=(40, 12)) @ np.diag(np.geomspace(1, 0.01, 12)) + 100).astype(np.float32)
    careless = far.T @ far / np.float32(40) - np.outer(far.mean(0), far.mean(0))
    assert np.linalg.eigvalsh(careless)[0] < 0
    for name, pair in (("sigma1", (far.mean(0), careless, *Q)), ("sigma2", (*Q, far.mean(0), careless))):
        with pytest.raises(ValueError, match=f"{name}: a covariance has no negative eigenvalue"): fid.frechet_distance(*pair)


FEATURES = RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)) + 1000 * RNG.normal(size=5)


def streams_like_numpy(new):
    "Ones, sevens, everything at once, backwards, in two processes that are merged: no trace of it."
    made = []
    for rows, b in (FEATURES, 1), (FEATURES, 7), (FEATURES, 60), (FEATURES[::-1], 7):
        made.append(new())
        for i in range(0, len(rows), b): made[-1].update(rows[i:i + b])
    made.append(new().update(FEATURES[:11]).merge(new().update(FEATURES[11:])))
    return all(np.abs(s.covariance - np.cov(FEATURES, rowvar=False)).max() < 1e-9
               and np.abs(s.mean - FEATURES.mean(0)).max() < 1e-9 for s in made)


def is_unbiased(new):
    "A die with the faces 0, 3, 6 has variance 6: so must the mean over all nine pairs of throws."
    variances = [new().update([[a], [b]]).covariance.item() for a in (0., 3., 6.) for b in (0., 3., 6.)]
    return abs(np.mean(variances) - 6) < 1e-9


class DividedByN(fid.Statistics):
    @property
    def covariance(self): return self._scatter / self.n


class NoStep(fid.Statistics):
    def merge(self, other):
        before = self._scatter
        super().merge(other)
        self._scatter = before + other._scatter
        return self


class OnePass(fid.Statistics):
    "n, Σx and Σxxᵀ in float32."
    def __init__(self): self.n, self.total, self.squares = 0, np.float32(0), np.float32(0)

    def update(self, features):
        f = np.float32(features)
        self.n, self.total, self.squares = self.n + len(f), self.total + f.sum(0), self.squares + f.T @ f
        return self

    def merge(self, other):
        self.n, self.total, self.squares = self.n + other.n, self.total + other.total, self.squares + other.squares
        return self

    @property
    def mean(self): return self.total / self.n

    @property
    def covariance(self): return (self.squares - np.outer(self.total, self.mean)) / (self.n - 1)


@pytest.mark.parametrize("new, streams, unbiased", [
    (fid.Statistics, True, True), (DividedByN, False, False), (NoStep, False, True), (OnePass, False, True)])
def test_statistics_leave_no_trace_of_batches(new, streams, unbiased):
    assert streams_like_numpy(new) == streams and is_unbiased(new) == unbiased


def test_statistics_share_nothing_and_count_nothing_that_is_refused():
    left, right = fid.Statistics(), fid.Statistics().update(FEATURES[:30])
    left.merge(right).update(FEATURES[30:])
    assert (left.n, right.n) == (60, 30)
    np.testing.assert_allclose(right.covariance, np.cov(FEATURES[:30], rowvar=False), atol=1e-9)
    with pytest.raises(ValueError, match="15 of 15 numbers are NaN"): right.update(np.full((3, 5), np.nan))
    assert right.n == 30


@pytest.fixture(scope="module")
def lite0(): return fid.feature_extractor("lite0")


def pictures(n, size=64, seed=0):
    small = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(small, size, mode="bilinear")


def test_features_depend_on_no_other_picture_and_cannot_be_trained_on(lite0):
    x = pictures(5)
    torch.testing.assert_close(lite0(x[3:4]), lite0(x)[3:4], atol=1e-4, rtol=0)
    assert not lite0(x.requires_grad_()).requires_grad
    assert not any(p.requires_grad for p in lite0.network.parameters())


def test_another_input_is_another_ruler(lite0):
    "ImageNet's mean and spread belong to torchvision's networks; another filter enlarges otherwise. Nothing crashes."
    x = pictures(4, 224)
    with torch.no_grad():
        right = lite0.network.net.extract_features((x * 127.5 + 127.5 - 127) / 128).mean((2, 3))
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        normalised = lite0.network(((x + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        small = pictures(4)
        nearest = lite0.network(torch.nn.functional.interpolate(small, 224, mode="nearest"))
    assert (lite0(x) - right).abs().max() < 1e-4 < (normalised - right).abs().max()
    assert fid.frechet_from_features(lite0(small), nearest) > 1


def names_keep_apart(name):
    runs = [("inception", 5000), ("inception", 10), ("lite0", 5000), ("inception-0badf00d", 5000)]
    names = [name(*run) for run in runs]
    return len(set(names)) == len(runs) and sum(n.startswith("fid") for n in names) == 2


def test_the_word_fid_belongs_to_one_network():
    assert names_keep_apart(fid.metric_name)
    assert not names_keep_apart(lambda extractor, n: "fid")
    assert not names_keep_apart(lambda extractor, n: f"fid_{extractor}_n{n}")


def double_sum(x, y):
    k = lambda a, b: (sum(p * q for p, q in zip(a, b)) / len(a) + 1) ** 3
    def within(f): return np.mean([k(a, b) for i, a in enumerate(f) for b in f[:i] + f[i + 1:]])
    return within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_kernel_distance_is_the_double_sum_and_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    class PassThrough(torch.nn.Module):
        num_features = 64
        def forward(self, features): return features

    x, y = RNG.normal(size=(20, 64)), RNG.normal(size=(20, 64)) * 1.5 + 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # it warns that it keeps all features in memory
        theirs = KernelInceptionDistance(feature=PassThrough(), subsets=1, subset_size=20)
        theirs.update(torch.from_numpy(x).float(), real=True)
        theirs.update(torch.from_numpy(y).float(), real=False)
        expected, _ = theirs.compute()
    assert fid.squared_mmd(x, y) == pytest.approx(double_sum(x.tolist(), y.tolist()), abs=1e-9)
    assert fid.squared_mmd(x, y) == pytest.approx(expected.item(), abs=1e-4)


def averages_to_zero(mmd, draws=400):
    rng = np.random.default_rng(1)
    values = [mmd(rng.normal(size=(10, 4)), rng.normal(size=(10, 4))) for _ in range(draws)]
    return abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(draws)


def with_diagonal(x, y):
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    return k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()


def test_kernel_distance_is_unbiased():
    assert averages_to_zero(fid.squared_mmd) and not averages_to_zero(with_diagonal)


def overlapping(x, y, subsets=100, size=32):
    rng = np.random.default_rng(0)
    draw = lambda f: f[rng.permutation(len(f))[:size]]
    values = [fid.squared_mmd(draw(x), draw(y)) for _ in range(subsets)]
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(subsets)


def claimed_over_actual(kid, repeats=60):
    "The standard error that is claimed, over the spread of the mean when the experiment is repeated."
    rng = np.random.default_rng(2)
    runs = [kid(rng.normal(size=(64, 4)), rng.normal(size=(64, 4)) + 0.5) for _ in range(repeats)]
    means, errors = np.array(runs).T
    return errors.mean() / means.std()


def test_the_standard_error_is_honest():
    assert 0.75 < claimed_over_actual(fid.kid) < 1.33 and claimed_over_actual(overlapping) < 0.5
    x, y = RNG.normal(size=(2, 80, 4))
    assert fid.kid(x, y) == fid.kid(x, y) != fid.kid(x, y, seed=1)


ZERO, EYE, FEW = np.zeros(2), np.eye(2), np.ones((20, 64))
COLOUR = fid.FeatureExtractor("colour", 3, lambda x: x.mean((2, 3)))


@pytest.mark.parametrize("call, says", [
    (lambda: fid.frechet_distance(ZERO, EYE, [0], [[1]]), "mu2: expected shape (2,)"),
    (lambda: fid.frechet_distance(ZERO, np.eye(3), ZERO, EYE), "sigma1: expected shape"),
    (lambda: fid.frechet_distance([0, np.nan], EYE, ZERO, EYE), "mu1: 1 of 2 numbers"),
    (lambda: fid.frechet_distance(ZERO, [[1, 2], [0, 1]], ZERO, EYE), "symmetric"),
    (lambda: fid.frechet_distance(ZERO, -EYE, ZERO, EYE), "sigma1: a covariance has no"),
    (lambda: fid.frechet_from_features(FEW[:1], FEW), "at least 2 images"),
    (lambda: fid.kid(FEW, FEW, subsets=8, subset_size=4), "need 32 images on each side"),
    (lambda: fid.metric_name("lite0", 1), "at least 2 images are needed, got 1"),
    (lambda: fid.Statistics().mean, "got 0"),
    (lambda: fid.Statistics().update(FEW[:1]).covariance, "at least 2 samples, got 1"),
    (lambda: fid.Statistics().update(FEW[0]), "expected 2 axes"),
    (lambda: fid.Statistics().update(FEW).update(FEW[:, :9]), "expected 64 columns"),
    (lambda: COLOUR(torch.full((2, 3, 4, 4), 255.)), "images: expected values in [-1, 1]"),
    (lambda: COLOUR(torch.zeros(2, 1, 4, 4)), "(b, 3, h, w)"),
    (lambda: fid.frechet_from_images(torch.zeros(2, 3, 4, 4), torch.zeros(3, 3, 4, 4), COLOUR), "expected 2 images"),
])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError) as error: call()
    assert says in str(error.value)


def test_an_unknown_network_is_told_which_there_are():
    with pytest.raises(UserError, match="use one of lite0, inception"): fid.feature_extractor("resnet")
