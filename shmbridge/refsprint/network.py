"""A neural network as far as nn-trainer needs one to drive SprintNnPythonLayer: a chain of layers.

The chain is configured as in RASR: ``neural-network.links = 0->name`` names the lowest layer, each
layer's own ``links`` the next one above it. Of RASR's layer types there are ``python``, ``identity``,
``softmax`` and ``linear+softmax``, whose weights are random and stay so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from shmbridge.errors import OptionError

from .configuration import Configuration
from .console import CriticalError, FailedAssertionError
from .matrices import Matrix, from_python, to_python
from .python_calls import call, import_module

__all__ = ["Layer", "Network"]

_TYPES = ("identity", "python", "softmax", "linear+softmax")


class Layer:
    """A layer; of itself, the identity. Matrices are (dimension, time) float32.

    Attributes:
        has_softmax: whether the layer ends in a softmax over its outputs.
    """

    has_softmax = False

    def __init__(self, config: Configuration) -> None:
        self._config = config
        self.input_dimension = 0
        self.output_dimension = config.integer("dimension-output", 0)

    def is_trainable(self) -> bool:
        """Whether the layer has parameters to estimate."""
        return False

    def set_input_dimension(self, size: int) -> None:
        """Tell the layer the rows of its input. It has one input, the stream 0."""
        self.input_dimension = size
        self.output_dimension = self.output_dimension or size

    def initialize_parameters(self) -> None:
        """Start from random parameters."""

    def load_parameters(self, filename: str) -> None:
        """Start from the parameters in a file."""

    def save_parameters(self, filename: str) -> None:
        """Save the parameters."""

    def parameter_count(self) -> int:
        """The number of free parameters."""
        return 0

    def forward(self, matrix: Matrix) -> Matrix:
        """Compute the output."""
        _require_shape(matrix, (self.output_dimension, matrix.shape[1]), "the input of a layer")
        return matrix

    def backpropagate_activations(self, error: Matrix, output: Matrix) -> Matrix:
        """From the gradient of the output to the gradient before the activation function."""
        return error

    def backpropagate_weights(self, error: Matrix) -> Matrix:
        """From the result of backpropagate_activations to the gradient of the input."""
        return error

    def finalize(self) -> None:
        """The training is over."""


class SoftmaxLayer(Layer):
    """Softmax over the rows."""

    has_softmax = True

    def forward(self, matrix: Matrix) -> Matrix:
        """As Layer.forward."""
        matrix = super().forward(matrix)
        result: Matrix = np.exp(matrix - matrix.max(axis=0))
        result /= result.sum(axis=0)
        return result

    def backpropagate_activations(self, error: Matrix, output: Matrix) -> Matrix:
        """As Layer.backpropagate_activations."""
        result: Matrix = output * (error - (output * error).sum(axis=0))
        return result


class LinearSoftmaxLayer(SoftmaxLayer):
    """A matrix of random weights, and a softmax."""

    def is_trainable(self) -> bool:
        """As Layer.is_trainable."""
        return True

    def set_input_dimension(self, size: int) -> None:
        """As Layer.set_input_dimension."""
        super().set_input_dimension(size)
        shape = (self.output_dimension, size)
        self._weights = np.random.default_rng(0).uniform(-0.1, 0.1, shape).astype(np.float32)

    def parameter_count(self) -> int:
        """As Layer.parameter_count."""
        return int(self._weights.size)

    def forward(self, matrix: Matrix) -> Matrix:
        """As Layer.forward."""
        _require_shape(matrix, (self.input_dimension, matrix.shape[1]), "the input of a layer")
        return super().forward(self._weights @ matrix)

    def backpropagate_weights(self, error: Matrix) -> Matrix:
        """As Layer.backpropagate_weights."""
        result: Matrix = self._weights.T @ error
        return result


class PythonLayer(Layer):
    """The user's SprintNnPythonLayer.

    Errors:
        CriticalError: a call failed, or returned what Sprint does not take. So do all methods.
    """

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        module = import_module(config.string("pymod-path"), config.string("pymod-name"), "PythonLayer")
        self._object = call(module, "SprintNnPythonLayer", config=config.string("pymod-config"))
        self._gradients: Sequence[object] = ()
        call(self._object, "setOutputDimension", size=self.output_dimension)

    def is_trainable(self) -> bool:
        """As Layer.is_trainable."""
        answer = call(self._object, "isTrainable")
        # Exactly a bool, as RASR wants it: numpy.bool_ is none.
        if answer is not True and answer is not False:
            raise CriticalError("PYTHON ERROR: isTrainable() did not return a bool [python-error]")
        return answer

    def set_input_dimension(self, size: int) -> None:
        """As Layer.set_input_dimension; the output dimension is the user's affair."""
        self.input_dimension = size
        call(self._object, "setInputDimension", stream=0, size=size)

    def initialize_parameters(self) -> None:
        """As Layer.initialize_parameters."""
        call(self._object, "initializeNetworkParameters")

    def load_parameters(self, filename: str) -> None:
        """As Layer.load_parameters."""
        call(self._object, "loadNetworkParameters", filename=filename)

    def save_parameters(self, filename: str) -> None:
        """As Layer.save_parameters."""
        call(self._object, "saveNetworkParameters", filename=filename)

    def parameter_count(self) -> int:
        """As Layer.parameter_count."""
        answer = call(self._object, "getNumberOfFreeParameters")
        try:
            count = answer.__index__()
        except AttributeError:
            raise CriticalError(
                "PYTHON ERROR: getNumberOfFreeParameters() did not return an int [python-error]"
            ) from None
        if count < 0:
            raise CriticalError(
                "PYTHON ERROR: getNumberOfFreeParameters() returned a negative number [python-error]"
            )
        return int(count)

    def forward(self, matrix: Matrix) -> Matrix:
        """As Layer.forward. Whatever shape Python returns is the shape of the output."""
        answer = call(self._object, "forward", input=[to_python(matrix)])
        return np.array(from_python(answer, "PYTHON ERROR: the result of forward()"), order="F")

    def backpropagate_activations(self, error: Matrix, output: Matrix) -> Matrix:
        """As Layer.backpropagate_activations: here Python computes both parts at once."""
        answer = call(self._object, "backpropagate", errorSignalIn=to_python(error))
        if not isinstance(answer, tuple):
            raise CriticalError("PYTHON ERROR: backpropagate() did not return a tuple [python-error]")
        self._gradients = answer
        return error

    def backpropagate_weights(self, error: Matrix) -> Matrix:
        """As Layer.backpropagate_weights: what Python returned is looked at only here.

        So for the lowest trainable layer Sprint never looks into the tuple.
        """
        if len(self._gradients) != 1:
            problem = f"backpropagate() returned {len(self._gradients)} items, expected 1"
            raise CriticalError(f"PYTHON ERROR: {problem} [python-error]")
        return from_python(self._gradients[0], "PYTHON ERROR: the result of backpropagate()")

    def finalize(self) -> None:
        """As Layer.finalize."""
        call(self._object, "finalize")


class Network:
    """A chain of layers, built and initialized in RASR's order of calls."""

    def __init__(self, config: Configuration, input_dimension: int) -> None:
        """Build the layers and initialize their parameters.

        Args:
            config: the options of the application.
            input_dimension: the rows of the features.

        Errors:
            OptionError: the options describe no chain of layers.
            CriticalError: from the Python layer.
        """
        self._config = config
        names = _chain(config)
        self.layers = [_create_layer(config.select(name)) for name in names]
        self.lowest_trainable = self._find_lowest_trainable()
        size = input_dimension
        for layer in self.layers:
            layer.set_input_dimension(size)
            size = layer.output_dimension
        old = config.string("parameters-old")
        for i, layer in enumerate(self.layers):
            if old:
                layer.load_parameters(self._filename(old, i, names[i]))
            else:
                layer.initialize_parameters()
        self.lowest_trainable = self._find_lowest_trainable()
        self.parameter_count = sum(layer.parameter_count() for layer in self.layers)
        self._names = names
        self._outputs: list[Matrix] = []

    def forward(self, features: Matrix) -> Matrix:
        """Compute the output of the top layer."""
        self._outputs = []
        matrix = features
        for layer in self.layers:
            matrix = layer.forward(matrix)
            self._outputs.append(matrix)
        return matrix

    def backpropagate(self, error: Matrix) -> None:
        """Propagate the error signal of the top layer down to the lowest trainable one.

        Args:
            error: the gradient before the top layer's activation function; for the top layer,
                backpropagate_activations has been called already.
        """
        for i in range(len(self.layers) - 1, self.lowest_trainable, -1):
            error = self.layers[i].backpropagate_weights(error)
            error = self.layers[i - 1].backpropagate_activations(error, self._outputs[i - 1])
        for layer in self.layers[self.lowest_trainable :]:
            # RASR asks again when it collects the gradients.
            layer.is_trainable()

    def finalize(self) -> None:
        """The training is over: finalize the layers, and save their parameters where a file is named."""
        for layer in self.layers:
            layer.finalize()
        new = self._config.string("parameters-new")
        if new and not self._config.boolean("batch-mode", False):
            for i in range(len(self.layers) - 1, -1, -1):
                self.layers[i].save_parameters(self._filename(new, i, self._names[i]))

    def _find_lowest_trainable(self) -> int:
        trainable = [i for i, layer in enumerate(self.layers) if layer.is_trainable()]
        return trainable[0] if trainable else len(self.layers) - 1

    def _filename(self, filename: str, index: int, name: str) -> str:
        suffix = ".bin" if filename.startswith("bin:") else ".xml"
        symbolic = self._config.boolean("parameter-file-symbolic", False)
        return f"{filename}-f32-layer-{name if symbolic else index}{suffix}"


def _chain(config: Configuration) -> list[str]:
    links = config.select("neural-network").string("links")
    names: list[str] = []
    while links:
        if "," in links:
            raise OptionError(f"refsprint offers chains of layers only, got links {links!r} [network]")
        source, arrow, target = links.partition("->")
        name = (target if arrow else source).partition(":")[0].strip()
        if not name or "." in name or "*" in name or (arrow and source.partition(":")[0].strip() != "0"):
            raise OptionError(f"malformed links {links!r}: expected 0->layer, or layer [network]")
        if name in names:
            raise OptionError(f"the links lead back to layer {name!r} [network]")
        names.append(name)
        links = config.select(name).string("links")
    if not names:
        raise OptionError("no network: set --*.neural-network.links=0->LAYER [network]")
    return names


def _create_layer(config: Configuration) -> Layer:
    kind = config.choice("layer-type", _TYPES, "identity")
    layers = {"python": PythonLayer, "softmax": SoftmaxLayer, "linear+softmax": LinearSoftmaxLayer}
    layer: Optional[type[Layer]] = layers.get(kind)
    return (layer or Layer)(config)


def _require_shape(matrix: Matrix, shape: tuple[int, int], what: str) -> None:
    if matrix.shape != shape:
        raise FailedAssertionError(f"{what} has the shape {matrix.shape}, not {shape} [refsprint-posteriors]")
