"""Eq. 7 to 11: what the lesson need not show. Bad input, wrong versions that look like ours, what λ mean."""
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from refcolor.core import PAPER, TINY
from refcolor.data.datasets import open_dataset
from refcolor.engine.features import Lite0Features
from refcolor.losses import (gan_loss, generator_losses, gradient_norm, gram_matrix, lambdas, perceptual_loss,
                             reconstruction_loss, style_loss, total_loss)

MAPS = [torch.tensor([1., 2.]), torch.tensor([[0., 4.]])]


@pytest.fixture(scope="module")
def phi(): return Lite0Features()


@pytest.fixture(scope="module")
def pictures(): return open_dataset("avatars", split="valid", size=64, n=4).batch(range(4)).image


@pytest.fixture(scope="module")
def features(phi, pictures):
    with torch.no_grad(): return phi(pictures)


@pytest.mark.parametrize("call, says", [
    (lambda: reconstruction_loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)), "fake and target: expected one shape"),
    (lambda: gan_loss(torch.zeros(2), True, "wasserstein"), "mode: expected 'lsgan' or 'vanilla', got 'wasserstein'"),
    (lambda: perceptual_loss(MAPS, MAPS[:1]), "expected two lists of equal length, got 2 and 1"),
    (lambda: style_loss([], []), "expected two lists of equal length, got 0 and 0"),
    (lambda: perceptual_loss(MAPS, MAPS[::-1]), "features_fake and features_target: expected one shape"),
    (lambda: gram_matrix(torch.zeros(2, 2, 2)), r"features: expected \(b, c, h, w\), got \(2, 2, 2\)"),
    (lambda: lambdas(PAPER.train, "inception"), "network: expected one of"),
    (lambda: total_loss({"rec": torch.ones(())}, {"rec": 30., "tr": 1.}), "terms and weights: expected the same names"),
    (lambda: total_loss({"rec": torch.ones(()), "tr": torch.ones(())}, {"rec": 30.}), "expected the same names"),
])
def test_what_does_not_fit_is_refused(call, says):
    with pytest.raises(ValueError, match=says): call()


def is_log_probability(loss):
    s = torch.linspace(-4, 4, 81)
    wanted = {True: -s.sigmoid().log().mean(), False: -(1 - s.sigmoid()).log().mean()}
    return all(torch.allclose(loss(s, real), wanted[real], atol=1e-4) for real in wanted)


def sure_and_right_is_free(loss):
    return loss(torch.full((4,), 30.), True) < 1e-4 and loss(torch.full((4,), -30.), False) < 1e-4


def test_the_scores_pass_one_sigmoid():
    def vanilla(scores, real): return gan_loss(scores, real, "vanilla")
    def squashed_twice(scores, real): return vanilla(scores.sigmoid(), real)
    assert is_log_probability(vanilla) and sure_and_right_is_free(vanilla)
    assert not is_log_probability(squashed_twice) and not sure_and_right_is_free(squashed_twice)
    assert vanilla(torch.zeros(1), True).item() == pytest.approx(math.log(2))      # D has no idea


def test_gram_matrices_are_symmetric_and_never_negative(features):
    for f in features:
        g = gram_matrix(f)
        assert g.shape == (4, f.shape[1], f.shape[1]) and torch.equal(g, g.mT)
        assert torch.linalg.eigvalsh(g).min() > -1e-3


def batch_gram(f):
    flat = f.flatten(0, 1).flatten(1)
    return (flat @ flat.T / f.numel())[None]


@pytest.mark.parametrize("gram, apart", [
    (gram_matrix, True), (batch_gram, False), (lambda f: gram_matrix(f).mean(0, keepdim=True), False)])
def test_each_image_has_its_own_gram_matrix(features, gram, apart):
    changed = features[2].clone()
    changed[1] += 1
    assert torch.allclose(gram(changed)[0], gram(features[2])[0], atol=1e-5) == apart


@pytest.mark.parametrize("loss", [perceptual_loss, style_loss])
def test_only_an_undetached_fake_learns(phi, pictures, features, loss):
    def reaches(phi):
        fake = (0.9 * pictures).requires_grad_()
        value = loss(phi(fake), features)
        return value.requires_grad and bool(torch.autograd.grad(value, fake)[0].any())
    assert reaches(phi)
    assert not reaches(lambda x: [m.detach() for m in phi(x)])
    assert not reaches(torch.no_grad()(phi.forward))


def test_a_lambda_of_zero_is_a_choice_and_none_is_none():
    ablation = replace(PAPER.train, lambda_style=0.)
    assert lambdas(ablation, "vgg19") == dict(tr=1, rec=30, adv=1, perc=0.01, style=0)
    own = replace(TINY.train, lambda_perc=7.)
    assert lambdas(own, "lite0") == lambdas(TINY.train, "lite0") | dict(perc=7.)


def test_where_nothing_attends_there_is_no_triplet_loss(phi, pictures):
    grid = torch.zeros(4, 64, 64, 2)
    terms = generator_losses(pictures, pictures, None, grid, torch.ones(4, 1, 6, 6), phi)
    assert list(terms) == ["tr", "rec", "adv", "perc", "style"]
    assert {k: v.item() for k, v in terms.items()} == dict.fromkeys(terms, 0.)     # and all that is right costs nothing


def test_gradient_norm_keeps_the_graph_and_is_zero_where_nothing_depends():
    x, y = torch.tensor([3., 4.], requires_grad=True), torch.ones(2, requires_grad=True)
    loss = x.square().sum() / 2
    assert [gradient_norm(loss, at).item() for at in (x, y, x)] == [5, 0, 5]
    assert x.grad is None


@pytest.mark.parametrize("side", [8, 16])
def test_reconstruction_pulls_with_one_over_root_n(side):
    fake = torch.zeros(2, 3, side, side).requires_grad_()
    target = torch.rand(2, 3, side, side) + 0.1
    assert gradient_norm(reconstruction_loss(fake, target), fake).item() == pytest.approx(fake.numel() ** -0.5, rel=1e-4)
    assert gradient_norm(F.mse_loss(fake, target), fake).item() != pytest.approx(fake.numel() ** -0.5, rel=1e-2)
