"""Token log-probabilities in chunks are the plain ones, to every order that is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lidcli.nn.cross_entropy import log_prob

TOKENS, WIDTH, VOCABULARY = 23, 6, 17
REFERENCES = [None, 0, 5, VOCABULARY - 1]


class Case:
    """Float64 features, weight, bias and targets, the reference token among the latter."""

    def __init__(self, reference: int | None, spread: float = 1.0, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows = VOCABULARY - (reference is not None)

        def normal(*shape: int) -> Tensor:
            x = torch.randn(*shape, generator=generator, dtype=torch.float64) * spread
            return x.requires_grad_()

        self.features, self.weight, self.bias = normal(TOKENS, WIDTH), normal(rows, WIDTH), None
        self.bias = normal(rows)
        self.targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
        self.targets[:3] = 5
        self.upstream = torch.randn(TOKENS, generator=generator, dtype=torch.float64)
        self.reference = reference
        self.wanted = [self.features, self.weight, self.bias]

    def plain(self) -> Tensor:
        logits = F.linear(self.features, self.weight, self.bias)
        if self.reference is not None:
            left, right = logits[:, : self.reference], logits[:, self.reference :]
            logits = torch.cat([left, logits.new_zeros(TOKENS, 1), right], dim=1)
        return F.log_softmax(logits, dim=1).gather(1, self.targets[:, None]).squeeze(1)

    def ours(self, **options: Any) -> Tensor:
        return log_prob(
            self.features,
            self.weight,
            self.targets,
            bias=self.bias,
            reference=self.reference,
            **{"chunk": 4} | options,
        )


def assert_same(found: list[Tensor] | tuple[Tensor, ...], known: Any) -> None:
    for mine, theirs in zip(found, known, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp_min(1.0)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("chunk", [1, 4, 23, 100])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_values_and_gradients_under_any_upstream_gradient(
    reference: int | None, chunk: int, spread: float
) -> None:
    case = Case(reference, spread)
    ours, plain = case.ours(chunk=chunk), case.plain()
    assert_same([ours], [plain])
    assert_same(
        torch.autograd.grad(ours, case.wanted, case.upstream),
        torch.autograd.grad(plain, case.wanted, case.upstream),
    )


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("scale", [1.0, -0.37])
def test_an_anticipated_gradient_is_the_plain_one(reference: int | None, scale: float) -> None:
    case = Case(reference)
    ours, plain = case.ours(anticipated=case.upstream), case.plain()
    assert_same([ours], [plain])
    assert_same(
        torch.autograd.grad(ours, case.wanted, scale * case.upstream),
        torch.autograd.grad(plain, case.wanted, scale * case.upstream),
    )


@pytest.mark.parametrize("anticipated", ["ones", "zeros", "one token"])
def test_a_wrong_anticipation_costs_time_and_nothing_else(anticipated: str) -> None:
    case = Case(5)
    expected = torch.zeros(TOKENS, dtype=torch.float64)
    expected[: {"ones": TOKENS, "zeros": 0, "one token": 1}[anticipated]] = 1
    assert_same(
        torch.autograd.grad(case.ours(anticipated=expected), case.wanted, case.upstream),
        torch.autograd.grad(case.plain(), case.wanted, case.upstream),
    )


@pytest.mark.parametrize("reference", REFERENCES)
def test_the_weighted_sum_and_its_gradient_in_the_weights_too(reference: int | None) -> None:
    case = Case(reference)
    weights = case.upstream.clone().requires_grad_()
    ours = -(weights * case.ours(anticipated=weights.detach())).sum()
    plain = -(weights * case.plain()).sum()
    wanted = [*case.wanted, weights]
    assert_same([ours], [plain])
    assert_same(torch.autograd.grad(3 * ours, wanted), torch.autograd.grad(3 * plain, wanted))


@pytest.mark.parametrize("reference", [None, 5])
@pytest.mark.parametrize("anticipate", [False, True])
def test_second_derivatives(reference: int | None, anticipate: bool) -> None:
    case = Case(reference)
    upstream = case.upstream.clone().requires_grad_()

    def call(upstream: Tensor, *values: Tensor) -> Tensor:
        features, weight, bias = values
        return upstream * log_prob(
            features,
            weight,
            case.targets,
            bias=bias,
            reference=reference,
            chunk=4,
            anticipated=case.upstream if anticipate else None,
        )

    assert torch.autograd.gradcheck(call, (upstream, *case.wanted))
    assert torch.autograd.gradgradcheck(call, (upstream, *case.wanted))


def test_a_gradient_step_can_be_trained_through() -> None:
    case = Case(5)

    def refined(call: Any) -> tuple[Tensor, ...]:
        step = torch.autograd.grad(call().sum(), case.features, create_graph=True)[0]
        return torch.autograd.grad(step.square().sum(), case.wanted)

    assert_same(refined(case.ours), refined(case.plain))


def test_an_inner_gradient_of_the_features_alone_keeps_the_mixed_derivatives() -> None:
    case = Case(5)

    def refined(call: Any) -> tuple[Tensor, ...]:
        step = torch.autograd.grad(call().sum(), case.features, create_graph=True)[0]
        return torch.autograd.grad(step.square().sum(), case.wanted)

    found = refined(lambda: case.ours(features_only=True))
    assert_same(found, refined(case.plain))
    case.ours(features_only=True).sum().backward()
    assert case.weight.grad is case.bias.grad is None
    assert_same([case.features.grad], torch.autograd.grad(case.plain().sum(), case.features))


@pytest.mark.parametrize("reference", [None, 5])
def test_without_a_bias(reference: int | None) -> None:
    case = Case(reference)
    with torch.no_grad():
        case.bias.zero_()
    found = log_prob(case.features, case.weight, case.targets, reference=reference, chunk=4)
    assert_same([found], [case.plain()])


def test_function_transforms_see_the_same_function() -> None:
    case = Case(5)

    def total(features: Tensor) -> Tensor:
        options = {"bias": case.bias, "reference": 5}
        return log_prob(features, case.weight, case.targets, **options).sum()

    features = case.features.detach()
    stacked = vmap(grad(total))(torch.stack([features, 2 * features]))
    assert_same([stacked[0]], torch.autograd.grad(case.plain().sum(), case.features))


@pytest.mark.parametrize("anticipate", [False, True])
def test_under_autocast_it_agrees_to_the_precision_in_use(anticipate: bool) -> None:
    case = Case(5)
    small = [t.detach().float().requires_grad_() for t in case.wanted]
    with torch.autocast("cpu", torch.bfloat16):
        found = log_prob(
            small[0],
            small[1],
            case.targets,
            bias=small[2],
            reference=5,
            chunk=4,
            anticipated=torch.ones(TOKENS) if anticipate else None,
        )
    assert found.dtype == torch.float32
    for mine, theirs in zip(
        torch.autograd.grad(found.sum(), small),
        torch.autograd.grad(case.plain().sum(), case.wanted),
        strict=True,
    ):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() < 0.02 * theirs.norm()


class LargestTensor(TorchDispatchMode):
    """The elements of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for found in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(found, Tensor):
                self.elements = max(self.elements, found.numel())
        return out


@pytest.mark.parametrize("mode", ["recomputed", "anticipated", "twice"])
def test_no_tensor_is_larger_than_a_chunk_of_logits(mode: str) -> None:
    tokens, vocabulary, chunk, width = 400, 300, 8, 3
    features = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    bias = torch.zeros(vocabulary, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,))
    ones = torch.ones(tokens)
    with LargestTensor() as largest:
        found = log_prob(
            features,
            weight,
            targets,
            bias=bias,
            chunk=chunk,
            anticipated=ones if mode == "anticipated" else None,
        )
        if mode == "twice":
            step = torch.autograd.grad(found.sum(), features, create_graph=True)[0]
            step.square().sum().backward()
        else:
            found.sum().backward()
    assert weight.grad is not None
    assert largest.elements == chunk * vocabulary


@pytest.mark.parametrize("anticipated", [None, torch.zeros(0)])
def test_without_tokens_there_is_nothing(anticipated: Tensor | None) -> None:
    weight = torch.randn(5, 3, requires_grad=True)
    targets = torch.zeros(0, dtype=torch.long)
    found = log_prob(torch.zeros(0, 3), weight, targets, anticipated=anticipated)
    assert found.shape == (0,)
    assert torch.autograd.grad(found.sum(), weight)[0].abs().max() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": torch.zeros(9, 5)}, r"features \(N, H\) and a weight"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, r"4 tokens, got \(3,\)"),
        ({"targets": torch.tensor([0, 1, 2, 9])}, r"tokens must lie in \[0, 9\), found 0 to 9"),
        ({"targets": torch.tensor([0, -1, 2, 3])}, "found -1 to 3"),
        ({"bias": torch.zeros(8)}, r"bias \(9,\), got \(8,\)"),
        ({"chunk": 0}, "chunk must be >= 1, not 0"),
        ({"reference": 10}, r"reference token must lie in \[0, 10\), not 10"),
        ({"anticipated": torch.ones(5)}, r"got \(4,\), \(5,\)"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], said: str) -> None:
    arguments = {
        "features": torch.zeros(4, 3),
        "weight": torch.zeros(9, 3),
        "targets": torch.zeros(4, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=said):
        log_prob(**arguments | options)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("anticipate", [False, True])
def test_on_a_gpu_it_is_the_same(anticipate: bool) -> None:
    case = Case(5)
    known = torch.autograd.grad(case.plain().sum(), case.wanted)
    there = [t.detach().cuda().requires_grad_() for t in case.wanted]
    found = log_prob(
        there[0],
        there[1],
        case.targets.cuda(),
        bias=there[2],
        reference=5,
        chunk=4,
        anticipated=torch.ones(TOKENS, device="cuda") if anticipate else None,
    )
    assert_same([g.cpu() for g in torch.autograd.grad(found.sum(), there)], known)
