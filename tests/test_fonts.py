"""Captions: no character is drawn as an empty box."""

from __future__ import annotations

import pytest

from optistyle.pictures import fonts


def test_latin_captions_are_in_pillows_font() -> None:
    assert fonts.choose("photo-1 (2)") == ("photo-1 (2)", None)


def test_cyrillic_captions() -> None:
    pytest.importorskip("matplotlib")
    text, font = fonts.choose("Привет, caf\u00e9")
    assert text == "Привет, caf\u00e9"
    assert font is not None


def test_without_a_font_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_PACKAGES", ())
    assert fonts.choose("a\u65e5b \u0436") == ("a\\u65e5b \\u0436", None)


def test_bytes_of_a_name_that_is_not_utf_8() -> None:
    assert fonts.choose("caf\udce9.jpg") == ("caf\\udce9.jpg", None)


def test_characters_of_two_fonts_or_of_none() -> None:
    text, _ = fonts.choose("photo \U0001f642")
    assert text in ("photo \U0001f642", "photo \\U0001f642")


def test_chinese_japanese_korean() -> None:
    pytest.importorskip("noto_cjk_sans_jp_regular")
    text = "\u65e5\u672c \ud55c\uad6d \u4e2d\u6587 Привет.png"
    shown, font = fonts.choose(text)
    assert shown == text
    assert font is not None
