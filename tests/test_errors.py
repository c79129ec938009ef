"""Errors of users: their codes, and packages that are not installed."""

import pickle

import pytest

from hrpose.errors import UserError, missing


def test_a_code_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UserError("a.jpg: no such file", code="file-unreadable")))
    assert isinstance(error, UserError)
    assert (str(error), error.code) == ("a.jpg: no such file", "file-unreadable")


@pytest.mark.parametrize(
    ("name", "install", "package"),
    [("av", "hrpose[video]", "av"), ("hrposes", "a", "hrposes"), (None, "gcsfs", "gcsfs")],
)
def test_a_missing_package_is_named_with_the_remedy(
    name: str | None, install: str, package: str
) -> None:
    assert str(missing("this", ModuleNotFoundError(name=name), install)) == (
        f"this needs the package '{package}', which is not installed; pip install '{install}'"
    )


@pytest.mark.parametrize("name", ["hrpose", "hrpose.video", None])
def test_a_module_of_our_own_is_no_mistake_of_the_users(name: str | None) -> None:
    error = ModuleNotFoundError(name=name)
    with pytest.raises(ModuleNotFoundError) as caught:
        missing("this", error, "hrpose[video]")
    assert caught.value is error
