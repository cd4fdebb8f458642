"""Memory is lent again when nobody holds it any more, and never before."""

import gc

import pytest
import torch

from augment.memory import memory_for

SHAPE = (3, 5, 16, 16)


def lent(dtype: torch.dtype = torch.float32, channels_last: bool = False) -> torch.Tensor:
    return memory_for(SHAPE, dtype, channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_a_tensor_like_any_other(dtype, channels_last):
    made = lent(dtype, channels_last)
    assert (made.shape, made.dtype) == (SHAPE, dtype)
    assert made.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert not made._is_view()
    made.fill_(2.0)
    assert (made == 2).all()


@pytest.mark.parametrize(
    "hold",
    [lambda made: made, lambda made: made[1:, 2], lambda made: made.numpy()[0], lambda made: made.chunk(3)[2].detach()],
)
def test_what_anyone_holds_is_not_lent_again(hold):
    held = hold(lent().fill_(1.0))
    others = [lent().fill_(7.0) for _ in range(6)]
    assert len(others) == 6
    assert (torch.as_tensor(held) == 1).all()


def test_what_nobody_holds_is_lent_again():
    first = lent()
    place = first.data_ptr()
    del first
    gc.collect()
    assert place in {each.data_ptr() for each in [lent() for _ in range(5)]}


def test_it_keeps_little():
    """However many were held at once, four blocks at most wait."""
    from augment import memory

    many = [lent() for _ in range(20)]
    del many
    gc.collect()
    assert len(memory._free) <= 4


def test_another_size_gets_its_own():
    small = memory_for((1, 1, 2, 2), torch.float32, False).fill_(1.0)
    large = memory_for((1, 1, 64, 64), torch.float32, False).fill_(2.0)
    assert (small == 1).all()
    assert (large == 2).all()
