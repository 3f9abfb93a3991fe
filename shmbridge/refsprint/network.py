"""Neural networks, as far as nn-trainer needs one to drive SprintNnPythonLayer: a chain of layers.

The options are RASR's: ``neural-network.links = 0->name`` names the lowest layer, and each layer's own
``links`` names the next one. The layer types are ``python``, ``identity``, ``softmax`` and
``linear+softmax``. The weights of the latter are random and not trained.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from shmbridge.errors import OptionError

from .configuration import Configuration
from .console import CriticalError, FailedAssertionError
from .matrices import Matrix, from_python, to_python
from .python_calls import call, import_module

__all__ = ["Network", "input_dimension"]


class _Layer:
    """A layer, by default the identity. Matrices are (dimension, time) float32."""

    has_softmax = False  # whether the layer ends in a softmax over its outputs

    def __init__(self, config: Configuration) -> None:
        self.input_dimension = 0
        self.output_dimension = config.integer("dimension-output", 0)

    def is_trainable(self) -> bool:
        return False

    def set_input_dimension(self, size: int) -> None:
        self.input_dimension = size
        self.output_dimension = self.output_dimension or size

    def initialize_parameters(self, filename: Optional[str]) -> None:
        """Load the parameters, or initialize them randomly if there is no file."""

    def save_parameters(self, filename: str) -> None:
        pass

    def num_parameters(self) -> int:
        return 0

    def forward(self, matrix: Matrix) -> Matrix:
        _check_rows(matrix, self.output_dimension)
        return matrix

    def backpropagate_activations(self, error: Matrix, output: Matrix) -> Matrix:
        """Compute the gradient before the activation function from the gradient of the output."""
        return error

    def backpropagate_weights(self, error: Matrix) -> Matrix:
        """Compute the gradient of the input from the result of backpropagate_activations."""
        return error

    def finalize(self) -> None:
        pass


class _SoftmaxLayer(_Layer):
    has_softmax = True

    def forward(self, matrix: Matrix) -> Matrix:
        matrix = super().forward(matrix)
        result: Matrix = np.exp(matrix - matrix.max(axis=0))
        result /= result.sum(axis=0)
        return result

    def backpropagate_activations(self, error: Matrix, output: Matrix) -> Matrix:
        result: Matrix = output * (error - (output * error).sum(axis=0))
        return result


class _LinearSoftmaxLayer(_SoftmaxLayer):
    def is_trainable(self) -> bool:
        return True

    def set_input_dimension(self, size: int) -> None:
        super().set_input_dimension(size)
        shape = (self.output_dimension, size)
        self._weights = np.random.default_rng(0).uniform(-0.1, 0.1, shape).astype(np.float32)

    def num_parameters(self) -> int:
        return int(self._weights.size)

    def forward(self, matrix: Matrix) -> Matrix:
        _check_rows(matrix, self.input_dimension)
        return super().forward(self._weights @ matrix)

    def backpropagate_weights(self, error: Matrix) -> Matrix:
        result: Matrix = self._weights.T @ error
        return result


class _PythonLayer(_Layer):
    """The user's SprintNnPythonLayer. All methods raise CriticalError if Python raises or errs."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        module = import_module(config, "PythonLayer")
        self._object = call(module, "SprintNnPythonLayer", config=config.string("pymod-config"))
        self._gradients: tuple[Any, ...] = ()
        call(self._object, "setOutputDimension", size=self.output_dimension)

    def is_trainable(self) -> bool:
        answer = call(self._object, "isTrainable")
        # RASR rejects other types, numpy.bool_ among them.
        if answer is not True and answer is not False:
            raise CriticalError("PYTHON ERROR: isTrainable() did not return a bool [python-error]")
        return answer

    def set_input_dimension(self, size: int) -> None:
        # There is one input, stream 0. The output dimension is Python's decision.
        self.input_dimension = size
        call(self._object, "setInputDimension", stream=0, size=size)

    def initialize_parameters(self, filename: Optional[str]) -> None:
        if filename is None:
            call(self._object, "initializeNetworkParameters")
        else:
            call(self._object, "loadNetworkParameters", filename=filename)

    def save_parameters(self, filename: str) -> None:
        call(self._object, "saveNetworkParameters", filename=filename)

    def num_parameters(self) -> int:
        answer = call(self._object, "getNumberOfFreeParameters")
        try:
            count = int(answer.__index__())
        except AttributeError:
            count = -1
        if count < 0:
            problem = f"getNumberOfFreeParameters() returned {answer!r}; it must return a non-negative int"
            raise CriticalError(f"PYTHON ERROR: {problem} [python-error]")
        return count

    def forward(self, matrix: Matrix) -> Matrix:
        # The output has the shape of the answer, whatever that is.
        answer = call(self._object, "forward", input=[to_python(matrix)])
        return np.array(from_python(answer, "PYTHON ERROR: the result of forward()"), order="F")

    def backpropagate_activations(self, error: Matrix, output: Matrix) -> Matrix:
        # Python computes both gradients at once.
        answer = call(self._object, "backpropagate", errorSignalIn=to_python(error))
        if not isinstance(answer, tuple):
            raise CriticalError("PYTHON ERROR: backpropagate() did not return a tuple [python-error]")
        self._gradients = answer
        return error

    def backpropagate_weights(self, error: Matrix) -> Matrix:
        # Sprint reads the tuple only here, so that it never reads that of the lowest trainable layer.
        if len(self._gradients) != 1:
            problem = f"backpropagate() returned {len(self._gradients)} items, expected 1"
            raise CriticalError(f"PYTHON ERROR: {problem} [python-error]")
        return from_python(self._gradients[0], "PYTHON ERROR: the result of backpropagate()")

    def finalize(self) -> None:
        call(self._object, "finalize")


_LAYERS: dict[str, type[_Layer]] = {
    "identity": _Layer,
    "python": _PythonLayer,
    "softmax": _SoftmaxLayer,
    "linear+softmax": _LinearSoftmaxLayer,
}


class Network:
    """A chain of layers, built and initialized in RASR's order of calls.

    Args:
        config: the options of the application.
        input_dimension: the number of rows of the features.

    Raises:
        OptionError: the options do not describe a chain of layers.
        CriticalError: the Python layer failed.
    """

    def __init__(self, config: Configuration, input_dimension: int) -> None:
        self._config = config
        self._names = _chain(config)
        self._outputs: list[Matrix] = []
        self.layers: list[_Layer] = []
        for selected in map(config.select, self._names):
            kind = selected.choice("layer-type", tuple(_LAYERS), "identity")
            self.layers.append(_LAYERS[kind](selected))
        self._find_lowest_trainable()
        size = input_dimension
        for layer in self.layers:
            layer.set_input_dimension(size)
            size = layer.output_dimension
        old = config.string("parameters-old")
        for i, layer in enumerate(self.layers):
            layer.initialize_parameters(self._filename(old, i) if old else None)
        # RASR asks again after initialization.
        self._lowest_trainable = self._find_lowest_trainable()
        self.num_parameters = sum(layer.num_parameters() for layer in self.layers)

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
            error: the result of the top layer's backpropagate_activations.
        """
        for i in range(len(self.layers) - 1, self._lowest_trainable, -1):
            error = self.layers[i].backpropagate_weights(error)
            error = self.layers[i - 1].backpropagate_activations(error, self._outputs[i - 1])
        for layer in self.layers[self._lowest_trainable :]:
            # RASR asks again when it collects the gradients.
            layer.is_trainable()

    def finalize(self) -> None:
        """Finalize the layers, and save their parameters if ``parameters-new`` is set."""
        for layer in self.layers:
            layer.finalize()
        new = self._config.string("parameters-new")
        if new and not self._config.boolean("batch-mode", False):
            for i in reversed(range(len(self.layers))):
                self.layers[i].save_parameters(self._filename(new, i))

    def _find_lowest_trainable(self) -> int:
        trainable = [i for i, layer in enumerate(self.layers) if layer.is_trainable()]
        return trainable[0] if trainable else len(self.layers) - 1

    def _filename(self, filename: str, index: int) -> str:
        suffix = ".bin" if filename.startswith("bin:") else ".xml"
        symbolic = self._config.boolean("parameter-file-symbolic", False)
        return f"{filename}-f32-layer-{self._names[index] if symbolic else index}{suffix}"


def input_dimension(config: Configuration) -> int:
    """Return the option dimension-input of the lowest layer, or 0. Raise OptionError as Network does."""
    return config.select(_chain(config)[0]).integer("dimension-input", 0)


def _chain(config: Configuration) -> list[str]:
    """Return the names of the layers, from the lowest to the top."""
    links = config.select("neural-network").string("links")
    names: list[str] = []
    while links:
        if "," in links:
            raise OptionError(f"links is {links!r}; refsprint supports only chains of layers [network]")
        source, arrow, target = links.partition("->")
        name = (target if arrow else source).partition(":")[0].strip()
        if not name or "." in name or "*" in name or (arrow and source.partition(":")[0].strip() != "0"):
            raise OptionError(f"links is {links!r}; it must be 0->LAYER or LAYER [network]")
        if name in names:
            raise OptionError(f"the links lead back to layer {name!r} [network]")
        names.append(name)
        links = config.select(name).string("links")
    if not names:
        raise OptionError("there is no network; set --*.neural-network.links=0->LAYER [network]")
    return names


def _check_rows(matrix: Matrix, num_rows: int) -> None:
    if len(matrix) != num_rows:
        problem = f"the input of a layer has {len(matrix)} rows; it must have {num_rows}"
        raise FailedAssertionError(f"{problem} [refsprint-posteriors]")
