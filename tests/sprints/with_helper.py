"""A Sprint that starts a helper, computes one segment and exits with code 3. The helper inherits its output.

Settings: `helper`, a file for the pid; `session`, "new" for a helper in a session of its own; `loud`, "yes"
for a helper that writes without pause.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prelude import init, process, segment_list, setting

LOUD = "import os\nwhile True: os.write(1, b'the helper writes\\n' * 100)"
QUIET = "import time; time.sleep(600)"

helper = subprocess.Popen(
    [sys.executable, "-c", LOUD if setting("loud") == "yes" else QUIET],
    start_new_session=setting("session") == "new",
    close_fds=False,  # it also inherits the pipes of the bridge
)
Path(setting("helper")).write_text(str(helper.pid))
control = init()
process(control, next(iter(segment_list())))
os._exit(3)
