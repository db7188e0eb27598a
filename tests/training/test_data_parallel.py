"""Training whose batches are shared by two devices of this processor, in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

#: What is the same for both backends; ``one_device`` and ``two_devices`` are contexts to train in.
COMMON = """
import copy, json
import anndata, keras, numpy as np, pandas as pd
import scquery_ae as scq
from scquery_ae.nn import fitting, pretrain_stack

rng = np.random.default_rng(0)
x = (rng.normal(size=(105, 3)) @ rng.normal(size=(3, 12)) + 0.05 * rng.normal(size=(105, 12))).astype("float32")
types = np.arange(96) % 3
rates = np.where(np.arange(24)[None] // 8 == types[:, None], 6.0, 1.0)
obs = pd.DataFrame({"cell_type": [f"type {t}" for t in types], "batch": [f"batch {i % 2}" for i in range(96)]})
obs.index = [f"cell{i}" for i in range(96)]
var = pd.DataFrame(index=[f"GENE{i}" for i in range(24)])
adata = anndata.AnnData(rng.poisson(rates).astype("float32"), obs, var)
scq.pp.normalize(adata)

replicas = []
run = fitting.run_epochs

def spy(model, *args, **kwargs):
    replicas.append(fitting.count_devices(model))
    return run(model, *args, **kwargs)

fitting.run_epochs = spy
settings = {"epochs": 3, "patience": 3, "learning_rate": 0.01, "progress": False}

def weights_of(encoder):
    return [array.tolist() for layer in encoder.layers for array in (layer.kernel, layer.bias)]

def stack(name, n_rows=96, **kwargs):
    kwargs = {"batch_size": 16, "validation_fraction": 0.0} | kwargs
    trained = pretrain_stack(x[:n_rows], (6, 4), **settings, **kwargs)
    weights = [array.tolist() for pair in trained.weights for array in pair]
    return {"history": trained.history, "weights": weights, "where": where(trained.layers[0].weights[0])}

def whole(name, finetune=(), **kwargs):
    # Validation: a quarter of 96 cells, 24; the rest are four batches of 16 and one of 8.
    kwargs = {"batch_size": 16, "validation_fraction": 1 / 4} | kwargs
    encoder = scq.tl.pretrain(adata, layer_sizes=(6, 4), **settings, **kwargs)
    pretrained = weights_of(encoder)
    kwargs |= dict(finetune)
    # Dropout draws on each device for itself.
    scq.tl.finetune(adata, encoder, label_key="cell_type", dropout=0.0, **settings, **kwargs)
    history = [*encoder.history["pretrain"], encoder.history["finetune"]]
    return {"history": history, "weights": weights_of(encoder), "pretrained": pretrained}

RUNS = {
    "stack": lambda name: stack(name),
    "held out": lambda name: stack(name, validation_fraction=1 / 6),
    "last batch smaller": lambda name: stack(name, n_rows=102),
    "rbm": lambda name: stack(name, module="rbm"),
    "odd last batch": lambda name: stack(name, n_rows=101, validation_fraction=0.3),
    "odd batches": lambda name: stack(name, batch_size=15),
    "whole": lambda name: whole(name),
    "metric": lambda name: whole(
        name, finetune={"metric_loss": "triplet", "batch_key": "batch", "adversarial_weight": 0.5}
    ),
}
results = {name: {} for name in RUNS}
for name, train in RUNS.items():
    for n, device in ((1, one_device), (2, two_devices)):
        replicas.clear()
        with device():
            results[name][n] = {**train(name), "replicas": sorted(set(replicas))}
errors = {}
with two_devices():
    for name, kwargs in {"batch of one": {"batch_size": 1}, "one held out": {"validation_fraction": 0.01}}.items():
        try:
            stack(name, **kwargs)
        except scq.ArgumentError as error:
            errors[name] = str(error)
# Interrupted on two devices, and gone on from.
class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

def stopping(model, *args, callbacks, **kwargs):
    return spy(model, *args, callbacks=[*callbacks, Stop()], **kwargs)

with two_devices(), tempfile.TemporaryDirectory() as folder:
    fitting.run_epochs = stopping
    try:
        pretrain_stack(x[:96], (6, 4), **settings, batch_size=16, validation_fraction=0.0, checkpoint=folder)
    except KeyboardInterrupt:
        fitting.run_epochs = spy
    resumed = pretrain_stack(x[:96], (6, 4), **settings, batch_size=16, validation_fraction=0.0, checkpoint=folder)
results["resumed"] = {"history": resumed.history, "weights": [a.tolist() for pair in resumed.weights for a in pair]}
print(json.dumps({"results": results, "errors": errors, "data": data()}))
"""

JAX = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import contextlib, tempfile
import jax, keras

one_device = contextlib.nullcontext

@contextlib.contextmanager
def two_devices():
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices("cpu")))
    yield
    keras.distribution.set_distribution(None)

def where(variable):
    return sorted(str(device) for device in variable.value.sharding.device_set)

def data():
    # What Keras makes of a batch: one half of the rows on each device.
    with two_devices():
        from keras.src.backend.jax import distribution_lib
        layout = keras.distribution.distribution().get_data_layout((16, 4))
        shards = distribution_lib.distribute_data_input(np.zeros((16, 4)), layout, "batch").addressable_shards
        return [list(shard.data.shape) for shard in shards]
"""

TENSORFLOW = """
import contextlib, tempfile
import tensorflow as tf

# Each device waits for the other in a thread: on a processor of one core there would be one thread alone.
tf.config.threading.set_inter_op_parallelism_threads(8)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
one_device = contextlib.nullcontext

# One for the whole process: the collective operations of a second would meet those of the first.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
two_devices = strategy.scope

def where(variable):
    values = getattr(variable.value, "values", (variable.value,))
    return sorted(value.device[-5:] for value in values)

def data():
    batches = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(np.zeros((16, 4))).batch(16))
    return [list(part.shape) for part in next(iter(batches)).values]
"""


@pytest.fixture(scope="module", params=["jax", "tensorflow"])
def trained(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    script = {"jax": JAX, "tensorflow": TENSORFLOW}[request.param] + COMMON
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"KERAS_BACKEND": request.param, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"backend": request.param, **json.loads(done.stdout.splitlines()[-1])}


def assert_close(one, two, rtol):
    assert [list(layer) for layer in one["history"]] == [list(layer) for layer in two["history"]]
    for layer, same in zip(one["history"], two["history"], strict=True):
        for name, values in layer.items():
            np.testing.assert_allclose(same[name], values, rtol=rtol, atol=1e-5, err_msg=name)


def test_two_devices_are_used(trained):
    for name in ("stack", "rbm"):
        one, two = trained["results"][name]["1"], trained["results"][name]["2"]
        assert (one["replicas"], two["replicas"]) == ([1], [2])
        assert (len(one["where"]), len(set(two["where"]))) == (1, 2)
    assert trained["results"]["whole"]["2"]["replicas"] == [2]
    # Half of the rows of a batch on each.
    assert trained["data"] == [[8, 4], [8, 4]]


@pytest.mark.parametrize("name", ["stack", "held out", "last batch smaller", "whole"])
def test_losses_and_weights_are_those_of_one_device(trained, name):
    """Sums are taken in another order, and Adam's first steps divide by small numbers: four digits are the same."""
    one, two = trained["results"][name]["1"], trained["results"][name]["2"]
    assert_close(one, two, rtol=1e-4)
    for weight, same in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(same, weight, atol=2e-4)


@pytest.mark.parametrize("name", ["odd last batch", "odd batches"])
def test_rows_that_cannot_be_shared_wait(trained, name):
    """Other rows make a batch than on one device, one in sixteen at most: about the same is learnt."""
    one, two = trained["results"][name]["1"], trained["results"][name]["2"]
    for layer, same in zip(one["history"], two["history"], strict=True):
        assert layer["loss"] != same["loss"]
        np.testing.assert_allclose(same["loss"], layer["loss"], rtol=0.3)
        assert same["loss"][-1] < same["loss"][0]


def test_boltzmann_machines_sample_on_each_device(trained):
    one, two = trained["results"]["rbm"]["1"], trained["results"]["rbm"]["2"]
    for layer, same in zip(one["history"], two["history"], strict=True):
        np.testing.assert_allclose(same["loss"], layer["loss"], rtol=0.05)


def test_losses_over_pairs(trained):
    """On JAX the pairs of a batch are those of one device; on TensorFlow, only those within each half of it."""
    one, two = trained["results"]["metric"]["1"], trained["results"]["metric"]["2"]
    if trained["backend"] == "jax":
        assert_close(one, two, rtol=1e-3)
    assert set(one["history"][-1]) == set(two["history"][-1])
    assert all(np.isfinite(values).all() for values in two["history"][-1].values())


def test_too_few_rows_for_two_devices_are_refused(trained):
    start = "Batches are divided among 2 devices, and each device needs a row. Received batches of "
    fix = "use fewer devices, a larger `batch_size`"
    assert trained["errors"]["batch of one"].startswith(f"{start}1 from 96 rows; {fix}")
    assert trained["errors"]["one held out"].startswith(start + "16 from 1 rows; use fewer devices")


def test_interrupted_runs_resume_on_two_devices(trained):
    whole, resumed = trained["results"]["stack"]["2"], trained["results"]["resumed"]
    assert_close(whole, resumed, rtol=1e-6)
    for weight, same in zip(whole["weights"], resumed["weights"], strict=True):
        np.testing.assert_allclose(same, weight, atol=1e-6)
