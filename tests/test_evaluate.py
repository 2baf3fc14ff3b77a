"""The evaluation as a user meets it, and its metrics against other people's implementations."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import refcolor
from refcolor import evaluate as ev
from refcolor.app.cli import main
from refcolor.core import UserError, uniform
from refcolor.show import to_image
from refcolor.sketch import xdog
from refcolor.data import pairs as data_pairs
from refcolor.data.datasets import open_dataset
from refcolor.data.pairs import PARTS, CrossReference, Pairs, Posed, Subset, open_sources, registered, sources_of
from refcolor.engine.features import ALEXNET_FILE, lpips_network
from refcolor.fid import FeatureExtractor
from refcolor.generator import load_generator

TINY = Path(refcolor.__file__).parent / "weights" / "tiny"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    "TINY's weights, and the same with noise added: somebody's own folders."
    from safetensors.torch import load_file, save_file
    folder = tmp_path_factory.mktemp("weights")
    for name in ("good", "bad"): shutil.copytree(TINY, folder / name)
    state = load_file(folder / "bad" / "generator.safetensors")
    generator = torch.Generator().manual_seed(0)
    noisy = {k: v + (0.3 * v.float().std(correction=0) * torch.randn(v.shape, generator=generator)).to(v.dtype)
             for k, v in state.items()}
    save_file(noisy, folder / "bad" / "generator.safetensors")
    return folder


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    "Sixteen sketches, references and true answers as files."
    folder, pairs = tmp_path_factory.mktemp("drawings"), CrossReference(open_dataset("avatars", None, "valid", 64, 32), 16).batch(range(16))
    for name, images in zip(("sketches", "references", "truths"), pairs):
        (folder / name).mkdir()
        for i, x in enumerate(images): to_image(x).save(folder / name / f"{i:02}.png")
    return folder


def pixels(n, side, seed=0):
    "Two sets of smooth pictures (n, 3, side, side) in [-1, 1]."
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 12, 12, generator=g) * 2 - 1
    x = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)
    return x, (x + 0.2 * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def run(capsys, *arguments):
    "Exit code, the JSON object, and what was said."
    try: code = main([str(a) for a in ("evaluate", *arguments, "--json")])
    except SystemExit as e: code = e.code
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


# ---- metrics against independent implementations ----

# 12_evaluate beyond the lesson: rulers that look right and are not

VALID = open_dataset("avatars", split="valid", size=64, n=32)
LABELS = [VALID.part_labels[p] for p in ("hair", "skin", "shirt")]


@pytest.fixture(scope="module")
def many(): return CrossReference(VALID, 32).batch(range(32))


def test_a_part_that_the_reference_does_not_show_is_not_judged_nor_counted_as_wrong(many):
    hidden = many.reference_parts.clone()
    hidden[hidden == LABELS[0]] = 0
    error = ev.region_error(many.reference, many.truth, many.parts, LABELS, hidden)
    assert error[:, 0].isnan().all() and ev.region_accuracy(error)[:, 0].isnan().all()
    assert (error < ev.ACCURATE)[:, 0].float().mean() == 0                     # the wrong version: NaN is wrong
    with pytest.raises(ValueError, match="fake and truth"): ev.region_error(many.truth[:1], many.truth, many.parts, LABELS)


def test_guesses_are_worth_what_was_computed(many):
    error = {name: ev.region_error(x, many.truth, many.parts, LABELS).nanmean().item()
             for name, x in (("constant", ev.constant_answer(many.truth)), ("copy", many.reference), ("flow", registered(many.sketch, many.reference)))}
    assert error["constant"] == pytest.approx(0.25 * 235 / 255, abs=0.04)      # a quarter of the palettes' range
    assert error["flow"] < error["copy"] < error["constant"] / 2


def test_ssim_has_a_window_and_its_zero_is_black(many):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure
    noise = torch.randn(many.truth.shape, generator=torch.Generator().manual_seed(0))
    noisy = (many.truth + 0.3 * noise).clamp(-1, 1)[:4]
    ours = ev.picture_metrics(noisy, many.truth[:4])
    for i, (x, y) in enumerate(zip((noisy + 1) / 2, (many.truth + 1) / 2)):
        x, y = x.double().numpy(), y.double().numpy()
        theirs = structural_similarity(x, y, data_range=1., channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        assert ours["psnr"][i] == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1.), abs=1e-3) and ours["ssim"][i] == pytest.approx(theirs, abs=1e-3)
    x, y = (noisy[0] + 1) / 2, (many.truth[0] + 1) / 2
    mx, my, cov = x.mean(), y.mean(), ((x - x.mean()) * (y - y.mean())).mean()
    whole = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4) * (2 * cov + 9e-4) / (x.var() + y.var() + 9e-4)
    centred = structural_similarity_index_measure(noisy[:1], many.truth[:1], data_range=2.)
    assert abs(whole - ours["ssim"][0]) > 0.05 and abs(centred - ours["ssim"][0]) > 0.02


def test_correspondence_counts_cells_of_two_axes_and_shares_ties(many):
    from refcolor.augment import noise_size, self_reference
    from refcolor.core import TINY as PRESET
    from refcolor.triplet import correspondence
    grid = self_reference(many.reference, many.sketch, replace(PRESET.data, recipe="paper"),
                          uniform(0, 0, range(32), noise_size(replace(PRESET.data, recipe="paper")))).grid
    index, valid, _ = correspondence(grid, 256)
    def hot(at): return torch.nn.functional.one_hot(at, 256).float()
    perfect, beside, below = hot(index), hot(torch.where(index % 16 < 15, index + 1, index - 1)), hot(torch.where(index < 240, index + 16, index - 16))
    assert (ev.correspondence_accuracy(perfect, grid, 0) == 1).all() and ev.correspondence_accuracy(perfect.flip(-1), grid).mean() < 0.1
    for off in (beside, below):
        assert (ev.correspondence_accuracy(off, grid, 0) == 0).all() and (ev.correspondence_accuracy(off, grid, 1) == 1).all()
    flat = (((below.argmax(-1) - index).abs() <= 1) & valid).sum(-1) / valid.sum(-1)      # along the flattened row
    assert flat.max() < 0.1
    even = ev.correspondence_accuracy(torch.zeros(32, 256, 256), grid, 0)
    assert even.numpy() == pytest.approx(1 / 256)                              # not the luck of cell 0


def test_even_attention_gets_the_part_s_area_and_columns_are_another_question(many):
    area = ev.part_cells(many.reference_parts, LABELS, 256).float().mean(-1)
    got = ev.part_attention(torch.zeros(32, 256, 256), many.parts, many.reference_parts, LABELS)
    assert got.nanmean(0).numpy() == pytest.approx(area.mean(0).numpy(), abs=0.01)
    head = torch.tensor([[[2, 2], [0, 0]]], dtype=torch.uint8)
    looks = torch.tensor([[[1., 0, 0, 0], [.5, 0, .5, 0], [.25] * 4, [.25] * 4]]).log()
    assert ev.part_attention(looks, head, head, [2]).item() == pytest.approx(0.75) != ev.part_attention(looks.mT, head, head, [2]).item()
    assert ev.part_attention(looks, head, 0 * head, [2]).isnan().all()


def test_keypoints_are_read_at_their_own_points():
    ramp, left = torch.tensor([-1., -1, 1, 1]).expand(3, 4, 4), torch.tensor([[-0.5, 0.], [-0.25, 0.5]])
    assert ev.keypoint_psnr(ramp.flip(-1), ramp, left, left * torch.tensor([-1., 1])) == 100
    assert ev.keypoint_psnr(ramp.flip(-1), ramp, left, left) == pytest.approx(0, abs=1e-6)      # the same points in both
    with pytest.raises(ValueError, match="points: expected"): ev.keypoint_psnr(ramp, ramp, left, left[:1])


def test_an_interval_is_that_of_the_normal_approximation():
    low, high = ev.bootstrap_interval(np.arange(100))
    assert low < 49.5 < high and (high - low) / 2 == pytest.approx(1.96 * np.arange(100).std() / 10, abs=0.5)


def test_batches_of_any_border_give_the_same_numbers_and_a_model_does_not_differ_from_itself():
    tiny, source = load_generator(TINY), CrossReference(VALID, 12)
    (one, _), (other, _) = (ev.measure(tiny, source, batch=b) for b in (16, 5))
    for name in one: assert other[name] == pytest.approx(one[name], abs=1e-4, nan_ok=True), name
    same = ev.compare(ev.Evaluation({}, one), ev.Evaluation({}, one))["psnr"]
    assert (same["difference"], same["ci"]) == (0., (0., 0.))


@pytest.mark.parametrize("features, distance, words", [
    ({"": np.zeros((128, 1280)), "real": np.zeros((128, 1280))}, "frechet", "at least 1281 pictures, got 128: give --n 1281, or take --distance kernel"),
    ({"": np.full((16, 4), np.nan), "real": np.zeros((16, 4))}, "auto", "64 of 64 numbers are NaN")])
def test_a_crowd_that_cannot_be_compared_is_one_sentence(features, distance, words):
    with pytest.raises(UserError, match=words): ev.crowd_distances(features, "lite0", distance)


def test_ms_ssim_is_built_from_scikit_images_ssim():
    "Wang et al. 2003: contrast and structure at five scales, luminance at the last one only."
    from scipy.ndimage import gaussian_filter
    from skimage.metrics import structural_similarity
    betas = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    truth, fake = pixels(2, 176)
    ours = ev.picture_metrics(fake, truth)["ms_ssim"]
    for i in range(2):
        x, y = ((t[i].double().numpy() + 1) / 2 for t in (fake, truth))
        product = 1.
        for k, beta in enumerate(betas):
            mean, whole = structural_similarity(x, y, data_range=1., channel_axis=0, gaussian_weights=True, sigma=1.5,
                                                use_sample_covariance=False, full=True)
            blur = lambda a: np.stack([gaussian_filter(c, 1.5, truncate=3.5) for c in a])
            mx, my = blur(x), blur(y)
            luminance = (2 * mx * my + 1e-4) / (mx ** 2 + my ** 2 + 1e-4)
            inner = (slice(None), slice(5, -5), slice(5, -5))
            term = (whole if k == 4 else whole / luminance)[inner].mean()
            product *= term ** beta
            half = len(x[0]) // 2
            x, y = (a[:, :2 * half, :2 * half].reshape(3, half, 2, half, 2).mean((2, 4)) for a in (x, y))
        assert float(ours[i]) == pytest.approx(product, abs=2e-3)
    assert "ms_ssim" not in ev.picture_metrics(*pixels(1, 160))


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    "A folder with seeded weights in the format, and under the name, of torchvision's file."
    import torchvision
    net, g = torchvision.models.alexnet(), torch.Generator().manual_seed(0)
    state = {k: torch.randn(v.shape, generator=g) * (2 / v[0].numel()) ** 0.5 if v.ndim > 1 else torch.zeros(v.shape)
             for k, v in net.state_dict().items()}
    state = {k: v if k.startswith("features") else v[:1].clone() for k, v in state.items()}    # 230 MB of them are not looked at
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / ALEXNET_FILE
    torch.save(state, path, _use_new_zipfile_serialization=False)
    monkeypatch.delenv("REFCOLOR_WEIGHTS", raising=False)
    return path


def test_lpips_is_torchmetrics_own_with_the_same_file(alexnet, monkeypatch):
    import torchvision
    from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity
    monkeypatch.setenv("REFCOLOR_WEIGHTS", str(alexnet.parent))
    ours, (truth, fake) = lpips_network(), pixels(3, 64)
    state, plain = torch.load(alexnet, weights_only=True), torchvision.models.alexnet

    def loaded(weights=None, **kwargs):                # where torchmetrics would download
        net = plain()
        net.features.load_state_dict({k[9:]: v for k, v in state.items() if k.startswith("features.")})
        return net

    monkeypatch.setattr(torchvision.models, "alexnet", loaded)
    theirs = learned_perceptual_image_patch_similarity(fake, truth, net_type="alex", reduction="none")
    assert theirs.min() > 1e-3 and theirs.std() > 1e-4
    torch.testing.assert_close(ours(fake, truth), theirs, rtol=1e-4, atol=1e-6)
    assert ours(truth, truth).abs().max() < 1e-6
    # random weights are not the published ones, whatever their file is called
    assert re.fullmatch(r"lpips_alex-[0-9a-f]{8}", ours.name)
    assert ours.name in ev.picture_metrics(fake, truth, ours)


def test_lpips_is_never_downloaded_and_says_what_is_broken(alexnet, monkeypatch):
    def refuse(*args, **kwargs): raise AssertionError("a download")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(alexnet.parent.parent / "elsewhere"))
    assert lpips_network() is None
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(alexnet.parent.parent))
    assert lpips_network() is not None              # torch's own cache is looked into
    alexnet.write_bytes(b"no weights")
    with pytest.raises(UserError, match="does not hold torchvision's AlexNet"): lpips_network()


def test_the_crowds_distances_are_pytorch_fids_and_the_baselines_what_they_say():
    from pytorch_fid.fid_score import calculate_frechet_distance
    thumbnail = FeatureExtractor("thumbnail", 12, lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))
    dataset, generator = open_dataset("avatars", None, "valid", 64, 32), load_generator(TINY)
    result = ev.evaluate(generator, dataset, n=24, extractor=thumbnail)
    cross = CrossReference(dataset, 24)
    pairs = cross.batch(range(24))
    with torch.no_grad(): fake = generator(pairs.sketch, pairs.reference).fake
    for prefix, images in (("", fake), ("copy_", pairs.reference)):
        a, b = thumbnail(images).double().numpy(), thumbnail(pairs.truth).double().numpy()
        expected = calculate_frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
        assert result[f"{prefix}fd_thumbnail_n24"] == pytest.approx(expected, rel=1e-3)
    # the baselines are what their names say, and so are the model's own numbers, straight and posed
    labels = [dataset.part_labels[p] for p in PARTS["avatars"]]
    for source in (cross, Posed(cross)):
        pairs = source.batch(range(24))
        with torch.no_grad(): fake = generator(pairs.sketch, pairs.reference).fake
        for guess, images in (("", fake), ("copy_", pairs.reference), ("constant_", torch.full_like(fake, ev.MEAN_COLOUR)),
                              ("flow_", registered(pairs.sketch, pairs.reference))):
            error, prefix = ev.region_error(images, pairs.truth, pairs.parts, labels, pairs.reference_parts), guess + source.prefix
            assert result[f"{prefix}region_error"] == pytest.approx(float(error.nanmean(0).mean()), abs=1e-5)
            assert result[f"{prefix}region_error_hair"] == pytest.approx(float(error[:, 0].nanmean()), abs=1e-5)
            assert result[f"{prefix}region_accuracy_skin"] == pytest.approx(float((error[:, 1] < 0.1).sum() / (~error[:, 1].isnan()).sum()))
            assert result[f"{prefix}psnr"] == pytest.approx(float(ev.picture_metrics(images, pairs.truth)["psnr"].mean()), abs=1e-3)
            assert result[f"{prefix}paper_error"] == pytest.approx(float(ev.paper_error(images, pairs.truth, pairs.parts).mean()), abs=1e-5)
        # attention that knows nothing gets the part's area, attention that stands still what lies at the same place
        here, there = (ev.part_cells(x, labels, 256).float() for x in (pairs.parts, pairs.reference_parts))
        seen = there.sum(-1) > 0
        area, same = there.mean(-1), (here * there).sum(-1) / here.sum(-1)
        for guess, share in (("constant_", area), ("copy_", same)):
            expected = share.where(seen & (here.sum(-1) > 0), torch.tensor(torch.nan)).nanmean(0).mean()
            assert result[f"{guess}{source.prefix}part_attention"] == pytest.approx(float(expected), abs=1e-4)
    # the flow has no attention, and another picture's lines; where nobody asks for it, it costs nothing
    assert not any(k.startswith(("flow_self", "flow_part")) for k in result)
    assert not any(k.startswith("flow") for k in ev.measure_all(generator, [CrossReference(dataset, 2)]).result)
    # what is posed cannot be copied; nor is a posed crowd compared with another one
    assert result["copy_posed_region_error"] > 3 * result["copy_region_error"] and not any("posed_fd" in k for k in result)
    low, high = result["kd_thumbnail_n24_ci"]
    assert low < result["kd_thumbnail_n24"] < high


def shifted(dx, dy):
    "A picture of blobs, and the sketch of the same picture moved by whole pixels."
    y, x = torch.meshgrid(torch.arange(64.), torch.arange(64.), indexing="ij")
    def drawn(dx, dy):
        blob = lambda cx, cy, r: ((x - cx - dx) ** 2 + (y - cy - dy) ** 2 < r * r).float()
        return torch.stack([1 - 2 * blob(20, 24, 9), 1 - 2 * blob(42, 38, 12), 1 - 2 * blob(22, 46, 6)])[None]
    return xdog(drawn(dx, dy)), drawn(0, 0), drawn(dx, dy)


@pytest.mark.parametrize("dx, dy", [(3, 0), (0, 3), (-3, 2)])
def test_registered_moves_the_reference_to_the_sketch(dx, dy):
    "In the right direction, along the right axis, by whole pixels: no other version comes near."
    sketch, reference, truth = shifted(dx, dy)
    gap = lambda x: float((x - truth).abs().mean())
    assert gap(registered(sketch, reference)) < 0.35 * gap(reference)


def test_registered_leaves_a_fitting_reference_alone_and_treats_each_picture_for_itself():
    sketch, reference, _ = shifted(0, 0)
    assert float((registered(sketch, reference) - reference).abs().mean()) < 0.01
    other, moved, _ = shifted(3, 0)
    both = registered(torch.cat([sketch, other]), torch.cat([reference, moved]))
    alone = registered(other, moved)
    assert float((both[1:] - alone).abs().mean()) < 1e-3, "not to the bit: XDoG's convolution rounds otherwise in a batch"
    assert both.shape == (2, 3, 64, 64) and both.dtype == torch.float32


def test_intervals_cover_the_truth():
    "Ninety-five of a hundred: of means, and of means over parts of which some are rarely seen."
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        values = rng.normal([0., 1.], [1., 2.], (40, 2))
        values[rng.random((40, 2)) < [0.1, 0.6]] = np.nan
        low, high = ev.bootstrap_interval(values, draws=300)
        hits += low <= 0.5 <= high
    assert 0.88 <= hits / 200 <= 0.98
    for nothing in ([[np.nan, np.nan]], [2.], [[2., 3.]], [[2., np.nan], [np.nan, np.nan]], [1., np.inf]):
        assert ev.bootstrap_interval(nothing) is None, nothing
    assert ev.bootstrap_interval([2., 2.]) == (2., 2.)


def test_attention_on_parts_counts_what_a_loop_counts():
    rng = np.random.default_rng(0)
    parts, other = (torch.from_numpy(rng.integers(2, 4, (2, 4, 4)).astype(np.uint8).repeat(4, 1).repeat(4, 2)) for _ in range(2))
    logits = torch.from_numpy(rng.normal(size=(2, 16, 16))).float()
    ours = ev.part_attention(logits, parts, other, [2, 3])
    for b in range(2):
        alpha, here, there = logits[b].softmax(-1), parts[b, ::4, ::4].flatten(), other[b, ::4, ::4].flatten()
        for k, label in enumerate((2, 3)):
            rows = [sum(float(alpha[i, j]) for j in range(16) if there[j] == label) for i in range(16) if here[i] == label]
            assert float(ours[b, k]) == pytest.approx(np.mean(rows), abs=1e-5)


# ---- the ruler that cannot be copied ----

DOTS = {2: (1., -1., -1.), 9: (-1., 1., -1.), 30: (-1., -1., 1.)}      # between two of these labels lie labels that are none
PAGE, TINT = 77, (0.5, 0.2, -0.2)
HERE, THERE = (((-0.3, 0.2), (0.25, 0.3), (0.1, -0.3)), ((0.3, -0.2), (-0.3, -0.1), (0.05, 0.35)))      # their places: sketch, reference


def dotted(places):
    "Three dots on a tinted page: sketch, picture and labels."
    x, y = np.meshgrid(*[(np.arange(64) + 0.5) / 32 - 1] * 2)
    parts = np.full((64, 64), PAGE, np.uint8)
    for label, (cx, cy) in zip(DOTS, places): parts[(x - cx) ** 2 + (y - cy) ** 2 < 0.15 ** 2] = label
    colours = np.zeros((256, 3))
    for label, colour in (DOTS | {PAGE: TINT}).items(): colours[label] = colour
    picture = torch.from_numpy(colours[parts]).float().permute(2, 0, 1)
    return torch.from_numpy(np.where(parts == PAGE, 0.5, -1.)).float()[None], picture, torch.from_numpy(parts)


class Dots:
    "Pairs that tell how they were moved; everything else of them is given, too, to be lost."
    prefix, labels, n = "", {}, 64

    def batch(self, index):
        (sketch, truth, parts), (_, reference, reference_parts) = dotted(HERE), dotted(THERE)
        many = lambda x: x.expand(len(index), *x.shape).clone()
        return Pairs(*map(many, (sketch, reference, truth, parts, reference_parts)), grid=torch.zeros(len(index), 64, 64, 2), points=[None] * len(index), real=many(truth))


def poses_of(parts, places):
    "How far each part map was turned and enlarged, where it was moved to, and whether it is mirrored: from the dots' centres."
    centres, found = (torch.arange(64) + 0.5) / 32 - 1, []
    before = np.concatenate([np.array(places), np.ones((3, 1))], 1)
    for labels in parts:
        now = [[float((m.float() * c).sum() / m.sum()) for c in (centres[None], centres[:, None])] for m in (labels == k for k in DOTS)]
        *turned, shift = np.linalg.solve(before, np.array(now))
        a = np.array(turned).T                                                 # column vectors
        scale, flip = abs(np.linalg.det(a)) ** 0.5, np.linalg.det(a) < 0
        assert np.abs(a.T @ a - scale ** 2 * np.eye(2)).max() < 0.12, "no similarity"
        found.append((scale, np.degrees(np.arctan2(a[0, 1], a[1, 1])), *shift, flip))
    return np.array(found)


@pytest.fixture(scope="module")
def dots(): return Posed(Dots()).batch(range(64))


def test_posed_pairs_are_moved_by_similarities_of_their_own(dots):
    here, there = poses_of(dots.parts, HERE), poses_of(dots.reference_parts, THERE)
    both = np.concatenate([here, there])
    for column, low, high, noise in ((0, 0.75, 1.25, 0.03), (1, -25, 25, 3), (2, -0.25, 0.25, 0.02), (3, -0.25, 0.25, 0.02)):
        v, reach = both[:, column], 0.1 * (high - low)
        assert low - noise <= v.min() < low + reach and high - reach < v.max() <= high + noise, (column, v.min(), v.max())
    assert 0.35 < both[:, 4].mean() < 0.65, "mirrored: one in two"
    assert np.abs(here - there)[:, :4].max(1).min() > 0.01 and len(np.unique(both.round(3), axis=0)) == 128
    for a, b in ((here, there), (here[:-1], here[1:])):                        # neither of a pair nor of neighbours
        assert all(abs(np.corrcoef(a[:, k], b[:, k])[0, 1]) < 0.4 for k in range(5))
    # counter-clockwise and rightwards, as in 04_augment, whatever else it is: mirrored before it is turned
    config, pose = Posed(Dots()).config, uniform(0, 2, range(64), 40)[:, :5].numpy()
    expected = np.stack([1 + config.scale * pose[:, 0], config.rotation * pose[:, 1], *(config.shift * pose[:, 2:4]).T, pose[:, 4] < 0], 1)
    assert np.abs(here - expected).max(0) == pytest.approx(0, abs=3) and np.abs(here - expected)[:, [0, 2, 3, 4]].max() < 0.05


@pytest.mark.parametrize("picture, parts", [("truth", "parts"), ("real", "parts"), ("sketch", "parts"), ("reference", "reference_parts")])
def test_what_is_posed_moves_with_its_part_map_and_white_is_outside(picture, parts, dots):
    image, labels = getattr(dots, picture), getattr(dots, parts)
    assert labels.dtype == torch.uint8 and set(labels.unique().tolist()) == {0, PAGE, *DOTS}, "labels were mixed"
    colours = {k: c if image.shape[1] == 3 else (-1.,) for k, c in DOTS.items()} | {PAGE: TINT if image.shape[1] == 3 else (0.5,), 0: (1.,) * image.shape[1]}
    for label, colour in colours.items():
        # two pixels away from everything else: exactly that colour
        inside = -torch.nn.functional.max_pool2d(-(labels == label).float()[:, None], 5, 1)[:, 0] > 0
        assert inside.any((1, 2)).all() if label else inside.sum() > 5000
        gap = (image - torch.tensor(colour)[:, None, None]).abs().amax(1)[:, 2:-2, 2:-2][inside]
        assert gap.max() < 1e-4, (picture, label, float(gap.max()))


def test_what_is_not_posed_along_is_not_known(dots):
    assert dots.grid is None and dots.points is None
    bare = Posed(SimpleNamespace(batch=lambda index: Dots().batch(index)._replace(truth=None, parts=None, reference_parts=None, real=None), prefix="some_", labels={}, n=3))
    assert bare.prefix == "posed_some_" and bare.n == 3
    found = bare.batch([0, 1])
    assert torch.equal(found.sketch, dots.sketch[:2]) and found[2:] == (None,) * 6


def test_a_pose_is_the_pairs_own_and_the_seeds():
    alone, many = Posed(Dots()).batch([7, 3]), Posed(Dots()).batch(range(8))
    for a, b in zip(alone, many):
        if a is not None: torch.testing.assert_close(a.float(), b[[7, 3]].float(), rtol=0, atol=1e-5)
    assert (Posed(Dots(), seed=1).batch(range(8)).parts != many.parts).any((1, 2)).all()


def test_a_figure_that_would_leave_its_page_is_posed_again():
    "Sketch and reference each by its own figure: one sits in a corner, the other one opposite."
    class Corners(Dots):
        def batch(self, index):
            sketch, reference = torch.ones(len(index), 1, 64, 64), torch.ones(len(index), 3, 64, 64)
            sketch[..., 50:62, 50:62], reference[..., 2:14, 2:14] = -1, 0
            return Pairs(sketch, reference)
    found, whole = Posed(Corners()).batch(range(200)), Corners().batch([0])
    for x, before in ((found.sketch, whole.sketch), (found.reference, whole.reference)):
        left = (1 - x).sum((1, 2, 3)) / (1 - before).sum()
        # half of it, of a figure that is 0.75 to 1.25 times as large
        assert left.min() > 0.4 * 0.75 ** 2 and left.max() < 1.1 * 1.25 ** 2, left.min()
        assert (x == before).all((1, 2, 3)).float().mean() < 0.03, "again, not left where it was"


def test_sources_of_a_generated_set_are_straight_posed_and_its_own():
    dataset = open_dataset("avatars", None, "valid", 64, 32)
    cross, posed, own = sources_of(dataset, 16, seed=5)
    assert (cross.prefix, posed.prefix, own.prefix) == ("", "posed_", "self_") and {s.n for s in (cross, posed, own)} == {16}
    assert posed.labels == cross.labels == own.labels and len(cross.labels) == 3
    # the very same pairs: a part has the same colour on either page
    x, y = cross.batch(range(16)), posed.batch(range(16))
    for picture, parts in (("truth", "parts"), ("reference", "reference_parts")):
        (a, before), (b, after) = (ev.region_means(getattr(p, picture), getattr(p, parts), [*cross.labels.values()]) for p in (x, y))
        sure = (before > 100) & (after > 100)
        assert sure.sum() > 20 and (a - b).abs().mean(-1)[sure].max() < 0.1
    class Photos(Subset): name = "photos"
    assert [s.prefix for s in sources_of(Photos(dataset, range(8)), 8)] == ["", "self_"], "posed without a true answer"


@pytest.mark.parametrize("data, n", [("avatars", None), ("openmoji", 1024), ("openmoji:people", 1024)])
def test_of_emoji_enough_are_opened_to_find_people(data, n, monkeypatch):
    asked, avatars = [], open_dataset("avatars", None, "valid", 64, 32)
    monkeypatch.setattr(data_pairs, "open_dataset", lambda *a, **k: (asked.append((*a, k)), avatars)[1])
    open_sources(data, 64, 8)
    assert asked == [(data, None, "test", 64, n, {"strict": True})]


def test_paper_error_is_that_of_a_loop_over_the_background():
    rng = np.random.default_rng(0)
    fake, truth = (torch.from_numpy(rng.uniform(-1, 1, (4, 3, 6, 5))).float() for _ in range(2))
    parts = torch.from_numpy(rng.integers(0, 4, (4, 6, 5)).astype(np.uint8))      # 1: ink
    parts[1, :5], parts[2] = 1, 2                                                 # little paper; none
    ours = ev.paper_error(fake, truth, parts)
    for i in range(4):
        gaps = [abs(float(fake[i, c, y, x] - truth[i, c, y, x])) / 2 for y in range(6) for x in range(5) if parts[i, y, x] == 0 for c in range(3)]
        assert float(ours[i]) == pytest.approx(np.mean(gaps), abs=1e-6) if gaps else ours[i].isnan()
    worst = ev.paper_error(-torch.ones(1, 3, 6, 5), torch.ones(1, 3, 6, 5), parts[:1])
    assert worst.tolist() == [1.]


# ---- SPair-71k in its own form ----

@pytest.fixture
def spair(tmp_path):
    "Two pairs as SPair-71k stores them: wide pictures with coloured squares, which are the points."
    root = tmp_path / "SPair-71k"
    (root / "JPEGImages" / "cat").mkdir(parents=True)
    (root / "PairAnnotation" / "test").mkdir(parents=True)
    # the points of each picture lie in squares whose colours are known
    spots = {"2008_000001": ((160, 100), [(30, 20), (120, 70)], [(250, 0, 0), (0, 200, 0)]),
             "2008_000002": ((100, 140), [(60, 30), (20, 110)], [(250, 0, 0), (0, 0, 250)]),
             "2008_000003": ((120, 120), [(90, 90), (30, 30)], [(10, 10, 10), (90, 90, 90)])}
    for name, (size, points, colours) in spots.items():
        image = Image.new("RGB", size, "white")
        for (x, y), colour in zip(points, colours): image.paste(colour, (x - 12, y - 12, x + 13, y + 13))
        image.save(root / "JPEGImages" / "cat" / f"{name}.jpg", quality=98)
    for k, (src, trg) in enumerate((("2008_000001", "2008_000002"), ("2008_000002", "2008_000003"))):
        filename = f"{k:06}-{src}-{trg}:cat"
        about = {"pair_id": k, "filename": filename, "category": "cat", "kps_ids": ["0", "7"], "mirror": 0,
                 "viewpoint_variation": 0, "scale_variation": 0, "truncation": 0, "occlusion": 0}
        for side, name in (("src", src), ("trg", trg)):
            (w, h), points, _ = spots[name]
            about |= {f"{side}_imname": f"{name}.jpg", f"{side}_imsize": [w, h, 3], f"{side}_bndbox": [0, 0, w, h],
                      f"{side}_kps": [list(p) for p in points], f"{side}_pose": "Frontal"}
        (root / "PairAnnotation" / "test" / f"{filename}.json").write_text(json.dumps(about))
    return root


def test_keypoint_psnr_on_spair(spair, capsys):
    source = open_sources("spair71k", 64, 128, root=spair)[0]
    pairs = source.batch([0, 1])
    assert source.n == 2 and pairs.sketch.shape == (2, 1, 64, 64) and pairs.truth is None
    # the source picture itself as output: its colours at its own points against those of the target
    colours = [np.array([(250, 0, 0), (0, 200, 0)]), np.array([(250, 0, 0), (0, 0, 250)]), np.array([(10,) * 3, (90,) * 3])]
    for i in range(2):
        mse = (((colours[i] - colours[i + 1]) / 255) ** 2).mean()
        got = ev.keypoint_psnr(pairs.real[i], pairs.reference[i], *pairs.points[i])
        assert got == pytest.approx(-10 * np.log10(mse), abs=0.15)              # JPEG, and the resizing
    code, result, err = run(capsys, "--weights", TINY, "--data", "spair71k", "--root", spair, "--distance", "none")
    assert code == 0, err
    assert result["n"] == 2 and 0 < result["keypoint_psnr"] < 40 and "region_error" not in result
    assert result["constant_keypoint_psnr"] > 0 and result["keypoint_psnr_ci"][0] <= result["keypoint_psnr"]


def test_a_damaged_annotation_is_named(spair, capsys):
    path = sorted((spair / "PairAnnotation" / "test").iterdir())[1]
    path.write_text("{}")
    code, _, err = run(capsys, "--weights", TINY, "--data", "spair71k", "--root", spair, "--distance", "none")
    assert code == 2 and path.name in err and len([l for l in err.splitlines() if l.startswith("refcolor")]) == 1


# ---- the command ----

KEYS = ("region_error", "region_error_hair", "region_error_skin", "region_error_shirt", "region_accuracy",
        "region_accuracy_hair", "psnr", "ssim", "self_psnr", "self_region_error", "correspondence_0", "correspondence",
        "correspondence_2", "part_attention", "part_attention_hair", "constant_region_error", "copy_region_error",
        "constant_psnr", "copy_ssim", "constant_correspondence", "copy_part_attention", "paper_error", "posed_paper_error",
        "posed_region_error", "posed_region_error_hair", "posed_region_accuracy", "posed_psnr", "posed_part_attention",
        "copy_posed_region_error", "flow_region_error", "flow_posed_psnr", "flow_paper_error")


def state_of(folder): return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_one_table_json_and_a_report(weights, tmp_path, capsys):
    before, page = state_of(weights), tmp_path / "deep" / "report.html"
    arguments = ("--weights", weights / "good", "--n", "16")
    code, result, err = run(capsys, *arguments, "--against", weights / "bad", "--report", page)
    assert code == 0 and state_of(weights) == before
    for key in KEYS:
        low, high = result[f"{key}_ci"]
        assert low <= result[key] <= high, key
        assert key.startswith(ev.BASELINES) or f"\n{key} " in err, key
    assert result["region_error"] < result["constant_region_error"] and result["n"] == 16
    # real drawings in wrong colours are as good a crowd (41.5 against 40.7): it is blind
    assert result["copy_fd_lite0_n16"] < 1.1 * result["fd_lite0_n16"] and result["copy_region_error"] > 2 * result["region_error"]
    assert "ms_ssim: not available: needs sides of 161 pixels, got 64" in err
    row = result["comparison"]["psnr"]
    assert row["difference"] == pytest.approx(row["ours"] - row["theirs"]) and row["ci"][0] > 0
    text = page.read_text(encoding="utf-8")
    # the worst and best eight, straight and posed
    assert text.count("<figure>") == 32 == len(set(re.findall(r'src="data:image/png;base64,[^"]*"', text))), "all sixteen pairs, twice"
    assert [text.count(f"pairs by {p}region_error</h2>") for p in ("", "posed_", "self_")] == [2, 2, 0]
    assert "posed_…: sketch and reference each" in err and "posed_…" in text
    assert "CC BY 4.0" in text and "theirs" in text
    loads = re.findall(r'(?:src|href)="(?!data:)[^"]*"|url\(|@import|<script', text)
    assert not loads, "the page is not self-contained"
    again = run(capsys, *arguments, "--distance", "none")[1]
    assert len(again) > 100 and all(again[k] == result[k] for k in again), "the same weights, other numbers"


def test_one_pair_has_no_interval(capsys, tmp_path):
    "One number says nothing of the spread: not in the table, not in the object, not in a comparison."
    code, result, err = run(capsys, "--weights", TINY, "--against", TINY, "--n", "1", "--distance", "none", "--report", tmp_path / "r.html")
    assert code == 0 and result["n"] == 1 and result["psnr"] > 0
    assert {v for k, v in result.items() if k.endswith("_ci")} == {None}
    assert result["comparison"]["psnr"]["difference"] == 0 and {row.get("ci") for row in result["comparison"].values()} == {None}
    assert " … " not in err and " … " not in (tmp_path / "r.html").read_text()


def test_weights_of_two_sizes_are_measured_each_at_its_own(capsys):
    code, result, err = run(capsys, "--weights", TINY, "--against", TINY.parent / "small", "--n", "2", "--distance", "none")
    assert code == 0 and "note: ours works at 64², theirs at 96²" in err
    own = run(capsys, "--weights", TINY.parent / "small", "--n", "2", "--distance", "none")[1]
    assert result["comparison"]["psnr"]["theirs"] == pytest.approx(own["psnr"])


@pytest.mark.parametrize("distance, n", [("frechet", 2), ("kernel", 1)])
def test_a_crowd_too_small_is_known_before_anything_is_measured(distance, n, monkeypatch, capsys):
    monkeypatch.setattr(ev, "measure", lambda *a, **k: pytest.fail("measured"))
    code, _, err = run(capsys, "--weights", TINY, "--n", n, "--distance", distance)
    assert code == 2 and "at least" in err.splitlines()[-1]


def test_two_processes_give_what_one_gives():
    arguments = ["--weights", str(TINY), "--n", "33"]                           # three batches: 0 and 2, and 1
    arguments = ["evaluate", *arguments, "--json"]
    # one thread in each process: the Fréchet distance's matrix products round otherwise with two
    env = {**os.environ, "OMP_NUM_THREADS": "1", "REFCOLOR_PROGRESS": "0"}
    one = subprocess.run([sys.executable, "-m", "refcolor", *arguments], env=env, capture_output=True, text=True)
    assert one.returncode == 0 and json.loads(one.stdout)["n"] == 33, one.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no", "--main_process_port", str(port)]
    two = subprocess.run([*launch, "--multi_gpu", "-m", "refcolor", *arguments], env=env, capture_output=True, text=True)
    assert two.returncode == 0, two.stderr
    assert "2 processes share the pairs" in two.stderr
    assert json.loads(two.stdout) == json.loads(one.stdout)
    assert two.stderr.count("\nregion_error_hair ") == 1, "both processes speak"
    # accelerate starts a single process if --multi_gpu is left out, and says nothing
    alone = subprocess.run([*launch, "-m", "refcolor", *arguments], env=env | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    assert alone.returncode != 0 and "needs: accelerate launch --multi_gpu" in alone.stderr


def test_folders(drawings, tmp_path, capsys):
    folders = {f"--{name}": drawings / name for name in ("sketches", "references", "truths")}
    flat = lambda *names: [x for n in names for x in (f"--{n}", folders[f"--{n}"])]
    code, three, err = run(capsys, "--weights", TINY, *flat("sketches", "references", "truths"), "--distance", "none")
    assert code == 0 and three["n"] == 16 and {"psnr", "self_psnr", "correspondence_0"} <= three.keys()
    # the files are the cross pairs of 01_characters, at the model's own size: so are the numbers
    expected = ev.evaluate(load_generator(TINY), open_dataset("avatars", None, "valid", 64, 32), 16)
    assert three["psnr"] == pytest.approx(expected["psnr"], abs=0.02)
    assert three["ssim"] == pytest.approx(expected["ssim"], abs=1e-3)
    code, pairs, _ = run(capsys, "--weights", TINY, *flat("sketches", "truths"), "--distance", "none")
    assert code == 0 and "psnr" not in pairs and pairs["self_psnr"] == pytest.approx(three["self_psnr"])
    page = tmp_path / "report.html"
    code, crowd, err = run(capsys, "--weights", TINY, *flat("sketches", "references"), "--report", page, "--distance", "kernel")
    assert code == 0 and "kd_lite0_n16" in crowd and "fd_lite0_n16" not in crowd and "psnr" not in crowd
    assert "no true answer is known" in err and page.read_text().count("<figure>") == 16


@pytest.fixture
def broken(drawings, tmp_path):
    "A copy of the folders in which the references 3 and 5 cannot be read."
    folder = tmp_path / "broken"
    shutil.copytree(drawings, folder)
    for i in (3, 5): (folder / "references" / f"{i:02}.png").write_bytes(b"torn")
    (folder / "fewer").mkdir()
    shutil.copy(folder / "sketches" / "00.png", folder / "fewer")
    (folder / "empty").mkdir()
    shutil.copytree(TINY, folder / "unnamed", ignore=shutil.ignore_patterns("preset.json"))
    return folder


def test_unreadable_pictures_are_named_and_counted(broken, capsys):
    arguments = ("--weights", TINY, "--sketches", broken / "sketches", "--references", broken / "references", "--distance", "kernel")
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "2 of 16" in err and "03.png" in err and "05.png" in err and "--skip-bad" in err
    code, result, err = run(capsys, *arguments, "--skip-bad")
    assert code == 0 and result["n"] == 14 and "kd_lite0_n14" in result
    assert "2 of 16" in err and "03.png" in err and "left out" in err
    tested = open_dataset("folder", broken / "truths", "test", 64).path(0)
    tested.write_bytes(b"torn")
    code, _, err = run(capsys, "--weights", TINY, "--data", "folder", "--root", broken / "truths", "--distance", "none")
    assert code == 2 and tested.name in err and "--skip-bad" in err


BAD = {
    "fewer than the statistic needs": (["--n", "2", "--distance", "frechet"], "needs at least 1281 pictures, got 2:.*--distance kernel"),
    "unequal folders": (["--sketches", "{b}/sketches", "--references", "{b}/fewer"], "no picture called 01, 02, 03, …: 15 of 16 sketches .* there must be as many"),
    "fewer truths": (["--sketches", "{b}/sketches", "--truths", "{b}/fewer"], "no picture called 01, 02, 03, …: 15 of 16 sketches have none of their name$"),
    "unlike names": (["--sketches", "{b}/fewer", "--truths", "{b}/other"], "no picture called 00: 1 of 1"),
    "no partner": (["--sketches", "{b}/sketches"], "--references DIR"),
    "no sketches": (["--truths", "{b}/sketches"], "need --sketches"),
    "an empty folder": (["--sketches", "{b}/empty", "--truths", "{b}/empty"], "no pictures in it"),
    "no such folder": (["--sketches", "{b}/nowhere", "--truths", "{b}/empty"], "no such folder"),
    "weights without a preset": (["--weights", "{b}/unnamed"], "preset.json"),
    "other weights without a preset": (["--against", "{b}/unnamed"], "preset.json"),
    "a report among the weights": (["--weights", "{b}/good", "--report", "{b}/good/report.html"], "is only read; write elsewhere"),
    "a report that is no page": (["--report", "{b}/report.png"], "suffix .html"),
    "an unknown network": (["--features", "resnet"], "invalid choice: 'resnet'"),
    "no network weights": (["--features", "inception"], "REFCOLOR_WEIGHTS"),
    "an unknown data set": (["--data", "imagenot"], "unknown data set"),
    "keypoints without a root": (["--data", "spair71k"], "--root"),
    "an unknown distance": (["--distance", "taxi"], "invalid choice"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_exit_code_2(case, broken, weights, monkeypatch, capsys):
    arguments, expected = BAD[case]
    shutil.copytree(weights / "good", broken / "good")
    (broken / "other").mkdir()
    shutil.copy(broken / "sketches" / "01.png", broken / "other")
    def refuse(*args, **kwargs): raise OSError("no network")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(broken / "hub"))
    monkeypatch.delenv("REFCOLOR_WEIGHTS", raising=False)
    before = state_of(broken)
    with_weights = [] if "--weights" in arguments else ["--weights", TINY]
    code, result, err = run(capsys, *with_weights, *(a.format(b=broken) for a in arguments))
    lines = [l for l in err.splitlines() if l.startswith("refcolor")]
    assert code == 2 and result is None and len(lines) == 1 and re.search(expected, lines[0]), err
    assert "Traceback" not in err and {p: v for p, v in state_of(broken).items() if p in before} == before


def test_weights_that_diverged_are_an_error(weights, tmp_path, capsys):
    from safetensors.torch import load_file, save_file
    shutil.copytree(weights / "good", tmp_path / "nan")
    state = load_file(tmp_path / "nan" / "generator.safetensors")
    state["decoder.last.bias"] = torch.full_like(state["decoder.last.bias"], float("nan"))
    save_file(state, tmp_path / "nan" / "generator.safetensors")
    code, _, err = run(capsys, "--weights", tmp_path / "nan", "--n", "2", "--distance", "none")
    assert code == 2 and "contain NaN" in err


# --- arguments in Python

@pytest.fixture(scope="module")
def few():
    "Four pictures that are no generated set."
    class Few:
        drawn = open_dataset("avatars", None, "valid", 64, 32)
        def __len__(self): return 4
        def batch(self, index): return self.drawn.batch(index)
    return Few()


@pytest.mark.parametrize("n", [0, -1, 1.5, 2., None, "2", True, float("nan"), [2]], ids=str)
def test_a_number_of_pairs_that_is_none_is_said(few, n):
    for change in (dict(n=n), dict(seed=n)):
        if change == dict(seed=0): continue
        with pytest.raises(UserError, match=f"^{[*change][0]}: expected a whole number from .* on, got {re.escape(repr(n))}$"): ev.evaluate(load_generator(TINY), few, **change)


def test_arguments_that_changed_places_are_said(few):
    net = load_generator(TINY)
    for first, second, said in ((few, net, "weights: expected a Generator, .*, got Few"), (str(TINY), few, "weights: expected a Generator, .*, got str"),
                                (net, None, "dataset: expected .*, got NoneType"), (net, (p for p in ["a.png"]), "dataset: expected .*, got generator"),
                                (net, ["a.png"], "dataset: expected .*, got list"), (load_generator(TINY).half(), few, "weights: expected float32, got float16")):
        with pytest.raises(UserError, match=f"^{said}"): ev.evaluate(first, second, 2)


def test_fewer_pairs_than_asked_for_are_counted(few, capsys):
    assert ev.evaluate(load_generator(TINY), few, 10)["n"] == 4
    assert "note: 4 pairs, not 10: there are no more\n" in capsys.readouterr().err
    assert ev.evaluate(load_generator(TINY), few, np.int64(4))["n"] == 4 and "note: 4 pairs" not in capsys.readouterr().err
