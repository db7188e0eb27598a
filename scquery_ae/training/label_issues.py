"""Label issues: labels that out-of-fold predictions contradict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae._caller import argument, call
from scquery_ae._errors import warn
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows
from scquery_ae.training.crossfit import make_folds

#: A label is an issue where another type is more probable by more than this. At 0.3, the trees of `find_label_issues`
#: and the predictors of `tl.audit` find about the same labels. With 5 % (20 %) of the labels replaced, two seeds:
#: pancreatic islets, recall .98 (.97) and .99 (.99), precision .87 (.96) and .82 (.96); a developmental continuum,
#: recall .94 (.91) and .95 (.94), precision .52 (.87) and .50 (.87); sorted blood cells, recall 1.00 (.98) and
#: 1.00 (.98), precision .78 (.95) and .75 (.93). Confident learning, the default of cleanlab, uses one threshold per
#: type instead, the mean probability of the type's labels. It is unreliable for types of a few cells: on the islets
#: with 5 % of the labels replaced, its precision was between .19 and .94, depending on the seed.
LABEL_ISSUE_GAP = 0.3

#: A label is contradicted where its probability is below this fraction of its type's frequency among all cells.
CONTRADICTED = 0.2

#: Fraction of contradicted labels from which labels count as widely wrong. Eight labelled datasets as published have at
#: most .002; with 5 % of their labels replaced at random they have .026 to .040, with 20 % .040 to .116.
WRONG_FRACTION = 0.01

#: Smallest number of contradicted labels that counts as widely wrong.
MIN_CONTRADICTED = 5

#: Labels also count as widely wrong where another type is more probable by `FAR_GAP` for the fraction `FAR_FRACTION`
#: of the cells: many wrong labels support each other, so that none of them is contradicted. The eight datasets have at
#: most .023, and .043 to .173 with 20 % of their labels replaced.
FAR_GAP, FAR_FRACTION = 0.5, 0.08

#: Labels of types with fewer labelled cells are not examined.
MIN_CELLS = 10

#: Trees in the forest of each fold.
N_TREES = 50

#: Largest number of cells that a forest is fitted to, and how many of a rare type are drawn before any other cells.
MAX_CELLS, MOST_OF_RARE = 10_000, 20


@dataclass(frozen=True)
class LabelIssues:
    """Label issues among some cells.

    Attributes
    ----------
    is_label_issue
        Whether another type is clearly more probable than the label, bool ``(n,)``; see :func:`is_label_issue`.
    n_contradicted
        Number of labels whose type is much less probable for the cell than for a cell drawn at random.
    widespread
        Whether so many labels are contradicted, or exceeded by another type by far, that labels must have been mixed
        up. Types that shade into each other, and a few cells of doubtful type, do not suffice.
    """

    is_label_issue: np.ndarray
    n_contradicted: int
    widespread: bool


def is_label_issue(p_label: np.ndarray, p_suggested: np.ndarray) -> np.ndarray:
    """Return whether labels are issues: whether another type is more probable by more than `LABEL_ISSUE_GAP`.

    Fine-tuning and :func:`scquery_ae.tl.audit` share this definition, but not the probabilities. Fine-tuning estimates
    them with trees on principal components, in seconds and before any training; the audit combines the calibrated
    predictions of cross-fitted encoders. A label close to the limit can be an issue in one and not in the other.

    Parameters
    ----------
    p_label
        Out-of-fold probability of the label of each cell, ``(n,)``.
    p_suggested
        Out-of-fold probability of the most probable type of each cell, ``(n,)``.

    Notes
    -----
    The difference is the negative margin of the label, the score of label quality that cleanlab calls
    ``"normalized_margin"``. cleanlab itself is not used because of its licence, the AGPL.
    """
    return np.asarray(p_suggested - p_label > LABEL_ISSUE_GAP)


def find_label_issues(projected: np.ndarray, labels: np.ndarray, n_types: int, random_state: int) -> LabelIssues:
    """Compare labels with out-of-fold predictions of randomised trees on principal components.

    Leaves hold several cells, so that single wrong labels are outvoted, and types are weighted equally, so that labels
    of rare types are kept, which a linear classifier gives up for larger neighbors. The trees take seconds, while
    cross-fitting the network takes minutes.

    Parameters
    ----------
    projected
        Cells in principal components, ``(n, n_components)``.
    labels
        Type of each cell, int ``(n,)``; -1 for none.
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

    found = np.zeros(len(labels), dtype=bool)
    sizes = np.bincount(labels[labels >= 0], minlength=n_types)
    examined = np.flatnonzero((labels >= 0) & (sizes[labels] >= MIN_CELLS))
    if np.count_nonzero(sizes >= MIN_CELLS) < 2:
        return LabelIssues(found, 0, widespread=False)
    rng = np.random.default_rng([random_state, 4])
    folds = make_folds(labels, None, 5, random_state)
    probabilities = np.zeros((len(labels), n_types))
    for fold in range(5):
        seen = np.flatnonzero((labels >= 0) & (folds != fold))
        if len(seen) > MAX_CELLS:
            seen = _subsample(seen, labels, rng)
        inside = examined[folds[examined] == fold]
        trees = ExtraTreesClassifier(
            N_TREES, min_samples_leaf=3, max_features=0.5, class_weight="balanced", random_state=random_state, n_jobs=-1
        )
        trees.fit(projected[seen], labels[seen])
        probabilities[np.ix_(inside, trees.classes_)] = trees.predict_proba(projected[inside])
    p_label = probabilities[examined, labels[examined]]
    p_suggested = probabilities[examined].max(axis=1)
    found[examined] = is_label_issue(p_label, p_suggested)
    # Without these labels, nothing would be left of a type whose labels are all issues.
    left = np.bincount(labels[(labels >= 0) & ~found], minlength=n_types)
    found[found & (left[labels] == 0)] = False
    n_contradicted = int((p_label < CONTRADICTED * sizes[labels[examined]] / sizes.sum()).sum())
    many_contradicted = n_contradicted >= max(MIN_CONTRADICTED, WRONG_FRACTION * len(examined))
    widespread = many_contradicted or (p_suggested - p_label > FAR_GAP).sum() >= FAR_FRACTION * len(examined)
    return LabelIssues(found, n_contradicted, widespread=bool(widespread))


def labels_to_drop(
    encoder: Encoder, cells: CellRows, labels: np.ndarray, n_types: int, label_issues: str, random_state: int
) -> np.ndarray:
    """Return which labels fine-tuning ignores, bool ``(n,)``.

    Parameters
    ----------
    encoder
        Pretrained encoder. Without principal components, no label is dropped.
    cells
        All cells.
    labels
        Type of each cell, int ``(n,)``; -1 for none.
    n_types
        Number of types.
    label_issues
        ``"keep"`` drops none, ``"drop"`` all label issues, and ``"auto"`` all label issues if they are widespread, with
        a warning.
    random_state
        Seed of the folds and the trees.
    """
    if label_issues == "keep" or encoder.components is None:
        return np.zeros(len(labels), dtype=bool)
    found = find_label_issues(encoder.project(cells.logged), labels, n_types, random_state)
    if label_issues == "auto":
        if not found.widespread:
            return np.zeros(len(labels), dtype=bool)
        warn(
            f"Many labels seem to be wrong: {int(found.is_label_issue.sum())} of {int((labels >= 0).sum())} are label "
            f"issues, and {found.n_contradicted} are much less probable than their type is on average. Cells with a "
            f"label issue count as unlabelled. Inspect them with {call('tl.audit')}; pass "
            f"{argument('label_issues', 'keep')} to train on all labels, or 'drop' to drop label issues without this "
            "warning."
        )
    return found.is_label_issue


def _subsample(rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw at most MAX_CELLS of the rows, first some of each type: a plain draw could leave no cell of a rare type."""
    rows = rng.permutation(rows)
    order = np.argsort(labels[rows], kind="stable")
    ordered = labels[rows][order]
    rank = np.empty(len(rows), dtype=int)
    rank[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return np.asarray(rows[np.argsort(rank >= MOST_OF_RARE, kind="stable")[:MAX_CELLS]])
