"""Gives programs durun's event loop that don't import durun: Python runs this file before a program, as it is on PYTHONPATH.

It imports durun once the program has imported asyncio, and so costs other programs next to nothing: it imports nothing itself.
"""

import sys


def _find(name, path=None):
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


class _Finder:
    """Finds asyncio, as the other finders do, and has it loaded by a _Loader."""

    def find_spec(self, name, path=None, target=None):
        if name != "asyncio":
            return None
        sys.meta_path.remove(self)
        spec = _find(name, path)
        if spec is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    """Loads asyncio by its own loader, and then durun."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        import durun  # noqa: F401


def _run_hidden():
    """Run the sitecustomize that Python would have found if there were not this one."""
    here = __file__.rpartition("/")[0]
    spec = _find(__name__, [entry for entry in sys.path if entry != here])
    if spec is not None:
        from importlib.util import module_from_spec

        sys.modules[__name__] = module = module_from_spec(spec)
        spec.loader.exec_module(module)


sys.meta_path.insert(0, _Finder())
_run_hidden()
