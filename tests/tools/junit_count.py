"""Prints "PASSED FAILED" of one JUnit XML file, as ctest and pytest write them; skipped tests count as neither."""
import sys
import xml.etree.ElementTree as tree

root = tree.parse(sys.argv[1]).getroot()
suite = root if root.tag == "testsuite" else root.find("testsuite")
n = {name: int(suite.get(name) or 0) for name in ("tests", "failures", "errors", "skipped", "disabled")}
failed = n["failures"] + n["errors"]
print(n["tests"] - failed - n["skipped"] - n["disabled"], failed)
