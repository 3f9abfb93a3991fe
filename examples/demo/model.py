"""The acoustic model, convolutions over time in numpy, and the optimizer Adam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data import FloatArray, IntArray


@dataclass
class Parameter:
    """A weight, its gradient, and Adam's running means of the gradient and its square."""

    value: FloatArray
    gradient: FloatArray
    mean: FloatArray
    square: FloatArray

    @classmethod
    def of(cls, value: FloatArray) -> Parameter:
        """Return a parameter with an initial value."""
        return cls(value, np.zeros_like(value), np.zeros_like(value), np.zeros_like(value))


class Convolution:
    """A centred, zero-padded convolution over time: (time, batch, in) to (ceil(time / stride), batch, out).

    All windows are copied into one matrix, so that forward and backward are matrix products.
    """

    def __init__(self, inputs: int, outputs: int, width: int, stride: int, rng: np.random.Generator) -> None:
        scale = np.sqrt(2.0 / (width * inputs))  # He et al.: preserves the variance through ReLU
        weight = rng.standard_normal((width * inputs, outputs)) * scale
        self.weight = Parameter.of(weight.astype(np.float32))
        self.bias = Parameter.of(np.zeros(outputs, dtype=np.float32))
        self.width = width
        self.stride = stride
        self._windows: FloatArray = np.zeros((0, 0), dtype=np.float32)
        self._input_shape: tuple[int, int, int] = (0, 0, 0)

    def forward(self, x: FloatArray) -> FloatArray:
        """Compute the output. Store the input for backward."""
        time, batch, inputs = self._input_shape = x.shape
        steps = -(-time // self.stride)
        padded = np.zeros((time + self.width - 1, batch, inputs), dtype=np.float32)
        padded[self.width // 2 : self.width // 2 + time] = x
        windows = np.empty((steps, batch, self.width, inputs), dtype=np.float32)
        for offset in range(self.width):
            windows[:, :, offset] = padded[offset : offset + time : self.stride]
        self._windows = windows.reshape(steps * batch, self.width * inputs)
        return (self._windows @ self.weight.value + self.bias.value).reshape(steps, batch, -1)

    def backward(self, gradient: FloatArray, needs_input: bool = True) -> FloatArray:
        """Compute the gradients of the input and the parameters from the gradient of the output.

        The first layer does not need the gradient of the input: without needs_input, it is empty.
        """
        flat = gradient.reshape(-1, gradient.shape[-1])
        self.weight.gradient = self._windows.T @ flat
        self.bias.gradient = flat.sum(axis=0)
        if not needs_input:
            return np.zeros((0, 0, 0), dtype=np.float32)
        time, batch, inputs = self._input_shape
        windows = (flat @ self.weight.value.T).reshape(len(gradient), batch, self.width, inputs)
        padded = np.zeros((time + self.width - 1, batch, inputs), dtype=np.float32)
        for offset in range(self.width):
            padded[offset : offset + time : self.stride] += windows[:, :, offset]
        return padded[self.width // 2 : self.width // 2 + time]


class AcousticModel:
    """Log-mel features to log posteriors, at a third of the frame rate.

    Args:
        inputs: mel bands.
        outputs: labels.
        rng: the source of the initial weights and of dropout.
        hidden: the number of units of each hidden layer.
        widths: the width of each hidden layer's window, in frames. Together they span 0.5 s.
        dropout: the probability that a training step drops a hidden unit.
    """

    # The first layer reduces frames of 10 ms to 30 ms: a third of the posteriors, and still two or three
    # frames for most phonemes.
    STRIDE = 3

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: np.random.Generator,
        hidden: Sequence[int] = (96, 128, 160),
        widths: Sequence[int] = (11, 7, 7),
        dropout: float = 0.1,
    ) -> None:
        layers = []
        stride = self.STRIDE
        for units, width in zip(hidden, widths):
            layers.append(Convolution(inputs, units, width, stride, rng))
            inputs, stride = units, 1
        self._layers = (*layers, Convolution(inputs, outputs, 1, 1, rng))
        self._masks: list[FloatArray] = []
        self._dropout = dropout
        self._rng = rng

    @property
    def parameters(self) -> list[Parameter]:
        """The weights and biases of all layers."""
        return [parameter for layer in self._layers for parameter in (layer.weight, layer.bias)]

    def forward(
        self, features: FloatArray, lengths: IntArray, train: bool = False
    ) -> tuple[FloatArray, IntArray]:
        """Compute log posteriors.

        Args:
            features: (time, batch, mel band) float32, zero beyond each length.
            lengths: (batch,) int32.
            train: whether to apply dropout.

        Returns:
            The log posteriors, (time / 3, batch, label) float32, and their lengths, (batch,) int32.
        """
        lengths = (-(-lengths // self.STRIDE)).astype(np.int32)
        x = features
        self._masks = []
        for layer in self._layers[:-1]:
            x = layer.forward(x)
            # Zeros beyond the length make a segment's posteriors independent of its batch.
            valid = np.arange(len(x))[:, None] < lengths
            mask = ((x > 0) & valid[:, :, None]).astype(np.float32)
            if train:
                mask *= (self._rng.random(mask.shape, dtype=np.float32) >= self._dropout) / np.float32(
                    1.0 - self._dropout
                )
            self._masks.append(mask)
            x = x * mask
        logits = self._layers[-1].forward(x)
        logits -= logits.max(axis=2, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True)), lengths

    def backward(self, error_signal: FloatArray) -> None:
        """Compute the gradients of the parameters.

        Args:
            error_signal: (time, batch, label), the gradient of the loss before the softmax, from Sprint.
        """
        gradient = self._layers[-1].backward(error_signal)
        for index in range(len(self._layers) - 2, -1, -1):
            gradient = self._layers[index].backward(gradient * self._masks[index], needs_input=index > 0)


class Adam:
    """Adam (Kingma and Ba 2015) with a limit on the gradient's norm."""

    def __init__(self, parameters: Sequence[Parameter], max_norm: float = 5.0) -> None:
        self._parameters = list(parameters)
        self._max_norm = max_norm
        self._steps = 0

    def step(self, learning_rate: float, scale: float) -> None:
        """Update the parameters.

        Args:
            learning_rate: the learning rate.
            scale: a factor for the gradients: 1 / segments for the mean over the batch.
        """
        self._steps += 1
        norm = scale * float(np.sqrt(sum(float(np.vdot(p.gradient, p.gradient)) for p in self._parameters)))
        if norm > self._max_norm:
            scale *= self._max_norm / norm
        beta1, beta2, epsilon = 0.9, 0.99, 1e-8
        correction1, correction2 = 1.0 - beta1**self._steps, 1.0 - beta2**self._steps
        for parameter in self._parameters:
            gradient = parameter.gradient * np.float32(scale)
            parameter.mean += np.float32(1.0 - beta1) * (gradient - parameter.mean)
            parameter.square += np.float32(1.0 - beta2) * (gradient * gradient - parameter.square)
            denominator = np.sqrt(parameter.square / np.float32(correction2)) + np.float32(epsilon)
            parameter.value -= np.float32(learning_rate / correction1) * parameter.mean / denominator
