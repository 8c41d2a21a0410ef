"""PDE solvers, classical and learned, behind one interface, and every answer with a bound that can be checked.

The names on top are those that most programs need. The rest is in chapters: `sb.barron`, `sb.bounds`, `sb.control`,
`sb.data`, `sb.fem`, `sb.krylov`, `sb.multigrid`, `sb.network_solvers`, `sb.operators`, `sb.optimize`, `sb.results`,
`sb.scipy_api`, `sb.simulation`, `sb.sketching`, `sb.training` and `sb.variational`. A module is loaded when one of its
names is first used; `__init__.pyi` lists all names.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __dir__() -> list[str]:
    return sorted(__all__)
