"""InfoNCE's Triton kernels: on a GPU where there is one, else in Triton's interpreter, on tensors in host memory."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
triton = pytest.importorskip("triton")

import trainer  # noqa: E402
from trainer import infonce, infonce_triton  # noqa: E402
from trainer.errors import TrainerError  # noqa: E402
from trainer.infonce_triton import KEYS, ROWS  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 2.0**-24  # float32's rounding


def draw(batch, length, width):
    """Unit vectors: queries, of which every second one is near its key, and a queue."""
    q, k, queue = (F.normalize(torch.randn(rows, width), dim=1) for rows in (batch, batch, length))
    k[::2] = F.normalize(q[::2] + 0.1 * k[::2], dim=1)
    return q, k, queue


def on_gpu(q, k, queue, temperature):
    """Loss, correct and gradient, as the operator's body for a GPU gives them."""
    found = infonce._on_gpu(q.to(DEVICE), k.to(DEVICE), queue.to(DEVICE), temperature)
    return [each.cpu() for each in found]


def assert_norms(got, expected, tolerance):
    assert got.dtype == torch.float32
    assert (got.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize(
    ("batch", "length", "width", "temperature"),
    [
        (1, 1, 1, 0.2),  # all of it masked but one number
        (3, KEYS, 16, 0.05),
        (ROWS, 8 * KEYS, 32, 1.0),  # full tiles, and one part
        (ROWS + 1, 8 * KEYS + 1, 33, 0.05),  # a part of one key
        (2, 1000, 128, 0.07),
        (5, 300, 200, 0.2),  # two blocks of columns
    ],
)
def test_it_is_what_the_chunks_find_in_float64(batch, length, width, temperature):
    """In float32 a logit is off by a few EPS / temperature, 5e-6 at 0.05."""
    q, k, queue = draw(batch, length, width)
    loss, correct, gradient = infonce._on_cpu(q.double(), k.double(), queue.double(), temperature)
    got = on_gpu(q, k, queue, temperature)
    assert_norms(got[0], loss, 1e-5)
    assert torch.equal(got[1], correct)
    assert_norms(got[2], gradient, 1e-5)


def test_a_long_queue_has_longer_parts_not_more(monkeypatch):
    monkeypatch.setattr(infonce_triton, "PARTS", 2)
    test_it_is_what_the_chunks_find_in_float64(9, 2 * 8 * KEYS + 1, 2, 0.1)


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_logits_of_any_size_do_not_overflow(size):
    """At temperature 0.01 they reach 100, and 90,000 for longer vectors: exp(89) is more than float32 holds."""
    vectors = [size * each for each in draw(9, 600, 16)]
    loss, _, gradient = infonce._on_cpu(*(each.double() for each in vectors), 0.01)
    got = on_gpu(*vectors, 0.01)
    tolerance = 8 * EPS * size**2 / 0.01  # of a logit: its products and sums are rounded
    assert_norms(got[0], loss, tolerance)
    assert_norms(got[2], gradient, tolerance)


def test_numbers_of_16_bits_are_read_as_they_are():
    q, k, queue = (each.bfloat16() for each in draw(5, 300, 20))
    for mixed, wide in zip(on_gpu(q, k, queue, 0.2), on_gpu(q.float(), k.float(), queue.float(), 0.2), strict=True):
        assert torch.equal(mixed, wide)


def test_rows_that_do_not_lie_side_by_side_are_read_right():
    q, k, queue = draw(5, 300, 20)
    apart = [torch.stack([each, each], dim=2)[..., 0] for each in (q, k, queue)]
    for got, expected in zip(on_gpu(*apart, 0.2), on_gpu(q, k, queue, 0.2), strict=True):
        assert torch.equal(got, expected)


def test_what_is_found_of_a_query_does_not_depend_on_the_others():
    q, _, queue = draw(ROWS + 5, 700, 24)
    together = infonce_triton.negatives(q.to(DEVICE), queue.to(DEVICE), 0.2)
    alone = infonce_triton.negatives(q[ROWS:].to(DEVICE), queue.to(DEVICE), 0.2)
    for all_of, few in zip(together, alone, strict=True):
        assert torch.equal(all_of[ROWS:], few)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter's NumPy
@pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning")
def test_a_query_that_is_no_number_spoils_its_own_row_alone():
    q, k, queue = draw(6, 300, 8)
    q[3, 5] = torch.nan
    loss, correct, gradient = on_gpu(q, k, queue, 0.2)
    assert loss.isnan().tolist() == gradient.isnan().any(dim=1).tolist() == [row == 3 for row in range(6)]
    assert not correct[3]


def test_float64_takes_the_chunks():
    vectors = [each.double() for each in draw(5, 300, 20)]
    for got, expected in zip(on_gpu(*vectors, 0.2), infonce._on_cpu(*vectors, 0.2), strict=True):
        assert got.dtype == expected.dtype
        assert (got.double() - expected.double()).norm() <= 1e-12 * expected.double().norm()


def test_without_triton_it_says_what_to_install(monkeypatch):
    monkeypatch.delattr(trainer, "infonce_triton")
    monkeypatch.delitem(sys.modules, "trainer.infonce_triton")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(TrainerError, match="pip install triton"):
        infonce._on_gpu(*draw(2, 3, 4), 0.2)


COMPILE = """
import sys
import trainer.infonce
assert "triton" not in sys.modules, "only the loss on a GPU needs it"
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from trainer.infonce_triton import COLUMNS, KEYS, PARTS, ROWS, SLICE, WARPS, join_parts, weigh_part

pointers = ("largest", "total", "weighted", "largest_of", "total_of", "weighted_of", "q", "queue")
kernels = {weigh_part: dict(ROWS=ROWS, KEYS=KEYS, COLUMNS=COLUMNS, SLICE=SLICE)}
kernels[join_parts] = dict(PARTS=PARTS, COLUMNS=SLICE)
for arch in (90, 80):
    for kernel, constants in kernels.items():
        signature = {name: "*fp32" if name in pointers else "i32" for name in kernel.arg_names} | {"scale": "fp32"}
        signature = {name: signature[name] for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
        aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name in pointers}
        source = ASTSource(kernel, signature, constants, aligned)
        options = dict(num_warps=WARPS, num_stages=1)
        built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
        ptx = built.asm["ptx"]
        print(arch, len(built.asm["cubin"]), built.metadata.shared, "fma.rn.f32" in ptx, "mma" in ptx, "atom" in ptx)
"""


def test_it_compiles_to_machine_code_without_a_gpu(tmp_path):
    """For an H100 and an A100: products are rounded to the nearest, and two programs fit into a multiprocessor."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["90", "90", "80", "80"]
    for _, machine_code, shared, *_ in lines:
        assert int(machine_code) > 4_000
        assert int(shared) <= 164 * 1024 // 2
    assert [line[3:] for line in lines[::2]] == 2 * [["True", "False", "False"]]


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no NVIDIA GPU")
@pytest.mark.parametrize("length", [65_536, 1_048_576])
def test_a_batch_of_full_size_through_the_operator(length):
    """Value, gradient, the same bits twice, and a twentieth of the memory that one batch-by-queue matrix takes."""
    q, k, queue = (each.cuda() for each in draw(256, length, 128))
    loss, correct, gradient = infonce._on_cpu(q.double(), k.double(), queue.double(), 0.07)
    q.requires_grad_()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        runs = [infonce.info_nce(q, k, queue, temperature=0.07) for _ in range(2)]
    gradients = [torch.autograd.grad(run.loss_B.sum(), q)[0] for run in runs]
    extra = torch.cuda.max_memory_allocated() - before
    assert_norms(runs[0].loss_B.detach(), loss, 1e-5)
    assert_norms(gradients[0], gradient, 1e-5)
    assert torch.equal(runs[0].correct_B, correct)
    assert torch.equal(runs[0].loss_B, runs[1].loss_B)
    assert torch.equal(*gradients)
    assert extra < max(24e6, 0.05 * 4 * 256 * length)
