"""How many cells a step takes."""

import pytest

from scquery_ae.training.steps import MOST_FINETUNING, MOST_PRETRAINING, default_batch_size


@pytest.mark.parametrize(
    ("n_cells", "most", "expected"),
    [
        (2, 512, 32),
        (1055, 512, 32),
        # 1,056 cells make 32 batches of 33.
        (1056, 512, 33),
        (10_000, 512, 312),
        (20_000, 512, 512),
        (20_000, 128, 128),
    ],
)
def test_cells_make_thirty_two_steps_an_epoch_within_limits(n_cells, most, expected):
    size = default_batch_size(n_cells, most)
    assert (size, type(size)) == (expected, int)


def test_limits():
    assert (MOST_PRETRAINING, MOST_FINETUNING) == (512, 128)
