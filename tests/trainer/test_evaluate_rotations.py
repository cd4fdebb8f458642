"""Averaging over turned views: turns are about the object, and the average is that of the turned views' answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from sharding import Dataset
from trainer.config import EncoderConfig
from trainer.data import EVALUATION_BATCH, Indices, Stack, Stamps
from trainer.errors import TrainerError
from trainer.inference import over, predict, turned
from trainer.resnet import ResNet

BANDS = 5
SOME: Indices = np.array([3, 1, 8, 5])


@pytest.fixture
def stamps(large_survey: Dataset) -> Stamps:
    """Of 17 pixels a side: the object is at pixel 8."""
    return Stamps(large_survey, torch.device("cpu"))


@pytest.fixture
def stack(stamps: Stamps) -> Stack:
    return stamps.read(SOME)


@pytest.fixture
def network() -> ResNet:
    torch.manual_seed(1)
    network = ResNet(EncoderConfig(depth=10, width=2, stretch="asinh"), BANDS)
    network.fc = torch.nn.Linear(network.num_features, 3)
    return network.eval()


def test_a_turn_by_nothing_is_the_plain_view_bit_for_bit(stamps: Stamps, stack: Stack) -> None:
    assert torch.equal(turned(stamps, stack, 12, 0.0), stamps.plain(stack, 12))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_exact(turns: int, stamps: Stamps, stack: Stack) -> None:
    odd = turned(stamps, stack, 11, 90.0 * turns)
    assert torch.equal(odd, torch.rot90(stamps.plain(stack, 11), turns, (2, 3)))
    # The object is on pixel 6 of 12: about it lie pixels 1 to 11, which turn onto each other.
    even, plain = (views[:, :, 1:, 1:] for views in (turned(stamps, stack, 12, 90.0 * turns), stamps.plain(stack, 12)))
    assert torch.equal(even, torch.rot90(plain, turns, (2, 3)))


@pytest.mark.parametrize("angle_deg", [30.0, 72.0, 211.0])
def test_other_turns_are_bilinear_about_the_object(angle_deg: float, stamps: Stamps, stack: Stack) -> None:
    size, centre = 10, 17 // 2
    sine, cosine = np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
    matrix = np.array([[cosine, sine], [-sine, cosine]])  # from the view's (y, x) to the stamp's
    offset = centre - matrix @ [size // 2, size // 2]
    whole = stamps.plain(stack, 17)  # the stamp itself, dereddened
    expected = [
        [
            affine_transform(band, matrix, offset, (size, size), order=1, mode="mirror")
            for band in stamp.double().numpy()
        ]
        for stamp in whole
    ]
    # Weights and sums of four pixels in float32, of the brightest pixel at most.
    tolerance = 8 * 6e-8 * float(whole.abs().max())
    np.testing.assert_allclose(turned(stamps, stack, size, angle_deg), expected, rtol=0, atol=tolerance)


def test_one_view_is_the_plain_views_answer_bit_for_bit(network: ResNet, stamps: Stamps, stack: Stack) -> None:
    with torch.no_grad():
        assert torch.equal(over(network, stamps, SOME, 12), network(stamps.plain(stack, 12)))


@pytest.mark.parametrize("rotations", [2, 3, 4])
def test_the_answer_is_the_mean_over_the_turns(rotations: int, network: ResNet, stamps: Stamps, stack: Stack) -> None:
    with torch.no_grad():
        answers = [network(turned(stamps, stack, 12, 360.0 * turn / rotations)) for turn in range(rotations)]
    mean = over(network, stamps, SOME, 12, rotations=rotations)
    torch.testing.assert_close(mean, torch.stack(answers).mean(dim=0), rtol=1e-6, atol=1e-6)


def test_four_turns_do_not_see_how_the_sky_is_turned(network: ResNet, stamps: Stamps) -> None:
    def tipped(views: Tensor) -> Tensor:  # what the network would see of a camera turned by 90 degrees
        return network(torch.rot90(views, 1, (2, 3)))

    one, other = (over(seen, stamps, SOME, 11, rotations=4) for seen in (network, tipped))
    # The same four answers added in another order: rounding of float32.
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    plain = [over(seen, stamps, SOME, 11) for seen in (network, tipped)]
    assert (plain[0] - plain[1]).abs().max() > 100 * (one - other).abs().max()


@pytest.mark.parametrize("rotations", [1, 3])
def test_how_samples_are_batched_changes_nothing(rotations: int, network: ResNet, stamps: Stamps) -> None:
    indices = np.arange(EVALUATION_BATCH + 5)  # a whole batch and a partial one
    together = over(network, stamps, indices, 12, rotations=rotations)
    parts = np.split(indices, [1, 8, 150])
    apart = torch.cat([over(network, stamps, part, 12, rotations=rotations) for part in parts])
    # Sums of float32 in another order.
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-5 * float(together.abs().max()))
    assert over(network, stamps, indices[:0], 12, rotations=rotations).shape == (0, 3)


def test_no_rotation_at_all_is_refused(large_survey: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="--rotations: expected at least 1, got 0"):
        predict(tmp_path, large_survey, SOME, rotations=0)
