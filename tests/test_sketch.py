"""What would bore a reader of 02_sketch: further wrong versions, sizes, mixed precision, gradients, bad input."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refcolor import sketch
from refcolor.data.datasets import open_dataset
from refcolor.show import to_image
from refcolor.sketch import gaussian_blur, luma, random_sigma, xdog


@pytest.fixture(scope="module")
def valid(): return open_dataset("avatars", split="valid", size=64, n=32).batch(range(32))


SQUARE = torch.ones(1, 3, 64, 64)
SQUARE[:, :, 16:48, 16:48] = -0.9
GREYS = torch.linspace(-1, 1, 21).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)


def fill(image):
    "Wrong: the other common form of XDoG, a woodcut."
    g, sigma = luma(image), 0.6 * image.shape[-1] / 64
    D = 21 * gaussian_blur(g, sigma) - 20 * gaussian_blur(g, 1.6 * sigma)
    return 1 + 2 * torch.tanh(10 * (D - 0.4).clamp(max=0))


def test_luma_is_pillows(valid):
    pillow = np.asarray(to_image(valid.image[0]).convert("L")) / 255
    assert np.abs(luma(valid.image[:1])[0, 0].numpy() - pillow).max() <= 1.01 / 255       # it rounds to bytes


def test_a_blur_keeps_the_sum():
    point = torch.zeros(2, 1, 33, 33)
    point[:, :, 16, 16] = 1
    assert torch.allclose(gaussian_blur(point, torch.tensor([1.5, 3.])).sum((1, 2, 3)), torch.ones(2), atol=1e-5)


def test_a_blur_does_not_depend_on_its_neighbours():
    "The obvious code cuts every Gaussian where the widest of the batch is cut."
    alone, beside = sketch._taps(torch.tensor([1.]))[0], sketch._taps(torch.tensor([1., 4.]))[0]
    assert torch.allclose(F.pad(alone, (9, 9)), beside, atol=1e-6)
    x = torch.arange(-12, 13)
    one_radius = torch.softmax(-0.5 * x**2, 0)
    assert (F.pad(alone, (9, 9)) - one_radius).abs().max() > 1e-4


def test_each_sample_has_its_own_pen(valid):
    sigma = torch.tensor([0.8, 0.4, 0.6])
    pens = xdog(valid.image[1:2].expand(3, -1, -1, -1), sigma)
    for s, pen in zip(sigma, pens): assert torch.allclose(xdog(valid.image[1:2], s.item())[0], pen, atol=1e-3)
    ink = (1 - pens).mean((1, 2, 3))
    assert ink[1] < ink[2] < ink[0]


@pytest.mark.parametrize("wrong", [dict(epsilon=0.01), dict(tau=1.05)], ids=str)
def test_flat_parts_stay_white(wrong):
    assert (xdog(GREYS) == 1).all()
    assert xdog(GREYS, **wrong).min() < 0.9, "dark parts fill above ε 0, bright ones above τ 1"


def near(ink): return F.max_pool2d(ink.float(), 3, 1, 1) > 0


def worst_agreement(drawn, true):
    "The less of: the true ink that was drawn, the drawn ink that is true (± a pixel)."
    drawn, true = drawn < 0.25, true < 0.25
    return min((true & near(drawn)).sum() / true.sum(), (drawn & near(true)).sum() / drawn.sum().clamp_min(1))


def test_line_art_comes_back(valid):
    assert worst_agreement(xdog(valid.sketch.expand(-1, 3, -1, -1)), valid.sketch) > 0.95


@pytest.mark.parametrize("wrong", [
    fill, lambda x: torch.full_like(x[:, :1], -1), lambda x: torch.ones_like(x[:, :1]), lambda x: 2 * luma(x) - 1,
    lambda x: xdog(x, tau=1.05)], ids=["filled", "all ink", "blank", "grey", "tau"])
def test_no_other_finds_the_artists_lines(valid, wrong):
    assert worst_agreement(wrong(valid.image), valid.sketch) < 0.95 < worst_agreement(xdog(valid.image), valid.sketch)


def test_the_same_drawing_at_every_resolution(valid):
    "What is learned from lines of 64 pixels must not meet thinner ones at 128, as with σ in pixels."
    large = open_dataset("avatars", split="valid", size=128, n=32).batch(range(32)).image
    def ink(drawn): return (1 - drawn).mean()
    def as_much(sigma_large): return ink(F.avg_pool2d(xdog(large, sigma_large), 2)) / ink(xdog(valid.image)) - 1
    assert abs(as_much(0.6)) < 0.1 < abs(as_much(0.3))


def test_mixed_precision_leaves_it_alone(valid):
    "In bfloat16 two numbers near 1 are at least 1/256 apart: as much as the threshold."
    exact = xdog(valid.image[:4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(xdog(valid.image[:4]), exact)
        g = luma(valid.image[:4])
        D = gaussian_blur(g, 0.6) - 0.98 * gaussian_blur(g, 0.96)
    rounded = 1 + 2 * torch.tanh(100 * (D.float() + 0.01).clamp(max=0))
    assert (rounded - exact).abs().max() > 0.1


def test_gradients_flow_only_near_ink():
    leaf = SQUARE.clone().requires_grad_()
    xdog(leaf).sum().backward()
    assert (leaf.grad[..., 16, 20:44] != 0).all() and (leaf.grad[..., 26:38, 26:38] == 0).all()


def test_the_middle_of_the_range_is_the_default_pen(): assert math.isclose(random_sigma(0.), 0.6)


IMAGE = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize("call,says", [
    (lambda: xdog(IMAGE[0]), "image: expected floating (b, 3, h, w)"),
    (lambda: xdog(IMAGE[:, :1]), "image: expected floating (b, 3, h, w)"),
    (lambda: xdog(IMAGE.byte()), "torch.uint8"),
    (lambda: xdog(torch.linspace(0, 255, 3 * 32 * 32).view(1, 3, 32, 32)), "got 0 to 255"),
    (lambda: xdog(IMAGE * math.nan), "image: expected values in [-1, 1]"),
    (lambda: xdog(IMAGE, sigma=0.), "sigma: expected finite values > 0, got 0"),
    (lambda: xdog(IMAGE, sigma=torch.ones(3)), "sigma: expected a number or (2,)"),
    (lambda: xdog(IMAGE, sigma=40.), "sigma: a blur that reaches"),
    (lambda: xdog(IMAGE, k=1.), "k: expected more than 1"),
    (lambda: xdog(IMAGE, phi=0.), "phi: expected more than 0"),
    (lambda: gaussian_blur(IMAGE, 1.), "x: expected floating (b, 1, h, w)"),
    (lambda: random_sigma(torch.tensor([0., 2.])), "u: expected values in [-1, 1)"),
])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError) as error: call()
    assert says in str(error.value)
