"""The public names: one list, imported late, each with an example; and the page made from them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import api
import pytest

import optistyle

NAMES = [name for name in optistyle.__all__ if name != "__version__"]


def test_dir_shows_the_public_names_alone() -> None:
    import optistyle.sizes  # a submodule becomes an attribute, but not a public name

    shown = {name for name in dir(optistyle) if not name.startswith("__")}
    assert shown == set(NAMES)
    assert "__version__" in dir(optistyle)
    assert optistyle.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="'optistyle' has no attribute 'stylise'"):
        optistyle.stylise  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(optistyle, name)) or ""
    assert ">>>" in text
    assert text[0].isupper()
    assert text.splitlines()[0].endswith(".")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, optistyle; dir(optistyle); "
        "print(*{'torch', 'numpy', 'PIL', 'click', 'importlib.metadata'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
    code = "import sys, optistyle; optistyle.presets['fine']; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_presets_by_name() -> None:
    assert optistyle.presets["default"] == optistyle.Recipe()
    assert "gaty" not in optistyle.presets
    with pytest.raises(optistyle.InputError, match="did you mean 'gatys'"):
        optistyle.presets["gaty"]


def test_the_page_is_current() -> None:
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "run: make api"


def test_a_docstring_becomes_markdown() -> None:
    text = """Do it.

Args:
    one: of two
        lines.
    two, three: both.

Returns:
    A number.

>>> 1
1
"""
    assert api.rendered(text) == (
        "Do it.\n\n**Arguments:**\n\n- `one`: of two lines.\n- `two, three`: both.\n\n"
        "**Returns:** A number.\n\n```pycon\n>>> 1\n1\n```\n"
    )


def test_signatures_are_short() -> None:
    assert api.signature("sheet", optistyle.sheet) == (
        "sheet(rows, labels=None, gap=8, row_labels=None)"
    )
    assert "ranks=Alone()" in api.signature("Run", optistyle.Run)
    assert api.signature("Recipe", optistyle.Recipe) == ""
