"""Feature transfer: the wrong versions that the lesson does not show, masks, gradients, memory, bad input."""
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from refcolor.core import TINY
from refcolor.encoder import init_weights
from refcolor.scft import FUSIONS, SCFT, make_fusion

close = torch.testing.assert_close


def frozen(fusion, identity=False):
    if identity:
        for w in fusion.parameters(): nn.init.eye_(w)
    return fusion.requires_grad_(False)


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(1)
    return frozen(SCFT(8))


@pytest.fixture(scope="module")
def vectors():
    "Large enough that α is far from uniform."
    return torch.randn(2, 3, 20, 8, generator=torch.Generator().manual_seed(2)) * 2


def test_shapes_and_parameters():
    torch.manual_seed(0)
    d = TINY.model.d_v
    scft, (v_s, v_r) = SCFT(d), torch.randn(2, 2, 256, d)
    c, logits = scft(v_s, v_r)
    assert (c.shape, logits.shape) == (v_s.shape, (2, 256, 256))
    assert {name: p.shape for name, p in scft.named_parameters()} == {f"w_{name}.weight": (d, d) for name in "qkv"}
    assert scft(v_s, v_r[:, :9])[1].shape == (2, 256, 9)                      # a search needs no equal grids


def test_both_paths_agree_in_values_and_gradients(ours, vectors):
    def run(need_logits):
        fusion = SCFT(8)
        fusion.load_state_dict(ours.state_dict())
        c, logits = fusion(*vectors, need_logits)
        c.square().sum().backward()
        return c, torch.stack([w.grad for w in fusion.parameters()]), logits
    (slow, slow_grads, _), (fast, fast_grads, nothing) = run(True), run(False)
    close(fast, slow, atol=1e-5, rtol=0)
    assert (slow_grads - fast_grads).norm() < 1e-4 * slow_grads.norm() and nothing is None


def test_each_position_finds_where_it_went():
    "The reference is the sketch, one column to the right; a reshape without a transpose finds almost nothing."
    torch.manual_seed(0)
    picture, scft = torch.randn(1, 32, 8, 8) * 2, frozen(SCFT(32), identity=True)                           # b d h w
    moved, expected = picture.roll(1, dims=3), torch.arange(64).view(8, 8).roll(-1, dims=1).flatten()
    right, wrong = (scft(make(picture), make(moved))[1][0].argmax(-1) for make in
                    (lambda x: rearrange(x, "b d h w -> b (h w) d"), lambda x: x.reshape(1, 64, 32)))
    assert (right == expected).all() and (wrong == expected).float().mean() < 0.1


root = 8 ** 0.5
WRONG = {"√d after the softmax": lambda s, q, k, v: s + (q @ k.mT).softmax(-1) / root @ v,
         "no √d": lambda s, q, k, v: s + (q @ k.mT).softmax(-1) @ v,
         "softmax over the sketch": lambda s, q, k, v: s + (q @ k.mT / root).softmax(-2) @ v,
         "attention over channels": lambda s, q, k, v: s + v @ (q.mT @ k / root).softmax(-1),
         "keys and values swapped": lambda s, q, k, v: s + (q @ v.mT / root).softmax(-1) @ k,
         "Eq. 5 without v_s": lambda s, q, k, v: (q @ k.mT / root).softmax(-1) @ v,
         "no search: the mean": lambda s, q, k, v: s + v.mean(1, keepdim=True)}


@pytest.mark.parametrize("name", WRONG)
def test_an_independent_reference_tells_each_wrong_version(name, ours, vectors):
    v_s, v_r = vectors
    q, k, v = ours.w_q(v_s), ours.w_k(v_r), ours.w_v(v_r)
    expected = v_s + F.scaled_dot_product_attention(q, k, v)
    close(ours(v_s, v_r)[0], expected, atol=1e-4, rtol=0)
    assert (WRONG[name](v_s, q, k, v) - expected).abs().max() > 0.1


def test_rows_sum_to_one(ours, vectors):
    close(ours(*vectors)[1].softmax(-1).sum(-1), torch.ones(3, 20))


def test_weak_queries_average_and_strong_ones_choose(ours, vectors):
    v_s, v_r = vectors
    def found(factor):
        fusion = frozen(SCFT(8))
        fusion.load_state_dict(ours.state_dict())
        fusion.w_q.weight.mul_(factor)
        return fusion(v_s, v_r)[0] - v_s
    values, best = ours.w_v(v_r), ours(v_s, v_r)[1].argmax(-1)
    close(found(0), values.mean(1, keepdim=True).expand_as(values), atol=1e-5, rtol=0)
    close(found(1e4), values.gather(1, best[..., None].expand(-1, -1, 8)), atol=1e-4, rtol=0)


def test_pictures_of_a_batch_stay_apart(ours, vectors):
    v_s, v_r = vectors
    other = v_r.clone()
    other[1] += torch.randn(20, 8)
    c, changed = ours(v_s, v_r)[0], ours(v_s, other)[0]
    assert torch.equal(changed[[0, 2]], c[[0, 2]]) and (changed[1] - c[1]).abs().max() > 0.1


def test_two_references_are_one_longer_list():
    "Torn in two, the reference still answers; the mean of two searches does not. Given twice, it counts once."
    torch.manual_seed(0)
    scft, picture = frozen(SCFT(32), identity=True), torch.randn(1, 64, 32) * 2
    moved = picture[:, torch.randperm(64)]
    halves, right = moved.split(32, 1), 2 * picture                       # with identity weights c = v_s + its match
    assert (scft(picture, torch.cat(halves, 1))[0] - right).abs().mean() < 0.1
    assert (sum(scft(picture, half)[0] for half in halves) / 2 - right).abs().mean() > 0.1
    close(scft(picture, torch.cat([moved] * 2, 1))[0], scft(picture, moved)[0], atol=1e-4, rtol=0)


def test_a_mask_says_where_a_position_may_look(ours, vectors):
    v_s, v_r = vectors
    mask, others = torch.zeros(20, 20), torch.arange(20) != 7
    mask[7] = -torch.inf                          # sketch position 7 may look
    mask[7, 12] = 0                               # at reference position 12 only
    c, plain = ours(v_s, v_r, mask=mask)[0], ours(v_s, v_r)[0]
    close(c[:, 7], v_s[:, 7] + ours.w_v(v_r)[:, 12], atol=1e-5, rtol=0)
    assert torch.equal(c[:, others], plain[:, others])                                  # nobody else is touched
    close(ours(v_s, v_r, need_logits=False, mask=mask)[0], c, atol=1e-5, rtol=0)        # on both paths
    for need_logits in (True, False):                                                   # one mask each
        each = mask.repeat(3, 1, 1)
        each[1:] = 0
        one = ours(v_s, v_r, need_logits, each)[0]
        close(one[0], c[0], atol=1e-5, rtol=0)
        close(one[1:], plain[1:], atol=1e-5, rtol=0)
    after = v_s + (ours(v_s, v_r)[1].softmax(-1) + mask).clamp(min=0) @ ours.w_v(v_r)   # added after the softmax
    turned = ours(v_s, v_r, mask=mask.T.clamp(min=-1e4))[0]                             # to the transposed logits
    assert all((wrong[:, 7] - c[:, 7]).abs().max() > 0.1 for wrong in (after, turned))


def reached(fusion, vectors, loss_of, need_logits=True):
    "Names of the tensors that get a gradient that is not zero."
    s, r = (v.clone().requires_grad_() for v in vectors)
    loss_of(*fusion(s, r, need_logits)).backward()
    named = {"v_s": s, "v_r": r, **{n: w.weight for n, w in fusion.named_children()}}
    return {name for name, t in named.items() if t.grad is not None and t.grad.any()}


@pytest.mark.parametrize("stop_gradient, need_logits", [(False, True), (False, False), (True, True), (True, False)])
def test_where_gradients_flow(stop_gradient, need_logits, ours, vectors):
    def fusion(): return SCFT(8, stop_gradient=stop_gradient)
    through_search = set() if stop_gradient else {"w_q", "w_k"}
    assert reached(fusion(), vectors, lambda c, _: c.square().sum(), need_logits) == {"v_s", "v_r", "w_v"} | through_search
    if need_logits: assert reached(fusion(), vectors, lambda _, logits: logits.square().sum()) == {"v_s", "v_r", "w_q", "w_k"}
    same = fusion()
    same.load_state_dict(ours.state_dict())
    close(same(*vectors, need_logits)[0], ours(*vectors)[0], atol=1e-5, rtol=0)          # the values are the same


def test_the_first_weights_are_its_own():
    torch.manual_seed(0)
    fusion = SCFT(100)
    assert abs(fusion.w_q.weight.std() - 0.1) < 3e-3
    init_weights(fusion)
    assert abs(fusion.w_q.weight.std() - 0.02) < 1e-3
    fusion.reset_parameters()
    assert all(abs(w.weight.std() - 0.1) < 3e-3 for w in fusion.children())


def kept_for_backward(call, *parameters):
    "The distinct tensors that autograd stores while `call()` runs, without the parameters."
    kept, own = {}, {p.data_ptr() for p in parameters}
    def store(t):
        if t.untyped_storage().data_ptr() not in own: kept[t.untyped_storage().data_ptr()] = t
        return t
    with torch.autograd.graph.saved_tensors_hooks(store, lambda t: t): result = call()
    return result, list(kept.values())


def test_without_logits_no_map_is_kept():
    "With three dimensions PyTorch's attention gives the same result, and stores α."
    torch.manual_seed(0)
    fusion, (v_s, v_r) = SCFT(32), torch.randn(2, 2, 100, 32)
    def three_dims(): return v_s + F.scaled_dot_product_attention(fusion.w_q(v_s), fusion.w_k(v_r), fusion.w_v(v_r))
    calls = {"logits": lambda: fusion(v_s, v_r)[0], "none": lambda: fusion(v_s, v_r, False)[0], "three": three_dims}
    kept = {name: kept_for_backward(call) for name, call in calls.items()}
    has_map = {name: any(t.shape[-2:] == (100, 100) for t in tensors) for name, (_, tensors) in kept.items()}
    assert has_map == {"logits": True, "none": False, "three": True}
    close(kept["three"][0], kept["none"][0], atol=1e-5, rtol=0)


def test_on_a_fine_grid_the_map_is_most_of_what_is_kept():
    def bytes_kept(need_logits, fusion=SCFT(64), vectors=torch.randn(2, 1, 48 ** 2, 64)):
        _, tensors = kept_for_backward(lambda: fusion(*vectors, need_logits), *fusion.parameters())
        return sum(t.untyped_storage().nbytes() for t in tensors)
    assert bytes_kept(True) > 5 * bytes_kept(False)


def test_addition_and_adain_do_what_their_names_say(vectors):
    torch.manual_seed(0)
    v_s, v_r = vectors
    addition, adain = frozen(make_fusion("addition", 8)), frozen(make_fusion("adain", 8))
    close(addition(v_s, v_r)[0][1, 7], v_s[1, 7] + addition.w_v.weight @ v_r[1, 7], atol=1e-5, rtol=0)
    c, projected = adain(v_s, v_r)[0], adain.w_v(v_r)
    close(c.mean(1), projected.mean(1), atol=1e-5, rtol=0)                # the reference's statistics
    close(c.std(1), projected.std(1), atol=1e-3, rtol=0)
    spread = projected.std(1, correction=0, keepdim=True)                 # an independent reference, channels first
    close(c, F.instance_norm(v_s.mT).mT * spread + projected.mean(1, keepdim=True), atol=1e-3, rtol=0)
    other = v_r.clone()
    other[1] += 1                                                         # picture 1 tints no other
    assert torch.equal(adain(v_s, other)[0][[0, 2]], c[[0, 2]])
    constant = v_s.clone()
    constant[..., 0] = 1.
    assert adain(constant, v_r)[0].isfinite().all()                       # a channel without spread
    assert adain(v_s, v_r[:, :9])[0].shape == v_s.shape


def test_what_each_fusion_knows_of_order(vectors):
    torch.manual_seed(0)
    v_s, v_r = vectors
    free = {}
    for name in FUSIONS:
        fusion, shuffled = frozen(make_fusion(name, 8)), torch.randperm(20)
        c, logits = fusion(v_s, v_r, need_logits=True)
        assert c.shape == v_s.shape and (logits is None) == (name in ("addition", "adain"))
        free[name] = torch.allclose(fusion(v_s, v_r[:, shuffled])[0], c, atol=1e-4)
    assert free == {"scft": True, "addition": False, "adain": True, "stopgrad": True}


V = torch.zeros(2, 25, 8)


@pytest.mark.parametrize("message, broken", {
    "v_s: expected vectors (b, n, 8), got (2, 25, 7)": lambda f: f["scft"](V[..., :7], V),
    "v_r: expected vectors (b, n, 8), got (2, 8, 5, 5)": lambda f: f["scft"](V, torch.zeros(2, 8, 5, 5)),
    "v_s, v_r: expected equal batches, got 2 and 1": lambda f: f["scft"](V, V[:1]),
    "v_s, v_r: expected as many positions, got 25 and 9": lambda f: f["addition"](V, V[:, :9]),
    "mask: expected (25, 25) or (2, 25, 25), got (5, 25)": lambda f: f["scft"](V, V, mask=torch.zeros(5, 25)),
    "may look nowhere": lambda f: f["scft"](V, V, mask=torch.full((25, 25), -torch.inf)),
    "no logits to mask": lambda f: f["adain"](V, V, mask=torch.zeros(25, 25)),
    "d_v: expected at least 1, got 0": lambda f: SCFT(0),
    "expected one of scft, addition, adain, stopgrad, got 'concat'": lambda f: make_fusion("concat", 8),
}.items(), ids=lambda x: x if isinstance(x, str) else "")
def test_bad_input_is_refused_by_name(message, broken):
    with pytest.raises(ValueError) as error: broken({name: make_fusion(name, 8) for name in FUSIONS})
    assert message in str(error.value)
