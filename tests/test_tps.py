"""What would bore a reader of 03_tps: further wrong versions, gradients, mixed precision, bad input."""
import math

import pytest
import torch
import torch.nn.functional as F

from refcolor import tps
from refcolor.tps import ThinPlateSpline, bending_energy, control_grid, invert_warp, pixel_centres, sampling_grid, warp

TENT = torch.tensor([[[0., 0], [-1, -1], [1, -1], [-1, 1], [1, 1]]])


def uniform(*shape, seed=0, **options):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), **options) * 2 - 1


POINTS = control_grid(3).double().expand(4, -1, -1)
VALUES = POINTS + 0.3 * uniform(4, 9, 2, dtype=torch.float64)
DRAWS = 0.3 * uniform(1024, 9, 2, seed=1)
IMAGES = F.interpolate(uniform(4, 3, 8, 8, seed=2), 64, mode="bilinear")


class ToDestinations(ThinPlateSpline):
    "Wrong: the kernel between control points and where they go."
    @classmethod
    def fit(cls, points, values):
        matrix = tps._system(points)
        matrix[:, :-3, :-3] = tps._kernel(points, values)
        rhs = torch.cat([values, values.new_zeros(len(values), 3, 2)], 1)
        return cls(values, torch.linalg.solve(matrix, rhs))


def fails(claim, *wrong):
    try: claim(*wrong)
    except AssertionError: return True
    return False


def thin_plate(spline):
    assert torch.allclose(spline(POINTS), VALUES, atol=1e-9)
    kernel = tps._kernel(POINTS, spline.points)
    assert torch.allclose(kernel, kernel.mT, atol=0.01)
    w, centres = spline.weights[:, :-3], spline.points
    P = torch.cat([torch.ones_like(centres[..., :1]), centres], -1)
    assert (P.mT @ w).abs().max() < 1e-9


def test_the_bumps_cancel_at_their_centres():
    thin_plate(ThinPlateSpline.fit(POINTS, VALUES))
    assert fails(thin_plate, ToDestinations.fit(POINTS, VALUES))


def energy_within(spline, reach, step=0.02):
    "Bending energy of one spline inside [-reach, reach]², from second differences."
    n = round(2 * reach / step) + 1
    t = torch.linspace(-reach, reach, n, dtype=torch.float64)
    v = spline(torch.stack(torch.meshgrid(t, t, indexing="xy"), -1).view(1, -1, 2)).view(n, n, 2)
    xx = v[1:-1, 2:] - 2 * v[1:-1, 1:-1] + v[1:-1, :-2]
    yy = v[2:, 1:-1] - 2 * v[1:-1, 1:-1] + v[:-2, 1:-1]
    xy = (v[2:, 2:] - v[2:, :-2] - v[:-2, 2:] + v[:-2, :-2]) / 4
    return ((xx**2 + 2 * xy**2 + yy**2).sum() / step**2).item()


def test_energy_is_the_integral_over_the_plane():
    "The sums over larger and larger squares approach the formula from below; a wrong kernel's never settle."
    spline, wrong = (kind.fit(POINTS[:1], VALUES[:1]) for kind in (ThinPlateSpline, ToDestinations))
    closed = bending_energy(spline).item()
    sums, wrong_sums = ([energy_within(f, reach) for reach in (1, 2, 4)] for f in (spline, wrong))
    assert sums[0] < sums[1] < sums[2] < closed < 1.05 * sums[2]
    assert wrong_sums[2] > 1.5 * closed and all(w > s for w, s in zip(wrong_sums, sums))


def test_gradients_reach_points_values_pictures_and_displacements():
    p, v = POINTS.clone().requires_grad_(), VALUES.clone().requires_grad_()
    ThinPlateSpline.fit(p, v)(uniform(4, 50, 2, dtype=torch.float64)).square().sum().backward()
    picture, d = IMAGES[:2].clone().requires_grad_(), DRAWS[:2].clone().requires_grad_()
    warp(picture, sampling_grid(d, 64, 64)).square().mean().backward()
    for leaf in (p, v, picture, d): assert leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0
    assert (d.grad.abs().sum((1, 2)) > 0).all()
    zero = torch.zeros(1, 1, 2, requires_grad=True)
    tps._kernel(zero, torch.zeros(1, 1, 2)).sum().backward()
    assert zero.grad.isfinite().all(), "0 · log 0: NaN without the clamp"


def identity(centres):
    stays = warp(IMAGES, centres(64, 64).expand(4, -1, -1, -1))
    assert torch.allclose(stays, IMAGES, atol=1e-5)


def corners(h, w):
    return torch.stack(torch.meshgrid(torch.linspace(-1, 1, w), torch.linspace(-1, 1, h), indexing="xy"), -1)


def test_no_displacement_no_change():
    identity(lambda h, w: sampling_grid(torch.zeros(1, 9, 2), h, w)[0])
    assert fails(identity, corners), "align_corners=True shrinks the picture by a pixel"
    assert fails(identity, lambda h, w: pixel_centres(h, w).flip(-1)), "(y, x) transposes it"


def test_shift_moves_the_picture_to_the_left():
    numbers = torch.arange(64.).view(1, 1, 8, 8) / 64
    grid = sampling_grid(torch.tensor([2 / 8, 2 / 8]).expand(1, 9, 2), 8, 8)
    assert torch.allclose(warp(numbers, grid)[0, 0, :7, :7], numbers[0, 0, 1:, 1:], atol=1e-5)


def test_half_the_displacement_half_the_way():
    shift, half = (sampling_grid(d, 64, 48) - pixel_centres(64, 48) for d in (DRAWS[:8], DRAWS[:8] / 2))
    assert torch.allclose(half, shift / 2, atol=1e-6)


def test_a_quarter_turn_is_exact():
    p = control_grid(3)
    grid = sampling_grid((torch.stack([-p[:, 1], p[:, 0]], -1) - p)[None], 64, 64)
    assert torch.allclose(warp(IMAGES[:1], grid, "border"), IMAGES[:1].rot90(1, (2, 3)), atol=1e-3)


@pytest.mark.parametrize("padding,value", [("black", -1), ("white", 1)])
def test_outside_is_one_colour(padding, value):
    far = torch.full((1, 4, 4, 2), 3.)
    assert (warp(IMAGES[:1], far, padding) == value).all()
    assert F.grid_sample(IMAGES[:1], far, align_corners=False).unique() == 0, "the plain call: mid-grey"


def test_moves_everywhere_and_both_ways():
    "Two points that slide along the diagonal, as in published code, leave half a picture alone, and x tells y."
    two = torch.zeros_like(DRAWS)
    two[:, [0, 4]] = DRAWS[:, :2, :1].expand(-1, -1, 2)
    def least_motion(d): return (sampling_grid(d, 32, 32) - pixel_centres(32, 32)).square().sum(-1).mean(0).sqrt().min() * 32
    def x_tells_y(d): return torch.corrcoef((sampling_grid(d, 32, 32)[:, 16, 16] - pixel_centres(32, 32)[16, 16]).T)[0, 1].abs()
    assert least_motion(DRAWS) > 3 > least_motion(two)
    assert x_tells_y(DRAWS) < 0.2 < x_tells_y(two)


def test_mixed_precision_leaves_the_grid_alone():
    "bfloat16 keeps eight bits: at 256 pixels that is a visible shake."
    with torch.autocast("cpu", dtype=torch.bfloat16):
        careful = sampling_grid(DRAWS[:8], 64, 64)
        rounded = (DRAWS[:8].mT @ tps._warp_basis(3, 64, 64, torch.device("cpu"))).float()
    grid = sampling_grid(DRAWS[:8], 64, 64)
    assert torch.equal(careful, grid)
    rounded = rounded.view(8, 2, 64, 64).permute(0, 2, 3, 1) + pixel_centres(64, 64)
    assert (rounded - grid).abs().max() > 1e-4


def test_a_basis_made_without_gradients_serves_training():
    tps._warp_basis.cache_clear()
    with torch.inference_mode(): sampling_grid(DRAWS[:1], 16, 16)
    d = DRAWS[:1].clone().requires_grad_()
    sampling_grid(d, 16, 16).square().sum().backward()
    assert d.grad.abs().sum() > 0


def test_found_is_what_the_reference_shows():
    "The spline takes each found position back to its point; of what is not found, none lies inside."
    points = uniform(8, 200, 2, seed=3)
    where, found = invert_warp(sampling_grid(DRAWS[:8], 64, 48), points)
    spline = ThinPlateSpline.fit(control_grid(3).expand(8, -1, -1), control_grid(3) + DRAWS[:8])
    off = (spline(where) - points).norm(dim=-1) * 32
    assert off[found].mean() < 0.02 and off[found].max() < 0.5, "pixels"
    assert 0.8 < found.float().mean() < 1
    assert torch.equal(found, (where.abs() <= 1).all(-1))


LINE = torch.stack([torch.linspace(0.1, 0.9, 5), 0.3 + 0.7 * torch.linspace(0.1, 0.9, 5)], -1)[None]
DOUBLE = TENT.clone()
DOUBLE[0, 1] = DOUBLE[0, 0] + 1e-7


def test_a_solver_alone_does_not_notice():
    rhs = torch.cat([torch.rand(1, 5, 2), torch.zeros(1, 3, 2)], 1).double()
    assert torch.linalg.solve(tps._system(LINE.double()), rhs).abs().max() > 1e6


GRID = sampling_grid(DRAWS[:4], 8, 8)


@pytest.mark.parametrize("call,says", [
    (lambda: ThinPlateSpline.fit(LINE, LINE), "points: all control points lie on one line"),
    (lambda: ThinPlateSpline.fit(DOUBLE, TENT), "points: two control points"),
    (lambda: ThinPlateSpline.fit(TENT[:, :2], TENT[:, :2]), "points: expected"),
    (lambda: ThinPlateSpline.fit(TENT * math.nan, TENT), "points: some are NaN"),
    (lambda: ThinPlateSpline.fit(TENT.int(), TENT), "points: not floating"),
    (lambda: ThinPlateSpline.fit(TENT, TENT[:, :4]), "values: expected (1, 5, 2)"),
    (lambda: ThinPlateSpline.fit(TENT, TENT)(TENT[0]), "xy: expected"),
    (lambda: control_grid(1), "side: expected"),
    (lambda: pixel_centres(0, 4), "h and w"),
    (lambda: sampling_grid(torch.zeros(1, 8, 2), 4, 4), "displacement: expected"),
    (lambda: warp(IMAGES[0], GRID), "image: expected floating (b, c, h, w)"),
    (lambda: warp(IMAGES.byte(), GRID), "image: expected floating"),
    (lambda: warp(IMAGES * 127.5, GRID), "image: expected values in [-1, 1]"),
    (lambda: warp(IMAGES[:3], GRID), "grid: expected (3, h, w, 2)"),
    (lambda: warp(IMAGES, GRID, "zeros"), "padding: expected"),
])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError) as error: call()
    assert says in str(error.value)
