"""04_augment beyond the lesson: the configuration is obeyed, wrong triples, draws, poses, correspondence, bad input."""
import numpy as np
import pytest
import torch
from fastcore.test import test_close as close, test_eq as equal, test_fail as fails
from scipy import stats

from refcolor.augment import (NOWHERE, Pose, appearance_transform, draw_pose, make_triple, noise_size, place, recolour_regions, self_reference,
                              similarity_grid, spatial_transform)
from refcolor.core import PAPER, DataConfig, uniform
from refcolor.data.datasets import open_dataset
from refcolor.tps import ThinPlateSpline, control_grid, invert_warp, pixel_centres, sampling_grid, warp

CONFIG, N = PAPER.data, 8


def draw(*shape): return torch.rand(*shape) * 2 - 1


def levels(x): return (x + 1) * 127.5


@pytest.fixture(scope="module")
def dataset(): return open_dataset("avatars", split="valid", size=64, n=N)


@pytest.fixture(scope="module")
def drawn(dataset):
    torch.set_num_threads(1)
    samples = dataset.batch(range(N))
    noise = uniform(0, 0, range(N), noise_size(CONFIG))
    return samples.image, samples.sketch, noise, self_reference(samples.image, samples.sketch, CONFIG, noise)


def test_offsets_are_uniform_and_a_gain_or_one_draw_for_the_batch_is_not():
    def spread(a):
        torch.manual_seed(0)
        return max(stats.kstest(c, stats.uniform(-50, 100).cdf).statistic for c in (a(torch.zeros(10_000, 3, 2, 2)) * 127.5)[:, :, 0, 0].T)
    assert spread(appearance_transform) < 0.02
    assert spread(lambda x: (x + 50 / 127.5 * draw(1, 3, 1, 1)).clamp(-1, 1)) > 0.2
    assert spread(lambda x: (x * (1 + 50 / 127.5 * draw(len(x), 3, 1, 1))).clamp(-1, 1)) > 0.2


def test_numpy_agrees_in_whole_numbers(drawn):
    delta = np.array([37, -50, 12])
    expected = np.clip(levels(drawn[0]).round().numpy().astype(int) + delta[:, None, None], 0, 255)
    close(levels(appearance_transform(drawn[0], noise=torch.tensor(delta / 50).expand(N, 3))).numpy(), expected, eps=1e-3)


def test_a_brighter_pixel_stays_the_brighter_one():
    torch.manual_seed(0)
    ramp = (torch.arange(256) / 127.5 - 1).view(1, 1, 1, 256).expand(500, 3, 1, 256)
    assert (appearance_transform(ramp).diff(dim=-1) >= -1e-6).all()


def test_padding_is_black_or_the_border():
    columns = (torch.tensor([10., 20., 30., 40.]) / 127.5 - 1).expand(1, 3, 4, 4)
    shift = torch.tensor([2 / 4, 0.]).expand(1, 9, 2)
    for padding, expected in (("black", [20, 30, 40, 0]), ("border", [20, 30, 40, 40])):
        bent, grid = spatial_transform(columns, shift, padding)
        close(levels(bent)[0, 0, 0], torch.tensor(expected), eps=1e-2)
    equal(grid, sampling_grid(shift, 4, 4))


def test_each_number_of_the_config_switches_its_own_part_off(drawn):
    image, sketch, noise, triple = drawn
    equal(noise_size(CONFIG), 21)                                            # 3 + 2 · 3 · 3
    plain, rigid = (self_reference(image, sketch, DataConfig(**{k: 0.}), noise) for k in ("appearance", "warp"))
    equal((plain.target, plain.grid), (image, triple.grid))
    equal(rigid.target, triple.target)
    close(rigid.reference, rigid.target, eps=1e-4)


def test_without_noise_the_numbers_are_torch_s_and_new_each_time():
    torch.manual_seed(0)
    first, second = (self_reference(torch.zeros(1000, 3, 2, 2), -torch.ones(1000, 1, 2, 2)).target * 127.5 for _ in range(2))
    close(first.std(), 50 / 3 ** 0.5, eps=1)                                 # the spread of U(-50, 50)
    assert not torch.equal(first, second)


def colours_are_shared(make, drawn):
    "Of pictures of one flat colour: the reference has the target's, black outside, and it has moved."
    torch.manual_seed(0)
    flat = (draw(N, 3, 1, 1) / 2).expand(-1, -1, 64, 64)
    t = make(flat, drawn[1], CONFIG, drawn[2])
    inside, outside = (t.grid.abs() < 1 - 2 / 64).all(-1), (t.grid.abs() > 1 + 2 / 64).any(-1)
    a, b = (x.permute(0, 2, 3, 1) for x in (t.reference, t.target))
    return bool((a[inside] - b[inside]).abs().max() < 1e-4 and (a[outside] + 1).abs().max() < 1e-5 and (t.target - flat).abs().mean() > 0.1)


def second_draw(image, sketch, config, noise):
    t = self_reference(image, sketch, config, noise)
    return t._replace(reference=warp(appearance_transform(image, config.appearance, noise[:, :3].flip(0)), t.grid, config.padding))


def a_after_s(image, sketch, config, noise):
    t = self_reference(image, sketch, config, noise)
    return t._replace(reference=appearance_transform(warp(image, t.grid, config.padding), config.appearance, noise[:, :3]))


WRONG = {
    "clean target": lambda image, *rest: self_reference(image, *rest)._replace(target=image),
    "clean reference": lambda image, *rest: (t := self_reference(image, *rest))._replace(reference=warp(image, t.grid, "black")),
    "second draw": second_draw, "a after s": a_after_s,
    "no jitter": lambda image, sketch, config, noise: self_reference(image, sketch, config, noise * (torch.arange(21) >= 3)),
}


def test_target_and_reference_share_their_colours(drawn): assert colours_are_shared(self_reference, drawn)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_triple_does_not_share_them(name, drawn): assert not colours_are_shared(WRONG[name], drawn)


STREAMS = {
    "ours": uniform,
    "one stream for the batch": lambda seed, step, index, n: torch.rand(len(index), n, generator=torch.Generator().manual_seed(1000 * seed + step)),
    "added up": lambda seed, step, index, n: uniform(0, 0, [seed + step + i for i in index], n),
    "the step forgotten": lambda seed, step, index, n: uniform(seed, 0, index, n),
}


@pytest.mark.parametrize("name", STREAMS)
def test_draws_belong_to_the_sample_and_are_always_new(name):
    noise_of = STREAMS[name]
    alone = torch.equal(noise_of(0, 5, [7], 21)[0], noise_of(0, 5, [3, 9, 7], 21)[2])
    new = {tuple(noise_of(seed, step, [index], 21)[0].tolist()) for seed in range(3) for step in range(3) for index in range(3)}
    assert (alone and len(new) == 27) == (name == "ours")


def test_the_other_direction_by_hand_and_by_the_spline(drawn):
    where, found = invert_warp(sampling_grid(torch.tensor([2 / 4, 0.]).expand(1, 9, 2), 4, 4), torch.tensor([[[0.25, -0.75], [-0.75, -0.75]]]))
    close(where[0], torch.tensor([[-0.25, -0.75], [-1.25, -0.75]]), eps=1e-5)
    equal(found.tolist(), [[True, False]])
    spline = ThinPlateSpline.fit(control_grid(3).expand(N, -1, -1), control_grid(3) + CONFIG.warp * drawn[2][:, 3:].view(N, 9, 2))
    wanted = uniform(1, 0, range(N), 20).view(N, 10, 2) * 0.6
    landed = wanted.clone()
    for _ in range(100): landed = landed - (spline(landed) - wanted)         # walk back until it hits
    where, found = invert_warp(drawn[3].grid, wanted)
    close(spline(landed), wanted, eps=1e-3)
    assert ((where - landed).abs()[found] * 32).max() < 0.1                  # pixels: 64 span 2
    assert (found == (landed.abs() <= 1).all(-1)).float().mean() > 0.95


def test_the_reference_shows_the_same_colour_where_the_point_went(drawn):
    triple, everywhere = drawn[3], pixel_centres(64, 64).view(1, -1, 2)[:, ::17].expand(N, -1, -1)
    def at(xy): return (((xy + 1) * 64 - 1) / 2).round().long().clamp(0, 63).unbind(-1)
    def colour_at(picture, xy):
        column, row = at(xy)
        return picture[torch.arange(N)[:, None], :, row, column]
    def share(where, found):
        wrong = (colour_at(triple.reference, where) - colour_at(triple.target, everywhere)).abs().amax(-1) > 0.3
        return 1 - wrong[found].float().mean().item()
    column, row = at(everywhere)
    forward = triple.grid[torch.arange(N)[:, None], row, column]
    assert share(*invert_warp(triple.grid, everywhere)) > 0.9
    assert share(forward, (forward.abs() <= 1).all(-1)) < 0.75                 # the wrong direction
    assert share(everywhere, torch.ones(everywhere.shape[:2], dtype=torch.bool)) < 0.75


def test_a_pose_that_loses_the_figure_is_drawn_again_and_then_given_up():
    corner = torch.ones(1, 1, 64, 64)
    corner[..., :8, :8] = -1                                                 # all its ink, top left
    wide = DataConfig(recipe="posed", scale=0., rotation=0., shift=1.5, flip=0.)
    away, back = [0, 0, -1, 0, 0], [0, 0, 1, 0, 0]
    equal(draw_pose(torch.tensor([[*away, *back]]).float(), corner, wide).shift, torch.tensor([[1.5, 0.]]))
    equal(draw_pose(torch.tensor([[*away, *away]]).float(), corner, wide).shift, torch.zeros(1, 2))


def test_a_posed_grid_leads_to_the_same_colour_and_its_relatives_do_not(dataset):
    t = make_triple(dataset, range(N), 0, 0, DataConfig(recipe="posed", cross=0., warp=0.))
    u = uniform(0, 0, range(N), noise_size(DataConfig(recipe="posed")))
    lines = dataset.batch(range(N)).sketch
    first, second = (draw_pose(u[:, k:k + 20], lines, DataConfig(recipe="posed")) for k in (0, 20))
    centres = pixel_centres(64, 64).view(1, -1, 2).expand(N, -1, -1)
    def followed(grid):
        same = (warp(t.target, grid, "white") - t.reference).abs().amax(1) < 0.15
        return same[(grid.abs() <= 1).all(-1)].float().mean().item()
    wrong = (place(first, centres).view(N, 64, 64, 2), t.grid * torch.tensor([-1., 1.]), similarity_grid(*second, 64, 64),
             place(second, similarity_grid(*first, 64, 64).flatten(1, 2)).view(N, 64, 64, 2))
    assert followed(t.grid) > 0.85
    for grid in wrong: assert followed(grid) < followed(t.grid) - 0.1
    assert ((t.grid == NOWHERE).all(-1) | (t.grid.abs() < 3).all(-1)).all()


def test_a_picture_twice_is_recoloured_alike(drawn):
    torch.manual_seed(1)
    twin = recolour_regions(torch.cat([drawn[0][:1]] * 2, 3), draw(1, 30))
    close(twin[..., :64], twin[..., 64:], eps=1e-6)


def test_bad_input_is_one_sentence(drawn):
    image, sketch, noise, triple = drawn
    wanted = torch.zeros(N, 10, 2)
    for make, words in (
            (lambda: appearance_transform(image.byte()), "image: expected floating"),
            (lambda: appearance_transform(levels(image)), "expected values in [-1, 1]"),
            (lambda: appearance_transform(sketch), "image: expected floating (b, 3, h, w)"),
            (lambda: appearance_transform(image, strength=50), "strength: expected 0 to 2"),
            (lambda: appearance_transform(image, noise=noise), "noise: expected"),
            (lambda: appearance_transform(image, noise=50 * noise[:, :3]), "noise: expected"),
            (lambda: spatial_transform(image, torch.zeros(3, 9, 2)), f"displacement: expected ({N}"),
            (lambda: self_reference(image, image), "sketch: expected floating (b, 1, h, w)"),
            (lambda: self_reference(image, sketch[:3]), "sketch: expected the image's batch"),
            (lambda: self_reference(image, torch.ones_like(sketch)), "got no ink"),
            (lambda: self_reference(image, sketch, noise=noise[:, :9]), "noise: expected"),
            (lambda: self_reference(image, sketch, DataConfig(padding="zeros")), "padding"),
            (lambda: self_reference(image, sketch, DataConfig(control=1)), "side"),
            (lambda: similarity_grid(*Pose(torch.ones(1), torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, dtype=torch.bool)), 4, 5), "square page"),
            (lambda: invert_warp(triple.grid, wanted[0]), f"points: expected ({N}, m, 2)"),
            (lambda: invert_warp(triple.grid[0], wanted), "grid: expected (b, h, w, 2)")):
        fails(make, contains=words)
    assert self_reference(image, torch.ones_like(sketch), may_be_blank=True).sketch.amin() == 1
