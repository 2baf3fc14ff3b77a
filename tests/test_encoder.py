"""The encoder: levels, gradients, norms, padding, the tint that a linear reading finds, bad input."""
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refcolor.core import PAPER, TINY, ModelConfig
from refcolor.data.datasets import open_dataset
from refcolor.encoder import Encoder, conv_block, gather_levels, init_weights
from refcolor.generator import Generator

close = torch.testing.assert_close
ALL = TINY.model.used_levels


@pytest.fixture(scope="module")
def valid(): return open_dataset("avatars", split="valid", size=64, n=32)


@pytest.fixture(scope="module")
def batch(valid): return valid.batch(range(32))


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return Encoder(3, TINY.model)


def with_norm(make, encoder):
    "The same weights with another norm between convolution and LeakyReLU."
    encoder = deepcopy(encoder)
    for block in encoder.blocks: block[1] = make(block[1].num_features)
    return encoder.requires_grad_(False)


def wrapped_around(encoder):
    encoder = deepcopy(encoder).requires_grad_(False)
    for block in encoder.blocks:
        old = block[0]
        block[0] = nn.Conv2d(old.in_channels, old.out_channels, 3, old.stride, 1, bias=False, padding_mode="circular")
        block[0].weight = old.weight
    return encoder


def test_a_block_halves_and_rounds_up():
    assert conv_block(3, 8, stride=2)(torch.randn(2, 3, 10, 7)).shape == (2, 8, 5, 4)
    plain, bare = conv_block(3, 8), conv_block(3, 8, norm=False)
    assert plain[0].bias is None and bare[0].bias is not None             # a bias before a norm would be dead weight
    assert isinstance(plain[1], nn.InstanceNorm2d) and plain[1].affine
    assert bare[2](torch.tensor(-1.)) == torch.tensor(-0.2)


@torch.no_grad()
def test_only_the_chosen_levels_in_their_order(encoder, batch):
    maps = encoder(batch.image[:2])
    both = gather_levels(maps, (4, 0), 16)                                                       # 64 + 16 channels
    assert torch.equal(both[..., :64], gather_levels(maps, (4,), 16)) and torch.equal(both[..., 64:], gather_levels(maps, (0,), 16))


def test_a_grid_finer_than_the_map_repeats_values():
    f = torch.tensor([[[[0., 100.], [200., 300.]]]])
    assert (gather_levels([f], (0,), 4)[0, :, 0].view(4, 4)[:2, 2:] == 100).all()
    with torch.no_grad(): maps = Encoder(3, PAPER.model)(torch.zeros(1, 3, 64, 64))
    assert gather_levels(maps, (5, 7, 9), 32).shape == (1, 1024, 448)                            # another reading of the paper


@pytest.mark.parametrize("levels, reached", [((1, 3), [0, 1, 2, 3]), (ALL, [0, 1, 2, 3, 4, 5])])
def test_gradient_reaches_the_blocks_up_to_the_last_chosen_level(levels, reached, encoder, batch):
    gather_levels(encoder(batch.image[:2]), levels, 16).square().sum().backward()
    assert [i for i, block in enumerate(encoder.blocks) if block[0].weight.grad is not None] == reached


def test_sketch_and_reference_share_no_encoder(batch):
    "What the sketch's encoder learns leaves the reference's alone."
    net = Generator(TINY.model)
    gather_levels(net.sketch_encoder(batch.sketch[:2]), ALL, 16).square().sum().backward()
    assert all(p.grad is not None for p in net.sketch_encoder.parameters())
    assert all(p.grad is None for p in net.reference_encoder.parameters())


def test_weights_at_the_start():
    torch.manual_seed(0)
    net, head = Encoder(3, PAPER.model, bare=True), nn.Linear(300, 200)
    init_weights(net), init_weights(head)
    weights = torch.cat([block[0].weight.flatten() for block in net.blocks[1:]])
    assert abs(weights.mean()) < 1e-4 and abs(weights.std() - 0.02) < 1e-4
    assert abs(head.weight.std() - 0.02) < 1e-3 and (head.bias == 0).all()
    assert all((b[1].weight == 1).all() and (b[1].bias == 0).all() for b in net.blocks[1:])
    # the bare block keeps the signal's power: 27 products, and a LeakyReLU that keeps 0.52
    first = net.blocks[0][0]
    assert abs(first.weight.std() - (2 / (27 * 1.04)) ** 0.5) < 0.03 and (first.bias == 0).all()
    maps = net(torch.randn(1, 3, 64, 64))
    assert all(0.1 < f.std() < 10 for f in maps)


@torch.no_grad()
def test_with_a_norm_the_scale_of_the_weights_does_not_matter(batch):
    "The small rest comes from the 1e-5 that the norm adds to the variance."
    torch.manual_seed(0)
    net = Encoder(3, PAPER.model)
    init_weights(net)
    x = F.interpolate(batch.image[:1], size=128, mode="bilinear")
    before = net(x)[-1]
    for block in net.blocks: block[0].weight.mul_(10)
    assert (net(x)[-1] - before).norm() < 0.05 * before.norm()


def test_a_bias_in_front_of_the_norm_is_dead_weight(batch):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
    F.leaky_relu(norm(conv(batch.image)), 0.2).square().sum().backward()
    assert conv.bias.grad.abs().max() < 1e-4 * conv.weight.grad.abs().max()


@torch.no_grad()
def test_more_levels_see_more_and_fewer_positions_look_alike(encoder, batch):
    def alike(levels):
        v = gather_levels(encoder(batch.image), levels, 16)
        v = F.normalize(v - v.mean((0, 1)), dim=-1)
        return (v @ v.mT > 0.5).float().mean()
    assert alike((0,)) > 1.5 * alike(ALL)


@pytest.mark.parametrize("level, side", [*enumerate([3, 5, 7, 11, 15, 23])])
def test_receptive_fields(level, side, encoder, batch):
    x = batch.image[4:5].clone().requires_grad_()
    f = with_norm(lambda c: nn.Identity(), encoder)(x)[level]
    f[0, :, f.shape[2] // 2, f.shape[3] // 2].sum().backward()
    assert (x.grad.abs().sum(1)[0] > 0).any(0).sum() == side


@torch.no_grad()
def test_inside_the_picture_the_norm_hides_scale_and_offset(encoder, batch):
    "So a float picture in 0…255 cannot be refused by its features; a bare first block would tell."
    x, wrapped = batch.image[4:5], wrapped_around(encoder)
    right, wrong = wrapped(x)[0], wrapped((x + 1) * 127.5)[0]
    assert (wrong - right).norm() < 0.01 * right.norm()
    shift = torch.tensor([0.4, 0, -0.4]).view(1, 3, 1, 1)
    def change(net):
        plain, tinted = (gather_levels(net(y), ALL, 16) for y in (x / 2, x / 2 + shift))
        return ((tinted - plain).norm(dim=-1) / plain.norm(dim=-1).mean()).max()
    assert change(wrapped) < 1e-4 and change(encoder) > 0.1 and change(Encoder(3, TINY.model, bare=True)) > 0.1


def probe(a, y, a_test, y_test):
    "R²: the share of y_test's variance that the least-squares reading of a explains (with a little ridge)."
    mean, std = a.mean(0), a.std(0) + 1e-9
    a, a_test = (F.pad((t - mean) / std, (0, 1), value=1.).double() for t in (a, a_test))
    read = a_test @ torch.linalg.solve(a.T @ a + 1e-2 * len(a) * torch.eye(a.shape[1]), a.T @ y.double())
    return 1 - ((read - y_test) ** 2).mean().item() / ((y_test - y.mean(0)) ** 2).mean().item()


def test_the_probe_reads_what_is_there_and_nothing_from_noise():
    torch.manual_seed(0)
    a, noise, readable = torch.randn(1280, 50), torch.randn(1280, 50), torch.randn(50, 3)
    assert probe(a[:1024], a[:1024] @ readable, a[1024:], a[1024:] @ readable) > 0.999
    assert probe(noise[:1024], a[:1024] @ readable, noise[1024:], a[1024:] @ readable) < 0.05


@torch.no_grad()
def test_the_tint_can_be_read_where_the_first_block_is_bare(valid, batch):
    "Drawings in random colours, tinted by ±50 grey levels and clipped; read from the hair's vectors."
    rng, labels = np.random.default_rng(0), valid.part_labels
    colours = lambda n, low, high: torch.from_numpy(rng.uniform(low, high, (n, 3)) / 127.5).float()
    def repaint(index):
        x, parts, tint = batch.image[index], batch.parts[index], colours(len(index), -50, 50)
        for label in labels.values():
            colour = colours(len(index), 20, 255) - 1
            if label == labels["hair"]: hair = (colour + tint).clamp(-1, 1)
            x = torch.where((parts == label)[:, None], colour[..., None, None], x)
        return (x + tint[..., None, None]).clamp(-1, 1), hair, tint
    indices = rng.integers(0, 24, 288), rng.integers(24, 32, 64)                   # other drawings in the test
    sets = [repaint(index) for index in indices]
    def hair_vectors(net, x, index):
        inside = F.adaptive_avg_pool2d((batch.parts[index] == labels["hair"])[:, None].float(), 16).flatten(1)
        inside = (inside == inside.amax(1, keepdim=True)).float()
        v = torch.cat([gather_levels(net(y), ALL, 16) for y in x.split(64)])
        return (v * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
    def score(bare):
        torch.manual_seed(0)
        net = Encoder(3, TINY.model, bare=bare)
        init_weights(net)
        a, a_test = (hair_vectors(net, s[0], index) for s, index in zip(sets, indices))
        return [probe(a, sets[0][k], a_test, sets[1][k]) for k in (1, 2)]
    (hair, tint), (hair_bare, tint_bare) = score(False), score(True)
    assert min(hair, hair_bare) > 0.8                     # the palette: a difference to paper and ink that no norm removes
    assert tint < 0.3 and tint_bare > tint + 0.2          # the tint moves paper and ink along


@pytest.mark.parametrize("message, broken", {
    "(b, 1, h, w), got torch.float32 (2, 3, 64, 64)": lambda e: e(torch.zeros(2, 3, 64, 64)),
    "x: expected floating (b, 1, h, w)": lambda e: e(torch.zeros(1, 64, 64)),
    "got torch.uint8": lambda e: e(torch.zeros(2, 1, 64, 64).byte()),
    "more than 4 pixels": lambda e: e(torch.zeros(2, 1, 4, 4)),
    "from 0 to 5, got (0, 6)": lambda e: gather_levels([V] * 6, (0, 6), 16),
    "from 0 to 5, got (-1,)": lambda e: gather_levels([V] * 6, (-1,), 16),
    "levels": lambda e: gather_levels([V] * 6, (), 16),
    "positions: expected at least 1": lambda e: gather_levels([V], (0,), 0),
    "c_in, c_out, stride: expected at least 1": lambda e: conv_block(3, 0),
    "2 channels, but 1 strides": lambda e: Encoder(3, ModelConfig(channels=(16, 16), strides=(1,))),
    "std: expected a positive number": lambda e: init_weights(e, std=0),
}.items(), ids=lambda x: x if isinstance(x, str) else "")
def test_bad_input_is_refused_by_name(message, broken):
    with pytest.raises(ValueError) as error: broken(Encoder(1, TINY.model))
    assert message in str(error.value)


V = torch.zeros(1, 3, 16, 16)
