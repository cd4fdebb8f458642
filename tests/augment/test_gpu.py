"""The Triton kernel: on a GPU where there is one, else in Triton's interpreter, on tensors in host memory.

Rows are compared with the reference in float64, noise with Box and Muller in float64 on the words of `augment.philox`.
"""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
triton = pytest.importorskip("triton")
tl = triton.language

import augment  # noqa: E402
from augment import gpu, ops, philox, reference, triton_kernel  # noqa: E402
from augment.errors import AugmentError  # noqa: E402
from augment.plan import Plan  # noqa: E402
from augment.taps import blur_taps  # noqa: E402
from sharding import dither  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 2.0**-24  # float32's rounding


def make_plan(place, *, bands, size_px, shape, blur=1.3, noise=0.3, scale=1.0):
    """Rows turned, mirrored, scaled and shifted at random about the middle of stamps of ``shape``."""
    rows = len(place)
    uniform = torch.rand(rows, 4, dtype=torch.float64)
    angle, flip = uniform[:, 0] * 2 * torch.pi, torch.where(uniform[:, 1] < 0.5, -1.0, 1.0)
    turn = [torch.stack([angle.cos(), angle.sin()], 1), torch.stack([-angle.sin() * flip, angle.cos() * flip], 1)]
    matrix = scale * torch.stack(turn, 1)
    middle = torch.tensor(shape, dtype=torch.float64) / 2 + uniform[:, 2:]
    origin = middle[:, :, None] - matrix @ torch.full((rows, 2, 1), size_px / 2, dtype=torch.float64)
    of_band = torch.rand(3, rows, bands, dtype=torch.float64)
    return Plan(
        size_px=size_px,
        place=torch.tensor(place),
        affine=torch.cat([matrix, origin], dim=2),
        taps=blur_taps(blur * of_band[0], size_px),
        gain=0.5 + of_band[1],
        noise_sigma=noise * of_band[2],
        noise_key=torch.randint(2**32, (rows, 2)),
    )


def still(place, *, bands, size_px, at=(0, 0)):
    """Rows that are the stamps' pixels from ``at`` on, as they are."""
    rows = len(place)
    affine = torch.eye(2, 3, dtype=torch.float64).repeat(rows, 1, 1)
    affine[:, :, 2] = torch.tensor(at, dtype=torch.float64)
    plan = make_plan(place, bands=bands, size_px=size_px, shape=(2, 2), blur=0.0, noise=0.0)
    return replace(plan, affine=affine, gain=torch.ones_like(plan.gain))


def render(stored, plan, *, objid=None, step=None, dtype=torch.float32, channels_last=False):
    tensors = (plan.place, plan.affine, plan.gain, plan.taps, plan.noise_sigma, plan.noise_key)
    there = [each if each is None else each.to(DEVICE) for each in (stored, objid, step, *tensors)]
    return gpu.render(*there, plan.size_px, dtype, channels_last).cpu()


def normal64(plan):
    """The noise field as it is defined, in float64."""
    pixels = plan.size_px**2
    block, zero = torch.arange(-(-pixels // 4)), torch.tensor(0)
    band = torch.arange(plan.gain.shape[1])[:, None]
    words = philox.philox4x32((block, band, zero, zero), tuple(plan.noise_key.T[:, :, None, None]))
    lanes = [part for pair in (words[:2], words[2:]) for part in box_muller64(*pair)]
    return torch.cat(lanes, dim=-1)[..., :pixels].unflatten(-1, (plan.size_px, plan.size_px))


def box_muller64(word, angle):
    radius, turn = (-2 * torch.log(philox.uniform(word))).sqrt(), 2 * torch.pi * 2.0**-32 * angle.double()
    return radius * turn.cos(), radius * turn.sin()


def assert_as_the_reference(got, stored, plan):
    """Within float32's rounding, of which no pixel gathers more than 32 times the largest value that it is made of.

    Two fractions off by EPS / 2 times a difference of two values, 6 products and 3 sums, 2 sums of no more than 2 reach
    weights of total 1, and the gain. The noise may be off by 1e-5 sigma.
    """
    quiet = replace(plan, noise_sigma=torch.zeros_like(plan.noise_sigma))
    expected = reference.render(stored.double(), quiet) + plan.noise_sigma[:, :, None, None] * normal64(plan)
    largest = float(stored.float().nan_to_num(0, 0, 0).abs().max() * plan.gain.max())
    tolerance = (
        32 * EPS * largest + 1e-5 * float(plan.noise_sigma.max()) + EPS * float(expected.nan_to_num().abs().max())
    )
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize(
    ("size_px", "shape"),
    [(16, (23, 19)), (1, (2, 2)), (17, (9, 12)), (18, (31, 31)), (24, (2, 40)), (33, (30, 35)), (64, (107, 107))],
)
def test_a_row_is_what_the_reference_says(size_px, shape):
    """Full tiles, others, and those whose noise does not come in whole rows (4 does not divide their size)."""
    bands = 1 if size_px > 18 else 3
    stored = torch.randn(2, bands, *shape)
    before = stored.clone()
    plan = make_plan([1, 0], bands=bands, size_px=size_px, shape=shape)
    assert_as_the_reference(render(stored, plan), stored, plan)
    assert torch.equal(stored, before)


@pytest.mark.parametrize("scale", [1e-3, 7.3, -1e4])
def test_any_affine_leads_into_the_stamp(scale):
    """Many times mirrored, or all of the view inside one pixel; a position of 1e5 px is still known to 1e-11."""
    stored = torch.randn(1, 2, 13, 17)
    plan = make_plan([0, 0], bands=2, size_px=16, shape=(13, 17), scale=scale)
    assert_as_the_reference(render(stored, plan), stored, plan)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # the interpreter's NumPy
def test_a_position_that_is_no_number_gives_nan_and_nothing_else():
    plan = make_plan([0, 0], bands=1, size_px=16, shape=(20, 20), blur=0.0)
    plan.affine[0, 0, 2] = torch.nan
    got = render(torch.ones(1, 1, 20, 20), plan)
    assert got[0].isnan().all()
    assert got[1].isfinite().all()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_whole_positions_give_the_pixels_bit_for_bit(turns):
    """Also where another band is blurred, and where the view reaches the stamp's last pixel."""
    stored = torch.randn(1, 2, 16, 16)
    plan = still([0], bands=2, size_px=16)
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    plan.affine[0] = torch.tensor([[cosine, sine, 15 * (turns in (2, 3))], [-sine, cosine, 15 * (turns in (1, 2))]])
    taps = torch.tensor([[[1.0, 0.0], [0.6, 0.2]]], dtype=torch.float64)
    got = render(stored, replace(plan, taps=taps))
    assert torch.equal(got[0, 0], torch.rot90(stored[0, 0], turns))
    assert not torch.equal(got[0, 1], torch.rot90(stored[0, 1], turns))


def test_a_constant_stays_the_same_and_an_impulse_in_the_corner_is_mirrored():
    stored = torch.full((2, 1, 16, 16), 3.0)
    stored[1] = 0.0
    stored[1, 0, 0, 0] = 1.0
    plan = make_plan([0, 1], bands=1, size_px=16, shape=(16, 16), noise=0.0)
    plan.affine[1] = torch.eye(2, 3)
    taps = torch.zeros(2, 1, 16, dtype=torch.float64)
    taps[..., 0], taps[..., 1:] = 0.25, 0.025  # as far as the view is wide
    plan = replace(plan, gain=torch.ones_like(plan.gain), taps=taps)
    got = render(stored, plan)
    torch.testing.assert_close(got[0], torch.full((1, 16, 16), 3.0), rtol=0, atol=3 * 40 * EPS)  # 32 terms twice
    # Each pixel sees it once, at its distance; the last one twice, as the mirror beyond it shows it at 15 px as well.
    along = torch.full((16,), 0.025)
    along[0], along[15] = 0.25, 0.05
    torch.testing.assert_close(got[1, 0], along[:, None] * along, rtol=8 * EPS, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_bad_pixels_spoil_what_they_touch_in_their_band_and_nothing_else(dtype, blur):
    stored = torch.randn(2, 3, 24, 24).to(dtype)
    stored[0, 0, 12, 11], stored[0, 0, 0, 0], stored[0, 2, 5, 9] = torch.nan, torch.inf, -torch.inf
    plan = make_plan([0, 1, 0], bands=3, size_px=16, shape=(24, 24), blur=blur)
    got = render(stored, plan)
    assert got[0, 0].isnan().any()
    assert got[[0, 2], 1].isfinite().all()
    assert got[1].isfinite().all()
    assert_as_the_reference(got, stored, plan)


def test_int16_is_decoded_bit_for_bit():
    stored = torch.randint(-(2**15), 2**15, (3, 2, 18, 21), dtype=torch.int16)
    objid, step = torch.tensor([1237648720693755918, -1, 2**40 + 7]), torch.rand(3, 2) * 1e-3
    decoded = np.empty(stored.shape, dtype=np.float32)
    key = dither.dither_key(objid.numpy())
    dither.take_off(stored.flatten(2).numpy(), key, step.numpy(), decoded.reshape(3, 2, -1))
    got = render(stored, still([2, 0, 1], bands=2, size_px=17, at=(1, 3)), objid=objid, step=step)
    assert torch.equal(got, torch.from_numpy(decoded)[[2, 0, 1], :, 1:, 3:20])
    plan = make_plan([0, 1, 2], bands=2, size_px=16, shape=(18, 21))
    assert torch.equal(render(stored, plan, objid=objid, step=step), render(torch.from_numpy(decoded), plan))


def test_other_numbers_and_orders_are_the_same_views():
    """float16 stamps are float32 ones; bfloat16 views are rounded ones; channels-last is only an order.

    A GPU rounds to the nearest, Triton's interpreter towards zero.
    """
    stored = torch.randn(2, 3, 20, 20).half()
    plan = make_plan([0, 1], bands=3, size_px=18, shape=(20, 20))
    views = render(stored.float(), plan)
    assert torch.equal(render(stored, plan), views)
    rounded = render(stored, plan, dtype=torch.bfloat16, channels_last=True)
    nearest = views.bfloat16()
    cut_off = (views.view(torch.int32) & -(2**16)).view(torch.float32).bfloat16()
    assert torch.equal(rounded, nearest if DEVICE == "cuda" else cut_off)
    assert rounded.is_contiguous(memory_format=torch.channels_last)
    assert views.is_contiguous()


@pytest.mark.parametrize("place", [[0, 1, 2, 0, 1, 2], [2, 2, 0, 2], [1]])
def test_a_row_does_not_depend_on_the_others(place):
    stored = torch.randn(3, 2, 20, 20)
    plan = make_plan(place, bands=2, size_px=16, shape=(20, 20))
    together = render(stored, plan)
    for row in range(len(place)):
        assert torch.equal(render(stored, plan.rows(slice(row, row + 1)))[0], together[row])


def test_a_place_that_is_no_stamp_is_nan():
    plan = make_plan([0, 2, -1, 1], bands=1, size_px=16, shape=(20, 20))
    whole = render(torch.ones(2, 1, 20, 20), plan).isnan()
    assert whole.flatten(1).all(dim=1).tolist() == [False, True, True, False]
    assert whole.flatten(1).any(dim=1).tolist() == [False, True, True, False]
    assert render(torch.ones(0, 1, 20, 20), plan).isnan().all()
    assert render(torch.ones(2, 1, 20, 20), plan.rows(slice(0))).shape == (0, 1, 16, 16)


@triton.jit
def _words(out, block, band, key_0, key_1, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    words = triton_kernel.philox_words(tl.load(block + at), tl.load(band), tl.load(key_0), tl.load(key_1))
    for lane in tl.static_range(4):
        tl.store(out + lane * COUNT + at, words[lane].to(tl.int64))


def test_words_are_those_of_philox():
    block, band = torch.arange(1024, dtype=torch.int32), torch.tensor([4], dtype=torch.int32)
    keys = [torch.tensor([key]).to(torch.uint32) for key in (0x9E3779B9, 0xFFFFFFFF)]
    out = torch.empty(4, 1024, dtype=torch.int64, device=DEVICE)
    _words[(1,)](out, block.to(DEVICE), band.to(DEVICE), *(key.to(DEVICE) for key in keys), COUNT=1024)
    zero = torch.tensor(0)
    expected = philox.philox4x32((block.long(), band.long(), zero, zero), tuple(key.long() for key in keys))
    assert torch.equal(out.cpu(), torch.stack(expected))


@triton.jit
def _normals(out, word, angle, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    cosine, sine = triton_kernel.box_muller(tl.load(word + at), tl.load(angle + at))
    tl.store(out + at, cosine)
    tl.store(out + COUNT + at, sine)


def test_normals_are_right_to_1e_5_for_all_kinds_of_words():
    """The ends, the middle where the formula changes, and either side of every eighth of a turn."""
    edges = [(at + off) % 2**32 for at in range(0, 2**32, 2**29) for off in (-1, 0, 1)]
    word, angle = torch.meshgrid(
        torch.tensor([*edges, *(2**32 - 2**k for k in range(1, 31))]), torch.tensor(edges), indexing="ij"
    )
    count = 2048
    word, angle = (each.flatten().repeat(2)[:count] for each in (word, angle))
    out = torch.empty(2, count, device=DEVICE)
    _normals[(1,)](out, word.to(torch.uint32).to(DEVICE), angle.to(torch.uint32).to(DEVICE), COUNT=count)
    torch.testing.assert_close(out.cpu().double(), torch.stack(box_muller64(word, angle)), rtol=0, atol=1e-5)


def test_views_too_large_for_a_tile_are_refused():
    with pytest.raises(AugmentError, match="at most 128 pixels a side, got 129"):
        render(torch.ones(1, 1, 4, 4), make_plan([0], bands=1, size_px=129, shape=(4, 4)))


def test_without_triton_it_says_what_to_install(monkeypatch):
    monkeypatch.delattr(augment, "triton_kernel")
    monkeypatch.delitem(sys.modules, "augment.triton_kernel")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(AugmentError, match="pip install triton"):
        render(torch.ones(1, 1, 4, 4), make_plan([0], bands=1, size_px=16, shape=(4, 4)))


COMPILE = """
import sys
import augment
assert "triton" not in sys.modules, "only views on a GPU need it"
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from augment.triton_kernel import render_plane

pointers = dict(out="*bf16", stored="*i16", objid="*i64", step="*fp32", place="*i64", affine="*fp64", gain="*fp64")
pointers |= dict(taps="*fp32", noise_sigma="*fp64", noise_key="*i64")
for arch, constants in ((90, dict(SIZE=64, SIDE=64)), (80, dict(SIZE=15, SIDE=16, objid=None, step=None))):
    constants |= dict(BANDS=5, HEIGHT=107, WIDTH=107, stride_x=1)
    signature = {name: pointers.get(name, "i32") for name in render_plane.arg_names}
    if constants.get("objid", 0) is None:
        signature |= dict(stored="*fp32", out="*fp32")
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(render_plane, signature, constants)
    options = dict(num_warps=4, num_stages=1, enable_fp_fusion=True)
    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    print(arch, len(built.asm["cubin"]), built.metadata.shared, "cvt.rn.bf16" in built.asm["ptx"])
"""


def test_it_compiles_to_machine_code_without_a_gpu(tmp_path):
    """For an H100, bfloat16 rounded to the nearest, and an A100; the interpreter accepts what the compiler does not.

    Two programs fit into the memory of a multiprocessor.
    """
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line, arch in zip(done.stdout.splitlines(), ("90", "80"), strict=True):
        name, machine_code, shared, nearest = line.split()
        assert (name, nearest) == (arch, str(arch == "90"))
        assert int(machine_code) > 10_000
        assert int(shared) <= 164 * 1024 // 2


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no NVIDIA GPU")
@pytest.mark.parametrize("size_px", [64, 107, 128])
@pytest.mark.parametrize("kind", ["float32", "float16", "int16"])
def test_a_batch_of_full_size_through_the_op(kind, size_px):
    stored = torch.randn(64, 5, 107, 107)
    dithered = None
    if kind == "int16":
        stored = (stored * 1000).to(torch.int16)
        dithered = ops.Dither(torch.randint(2**62, (64,)).cuda(), torch.full((64, 5), 1e-3).cuda())
        decoded = render(stored, still(range(64), bands=5, size_px=107), objid=dithered.objid, step=dithered.step)
    else:
        stored[3, 1, 50, 52] = torch.nan
        stored = decoded = stored.to(getattr(torch, kind))
    plan = make_plan([*range(64), *range(64)], bands=5, size_px=size_px, shape=(107, 107))
    got = ops.render(stored.cuda(), plan.to(torch.device("cuda")), dither=dithered)
    assert_as_the_reference(got.cpu(), decoded, plan)
    rounded = ops.render(
        stored.cuda(), plan.to(torch.device("cuda")), dither=dithered, dtype=torch.bfloat16, channels_last=True
    )
    torch.testing.assert_close(rounded, got.bfloat16(), rtol=0, atol=0, equal_nan=True)
