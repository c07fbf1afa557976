"""A gateway's HTTP routes, for what the tests observe and prepare."""

import json
import ssl
import urllib.error
import urllib.request


class Api:
    """Requests with the service's token; answers are parsed JSON."""

    def __init__(self, url, token, authority=None):
        self.url = url
        self.token = token
        self._tls = ssl.create_default_context(cafile=authority) if authority else None

    def request(self, method, path, body=None, headers=None, timeout=20):
        """(status, headers, body)."""
        request = urllib.request.Request(
            self.url + path, data=body, method=method, headers=headers or {}
        )
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=self._tls) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def get(self, path):
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def ready(self):
        try:
            return self.request("GET", "/readyz", timeout=2)[0] == 200
        except OSError:
            return False

    def hosts(self):
        return _items(self.get("/v1/hosts"), "hosts")

    def calls(self):
        return _items(self.get("/v1/calls"), "calls")

    def call(self, call_id):
        return self.get(f"/v1/calls/{call_id}")

    def events(self, call_id, upto, after=0):
        """The events of a call after and up to these numbers, or to its end; no progress."""
        request = urllib.request.Request(f"{self.url}/v1/calls/{call_id}/events?after={after}")
        request.add_header("Authorization", f"Bearer {self.token}")
        found = []
        with urllib.request.urlopen(request, timeout=20) as answer:
            for event in map(json.loads, answer):
                if event["type"] != "progress":
                    found.append(event)
                if event["seq"] >= upto:
                    break
        return found

    def metric(self, name):
        """The value of one line of `/metrics`, 0 where it is not there yet."""
        _, _, body = self.request("GET", "/metrics")
        lines = (line.rpartition(" ") for line in body.decode().splitlines())
        return sum(float(value) for found, _, value in lines if found == name)

    def create(self, **fields):
        """Creates a call from JSON in the background; its record."""
        body = json.dumps({"background": True, **fields}).encode()
        status, _, answer = self.request(
            "POST", "/v1/calls", body, {"Content-Type": "application/json"}
        )
        assert status == 201, (status, answer)
        return json.loads(answer)

    def cancel(self, call_id):
        status, _, body = self.request("DELETE", f"/v1/calls/{call_id}")
        assert status == 202, (status, body)
        return json.loads(body)


def _items(answer, name):
    return answer[name] if isinstance(answer, dict) else answer
