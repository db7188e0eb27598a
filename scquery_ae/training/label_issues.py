"""Labels that the cells themselves contradict, found before any network is trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.training.crossfit import make_folds

#: A label is label_issue where another type is this much more probable.
LABEL_ISSUE_GAP = 0.2

#: A label is absurd where it is this many times less probable, given the cell, than its type is among all cells.
CONTRADICTED = 0.2

#: Share of contradicted labels above which labels are taken to be wrong at random. Eight labelled datasets as published have
#: at most .002; with 5 % of their labels replaced at random they have .026 to .040, with 20 % .040 to .116.
WRONG_FRACTION = 0.01

#: Fewer contradicted labels than this say nothing of a share.
MIN_CONTRADICTED = 5

#: The same of labels that another type exceeds by far: many wrong labels vouch for each other, so that none is absurd.
#: The eight datasets have at most .023, with 20 % replaced .043 to .173.
FAR_GAP, FAR_FRACTION = 0.5, 0.08

#: Types with fewer labelled cells are not judged.
MIN_CELLS = 10

#: Trees of a fold's judge.
N_TREES = 50

#: Cells that a fold's judge learns from, at most, and how many of a rare type come before any others.
MAX_CELLS, MOST_OF_RARE = 10_000, 20


@dataclass(frozen=True)
class LabelIssues:
    """What cells say of their labels.

    Attributes
    ----------
    label_issue
        Whether another type is clearly more probable than the label, bool ``(n,)``.
    n_contradicted
        Labels that next to nothing speaks for.
    widespread
        Whether so many labels are absurd, or another type exceeds them by far, that they must have been mixed up. Where
        types merely shade into each other, or some cells are of doubtful type, there are few of either.
    """

    label_issue: np.ndarray
    n_contradicted: int
    widespread: bool


def find_label_issues(projected: np.ndarray, labels: np.ndarray, n_types: int, random_state: int) -> LabelIssues:
    """Judge labels by randomised trees on principal components, each by what the other folds teach.

    Trees of which each leaf holds several cells outvote single wrong labels, and where types weigh alike keep those of
    a few cells, which a linear judge gives up for their larger neighbors. They take seconds where cross-fitting the
    network takes minutes.

    Parameters
    ----------
    projected
        Cells in principal components, ``(n, n_components)``.
    labels
        Type of each, int ``(n,)``; -1 for none.
    n_types
        Number of types.
    random_state
        Seed of the folds and the trees.

    References
    ----------
    Geurts, Ernst & Wehenkel, Machine Learning 63, 3 (2006).
    Northcutt et al., Journal of Artificial Intelligence Research 70, 1373 (2021).
    """
    from sklearn.ensemble import ExtraTreesClassifier

    label_issue = np.zeros(len(labels), dtype=bool)
    sizes = np.bincount(labels[labels >= 0], minlength=n_types)
    judged = np.flatnonzero((labels >= 0) & (sizes[labels] >= MIN_CELLS))
    if np.count_nonzero(sizes >= MIN_CELLS) < 2:
        return LabelIssues(label_issue, 0, widespread=False)
    rng = np.random.default_rng([random_state, 4])
    folds = make_folds(labels, None, 5, random_state)
    probabilities = np.zeros((len(labels), n_types))
    for fold in range(5):
        seen = np.flatnonzero((labels >= 0) & (folds != fold))
        if len(seen) > MAX_CELLS:
            seen = _thinned(seen, labels, rng)
        inside = judged[folds[judged] == fold]
        judge = ExtraTreesClassifier(
            N_TREES, min_samples_leaf=3, max_features=0.5, class_weight="balanced", random_state=random_state, n_jobs=-1
        )
        judge.fit(projected[seen], labels[seen])
        probabilities[np.ix_(inside, judge.classes_)] = judge.predict_proba(projected[inside])
    own = probabilities[judged, labels[judged]]
    gap = probabilities[judged].max(axis=1) - own
    label_issue[judged] = gap > LABEL_ISSUE_GAP
    # A type whose every label is label_issue cannot be judged by what is left of it.
    left = np.bincount(labels[(labels >= 0) & ~label_issue], minlength=n_types)
    label_issue[label_issue & (left[labels] == 0)] = False
    n_contradicted = int((own < CONTRADICTED * sizes[labels[judged]] / sizes.sum()).sum())
    absurdly_many = n_contradicted >= max(MIN_CONTRADICTED, WRONG_FRACTION * len(judged))
    widespread = absurdly_many or (gap > FAR_GAP).sum() >= FAR_FRACTION * len(judged)
    return LabelIssues(label_issue, n_contradicted, widespread=bool(widespread))


def _thinned(rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw at most MAX_CELLS of the rows; a plain draw would leave nothing of rare types to judge their labels by."""
    rows = rng.permutation(rows)
    order = np.argsort(labels[rows], kind="stable")
    ordered = labels[rows][order]
    rank = np.empty(len(rows), dtype=int)
    rank[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return np.asarray(rows[np.argsort(rank >= MOST_OF_RARE, kind="stable")[:MAX_CELLS]])
