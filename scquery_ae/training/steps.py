"""How many cells a step of training takes, unless told otherwise."""

from __future__ import annotations

import numpy as np

#: Steps an epoch at least, where there are cells enough for them: a few hundred cells in large batches would be trained
#: in a few dozen steps, which is too few.
STEPS = 32

#: Least cells in a step, and most in pretraining and in fine-tuning. Greater batches make better use of the
#: processor; in these sizes, accuracy on the benchmark's tasks is the same or better.
LEAST, MOST_PRETRAINING, MOST_FINETUNING = 32, 512, 128


def default_batch_size(n_cells: int, most: int) -> int:
    """Return how many of `n_cells` a step takes, `most` at most."""
    return int(np.clip(n_cells // STEPS, LEAST, most))
