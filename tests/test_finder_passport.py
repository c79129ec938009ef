"""The finder's passport: there and back, and refused where it is something else."""

import json

import pytest

from hrpose.errors import UserError
from hrpose.finder_passport import FinderPassport
from hrpose.passport import Passport

PASSPORT = FinderPassport(
    "w16-small", 256, threshold=0.3, name="finder", licence="research", scores={"AP": 0.5}
)


def test_there_and_back() -> None:
    assert FinderPassport.from_json(PASSPORT.to_json()) == PASSPORT
    assert json.loads(PASSPORT.to_json())["kind"] == "finder"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        Passport("w16-small", (96, 128)).to_json(),
        "[" * 9999,
        PASSPORT.to_json().replace('"kind": "finder"', '"kind": "pose"'),
        PASSPORT.to_json().replace('"threshold": 0.3', '"threshold": NaN'),
        PASSPORT.to_json().replace("256", "250"),
        PASSPORT.to_json().replace("256", "1e999"),
        PASSPORT.to_json().replace("256", "32000000"),
        PASSPORT.to_json().replace('"version": 1', '"version": 2'),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"x\.onnx: expected a finder's passport") as error:
        FinderPassport.from_json(text, "x.onnx")
    assert "\n" not in str(error.value)
