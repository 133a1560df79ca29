"""README and docs: links lead somewhere, and the README's Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import make_picture

import optistyle

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("optistyle/*/data/*.md")])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for name in ("photo.jpg", "painting.jpg"):
        optistyle.write(tmp_path / name, make_picture(40, 48))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    first = blocks[0].replace("size=512", "size=48, iterations=2, encoder='slim', device='cpu'")
    second = blocks[1].replace("step.count == 50", "step.count == 1")
    exec(first + second, names)
    assert optistyle.read("out.png").width == optistyle.read("retuned.png").width == 48
    assert names["run"].result().retunes[0]["beta"] == 3e6
    compile(blocks[2], "README", "exec")  # it downloads weights
