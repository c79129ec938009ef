"""The OpenAPI document, and requests made from it by schemathesis, also wrong ones.

Every answer must have a status, a content type and a body of the document, and no request that
violates the document may succeed.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Process, Server

# An image of random bytes is a valid form, and boxes of random characters are a valid text.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = [200, 400, 422]
"""


@pytest.mark.slow
def test_a_real_server_keeps_to_its_document(start: Callable[..., Process], tmp_path: Path) -> None:
    server = start("--token", "secret")
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
    command += ["run", f"{server.url}/openapi.json", "--checks", "all", "--max-examples", "8"]
    command += ["--header", "Authorization: Bearer secret"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    server.stop()
    assert server.process.stdout is not None
    assert "Traceback" not in server.process.stdout.read()


def test_options_are_texts_and_never_null(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json()
    poses = document["paths"]["/v1/poses"]["post"]
    form = poses["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    for schema in [*form.values(), *(parameter["schema"] for parameter in poses["parameters"])]:
        assert isinstance(schema["type"], str)
        assert schema.get("default", ...) is not None
