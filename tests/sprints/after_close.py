"""A Sprint that closes the control after its first segment, and then uses it."""

from __future__ import annotations

import os

from prelude import CONFIG, SEEN, attempt, init, process, save_seen, segment_list

import sprint_entry

# A second descriptor of the pipe keeps Sprint alive: the parent ends a Sprint that closes the pipe.
kept = os.dup(int(CONFIG.split("c2p_fd:")[1].split(",")[0]))
control = init()
names = segment_list()
process(control, next(names))
control.close()
control.close()
SEEN["instance"] = repr(sprint_entry.PythonControl.instance)
SEEN["check"] = attempt(control.check_control_loop_running)
SEEN["next"] = attempt(control.handle_next)
SEEN["names"] = list(names)
SEEN["process"] = attempt(lambda: process(control, "c/s1"))
SEEN["init"] = attempt(init)
save_seen()
