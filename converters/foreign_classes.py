"""Classes in a pickle that become inert stubs: those of objects stored next to the weights.

Nothing is imported for a stub; these rules only decide which files are refused as unsafe.
"""

import _compat_pickle
import re
import sys

# Classes of Python's library that training scripts save, by module.
_KNOWN = {
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "typing": ("Any",),
    "pathlib": ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "pathlib._local": ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "datetime": ("datetime", "timedelta", "date"),
}
# Pickles of protocols 0 to 2 name modules as Python 2 did: "commands" stands for subprocess.
_PYTHON_2 = {*_compat_pickle.IMPORT_MAPPING, *(name for name, _ in _compat_pickle.NAME_MAPPING)}
_NEVER = {*sys.stdlib_module_names, *_PYTHON_2, "torch", "numpy"} - {"__main__"}


def is_foreign_class(module: str, name: str) -> bool:
    """Whether a global is a class whose instances may be stored next to weights.

    Args:
        module: The module of the global.
        name: Its name.

    Returns:
        True for a few classes of Python, and for names of other packages that are spelled like
        classes; False for functions, and for other classes of Python, torch and NumPy.
    """
    if module in _KNOWN:
        return name in _KNOWN[module]
    return module.split(".")[0] not in _NEVER and bool(re.fullmatch(r"[A-Z]\w*", name))
