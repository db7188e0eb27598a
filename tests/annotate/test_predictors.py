"""The three predictors, and that every prediction of the package is made by ``Predictors.members``."""

import importlib

import numpy as np
import pytest

import scquery_ae as scq
from scquery_ae.annotate import MemberProbabilities, Predictors, latent_types
from scquery_ae.annotate.predictors import neighbor_probabilities
from scquery_ae.index import Neighbors
from scquery_ae.reference import simulate_query


def test_centroids_replace_the_votes_of_neighbors_without_a_label():
    distances = np.full((3, 4), 0.1, np.float32)
    labels = np.array([[0, 0, 1, 1], [0, -1, -1, 1], [-1, -1, -1, -1]])
    by_centroids = np.array([[0.7, 0.1, 0.2]] * 3)
    received = neighbor_probabilities(Neighbors(np.zeros((3, 4), int), distances), labels, by_centroids)
    np.testing.assert_allclose(received, [[0.5, 0.5, 0], [0.6, 0.3, 0.1], [0.7, 0.1, 0.2]])


def test_the_discriminant_does_not_affect_the_group_of_the_p_value():
    classifier, neighbors = np.array([[[0.6, 0.4]], [[0.3, 0.7]]])
    for discriminant in ([[1.0, 0.0]], [[0.0, 1.0]]):
        members = MemberProbabilities(classifier, neighbors, np.array(discriminant))
        np.testing.assert_array_equal(latent_types(members), [1])


# One function for all predictions: with other member probabilities, every result is another.


def predicted_by_query(trained, query):
    scq.tl.query(query, trained.reference)
    return [trained.reference.types.index(label) for label in query.obs["scquery_label"]]


def predicted_by_simulated_query(trained, query):
    result = simulate_query(trained.reference)
    # A type that is never predicted has an F1 score of 0.
    return [int(name.removeprefix("type ")) for name, f1 in result.f1.items() if f1 > 0]


def predicted_by_audit(trained, query):
    table = scq.tl.audit(trained.adata, trained.encoder, label_key="cell_type", progress=False)
    return [trained.reference.types.index(name) for name in table["suggested"]]


def predicted_by_calibration(calibration):
    def groups(trained, query):
        built = scq.tl.build_reference(
            trained.adata, trained.encoder, label_key="cell_type", calibration=calibration, progress=False
        )
        return built.calibration.groups

    return groups


PREDICTIONS = {
    "query": predicted_by_query,
    "simulated query": predicted_by_simulated_query,
    "audit": predicted_by_audit,
    "calibration on held-out cells": predicted_by_calibration("held_out"),
    "calibration by cross-validation": predicted_by_calibration("cross_validated"),
}


@pytest.mark.parametrize("predicted", PREDICTIONS.values(), ids=PREDICTIONS)
def test_every_prediction_uses_the_members(trained, query_adata, monkeypatch, predicted):
    def without_training(encoder, cells, labels, folds, types, settings, **kwargs):
        for fold in range(folds.max() + 1):
            yield folds == fold, encoder

    # The function hides the module of its name.
    module = importlib.import_module("scquery_ae.training.out_of_fold")
    monkeypatch.setattr(module, "crossfit", without_training)
    assert set(predicted(trained, query_adata)) == {0, 1, 2}

    def members_for_type_1(self, cells, neighbors, **kwargs):
        return MemberProbabilities(*(np.tile([0.2, 0.5, 0.3], (cells.n_obs, 1)) for _ in range(3)))

    monkeypatch.setattr(Predictors, "members", members_for_type_1)
    assert set(predicted(trained, query_adata)) == {1}
