"""Judges /openapi.json, and loads what /docs refers to. Usage: openapi.py URL"""

import json
import re
import sys
import urllib.parse
import urllib.request

from openapi_spec_validator import validate

url = sys.argv[1]


def read(path):
    return urllib.request.urlopen(urllib.parse.urljoin(url, path), timeout=30).read().decode()


document = json.loads(read("/openapi.json"))
validate(document)
assert "/v1/chat/completions" in document["paths"], document["paths"].keys()

page = read("/docs/")
references = re.findall(r'(?:src|href)="([^"]+)"', page)
assert any(reference.endswith(".js") for reference in references), page
for reference in references:
    target = urllib.parse.urljoin(url + "/docs/", reference)
    assert target.startswith(url), f"{reference} leads elsewhere"
    urllib.request.urlopen(target, timeout=30).read()
