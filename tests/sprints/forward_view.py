"""A Sprint that notes the matrix which forward() returns.

The setting `container` is the type of the argument of forward().
"""

from __future__ import annotations

import numpy as np
from prelude import CONFIG, SEEN, init, save_seen, segment_list, setting

import sprint_entry

control = init()
layer = sprint_entry.SprintNnPythonLayer(config=CONFIG)
layer.setOutputDimension(size=4)
layer.setInputDimension(stream=0, size=5)
layer.initializeNetworkParameters()
features = np.zeros((5, 3), np.float32, order="F")
for name in segment_list():
    control.init_segment(segment_name=name)
    output = layer.forward(input=[features] if setting("container") == "list" else (features,))
    address = output.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if start <= address and address + output.nbytes <= end:
                SEEN["mapping"] = line
    SEEN["output"] = [output.shape, output.strides, str(output.dtype), output.tolist()]
    SEEN["same"] = np.shares_memory(output, layer.forward(input=[features]))
    control.notify_segment_loss(segment_name=None, loss=1.5)
    layer.backpropagate(errorSignalIn=np.full((4, 3), 2, np.float32, order="F"))
save_seen()
