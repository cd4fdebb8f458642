"""The work as `per_stamp` takes it: a view at a time, in plain numbers."""

import numpy as np

from .per_stamp import Recipe, Rows
from .work import VIEWS, Work, blur_sigma_px


def rows(work: Work) -> Rows:
    """Each stamp with what is to become of it, view after view."""
    stamps = work.stamps.images.numpy()
    return [row for view in range(VIEWS) for row in zip(stamps, recipes(work, view), strict=True)]


def recipes(work: Work, view: int) -> list[Recipe]:
    """What is to become of each stamp."""
    drawn, plan, widths = work.drawn[view], work.plans[view], blur_sigma_px(work.plans[view])
    to_stamp = np.tile(np.eye(3), (len(plan.affine), 1, 1))
    to_stamp[:, :2, :2] = plan.affine[:, :, :2].flip(1, 2).numpy()
    to_stamp[:, :2, 2] = plan.affine[:, :, 2].flip(1).numpy()
    return [
        Recipe(
            size_px=plan.size_px,
            angle_deg=float(drawn.angle_deg[row]),
            flip=bool(drawn.flip[row]),
            shift_px=(int(drawn.shift_px[row, 0]), int(drawn.shift_px[row, 1])),
            matrix=to_stamp[row],
            gain=plan.gain[row].float().numpy(),
            blur_px=widths[row].numpy(),
            noise=plan.noise_sigma[row].float().numpy(),
        )
        for row in range(len(to_stamp))
    ]
