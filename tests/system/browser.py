"""A headless Chromium, driven by W3C WebDriver commands to Debian's chromedriver: JSON over HTTP, so no package."""

import base64
import json
import re
import subprocess
import time
import urllib.error
import urllib.request

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             # a desktop: a mouse that can hover
             "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, section 12
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Up": "\ue013", "Shift": "\ue008", "Control": "\ue009", "Tab": "\ue004"}


class Browser:
    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self.driver.stdout:
            if started := re.search(r"started successfully on port (\d+)", line):
                break
        self.url = f"http://127.0.0.1:{started[1]}/session"
        options = {"goog:chromeOptions": {"args": ARGUMENTS}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.command("", {"capabilities": {"alwaysMatch": options}})
        self.url += "/" + session["sessionId"]

    def close(self):
        self.command("", method="DELETE")
        self.driver.terminate()
        self.driver.wait(10)

    def command(self, path, body=None, method=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as e:
            raise AssertionError(json.load(e)["value"]["message"]) from None

    def devtools(self, name, **parameters):
        return self.command("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def go(self, url):
        self.command("/url", {"url": url})

    def reload(self):
        self.command("/refresh", {})

    def js(self, script, *arguments):
        """The value of an expression, which may be a promise."""
        return self.command("/execute/sync", {"script": f"return ({script})", "args": list(arguments)})

    def find(self, selector):
        return self.command("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        try:
            self.command(f"/element/{self.find(selector)}/click", {})
        except AssertionError as e:  # the page has just drawn it anew
            if "stale element" not in str(e):
                raise
            self.command(f"/element/{self.find(selector)}/click", {})

    def type(self, selector, text):
        self.command(f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *names):
        """Keys held together, where the focus is."""
        keys = [KEYS.get(name, name) for name in names]
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.command("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def wait(self, script, *arguments, seconds=30):
        """Until the expression is true; returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.js(script, *arguments)):
            assert time.monotonic() < end, f"after {seconds} s still not: {script}"
            time.sleep(0.02)
        return value

    def resize(self, width, height):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def prefer(self, scheme):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def faults(self):
        """What the console has said since the last call: errors of scripts, violations of the policy."""
        log = self.command("/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.command("/screenshot")))
