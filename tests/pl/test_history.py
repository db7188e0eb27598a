"""``pl.history``: panels, lines and the best epoch."""

from dataclasses import replace

import pytest
from matplotlib import pyplot as plt

import scquery_ae as scq
from scquery_ae import ArgumentError, NotFittedError

FIRST = {"loss": [0.5, 0.3, 0.2], "val_loss": [0.45, 0.25, 0.35]}
SECOND = {"loss": [0.9, 0.8]}
FINETUNE = {
    "loss": [2.0, 1.0, 0.7, 0.5],
    "val_loss": [1.5, 1.2, 0.9, 1.1],
    "accuracy": [0.3, 0.5, 0.8, 0.9],
    "val_accuracy": [0.4, 0.5, 0.7, 0.7],
}


@pytest.fixture
def encoder(make_adata, make_encoder):
    made = make_encoder(make_adata(), layer_sizes=(7, 4))
    return replace(made, history={"pretrain": [FIRST, SECOND], "finetune": FINETUNE})


def lines(ax):
    return {line.get_label(): ([*line.get_xdata()], [*line.get_ydata()]) for line in ax.lines}


def test_one_panel_per_layer_and_one_for_fine_tuning(encoder):
    figure = scq.pl.history(encoder, show=False)
    assert [ax.get_title() for ax in figure.axes] == [
        "Pretraining, layer 1\n40 to 7",
        "Pretraining, layer 2\n7 to 4",
        "Fine-tuning\n3 cell types",
    ]
    assert [ax.get_ylabel() for ax in figure.axes] == ["denoising loss", "denoising loss", "classification loss"]
    assert {ax.get_xlabel() for ax in figure.axes} == {"epoch"}


def test_losses_are_drawn_by_epoch_from_one_and_the_best_is_marked(encoder):
    first, second, last = scq.pl.history(encoder, show=False).axes
    assert lines(first) == {
        "training": ([1, 2, 3], [0.5, 0.3, 0.2]),
        "held out": ([1, 2, 3], [0.45, 0.25, 0.35]),
        "best (epoch 2)": ([2], [0.25]),
    }
    assert lines(second) == {"training": ([1, 2], [0.9, 0.8])}
    assert lines(last)["best (epoch 3)"] == ([3], [0.9])
    assert [text.get_text() for text in last.get_legend().get_texts()] == ["training", "held out", "best (epoch 3)"]
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["training"]


def test_without_fine_tuning(encoder):
    figure = scq.pl.history(replace(encoder, history={"pretrain": [FIRST, SECOND]}, classifier=None), show=False)
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["Pretraining, layer 1", "Pretraining, layer 2"]


def test_fine_tuning_alone(encoder):
    figure = scq.pl.history(replace(encoder, history={"finetune": FINETUNE}), show=False)
    assert [ax.get_title() for ax in figure.axes] == ["Fine-tuning\n3 cell types"]


def test_nan_is_never_the_best_loss(encoder):
    nan = float("nan")
    some = {"loss": [1.0, 2.0, 3.0], "val_loss": [nan, 0.4, 0.3]}
    never = {"loss": [1.0, nan], "val_loss": [nan, nan]}
    first, second = scq.pl.history(replace(encoder, history={"pretrain": [some, never]}), show=False).axes
    assert "best (epoch 3)" in lines(first)
    assert set(lines(second)) == {"training", "held out"}


def test_many_layers_take_more_rows(make_adata, make_encoder):
    encoder = make_encoder(make_adata(), layer_sizes=(9, 8, 7, 6, 5))
    encoder.history.update(pretrain=[FIRST] * 5, finetune=FINETUNE)
    figure = scq.pl.history(encoder, show=False)
    assert len(figure.axes) == 6
    assert [ax.get_subplotspec().rowspan.start for ax in figure.axes] == [0, 0, 0, 0, 1, 1]


def test_ticks_are_whole_epochs(encoder):
    figure = scq.pl.history(encoder, show=False)
    figure.canvas.draw()
    assert all(float(tick).is_integer() for ax in figure.axes for tick in ax.get_xticks())


def test_the_history_of_real_training(trained, tmp_path):
    figure = scq.pl.history(trained.encoder, show=False)
    record = trained.encoder.history
    assert len(figure.axes) == 3
    for ax, losses in zip(figure.axes, [*record["pretrain"], record["finetune"]], strict=True):
        assert lines(ax)["training"][1] == losses["loss"]
        assert lines(ax)["held out"][1] == losses["val_loss"]


@pytest.mark.parametrize(
    "history", [{}, {"pretrain": []}, {"pretrain": [], "finetune": {}}, {"finetune": {"loss": []}}]
)
def test_no_history(encoder, history):
    with pytest.raises(
        NotFittedError, match=r"no training history\. Expected losses in `encoder.history`, received .*"
    ):
        scq.pl.history(replace(encoder, history=history), show=False)
    assert plt.get_fignums() == []


def test_what_is_not_an_encoder(reference):
    with pytest.raises(
        ArgumentError, match=r"`pl.history` needs the encoder .*Received Reference; .*`reference.encoder`"
    ):
        scq.pl.history(reference, show=False)
