"""A Sprint that creates control, segment order and layer in the order of the setting `order`."""

from __future__ import annotations

from prelude import CONFIG, SEEN, init, process, save_seen, segment_list, setting

import sprint_entry

names = segment_list()
first = ""
instances = []
for part in setting("order").split(","):
    if part == "control":
        init().init_processing(input_dim=-1, output_dim=-1)
    elif part == "order":
        first = next(names)
    else:
        layer = sprint_entry.SprintNnPythonLayer(config=CONFIG)
    instances.append(sprint_entry.PythonControl.instance)
control = instances[0]
SEEN["one_instance"] = all(instance is control for instance in instances)
process(control, first)
SEEN["init_returns_it"] = init() is control and init(sprint_unit="FeedForwardTrainer") is control
for name in names:
    process(control, name)
save_seen()
