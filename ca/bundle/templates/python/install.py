#!/usr/bin/env python3
"""Writes DIR/framegate-ca-bundle.pem: the system's list of authorities and the roots of
this bundle. Prints the variables that make programs take it. May be run again."""
import hashlib
import os
import re
import shlex
import ssl
import sys

ROOTS = [{{range $i, $r := .Roots}}{{if $i}}, {{end}}"{{$r.SHA256}}"{{end}}]
VARIABLES = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"]
LISTS = [
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # RHEL, Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS
]


def fingerprint(pem):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def certificates(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", f.read(), re.DOTALL)


def system():
    """The certificates that are trusted without us."""
    if hasattr(ssl, "enum_certificates"):  # Windows
        return [ssl.DER_cert_to_PEM_cert(c) for c, kind, _ in ssl.enum_certificates("ROOT") if kind == "x509_asn"]
    # Not what SSL_CERT_FILE says: that may be the file that is to be written.
    for path in LISTS + [ssl.get_default_verify_paths().openssl_cafile]:
        if os.path.exists(path):
            return certificates(path)
    try:
        import certifi
    except ImportError:
        sys.exit("install.py: no list of authorities found: install ca-certificates")
    return certificates(certifi.where())


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 install.py DIR")
    ours = certificates(os.path.join(os.path.dirname(os.path.abspath(__file__)), "framegate-roots.pem"))
    if [fingerprint(pem) for pem in ours] != ROOTS:
        sys.exit("install.py: framegate-roots.pem does not hold the certificates that belong here")
    theirs = [pem for pem in system() if fingerprint(pem) not in ROOTS]
    directory = os.path.abspath(sys.argv[1])
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, "framegate-ca-bundle.pem")
    with open(path + ".new", "w", encoding="ascii") as f:
        for pem in theirs + ours:
            f.write(pem.rstrip("\n") + "\n")
    os.replace(path + ".new", path)
    for name in VARIABLES:
        print(f'setx {name} "{path}"' if os.name == "nt" else f"export {name}={shlex.quote(path)}")


main()
