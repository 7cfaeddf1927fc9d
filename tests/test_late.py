"""Modules that a package imports when something of them is first used."""

import importlib
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from mixedfx._late import LateMapping, LateModule
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.families import FAMILIES

INIT = "from mixedfx._late import late\n__getattr__ = late(__name__, twice='module')\n"
# A module that takes a while: threads that come meanwhile must not see a half of it.
MODULE = "import time\nbegun = True\ntime.sleep(0.02)\ndef twice(x): return 2 * x\n"
USER = "from {0} import module\ndef four(): return module.twice(2)\n"


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    name = f"late_{request.node.name}"
    (tmp_path / name).mkdir()
    for file, text in {"__init__": INIT, "module": MODULE, "user": USER.format(name)}.items():
        (tmp_path / name / f"{file}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[loaded]


def test_a_module_is_imported_when_something_of_it_is_used(package):
    user = importlib.import_module(f"{package}.user")
    assert f"{package}.module" not in sys.modules
    assert user.four() == 4
    assert f"{package}.module" in sys.modules


def test_what_stands_for_a_module_has_its_attributes_as_they_are_now(package, monkeypatch):
    user = importlib.import_module(f"{package}.user")
    assert "twice" in dir(user.module)
    module = importlib.import_module(f"{package}.module")
    monkeypatch.setattr(module, "twice", lambda x: -x)
    assert user.four() == -2
    with pytest.raises(AttributeError, match="has no attribute 'thrice'"):
        _ = user.module.thrice


def test_what_is_set_on_a_stand_in_is_set_on_the_module(package, monkeypatch):
    user = importlib.import_module(f"{package}.user")
    with monkeypatch.context() as patch:
        patch.setattr(user.module, "twice", lambda x: 7 * x)
        patch.setattr(user.module, "more", 1, raising=False)
        assert importlib.import_module(f"{package}.module").twice(2) == user.four() == 14
    assert user.four() == 4
    assert not hasattr(user.module, "more")


def test_a_module_that_is_imported_already_is_given_itself(package):
    module = importlib.import_module(f"{package}.module")
    assert not isinstance(module, LateModule)
    assert importlib.import_module(f"{package}.user").module is module


def test_a_name_is_imported_from_its_module_when_it_is_used(package):
    made = importlib.import_module(package)
    assert f"{package}.module" not in sys.modules
    assert made.twice(3) == 6
    assert vars(made)["twice"] is made.twice  # not looked up again


def test_what_is_no_module_is_no_attribute(package):
    made = importlib.import_module(package)
    assert isinstance(made, types.ModuleType)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = made.nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {package} import nothing")


def test_threads_that_come_first_together_get_the_whole_module(package):
    user = importlib.import_module(f"{package}.user")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: user.four(), range(8))) == [4] * 8


def test_a_value_of_a_mapping_is_imported_when_it_is_looked_up(package):
    functions = LateMapping(package, {"double": "module.twice"}, make=lambda f: (f(1), f(3)))
    assert "double" in functions
    assert "triple" not in functions
    assert list(functions) == ["double"]
    assert len(functions) == 1
    assert f"{package}.module" not in sys.modules
    assert functions.get("triple") is None
    assert functions["double"] == (2, 6)
    assert functions["double"] is functions["double"]
    assert repr(functions) == "{'double': (2, 6)}"


def test_a_value_that_is_set_takes_the_place_of_one_that_is_not_imported(package):
    functions = LateMapping(package, {"double": "module.twice", "treble": "module.thrice"})
    functions["double"] = 4
    del functions["treble"]
    assert dict(functions) == {"double": 4}
    assert f"{package}.module" not in sys.modules
    with pytest.raises(KeyError, match="treble"):
        del functions["treble"]


def test_threads_that_look_up_together_get_one_value(package):
    made = LateMapping(package, {"double": "module.twice"}, make=lambda f: [f(1)])
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: made["double"], range(8)))
    assert all(value is values[0] for value in values)


@pytest.mark.parametrize("registry", [FAMILIES, STRUCTURES], ids=["families", "structures"])
def test_what_is_imported_by_a_name_has_it(registry):
    assert [value.name for value in registry.values()] == list(registry)


@pytest.mark.parametrize("package", ["covariance", "families", "priors", "residuals"])
def test_names_that_are_not_imported_yet_are_listed(package):
    public = importlib.import_module(f"mixedfx.{package}")
    assert dir(public) == sorted(public.__all__)
    assert all(hasattr(public, name) for name in public.__all__)
