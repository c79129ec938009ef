"""One glossary for the documentation and the page of the server: docs/reference/glossary.md."""

import re
from pathlib import Path

import pytest

from .pages import ROOT, name

GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
WORDS = ROOT / "src" / "hrpose" / "serve" / "page" / "words.js"
CHINESE = [
    ROOT / "README.zh-CN.md",
    *sorted((ROOT / "docs" / "zh").rglob("*.md")),
    *(
        file
        for file in sorted((ROOT / "src" / "hrpose").rglob("*"))
        if file.suffix in {".py", ".js", ".html", ".json"}
        and re.search("[\u4e00-\u9fff]", file.read_text("utf-8"))
    ),
]


# Other words for the same, which are not used: one word stands for one thing.
OTHERS = {
    "图片": "相片",
    "视频": "影片 录像",
    "姿态": "姿势",
    "关键点": "关节点 特征点",
    "人体框": "边界框 包围框",
    "人体检测器": "行人检测",
    "裁剪": "剪裁",
    "热图": "热力图 热度图",
    "翻转测试": "镜像测试",
    "权重": "权值",
    "数据集": "数据库",
}


def terms() -> dict[str, str]:
    """English words, some of which have synonyms, and the Chinese one."""
    rows = re.findall(r"(?m)^\| ([^|]+) \| ([^|]+) \|", GLOSSARY.read_text("utf-8"))[1:]
    return {
        english.partition(" (")[0]: chinese
        for names, chinese in rows
        for english in names.split(", ")
    }


def texts() -> dict[str, dict[str, str]]:
    """The texts of the page by language and key."""
    return {
        language: dict(re.findall(r"(?m)^    \"?([\w-]+)\"?: \"(.*)\",$", part))
        for language, part in re.findall(
            r"(?ms)^  (en|zh): \{\n(.*?)^  \},", WORDS.read_text("utf-8")
        )
        if "stage:" in part
    }


def test_the_page_uses_the_terms() -> None:
    english, chinese = texts()["en"], texts()["zh"]
    used = 0
    for word, translated in terms().items():
        pattern = re.compile(rf"\b{word}(e?s)?\b", re.IGNORECASE)
        for key in [key for key, text in english.items() if pattern.search(text)]:
            assert translated in chinese[key], f"words.js: {key}: {word}: expected {translated}"
            used += 1
    assert used > 50


@pytest.mark.parametrize("file", CHINESE, ids=name)
def test_no_other_word_is_used_for_a_term(file: Path) -> None:
    text = file.read_text("utf-8")
    found = {
        other: word for word, others in OTHERS.items() for other in others.split() if other in text
    }
    assert found == {}, f"{name(file)}: found: expected"


def test_the_glossary_has_the_words() -> None:
    assert set(OTHERS) <= set(terms().values())
