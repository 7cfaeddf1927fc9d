"""The documentation site: pages of MyST markdown, docstrings, and the notebooks as executed.

Build it from the root of the project, warnings being errors::

    python -m sphinx -W --keep-going -b html docs docs/_build/html

Nothing is downloaded and no notebook is run. Notebooks are copied to ``docs/notebooks`` (not
under version control), since Sphinx reads one folder only. A public name that no page
documents is a warning, so the reference cannot fall behind the package.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import mixedfx
from mixedfx import covariance, datasets, errors, families, priors, residuals
from mixedfx.results.plot_accessor import PlotAccessor
from mixedfx.results.results import Results

project = "mixedfx"
author = "the mixedfx developers"
project_copyright = author
version = release = mixedfx.__version__

# The last one serves MathJax from the site itself: pages read offline show their mathematics.
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "mixedfx"
html_copy_source = False

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True

add_module_names = False
autodoc_typehints = "none"  # the docstrings say types, in words
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

_HERE = Path(__file__).parent
_PAGES = _HERE / "notebooks"


def _copy_notebooks() -> None:
    """Bring the notebooks in, and take away those that are gone."""
    _PAGES.mkdir(exist_ok=True)
    found = {path.name: path for path in (_HERE.parent / "notebooks").glob("*.ipynb")}
    for old in _PAGES.glob("*.ipynb"):
        if old.name not in found:
            old.unlink()
    for name, path in found.items():
        shutil.copy2(path, _PAGES / name)


def _public_names() -> set[str]:
    """Every name that a page must document."""
    modules = (covariance, datasets, errors, families, priors, residuals)
    names = {f"mixedfx.{name}" for name in mixedfx.__all__} - {m.__name__ for m in modules}
    for module in (covariance, datasets, families, priors, residuals):
        names |= {f"{module.__name__}.{name}" for name in module.__all__}
    names |= {
        f"mixedfx.errors.{name}"
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    for where, class_ in (
        ("mixedfx.Results", Results),
        ("mixedfx.results.plot_accessor.PlotAccessor", PlotAccessor),
    ):
        fields = class_.__dataclass_fields__
        public = {name for name in dir(class_) if not name.startswith("_")}
        names |= {f"{where}.{name}" for name in public - set(fields)}
    return names


def _check_reference(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names without documentation."""
    documented = set(env.domaindata["py"]["objects"])
    for name in sorted(_public_names() - documented):
        logging.getLogger(__name__).warning("no page documents %s", name)


def setup(app: Sphinx) -> None:
    """Prepare the pages, and check them."""
    _copy_notebooks()
    app.connect("env-check-consistency", _check_reference)
