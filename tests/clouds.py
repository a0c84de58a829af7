"""Servers that stand in for Azure Blob and Google Cloud Storage, from `tools/setup --clouds`: Azurite and fake-gcs-server; and what is really in them."""
import base64
import email.utils
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.parse
import xml.etree.ElementTree

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

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
    def __init__(self, tls=None):
        self.port, self.tls = free_port(), tls
        self.process = subprocess.Popen(self.command(folder()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        s3.wait_for(self)
        self.make_bucket()

    def close(self):
        self.process.terminate()
        self.process.wait(conftest.HTTP_S)

    def request(self, method, path, body=None, headers=None):
        to = ("127.0.0.1", self.port)
        c = http.client.HTTPSConnection(*to, timeout=conftest.HTTP_S, context=self.tls[2]) if self.tls else http.client.HTTPConnection(
            *to, timeout=conftest.HTTP_S)
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
        tls = ["-cert-location", self.tls[0], "-private-key-location", self.tls[1]] if self.tls else []
        return [where / "fake-gcs-server", "-scheme", "https" if tls else "http", "-host", "127.0.0.1", "-port", str(self.port), "-backend", "memory",
                "-public-host", "127.0.0.1", *tls]

    def make_bucket(self):
        self.request("POST", "/storage/v1/b?project=test", b'{"name": "logs"}', {"Content-Type": "application/json"})

    def env(self, port):
        return {"STORAGE_EMULATOR_HOST": ("https://" if self.tls else "") + "127.0.0.1:%d" % port}

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


class Azure(Cloud):
    scheme = "az"
    account = "devstoreaccount1"  # every emulator has it
    secret = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def command(self, where):
        return ["node", where / "node_modules/azurite/dist/src/blob/main.js", "--skipApiVersionCheck", "--blobHost", "127.0.0.1",
                "--blobPort", str(self.port), "--inMemoryPersistence", "--disableTelemetry",
                *(["--cert", self.tls[0], "--key", self.tls[1]] if self.tls else [])]

    def make_bucket(self):
        self.signed("PUT", {"restype": "container"})

    def env(self, port):
        return {"SLUICE_AZURE_ACCOUNT": self.account, "SLUICE_AZURE_ACCESS_KEY": self.secret,
                "SLUICE_AZURE_ENDPOINT": "%s://127.0.0.1:%d/%s" % ("https" if self.tls else "http", port, self.account)}

    def is_create(self, method, path, headers):
        return method == "PUT" and "x-ms-meta-sluice_nonce" not in headers and "comp=" not in path

    def signature(self, method, path, query, headers, body_len):
        """Of Shared Key, written down anew from its description."""
        lines = [method, "", "", str(body_len or "")] + [headers.get(n, "") for n in (
            "content-md5", "content-type", "date", "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range")]
        lines += ["%s:%s" % (n, headers[n]) for n in sorted(headers) if n.startswith("x-ms-")]
        lines += ["/%s%s" % (self.account, path)] + ["%s:%s" % (n, query[n]) for n in sorted(query)]
        digest = hmac.new(base64.b64decode(self.secret), "\n".join(lines).encode(), hashlib.sha256).digest()
        return "SharedKey %s:%s" % (self.account, base64.b64encode(digest).decode())

    def resign(self, method, path, headers, body_len):
        path, _, query = path.partition("?")
        headers = {k.lower(): v for k, v in headers.items()}
        headers["authorization"] = self.signature(method, path, dict(urllib.parse.parse_qsl(query)), headers, body_len)
        return headers

    def signed(self, method, query):
        path = "/%s/logs" % self.account
        headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        headers["Authorization"] = self.signature(method, path, query, headers, 0)
        return self.request(method, path + "?" + urllib.parse.urlencode(query), headers=headers)

    def objects(self, prefix=""):
        found, marker = {}, ""
        while True:
            page = xml.etree.ElementTree.fromstring(
                self.signed("GET", {"comp": "list", "restype": "container", "prefix": prefix, "marker": marker}))
            found.update({b.findtext("Name")[len(prefix):]: int(b.findtext("Properties/Content-Length")) for b in page.iter("Blob")})
            marker = page.findtext("NextMarker")
            if not marker:
                return found


KINDS = {"azure": Azure, "gcs": Gcs}


class TokenService(http.server.ThreadingHTTPServer):
    """Hands out bearer tokens as Google and Entra do, checks what it is asked, and lets the 20th request with a token be refused once."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), TokenHandler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.given, self.used, self.refused, self.problems = 0, 0, 0, []
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def google_key(self):
        pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return {"type": "service_account", "client_email": "sluice@test.invalid", "private_key_id": "k1", "private_key": pem.decode(),
                "token_uri": self.url + "/token"}

    def expect(self, what, is_so):
        if not is_so:
            self.problems.append(what)

    def check_jwt(self, assertion):
        head, claims, signature = (base64.urlsafe_b64decode(p + "=" * (-len(p) % 4)) for p in assertion.split("."))
        self.key.public_key().verify(signature, assertion.rpartition(".")[0].encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(claims)
        self.expect("header", json.loads(head) == {"alg": "RS256", "typ": "JWT", "kid": "k1"})
        self.expect("claims", claims["iss"] == "sluice@test.invalid" and claims["aud"] == self.url + "/token" and "devstorage" in claims["scope"])
        self.expect("times", abs(claims["iat"] - time.time()) < 60 and claims["exp"] - claims["iat"] == 3600)

    def allow(self, headers):
        """Of a store: is this request's token the last one that was given?"""
        self.used += 1
        if self.used == 20:
            self.refused += 1
            return False
        return headers.get("Authorization") == "Bearer token-%d" % self.given


class TokenHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def give(self, lifetime):
        self.server.given += 1
        body = json.dumps({"access_token": "token-%d" % self.server.given, "expires_in": lifetime, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        try:
            if self.path == "/token":
                self.server.check_jwt(form["assertion"])
                self.server.expect("grant", form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer")
            else:
                self.server.expect("path", self.path == "/tenant-1/oauth2/v2.0/token")
                self.server.expect("form", form == {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": "s e&cret",
                                                    "scope": "https://storage.azure.com/.default"})
        except Exception as e:  # noqa: B902: told by the test
            self.server.problems.append(repr(e))
        self.give(3599)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.expect("identity", path == "/metadata/identity/oauth2/token" and self.headers["Metadata"] == "true" and dict(
            urllib.parse.parse_qsl(query)) == {"api-version": "2018-02-01", "resource": "https://storage.azure.com/", "client_id": "client-1"})
        self.give("86399")
