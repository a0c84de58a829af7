"""Servers that stand in for Azure Blob and Google Cloud Storage, from `tools/setup --clouds`: Azurite and fake-gcs-server; and what is really in them."""
import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import socket
import subprocess
import urllib.parse

import pytest

import conftest
import s3


def folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = pathlib.Path(cache) / "sluice" / "clouds"
    if not (path / "stamp").exists():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no Azurite and no fake-gcs-server in %s: tools/setup --clouds puts them there" % path)
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Cloud:
    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen(self.command(folder()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        s3.wait_for(self)
        self.make_bucket()

    def close(self):
        self.process.terminate()
        self.process.wait(conftest.HTTP_S)

    def request(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=conftest.HTTP_S)
        c.request(method, path, body, headers or {})
        answer = c.getresponse()
        data = answer.read()
        c.close()
        assert answer.status in (200, 201), (answer.status, data)
        return data

    def address(self, prefix):
        return "%s://logs/%s" % (self.scheme, prefix)


class Gcs(Cloud):
    scheme, secret = "gs", None

    def command(self, where):
        return [where / "fake-gcs-server", "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-backend", "memory",
                "-public-host", "127.0.0.1"]

    def make_bucket(self):
        self.request("POST", "/storage/v1/b?project=test", b'{"name": "logs"}', {"Content-Type": "application/json"})

    def env(self, port):
        return {"STORAGE_EMULATOR_HOST": "127.0.0.1:%d" % port}

    def is_create(self, method, path, headers):
        return method == "POST" and "uploadType=multipart" in path and int(headers["Content-Length"]) < 4096

    def objects(self, prefix=""):
        found, token = {}, ""
        while True:
            page = json.loads(self.request("GET", "/storage/v1/b/logs/o?prefix=%s&pageToken=%s" % (urllib.parse.quote(prefix), token)))
            found.update({o["name"][len(prefix):]: int(o["size"]) for o in page.get("items", [])})
            token = page.get("nextPageToken")
            if not token:
                return found


KINDS = {"gcs": Gcs}
