"""Checks the manifests beside this file against the published schemas.

    validate.py SCHEMAS

SCHEMAS is a folder with KServe's `config/crd/full` (the custom resources) and, for Kubernetes' own, `swagger.json` of
`api/openapi-spec`. Needs `pip install pyyaml jsonschema`.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

SCHEMAS = pathlib.Path(sys.argv[1])


def strict(schema):
    """What a schema does not name is refused, as the API server's strict validation does."""
    if isinstance(schema, dict):
        if schema.get("properties") and not schema.get("additionalProperties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
        if schema.pop("x-kubernetes-int-or-string", False):
            # Kubernetes' own notion, which `type` contradicts.
            schema.pop("type", None)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)
    return schema


def custom():
    found = {}
    for path in SCHEMAS.rglob("*.yaml"):
        for resource in yaml.safe_load_all(path.read_text()):
            if isinstance(resource, dict) and resource.get("kind") == "CustomResourceDefinition":
                spec = resource["spec"]
                for version in spec["versions"]:
                    schema = version["schema"]["openAPIV3Schema"]
                    schema["properties"]["metadata"] = {"type": "object"}
                    found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = strict(schema)
    return found


def own():
    found = {}
    for path in SCHEMAS.rglob("swagger.json"):
        definitions = json.loads(path.read_text())["definitions"]
        for name in ["io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity"]:
            # A number or a text; the document says `string` with a format.
            definitions[name] = {"type": ["string", "integer", "number"]}
        for name, schema in definitions.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                version = f"{kind['group']}/{kind['version']}".lstrip("/")
                found[version, kind["kind"]] = {"$ref": f"#/definitions/{name}", "definitions": strict(definitions)}
    return found


def main():
    schemas = {**own(), **custom()}
    checked = 0
    for path in sorted(pathlib.Path(__file__).parent.glob("*.yaml")):
        for resource in yaml.safe_load_all(path.read_text()):
            kind = resource["apiVersion"], resource["kind"]
            if kind not in schemas:
                raise SystemExit(f"{path.name}: no schema of {kind}")
            jsonschema.validate(resource, schemas[kind])
            print(f"{path.name}: {' '.join(kind)} {resource['metadata']['name']}: valid")
            checked += 1
    print(f"{checked} resources")


if __name__ == "__main__":
    main()
