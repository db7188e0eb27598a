"""Default number of cells per training step."""

from __future__ import annotations

import numpy as np

#: Smallest number of steps per epoch, if there are enough cells: a few hundred cells in large batches would be trained
#: in a few dozen steps, which is too few.
STEPS = 32

#: Smallest number of cells per step, and largest number in pretraining and in fine-tuning. Larger batches use the
#: processor better. With these sizes, accuracy on the benchmark's tasks is the same or better.
LEAST, MOST_PRETRAINING, MOST_FINETUNING = 32, 512, 128


def default_batch_size(n_cells: int, most: int) -> int:
    """Return the default number of cells per step for `n_cells` cells, at most `most`."""
    return int(np.clip(n_cells // STEPS, LEAST, most))
