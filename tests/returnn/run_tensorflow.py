"""Run the operations of returnn.tf.sprint on RETURNN's pool with shmbridge.returnn.

    python run_tensorflow.py TASK.json RESULTS.npz

A separate program, because RETURNN changes TensorFlow's mode for the whole process. If TensorFlow is not
installed, a stand-in for the parts that returnn.tf.sprint uses calls the same functions of RETURNN with the
arguments that TensorFlow would pass. `real` in RESULTS is true for TensorFlow itself.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import numpy as np


class StandInTensor:
    """A tensor with a constant value. Strings are bytes in an array of objects."""

    def __init__(self, value: Any) -> None:
        value = np.asarray(value)
        if value.dtype.kind in "US":
            value = np.array([text.encode() for text in value.tolist()], object)
        self.value = value

    def set_shape(self, shape: Any) -> None:
        given = shape.dims if hasattr(shape, "dims") else shape
        assert len(given) == self.value.ndim
        assert all(n is None or n == m for n, m in zip(given, self.value.shape)), (given, self.value.shape)

    def get_shape(self) -> Any:
        return types.SimpleNamespace(dims=list(self.value.shape))


def stand_in_for_tensorflow() -> types.ModuleType:
    """Return a module with the names that returnn.tf.compat and returnn.tf.sprint use."""

    def py_func(function: Any, tensors: Any, types_out: Any, name: str) -> list[StandInTensor]:
        answer = [np.asarray(array) for array in function(*(tensor.value for tensor in tensors))]
        # TensorFlow checks the dtypes too.
        assert [array.dtype for array in answer] == types_out, (name, [array.dtype for array in answer])
        return [StandInTensor(array) for array in answer]

    module = types.ModuleType("tensorflow")
    nothing = lambda *_: None  # noqa: E731
    v1 = types.SimpleNamespace(
        py_func=py_func,
        disable_eager_execution=nothing,
        disable_v2_tensorshape=nothing,
        disable_control_flow_v2=nothing,
    )
    contents = {
        "__version__": "2.0-stand-in",
        "Tensor": StandInTensor,
        "int32": np.dtype("int32"),
        "float32": np.dtype("float32"),
        "compat": types.SimpleNamespace(v1=v1, v2=types.SimpleNamespace()),
    }
    vars(module).update(contents)
    return module


def main(task_path: str, results_path: str) -> None:
    with open(task_path, encoding="utf-8") as file:
        task = json.load(file)
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        tf = sys.modules["tensorflow"] = stand_in_for_tensorflow()
    real = tf.Tensor is not StandInTensor

    import shmbridge.returnn

    if task["install"] == "before":
        shmbridge.returnn.install(ring_size=1 << 20)
    from returnn.tf.sprint import get_sprint_automata_for_batch_op, get_sprint_loss_and_error_signal

    if task["install"] == "after":
        shmbridge.returnn.install(ring_size=1 << 20)

    posteriors = np.array(task["posteriors"], np.float32)
    lengths = np.array(task["lengths"], task["lengths_dtype"])

    def build(constant: Any) -> list[Any]:
        opts, tags = task["sprint_opts"], constant(task["tags"])
        loss_and_error_signal = get_sprint_loss_and_error_signal(
            opts, constant(posteriors), constant(lengths), tags
        )
        if not task.get("automata", True):
            return [*loss_and_error_signal]
        return [*loss_and_error_signal, *get_sprint_automata_for_batch_op(opts, tags)]

    if real:
        with tf.compat.v1.Graph().as_default(), tf.compat.v1.Session() as session:
            answer = session.run(build(tf.constant))
    else:
        answer = [tensor.value for tensor in build(StandInTensor)]
    names = ("loss", "error_signal", "edges", "weights", "start_end_states")
    np.savez(results_path, real=real, **dict(zip(names, answer)))
    shmbridge.returnn.uninstall()


if __name__ == "__main__":
    main(*sys.argv[1:])
