"""What ``python -m stratum run`` puts in front of a script: loads the hook, then gets out of the way.

The runner starts the script with a plain ``python script.py`` whose ``PYTHONPATH`` begins with this
directory. So the interpreter imports this module as it starts, before the script's first line, and the
script's frames, its ``__main__`` and ``sys.path[0]`` are the interpreter's own work. The environment and the
path are put back as they were, and the ``sitecustomize`` that would have been found is imported.
"""

import importlib
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))

import _stratum_hook  # noqa: E402

sys.path[:] = [entry for entry in sys.path if entry != _here]
sys.path_importer_cache.pop(_here, None)
_stratum_hook.start_from_runner()

_mine = sys.modules.pop(__name__)
try:
    importlib.import_module(__name__)
except ModuleNotFoundError as error:
    if error.name != __name__:
        raise
    # The import system looks for this module under its name once more, then nobody has to find it.
    sys.modules[__name__] = _mine
    _stratum_hook.forget_later(__name__)
