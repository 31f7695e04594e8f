"""Manifests that are refused, and what the message says."""

from __future__ import annotations

import json

import pytest

from glass_export.errors import ArtifactError
from glass_export.manifest import SCHEMA_VERSION, Manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "glass.json: not valid JSON"),
        ("[" * 100_000, "glass.json: more than 64 lists"),
        ("[]", "not a JSON object"),
        ("{}", "no schema_version"),
        ('{"schema_version": true}', "no schema_version"),
        ('{"schema_version": "1"}', "no schema_version"),
        (
            json.dumps({"schema_version": SCHEMA_VERSION + 1}),
            f"schema_version is {SCHEMA_VERSION + 1}, this program reads {SCHEMA_VERSION}; "
            "update glass-export",
        ),
        (json.dumps({"schema_version": SCHEMA_VERSION - 1}), "export the model again"),
        (json.dumps({"schema_version": SCHEMA_VERSION}), "glass.json: model: missing"),
        (
            json.dumps({"schema_version": SCHEMA_VERSION, "modle": {}}),
            "glass.json: unknown key 'modle'; did you mean 'model'?",
        ),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(text)
    assert message in str(caught.value)
