"""The learning rate's course over a run, as a share of its peak. A pure function of the step: nothing to resume."""

from __future__ import annotations

import math

SCHEDULES = ("linear", "cosine", "tri-stage", "constant")

_TRI_STAGE_HOLD = 0.4
_TRI_STAGE_END = 0.05


def rate_share(schedule: str, step: int, num_steps: int, warmup: float) -> float:
    """The share of the peak rate at step 0..num_steps - 1.

    Args:
        schedule: "linear" falls to 0; "cosine" too, slowly at both ends; "tri-stage" holds the peak for 40 % of the run
            and then falls exponentially to 5 % (fairseq's schedule for fine-tuning); "constant" stays.
        warmup: the share of the run in which the rate rises linearly to its peak, 0..1.
    """
    rising = warmup * num_steps
    if step + 1 < rising:
        return (step + 1) / rising
    if schedule == "tri-stage":
        holding = _TRI_STAGE_HOLD * num_steps
        falling = max(1.0, num_steps - rising - holding)
        return float(_TRI_STAGE_END ** min(1.0, max(0.0, step - rising - holding) / falling))
    done = min(1.0, max(0.0, step - rising) / max(1.0, num_steps - rising))
    if schedule == "linear":
        return 1.0 - done
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    assert schedule == "constant", schedule
    return 1.0
