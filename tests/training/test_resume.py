"""Interrupted training resumes from the last epoch, with the same result as uninterrupted training."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import keras
import numpy as np
import pandas as pd
import pytest

import scquery_ae as scq
from scquery_ae.nn import Batches, ResumePoint, fitting

pytestmark = [
    pytest.mark.backend,
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true"),
]

PRETRAIN = {
    "layer_sizes": (6, 3),
    "epochs": 4,
    "patience": 4,
    "batch_size": 16,
    "learning_rate": 0.01,
    "validation_fraction": 0.2,
    "gene_masking": (0.1, 0.5),
    "random_state": 3,
    "progress": False,
}
FINETUNE = {
    "label_key": "cell_type",
    "epochs": 4,
    "patience": 4,
    "batch_size": 16,
    "learning_rate": 0.01,
    "validation_fraction": 0.2,
    "dropout": 0.3,
    "gene_masking": (0.1, 0.5),
    "random_state": 3,
    "progress": False,
}


@pytest.fixture(scope="module")
def normalized(make_adata):
    adata = make_adata(60, 30)
    scq.pp.normalize(adata, n_top_genes=20)
    return adata


@pytest.fixture(scope="module")
def started(normalized, make_encoder):
    encoder = make_encoder(normalized[:, normalized.var["highly_variable"]].copy(), (6, 3))
    encoder.transform = type(encoder.transform).from_dict(normalized.uns["scquery_transform"])
    encoder.classifier = None
    return encoder


@dataclass
class Interruption:
    """When to stop, by the title of the training and its epoch; and which epochs were begun."""

    training: str = "none"
    epoch: int = -1
    in_the_middle: bool = False
    error: type[BaseException] = KeyboardInterrupt
    begun: list[tuple[str, int]] = field(default_factory=list)
    armed: bool = False

    def at(self, training, epoch, **kwargs):
        self.__init__(training, epoch, **kwargs)

    def never(self):
        self.__init__()


@pytest.fixture
def interrupt(monkeypatch, eager):
    """``interrupt.at("layer 2", 3)`` stops the training of that layer when its fourth epoch begins."""
    plan = Interruption()
    run, read = fitting.run_epochs, Batches.__getitem__

    def spied_run(model, *args, callbacks, **kwargs):
        title = next(each for each in callbacks if isinstance(each, fitting.ProgressBar))._title

        def begin(epoch, _logs):
            plan.begun.append((title, epoch))
            if plan.training in title and epoch == plan.epoch:
                if not plan.in_the_middle:
                    raise plan.error
                plan.armed = True

        return run(model, *args, callbacks=[*callbacks, keras.callbacks.LambdaCallback(on_epoch_begin=begin)], **kwargs)

    def spied_read(self, index):
        if plan.armed and index == 1:
            raise plan.error
        return read(self, index)

    monkeypatch.setattr(fitting, "run_epochs", spied_run)
    monkeypatch.setattr(Batches, "__getitem__", spied_read)
    return plan


def weights(encoder):
    arrays = [array for layer in encoder.layers for array in (layer.kernel, layer.bias)]
    return arrays if encoder.classifier is None else [*arrays, encoder.classifier.kernel, encoder.classifier.bias]


def assert_same(one, other):
    assert one.history == other.history
    for array, same in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(array, same)


# Pretraining.


@pytest.mark.parametrize(
    ("training", "epoch", "how"),
    [
        pytest.param("layer 1", 0, {"in_the_middle": True}, marks=pytest.mark.slow),
        pytest.param("layer 1", 1, {}, marks=pytest.mark.slow),
        pytest.param("layer 1", 3, {"in_the_middle": True, "error": RuntimeError}, marks=pytest.mark.slow),
        pytest.param("layer 2", 0, {}, marks=pytest.mark.slow),
        ("layer 2", 2, {"in_the_middle": True}),
    ],
)
def test_pretraining_resumes_wherever_it_was_interrupted(normalized, interrupt, tmp_path, training, epoch, how):
    whole = scq.tl.pretrain(normalized, **PRETRAIN)
    interrupt.at(training, epoch, **how)
    with pytest.raises(interrupt.error):
        scq.tl.pretrain(normalized, **PRETRAIN, checkpoint=tmp_path)
    interrupt.never()
    resumed = scq.tl.pretrain(normalized, **PRETRAIN, checkpoint=tmp_path)
    layer = int(training[-1])
    # No epoch is trained twice or left out.
    expected = [(layer, e) for e in range(epoch, 4)] + [(2, e) for e in range(4) if layer == 1]
    assert [(int(title.split()[2][0]), e) for title, e in interrupt.begun] == expected
    assert_same(resumed, whole)
    # A finished run is not trained again.
    interrupt.never()
    assert_same(scq.tl.pretrain(normalized, **PRETRAIN, checkpoint=tmp_path), whole)
    assert interrupt.begun == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"module": "rbm"},
        {"module": ("untied", "rbm"), "validation_fraction": 0},
        {"loss": ("negative_binomial", "squared_error"), "corruption": "gaussian"},
        {"loss": "poisson", "corrupted_weight": 2.0},
    ],
)
def test_all_modules_and_losses_resume(normalized, interrupt, tmp_path, settings):
    """A Boltzmann machine has random numbers of its own, a likelihood a layer more."""
    if isinstance(settings.get("loss"), str):
        settings = settings | {"layer_sizes": (6,)}
    arguments = PRETRAIN | {"gene_masking": 0.0, "corruption": "none" if "module" in settings else "masking"} | settings
    whole = scq.tl.pretrain(normalized, **arguments)
    for layer in (1, 2)[: len(arguments["layer_sizes"])]:
        interrupt.at(f"layer {layer}", 2)
        with pytest.raises(KeyboardInterrupt):
            scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path)
    interrupt.never()
    assert_same(scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path), whole)


@pytest.mark.slow
def test_it_may_be_interrupted_after_every_epoch(normalized, interrupt, tmp_path):
    arguments = PRETRAIN | {"layer_sizes": (6,)}
    whole = scq.tl.pretrain(normalized, **arguments)
    for epoch in range(1, 4):
        interrupt.at("layer 1", epoch)
        with pytest.raises(KeyboardInterrupt):
            scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path)
        assert [e for _, e in interrupt.begun] == [epoch - 1, epoch]
    interrupt.never()
    assert_same(scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path), whole)


# Early stopping.


@pytest.fixture(scope="module")
def unlearnable(normalized):
    """Counts by chance, and settings under which the loss on held-out cells soon rises."""
    adata = normalized[:30].copy()
    adata.layers["counts"] = np.random.default_rng(1).poisson(1.0, adata.shape).astype("float32")
    settings = PRETRAIN | {"layer_sizes": (10,), "learning_rate": 0.1, "batch_size": 4, "validation_fraction": 0.4}
    return adata, settings | {"corruption_level": 0.1, "gene_masking": 0.0}


@pytest.fixture(scope="module")
def stopped_early(unlearnable):
    adata, settings = unlearnable
    settings = settings | {"epochs": 25, "patience": 3}
    whole = scq.tl.pretrain(adata, **settings)
    losses = whole.history["pretrain"][0]["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 25, "training was to stop early"
    return adata, settings, whole, best


@pytest.mark.parametrize("wait", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_patience_is_remembered(stopped_early, interrupt, tmp_path, wait):
    """Interrupted when one, two or three epochs were no better; the best of them is long over."""
    adata, settings, whole, best = stopped_early
    interrupt.at("layer 1", best + wait)
    with pytest.raises(KeyboardInterrupt):
        scq.tl.pretrain(adata, **settings, checkpoint=tmp_path)
    interrupt.never()
    resumed = scq.tl.pretrain(adata, **settings, checkpoint=tmp_path)
    assert len(interrupt.begun) == 4 - wait
    assert_same(resumed, whole)


@pytest.mark.parametrize("last", ["stopped", pytest.param("of all", marks=pytest.mark.slow)])
def test_an_interruption_after_the_last_epoch(stopped_early, interrupt, monkeypatch, tmp_path, last):
    """After the epoch that stopped it, or the last of all: no further epoch is trained, and the best is kept."""
    adata, settings, whole, best = stopped_early
    if last == "of all":
        # One epoch after the best: it runs out of epochs before it runs out of patience.
        settings = settings | {"epochs": best + 2}
        whole = scq.tl.pretrain(adata, **settings)
        assert np.argmin(whole.history["pretrain"][0]["val_loss"]) == best
    finish = ResumePoint.finish

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumePoint, "finish", fail)
    with pytest.raises(KeyboardInterrupt):
        scq.tl.pretrain(adata, **settings, checkpoint=tmp_path)
    monkeypatch.setattr(ResumePoint, "finish", finish)
    interrupt.never()
    resumed = scq.tl.pretrain(adata, **settings, checkpoint=tmp_path)
    assert interrupt.begun == []
    assert_same(resumed, whole)


@pytest.mark.usefixtures("eager")
def test_a_run_that_diverged_fails_again(normalized, tmp_path):
    arguments = PRETRAIN | {"layer_sizes": (3,), "learning_rate": 1e30, "validation_fraction": 0}
    for _ in range(2):
        with pytest.raises(scq.TrainingError, match="Training diverged: `loss` should be finite"):
            scq.tl.pretrain(normalized, **arguments, checkpoint=tmp_path)


# Fine-tuning.


@pytest.mark.parametrize(
    ("settings", "epoch", "how"),
    [
        pytest.param({}, 0, {"in_the_middle": True}, marks=pytest.mark.slow),
        ({}, 1, {"error": RuntimeError}),
        pytest.param({"validation_fraction": 0}, 3, {}, marks=pytest.mark.slow),
        pytest.param(
            {"batch_key": "batch", "adversarial_weight": 1.0}, 2, {"in_the_middle": True}, marks=pytest.mark.slow
        ),
        pytest.param({"metric_loss": "triplet"}, 2, {}, marks=pytest.mark.slow),
        ({"metric_loss": "contrastive", "batch_key": "batch", "adversarial_weight": 0.5, "metric_weight": 1}, 2, {}),
    ],
)
def test_finetuning_resumes(normalized, started, interrupt, tmp_path, settings, epoch, how):
    arguments = FINETUNE | settings
    adata, whole = normalized.copy(), copy.deepcopy(started)
    scq.tl.finetune(adata, whole, **arguments)
    other, encoder = normalized.copy(), copy.deepcopy(started)
    interrupt.at("finetune", epoch, **how)
    with pytest.raises(interrupt.error):
        scq.tl.finetune(other, encoder, **arguments, checkpoint=tmp_path)
    # Nothing has been changed.
    assert_same(encoder, started)
    assert encoder.parameters == started.parameters
    pd.testing.assert_frame_equal(other.obs, normalized.obs)
    assert sorted(other.uns) == sorted(normalized.uns)
    interrupt.never()
    scq.tl.finetune(other, encoder, **arguments, checkpoint=tmp_path)
    assert [e for _, e in interrupt.begun] == list(range(epoch, 4))
    assert_same(encoder, whole)
    assert encoder.parameters == whole.parameters
    pd.testing.assert_frame_equal(other.obs, adata.obs)


@pytest.mark.slow
def test_the_patience_of_finetuning_is_remembered(normalized, started, interrupt, tmp_path):
    adata = normalized.copy()
    # Labels by chance: the loss on held-out cells soon rises.
    adata.obs["chance"] = pd.Categorical(np.random.default_rng(4).choice(["a", "b", "c"], 60))
    arguments = FINETUNE | {"label_key": "chance", "epochs": 30, "patience": 3, "learning_rate": 0.05, "dropout": 0.1}
    whole = copy.deepcopy(started)
    scq.tl.finetune(adata.copy(), whole, **arguments)
    losses = whole.history["finetune"]["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 30, "training was to stop early"
    encoder = copy.deepcopy(started)
    interrupt.at("finetune", best + 2)
    with pytest.raises(KeyboardInterrupt):
        scq.tl.finetune(adata, encoder, **arguments, checkpoint=tmp_path)
    interrupt.never()
    scq.tl.finetune(adata, encoder, **arguments, checkpoint=tmp_path)
    assert len(interrupt.begun) == 2
    assert_same(encoder, whole)


# Other runs.

REFUSED = r"`checkpoint` holds another run: .*finetune\.safetensors was written with other settings or other data"


@pytest.fixture
def kept(normalized, started, interrupt, tmp_path):
    """A folder with two epochs of fine-tuning."""
    interrupt.at("finetune", 2)
    with pytest.raises(KeyboardInterrupt):
        scq.tl.finetune(normalized.copy(), copy.deepcopy(started), **FINETUNE, checkpoint=tmp_path)
    interrupt.never()
    return tmp_path


def test_another_run_does_not_resume(normalized, started, interrupt, kept):
    def refused(adata=normalized, encoder=started, **settings):
        adata, encoder = adata.copy(), copy.deepcopy(encoder)
        columns, before = list(adata.obs), copy.deepcopy(encoder)
        with pytest.raises(scq.ArgumentError, match=REFUSED):
            scq.tl.finetune(adata, encoder, **(FINETUNE | settings), checkpoint=kept)
        assert list(adata.obs) == columns
        assert_same(encoder, before)

    # `test_finetune_settings` tries every setting.
    refused(epochs=5)
    refused(label_key="batch")
    swapped = normalized.copy()
    swapped.obs["cell_type"] = swapped.obs["cell_type"].to_numpy()[[1, 0, *range(2, 60)]]
    refused(swapped)
    renamed = normalized.copy()
    renamed.obs["cell_type"] = renamed.obs["cell_type"].cat.rename_categories({"type 0": "type 0a"})
    refused(renamed)
    counts = normalized.copy()
    counts.layers["counts"] = counts.layers["counts"][[1, 0, *range(2, 60)]]
    refused(counts)
    weight, bias = copy.deepcopy(started), copy.deepcopy(started)
    weight.layers[0].kernel[0, 0] += 1
    bias.layers[-1].bias[-1] += 1
    refused(encoder=weight)
    refused(encoder=bias)
    assert interrupt.begun == []
    # The progress bar and `key_added` do not identify a run.
    scq.tl.finetune(
        normalized.copy(), copy.deepcopy(started), **FINETUNE | {"progress": True}, key_added="mine", checkpoint=kept
    )
    assert [e for _, e in interrupt.begun] == [2, 3]


def test_both_steps_can_use_one_folder(normalized, interrupt, tmp_path):
    adata = normalized.copy()
    encoder = scq.tl.pretrain(adata, **PRETRAIN, checkpoint=tmp_path)
    scq.tl.finetune(adata, encoder, **FINETUNE, checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "finetune.safetensors",
        "layer_0.safetensors",
        "layer_1.safetensors",
    ]


# Killed.

#: Trains with checkpoints; after an epoch of a model, it touches a file and waits to be killed.
SCRIPT = """
import sys, time
from pathlib import Path
import anndata
import scquery_ae as scq
from scquery_ae.nn.checkpoint import Checkpoint

folder, name, epoch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
save = Checkpoint.save

def spy(self, saved, arrays, record):
    save(self, saved, arrays, record)
    if (saved, record.get("epoch")) == (name, epoch):
        (folder / "reached").touch()
        time.sleep(600)

Checkpoint.save = spy
adata = anndata.read_h5ad(folder / "cells.h5ad")
encoder = scq.tl.pretrain(adata, **PRETRAIN, checkpoint=folder / "run")
scq.tl.finetune(adata, encoder, **FINETUNE, checkpoint=folder / "run")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed like this")
def test_killed_processes_resume(normalized, tmp_path, monkeypatch):
    normalized.write_h5ad(tmp_path / "cells.h5ad")
    script = SCRIPT.replace("PRETRAIN", repr(PRETRAIN)).replace("FINETUNE", repr(FINETUNE))
    for name, epoch in (("layer_1", 1), ("finetune", 2)):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), name, str(epoch)],
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (tmp_path / "reached").exists() and child.poll() is None:
            time.sleep(0.02)
        child.kill()
        _, errors = child.communicate()
        assert (tmp_path / "reached").exists(), errors
        assert child.returncode == -signal.SIGKILL
        (tmp_path / "reached").unlink()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        f"{name}.safetensors" for name in ("layer_0", "layer_1", "finetune")
    }
    begun, run = [], fitting.run_epochs

    def spy(*args, first, **kwargs):
        begun.append(first)
        return run(*args, first=first, **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", spy)
    encoders = []
    for checkpoint in (tmp_path / "run", None):
        adata = normalized.copy()
        encoders.append(scq.tl.pretrain(adata, **PRETRAIN, checkpoint=checkpoint))
        scq.tl.finetune(adata, encoders[-1], **FINETUNE, checkpoint=checkpoint)
    # The second process had finished the second layer, from where the first was killed.
    assert begun == [3, 0, 0, 0]
    assert_same(*encoders)
