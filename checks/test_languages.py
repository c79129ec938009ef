"""The Chinese pages match the English ones."""

import pytest

from tools import languages

ENGLISH = "# A\n\nText [b](b.md).\n\n```bash\nhrpose verify  # is it equal?\n```\n\n| a |\n|---|\n"
CHINESE = "# 甲\n\n文 [乙](b.md)。\n\n```bash\nhrpose verify  # 相等吗\n```\n\n| 甲 |\n|---|\n"
NAMES = ("a.md", "a.zh.md")


def marked(chinese: str, english: str = ENGLISH) -> str:
    return f"{chinese}\n<!-- for the English text {languages.fingerprint(english)} -->\n"


def test_chinese_pages_match() -> None:
    assert languages.all_faults() == []


def test_same_in_both_languages_is_no_fault() -> None:
    assert languages.faults(ENGLISH, marked(CHINESE), NAMES) == []
    rewrapped = ENGLISH.replace("Text [b]", "Text\n[b]")
    assert languages.faults(rewrapped, marked(CHINESE), NAMES) == []


@pytest.mark.parametrize(
    ("english", "chinese", "said"),
    [
        (ENGLISH.replace("Text", "Another text"), marked(CHINESE), "--reviewed"),
        (ENGLISH, CHINESE, "--reviewed"),
        (ENGLISH, marked(CHINESE.replace("# 甲", "## 甲")), "headings"),
        (ENGLISH, marked(CHINESE.replace("verify", "serve")), "code"),
        (ENGLISH, marked(CHINESE.replace("b.md", "c.md")), "links"),
        (ENGLISH, marked(CHINESE + "| 乙 |\n"), "rows"),
    ],
)
def test_what_differs_is_said(english: str, chinese: str, said: str) -> None:
    (fault,) = languages.faults(english, chinese, NAMES)
    assert said in fault
    assert fault.startswith("a.zh.md: ")
