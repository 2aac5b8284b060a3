#!/usr/bin/env python3
"""Deletes what install.py wrote into DIR, and prints what unsets the variables."""
import os
import sys

VARIABLES = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 uninstall.py DIR")
    try:
        os.remove(os.path.join(sys.argv[1], "framegate-ca-bundle.pem"))
    except FileNotFoundError:
        pass
    for name in VARIABLES:
        print(f'setx {name} ""' if os.name == "nt" else f"unset {name}")


main()
