"""Microsoft's proxy of the Functions host (Kestrel and YARP), to test with in place of the imitation.

The program is `yarp-front`: `YARP_FRONT=PATH`, or `../shared/tools/yarp-front/yarp-front` beside the
repository. Tests that need it are skipped where there is none. Ways to use it:

- `proxied_stack`: a whole stack behind it, shared by the session. `proxied_stack.url` is the proxy's.
- An existing suite: in a module of its own, import its tests and override `stack`:

      @pytest.fixture(scope="module")
      def stack(proxied_stack: RunningStack) -> RunningStack:
          return proxied_stack

- A stack with settings of its own: `run_stack(state, "--behind", str(yarp_front), settings=...)`.
- Without a stack: `python -m local.functions --app DIR --port 0 --behind PATH`, or, in this process,
  `local.functions.real_proxy.RealProxy`, which takes further flags of the program.
"""

import os
from pathlib import Path

import pytest

from tests.support.running import REPOSITORY

BESIDE = REPOSITORY.parent / "shared" / "tools" / "yarp-front" / "yarp-front"


def find_proxy() -> Path:
    """The program; skips the test that asks where it is missing."""
    path = Path(os.environ.get("YARP_FRONT") or BESIDE)
    if not os.access(path, os.X_OK) or path.is_dir():
        pytest.skip(f"no program at {path}: YARP_FRONT names Microsoft's proxy")
    return path
