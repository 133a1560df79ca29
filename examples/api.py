"""docs/api.md, from the docstrings of the public names.

python examples/api.py [-o docs/api.md]
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optistyle
from optistyle import recipes
from optistyle.files import write_whole
from optistyle.settings import Setting, spell

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# The Python library

Every name below is imported from `optistyle`, which loads torch when a name is first
used. This page is made from the docstrings by `make api`; `make test` runs its examples.
"""
#: Classes that users receive and do not make.
RECEIVED = ("Result", "Step")
#: A section of a docstring in Google's style, and its name on the page where that differs.
SECTION = re.compile(r"(Args|Attributes|Returns|Raises):\n")
SKIP = re.compile(r"\s+# doctest: .*")
TITLES = {"Args": "Arguments"}


def page() -> str:
    """The whole page."""
    names = [name for name in optistyle.__all__ if name != "__version__"]
    index = ", ".join(f"[{name}](#{name.lower()})" for name in names)
    return "\n".join([HEAD, f"{index}, `__version__`\n", *map(section, names)])


def section(name: str) -> str:
    """One public name: its signature, its docstring, and its public methods and properties."""
    thing = getattr(optistyle, name)
    lines = [f"## {name}\n"]
    if call := signature(name, thing):
        lines += ["```python", call, "```\n"]
    lines.append(rendered(inspect.getdoc(thing) or ""))
    if thing is recipes.Recipe:
        lines.append(settings())
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        lines += [member(name, *pair) for pair in members(thing)]
    return "\n".join(lines)


def signature(name: str, thing: Any) -> str:
    """A call of a function or a class, without types, which the docstring describes."""
    described = re.search(r"^(Args|Attributes):$", inspect.getdoc(thing) or "", re.MULTILINE)
    if name in RECEIVED or not (described or inspect.isfunction(thing)):
        return ""
    found = inspect.signature(thing)
    bare = [
        one.replace(annotation=one.empty, default=shown(one.default))
        for one in found.parameters.values()
    ]
    if bare and bare[0].name in ("self", "cls"):
        del bare[0]
    call = name + str(found.replace(parameters=bare, return_annotation=found.empty))
    return textwrap.fill(call, 96, subsequent_indent=" " * (len(name) + 1))


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The documented public methods and properties that a class defines, in its order."""
    for name, thing in vars(kind).items():
        thing = getattr(thing, "__func__", thing)  # of a class method
        if (
            not name.startswith("_")
            and inspect.getdoc(thing)
            and (isinstance(thing, property) or inspect.isfunction(thing))
        ):
            yield name, thing


def member(owner: str, name: str, thing: Any) -> str:
    """A method or a property."""
    call = name if isinstance(thing, property) else signature(name, thing)
    return f"### {owner}.{' '.join(call.split())}\n\n{rendered(inspect.getdoc(thing) or '')}"


def rendered(docstring: str) -> str:
    """A docstring in Google's style as Markdown."""
    return "\n\n".join(block(text) for text in docstring.strip().split("\n\n")) + "\n"


def block(text: str) -> str:
    """One paragraph, list, formula, example or section of a docstring."""
    if text.startswith(">>>"):
        return f"```pycon\n{SKIP.sub('', text)}\n```"
    if not (title := SECTION.match(text)):
        return text
    entries = re.split(r"\n(?! )", textwrap.dedent(text[title.end() :]))
    lines = [" ".join(entry.split()) for entry in entries]
    if title[1] == "Returns":
        return f"**Returns:** {' '.join(lines)}"
    return f"**{TITLES.get(title[1], title[1])}:**\n\n" + "\n".join(
        re.sub(r"^([\w, ]+):", r"- `\1`:", line) for line in lines
    )


class Shown(str):
    """A default value that has no short form of its own."""

    __repr__ = str.__str__


def shown(default: Any) -> Any:
    """A default value as a signature shows it."""
    if repr(default) == "<factory>":
        return Shown("...")
    return Shown(f"{type(default).__name__}()") if " object at " in repr(default) else default


def default(setting: Setting, value: Any) -> str:
    """A setting's default as the command line takes it."""
    if value is None:
        return str(getattr(setting.kind, "word", ""))
    return spell(value) or str(getattr(setting.kind, "empty", ""))


def settings() -> str:
    """The table of a recipe's settings."""
    usual = recipes.Recipe()
    rows = [
        f"| `{name}` | {default(setting, getattr(usual, name))} | {setting.help} |"
        for name, setting in recipes.settings().items()
    ]
    return "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    write_whole(parser.parse_args().output.resolve(), page().encode())
