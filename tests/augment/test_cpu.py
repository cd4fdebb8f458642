"""The compiled CPU op: what it stores and reads, and its threads. Its values are judged in test_paths."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from augment import Plan, kernels, render
from augment.ops import Dither
from augment.philox import philox4x32, uniform
from augment.taps import blur_taps
from sharding import dither

F64 = torch.float64


def still(shape: tuple[int, ...], size_px: int, at: tuple[int, int] = (0, 0)) -> Plan:
    """Rows that show the pixels of the stamps from ``at`` on, as they are."""
    rows, bands = shape[:2]
    affine = torch.eye(2, 3, dtype=F64).repeat(rows, 1, 1)
    affine[:, :, 2] = torch.tensor(at, dtype=F64)
    return Plan(
        size_px=size_px,
        place=torch.arange(rows),
        affine=affine,
        taps=torch.ones(rows, bands, 1, dtype=F64),
        gain=torch.ones(rows, bands, dtype=F64),
        noise_sigma=torch.zeros(rows, bands, dtype=F64),
        noise_key=torch.tensor([[0xFFFFFFFF, 0x9E3779B9]]).repeat(rows, 1),
    )


def moving(stamps: torch.Tensor, size_px: int, views: int = 2) -> Plan:
    """``views`` rows a stamp, each with its own turn, blur, gain and noise."""
    rows, bands = views * stamps.shape[0], stamps.shape[1]
    angle = torch.rand(rows, dtype=F64) * 6.0
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).view(rows, 2, 2)
    origin = stamps.shape[2] / 2 - turn.sum(dim=2, keepdim=True) * size_px / 2
    return Plan(
        size_px=size_px,
        place=torch.arange(stamps.shape[0]).repeat(views),
        affine=torch.cat([turn, origin], dim=2),
        taps=blur_taps(2.0 * torch.rand(rows, bands, dtype=F64), size_px),
        gain=0.5 + torch.rand(rows, bands, dtype=F64),
        noise_sigma=torch.rand(rows, bands, dtype=F64),
        noise_key=torch.randint(2**32, (rows, 2)),
    )


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_every_float16_number_is_decoded_exactly():
    stored = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16).view(1, 1, 256, 256)
    exact = stored.float()
    exact[~exact.isfinite()] = torch.nan  # an infinite pixel is a bad one
    got = render(stored, still(stored.shape, 256))
    torch.testing.assert_close(got, exact, rtol=0, atol=0, equal_nan=True)


def test_int16_is_decoded_to_the_bits_that_sharding_states():
    objid = torch.tensor([0, -1, 1237648720142401611, -(2**63), 2**32])
    stored = torch.randint(-(2**15), 2**15, (5, 3, 9, 11), dtype=torch.int16)
    step = torch.rand(5, 3) * 0.1
    exact = torch.empty(stored.shape)
    key = dither.dither_key(objid.numpy())
    dither.take_off(stored.flatten(2).numpy(), key, step.numpy(), exact.flatten(2).numpy())
    got = render(stored, still(stored.shape, 7, at=(2, 3)), dither=Dither(objid, step))
    assert torch.equal(got, exact[:, :, 2:9, 3:10])


@pytest.mark.parametrize("stored", [torch.float16, torch.int16])
def test_views_of_encoded_stamps_are_those_of_the_decoded_ones(stored):
    """Rows of one stamp are apart in the plan, so a stamp that was decoded must not be taken for another one."""
    coarse = (100.0 * torch.randn(3, 2, 20, 20)).to(stored)
    plan = moving(coarse, 9)
    if stored == torch.float16:
        assert torch.equal(render(coarse, plan), render(coarse.float(), plan))
        return
    known = Dither(torch.arange(3), torch.rand(3, 2))
    decoded = render(coarse, still(coarse.shape, 20), dither=known)
    assert torch.equal(render(coarse, plan, dither=known), render(decoded, plan))


def test_bfloat16_is_the_nearest_to_float32_ties_to_even():
    bits = torch.randint(-(2**31), 2**31, (4, 1, 64, 64), dtype=torch.int64)
    bits[1] &= ~0xFFFF  # exact in bfloat16
    bits[2] = (bits[2] & ~0xFFFF) | 0x8000  # ties
    bits[3] = 0x7F7F7FFF + bits[3] % 4  # where rounding up becomes infinite
    stamps = bits.to(torch.int32).view(torch.float32)
    plan = still(stamps.shape, 64)
    exact = render(stamps, plan)
    assert exact.isnan().any()
    assert torch.isinf(exact.to(torch.bfloat16)).any()
    got = render(stamps, plan, dtype=torch.bfloat16)
    torch.testing.assert_close(got, exact.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bands", [1, 3])
def test_channels_last_holds_the_same_views(dtype, bands):
    stamps = torch.randn(2, bands, 21, 24)
    plan = moving(stamps, 11)
    got = render(stamps, plan, dtype=dtype, channels_last=True)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(got, render(stamps, plan, dtype=dtype))


def test_noise_is_box_and_muller_of_the_words_in_every_place():
    """25 pixels are six blocks of four and one of which three values are left over."""
    plan = replace(still((1, 2), 5), noise_sigma=torch.ones(1, 2, dtype=F64))
    block, band, zero = torch.arange(7), torch.arange(2)[:, None], torch.tensor(0)
    words = philox4x32((block, band, zero, zero), (plan.noise_key[0, :1], plan.noise_key[0, 1:]))
    exact = torch.cat([half for pair in (words[:2], words[2:]) for half in box_muller(*pair)], dim=1)[:, :25]
    torch.testing.assert_close(
        render(torch.zeros(1, 2, 5, 5), plan).view(2, 25).double(), exact, rtol=0, atol=1e-5
    )  # as `Path.tolerance` states it


def test_normals_are_right_to_1e_5_for_the_most_extreme_words():
    """Where u is near 1 its logarithm is tiny; where it is near 0 the radius is largest; angles near every quarter."""
    near = torch.cat([2 ** torch.arange(32), torch.arange(0, 2**32, 2**29)])[:, None] + torch.arange(-3, 4)
    word = torch.cat([near.flatten(), -near.flatten(), torch.randint(2**32, (1000,))]) & 0xFFFFFFFF
    angle = word[torch.randperm(len(word))]
    words = torch.cat([word, angle]).numpy().astype(np.uint32)
    got = np.empty(len(words), np.float32)
    kernels._box_muller(words, got)
    torch.testing.assert_close(torch.from_numpy(got).double(), torch.cat(box_muller(word, angle)), rtol=0, atol=1e-5)


def box_muller(word: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    radius, turn = (-2.0 * uniform(word).log()).sqrt(), 2.0 * torch.pi * 2.0**-32 * angle
    return radius * turn.cos(), radius * turn.sin()


def test_a_bad_pixel_of_one_band_leaves_the_others_as_they_are():
    stamps = torch.randn(2, 3, 20, 20)
    plan = moving(stamps, 12)
    before = render(stamps, plan)
    stamps[1, 1, 10, 10] = torch.inf
    after = render(stamps, plan)
    hit = after.isnan().flatten(2).any(dim=2)
    assert torch.equal(hit.nonzero(), torch.tensor([[1, 1], [3, 1]]))
    assert torch.equal(after[~hit], before[~hit])


def test_a_row_has_the_same_bits_on_any_number_of_threads_and_alone(threads):
    stamps = torch.randn(40, 2, 20, 20)
    plan = moving(stamps, 12)
    threads(1)
    exact = render(stamps, plan)
    for number in (2, 7):
        threads(number)
        assert torch.equal(render(stamps, plan), exact)
    assert torch.equal(render(stamps, plan.rows(slice(33, 34))), exact[33:34])


def test_no_rows_give_no_views():
    stamps = torch.randn(2, 3, 20, 20)
    for stored in (stamps, stamps[:0]):
        assert render(stored, moving(stamps, 12).rows(slice(0, 0)), channels_last=True).shape == (0, 3, 12, 12)


def test_it_can_be_called_from_several_threads_at_once(threads):
    threads(3)
    batches = [torch.randn(20, 2, 20, 20) for _ in range(8)]
    plans = [moving(stamps, 12) for stamps in batches]
    exact = [render(*each) for each in zip(batches, plans, strict=True)]
    with ThreadPoolExecutor(4) as callers:
        for _ in range(5):
            got = list(callers.map(render, batches, plans))
            assert all(torch.equal(one, other) for one, other in zip(got, exact, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_it_works_in_a_forked_process(threads):
    """The helpers of the parent do not exist in the child: who waits for them waits for ever."""
    threads(3)
    stamps = torch.randn(20, 2, 20, 20)
    plan = moving(stamps, 12)
    exact = render(stamps, plan).numpy()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends it
        os._exit(0 if np.array_equal(render(stamps, plan).numpy(), exact) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says how much memory is in use")
def test_repeated_calls_take_no_more_memory():
    stamps = torch.randn(8, 2, 20, 20)
    stamps[:, 1, 10, 10] = torch.nan  # its own way, with scratch of its own
    plan = moving(stamps, 12)

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(50):
        render(stamps, plan)
    before = resident_bytes()
    for _ in range(200):
        render(stamps, plan)
    # One row's scratch for bad pixels is 4 kB: 200 calls that kept it for each of 16 rows would take 13 MB.
    assert resident_bytes() - before < 6e6


def test_one_compiled_variant_serves_every_dtype_and_layout():
    """A variant takes seconds to compile: in every user's first run, and in each run where nothing can be kept."""
    stamps = torch.randn(2, 1, 8, 8)
    plan = still(stamps.shape, 8)
    for dtype in (torch.float32, torch.bfloat16):
        render(stamps, plan, dtype=dtype, channels_last=dtype == torch.bfloat16)
    render(stamps.half(), plan)
    render(stamps.to(torch.int16), plan, dither=Dither(torch.arange(2), torch.ones(2, 1)))
    assert len(kernels.render_rows.signatures) == 1


@pytest.mark.parametrize("key", [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x9E3779B9, 12345)])
def test_its_random_words_are_philox_bit_for_bit(key):
    blocks, band = 1024, 4
    words = np.empty(4 * blocks, np.uint32)
    kernels._fill_words(np.uint64(key[0]), np.uint64(key[1]), np.uint64(band), np.uint64(blocks), words)
    block, zero = torch.arange(blocks), torch.tensor(0)
    expected = philox4x32((block, torch.tensor(band), zero, zero), tuple(torch.tensor(word) for word in key))
    assert np.array_equal(words.reshape(4, blocks), torch.stack(expected).numpy())
