"""PatchGAN: what its lesson need not show. Bad input, the start, and wrong versions that look like ours."""
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refcolor.core import PAPER, SMALL, TINY
from refcolor.data.datasets import open_dataset
from refcolor.discriminator import PatchGAN, map_size

NARROW = (16, 32)      # patches of 16 pixels, 2 apart, the first from -5 on


@pytest.fixture(scope="module")
def pairs():
    batch = open_dataset("avatars", split="valid", size=64, n=32).batch(range(16))
    return batch.image, batch.sketch


def seeded(channels=NARROW, std=0.1, seed=0):
    torch.manual_seed(seed)
    return PatchGAN(channels, std)


@torch.no_grad()
def scores(D, image, sketch): return D(image, sketch)


@pytest.mark.parametrize("change, says", [
    (lambda x, s: (s, s), r"image: expected floating \(b, 3, h, w\)"),
    (lambda x, s: ((x * 127).byte(), s), r"got torch.uint8 \(16, 3, 64, 64\)"),
    (lambda x, s: (x, x), r"sketch: expected floating \(b, 1, h, w\)"),
    (lambda x, s: (x[:4], s), "sketch: expected the image's batch and size"),
    (lambda x, s: (x, s[..., :32]), r"size \(16, 64, 64\), got \(16, 64, 32\)"),
    (lambda x, s: (x[..., :4], s[..., :4]), "are too few, no score is left"),
])
def test_a_pair_that_does_not_fit_is_refused(pairs, change, says):
    with pytest.raises(ValueError, match=says): seeded()(*change(*pairs))


@pytest.mark.parametrize("make", [PatchGAN, lambda channels: map_size(64, channels)])
@pytest.mark.parametrize("channels", [(), (64, 0)])
def test_widths_are_needed(make, channels):
    with pytest.raises(ValueError, match="channels: expected one or more widths"): make(channels)


@pytest.mark.parametrize("channels", [PAPER.model.disc_channels, NARROW, (8,)])
def test_the_smallest_picture_gives_one_score(channels):
    "`map_size` agrees with the network where it matters most; PAPER judges 24 pixels of its 70."
    side = next(n for n in range(1, 99) if map_size(n, channels) == 1)
    assert scores(PatchGAN(channels), torch.zeros(1, 3, side, side), torch.zeros(1, 1, side, side)).numel() == 1
    with pytest.raises(ValueError, match="too few"):
        PatchGAN(channels)(torch.zeros(1, 3, side - 1, side), torch.zeros(1, 1, side - 1, side))
    if channels == PAPER.model.disc_channels: assert side == 24


def test_a_single_hidden_layer_sees_seven_pixels():
    image = torch.rand(1, 3, 32, 32).requires_grad_()
    slope, = torch.autograd.grad(PatchGAN((8,))(image, torch.zeros(1, 1, 32, 32))[0, 0, 15, 15], image)
    assert [len(slope.abs().amax((0, 1, d)).nonzero()) for d in (2, 3)] == [7, 7]


@pytest.mark.parametrize("preset", [PAPER, SMALL, TINY], ids=lambda p: p.name)
def test_the_start_is_alive(pairs, preset):
    D = seeded(preset.model.disc_channels, 0.02)
    for conv in D.net[::2]:
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.06) and not conv.bias.any()
    assert scores(D, *pairs).std() > 1e-3
    (D(*pairs) - 1).square().mean().backward()
    assert all(p.grad.any() for p in D.parameters())


class Mean(PatchGAN):
    "One verdict, with fewer weights than a linear layer."
    def forward(self, image, sketch): return super().forward(image, sketch).mean((2, 3), keepdim=True)


def moves_along(D, image, sketch):
    "Whether the map moves by one score if the picture moves by one stride, where no border is seen."
    here, there = scores(D, image, sketch), scores(D, image.roll((2, 2), (2, 3)), sketch.roll((2, 2), (2, 3)))
    return here.shape[-1] > 20 and torch.allclose(there[..., 10:-8, 10:-8], here[..., 9:-9, 9:-9], atol=1e-4)


def normed(norm, channels, std, first=True, seed=0):
    D, layers = seeded(channels, std, seed), []
    for k, m in enumerate(D.net):
        hidden = isinstance(m, nn.Conv2d) and m.out_channels > 1 and (first or k)
        layers += [m, norm(m.out_channels)] if hidden else [m]
    D.net = nn.Sequential(*layers)
    return D


def test_the_map_moves_with_the_picture(pairs):
    assert moves_along(seeded(), *pairs)
    torch.manual_seed(0)
    assert not moves_along(Mean(NARROW, 0.1), *pairs)
    assert not moves_along(normed(nn.InstanceNorm2d, NARROW, 0.1), *pairs)


@pytest.mark.parametrize("seed", range(3))
def test_only_a_norm_on_the_first_convolution_hides_a_tint(pairs, seed):
    image, sketch = pairs[0][:4], pairs[1][:4]
    tint = torch.tensor([0.3, -0.3, 0.1]).view(3, 1, 1)
    def change(D):
        plain, tinted = scores(D, 0.6 * image, sketch), scores(D, 0.6 * image + tint, sketch)
        return (tinted - plain).square().mean().sqrt() / plain.std()
    wide, norm = PAPER.model.disc_channels, nn.InstanceNorm2d
    assert change(seeded(wide, 0.02, seed)) > 0.2
    assert change(normed(norm, wide, 0.02, first=False, seed=seed)) > 0.2
    assert change(normed(norm, wide, 0.02, seed=seed)) < 0.2


def test_no_sigmoid_at_the_end(pairs):
    "Twice the last layer, twice the scores; and a confident real patch may cost less than log(1 + 1/e)."
    def linear(D):
        double = copy.deepcopy(D)
        for p in double.last.parameters(): p.data.mul_(2)
        return torch.allclose(scores(double, *pairs), 2 * scores(D, *pairs), rtol=1e-4, atol=1e-5)
    def floor(D):
        D.last.bias.data.fill_(50.)
        return F.softplus(-scores(D, *pairs)).mean().item()
    def make(squashed):
        D = seeded()
        D.last = D.net[-1]
        if squashed: D.net.append(nn.Sigmoid())
        return D
    ours, squashed = make(False), make(True)
    assert linear(ours) and not linear(squashed)
    assert floor(ours) < 1e-6 and floor(squashed) == pytest.approx(math.log(1 + math.exp(-1)))
