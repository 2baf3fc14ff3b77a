"""09_triplet beyond the lesson: reach, other warps, torch's own triplet loss, who receives the gradient, empty images, bad input."""
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastcore.test import test_close as close, test_eq as equal, test_fail as fails
from scipy.spatial import cKDTree

from refcolor.core import PAPER
from refcolor.scft import SCFT
from refcolor.tps import pixel_centres, sampling_grid
from refcolor.triplet import correspondence, part_loss, triplet_loss

IDENTITY = pixel_centres(3, 3)[None]
SHIFT = IDENTITY + torch.tensor([2 / 3, 0.])             # a column further right: 4 is at 3
GRIDS = torch.cat([SHIFT, IDENTITY])
torch.manual_seed(0)
NOISE = 8 * torch.randn(1, 9, 9)


def S(a, b): return a @ b.mT / a.shape[-1] ** 0.5


def slope_of(loss, at): return torch.autograd.grad(loss, at)[0]


def true_places(fine, p):
    "By brute force: the reference position that shows each sketch position, and whether one does."
    side = len(fine)
    distance, pixel = cKDTree(fine.reshape(-1, 2)).query(pixel_centres(p, p).reshape(-1, 2))
    return (pixel // side * p // side) * p + pixel % side * p // side, distance < 5 / side


def test_three_quarters_of_a_cell_loses_as_little_as_it_lets_in():
    torch.manual_seed(0)
    control = PAPER.data.warp * (torch.rand(6, 9, 2) * 2 - 1)
    truth, exists = map(np.stack, zip(*(true_places(g, 16) for g in sampling_grid(control, 512, 512))))
    def errors(reach):
        valid = correspondence(sampling_grid(control, 64, 64), 256, reach).valid.numpy()
        return valid[exists].mean(), exists[valid].mean()
    assert min(errors(0.75)) > 0.95 > max(min(errors(0.5)), min(errors(1.2)))
    index, valid, _ = correspondence(sampling_grid(control, 64, 64), 256)
    index, both = index.numpy(), valid.numpy() & exists
    off = np.maximum(abs(index // 16 - truth // 16), abs(index % 16 - truth % 16))[both]
    assert (off == 0).mean() > 0.85 and off.max() <= 1


def test_a_quarter_turn_is_a_permutation_and_nothing_moves_where_nothing_is_moved():
    still = correspondence(pixel_centres(16, 16)[None], 16)
    equal(still.index[0].tolist(), list(range(16)))
    turned = correspondence(pixel_centres(16, 16).rot90(1)[None], 16)
    equal(turned.index[0, torch.arange(16).view(4, 4).rot90(1).flatten()].tolist(), list(range(16)))
    assert still.valid.all() and turned.valid.all() and turned.inside.all()


def test_positions_of_oblong_pictures():
    found = correspondence(pixel_centres(16, 32)[None] + torch.tensor([2 / 8, 0.]), 32)     # 4×8: one of eight columns
    equal(found.index[0].view(4, 8)[1].tolist()[1:], list(range(8, 15)))
    equal(found.valid[0].view(4, 8)[1].tolist(), [False] + [True] * 7)


def by_torch(q, k, grid, margin):
    "torch's own loss with −S for the distance, every triplet written out."
    index, valid, inside = correspondence(grid, q.shape[1])
    images = []
    for b in range(len(q)):
        queries = []
        for i in valid[b].nonzero().flatten():
            others = [m for m in inside[b].nonzero().flatten().tolist() if m != index[b, i]]
            anchor, positive = (v.expand(len(others), -1) for v in (q[b, i], k[b, index[b, i]]))
            queries.append(F.triplet_margin_with_distance_loss(anchor, positive, k[b, others], margin=margin,
                                                               distance_function=lambda a, c: -(a * c).sum(-1) / a.shape[-1] ** 0.5))
        images.append(torch.stack(queries).mean())
    return torch.stack(images).mean()


@pytest.mark.parametrize("margin", (12., 3.))
def test_torch_s_own_triplet_loss_agrees(margin):
    torch.manual_seed(1)
    q, k = 3 * torch.randn(2, 9, 5), 3 * torch.randn(2, 9, 5)
    close(triplet_loss(S(q, k), GRIDS, margin), by_torch(q, k, GRIDS, margin), 1e-4)


def test_a_row_is_compared_with_itself_only():
    raised = NOISE + 10 * torch.arange(9.)[:, None]
    close(triplet_loss(raised, SHIFT), triplet_loss(NOISE, SHIFT), 1e-4)
    def another_row_s_keys(logits, grid):
        index, valid, inside = correspondence(grid, 9)
        push = (logits.roll(1, 1) - logits.gather(-1, index[..., None]) + 12).relu() * inside[:, None]
        return (push.mean(-1) * valid).mean()
    assert abs(another_row_s_keys(raised, SHIFT) - another_row_s_keys(NOISE, SHIFT)) > 1
    assert triplet_loss(50 * torch.eye(9)[None], IDENTITY) >= 0
    equal(triplet_loss(torch.full((1, 9, 9), 7.), IDENTITY, margin=3.).item(), 3.)


def test_an_image_that_left_nothing_behind_says_nothing_and_half_precision_comes_in():
    logits = torch.cat([NOISE, NOISE]).requires_grad_()
    gone = torch.cat([SHIFT, IDENTITY + 5])
    close(triplet_loss(logits, gone), triplet_loss(NOISE, SHIFT) / 2, 1e-5)
    slope = slope_of(triplet_loss(logits, gone), logits)
    assert slope.isfinite().all() and not slope[1].any() and slope[0].any()
    equal(triplet_loss(NOISE.bfloat16(), SHIFT).dtype, torch.float32)


LOSSES = {                                              # trains query and key alone; sees the warp
    "Eq. 6": (lambda q, k, v, grid: triplet_loss(S(q, k), grid), True, True),
    "flattened": (lambda q, k, v, grid: F.triplet_margin_loss(q.flatten(1), k.flatten(1), v.flatten(1), margin=12.), False, False),
    "S(Q, K) − S(Q, V)": (lambda q, k, v, grid: (S(q, k) - S(q, v) + 12.).relu().mean(), False, False),
    "values as keys": (lambda q, k, v, grid: triplet_loss(S(q, v), grid), False, True),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_reaches_queries_and_keys_and_not_values(name):
    loss, trains_both, sees_the_warp = LOSSES[name]
    torch.manual_seed(0)
    fusion, v_s, v_r = SCFT(6), torch.randn(2, 9, 6), torch.randn(2, 9, 6)
    vectors = fusion.w_q(v_s), fusion.w_k(v_r), fusion.w_v(v_r)
    loss(*vectors, GRIDS).backward(retain_graph=True)
    grads = [w.weight.grad for w in (fusion.w_q, fusion.w_k, fusion.w_v)]
    assert ([g is not None and bool(g.any()) for g in grads] == [True, True, False]) == trains_both
    assert bool((loss(*vectors, GRIDS) - loss(*vectors, GRIDS.roll(1, 0))).abs() > 1e-5) == sees_the_warp


def test_a_louder_match_is_a_better_one_and_a_distance_for_S_pulls_it_back():
    def louder(loss, factor):
        keys = torch.eye(9)[None].clone()
        keys[0, 4, 4] = factor                          # the key that belongs to query 4
        return loss(torch.eye(9)[None], keys).item()
    def dot(q, k): return triplet_loss(S(q, k), IDENTITY)
    def distance(q, k): return triplet_loss(-torch.cdist(q, k), IDENTITY)
    assert louder(dot, 8.) < louder(dot, 4.) < louder(dot, 1.) and louder(distance, 8.) > louder(distance, 1.)


def test_bad_input_is_one_sentence():
    parts = torch.zeros(2, 4, 4, dtype=torch.uint8)
    for make, words in ((partial(correspondence, IDENTITY, 12), "n: 12 positions do not form a grid"),
                        (partial(correspondence, IDENTITY, 36), "n: 36 positions"),          # finer than the grid
                        (partial(correspondence, IDENTITY[..., 0], 9), "grid: expected floats"),
                        (partial(triplet_loss, NOISE[0], SHIFT), "logits: expected (1, n, n)"),
                        (partial(triplet_loss, NOISE, GRIDS), "logits: expected (2, n, n)"),
                        (partial(triplet_loss, torch.zeros(1, 8, 8), SHIFT), "n: 8 positions"),
                        (partial(part_loss, NOISE, parts, parts), "logits: expected (2, n, m)")):
        fails(make, contains=words)
