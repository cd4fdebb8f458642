"""The streaming InfoNCE: the plain formula in float64, closed forms, torch's own checks of the operator, refusals."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainer import infonce
from trainer.infonce import info_nce
from trainer.infonce_cpu import KEYS, ROWS

EPS = 2.0**-24  # float32's rounding


def draw(batch: int, length: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors: queries, of which every second one is near its key, and a queue."""
    q, k, queue = (F.normalize(torch.randn(n, width, dtype=torch.float64), dim=1) for n in (batch, batch, length))
    k[::2] = F.normalize(q[::2] + 0.1 * k[::2], dim=1)
    return q.to(dtype), k.to(dtype), queue.to(dtype)


def plain(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """The published formula (He et al. 2020, algorithm 1), of each query, in float64."""
    q, k, queue = q.double(), k.double(), queue.double()
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device), reduction="none")


def with_gradient(loss, q: Tensor, *rest, **how) -> tuple[Tensor, Tensor]:
    """The losses, and the gradient in q of their sum with weights 1, 2, 3, ..."""
    q = q.detach().clone().requires_grad_()
    found = loss(q, *rest, **how)
    (gradient,) = torch.autograd.grad((found * torch.arange(1, len(q) + 1)).sum(), q)
    return found.detach(), gradient


def ours(*vectors: Tensor, temperature: float) -> Tensor:
    return info_nce(*vectors, temperature=temperature).loss_B


def assert_norms(got: Tensor, expected: Tensor, tolerance: float, lost: float = 0.0) -> None:
    """``lost`` is what the expected values themselves may be off by."""
    assert (got.double() - expected.double()).norm() <= tolerance * expected.double().norm() + lost


@given(st.integers(1, ROWS), st.integers(1, KEYS), st.integers(1, 200), st.floats(0.05, 1.0), st.integers(0, 2**32))
@example(1, 1, 1, 0.2, 0)
@example(ROWS, KEYS, 128, 0.05, 0)
@example(ROWS + 1, KEYS + 1, 128, 0.2, 0)
@example(3, 2 * KEYS, 2, 1.0, 0)
@settings(max_examples=10)
def test_it_is_the_plain_formula_in_value_and_gradient(batch, length, width, temperature, seed):
    """In float32 a logit is off by a few EPS / temperature, 5e-6 at 0.05; float64 has 29 bits more.

    The plain formula takes small losses as a difference of logits, and loses the last digits of those.
    """
    torch.manual_seed(seed)
    lost = 2.0**-50 * batch**1.5 / temperature**2  # the weights' norm is below batch^1.5
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        vectors = draw(batch, length, width, dtype)
        expected = with_gradient(plain, *vectors, temperature)
        got = with_gradient(ours, *vectors, temperature=temperature)
        for mine, right in zip(got, expected, strict=True):
            assert mine.dtype == dtype
            assert_norms(mine, right, tolerance, lost)


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_logits_of_any_size_do_not_overflow(size):
    """At temperature 0.01 they reach 100, and 90,000 for longer vectors: exp(89) is more than float32 holds."""
    vectors = [size * each for each in draw(9, KEYS + 5, 16)]
    tolerance = 8 * EPS * size**2 / 0.01  # of a logit: its products and sums are rounded
    expected = with_gradient(plain, *vectors, 0.01)
    got = with_gradient(ours, *vectors, temperature=0.01)
    for mine, right in zip(got, expected, strict=True):
        assert mine.isfinite().all()
        assert_norms(mine, right, tolerance)


@pytest.mark.parametrize("temperature", [0.02, 0.2, 1.0])
def test_closed_form_on_orthonormal_vectors(temperature):
    """Query 0 is its key, query 1 is orthogonal to its own; both are to the queue. The first's loss is down to 6e-21.

    exp(-50) is off by what the rounding of 50 does to it, 50 EPS.
    """
    axes = torch.eye(40)
    q, k, queue = axes[:2], axes[[0, 2]], axes[10:40]
    loss, gradient = with_gradient(ours, q, k, queue, temperature=temperature)
    others = 30 * math.exp(-1 / temperature)
    torch.testing.assert_close(loss, torch.tensor([math.log1p(others), math.log(31)]), rtol=60 * EPS, atol=0)
    toward, away = torch.zeros(2, 40), torch.zeros(2, 40)
    toward[0, 0], away[0, 10:] = others / (1 + others), others / 30 / (1 + others)
    toward[1, 2], away[1, 10:] = 30 / 31, 1 / 31
    expected = torch.tensor([[1.0], [2.0]]) * (away - toward) / temperature
    torch.testing.assert_close(gradient, expected, rtol=60 * EPS, atol=0)


def test_a_query_is_correct_where_its_key_is_nearer_than_every_negative():
    q, k = torch.eye(3)[[0, 1, 2]], 0.5 * torch.eye(3)
    queue = torch.diag(torch.tensor([0.25, 0.5, 0.75])).repeat(KEYS, 1)
    assert info_nce(q, k, queue, temperature=0.2).correct_B.tolist() == [True, False, False]


def test_a_million_ties_share_the_probability():
    """The weights of many equal negatives add up without loss: a chunk's sum is a tree, and chunks are few."""
    q = torch.tensor([[1.0]])
    loss = info_nce(q, q, torch.ones(2**20, 1), temperature=0.1).loss_B
    torch.testing.assert_close(loss, torch.tensor([math.log1p(2**20)]), rtol=4 * EPS, atol=0)


def test_only_the_query_learns():
    q, k, queue = (each.requires_grad_() for each in draw(4, 9, 6))
    info_nce(q, k, queue, temperature=0.2).loss_B.mean().backward()
    assert q.grad is not None
    assert k.grad is None
    assert queue.grad is None


def test_the_queue_may_move_on_before_the_backward_pass():
    q, k, queue = draw(4, 9, 6)
    expected = with_gradient(ours, q, k, queue, temperature=0.2)[1]
    q.requires_grad_()
    loss = (info_nce(q, k, queue, temperature=0.2).loss_B * torch.arange(1, 5)).sum()
    queue.zero_()
    loss.backward()
    assert torch.equal(q.grad, expected)


def test_a_query_that_is_no_number_spoils_its_own_row_alone():
    q, k, queue = draw(6, 40, 8)
    q[3, 5] = torch.nan
    loss, gradient = with_gradient(ours, q, k, queue, temperature=0.2)
    assert loss.isnan().tolist() == gradient.isnan().all(dim=1).tolist() == [row == 3 for row in range(6)]
    assert not gradient[[0, 1, 2, 4, 5]].isnan().any()
    assert not info_nce(q, k, queue, temperature=0.2).correct_B[3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_of_16_bits_are_read_as_they_are_and_reckoned_in_float32(dtype):
    q, k, queue = draw(5, 70, 12, dtype)
    loss, gradient = with_gradient(ours, q, k, queue, temperature=0.2)
    wide, wide_gradient = with_gradient(ours, q.float(), k.float(), queue.float(), temperature=0.2)
    assert torch.equal(loss, wide)
    assert torch.equal(gradient, wide_gradient.to(dtype))
    assert torch.equal(ours(q.float(), k, queue, temperature=0.2), wide)
    assert ours(q, k.double(), queue, temperature=0.2).dtype == torch.float64


def test_autocast_leaves_it_alone():
    vectors = draw(5, 70, 12)
    expected = with_gradient(ours, *vectors, temperature=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = with_gradient(ours, *vectors, temperature=0.2)
    for mine, right in zip(got, expected, strict=True):
        assert torch.equal(mine, right)


def test_same_input_same_bits():
    vectors = draw(ROWS + 9, KEYS + 9, 64)
    first, second = (with_gradient(ours, *vectors, temperature=0.1) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_torch_finds_nothing_wrong_with_it():
    """Schema, no aliasing or writing of inputs, the shapes that the fake kernel gives, gradients under compile."""
    q, k, queue = draw(3, 7, 4)
    torch.library.opcheck(torch.ops.skymill.info_nce.default, (q.requires_grad_(), k, queue, 0.2))


def test_numerical_differences_agree_with_the_gradient():
    q, k, queue = draw(3, 9, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda each: ours(each, k, queue, temperature=0.2), (q.requires_grad_(),))


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_it_works_under_torch_compile_without_a_break(backend):
    function = inspect.unwrap(info_nce)  # what checks shapes in tests cannot be traced

    def loss(*vectors: Tensor) -> Tensor:
        return function(*vectors, temperature=0.2).loss_B

    compiled, vectors = torch.compile(loss, fullgraph=True, backend=backend), draw(5, 33, 6)
    for mine, right in zip(with_gradient(compiled, *vectors), with_gradient(loss, *vectors), strict=True):
        torch.testing.assert_close(mine, right)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return result


def test_the_matrix_of_batch_by_queue_is_never_made():
    """No more than a block of it is, where both are many blocks; on the way back nothing is larger than the queue."""
    q, k, queue = draw(ROWS + 3, 2 * KEYS + 3, 4)
    with Largest() as forward:
        infonce._on_cpu(q, k, queue, 0.2)
    assert forward.elements == ROWS * KEYS
    with Largest() as whole:
        with_gradient(ours, q, k, queue, temperature=0.2)
    assert whole.elements == queue.numel()


@pytest.mark.parametrize(
    ("shapes", "temperature", "message"),
    [
        ([(4, 3), (4, 3), (0, 3)], 0.2, r"none empty, got \(\(4, 3\), \(4, 3\), \(0, 3\)\)"),
        ([(0, 3), (0, 3), (9, 3)], 0.2, "none empty"),
        ([(4, 3), (5, 3), (9, 3)], 0.2, r"expected q and k of \(B, D\)"),
        ([(4, 3), (4, 3), (9, 2)], 0.2, r"a queue of \(K, D\)"),
        ([(3,), (3,), (9, 3)], 0.2, r"expected q and k of \(B, D\)"),
        ([(4, 3), (4, 3), (9, 3)], 0.0, "expected a temperature above 0, got 0.0"),
        ([(4, 3), (4, 3), (9, 3)], math.nan, "expected a temperature above 0, got nan"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_does_not_fit_together_is_refused_in_one_line(shapes, temperature, message, device):
    vectors = [torch.ones(shape, device=device) for shape in shapes]
    with pytest.raises(ValueError, match=message) as caught:
        torch.ops.skymill.info_nce(*vectors, temperature)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"expected floating-point tensors on one device, got .*torch.int64"):
        torch.ops.skymill.info_nce(torch.ones(2, 3), torch.ones(2, 3), torch.ones(5, 3).long(), 0.2)
