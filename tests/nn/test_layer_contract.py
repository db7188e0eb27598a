"""What every layer keeps to, whatever it computes: shapes, weights, configuration, files and number types."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import (
    Autoencoder,
    Conv1DAutoencoder,
    Conv2DAutoencoder,
    DenseLayerAutoencoder,
    Dispersion,
    GradientReversal,
    MaskedAutoencoder,
    RestrictedBoltzmannMachine,
    UnitNorm,
)

pytestmark = [
    pytest.mark.backend,
    pytest.mark.contract,
]

#: Ten features in four groups that overlap, 3 + 4 + 2 + 5 connected weights.
MASK = np.zeros((10, 4), dtype=int)
for _group, _members in enumerate([(0, 1, 2), (2, 3, 4, 5), (6, 9), (0, 5, 6, 7, 8)]):
    MASK[_members, _group] = 1

PENALTY = keras.regularizers.L2(0.02)

#: A value other than the default for every argument of the tied layers.
TIED_ARGUMENTS = {
    "activation": "tanh",
    "output_activation": "sigmoid",
    "use_bias": False,
    "kernel_initializer": keras.initializers.HeNormal(seed=5),
    "bias_initializer": keras.initializers.Constant(0.5),
    "kernel_regularizer": PENALTY,
    "bias_regularizer": keras.regularizers.L1(0.03),
    "kernel_constraint": keras.constraints.NonNeg(),
    "bias_constraint": keras.constraints.MaxNorm(1.5),
}


@dataclass(frozen=True)
class Case:
    """One layer, small, and what is to be expected of it."""

    layer: type[keras.layers.Layer]
    #: Shapes of one input, its output and, for an autoencoder, its embedding.
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    latent_shape: tuple[int, ...] | None
    #: Shapes of the variables, counted by hand.
    weights: tuple[tuple[int, ...], ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    #: A value other than the default for every argument of the constructor.
    every_argument: dict[str, Any] = field(default_factory=dict)
    required: dict[str, Any] = field(default_factory=dict)
    #: Where the layer takes rows, it takes any number of axes before them.
    takes_rows: bool = True
    binary: bool = False

    def make(self, **kwargs: Any) -> Any:
        return self.layer(**{**self.arguments, **kwargs})

    def built(self, **kwargs: Any) -> Any:
        layer = self.make(**kwargs)
        layer.build((None, *self.input_shape))
        return layer

    def sample(self, n: int = 12, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, *self.input_shape))
        return (x > 0 if self.binary else x).astype("float32")

    def target(self, n: int = 12) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((n, *self.output_shape)).astype("float32")

    @property
    def kernels(self) -> list[int]:
        """Places of the kernels among the weights: all but biases, which are vectors, or the masked layer's first."""
        return [
            i for i, shape in enumerate(self.weights) if len(shape) > 1 or (self.layer is MaskedAutoencoder and not i)
        ]


CASES = {
    "dense": Case(
        DenseLayerAutoencoder,
        (10,),
        (10,),
        (3,),
        # Kernel and bias of each encoder layer, then the biases of the decoder, inwards out.
        ((10, 6), (6,), (6, 3), (3,), (6,), (10,)),
        {"layer_sizes": [6, 3], "activation": "tanh"},
        {"layer_sizes": [6, 3], **TIED_ARGUMENTS, "unit_norm": True, "tied": False, "dropout": 0.25, "seed": 11},
        {"layer_sizes": [4]},
    ),
    "dense_unit_norm": Case(
        DenseLayerAutoencoder,
        (10,),
        (10,),
        (3,),
        ((10, 6), (6,), (6, 3), (3,), (6,), (10,)),
        {"layer_sizes": [6, 3], "activation": "tanh", "unit_norm": True, "dropout": 0.1, "seed": 2},
        {"layer_sizes": [6, 3], **TIED_ARGUMENTS, "unit_norm": True, "tied": False, "dropout": 0.25, "seed": 11},
        {"layer_sizes": [4]},
    ),
    "dense_untied": Case(
        DenseLayerAutoencoder,
        (10,),
        (10,),
        (3,),
        ((10, 6), (6,), (6, 3), (3,), (3, 6), (6,), (6, 10), (10,)),
        {"layer_sizes": [6, 3], "activation": "tanh", "tied": False},
        {"layer_sizes": [6, 3], **TIED_ARGUMENTS, "unit_norm": True, "tied": False, "dropout": 0.25, "seed": 11},
        {"layer_sizes": [4]},
    ),
    "masked": Case(
        MaskedAutoencoder,
        (10,),
        (10,),
        (6,),
        # The connected weights, the kernel of two free units and both biases.
        ((14,), (10, 2), (6,), (10,)),
        {"mask": MASK, "free_units": 2, "activation": "tanh"},
        {"mask": MASK, "group_names": ["p", "q", "r", "s"], "free_units": 2, **TIED_ARGUMENTS},
        {"mask": np.eye(10, dtype=int)},
    ),
    "conv_1d": Case(
        Conv1DAutoencoder,
        (9, 2),
        (9, 2),
        (5, 4),
        ((3, 2, 4), (4,), (2,)),
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "tanh"},
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", **TIED_ARGUMENTS},
        {"filters": 3, "kernel_size": 2},
        takes_rows=False,
    ),
    "conv_2d": Case(
        Conv2DAutoencoder,
        (7, 5, 2),
        (7, 5, 2),
        (3, 4, 3),
        ((3, 2, 2, 3), (3,), (2,)),
        {"filters": 3, "kernel_size": (3, 2), "strides": (2, 1), "activation": "tanh"},
        {"filters": 3, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same", **TIED_ARGUMENTS},
        {"filters": 2, "kernel_size": 2},
        takes_rows=False,
    ),
    "rbm_bernoulli": Case(
        RestrictedBoltzmannMachine,
        (10,),
        (10,),
        (4,),
        ((10, 4), (4,), (10,)),
        {"units": 4, "seed": 3},
        {
            "units": 4,
            "visible": "gaussian",
            "n_steps": 2,
            "visible_std": 0.7,
            "kernel_initializer": keras.initializers.HeNormal(seed=5),
            "bias_initializer": keras.initializers.Constant(0.5),
            "kernel_regularizer": PENALTY,
            "seed": 11,
        },
        {"units": 3},
        binary=True,
    ),
    "rbm_gaussian": Case(
        RestrictedBoltzmannMachine,
        (10,),
        (10,),
        (4,),
        ((10, 4), (4,), (10,)),
        {"units": 4, "visible": "gaussian", "visible_std": 0.7, "n_steps": 2, "seed": 3},
        {
            "units": 4,
            "visible": "gaussian",
            "n_steps": 2,
            "visible_std": 0.7,
            "kernel_initializer": keras.initializers.HeNormal(seed=5),
            "bias_initializer": keras.initializers.Constant(0.5),
            "kernel_regularizer": PENALTY,
            "seed": 11,
        },
        {"units": 3},
    ),
    "unit_norm": Case(UnitNorm, (10,), (10,), None, ()),
    "gradient_reversal": Case(GradientReversal, (10,), (10,), None, ((),), {"strength": 0.5}, {"strength": 0.25}),
    "dispersion": Case(Dispersion, (10,), (10, 2), None, ((10,),)),
}

ALL = pytest.mark.parametrize("name", CASES)
AUTOENCODERS = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.latent_shape])
WITH_KERNEL = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kernels])
#: What every layer of Keras' own has.
LAYER_ARGUMENTS = {"name": "own_name", "dtype": "mixed_bfloat16", "trainable": False}
#: The biases of the decoder have no part in the embedding, which Keras remarks on.
NO_GRADIENT = pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning")


@keras.saving.register_keras_serializable(package="scquery_ae_tests")
class AwayFromOne(keras.regularizers.Regularizer):
    """A penalty that is not zero at zero: a weight that does not exist would add to it."""

    def __call__(self, x):
        return 0.02 * keras.ops.sum(keras.ops.square(x - 1))


@pytest.fixture(autouse=True)
def _seed():
    """Initialisers without a seed of their own draw from the global one."""
    keras.utils.set_random_seed(0)


def array(x):
    """Return a variable or a tensor of any float type as float32."""
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))


def network(case, layer, dtype="float32"):
    """Return a functional model that ends in `layer`, with weights before it where it has none to train."""
    inputs = x = keras.Input(case.input_shape)
    if case.latent_shape is None:
        x = keras.layers.Dense(10, use_bias=False, dtype=dtype)(x)
    return keras.Model(inputs, layer(x))


def trained(case, layer, dtype="float32"):
    """Take two steps, uncompiled, and return the weights of the model before and after."""
    model = network(case, layer, dtype)
    before = [array(w) for w in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.5), None if getattr(layer, "owns_loss", False) else "mse", run_eagerly=True)
    model.fit(case.sample(), case.target(), epochs=1, batch_size=6, shuffle=False, verbose=0)
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    return before, [array(w) for w in model.trainable_weights]


def moved(model):
    """Move all weights of a model or layer, so that no bias is zero."""
    rng = np.random.default_rng(3)
    model.set_weights([w + 0.1 * rng.standard_normal(w.shape).astype("float32") for w in model.get_weights()])


# Shapes and weights


@ALL
def test_shapes(name):
    case = CASES[name]
    layer = case.make()
    symbolic = layer(keras.Input(case.input_shape))
    assert tuple(symbolic.shape) == (None, *case.output_shape)
    assert layer.compute_output_shape((None, *case.input_shape)) == (None, *case.output_shape)
    assert layer.compute_output_shape((7, *case.input_shape)) == (7, *case.output_shape)
    assert tuple(layer(case.sample(3)).shape) == (3, *case.output_shape)
    if case.latent_shape:
        assert layer.latent_shape((None, *case.input_shape)) == (None, *case.latent_shape)
        assert tuple(layer.encode(case.sample(3)).shape) == (3, *case.latent_shape)
        assert tuple(layer.decode(layer.encode(case.sample(3))).shape) == (3, *case.output_shape)
        assert tuple(layer.encoder_model()(keras.Input(case.input_shape)).shape) == (None, *case.latent_shape)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.takes_rows])
def test_rows_may_have_any_number_of_axes_before_them(name):
    case = CASES[name]
    layer = case.built()
    x = case.sample(12)
    stacked = x.reshape(2, 6, *case.input_shape)
    assert layer.compute_output_shape(stacked.shape) == (2, 6, *case.output_shape)
    np.testing.assert_allclose(array(layer(stacked)).reshape(12, *case.output_shape), array(layer(x)), atol=1e-6)
    if case.latent_shape:
        assert layer.latent_shape(stacked.shape) == (2, 6, *case.latent_shape)
        np.testing.assert_allclose(
            array(layer.encode(stacked)).reshape(12, *case.latent_shape), array(layer.encode(x)), atol=1e-6
        )


@ALL
def test_weights_counted_by_hand(name):
    case = CASES[name]
    layer = case.built()
    assert tuple(tuple(w.shape) for w in layer.weights) == case.weights
    assert layer.count_params() == sum(int(np.prod(shape)) for shape in case.weights)
    # Everything is trained but the strength that a schedule moves.
    assert len(layer.trainable_weights) == (0 if case.layer is GradientReversal else len(case.weights))
    layer.trainable = False
    assert layer.trainable_weights == []


@AUTOENCODERS
def test_a_call_is_both_halves(name):
    case = CASES[name]
    layer = case.make()
    x = case.sample()
    latent = layer.encode(x)
    assert layer.built
    np.testing.assert_allclose(array(layer.decode(latent)), array(layer(x)), atol=1e-6)
    # Also of whole numbers, which a kernel could not be multiplied by.
    assert np.isfinite(array(layer.encode(x.astype(int)))).all()


# Configuration


@ALL
def test_config_holds_every_argument(name):
    case = CASES[name]
    own = {
        argument
        for owner in case.layer.__mro__
        if owner.__module__.startswith("scquery_ae") and "__init__" in vars(owner)
        for argument in inspect.signature(owner.__init__).parameters
    } - {"self", "kwargs"}
    assert own == set(case.every_argument), "an argument was added: give it a value here"
    given = {**case.every_argument, **LAYER_ARGUMENTS}
    config = case.layer(**given).get_config()
    default = case.layer(**case.required).get_config()
    assert set(given) <= set(config)
    assert all(config[argument] != default[argument] for argument in given)
    # It goes into a JSON file, and comes back as the same layer.
    assert json.loads(json.dumps(config)) == config
    restored = case.layer.from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    assert case.layer.from_config(default).get_config() == default


@AUTOENCODERS
def test_config_restores_the_first_weights(name):
    """The seeded initialiser is in it: both layers draw the same."""
    case = CASES[name]
    one = case.layer(**case.every_argument)
    two = case.layer.from_config(one.get_config())
    for layer in (one, two):
        layer.build((None, *case.input_shape))
    assert np.abs(array(one.weights[0])).max() > 0.01
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(array(a), array(b))


# Files

LOAD = """
import json, sys
import keras
import numpy as np
import scquery_ae.nn

folder, names = sys.argv[1], sys.argv[2:]
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    # Called, not predicted by: to compile every model takes several times as long.
    output = model(np.load(f"{folder}/{name}_x.npy"), training=False)
    np.save(f"{folder}/{name}_read.npy", keras.ops.convert_to_numpy(output))
    with open(f"{folder}/{name}.json", "w") as file:
        json.dump({"config": model.layers[-1].get_config(), "n_params": model.count_params()}, file)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models of all layers and of all encoders, written here and read by one fresh process.

    It is the import of the backend that takes long.
    """
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    written = {}
    for name, case in CASES.items():
        layer = case.make()
        model = network(case, layer)
        moved(model)
        models = {name: (model, layer.get_config())}
        if case.latent_shape:
            inputs = keras.Input(case.input_shape)
            models[f"{name}_half"] = (keras.Model(inputs, layer.encoder_model()(inputs)), None)
        for key, (one, config) in models.items():
            x = case.sample(6, seed=2)
            np.save(folder / f"{key}_x.npy", x)
            one.save(folder / f"{key}.keras")
            written[key] = (array(one(x)), one.count_params(), config)
    command = [sys.executable, "-c", LOAD, str(folder), *written]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    return folder, written


@pytest.mark.parametrize("name", [*CASES, *(f"{name}_half" for name, case in CASES.items() if case.latent_shape)])
def test_file_is_read_in_a_fresh_process(files, name):
    folder, written = files
    outputs, n_params, config = written[name]
    assert outputs.std() > 0.01
    np.testing.assert_allclose(np.load(folder / f"{name}_read.npy"), outputs, atol=1e-6)
    read = json.loads((folder / f"{name}.json").read_text())
    assert read["n_params"] == n_params
    assert config is None or read["config"] == config


@AUTOENCODERS
def test_layer_that_encode_built_is_saved(name, tmp_path):
    """`encode` builds it from the shape of a tensor, which is not a tuple on every backend."""
    case = CASES[name]
    layer = case.make()
    x = case.sample()
    layer.encode(x)
    model = network(case, layer)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(loaded(x)), array(layer(x)), atol=1e-6)


# Training


@ALL
def test_steps_change_all_weights_and_leave_them_finite(name):
    case = CASES[name]
    before, after = trained(case, case.make())
    assert before, "there is nothing to train"
    for old, new in zip(before, after, strict=True):
        assert np.isfinite(new).all()
        assert np.abs(new - old).max() > 1e-4


@ALL
def test_layer_inside_a_subclassed_model(name):
    """Keras builds it itself, on symbols, before the first step."""
    case = CASES[name]

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.before = keras.layers.Dense(case.input_shape[-1])
            self.layer = case.make()

        def call(self, x, training=None):
            own = {"training": training} if case.latent_shape else {}
            return self.layer(self.before(x), **own)

    model = Network()
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=keras.backend.backend() != "jax")
    model.fit(case.sample(), case.target(), epochs=1, batch_size=12, verbose=0)
    assert tuple(tuple(w.shape) for w in model.layer.weights) == case.weights
    assert all(np.isfinite(array(w)).all() for w in model.weights)


@WITH_KERNEL
@pytest.mark.parametrize(
    ("regularizer", "penalty"),
    [
        (keras.regularizers.L2(0.02), lambda k: 0.02 * np.square(k).sum()),
        (AwayFromOne(), lambda k: 0.02 * np.square(k - 1).sum()),
    ],
    ids=["l2", "away_from_one"],
)
def test_kernel_regularizer_adds_its_penalty(name, regularizer, penalty):
    case = CASES[name]
    plain, penalised = case.built(), case.built(kernel_regularizer=regularizer)
    penalised.set_weights(plain.get_weights())
    kernels = [array(penalised.weights[i]) for i in case.kernels]
    if case.layer is MaskedAutoencoder:
        # All connected weights, read off the kernel, and no other.
        kernels = [array(penalised.kernel)[penalised.full_mask]]
        assert kernels[0].size == MASK.sum() + 2 * 10
    expected = sum(penalty(kernel) for kernel in kernels)
    assert expected > 0.02
    assert len(plain.losses) == 0
    np.testing.assert_allclose(sum(float(array(loss)) for loss in penalised.losses), expected, rtol=1e-5)

    losses = []
    for layer in (plain, penalised):
        model = network(case, layer)
        model.compile("sgd", "mse", run_eagerly=True)
        losses.append(model.evaluate(case.sample(), case.target(), verbose=0))
    np.testing.assert_allclose(losses[1] - losses[0], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def compiled():
    """Train all layers side by side in one network, compiled and step by step: one compilation for all of them."""
    if keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler, and minutes for this network")
    # XLA draws other numbers than TensorFlow: there the noise is taken out, and the rest has to agree.
    quiet = keras.backend.backend() == "tensorflow"
    weights = {}
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        layers, inputs, outputs, x, y = {}, {}, {}, {}, {}
        for name, case in CASES.items():
            own = {"dropout": 0.0} if quiet and case.layer is DenseLayerAutoencoder else {}
            layers[name] = case.make(name=f"{name}_layer", **own)
            inputs[name] = keras.Input(case.input_shape, name=name)
            before = inputs[name]
            if case.latent_shape is None:
                before = keras.layers.Dense(10, use_bias=False, name=f"{name}_before")(before)
            outputs[name] = layers[name](before)
            x[name], y[name] = case.sample(16), case.target(16)
            if quiet and case.layer is RestrictedBoltzmannMachine:
                layers[name]._sample_visible = layers[name]._decode
                layers[name]._bernoulli = lambda probability: probability
        model = keras.Model(inputs, outputs)
        first = {w.path: array(w) for w in model.trainable_weights}
        model.compile(keras.optimizers.SGD(0.1), dict.fromkeys(outputs, "mse"), jit_compile=jit, run_eagerly=not jit)
        assert model.jit_compile is jit
        model.fit(x, y, epochs=1, batch_size=4, shuffle=False, verbose=0)
        weights[jit] = {w.path: (first[w.path], array(w)) for w in model.trainable_weights}
    return weights


@ALL
@pytest.mark.slow
def test_compiled_steps_give_the_same_weights(compiled, name):
    own = [path for path in compiled[True] if path.split("/")[0] in (f"{name}_layer", f"{name}_before")]
    assert own
    for path in own:
        (first, plain), (again, jitted) = compiled[False][path], compiled[True][path]
        np.testing.assert_array_equal(first, again)
        assert np.abs(plain - first).max() > 1e-4
        np.testing.assert_allclose(jitted, plain, atol=1e-5, err_msg=path)


# Number types


@ALL
def test_mixed_precision(name):
    case = CASES[name]
    full, mixed = case.built(), case.built(dtype="mixed_bfloat16")
    mixed.set_weights(full.get_weights())
    x = case.sample()
    output = mixed(x)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert {w.dtype for w in mixed.weights} <= {"float32"}
    # Eight bits: two to three parts in a thousand a rounding, of sums of at most a dozen values of size one.
    np.testing.assert_allclose(array(output), array(full(x)), atol=0.08)
    if case.latent_shape:
        for latent in (mixed.encode(x), mixed.encoder_model()(x)):
            assert keras.backend.standardize_dtype(latent.dtype) == "bfloat16"
            np.testing.assert_allclose(array(latent), array(full.encode(x)), atol=0.05)
        decoded = mixed.decode(mixed.encode(x))
        assert keras.backend.standardize_dtype(decoded.dtype) == "bfloat16"


@ALL
def test_mixed_precision_trains(name):
    case = CASES[name]
    before, after = trained(case, case.make(dtype="mixed_bfloat16"), dtype="mixed_bfloat16")
    for old, new in zip(before, after, strict=True):
        assert np.isfinite(new).all()
        assert np.abs(new - old).max() > 1e-4


# The encoder apart


@AUTOENCODERS
def test_encoder_layers_are_ordinary_and_give_the_embedding(name):
    case = CASES[name]
    layer = case.built()
    moved(layer)
    parts = layer.encoder_layers()
    ordinary = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dropout, UnitNorm)
    assert {type(part) for part in parts} <= set(ordinary)
    x = case.sample(seed=2)
    encoder = keras.Sequential([keras.Input(case.input_shape), *parts])
    latent = array(layer.encode(x))
    assert latent.std() > 0.01
    np.testing.assert_allclose(array(encoder(x)), latent, atol=1e-5)
    # They are copies: what becomes of them is nothing to the layer.
    encoder.set_weights([w + 1 for w in encoder.get_weights()])
    np.testing.assert_array_equal(array(layer.encode(x)), latent)
    assert np.abs(array(encoder(x)) - latent).max() > 0.01


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "use_bias" in case.every_argument])
def test_encoder_layers_without_biases(name):
    case = CASES[name]
    layer = case.built(use_bias=False)
    assert len(layer.weights) < len(case.weights)
    encoder = keras.Sequential([keras.Input(case.input_shape), *layer.encoder_layers()])
    np.testing.assert_allclose(array(encoder(case.sample())), array(layer.encode(case.sample())), atol=1e-5)


@AUTOENCODERS
@NO_GRADIENT
def test_encoder_model_has_the_variables_of_the_layer(name):
    case = CASES[name]
    layer = case.built()
    inputs = keras.Input(case.input_shape)
    model = keras.Model(inputs, layer.encoder_model()(inputs))
    assert [id(w) for w in model.weights] == [id(w) for w in layer.weights]
    x = case.sample()
    np.testing.assert_allclose(array(model(x)), array(layer.encode(x)), atol=1e-6)
    # Training one is training the other.
    first = array(layer.weights[0])
    latent = array(layer.encode(x))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.fit(x, np.full_like(latent, 0.5), epochs=1, verbose=0)
    assert np.abs(array(layer.weights[0]) - first).max() > 1e-4
    assert np.abs(array(layer.encode(x)) - latent).max() > 1e-4
    np.testing.assert_allclose(array(model(x)), array(layer.encode(x)), atol=1e-6)


@AUTOENCODERS
def test_encoder_model_predicts_by_itself(name):
    """It is a model: it needs no other around it."""
    case = CASES[name]
    layer = case.built()
    x = case.sample()
    np.testing.assert_allclose(layer.encoder_model().predict(x, verbose=0), array(layer.encode(x)), atol=1e-6)


# What is refused


@AUTOENCODERS
def test_symbolic_tensors_are_refused(name):
    case = CASES[name]
    layer, own = case.built(), case.layer.__name__
    with pytest.raises(
        TypeError,
        match=rf"{own}\.encode needs an array\. Received a symbolic.*use `layer\.encoder_model\(\)\(inputs\)`",
    ):
        layer.encode(keras.Input(case.input_shape))
    with pytest.raises(TypeError, match=rf"{own}\.decode needs an array\. Received a symbolic Keras tensor"):
        layer.decode(keras.Input(case.latent_shape))


@AUTOENCODERS
def test_wrong_shapes_are_refused(name):
    case = CASES[name]
    layer, own = case.built(), case.layer.__name__
    message = r"{}\.{} needs an array of rows, shape \(\.\.\., {}\)\. Received shape \({}\)"
    shapes = {"encode": case.input_shape, "decode": case.latent_shape}
    for method, shape in shapes.items():
        wanted = ", ".join(map(str, shape))
        wider = (*shape[:-1], shape[-1] + 1)
        with pytest.raises(ArgumentError, match=message.format(own, method, wanted, ", ".join(map(str, (2, *wider))))):
            getattr(layer, method)(np.zeros((2, *wider), "float32"))
        # One row is not an array of rows.
        with pytest.raises(ArgumentError, match=message.format(own, method, wanted, wanted + ",?")):
            getattr(layer, method)(np.zeros(shape, "float32"))


@AUTOENCODERS
def test_layer_without_weights_is_refused(name):
    case = CASES[name]
    layer, own = case.make(), case.layer.__name__
    with pytest.raises(ValueError, match=rf"{own}\.decode needs a built layer.* Call the layer"):
        layer.decode(np.zeros((2, *case.latent_shape), "float32"))
    for method in ("encoder_model", "encoder_layers"):
        with pytest.raises(ValueError, match=rf"{own}\.\w+ needs a built layer\. Call the layer or `build` first"):
            getattr(layer, method)()


@AUTOENCODERS
def test_dense_weights_or_none(name):
    case = CASES[name]
    layer = case.built()
    if not case.takes_rows:
        with pytest.raises(ArgumentError, match=rf"{case.layer.__name__} has no dense weights\. Use `encoder_layers"):
            layer.dense_weights()
        return
    with pytest.raises(ValueError, match=r"dense_weights needs a built layer"):
        case.make().dense_weights()
    functions = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
    x = case.sample()
    for kernel, bias, activation in layer.dense_weights():
        assert kernel.dtype == bias.dtype == np.float32
        x = functions[activation](x @ kernel + bias)
    if case.arguments.get("unit_norm"):
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(array(layer.encode(case.sample())), x, atol=1e-5)


@pytest.mark.parametrize("shape", [(None,), (4, None)])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.latent_shape and case.takes_rows])
def test_unknown_width_is_refused(name, shape):
    case = CASES[name]
    with pytest.raises(ValueError, match=rf"{case.layer.__name__} cannot be built: the last axis .* a fixed width"):
        case.make().build((None, *shape))


def test_all_autoencoders_are_here():
    """A new one belongs into the contract."""

    def below(cls):
        return {cls}.union(*(below(sub) for sub in cls.__subclasses__()))

    import scquery_ae.nn as nn

    public = {getattr(nn, name) for name in nn.__all__}
    layers = {cls for cls in public if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)}
    # Bases, which nobody makes.
    bases = {Autoencoder, nn.ConvAutoencoder}
    assert layers - bases == {case.layer for case in CASES.values()}


@pytest.mark.parametrize("name", ["dense", "conv_2d"])
def test_encoder_model_may_be_called_twice_in_one_model(name):
    case = CASES[name]
    layer = case.built()
    inputs = keras.Input(case.input_shape)
    both = keras.Model(inputs, [layer.encoder_model()(inputs), layer.encoder_model()(inputs)])
    first, second = both.predict(case.sample(), verbose=0)
    np.testing.assert_array_equal(first, second)
