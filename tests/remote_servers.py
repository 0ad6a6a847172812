"""Servers on loopback that stand for the web, Amazon's S3 and Google's storage."""

import contextlib
import datetime
import http.client
import http.server
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path


class _FileHandler(http.server.BaseHTTPRequestHandler):
    """Files of `server.folder`; what `server` is told in its attributes says how."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        name = self.path.lstrip("/").partition("?")[0]
        if self.server.failing:
            status = self.server.failing.pop(0)
            self.server.requests.append((self.command, name, status, 0))
            if status == "hang":
                self.server.released.wait(60)
                return
            self.send_error(status)
            return
        file = self.server.folder / name
        if not file.is_file():
            self.send_error(404)
            return
        content, status, headers = file.read_bytes(), 200, {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and self.server.with_ranges:
            start, end = int(wanted[1]), int(wanted[2]) + 1
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            content, status = content[start:end], 206
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.server.requests.append((self.command, name, status, len(content)))
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def web_server(folder):
    """A web server of a folder.

    Yields:
        The server, with the attributes `url`; `with_ranges`, bool; `failing`, a list of statuses
        ("hang" among them) that the next requests are answered with; `requests`, a list of
        (method, name, status, bytes) of those that got any content.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _FileHandler)
    server.daemon_threads = True
    server.folder, server.with_ranges = Path(folder), True
    server.failing, server.requests, server.released = [], [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    with _serving(server):
        yield server
        server.released.set()


@contextlib.contextmanager
def s3_server(bucket):
    """moto's S3 with an empty bucket.

    Yields:
        dict of environment variables by which clients find it.
    """
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, port):
        url = f"http://127.0.0.1:{port}"
        _send("PUT", f"{url}/{bucket}")
        yield {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
            # Those of TensorFlow's client.
            "S3_ENDPOINT": url,
            "S3_USE_HTTPS": "0",
            "S3_VERIFY_SSL": "0",
        }


@contextlib.contextmanager
def gcs_server(bucket, folder):
    """gcp-storage-emulator with an empty bucket.

    TensorFlow speaks to the hosts of googleapis.com by TLS alone: a proxy, to which it is sent,
    ends that with a certificate made here.

    Args:
        folder: for the certificates.

    Yields:
        dict of environment variables by which clients find it.
    """
    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--quiet", "--in-memory"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--default-bucket", bucket]
    with _process(command, port), _tls_ending_proxy(port, folder) as (proxy, authority):
        yield {
            "https_proxy": proxy,
            "no_proxy": "",
            "CURL_CA_BUNDLE": authority,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "made-up",
            "NO_GCE_CHECK": "true",
            # For gcsfs, which needs no such ways.
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        }


@contextlib.contextmanager
def _serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def _process(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[2]} did not start")
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _send(method, url):
    # Not by a proxy of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, method=method)).close()


class _ProxyHandler(http.server.BaseHTTPRequestHandler):
    """Ends TLS and passes each request on to `server.port`, its body in one piece.

    TensorFlow sends bodies in chunks, which the emulator takes for their content.
    """

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def _pass_on(self):
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("transfer-encoding", "content-length", "expect")
        }
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        emulator = http.client.HTTPConnection("127.0.0.1", self.server.port)
        body = self._body()
        if not body and "uploadType=media" in self.path:
            body = b"\n"  # The emulator fails on the empty objects that stand for folders.
        emulator.request(self.command, self.path, body, headers)
        answer = emulator.getresponse()
        content = answer.read()
        emulator.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value.replace("http://", "https://", 1))
        self.send_header("Content-Length", len(content))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on

    def _body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def _tls_ending_proxy(port, folder):
    """Yields (URL of the proxy to a port, file of the authority that clients must trust)."""
    authority, chain = _certificates(Path(folder))
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _ProxyHandler)
    server.daemon_threads, server.port = True, port
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(chain)
    with _serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", str(authority)


def _certificates(folder):
    """(file of an authority, file of a certificate of googleapis.com by it, with its key)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        for name in ("a test's authority", "googleapis.com")
    ]
    hosts = ["googleapis.com", "*.googleapis.com"]
    extensions = [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]),
    ]
    files = []
    for number, file in enumerate(("authority.pem", "server.pem")):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[number])
            .issuer_name(names[0])
            .public_key(keys[number].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extensions[number], critical=False)
            .sign(keys[0], hashes.SHA256())
        )
        content = certificate.public_bytes(serialization.Encoding.PEM)
        if number:
            content += keys[number].private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        files.append(folder / file)
        files[-1].write_bytes(content)
    return files
