"""Wrong versions of training that the tests of its parts let live: which picture goes where, what is drawn anew, which number is used, what is saved."""
import copy
import itertools
import json
import math
import random
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import refcolor.augment as augment
import refcolor.train as train
from refcolor.app import commands
from refcolor.app.cli import main, make_parser
from refcolor.augment import Triple
from refcolor.core import FEATURE_LAMBDAS, DataConfig, ModelConfig, Preset, TrainConfig, UserError
from refcolor.data.characters import Palettes, true_answers
from refcolor.data.datasets import open_dataset
from refcolor.data.pictures import Samples
from refcolor.engine.callbacks import Callback
from refcolor.engine.checkpoints import read_checkpoint
from refcolor.generator import Generator, load_generator
from refcolor.losses import gan_loss, generator_losses
from refcolor.scft import SCFT
from refcolor.show import image_rows
from refcolor.sketch import SIGMA_RANGE, xdog
from refcolor.study import rows
from refcolor.study.ship import Mixed
from refcolor.train import Diverged, Learner, TrainingBatches, batch_index, discriminator_loss, make_triple

# small enough for a step in 30 ms; no number is a default of some function, so that one that is not passed on shows
SMALLEST = Preset("SMALLEST",
    ModelConfig(size=32, channels=(4, 4, 8, 8), strides=(1, 1, 2, 1), positions=8, blocks=3, bottleneck=10, disc_channels=(4, 8)),
    DataConfig(characters=16, appearance=0.3, warp=0.4, padding="border"),
    TrainConfig(batch=2, steps=8, lr_g=2e-3, lr_d=3e-3, betas=(0.4, 0.95), features="lite0", lambda_tr=2., lambda_rec=20., lambda_adv=3., margin=5., ema=0.2))


def change(preset, **changed):
    "`preset` with other fields: model_blocks=2, train_margin=1., …"
    for key, value in changed.items():
        part, name = key.split("_", 1)
        preset = replace(preset, **{part: replace(getattr(preset, part), **{name: value})})
    return preset


POSED = change(SMALLEST, data_recipe="posed", data_cross=0.4, model_bare=("reference", "decoder"), train_batch=4)


@pytest.fixture(scope="module")
def people(): return open_dataset("avatars", split="train", size=32, n=16)


# --- Eq. 6's logits ---

@pytest.mark.parametrize("stop_gradient", [False, True])
def test_under_bf16_the_logits_are_float32_products(stop_gradient):
    "bfloat16 rounds a logit of 200 by up to 0.5."
    torch.manual_seed(0)
    scft, kept = SCFT(60, stop_gradient), {}                             # √60 is not exact in bfloat16
    with torch.no_grad(): scft.w_q.weight.mul_(25.); scft.w_k.weight.mul_(2.)
    for name in ("w_q", "w_k"): getattr(scft, name).register_forward_hook(lambda m, i, out, name=name: kept.update({name: out}))
    v_s, v_r = torch.randn(2, 30, 60), torch.randn(2, 40, 60)
    with torch.autocast("cpu", torch.bfloat16): c, logits = scft(v_s, v_r)
    q, k = kept["w_q"], kept["w_k"]
    assert q.dtype == k.dtype == torch.bfloat16 and logits.dtype == torch.float32 and 150 < logits.abs().max() < 400
    exact = torch.einsum("bid,bjd->bij", q.double(), k.double()) / 60 ** 0.5
    assert (logits - exact).abs().max() < 1e-4
    mask = torch.zeros(30, 40).index_fill(1, torch.tensor([3]), -torch.inf)
    with torch.autocast("cpu", torch.bfloat16): masked = scft(v_s, v_r, mask=mask)[1]
    assert torch.equal(masked, logits + mask)
    # attention follows these logits: where they are far apart, c takes one value
    v = F.linear(v_r, scft.w_v.weight)
    torch.testing.assert_close(c, v_s + exact.float().softmax(-1) @ v, atol=0.05, rtol=0.02)


def test_in_float32_and_in_half_precision_nothing_else_is_done():
    torch.manual_seed(0)
    scft, (v_s, v_r) = SCFT(16), torch.randn(2, 2, 9, 16)
    q, k, v = scft.w_q(v_s), scft.w_k(v_r), scft.w_v(v_r)
    c, logits = scft(v_s, v_r)
    assert torch.equal(logits, q / 4 @ k.mT) and torch.equal(c, v_s + logits.softmax(-1) @ v)
    for dtype in (torch.float64, torch.bfloat16):
        c, logits = SCFT(16).to(dtype)(v_s.to(dtype), v_r.to(dtype))
        assert logits.dtype == c.dtype == dtype


@pytest.mark.parametrize("precision, computed", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_learner_computes_in_the_precision_that_it_says(precision, computed, people):
    "The networks, that is: what is compared, summed and kept stays float32."
    learner, seen, judged = Learner(SMALLEST, people, precision=precision), {}, []
    layers = dict(G=learner.generator.sketch_encoder.blocks[1][0], R=learner.generator.decoder.blocks[0][0], D=learner.discriminator.net[2])
    for name, layer in layers.items(): layer.register_forward_hook(lambda m, i, out, name=name: seen.setdefault(name, set()).add(out.dtype))
    plain = learner.correspondence_loss
    def spy(logits, *rest):
        judged.append(logits)
        return plain(logits, *rest)
    learner.correspondence_loss = spy
    learner.step()
    assert seen == {name: {computed} for name in layers}
    assert [x.dtype for x in judged] == [torch.float32]
    assert judged[0].bfloat16().ne(judged[0]).any(), "rounded to bf16, and float32 in name only"
    kept = [*learner.generator.parameters(), *learner.discriminator.parameters(), *learner.averaged.parameters()]
    assert {x.dtype for p in kept for x in (p, p.grad) if x is not None} == {torch.float32}


# --- what a batch is made of ---

def test_a_triple_is_of_the_pictures_that_were_asked_for(people):
    index = [11, 3, 6]
    image, lines, _ = people.batch(index)
    sketch, target, reference, grid, *parts = make_triple(people, index, 4, 9, SMALLEST.data)
    assert torch.equal(sketch, lines) and parts == [None, None]
    for i, t in zip(image, target):                     # one offset for each channel, then clipped
        offset = (t - i).flatten(1).gather(1, (t - i).flatten(1).abs().argmax(1, keepdim=True))
        torch.testing.assert_close(t, (i + offset[..., None]).clamp(-1, 1))
    torch.testing.assert_close(reference, F.grid_sample(target, grid, padding_mode="border", align_corners=False))
    assert (reference - target).abs().mean() > 0.02 and (target - image).abs().mean() > 0.02


class Grey:
    "Four grey pictures that ask for as many numbers as files do, and note them."
    draws, size = 4, 32
    def __init__(self): self.noise = []
    def __len__(self): return 4
    def batch(self, index, noise):
        self.noise.append(noise)
        return torch.zeros(len(index), 3, 32, 32), torch.ones(len(index), 1, 32, 32), None


def drawn(seed: int, steps: int):
    "Every number that is drawn for the samples of these steps, a row a sample: offsets, displacements, those for the data set."
    grey, found = Grey(), []
    batches = TrainingBatches(grey, SMALLEST, seed)                   # an epoch is two steps
    for step in range(steps):
        triple, = batches[step]
        warp = F.interpolate(triple.grid.permute(0, 3, 1, 2), 3, mode="area").flatten(1)
        found.append(torch.cat([triple.target[:, :, 0, 0], warp, grey.noise[-1]], 1))
    return torch.cat(found)


def test_every_draw_differs_between_samples_steps_and_epochs_and_seeds():
    numbers = torch.cat([drawn(0, 6), drawn(1, 6)])
    assert numbers.shape == (24, 3 + 18 + 4)
    for column in numbers.T: assert len(column.unique()) == len(column)
    assert torch.equal(drawn(0, 6), numbers[:12])
    # none follows from another one
    many = torch.cat([drawn(seed, 8) for seed in range(8)])[:, [0, 1, 2, 21, 22, 23, 24]]
    assert (torch.corrcoef(many.T) - torch.eye(7)).abs().max() < 0.5


def test_each_epoch_has_its_own_order_and_a_learner_keeps_to_it(people):
    orders = [batch_index(16, 16, epoch, 0) for epoch in range(3)] + [batch_index(16, 16, 0, 1)]
    assert all(sorted(o) == list(range(16)) for o in orders) and len({tuple(o) for o in orders}) == 4
    learner, lines, seen = Learner(change(SMALLEST, train_batch=4), people, seed=5), people.batch(range(16)).sketch, []
    def note(module, args): seen.append([int((lines == s).flatten(1).all(1).nonzero()[0]) for s in args[0]])
    learner.generator.register_forward_pre_hook(note)
    same = [i for i in range(16) if (lines == lines[i]).flatten(1).all(1).sum() > 1]
    assert not same, "two drawings have the same lines: take others"
    learner.fit()
    assert seen == [batch_index(16, 4, step, 5) for step in range(8)]


def test_the_seed_decides_how_the_networks_begin(people):
    first, again, other = (Learner(SMALLEST, people, seed=s) for s in (0, 0, 1))
    for name, network in first.networks.items():
        for a, b, c in zip(*(x.networks[name].state_dict().values() for x in (first, again, other))):
            constant = len(a.unique()) == 1                            # biases begin with 0, norms with 1
            assert torch.equal(a, b) and torch.equal(a, c) == constant


# --- posed references ---

class Positions:
    "Pictures whose colours say where a pixel came from: x, y, and which picture; whose lines say so, too; the right half is a part."
    draws, size, n = 0, 32, 16
    def __len__(self): return self.n
    def batch(self, index, noise=None):
        y, x = torch.meshgrid(*[(torch.arange(32) * 2 + 1) / 32 - 1] * 2, indexing="ij")
        image = torch.stack([torch.stack([x, y, x * 0 + self.mark(i)]) for i in torch.as_tensor(index).tolist()])
        return Samples(image, self.lines(image), (image[:, 0] > 0).byte())
    def mark(self, i): return i / 10 - 0.8
    def lines(self, image): return (0.4 * image[:, :1] + 0.3 * image[:, 1:2] + 0.2 * image[:, 2:]) - 0.05
    def partners(self, index, noise): return (np.asarray(index) + 1 + ((noise.numpy() + 1) / 2 * 15).astype(int)) % 16
    def palettes(self, index, noise):      # the parts here are ink, which keeps its colour
        colours = noise.view(len(noise), -1, 3)
        return Palettes(colours, torch.arange(colours.shape[1]).byte().expand(len(noise), -1), torch.zeros(len(noise), dtype=torch.bool))


class Page:
    "What a page (3, 32, 32) of `Positions` shows: which picture, where it came from, and how it lies."
    def __init__(self, page):
        y, x = torch.meshgrid(*[(torch.arange(32) * 2 + 1) / 32 - 1] * 2, indexing="ij")
        near = torch.arange(16) / 10 - 0.8
        off, which = (page[2] - near.view(-1, 1, 1)).abs().min(0)
        inside = (off < 1e-4) & (page[:2].abs().amax(0) < 31 / 32 - 0.01)             # its edge is mixed with paper
        self.index = int(which[inside].mode().values)
        self.inside = inside & (which == self.index)
        self.at, self.source = torch.stack([x, y], -1)[self.inside], page[:2].permute(1, 2, 0)[self.inside]
        one = torch.cat([self.source, torch.ones(len(self.source), 1)], 1)
        found = torch.linalg.lstsq(one, self.at)                                     # source to page
        self.bent = float((one @ found.solution - self.at).abs().max())
        back = (torch.stack([x, y], -1) - found.solution[2]) @ torch.linalg.inv(found.solution[:2])
        self.outside = back.abs().amax(-1) > 1.05
        (a, b), (c, d), (self.x, self.y) = found.solution.tolist()                   # images of the two axes, and of the middle
        self.flip = a * d - b * c < 0
        self.scale = abs(a * d - b * c) ** 0.5
        # the axis that a mirror keeps is y; counter-clockwise, and y points down
        self.rotation = math.degrees(math.atan2(c, d))


@pytest.fixture(scope="module")
def pages():
    "Triples of 12 steps, 16 samples each, with what their two pages show."
    found = []
    for step in range(12):
        triple = make_triple(Positions(), range(16), step, 0, POSED.data)
        for i in range(16):
            one = Triple(*(x[i] for x in triple))
            found.append((i, step, one, Page(one.target), Page(one.reference), bool((one.grid.abs() > 100).all())))
    return found


def test_each_page_shows_the_right_picture(pages):
    "The truth moves with the sketch; the reference is the same picture, bent, or another one, straight; parts move with their pictures; outside is white."
    assert sum(int(own.outside.any()) + int(other.outside.any()) for _, _, _, own, other, _ in pages) > 300
    assert 0.3 < np.mean([cross for *_, cross in pages]) < 0.5, "config.cross is 0.4"
    for i, _, t, own, other, cross in pages:
        assert own.index == i and (other.index != i) == cross
        assert (t.sketch[0] - Positions().lines(t.target[None])[0, 0])[own.inside].abs().max() < 1e-4, "the sketch lies elsewhere"
        assert own.bent < 1e-3 and (other.bent < 1e-3) == cross
        assert (torch.cat([t.target, t.sketch])[:, own.outside] == 1).all(), "outside is white paper"
        if cross: assert (t.reference[:, other.outside] == 1).all()
        for page, parts, colours in ((own, t.parts, t.target), (other, t.reference_parts, t.reference)):
            if not cross: assert not parts.any()
            elif (sure := page.inside & (colours[0].abs() > 0.15)).any(): assert torch.equal(parts[sure] > 0, colours[0][sure] > 0)


def test_a_grid_leads_from_the_reference_to_the_sketch(pages):
    "The target read at the grid is the reference, to the digit: θ₁⁻¹, the spline, θ₂, each at its place. What shows no part of the picture leads nowhere."
    followed, moved = 0, []
    for i, _, t, own, other, cross in pages:
        if cross: continue
        there = F.grid_sample(t.target[None], t.grid[None], "bilinear", "border", align_corners=False)[0]
        clean = F.grid_sample(own.inside[None, None].float(), t.grid[None], "bilinear", "zeros", align_corners=False)[0, 0] == 1
        both = clean & other.inside
        followed += int(both.sum())
        assert (there - t.reference)[:, both].abs().max() < 5e-3
        assert t.grid[other.inside].abs().max() < 3, "a picture is shown here"
        paper = F.avg_pool2d((t.reference == 1).all(0)[None, None].float(), 3, 1, 1)[0, 0] == 1
        assert (t.grid[paper] > 100).all(), "paper is shown here"
        moved.append(float((t.grid - torch.stack([*torch.meshgrid(*[(torch.arange(32) * 2 + 1) / 32 - 1] * 2, indexing="xy")], -1))[both].norm(dim=-1).mean()))
    assert followed > 10_000 and min(moved) > 0.05


def test_every_pose_is_drawn_anew_within_its_bounds(pages):
    "Of sketch and reference each its own; from step to step, sample to sample; as the config says."
    d = POSED.data
    poses = {name: np.array([[p.scale, p.rotation, p.x, p.y] for p in ps]) for name, ps in (
        ("sketch", [own for _, _, _, own, _, _ in pages]), ("reference", [other for *_, other, cross in pages if cross]))}     # straight ones
    low, high = np.array([1 - d.scale, -d.rotation, -d.shift, -d.shift]), np.array([1 + d.scale, d.rotation, d.shift, d.shift])
    for found in poses.values():
        assert (found > low - 0.02 * (high - low)).all() and (found < high + 0.02 * (high - low)).all()
        assert (found.min(0) < low + 0.1 * (high - low)).all() and (found.max(0) > high - 0.1 * (high - low)).all()
        for column in found.round(4).T: assert len(set(column)) > 0.97 * len(column)
    both = np.array([[x for p in (own, other) for x in (p.scale, p.rotation, p.x, p.y, p.flip)] for _, _, _, own, other, cross in pages if cross])
    assert abs(np.corrcoef(both.T) - np.eye(10)).max() < 0.5, "one number serves two purposes"
    flips = np.array([(own.flip, other.flip) for _, _, _, own, other, _ in pages])
    assert (abs(flips.mean(0) - 0.5) < 0.12).all() and 0.38 < (flips[:, 0] != flips[:, 1]).mean() < 0.62
    # whose colours: another one each time
    partners = {(i, other.index) for i, _, _, _, other, cross in pages if cross}
    assert len(partners) > 0.6 * sum(cross for *_, cross in pages)


def colour_of(picture, parts, label):
    "What most of a part looks like (3,), if it has an inside."
    inside = F.avg_pool2d((parts == label)[None, None].float(), 3, 1, 1)[0, 0] == 1
    return picture[:, inside].median(1).values if inside.sum() >= 8 else None


def test_palettes_are_drawn_anew_and_shared_by_target_and_reference(people):
    "One palette for A and B, another one at every step and for every sample; the lines stay."
    seen, apart = {}, 0
    for step in range(6):
        triple = make_triple(people, range(8), step, 0, change(POSED, data_cross=1., data_scale=0.1, data_shift=0.1).data)
        for i in range(8):
            for name, label in people.part_labels.items():
                a, b = (colour_of(picture[i], parts[i], label) for picture, parts in ((triple.target, triple.parts), (triple.reference, triple.reference_parts)))
                if a is None or b is None: continue
                assert (a - b).abs().max() < 0.05, (step, i, name)
                seen[step, i, name] = a
    for name in ("hair", "skin"):
        colours = torch.stack([c for (_, _, n), c in seen.items() if n == name])
        assert len(colours) > 20 and (torch.cdist(colours, colours) + torch.eye(len(colours)) * 9).min() > 0.01 and (colours.std(0) > 0.3).all()
    pairs = torch.stack([torch.cat([c, seen[s, i, "skin"]]) for (s, i, n), c in seen.items() if n == "hair" and (s, i, "skin") in seen])
    assert (torch.corrcoef(pairs.T) - torch.eye(6)).abs().max() < 0.6, "one number serves two purposes"


def test_no_number_serves_two_purposes(monkeypatch):
    "Which partner, whether it is taken, with lines or without, in which palette, in which poses, cut from where: none follows from another."
    class Noted(Positions):
        draws = 4
        def batch(self, index, noise=None):
            if noise is not None: given.append(noise)
            return super().batch(index)
        def partners(self, index, noise):
            given.append(noise[:, None])
            return super().partners(index, noise)
        def palettes(self, index, noise):
            given.append(noise)
            return super().palettes(index, noise)
    plain, paint = augment.posed_reference, augment.recolour
    def note_poses(sketch, target, reference, config, noise, *rest):
        given.append(noise)
        return plain(sketch, target, reference, config, noise, *rest)
    def note_lines(image, sketch, parts, palette, lined=None, borders=None):
        choices.append(lined)
        return paint(image, sketch, parts, palette, lined, borders)
    monkeypatch.setattr(augment, "posed_reference", note_poses)
    monkeypatch.setattr(augment, "recolour", note_lines)
    rows, chosen = [], []
    for step in range(4):
        given, choices = [], []
        triple = make_triple(Noted(), range(16), step, 0, POSED.data)
        rows.append(torch.cat(given, 1))
        chosen.append(torch.stack([(triple.grid > 100).flatten(1).all(1), choices[1]]))
    numbers, chosen = torch.cat(rows), torch.cat(chosen, 1)
    assert len(numbers) == 64 and numbers.numel() - len(numbers.unique()) < 16          # chance gives three
    for choice in chosen:
        assert 10 < choice.sum() < 54
        low, high = numbers[choice].amin(0), numbers[choice].amax(0)
        assert not ((high < numbers[~choice].amin(0)) | (low > numbers[~choice].amax(0))).any(), "a choice follows from a number that is used elsewhere"
    assert (chosen[0] != chosen[1]).sum() in range(16, 48)


def test_references_come_with_lines_and_without_and_truths_with_them(people, monkeypatch):
    painted, plain = [], augment.recolour
    def note(image, sketch, parts, palette, lined=None, borders=None):
        painted.append(lined)
        return plain(image, sketch, parts, palette, lined, borders)
    monkeypatch.setattr(augment, "recolour", note)
    crossed = []
    for step in range(12): crossed += (make_triple(people, range(16), step, 0, POSED.data).parts > 1).flatten(1).any(1).tolist()
    lined = torch.cat(painted[1::2])
    assert painted[::2] == [None] * 12 and 0.4 < lined.float().mean() < 0.6
    assert len({tuple(x.tolist()) for x in painted[1::2]}) == 12 and abs(np.corrcoef(lined, crossed)[0, 1]) < 0.3


@pytest.mark.parametrize("name", ["personas", "avatars"])
def test_a_target_is_what_the_truth_is(name):
    "Recoloured by its part map, a drawing is the true answer; of an artist without lines, ours lie over figure and paper alike."
    data = open_dataset(name, split="test", size=48, n=8)
    index = list(range(8))
    samples, noise = data.batch(index), torch.rand(8, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    colours, whole, borders = data.palettes(index, noise)
    # the set's own colours, so that DiceBear can be asked for the answer
    for i in index:
        for label in samples.parts[i].unique().tolist():
            at = samples.image[i][:, samples.parts[i] == label]
            colours[i, label] = at.median(1).values if label > 1 else 0
    target, answer = augment.recolour(samples.image, samples.sketch, samples.parts, colours, borders=borders), true_answers(data, index, index)
    line = (samples.sketch < 0.9) & (samples.parts == 0)[:, None]        # … on the paper
    assert borders.tolist() == [name == "personas"] * 8 and line.sum() > (500 if borders[0] else 0)
    assert (target - answer).abs().mean() < 0.03
    if borders[0]: assert (target - answer).abs().mean(1)[line[:, 0]].mean() < 0.01
    bare = augment.recolour(samples.image, samples.sketch, samples.parts, colours, torch.zeros(8, dtype=torch.bool), borders)
    same = torch.equal(bare.movedim(1, -1)[samples.parts == 0], samples.image.movedim(1, -1)[samples.parts == 0])
    assert same, "without lines, the paper of a reference has none"


def test_of_an_artist_without_lines_targets_have_ours_and_part_loss_knows_no_shades():
    "The maps that training compares know parts, not their shades; colours know both."
    data, shades = open_dataset("personas", split="train", size=48, n=16), 0
    for step in range(3):
        triple = make_triple(data, range(16), step, 0, change(POSED, data_cross=1.).data)
        shades += (data.whole.numpy()[data.parts] != data.parts).sum()
        assert triple.target.amax(1)[triple.sketch[:, 0] < -0.9].max() < -0.5, "a line that the target lacks"
        for maps in (triple.parts, triple.reference_parts):
            assert maps.dtype == torch.uint8 and set(maps.unique().tolist()) <= {0, 1, *data.part_labels.values()}
            assert {2, 3, 4} <= set(maps.unique().tolist())
    assert shades > 100


def test_only_cross_samples_feel_part_loss_and_only_the_others_eq6(people):
    "Sample by sample: where one of the two terms is zero, the other one is not."
    triple = make_triple(people, range(12), 0, 0, change(POSED, model_positions=8).data)
    cross = (triple.parts > 1).flatten(1).any(1)
    assert 2 <= cross.sum() <= 10
    logits = torch.randn(12, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tr = generator_losses(triple.target, triple.target, logits, triple.grid, SCORES, Halves(), 5., parts=(triple.parts, triple.reference_parts))["tr"]
    by_eq6, by_parts = eq6(logits, triple.grid, 5.), same_part(logits, triple.parts, triple.reference_parts)
    assert tr.item() == pytest.approx((by_eq6 + by_parts).item(), rel=1e-4)
    whole, first, second = (torch.autograd.grad(x, logits)[0] for x in (tr, by_eq6, by_parts))
    torch.testing.assert_close(whole, first + second, atol=1e-6, rtol=1e-3)
    assert torch.equal(first.flatten(1).any(1), ~cross) and torch.equal(second.flatten(1).any(1), cross)


def test_in_a_mixture_each_drawing_keeps_to_its_own_set():
    "Its pictures and parts, a partner of the same set, a palette for the labels of that set, from its own random numbers."
    class Set(Positions):
        borders = False      # else lines would change the marks
        def __init__(self, first, n, labels): self.first, self.n, self.labels = first, n, labels
        def mark(self, i): return super().mark(self.first + i)
        def partners(self, index, noise):
            assert (np.asarray(index) < self.n).all()
            return (np.asarray(index) + 1 + ((noise.numpy() + 1) / 2 * (self.n - 1)).astype(int)) % self.n
        def palettes(self, index, noise):
            colours = noise.view(len(noise), -1, 3)[:, :self.labels] + torch.as_tensor(index).view(-1, 1, 1) / 100
            return Palettes(colours, torch.full(colours.shape[:2], self.labels, dtype=torch.uint8), torch.full((len(noise),), self.borders and self.labels == 2))
    sets = [Set(0, 5, 4), Set(5, 8, 2), Set(13, 3, 6)]
    mixed, starts, crossed = Mixed(sets), np.array([0, 5, 13, 16]), 0
    for step in range(4):
        index = np.random.default_rng(step).permutation(16)[:12]
        triple, noise = make_triple(mixed, index, step, 0, POSED.data), torch.rand(12, 18) * 2 - 1
        for k, i in enumerate(index.tolist()):
            own, other = Page(triple.target[k]), Page(triple.reference[k])
            assert own.index == i and sum(starts <= i) == sum(starts <= other.index)
            crossed += other.index != i
        Set.borders = True
        found = mixed.palettes(index, noise)
        for k, i in enumerate(index.tolist()):
            of = sum(starts <= i) - 1
            for x, y in zip(found, sets[of].palettes([i - starts[of]], noise[k:k + 1])): assert torch.equal(x[k, :sets[of].labels] if x.ndim > 1 else x[k], y[0])
        Set.borders = False
    assert crossed > 8


def test_files_are_posed_with_the_lines_of_their_own_colours(photographs, monkeypatch):
    "No parts are known: the picture is its own reference in new colours, which its lines do not tell."
    triple = make_triple(photographs, range(4), 0, 0, POSED.data)
    again = make_triple(photographs, range(4), 1, 0, POSED.data)
    assert triple.parts is None and (triple.sketch - again.sketch).abs().mean() > 0.02
    monkeypatch.setattr(augment, "recolour_regions", lambda image, noise: image)
    plain = make_triple(photographs, range(4), 0, 0, POSED.data)
    assert torch.equal(plain.sketch, triple.sketch) and torch.equal(plain.grid, triple.grid)
    for name in ("target", "reference"): assert (getattr(plain, name) - getattr(triple, name)).flatten(1).abs().mean(1).min() > 0.05, name
    # the new colours: others for each sample, at each step
    colours, poses, plain_pose = [], [], augment.draw_pose
    monkeypatch.setattr(augment, "recolour_regions", lambda image, noise: colours.append(noise) or image)
    monkeypatch.setattr(augment, "draw_pose", lambda noise, *rest: poses.append(noise) or plain_pose(noise, *rest))
    for step in range(3): make_triple(photographs, range(4), step, 0, POSED.data)
    numbers = torch.cat([torch.cat(colours), torch.cat(poses[::2]), torch.cat(poses[1::2])], 1)
    assert numbers.shape == (12, 70) and all(len(column.unique()) == 12 for column in numbers.T) and numbers.numel() - len(numbers.unique()) < 6


# --- picture files: lines, pen, window, orientation ---

@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    "Square pictures full of edges, as the training split of a folder."
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(6):
        picture = Image.fromarray(rng.integers(60, 196, (7, 7, 3), np.uint8)).resize((98, 98), Image.Resampling.NEAREST)
        picture.save(root / f"{i}.png")
    return open_dataset("folder", root, size=48, cache=False)


def pen_of(sketch, image):
    "The σ that draws `sketch` from `image`, each (c, h, w), found by trying: what it leaves is a tenth of what others leave."
    tried = torch.linspace(0.36, 0.84, 49)
    errors = (xdog(image.expand(49, -1, -1, -1), tried) - sketch).abs().mean((1, 2, 3))
    assert sketch.min() < 0 and errors.min() < 0.1 * errors.max(), "the lines are of another window than the colours, or of no XDoG"
    return tried[errors.argmin()].item()


def test_files_are_drawn_before_they_are_recoloured_with_a_pen_that_varies(photographs):
    plain, strong, pens = replace(SMALLEST.data, appearance=0.), replace(SMALLEST.data, appearance=0.6), {}
    n = len(photographs)
    for step in (0, 1, 2, n, n + 1):                                  # batches of one: an epoch is n steps
        a, b = (make_triple(photographs, [0, 1], step, 0, config) for config in (plain, strong))
        assert torch.equal(a.sketch, b.sketch) and (a.target - b.target).abs().mean() > 0.05
        for i in range(2):                                            # without an offset, the target is what was drawn
            pens[step, i] = pen_of(a.sketch[i], a.target[i])
    found = np.array(list(pens.values()))
    assert len(set(found.round(2))) >= 8 and found.std() > 0.05, pens
    assert SIGMA_RANGE[0] - 0.01 <= found.min() and found.max() <= SIGMA_RANGE[1] + 0.01


def test_the_window_moves_in_both_directions_and_is_mirrored_sometimes(photographs):
    "Where the training split sees a picture, found by trying all windows of the whole one; the pen goes its own way."
    whole = torch.from_numpy(photographs.read(0)[:3] / 127.5 - 1).float()
    seen, pens = [], []
    for step in range(16):
        (sketch,), (target,), *_ = make_triple(photographs, [0], step, 0, replace(SMALLEST.data, appearance=0.))
        hits = [(x, y, mirrored) for x, y, mirrored in itertools.product(range(7), range(7), (False, True))
                if torch.allclose(whole[:, y:y + 48, x:x + 48].flip(2) if mirrored else whole[:, y:y + 48, x:x + 48], target, atol=1e-5)]
        assert len(hits) == 1
        seen += hits
        pens.append(pen_of(sketch, target))
    assert all(len({hit[k] for hit in seen}) > (3, 3, 1)[k] for k in range(3)), seen
    related = np.corrcoef(np.array([[*hit, pen] for hit, pen in zip(seen, pens)], float).T)
    assert abs(related[~np.eye(4, dtype=bool)]).max() < 0.7, "one number serves two purposes"


def test_a_drawing_is_seen_through_the_window_of_its_picture(tmp_path):
    "Where the lines come with the pictures; here they are the pictures in grey."
    rng = np.random.default_rng(2)
    (tmp_path / "lines").mkdir()
    for i in range(6):
        picture = Image.fromarray(np.repeat(rng.integers(0, 2, (7, 7, 1), np.uint8) * 255, 3, 2)).resize((98, 98), Image.Resampling.NEAREST)
        for name in (f"{i}.png", f"lines/{i}.png"): picture.save(tmp_path / name)
    drawn, seen = open_dataset("folder:lines", tmp_path, size=48, cache=False), []
    for step in range(4):
        sketch, target, *_ = make_triple(drawn, [0, 1], step, 0, replace(SMALLEST.data, appearance=0.))
        assert (sketch - target.mean(1, keepdim=True)).abs().max() < 0.02
        seen += list(sketch[:1])
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2)), "the window never moves"


SIDEWAYS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_training_sees_files_upright(suffix, tmp_path):
    "Colours and drawings; a camera held sideways stores sideways, and says so in EXIF."
    rng, size, differ = np.random.default_rng(1), 32, {"png": 1e-6, "jpg": 0.1}[suffix]
    picture = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize((128, 96), Image.Resampling.BICUBIC)
    drawing = Image.fromarray(rng.integers(0, 2, (12, 16), np.uint8) * 255).resize((128, 96))
    for folder in ("upright", "sideways"):
        (tmp_path / folder / "lines").mkdir(parents=True)
        for orientation, turn in SIDEWAYS.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            for image, name in ((picture, f"{orientation}.{suffix}"), (drawing, f"lines/{orientation}.{suffix}")):
                if folder == "sideways": image.transpose(turn).save(tmp_path / folder / name, exif=exif, quality=95)
                else: image.save(tmp_path / folder / name, quality=95)
    for name in ("folder", "folder:lines"):
        upright, sideways = (open_dataset(name, tmp_path / folder, size=size, cache=False) for folder in ("upright", "sideways"))
        assert list(upright.source.paths) == list(sideways.source.paths) and len(upright) > 3
        config = replace(SMALLEST.data, appearance=0.)
        for a, b in zip(*(make_triple(x, range(len(x)), 2, 0, config)[:4] for x in (upright, sideways))):
            assert (a - b).abs().mean() < differ and (a - b.flip(-1)).abs().mean() > 2 * differ


# --- the generator within ---

@pytest.mark.parametrize("changed", [{}, dict(model_levels=(1, 3)), dict(model_bottleneck=0), dict(model_bare=("reference", "decoder"))], ids=str)
def test_the_generator_equals_its_drawing(changed):
    "Written flat: both encoders, Eq. 1 to 5, blocks in a chain, the sketch encoder's maps as mirrored skips."
    torch.manual_seed(0)
    g = Generator(change(SMALLEST, **changed).model)
    for p in g.parameters(): p.data += 0.2 * torch.randn_like(p)                       # biases and norms, too
    sketch, reference = torch.rand(2, 1, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    def chain(blocks, x): return [x := block(x) for block in blocks]
    def vectors(maps): return torch.cat([F.adaptive_avg_pool2d(maps[l], 8).flatten(2).mT for l in g.config.used_levels], 2)
    maps, others = chain(g.sketch_encoder.blocks, sketch), chain(g.reference_encoder.blocks, reference)
    v_s, v_r = vectors(maps), vectors(others)
    q, k, v = v_s @ g.fusion.w_q.weight.T, v_r @ g.fusion.w_k.weight.T, v_r @ g.fusion.w_v.weight.T
    logits = torch.einsum("bid,bjd->bij", q, k) / math.sqrt(q.shape[2])
    c = g.narrow((v_s + logits.softmax(2) @ v).mT.reshape(2, -1, 8, 8))
    x = c
    for block in g.blocks: x = x + block.body(x)
    x = g.decoder.first(torch.cat([x, c], 1))
    for level, block in zip((2, 1, 0), g.decoder.blocks, strict=True):
        x = F.interpolate(x, size=maps[level].shape[2:], mode="nearest")
        x = block(torch.cat([x, maps[level]], 1))
    for need_logits in (True, False):
        found = g(sketch, reference, need_logits)
        torch.testing.assert_close(found.fake, torch.tanh(g.decoder.last(x)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(g(sketch, reference).logits, logits, atol=1e-5, rtol=1e-5)
    bare = {name for name, block in g.named_modules() if isinstance(block, nn.Sequential) and isinstance(block[1], nn.Identity)}
    assert bare == ({"reference_encoder.blocks.0", "decoder.first", *(f"decoder.blocks.{i}" for i in range(3))} if g.config.bare else set())
    assert len({id(block) for block in (*g.blocks, *g.decoder.blocks)}) == 6, "two blocks are one"


# --- one step ---

def test_each_network_sees_the_right_pictures(people):
    "D: targets and detached fakes, then the fakes; Φ: fakes and targets; G: once; each with the sketch of the same picture."
    learner, calls = Learner(SMALLEST, people), []
    g = learner.generator
    for name, network in dict(lines=g.sketch_encoder, colours=g.reference_encoder, D=learner.discriminator, Φ=learner.phi).items():
        network.register_forward_pre_hook(lambda m, args, name=name: calls.append((name, *args)))
    g.register_forward_hook(lambda m, args, out: calls.append(("fake", out.fake)))
    learner.averaged.register_forward_pre_hook(lambda m, args: calls.append(("averaged",)))
    sketch, target, reference, *_ = make_triple(people, batch_index(16, 2, 0, 0), 0, 0, SMALLEST.data)
    learner.step()
    seen = {name: [args for n, *args in calls if n == name] for name, *_ in calls}
    (fake,), = seen.pop("fake")
    assert fake.requires_grad
    (lines,), = seen.pop("lines")
    (colours,), = seen.pop("colours")
    assert torch.equal(lines, sketch) and torch.equal(colours, reference)
    judged = seen.pop("D")
    assert torch.equal(torch.cat([image for image, _ in judged]), torch.cat([target, fake, fake]))
    assert torch.equal(torch.cat([lines for _, lines in judged]), torch.cat([sketch] * 3))
    assert [image.requires_grad for image, _ in judged] == [False, True], "D's step reaches G, or G's step does not"
    looked_at = sorted((image for image, in seen.pop("Φ")), key=lambda x: x.requires_grad)
    assert torch.equal(looked_at[0], target) and torch.equal(looked_at[1], fake) and [x.requires_grad for x in looked_at] == [False, True]
    assert not seen


SCORES = torch.tensor([[[[2., -1.]]], [[[0.5, 0.]]]])
# the mean of (s − 1)², and of log(1 + e^−s): what G wants is that D says real
BY_HAND = {"lsgan": (1 + 4 + 0.25 + 1) / 4, "vanilla": sum(math.log1p(math.exp(-s)) for s in (2., -1., 0.5, 0.)) / 4}


class Halves(nn.Module):
    "Two maps: the picture, and three times its first two channels."
    name = "lite0"
    def forward(self, x): return [x, 3 * x[:, :2]]


@pytest.mark.parametrize("mode", BY_HAND)
def test_the_generators_five_terms_by_hand(mode):
    scores = SCORES.clone().requires_grad_()
    fake, target = torch.tensor([0.5, 0., -0.5]).view(1, 3, 1, 1).expand(2, 3, 2, 2).clone().requires_grad_(), torch.zeros(2, 3, 2, 2)
    logits, grid = torch.zeros(2, 4, 4), F.affine_grid(torch.eye(2, 3).expand(2, 2, 3), (2, 1, 2, 2), align_corners=False)
    terms = generator_losses(fake, target, logits, grid, scores, Halves(), 7., mode)
    # Gram matrices of constant channels a, b, c: products over their number; of the target: 0
    gram = lambda f: sum(abs(a * b) / len(f) for a in f for b in f) / len(f) ** 2                              # noqa: E731
    wanted = dict(tr=7., rec=1 / 3, adv=BY_HAND[mode], perc=1 / 3 + 0.75, style=gram((0.5, 0, -0.5)) + gram((1.5, 0)))
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(wanted, abs=1e-6)
    terms["adv"].backward()
    assert (scores.grad[SCORES < 1] < 0).all(), "G must raise D's scores of its fakes"


@pytest.mark.parametrize("mode", BY_HAND)
def test_the_discriminators_loss_by_hand(mode):
    "Targets score their first channel's mean, fakes theirs: D wants 1 for the one and 0 for the other."
    class Judge(nn.Module):
        def forward(self, image, sketch): return image[:, :1].mean((2, 3), keepdim=True) + 0 * sketch
    fill = lambda *v: torch.tensor(v).view(-1, 1, 1, 1).expand(len(v), 3, 2, 2)                                 # noqa: E731
    triple = Triple(torch.zeros(2, 1, 2, 2), fill(0.5, 1.), None, None)
    loss, scores = discriminator_loss(Judge(), triple, fill(-1., 0.25), mode)
    softplus = lambda x: math.log1p(math.exp(x))                                                               # noqa: E731
    real, fakes = {"lsgan": (0.25 / 2, (1 + 0.0625) / 2),
                   "vanilla": ((softplus(-0.5) + softplus(-1.)) / 2, (softplus(-1.) + softplus(0.25)) / 2)}[mode]
    assert loss.item() == pytest.approx((real + fakes) / 2, abs=1e-6)
    assert (scores["D(real)"].item(), scores["D(fake)"].item()) == pytest.approx((0.75, -0.375))
    assert gan_loss(SCORES, True, mode).item() == pytest.approx(BY_HAND[mode], abs=1e-6)


def eq6(logits, grid, margin):
    "Position by position. Of the keys that were read from inside the picture, the one read nearest to a query must lead."
    p, images = math.isqrt(logits.shape[1]), []
    shown = F.adaptive_avg_pool2d(grid.permute(0, 3, 1, 2), p).flatten(2).mT             # where each key was read
    for scores, read in zip(logits, shown):
        inside, hinges = (read.abs() <= 1).all(1), []
        for i, row in enumerate(scores):
            here = torch.tensor([(2 * (i % p) + 1) / p - 1, (2 * (i // p) + 1) / p - 1])
            cells = ((read - here).norm(dim=1) * p / 2).where(inside, torch.tensor(torch.inf))
            j = int(cells.argmin())
            others = [k for k in range(p * p) if inside[k] and k != j]
            if cells[j] <= 0.75: hinges.append((row[others] - row[j] + margin).clamp(min=0).sum() / max(1, len(others)))
        images.append(sum(hinges) / max(1, len(hinges)))
    return sum(images) / len(images)


def same_part(logits, parts, reference_parts):
    "Position by position. A query within a part (over 0.6 of its cell) must put α on the cells that this part holds (over 0.5)."
    def cells(labels): return [[(cell == l).float().mean() for l in range(2, 10)] for cell in F.unfold(labels[None, None].float(), 4, stride=4)[0].T]
    images = []
    for scores, here, there in zip(logits, parts, reference_parts):
        found, there = [], torch.tensor(cells(there))
        for row, shares in zip(scores, cells(here)):
            label = int(np.argmax(shares))
            if shares[label] > 0.6 and (there[:, label] > 0.5).any(): found.append(-row.softmax(0)[there[:, label] > 0.5].sum().log())
        images.append(sum(found) / max(1, len(found)))
    return sum(images) / len(images)


def flat_terms(fake, logits, triple, scores, phi, t):
    "Eq. 6 to 10 for G."
    pairs = list(zip(phi(fake), phi(triple.target), strict=True))
    gram = lambda f: torch.stack([m.flatten(1) @ m.flatten(1).T / m.numel() for m in f])                        # noqa: E731
    tr = eq6(logits, triple.grid, t.margin)
    if triple.parts is not None: tr = tr + same_part(logits, triple.parts, triple.reference_parts)
    return dict(tr=tr, rec=(fake - triple.target).abs().mean(),
                adv=((scores - 1) ** 2).mean() if t.gan_mode == "lsgan" else F.softplus(-scores).mean(),
                perc=sum((a - b).abs().mean() for a, b in pairs), style=sum((gram(a) - gram(b)).abs().mean() for a, b in pairs))


class FlatAdam:
    "Kingma and Ba, line by line."
    def __init__(self, betas): self.betas, self.m, self.v, self.t = betas, {}, {}, 0
    def __call__(self, named, grads, rate):
        (b1, b2), moved = self.betas, {}
        self.t += 1
        for name, p in named.items():
            g = grads[name]
            self.m[name] = b1 * self.m.get(name, 0) + (1 - b1) * g
            self.v[name] = b2 * self.v.get(name, 0) + (1 - b2) * g * g
            moved[name] = p - rate * (self.m[name] / (1 - b1 ** self.t)) / ((self.v[name] / (1 - b2 ** self.t)).sqrt() + 1e-8)
        return moved


def named(network): return {k: p.detach().clone() for k, p in network.named_parameters()}
def gradients(network): return {k: p.grad.clone() for k, p in network.named_parameters()}


def assert_same(found, wanted, what):
    assert found.keys() == wanted.keys()
    for name, w in wanted.items():
        off, scale = (found[name] - w).abs().max(), w.abs().max()
        assert off <= 1e-6 + 1e-4 * scale, f"{what}, {name}: off by {off:.1e} of {scale:.1e}"


@pytest.mark.parametrize("usual, gan_mode, accumulate", [(SMALLEST, "lsgan", 1), (SMALLEST, "vanilla", 1), (SMALLEST, "lsgan", 2),
                                                         (POSED, "lsgan", 1), (POSED, "vanilla", 2)],
                         ids=["paper", "paper, vanilla", "paper, in pieces", "posed", "posed, vanilla, in pieces"])
def test_a_step_equals_the_flat_loop(usual, gan_mode, accumulate, people):
    "Written again in plain torch: terms, gradients of both networks, both updates, the average; with everything that changes during a run."
    preset = change(usual, train_gan_mode=gan_mode, train_lr_decay=0.5, train_warmup=2, train_fade_tr=0.75, train_steps=4)
    t, learner = preset.train, Learner(preset, people, seed=3, accumulate=accumulate)
    adam, crossed = {name: FlatAdam(t.betas) for name in "GD"}, set()
    for step in range(4):
        G, D = copy.deepcopy(learner.generator), copy.deepcopy(learner.discriminator).requires_grad_()
        averaged = named(learner.averaged)
        triple = make_triple(people, batch_index(16, t.batch, step, 3), step, 3, preset.data)
        log = learner.step(measure=accumulate == 1)
        if triple.parts is not None: crossed |= set((triple.parts > 1).flatten(1).any(1).tolist())
        slow = min(1, 2 * (1 - step / 4)) * min(1, (step + 1) / 2)    # lr_decay, warmup
        # D's step
        for network in (G, D): network.zero_grad()
        fake, logits = G(triple.sketch, triple.reference)
        real, wrong = D(triple.target, triple.sketch), D(fake.detach(), triple.sketch)
        if gan_mode == "lsgan": loss_d = ((real - 1) ** 2).mean() / 2 + (wrong ** 2).mean() / 2
        else: loss_d = F.softplus(-real).mean() / 2 + F.softplus(wrong).mean() / 2
        loss_d.backward()
        assert_same(gradients(learner.discriminator), gradients(D), "gradient of D")
        # from the learner's own gradient: where one is nothing but rounding, Adam would make a step of that
        assert_same(named(learner.discriminator), adam["D"](named(D), gradients(learner.discriminator), t.lr_d * slow), "D")
        # G's step, against the D of now
        terms = flat_terms(fake, logits, triple, learner.discriminator(fake, triple.sketch), learner.phi, t)
        λ = dict(tr=t.lambda_tr * max(0, 1 - step / 3), rec=t.lambda_rec, adv=t.lambda_adv, **FEATURE_LAMBDAS["lite0"])     # fade_tr
        slopes = {k: torch.autograd.grad(λ[k] * v, fake, retain_graph=True)[0].norm() for k, v in terms.items() if k != "tr"}
        sum(λ[k] * v for k, v in terms.items()).backward()
        assert_same(gradients(learner.generator), gradients(G), "gradient of G")
        assert_same(named(learner.generator), adam["G"](named(G), gradients(learner.generator), t.lr_g * slow), "G")
        # the average
        keep = min(t.ema, (1 + step) / (10 + step))
        assert_same(named(learner.averaged), {k: keep * averaged[k] + (1 - keep) * p for k, p in named(learner.generator).items()}, "average")
        # what the log says
        wanted = {f"loss/{'adv_g' if k == 'adv' else k}": v for k, v in terms.items()} | {"loss/adv_d": loss_d, "D(real)": real.mean(), "D(fake)": wrong.mean()}
        for letter, network in dict(generator=learner.generator, discriminator=learner.discriminator).items():
            wanted[f"norm/{letter}"] = torch.cat([g.flatten() for g in gradients(network).values()]).norm()
        if accumulate == 1: wanted |= {f"grad/{k}": v for k, v in slopes.items()}
        assert {k: log[k] for k in wanted} == pytest.approx({k: v.item() for k, v in wanted.items()}, rel=1e-4, abs=1e-6)
        assert all(p.grad is None for p in (*learner.phi.parameters(), *learner.averaged.parameters()))
    assert crossed == ({False, True} if usual == POSED else set()), "references of one kind only"
    assert 1 / 10 < t.ema < 4 / 13 and learner.steps_done == 4


def test_in_bf16_a_batch_is_learned_by_heart_as_well(people):
    "Weights and losses stay float32; two GANs never take the very same way, so the last steps' mean is compared."
    def by_heart(precision):
        learner, history = Learner(change(SMALLEST, train_lambda_adv=0.1), people, precision=precision), []
        for _ in range(60):
            learner.steps_done = 0
            history.append(learner.step()["loss/rec"])
        assert all(p.dtype == torch.float32 for p in learner.generator.parameters())
        return history
    full, half = by_heart("fp32"), by_heart("bf16")
    assert full[0] != half[0], "the same computation under another name"
    last_full, last_half = (np.mean(h[-20:]) for h in (full, half))
    assert last_full < 0.6 * full[0] and last_half == pytest.approx(last_full, rel=0.05)


def test_a_run_draws_nothing_from_the_global_generators(people):
    "So their state need not be saved."
    def two_steps(between):
        learner = Learner(SMALLEST, people)
        learner.step()
        between()
        learner.step()
        return learner.generator.state_dict()
    assert_identical(two_steps(lambda: None), two_steps(lambda: (torch.rand(3), np.random.rand(3), random.random())))


@pytest.mark.parametrize("log, named", [({"loss/rec": 0.5, "norm/generator": math.inf}, "norm/generator is inf"),
                                        ({"loss/style": 2e6}, "loss/style is 2e+06"), ({"D(real)": math.nan}, r"D\(real\) is nan"),
                                        ({"loss/rec": 0.5, "norm/generator": 1e7}, None)])
def test_a_value_that_cannot_be_right_is_named_and_a_large_norm_is_none(log, named, people):
    learner = Learner(SMALLEST, people)
    if named is None: return learner.check(log, 0)
    with pytest.raises(Diverged, match=named.replace("+", r"\+")): learner.check(log, 0)


def test_what_a_learner_cannot_do_it_says_before_any_work(people, tmp_path):
    for options, said in ((dict(preset=change(SMALLEST, train_batch=17)), "batch of 17 is larger than the part to train on, 16 pictures"),
                          (dict(precision="fp8"), "unknown precision 'fp8'"), (dict(accumulate=3), "cannot be cut")):
        with pytest.raises(UserError, match=said): Learner(**dict(preset=SMALLEST, dataset=people, out=tmp_path / "run") | options)
    with pytest.raises(UserError, match="no checkpoint step-2"): Learner(SMALLEST, people, tmp_path / "run").fit(resume="step-2")
    assert not (tmp_path / "run").exists()


def test_the_page_that_trains_everything_needs_no_other_cell():
    cells = json.loads((Path(__file__).parent.parent / "nbs/11_train.ipynb").read_text())["cells"]
    page, = (text for text in ("".join(cell["source"]) for cell in cells) if "opt_d.step()" in text and "import PatchGAN" in text)
    names = {}
    exec(page.replace("range(24)", "range(1)"), names)
    assert len(names["history"]) == 1 and set(names["history"][0]) == {"tr", "rec", "adv", "perc", "style", "adv_d"}


def test_a_clipped_gradient_keeps_its_direction_and_the_log_tells_its_length(people):
    "And one that is short enough stays as it is."
    plain, clipped, wide = (Learner(change(SMALLEST, train_clip_g=g, train_clip_d=d), people) for g, d in ((0., 0.), (0.5, 0.1), (1e6, 1e6)))
    logs = [learner.step() for learner in (plain, clipped, wide)]
    assert_same(gradients(wide.generator), gradients(plain.generator), "G")
    for name, network, limit in (("discriminator", "discriminator", 0.1), ("generator", "generator", 0.5)):
        norm = logs[0][f"norm/{name}"]
        assert norm > limit
        if network == "discriminator":      # G's own gradient depends on D's step
            assert logs[1][f"norm/{name}"] == pytest.approx(norm, rel=1e-5)
            assert_same(gradients(getattr(clipped, network)), {k: g * limit / norm for k, g in gradients(getattr(plain, network)).items()}, name)
        length = torch.cat([g.flatten() for g in gradients(getattr(clipped, network)).values()]).norm()
        assert length.item() == pytest.approx(limit, rel=1e-3)


# --- every field of a preset ---

class OtherFeatures(nn.Module):
    "In the place of VGG19, whose file not everybody has."
    name = "vgg19"
    def forward(self, x): return [x * 0.5]


class Opened(Exception): "With what a command would train on."


def opened_by_train(preset, monkeypatch):
    "The data set that `refcolor train` opens for a preset."
    def stop(preset, dataset, *args, **kwargs): raise Opened(dataset)
    with monkeypatch.context() as m:
        m.setitem(commands.PRESETS, "TINY", preset)
        m.setattr(train, "Learner", stop)
        args = make_parser().parse_args(["train", "--preset", "TINY", "--data", "avatars", "--steps", "1", "--out", "nowhere"])
        with pytest.raises(Opened) as e: commands.run_train(args)
    return e.value.args[0]


def trace(preset, monkeypatch, steps=4):
    "What happens in a run, in the order in which it happens: (step, name, value)."
    with monkeypatch.context() as m:
        plain = train.feature_network
        m.setattr(train, "feature_network", lambda name: plain(name) if name == "lite0" else OtherFeatures())
        dataset = opened_by_train(preset, monkeypatch)
        learner = Learner(preset, dataset)
    networks = dict(G=(learner.generator, learner.opt_g), D=(learner.discriminator, learner.opt_d))
    happened = [(0, "pictures", (len(dataset), dataset.size)), (0, "steps", sum(1 for _ in learner.loader()))]
    happened += [(0, f"initial {name}", list(named(network).values())) for name, (network, _) in networks.items()]
    made = {}
    learner.generator.register_forward_hook(lambda m, args, out: made.update(logits=out.logits, fake=out.fake))
    for step in range(steps):
        parts = learner.batches[step]
        happened += [(step, f"triple.{k}", [getattr(p, k) for p in parts]) for k in ("sketch", "target", "grid", "reference", "parts", "reference_parts")]
        log = learner.step(parts=parts)
        happened += [(step, k, x.detach()) for k, x in made.items() if x is not None]
        for name, terms in dict(D=("adv_d",), G=("tr", "rec", "adv_g", "perc", "style")).items():
            network, optimizer = networks[name]
            happened += [(step, f"loss/{k}", log[f"loss/{k}"]) for k in terms]
            happened += [(step, f"gradient of {name}", list(gradients(network).values()))]
            happened += [(step, f"Adam of {name}", [s[k].clone() for s in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq")])]
            happened += [(step, name, list(named(network).values()))]
        happened += [(step, "average", list(named(learner.averaged).values()))]
    return happened


def equal(a, b):
    "But for rounding."
    if isinstance(a, list): return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor): return a.shape == b.shape and torch.allclose(a, b, atol=1e-6)
    return a == b or isinstance(a, float) and math.isclose(a, b, rel_tol=1e-5)


# each field: another value, and where a run first shows it. A new field needs a line here: if none can be written, no step uses it
SHOWS = {
    "model.size": (40, 0, "pictures"),
    "model.channels": ((4, 4, 8, 6), 0, "initial G"),
    "model.strides": ((1, 2, 1, 1), 0, "logits"),
    "model.levels": ((1, 3), 0, "initial G"),
    "model.positions": (4, 0, "logits"),
    "model.blocks": (2, 0, "initial G"),
    "model.bottleneck": (0, 0, "initial G"),
    "model.disc_channels": ((4, 6), 0, "initial D"),
    "model.fusion": ("addition", 0, "initial G"),
    "model.bare": (("decoder",), 0, "initial G"),
    "data.characters": (12, 0, "pictures"),
    "data.appearance": (0.4, 0, "triple.target"),
    "data.warp": (0.3, 0, "triple.grid"),
    "data.control": (4, 0, "triple.grid"),
    "data.padding": ("black", 0, "triple.reference"),
    "data.recipe": ("posed", 0, "triple.sketch"),
    "train.batch": (4, 0, "triple.sketch"),
    "train.steps": (6, 0, "steps"),
    "train.lr_g": (1e-3, 0, "G"),
    "train.lr_d": (1e-3, 0, "D"),
    "train.lr_decay": (0.25, 3, "D"),                  # of 8 steps: slower after the second
    "train.warmup": (2, 0, "D"),
    "train.clip_g": (1e-3, 0, "gradient of G"),
    "train.clip_d": (1e-3, 0, "gradient of D"),
    "train.betas": ((0.5, 0.95), 0, "Adam of D"),      # the first step itself is the gradient's sign
    "train.gan_mode": ("vanilla", 0, "loss/adv_d"),
    "train.features": ("vgg19", 0, "loss/perc"),
    "train.lambda_tr": (1., 0, "gradient of G"),
    "train.lambda_rec": (30., 0, "gradient of G"),
    "train.lambda_adv": (1., 0, "gradient of G"),
    "train.lambda_perc": (0.1, 0, "gradient of G"),
    "train.lambda_style": (0.1, 0, "gradient of G"),
    "train.margin": (4., 0, "loss/tr"),
    "train.fade_tr": (0.5, 1, "gradient of G"),        # nothing has faded at step 0
    "train.ema": (0.05, 0, "average"),                 # the first steps average less than that
}
SHOWS_POSED = {                                        # of these the recipe 'paper' knows nothing, or they are used there in another way
    "data.warp": (0.3, 0, "triple.grid"),
    "data.scale": (0.1, 0, "triple.sketch"),
    "data.rotation": (10., 0, "triple.sketch"),
    "data.shift": (0.1, 0, "triple.sketch"),
    "data.flip": (0., 0, "triple.sketch"),
    "data.cross": (0., 0, "triple.grid"),
    "data.wear": (1., 0, "triple.sketch"),
    "train.margin": (4., 0, "loss/tr"),
    "train.lambda_tr": (1., 0, "gradient of G"),
}
FIELDS = [f"{part}.{f.name}" for part, cls in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig)) for f in fields(cls)]


def test_of_every_field_it_is_said_where_a_run_shows_it(): assert set(FIELDS) == SHOWS.keys() | SHOWS_POSED.keys()


@pytest.fixture(scope="module")
def usual():
    with pytest.MonkeyPatch.context() as m: return {preset: trace(preset, m) for preset in (SMALLEST, POSED)}


@pytest.mark.parametrize("preset, shows, name", [(p, shows, name) for p, shows in ((SMALLEST, SHOWS), (POSED, SHOWS_POSED)) for name in shows],
                         ids=[*SHOWS, *(f"posed {name}" for name in SHOWS_POSED)])
def test_every_field_of_a_preset_shows_in_a_run(preset, shows, name, usual, monkeypatch):
    value, *first = shows[name]
    found = trace(change(preset, **{name.replace(".", "_", 1): value}), monkeypatch)
    differ = [(step, what) for (step, what, a), b in zip(usual[preset], found) if b[:2] != (step, what) or not equal(a, b[2])]
    assert differ and differ[0] == tuple(first), differ[:3]


def test_the_fields_that_only_the_data_knows_reach_the_study_and_the_demo(monkeypatch, tmp_path):
    "How many drawings, and how large."
    preset = change(SMALLEST, model_size=40, data_characters=12)
    def note(name, root=None, split="train", size=None, n=None, *rest, **more): raise Opened(split, size, n)
    for module, start in ((rows, lambda: rows.open_study(rows.Study(preset), [("full", 0)])),
                          (commands, lambda: commands.run_demo(make_parser().parse_args(["demo", "--out", str(tmp_path / "demo")])))):
        monkeypatch.setitem(commands.PRESETS, "TINY", preset)
        monkeypatch.setattr(module, "open_dataset", note)
        with pytest.raises(Opened) as e: start()
        assert e.value.args == ("train", 40, 12)


# --- what is saved ---

def assert_identical(a, b): assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Newest(Callback):
    def after_measured_step(self, learner, log): self.log = dict(log)


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    "A run with everything that can be noted about it."
    out = tmp_path_factory.mktemp("runs") / "run"
    pairs = people.batch([0, 1])
    learner = Learner(SMALLEST, people, out, seed=11, precision="bf16", source={"data": "avatars", "root": "here"}, save_every=3,
                      held_out=(pairs.sketch, pairs.image.flip(0), pairs.image))
    learner.callbacks[1].every, newest = 8, Newest()
    learner.callbacks.append(newest)
    return learner.fit(), newest.log


def test_a_checkpoint_holds_what_its_names_say(run):
    learner, _ = run
    state, preset, tensors = read_checkpoint(learner.out / "last")
    assert sorted(p.name for p in learner.out.glob("step-*")) == ["step-6", "step-8"]
    assert preset == learner.preset == SMALLEST and (state["step"], state["seed"], state["steps"]) == (8, 11, 8) and state["seconds"] > 0
    networks = dict(generator=learner.averaged, generator_raw=learner.generator, discriminator=learner.discriminator)
    for name, network in networks.items(): assert_identical(tensors[name], network.state_dict())
    raw, averaged = tensors["generator_raw"], tensors["generator"]
    assert raw.keys() == averaged.keys() and not any(torch.equal(raw[k], averaged[k]) for k in raw)
    assert "net.0.weight" in tensors["discriminator"]
    for name, optimizer, network in (("optimizer_g", learner.opt_g, learner.generator), ("optimizer_d", learner.opt_d, learner.discriminator)):
        parameters = list(network.parameters())
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in parameters]
        assert len(tensors[name]) == 3 * len(parameters)
        for i, p in enumerate(parameters):
            for key in ("exp_avg", "exp_avg_sq", "step"): assert torch.equal(tensors[name][f"{i}.{key}"], optimizer.state[p][key])
            assert tensors[name][f"{i}.step"] == 8


def test_who_loads_a_run_gets_the_averaged_generator(run, people):
    learner, _ = run
    loaded, (image, sketch, _) = load_generator(learner.out), people.batch([2, 5])
    with torch.no_grad(): fakes = [g(sketch, image).fake for g in (loaded, learner.averaged, learner.generator)]
    assert torch.equal(fakes[0], fakes[1]) and not torch.allclose(fakes[0], fakes[2], atol=1e-4) and loaded.preset == SMALLEST


def test_a_resumed_learner_has_each_state_at_its_place(run, people):
    learner, _ = run
    again = Learner(SMALLEST, people, learner.out, seed=11, precision="bf16")
    again.resume()
    for a, b in ((again.averaged, learner.averaged), (again.generator, learner.generator), (again.discriminator, learner.discriminator)):
        assert_identical(a.state_dict(), b.state_dict())
    for a, b in ((again.opt_g, learner.opt_g), (again.opt_d, learner.opt_d)):
        for p, q in zip(a.param_groups[0]["params"], b.param_groups[0]["params"]):
            assert all(torch.equal(a.state[p][k], b.state[q][k]) for k in ("exp_avg", "exp_avg_sq", "step"))
    assert (again.steps_done, again.seconds) == (8, learner.seconds) and not list(again.loader()), "what is done is done again"


def test_a_run_is_not_resumed_with_another_recipe(run, people):
    learner, _ = run
    with pytest.raises(UserError, match="recipe paper, now posed"):
        Learner(change(SMALLEST, data_recipe="posed"), people, learner.out, seed=11, precision="bf16").resume()


def test_the_config_the_log_and_the_film_say_what_happened(run):
    learner, log = run
    config = json.loads((learner.out / "config.json").read_text())
    assert config.pop("preset") == json.loads((learner.out / "last" / "preset.json").read_text())
    assert config == {"seed": 11, "precision": "bf16", "data": "avatars", "root": "here"}
    lines = [json.loads(line) for line in (learner.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 8]
    assert lines[-1] == pytest.approx({"step": 8} | log, abs=1e-6)
    with torch.no_grad(): fake = learner.averaged(*learner.held_out[:2]).fake
    sketch, reference, truth = learner.held_out
    film = Image.open(learner.out / "samples" / "step-000008.png")
    assert film.tobytes() == image_rows(list(zip(sketch, reference, fake, truth))).tobytes()


def test_the_command_trains_what_its_config_says(tmp_path, monkeypatch):
    "The words of the command line reach the learner."
    monkeypatch.setitem(commands.PRESETS, "TINY", SMALLEST)
    made, plain = [], Learner.__init__
    def note(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        made.append(self)
    monkeypatch.setattr(Learner, "__init__", note)
    words = ["--preset", "TINY", "--data", "avatars", "--steps", "2", "--batch", "4", "--seed", "7", "--precision", "bf16", "--gan-mode", "vanilla",
             "--lr-decay", "--accumulate", "2", "--save-every", "1", "--recipe", "posed"]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    learner, = made
    assert learner.preset == change(SMALLEST, train_steps=2, train_batch=4, train_gan_mode="vanilla", train_lr_decay=0.5,
                                    data_recipe="posed", train_margin=3., train_clip_g=20., train_clip_d=3., model_bare=("reference", "decoder"))
    assert (learner.seed, learner.precision, learner.batches.split[2], len(learner.batches.dataset), learner.batches.dataset.name) == (7, "bf16", 2, 16, "avatars")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["seed"], config["precision"], config["data"], config["root"]) == (7, "bf16", "avatars", None)
    assert config["preset"] == json.loads((tmp_path / "run" / "step-1" / "preset.json").read_text())
    assert astuple(read_checkpoint(tmp_path / "run" / "last")[1]) == astuple(learner.preset)
