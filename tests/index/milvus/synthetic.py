"""Synthetic vectors and metadata, and the comparison of search results."""

import numpy as np
import pandas as pd

N, WIDTH = 300, 8
NASTY = ['x"] or row >= 0 or obs_kind in ["', "back\\slash", 'quo"te', "it's", "new\nline\r\t", "ünï 细胞 {a}", ""]

RNG = np.random.default_rng(5)
AMONG = {
    "few": RNG.choice(N, 12, replace=False),
    "a run": np.arange(40, 200),
    "many runs": np.arange(0, N, 3),
    "nearly all": np.setdiff1d(np.arange(N), RNG.choice(N, 90, replace=False)),
    "half": np.sort(RNG.choice(N, N // 2, replace=False)),
    "twice": np.tile(RNG.choice(N, 120, replace=False), 2),
}


def unit(seed, n):
    x = np.random.default_rng(seed).standard_normal((n, WIDTH))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def table(n):
    rows = np.arange(n)
    frame = pd.DataFrame(
        {
            "kind": pd.Categorical([f"kind {i % 5}" for i in rows]),
            "donor": [NASTY[i % len(NASTY)] for i in rows],
            "age": rows % 30 - 10,
            "score": rows / 7 - 20.5,
            "fresh": rows % 3 == 0,
        }
    )
    frame.loc[4, "kind"] = np.nan
    frame.loc[6, "score"] = np.nan
    return frame


def same(found, expected):
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)
